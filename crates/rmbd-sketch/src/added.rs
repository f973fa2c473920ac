//! What a thread has added itself, as it adds: by this it tells whether a key is large.
//!
//! A thread adds to a lane of its own, or to the cells that all threads share. The *count of a key in these cells* is
//! the least of its rows there.
//!
//! *Of several threads that share cells, each sees what came before it* ([`Sketch::add_at`]). Take all adds of a
//! key in the order in which they come in the last row. Who reads the rows of the key behind an addition of its own
//! finds in each row all adds that came before: an add goes to the last row behind all others, with Release, and an
//! addition takes up with Acquire what those before it released (a release sequence).

use super::atomic::{
    Ordering::{Acquire, Relaxed},
    fence,
};
use super::{CellIndexes, Lane, Sketch};

impl Sketch {
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
    use crate::{Allowance, Geometry, HashFamily, PASS_WEIGHT_MAX, SketchOptions, Weight};

    fn sketch(has_others: bool, lanes: usize) -> Sketch {
        let options = SketchOptions { has_others, lanes };
        let family = HashFamily::Xxh3 { seed: 7 };
        Sketch::try_with(Geometry::new(64, 3).unwrap(), family, options).unwrap()
    }

    fn add_some(sketch: &Sketch, lane: Option<&mut Lane>, cells: &CellIndexes, weight: Weight) {
        match lane {
            Some(lane) => sketch.add_in_lane(lane, cells, weight),
            None => sketch.add_at(cells, weight),
        }
    }

    /// In all layouts the count is never below what was added there, and has nothing in it of what was added elsewhere.
    #[test]
    fn a_thread_reads_what_it_added() {
        for (has_others, lanes) in [(false, 0), (true, 0), (false, 2), (true, 2)] {
            let sketch = sketch(has_others, lanes);
            let mut taken = [sketch.take_lane(), None];
            let mut truth = [[0_u64; 100]; 2];
            for key in 0..500_usize {
                let cells = sketch.cells_of(&(key % 100).to_le_bytes());
                let at = usize::from(key % 3 == 0 && lanes > 0);
                truth[at][key % 100] += 3;
                add_some(&sketch, taken[at].as_mut(), &cells, Weight::from(3));
                let count = sketch.estimate_added(taken[at].as_ref(), &cells);
                assert!(count >= truth[at][key % 100]);
                cells.iter().for_each(|cell| sketch.add_of_others(cell, 1));
            }
            let all = truth.iter().flatten().sum::<u64>();
            let added = (0..sketch.geometry().cells() as u32).map(|cell| {
                let lanes = taken.iter().flatten();
                let of_lanes = lanes.map(|lane| u64::from(sketch.value_added(Some(lane), cell)));
                of_lanes.sum::<u64>() + u64::from(sketch.value_added(None, cell))
            });
            assert_eq!(added.sum::<u64>(), all * sketch.geometry().depth() as u64);
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
            add_some(sketch, lane.as_mut(), cells, Weight::MAX);
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
        }
    }
}
