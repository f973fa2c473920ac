//! Slices of others: merged by maximum.

use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use crate::replica::Replica;
use crate::sketch::{SATURATES_AT, try_zeroed};
use crate::wire::cluster::SliceId;

use super::hashes::{GROUP_CELLS, Hashes, difference};
use super::refused::SliceRefused;

/// What only the writer needs to know of a slice that was learnt.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) id: SliceId,
    /// The highest version of which everything is here.
    pub(super) version: u64,
    /// Cells raised so far, each as often as it was.
    pub(super) raised: u64,
    /// `None` while no cell was raised.
    pub(super) held: Option<Held>,
}

/// One with cells.
#[derive(Debug)]
pub(super) struct Held {
    /// Where in the replica's table.
    pub(super) place: usize,
    pub(super) hashes: Hashes,
    /// Sum of each row's cells.
    row_weights: Box<[u64]>,
    width: usize,
}

impl Known {
    pub(super) fn new(id: SliceId) -> Self {
        Self {
            id,
            version: 0,
            raised: 0,
            held: None,
        }
    }

    pub(super) fn root(&self) -> u64 {
        self.held.as_ref().map_or(0, |held| held.hashes.root())
    }

    pub(super) fn weight(&self) -> u64 {
        self.held.as_ref().map_or(0, Held::weight)
    }
}

impl Held {
    /// Takes memory and a place for an empty slice that `node` wrote.
    pub(super) fn try_new(replica: &Replica, node: u64) -> Result<Self, SliceRefused> {
        let bytes = replica.own().geometry().memory_bytes();
        replica.memory.reserve(bytes)?;
        let placed = Self::place(replica, node);
        placed.inspect_err(|_| replica.memory.release(bytes))
    }

    fn place(replica: &Replica, node: u64) -> Result<Self, SliceRefused> {
        let geometry = replica.own().geometry();
        let hashes = Hashes::try_new(geometry.cells())?;
        let cells = try_zeroed(geometry)?;
        let max = replica.learnt.max();
        let place = replica.learnt.push(node, cells);
        Ok(Self {
            place: place.ok_or(SliceRefused::TooManyOrigins { max })?,
            hashes,
            row_weights: vec![0; geometry.depth()].into_boxed_slice(),
            width: geometry.width(),
        })
    }

    /// All that was added to it: every row holds all of it, so the fullest row is the latest.
    pub(super) fn weight(&self) -> u64 {
        self.row_weights.iter().copied().fold(0, u64::max)
    }

    /// Raises cells to what is given, where that is more. How many were raised.
    pub(super) fn merge(
        &mut self,
        replica: &Replica,
        given: impl Iterator<Item = (u32, u32)>,
    ) -> u64 {
        let Some(learnt) = replica.learnt.get(self.place) else {
            // Never: the table keeps what it has.
            return 0;
        };
        let weight = self.weight();
        let (mut raised, mut row) = (0, Row::default());
        for (index, new) in given {
            let Some(old) = raise(&learnt.cells, index, new) else {
                continue;
            };
            raised += 1;
            self.hashes
                .change(index as usize / GROUP_CELLS, difference(index, old, new));
            row.move_to(index as usize, self.width);
            self.row_weights[row.number] += u64::from(new - old);
        }
        replica.learnt.add_weight(self.weight() - weight);
        raised
    }
}

/// The cell's old value, where it was raised. Never writes one that does not rise: its page may not
/// exist yet.
#[inline]
fn raise(cells: &[AtomicU32], index: u32, new: u32) -> Option<u32> {
    let cell = cells.get(index as usize)?;
    // One writer: a load and a store lose nothing. Relaxed, as for all cells.
    let old = cell.load(Relaxed);
    (new > old).then(|| {
        cell.store(new, Relaxed);
        old
    })
}

/// Which row a cell is in: indexes mostly ascend, so that it seldom has to be divided for.
#[derive(Debug, Default)]
struct Row {
    number: usize,
    cells: Range<usize>,
}

impl Row {
    #[inline]
    fn move_to(&mut self, index: usize, width: usize) {
        if !self.cells.contains(&index) {
            self.number = index / width;
            self.cells = self.number * width..(self.number + 1) * width;
        }
    }
}

/// Cells as they were sent, made fit: indexes that do not exist are left out and remembered, and full
/// values are all `u32::MAX`, as our own full cells are read.
#[derive(Debug)]
pub(super) struct Given<I> {
    given: I,
    cells: usize,
    out_of_range: Option<u32>,
}

impl<I: Iterator<Item = (u32, u32)>> Given<I> {
    pub(super) fn new(given: I, cells: usize) -> Self {
        Self {
            given,
            cells,
            out_of_range: None,
        }
    }

    pub(super) fn outcome(&self, raised: u64) -> Result<u64, SliceRefused> {
        self.out_of_range.map_or(Ok(raised), |index| {
            Err(SliceRefused::IndexRange {
                index,
                cells: self.cells as u64,
            })
        })
    }
}

impl<I: Iterator<Item = (u32, u32)>> Iterator for Given<I> {
    type Item = (u32, u32);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (index, value) = self.given.next()?;
            if (index as usize) < self.cells {
                let is_full = value >= SATURATES_AT;
                return Some((index, if is_full { u32::MAX } else { value }));
            }
            self.out_of_range.get_or_insert(index);
        }
    }
}
