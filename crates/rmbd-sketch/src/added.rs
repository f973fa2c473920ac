//! What a thread has added itself, as it adds: by this it tells whether a key may be among the largest.
//!
//! A thread adds to a lane of its own, or to the cells that all threads share. The *count of a key in these cells* is
//! the least of its rows there. An add that looks at one row only, the last one that it adds to, mostly knows already
//! that the key is small.
//!
//! *Of several threads that share cells, one has seen everything.* Take all adds of a key, and of them the one whose
//! addition to the last row comes last. What that addition returned is at least the weight of all of them. And who
//! reads all rows behind it finds all of them in each row: an add goes to the last row behind all others, with Release,
//! and an addition takes up with Acquire what those before it released (a release sequence). The least of what all
//! additions *returned* would not do: two threads that add at the same moment may each come first in some row.

use super::atomic::{
    Ordering::{AcqRel, Acquire, Relaxed},
    fence,
};
use super::{CellIndex, CellIndexes, Lane, Sketch, Weight};

impl Sketch {
    /// Like [`add_at`](Self::add_at), or with a lane like [`add_in_lane`](Self::add_in_lane). Returns the lowest 32
    /// bits of what the last row's cell holds then, there where it was added.
    #[inline]
    pub fn add_and_read(
        &self,
        lane: Option<&mut Lane>,
        cells: &CellIndexes,
        weight: Weight,
    ) -> u32 {
        match lane {
            Some(lane) => self.lanes.add(lane, cells, weight),
            None => self.add_shared_and_read(cells, weight),
        }
    }

    #[inline]
    fn add_shared_and_read(&self, cells: &CellIndexes, weight: Weight) -> u32 {
        let Some((&last, rows)) = cells.as_slice().split_last() else {
            return 0;
        };
        let weight = weight.get();
        let (memory, stride) = (self.memory(), self.stride());
        for &cell in rows {
            memory[cell as usize * stride].fetch_add(weight, Relaxed);
        }
        // See the head of this file.
        let before = memory[last as usize * stride].fetch_add(weight, AcqRel);
        before.wrapping_add(weight)
    }

    /// Whether the total of a cell may be above the 32 bits that were just read of it, by an addition.
    #[inline]
    #[must_use]
    pub fn may_be_above_32_bits(&self, cell: u32) -> bool {
        self.half_turns.may_be_any_of(cell as usize)
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

    /// The lowest 32 bits of what was added to a cell of the lane with this number, or without one to the cell that
    /// all threads share. The sketch has such a lane.
    #[inline]
    #[must_use]
    pub fn own_part(&self, lane: Option<usize>, cell: CellIndex) -> u32 {
        match lane {
            Some(lane) => self.lanes.value(lane, cell.get() as usize),
            None => self.own(cell.get()).load(Relaxed),
        }
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
        if self.may_be_above_32_bits(cell) {
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

    /// In all layouts an add returns what the last row's cell holds where it was added, and the count has nothing in
    /// it of what was added elsewhere.
    #[test]
    fn an_add_returns_its_last_cell() {
        for (has_others, lanes) in [(false, 0), (true, 0), (false, 2), (true, 2)] {
            let sketch = sketch(has_others, lanes);
            let mut taken = [sketch.take_lane(), None];
            for key in 0..500_u32 {
                let cells = sketch.cells_of(&(key % 100).to_le_bytes());
                let last = cells.iter().last().unwrap();
                let at = key as usize % 2;
                let number = taken[at].as_ref().map(Lane::number);
                let before = sketch.own_part(number, last);
                let read = sketch.add_and_read(taken[at].as_mut(), &cells, Weight::from(3));
                assert_eq!((read, before + 3), (sketch.own_part(number, last), read));
                let rows = cells.iter().map(|cell| sketch.own_part(number, cell));
                let least = u64::from(rows.min().unwrap());
                assert_eq!(sketch.estimate_added(taken[at].as_ref(), &cells), least);
                sketch.add_of_others(last, 1);
            }
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
            sketch.add_and_read(lane.as_mut(), cells, Weight::MAX);
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
            let is_above = |cells: &CellIndexes| {
                let mut cells = cells.as_slice().iter();
                cells.all(|&cell| sketch.may_be_above_32_bits(cell))
            };
            assert!(is_above(&heavy) && !is_above(&light));
        }
    }
}
