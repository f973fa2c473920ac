//! What a thread has added itself, as it adds: by this it tells whether a key may be among the largest.
//!
//! A thread adds to a lane of its own, or to the cells that all threads share. The *count of a key in these cells* is
//! the least of its rows there. Two rows mostly tell already that a key is small: the last one that an add goes to, of
//! which the addition returns the value, and the first one, which is read again behind it. (One row does not: of as
//! many keys as a row has cells, all as frequent as each other, a tenth has two others in its cell of a row.)
//!
//! *Of several threads that share cells, one has seen everything* ([`Sketch::add_and_compare`]). Take all adds of a
//! key, and of them the one whose addition to the last row comes last. What that addition returned is at least the
//! weight of all of them. And who reads other rows behind it finds all of them in each row: an add goes to the last row
//! behind all others, with Release, and an addition takes up with Acquire what those before it released (a release
//! sequence). The least of what all additions *returned* would not do: two threads that add at the same moment may each
//! come first in some row.
//!
//! *Where hardly anybody else adds* a thread compares before it adds ([`Sketch::compare_and_add`]), which takes half
//! the time: nothing waits for the locked additions. It misses what others add at the same moment.

use super::atomic::{
    Ordering::{AcqRel, Acquire, Relaxed},
    fence,
};
use super::{CellIndexes, Lane, Sketch, Weight};

/// The lowest 32 bits of a key's first and last row.
type Ends = [(u32, u32); 2];

impl Sketch {
    /// Like [`add_at`](Self::add_at), or with a lane like [`add_in_lane`](Self::add_in_lane). Returns whether the count
    /// of the key in these cells may be above a threshold, as far as two rows tell. Of several threads that add to one
    /// key, one is told if it is.
    #[inline]
    pub fn add_and_compare(
        &self,
        lane: Option<&mut Lane>,
        cells: &CellIndexes,
        weight: Weight,
        threshold: u64,
    ) -> bool {
        let ends = match lane {
            Some(lane) => self.lanes.add(lane, cells, weight),
            None => self.add_shared(cells, weight),
        };
        // Without branches, since one row alone often is above.
        let [first, last] = ends.map(|(_, value)| u64::from(value) > threshold);
        (first & last) || (self.half_turns.are_any() && self.may_be_above(ends, threshold))
    }

    /// Like [`add_and_compare`](Self::add_and_compare), for cells that all threads share. What others add at the same
    /// moment may not be in what is compared.
    #[inline]
    pub fn compare_and_add(&self, cells: &CellIndexes, weight: Weight, threshold: u64) -> bool {
        let read = |cell: Option<&u32>| {
            let cell = cell.copied().unwrap_or_default();
            let value = self.own(cell).load(Relaxed);
            (cell, value.wrapping_add(weight.get()))
        };
        let (first, last) = (cells.as_slice().first(), cells.as_slice().last());
        let ends = [read(first), read(last)];
        let [first, last] = ends.map(|(_, value)| u64::from(value) > threshold);
        self.add_at(cells, weight);
        (first & last) || (self.half_turns.are_any() && self.may_be_above(ends, threshold))
    }

    #[inline]
    fn add_shared(&self, cells: &CellIndexes, weight: Weight) -> Ends {
        let Some((&last, rows)) = cells.as_slice().split_last() else {
            return Ends::default();
        };
        let (memory, stride) = (self.memory(), self.stride());
        for &cell in rows {
            memory[cell as usize * stride].fetch_add(weight.get(), Relaxed);
        }
        // See the head of this file.
        let before = memory[last as usize * stride].fetch_add(weight.get(), AcqRel);
        let first = cells.as_slice()[0];
        let value = memory[first as usize * stride].load(Relaxed);
        [(first, value), (last, before.wrapping_add(weight.get()))]
    }

    /// Where a total may be above 32 bits, its lowest 32 bits say nothing.
    #[inline(never)]
    fn may_be_above(&self, ends: Ends, threshold: u64) -> bool {
        // Who reads a cell behind its own addition, or a lane of its own, sees what was noted of what is in it.
        fence(Acquire);
        let mut ends = ends.iter();
        ends.all(|&(cell, value)| {
            u64::from(value) > threshold || self.half_turns.may_be_any_of(cell as usize)
        })
    }

    /// The count of a key with these cells in what was added to a lane, or without one to the cells that all threads
    /// share. It is never below the weight that was added to the key there; where a cell's total is above 32 bits it
    /// has in it what was added elsewhere on this node.
    #[inline]
    #[must_use]
    pub fn estimate_added(&self, lane: Option<&Lane>, cells: &CellIndexes) -> u64 {
        let rows = cells.as_slice().iter();
        let values = rows.map(|&cell| self.value_added(lane, cell));
        let least = values.fold(u32::MAX, u32::min);
        // The fence stands behind the reads of cells: see `beyond`.
        fence(Acquire);
        if self.half_turns.are_any() {
            let rows = cells.as_slice().iter();
            let totals = rows.map(|&cell| self.total_added(lane, cell));
            return totals.fold(u64::MAX, u64::min);
        }
        least.into()
    }

    /// Number of lanes.
    #[must_use]
    pub fn lanes(&self) -> usize {
        self.lanes.len()
    }

    #[inline]
    fn value_added(&self, lane: Option<&Lane>, cell: u32) -> u32 {
        match lane {
            Some(lane) => self.lanes.value(lane.number(), cell as usize),
            None => self.own(cell).load(Relaxed),
        }
    }

    /// Where a total is above 32 bits only that of all threads together is known.
    fn total_added(&self, lane: Option<&Lane>, cell: u32) -> u64 {
        let value = self.value_added(lane, cell);
        fence(Acquire);
        if self.half_turns.may_be_any_of(cell as usize) {
            return self.total_of(cell);
        }
        value.into()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::{Allowance, Geometry, HashFamily, PASS_WEIGHT_MAX, SketchOptions};

    fn sketch(has_others: bool, lanes: usize) -> Sketch {
        let options = SketchOptions { has_others, lanes };
        let family = HashFamily::Xxh3 { seed: 7 };
        Sketch::try_with(Geometry::new(64, 3).unwrap(), family, options).unwrap()
    }

    /// In all layouts the count has nothing in it of what was added elsewhere, and an add whose count is above a
    /// threshold says so.
    #[test]
    fn an_add_compares_its_count() {
        for (has_others, lanes) in [(false, 0), (true, 0), (false, 2), (true, 2)] {
            let sketch = sketch(has_others, lanes);
            let mut taken = [sketch.take_lane(), None];
            let mut truth = [[0_u64; 100]; 2];
            for key in 0..500_usize {
                let cells = sketch.cells_of(&(key % 100).to_le_bytes());
                let at = usize::from(key % 3 == 0 && lanes > 0);
                truth[at][key % 100] += 3;
                let threshold = key as u64 / 10;
                let weight = Weight::from(3);
                let may_be = match taken[at].as_mut() {
                    None if key % 2 == 0 => sketch.compare_and_add(&cells, weight, threshold),
                    lane => sketch.add_and_compare(lane, &cells, weight, threshold),
                };
                let count = sketch.estimate_added(taken[at].as_ref(), &cells);
                assert!(count >= truth[at][key % 100]);
                assert!(may_be || count <= threshold, "{key}");
                cells.iter().for_each(|cell| sketch.add_of_others(cell, 1));
            }
            let alone = sketch.cells_of(b"alone");
            let mut lane = taken[0].take();
            let before = sketch.estimate_added(lane.as_ref(), &alone);
            let mut compare =
                |threshold| sketch.add_and_compare(lane.as_mut(), &alone, Weight::ZERO, threshold);
            assert!(!compare(10_000) && (before == 0 || compare(before - 1)));
        }
    }

    /// Adds this much, in passes of as much as may be added between two of them.
    fn add(sketch: &Sketch, lane: &mut Option<Lane>, cells: &CellIndexes, weight: u64) {
        let mut allowance = Allowance::default();
        for _ in 0..weight / u64::from(Weight::MAX) {
            while sketch.charge(&mut allowance, Weight::MAX).is_err() {
                sketch.settle(&mut allowance);
                pass(sketch);
            }
            sketch.add_and_compare(lane.as_mut(), cells, Weight::MAX, 0);
        }
        sketch.settle(&mut allowance);
    }

    fn pass(sketch: &Sketch) {
        let pass = sketch.begin_pass();
        for cell in sketch.geometry().cells_between(0, usize::MAX) {
            sketch.note_total(cell, sketch.own_value(cell));
        }
        sketch.end_pass(pass);
    }

    /// Totals above 32 bits are found, and cells that have none are told from those that have, but for few.
    #[test]
    fn counts_above_32_bits_are_whole() {
        for lanes in [0, 2] {
            let sketch = sketch(true, lanes);
            let mut lane = sketch.take_lane();
            let (heavy, light) = (sketch.cells_of(b"heavy"), sketch.cells_of(b"light"));
            let weight = 5 * PASS_WEIGHT_MAX;
            add(&sketch, &mut lane, &heavy, weight);
            pass(&sketch);
            add(&sketch, &mut lane, &light, 1 << 20);
            assert_eq!(sketch.estimate_added(lane.as_ref(), &heavy), weight);
            assert_eq!(sketch.estimate_added(lane.as_ref(), &light), 1 << 20);
            let mut is_above = |cells, threshold| {
                sketch.add_and_compare(lane.as_mut(), cells, Weight::ZERO, threshold)
            };
            assert!(is_above(&heavy, weight - 1) && is_above(&light, (1 << 20) - 1));
            assert!(!is_above(&light, 1 << 20) && !is_above(&light, weight));
        }
    }
}
