//! Lanes: tables of a small sketch, each with one thread that adds to it.
//!
//! Threads that add to the same cells pass cache lines to each other at every locked addition. In a small sketch this
//! happens all the time, and two threads are slower together than one alone. So each thread takes a *lane*, a table
//! of its own, in which an add is a load and a store. The value of a cell is the sum of the shared table and all
//! lanes, mod 2^32. A count reads all of them, which is why only small sketches with few threads have lanes.

use super::atomic::{
    AtomicBool, AtomicU32,
    Ordering::{Acquire, Relaxed, Release},
};
use super::memory::try_zeroed;
use super::{CellIndexes, Geometry, SketchError, Weight, prefetch};

/// Bytes that all lanes may take together, so that they stay in caches.
const LANES_BYTES_MAX: u64 = 16 << 20;
/// Largest number of lanes. A count reads one cache line per row of each lane.
const LANES_MAX: usize = 8;

/// Number of lanes for a sketch into which `threads` threads add; 0 where these threads share its cells.
///
/// Lanes are worth their memory where several threads would contend for the same cells (`benches/threads.rs`).
#[must_use]
pub fn lanes_of(geometry: Geometry, threads: usize) -> usize {
    let bytes = geometry.memory_bytes().saturating_mul(threads as u64);
    let is_worth_it = (2..=LANES_MAX).contains(&threads) && bytes <= LANES_BYTES_MAX;
    if is_worth_it { threads } else { 0 }
}

/// All lanes of a sketch.
#[derive(Debug)]
pub(super) struct Lanes(Box<[Table]>);

#[derive(Debug)]
struct Table {
    is_taken: AtomicBool,
    cells: Box<[AtomicU32]>,
}

/// One thread's lane, until the thread [gives it back](super::Sketch::give_back). No other value stands for the same
/// lane.
#[derive(Debug)]
pub struct Lane {
    number: usize,
}

impl Lane {
    /// Its number among the lanes of its sketch, from 0 on.
    #[inline]
    #[must_use]
    pub fn number(&self) -> usize {
        self.number
    }
}

impl Lanes {
    pub(super) fn try_new(geometry: Geometry, lanes: usize) -> Result<Self, SketchError> {
        let table = |_| {
            Ok(Table {
                is_taken: AtomicBool::new(false),
                cells: try_zeroed(geometry)?,
            })
        };
        (0..lanes).map(table).collect::<Result<_, _>>().map(Self)
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn memory(&self) -> impl Iterator<Item = &[AtomicU32]> {
        self.0.iter().map(|table| &*table.cells)
    }

    /// Takes a lane that nobody has, if there is one.
    pub(super) fn take(&self) -> Option<Lane> {
        let is_free = |table: &Table| {
            // Acquire pairs with the Release in `give_back`: the new holder adds to the values that the last one left.
            let taken = (table.is_taken).compare_exchange(false, true, Acquire, Relaxed);
            taken.is_ok()
        };
        let number = self.0.iter().position(is_free)?;
        Some(Lane { number })
    }

    pub(super) fn give_back(&self, lane: Lane) {
        let table = &self.0[lane.number];
        table.is_taken.store(false, Release);
    }

    /// The sum of a cell over all lanes, mod 2^32. Any thread may call this.
    #[inline]
    pub(super) fn sum(&self, cell: usize) -> u32 {
        let values = self.0.iter().map(|table| table.cells[cell].load(Relaxed));
        values.fold(0, u32::wrapping_add)
    }

    /// What was added to a cell of one lane, mod 2^32. Any thread may call this.
    #[inline]
    pub(super) fn value(&self, lane: usize, cell: usize) -> u32 {
        self.0[lane].cells[cell].load(Relaxed)
    }

    /// Adds to a lane. Only its holder writes it, so a load and a store lose nothing.
    #[inline]
    pub(super) fn add(&self, lane: &mut Lane, cells: &CellIndexes, weight: Weight) {
        let table = &self.0[lane.number].cells;
        for &cell in cells.as_slice() {
            let place = &table[cell as usize];
            place.store(place.load(Relaxed).wrapping_add(weight.get()), Relaxed);
        }
    }

    #[inline]
    pub(super) fn prefetch(&self, lane: &Lane, cells: &CellIndexes) {
        let table = &self.0[lane.number].cells;
        for &cell in cells.as_slice() {
            prefetch::for_write(&table[cell as usize]);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn small_sketches_of_few_threads_have_them() {
        let lanes = |log_width: u32, threads| {
            let geometry = Geometry::new(1 << log_width, 4).unwrap();
            lanes_of(geometry, threads)
        };
        assert_eq!((lanes(12, 0), lanes(12, 1), lanes(12, 2)), (0, 0, 2));
        assert_eq!((lanes(16, 8), lanes(16, 9)), (8, 0));
        assert_eq!((lanes(19, 2), lanes(19, 3), lanes(20, 2)), (2, 0, 0));
        let largest = Geometry::new(1 << 28, 4).unwrap();
        assert_eq!(lanes_of(largest, usize::MAX), 0);
    }

    #[test]
    fn each_is_taken_once_and_may_be_taken_again() {
        let geometry = Geometry::new(4, 1).unwrap();
        let lanes = Lanes::try_new(geometry, 2).unwrap();
        let (first, second) = (lanes.take().unwrap(), lanes.take().unwrap());
        assert_ne!(first.number, second.number);
        assert!(lanes.take().is_none());
        let number = first.number;
        lanes.give_back(first);
        assert_eq!(lanes.take().unwrap().number, number);
        assert!(lanes.take().is_none());
        assert!(Lanes::try_new(geometry, 0).unwrap().take().is_none());
    }
}
