//! Zipf ranks at the price of one random number and one look into a table. This is Walker's alias method (A. J.
//! Walker, "An Efficient Method for Generating Discrete Random Variables with General Distributions", ACM TOMS 3(3),
//! 1977), in one pass (M. D. Vose, IEEE TSE 17(9), 1991).

use std::sync::Arc;

use rand::rand_core::Rng;
use rand_xoshiro::Xoshiro256PlusPlus;

/// Largest number of ranks with a table, which then takes 80 MB. All streams share it.
pub(super) const RANKS_MAX: u64 = 10_000_000;

/// A column: `keep` / 2^32 of it is the column's own rank, and the rest is `alias`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Column {
    keep: u32,
    alias: u32,
}

/// Ranks from 0 on, below a length. Rank *i* has a probability in proportion to (*i* + 1)^-exponent.
#[derive(Debug)]
pub(super) struct ZipfTable {
    columns: Vec<Column>,
}

impl ZipfTable {
    /// A table for at most [`RANKS_MAX`] ranks; `None` for more, and for none.
    pub(super) fn new(exponent: f64, ranks: u64) -> Option<Self> {
        if ranks == 0 || ranks > RANKS_MAX {
            return None;
        }
        let weight = |rank: u32| (f64::from(rank) + 1.0).powf(-exponent);
        let ranks = ranks as u32;
        let mean = (0..ranks).map(weight).sum::<f64>() / f64::from(ranks);
        let mut columns: Vec<Column> = (0..ranks).map(Column::whole).collect();
        // Weights descend, so those above the mean come first, and no lists of them are needed.
        let mut giver = 0;
        let mut rest = weight(giver) / mean;
        for rank in 1..ranks {
            let own = weight(rank) / mean;
            if own >= 1.0 {
                continue;
            }
            columns[rank as usize] = Column::shared(own, giver);
            rest -= 1.0 - own;
            // A giver below the mean takes from the next one. The last giver has no next one above the mean; it lacks
            // only rounding, and stays whole.
            while rest < 1.0 {
                let next = weight(giver + 1) / mean;
                if giver + 1 >= rank || next < 1.0 {
                    break;
                }
                columns[giver as usize] = Column::shared(rest, giver + 1);
                rest = next - (1.0 - rest);
                giver += 1;
            }
        }
        Some(Self { columns })
    }

    /// The rank for 64 random bits. The high part of their product with the length is the column. The low part, of
    /// which at least 40 bits are random, is the place in it.
    #[inline]
    fn rank(&self, random: u64) -> u32 {
        let product = u128::from(random) * self.columns.len() as u128;
        let column = (product >> 64) as u32;
        let place = (product as u64 >> 32) as u32;
        let Column { keep, alias } = self.columns[column as usize];
        // There is no branch here: the processor could not predict it, and it would wait for the table.
        let kept = 0u32.wrapping_sub(u32::from(place < keep));
        (column & kept) | (alias & !kept)
    }
}

/// Number of ranks that are drawn at once.
const DRAWN: usize = 64;

/// Endless ranks. Many are drawn at a time, so that looks into a table larger than the caches overlap.
#[derive(Debug, Clone)]
pub(super) struct ZipfRanks {
    table: Arc<ZipfTable>,
    rng: Xoshiro256PlusPlus,
    drawn: Box<[u32; DRAWN]>,
    /// Number of `drawn` ranks that were given out.
    given: usize,
}

impl ZipfRanks {
    pub(super) fn new(table: Arc<ZipfTable>, rng: Xoshiro256PlusPlus) -> Self {
        Self {
            table,
            rng,
            drawn: Box::new([0; DRAWN]),
            given: DRAWN,
        }
    }

    #[inline]
    pub(super) fn next(&mut self) -> u64 {
        if self.given == DRAWN {
            self.draw();
        }
        let rank = self.drawn[self.given];
        self.given += 1;
        u64::from(rank)
    }

    #[inline(never)]
    fn draw(&mut self) {
        let randoms: [u64; DRAWN] = std::array::from_fn(|_| self.rng.next_u64());
        *self.drawn = randoms.map(|random| self.table.rank(random));
        self.given = 0;
    }
}

impl Column {
    fn whole(rank: u32) -> Self {
        Self {
            keep: u32::MAX,
            alias: rank,
        }
    }

    fn shared(own: f64, alias: u32) -> Self {
        // `as` saturates: from 0 to the whole column.
        let keep = (own * 2f64.powi(32)).round() as u32;
        Self { keep, alias }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use rand::rand_core::SeedableRng;

    use super::*;

    /// The columns add up to the probabilities of the definition.
    #[test]
    fn columns_add_up_to_the_distribution() {
        for (exponent, ranks) in [
            (1.1, 1),
            (1.1, 2),
            (0.0, 1000),
            (0.5, 1000),
            (1.0, 1000),
            (1.1, 100_000),
            (3.0, 1000),
            (1e300, 1000),
        ] {
            let table = ZipfTable::new(exponent, ranks).unwrap();
            let mut seen = vec![0.0; ranks as usize];
            for (rank, column) in table.columns.iter().enumerate() {
                let keep = f64::from(column.keep) / 2f64.powi(32);
                seen[rank] += keep / ranks as f64;
                seen[column.alias as usize] += (1.0 - keep) / ranks as f64;
            }
            let weight = |rank: u64| (rank as f64).powf(-exponent);
            let total: f64 = (1..=ranks).map(weight).sum();
            for (rank, seen) in (1..).zip(seen) {
                let expected = weight(rank) / total;
                // Each column is rounded by at most 2^-32 of itself. A rank that many columns share has the sum of
                // these.
                let rounding = 2f64.powi(-32) + 1e-12;
                assert!(
                    (seen - expected).abs() <= rounding,
                    "zipf:{exponent}:{ranks}, rank {rank}: {seen}, expected {expected}"
                );
            }
        }
    }

    /// Pearson's chi-square over all ranks. Its mean is ranks - 1, and its variance is twice that; the seed is fixed.
    #[test]
    fn draws_have_the_distribution() {
        let (exponent, ranks, draws) = (1.1, 1000u64, 1_000_000);
        let table = ZipfTable::new(exponent, ranks).unwrap();
        let rng = Xoshiro256PlusPlus::seed_from_u64(11);
        let mut stream = ZipfRanks::new(Arc::new(table), rng);
        let mut counts = vec![0u64; ranks as usize];
        for _ in 0..draws {
            counts[stream.next() as usize] += 1;
        }
        let weight = |rank: u64| (rank as f64).powf(-exponent);
        let total: f64 = (1..=ranks).map(weight).sum();
        let chi_square: f64 = (1..)
            .zip(counts)
            .map(|(rank, count)| {
                let expected = f64::from(draws) * weight(rank) / total;
                (count as f64 - expected).powi(2) / expected
            })
            .sum();
        let freedom = (ranks - 1) as f64;
        let bound = 5.0 * (2.0 * freedom).sqrt();
        assert!((chi_square - freedom).abs() < bound, "{chi_square}");
    }

    #[test]
    fn the_ends_of_the_random_numbers_are_ranks() {
        let table = ZipfTable::new(1.1, 3).unwrap();
        assert_eq!(table.rank(0), 0);
        assert!(table.rank(u64::MAX) < 3);
    }

    #[test]
    fn too_many_ranks_have_no_table() {
        assert!(ZipfTable::new(1.0, RANKS_MAX + 1).is_none());
        assert!(ZipfTable::new(1.0, 0).is_none());
    }
}
