//! Sums of neighbouring cells: a sketch is also narrower sketches.
//!
//! With columns by multiply and shift, `fold` neighbouring cells are one cell of a sketch whose width is the `fold`th
//! part: floor(floor(v w / 2^64) / f) = floor(v (w / f) / 2^64), where f divides w.

use std::ops::Range;

use super::atomic::{AtomicU32, Ordering::Acquire, Ordering::Relaxed, fence};
use super::{CellIndex, CellIndexes, Sketch};

/// The number of neighbours that [`Sketch::folded`] has straight code for, beside 1: eight pairs are a cache line, and
/// the table begins with a line.
const USUAL_FOLD: usize = 8;

impl Sketch {
    /// The lowest 32 bits of all that was counted, here and by others, in the `fold` cells from `number * fold` on.
    /// They are read one by one, and each is at least as it was when the call began. The result is 0 where there are
    /// no such cells.
    #[inline]
    #[must_use]
    pub fn folded(&self, number: u32, fold: usize) -> u32 {
        let sum = self.folded_narrow(number as usize, fold);
        // The fence stands behind the reads of cells: see `others`.
        fence(Acquire);
        if self.are_others_wide() {
            return self.folded_wide(number as usize, fold);
        }
        sum
    }

    /// Starts to fetch what [`fold_rows`](Self::fold_rows) reads for a key with these cells, beside what
    /// [`prefetch`](Self::prefetch) fetches.
    #[inline]
    pub fn prefetch_neighbours(&self, cells: &CellIndexes, fold: usize) {
        // The table begins with a cache line, so neighbours that divide a line are in the line of the cell itself.
        if !USUAL_FOLD.is_multiple_of(fold) || self.has_lanes() {
            self.prefetch_ends(cells, fold.max(1));
        }
    }

    /// Goes over the rows of a key with these cells: for each `before` gets the number of its folded cell, then the
    /// cell is read as [`folded`](Self::folded) says, then `each` gets what there was, what `before` returned, and the
    /// value. What `before` loads with Acquire is read before the cell. Returns the last of it, and the key's
    /// [estimate](Self::estimate_at), for which the same cells are read.
    #[inline]
    pub fn fold_rows<B, A: Copy>(
        &self,
        cells: &CellIndexes,
        fold: usize,
        start: A,
        before: impl Fn(usize) -> B,
        each: impl Fn(A, B, u32) -> A,
    ) -> (A, u64) {
        if !self.has_lanes() {
            let found = match (self.stride(), fold) {
                (1, 1) => Some(self.fold_chunks::<1, 1, _, _>(cells, start, &before, &each)),
                (2, 1) => Some(self.fold_chunks::<2, 2, _, _>(cells, start, &before, &each)),
                (1, USUAL_FOLD) => {
                    Some(self.fold_chunks::<USUAL_FOLD, 1, _, _>(cells, start, &before, &each))
                }
                (2, USUAL_FOLD) => {
                    const LEN: usize = 2 * USUAL_FOLD;
                    Some(self.fold_chunks::<LEN, 2, _, _>(cells, start, &before, &each))
                }
                _ => None,
            };
            // The fence stands behind the reads of cells: see `others` and `beyond`.
            fence(Acquire);
            if let (Some((all, estimate)), false) = (found, self.are_others_wide()) {
                let is_whole = !self.are_half_turns();
                return (
                    all,
                    if is_whole {
                        estimate
                    } else {
                        self.estimate_at(cells)
                    },
                );
            }
        }
        let row = |all, &cell: &u32| {
            let number = cell as usize / fold;
            let there = before(number);
            each(all, there, self.folded(number as u32, fold))
        };
        let all = cells.as_slice().iter().fold(start, row);
        (all, self.estimate_at(cells))
    }

    /// The rows of a table in which `LEN` numbers are a folded cell, and `STRIDE` of them a cell. Beside what is folded
    /// it returns the estimate, where no total is above 32 bits.
    #[inline(always)]
    fn fold_chunks<const LEN: usize, const STRIDE: usize, B, A: Copy>(
        &self,
        cells: &CellIndexes,
        start: A,
        before: &impl Fn(usize) -> B,
        each: &impl Fn(A, B, u32) -> A,
    ) -> (A, u64) {
        let (chunks, _) = self.memory().as_chunks::<LEN>();
        let fold = LEN / STRIDE;
        let (mut all, mut own, mut others) = (start, u32::MAX, u32::MAX);
        for &cell in cells.as_slice() {
            let cell = cell as usize;
            let there = before(cell / fold);
            let chunk = &chunks[cell / fold];
            all = each(all, there, sum_of(Some(chunk)));
            let at = cell % fold * STRIDE;
            own = own.min(chunk[at].load(Relaxed));
            if STRIDE > 1 {
                others = others.min(chunk[at + 1].load(Relaxed));
            } else {
                others = 0;
            }
        }
        (all, u64::from(own) + u64::from(others))
    }

    /// Like [`folded`](Self::folded) for each of these numbers, in order. Only the one writer of others calls this.
    #[inline]
    pub fn for_each_folded(
        &self,
        fold: usize,
        numbers: Range<usize>,
        mut each: impl FnMut(usize, u32),
    ) {
        let is_plain = !self.has_lanes() && !self.are_others_wide();
        match (is_plain, self.stride(), fold) {
            (true, 1, 1) => self.for_each_chunk::<1>(numbers, each),
            (true, 2, 1) => self.for_each_chunk::<2>(numbers, each),
            (true, 1, USUAL_FOLD) => self.for_each_chunk::<USUAL_FOLD>(numbers, each),
            (true, 2, USUAL_FOLD) => self.for_each_chunk::<{ 2 * USUAL_FOLD }>(numbers, each),
            _ => numbers.for_each(|number| each(number, self.folded(number as u32, fold))),
        }
    }

    /// The sum of all that was counted, here and by others, in the `fold` cells from `number * fold` on.
    #[must_use]
    pub fn folded_total(&self, number: u32, fold: usize) -> u64 {
        let cells = range(number as usize, fold);
        let cells = self.geometry().cells_between(cells.start, cells.end);
        let totals =
            cells.map(|cell| (self.own_total(cell)).saturating_add(self.others_total(cell)));
        totals.fold(0, u64::saturating_add)
    }

    #[inline]
    fn for_each_chunk<const LEN: usize>(
        &self,
        numbers: Range<usize>,
        mut each: impl FnMut(usize, u32),
    ) {
        let (chunks, _) = self.memory().as_chunks::<LEN>();
        let chunks = chunks.get(numbers.clone()).unwrap_or_default();
        for (number, chunk) in numbers.zip(chunks) {
            each(number, sum_of(Some(chunk)));
        }
    }

    fn prefetch_ends(&self, cells: &CellIndexes, fold: usize) {
        let stride = self.stride();
        for &cell in cells.as_slice() {
            let first = cell as usize / fold * fold;
            self.prefetch_at(first * stride);
            self.prefetch_at((first + fold) * stride - 1);
        }
    }

    #[inline]
    fn folded_narrow(&self, number: usize, fold: usize) -> u32 {
        let memory = self.memory();
        let shared = match (self.stride(), fold) {
            (2, 1) => sum_of(memory.as_chunks::<2>().0.get(number)),
            (2, USUAL_FOLD) => sum_of(memory.as_chunks::<{ 2 * USUAL_FOLD }>().0.get(number)),
            (1, USUAL_FOLD) => sum_of(memory.as_chunks::<USUAL_FOLD>().0.get(number)),
            (stride, _) => {
                let cells = range(number, fold * stride);
                sum_of(memory.get(cells))
            }
        };
        if self.has_lanes() {
            return shared.wrapping_add(self.folded_lanes(range(number, fold)));
        }
        shared
    }

    #[inline]
    fn folded_lanes(&self, cells: Range<usize>) -> u32 {
        let lanes = self.memory_parts().skip(1);
        let sums = lanes.map(|lane| sum_of(lane.get(cells.clone())));
        sums.fold(0, u32::wrapping_add)
    }

    #[cold]
    fn folded_wide(&self, number: usize, fold: usize) -> u32 {
        let cells = range(number, fold);
        let cells = self.geometry().cells_between(cells.start, cells.end);
        let value = |cell: CellIndex| {
            let others = self.others_total(cell) as u32;
            self.own_value(cell).wrapping_add(others)
        };
        cells.map(value).fold(0, u32::wrapping_add)
    }
}

#[inline]
fn range(number: usize, len: usize) -> Range<usize> {
    number * len..(number + 1) * len
}

#[inline]
fn sum_of<'c, C: AsRef<[AtomicU32]> + ?Sized + 'c>(cells: Option<&'c C>) -> u32 {
    cells.map_or(0, |cells| {
        let values = cells.as_ref().iter().map(|cell| cell.load(Relaxed));
        values.fold(0, u32::wrapping_add)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::{Geometry, HashFamily, SketchOptions, Weight};

    const FAMILY: HashFamily = HashFamily::Xxh3 { seed: 7 };
    const WIDTH: u64 = 48;

    fn sketch(has_others: bool, lanes: usize, width: u64) -> Sketch {
        let options = SketchOptions { has_others, lanes };
        Sketch::try_with(Geometry::new(width, 3).unwrap(), FAMILY, options).unwrap()
    }

    /// Adds to shared cells and lanes, and lets others count.
    fn fill(sketch: &Sketch, others: u64) {
        let mut lane = sketch.take_lane();
        for key in 0..200_u32 {
            let cells = sketch.cells_of(&key.to_le_bytes());
            match &mut lane {
                Some(lane) if key.is_multiple_of(2) => {
                    sketch.add_in_lane(lane, &cells, Weight::ONE);
                }
                _ => sketch.add_at(&cells, Weight::MAX),
            }
            for cell in cells.iter() {
                sketch.add_of_others(cell, others);
            }
        }
    }

    /// In every layout the folded cells are the sums of their neighbours, also where others are wide.
    #[test]
    fn folded_cells_are_sums_of_neighbours() {
        for (has_others, lanes) in [(false, 0), (true, 0), (true, 2), (false, 2)] {
            for others in [0, 3, 1 << 27, (1 << 33) + 5] {
                let sketch = sketch(has_others, lanes, WIDTH);
                fill(&sketch, others);
                for fold in [1, 2, 3, 8, 48] {
                    let geometry = sketch.geometry();
                    let total = |number: usize| {
                        let cells = geometry.cells_between(number * fold, (number + 1) * fold);
                        let totals =
                            cells.map(|cell| sketch.own_total(cell) + sketch.others_total(cell));
                        totals.sum::<u64>()
                    };
                    let numbers = 0..geometry.cells() / fold;
                    let mut seen = 0;
                    sketch.for_each_folded(fold, numbers.clone(), |number, value| {
                        assert_eq!((seen, value), (number, total(number) as u32));
                        seen += 1;
                    });
                    assert_eq!(seen, numbers.len());
                    for number in numbers {
                        let value = sketch.folded(number as u32, fold);
                        assert_eq!(value, total(number) as u32);
                        assert_eq!(sketch.folded_total(number as u32, fold), total(number));
                    }
                }
            }
        }
    }

    /// What a sketch folds to is what a narrower sketch counts.
    #[test]
    fn a_folded_sketch_is_a_narrower_one() {
        for fold in [2, 3, 8, 48] {
            let wide = sketch(true, 0, WIDTH);
            let narrow = sketch(true, 0, WIDTH / fold);
            fill(&wide, 1);
            fill(&narrow, 1);
            for number in 0..narrow.geometry().cells() as u32 {
                let value = wide.folded(number, fold as usize);
                assert_eq!(value, narrow.folded(number, 1));
            }
        }
    }
}
