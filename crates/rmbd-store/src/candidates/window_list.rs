//! The list of a window: who is large now.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use rmbd_sketch::{CellIndexes, KeyHash, Lane, Weight, prefetch_for_read};

use super::list::List;
use super::table::Table;
use crate::Replica;
use crate::windows::{LastRow, Ring, Turns};

/// Candidates that are looked at anew in one pause, some microseconds of work.
const LOOKED_AT_A_PAUSE: usize = 64;
/// How often an add is looked at again whose snapshot was written again meanwhile.
const TRIES: usize = 4;

/// One thread's candidates of one window.
#[derive(Debug)]
pub(super) struct WindowList {
    list: List,
    base: Base,
    /// The candidate that is looked at next, while they are looked at.
    next: Option<usize>,
    /// Snapshots that were begun when that began.
    looked_at: u64,
}

/// What keys are compared with.
#[derive(Debug)]
struct Base {
    /// The ring of the window.
    ring: usize,
    turns: Arc<Turns>,
    /// The part of last rows that the thread adds to, if it is kept.
    part: Option<usize>,
    /// The first cell of the last row.
    first: u32,
    /// Half of the window, in snapshots.
    half: u64,
    /// Snapshots that were begun. What follows holds until one more is.
    begun: u64,
    /// The slot from which the window reaches.
    slot: usize,
    /// The last row before the window. Without one each key is looked at.
    last_row: Option<LastRow>,
}

/// A key that was added.
#[derive(Debug, Clone, Copy)]
pub(super) struct Added<'c> {
    pub(super) hash: KeyHash,
    pub(super) cells: &'c CellIndexes,
    pub(super) weight: Weight,
    /// What its cell of the last row held then, where it was added.
    pub(super) value: u32,
}

impl WindowList {
    /// Goes on with a table. The part is that of the last rows to which its thread adds.
    pub(super) fn new(
        table: Arc<Table>,
        replica: &Replica,
        ring: usize,
        part: Option<usize>,
    ) -> Self {
        let base = Base::new(replica, ring, part);
        let begun = base.begun;
        Self {
            list: List::new(table, begun, 0),
            base,
            next: None,
            looked_at: begun,
        }
    }

    /// Whether a key that was added may be a candidate. This is what most adds come to.
    #[inline]
    pub(super) fn may_be(&self, last: u32, value: u32) -> bool {
        let growth = self.base.growth(last, value);
        u64::from(growth) > self.list.threshold() || !self.base.holds()
    }

    /// Starts to fetch what [`may_be`](Self::may_be) reads.
    #[inline]
    pub(super) fn prefetch(&self, last: u32) {
        if let Some(row) = &self.base.last_row
            && let Some(cell) = row.get((last - self.base.first) as usize)
        {
            prefetch_for_read(cell);
        }
    }

    /// Notes a key that may be a candidate.
    pub(super) fn note(&mut self, replica: &Replica, added: &Added<'_>) {
        let mut estimate = u64::MAX;
        for _ in 0..TRIES {
            let (found, holds) = self.base.estimate(replica, added.cells, added.value);
            // It is too high at most where it does not hold, since it is at most the count of all time.
            estimate = found;
            if holds {
                break;
            }
            self.step(replica);
        }
        let weight = added.weight.into();
        self.list.note(added.hash, estimate, weight, || 0);
    }

    /// Looks whether a step is over, and goes on with looking at candidates anew if one was.
    pub(super) fn pause(&mut self, replica: &Replica, lane: Option<&Lane>) {
        if !self.base.holds() {
            self.step(replica);
        }
        if self.next.is_none() && self.looked_at != self.base.begun {
            (self.next, self.looked_at) = (Some(0), self.base.begun);
        }
        if let Some(first) = self.next {
            self.look_through(replica, lane, first);
        }
    }

    #[cold]
    fn step(&mut self, replica: &Replica) {
        let ring = &replica.windows.rings()[self.base.ring];
        let before = self.base.begun;
        self.base.renew(ring);
        // After a pause that is longer than the window nothing counts of what was added before.
        let is_in_window = self.base.begun - before <= ring.len();
        let threshold = if is_in_window {
            self.list.threshold()
        } else {
            0
        };
        let half_ago = self.base.begun + 1 - self.base.half;
        self.list.begin(self.base.begun, threshold, half_ago);
    }

    #[cold]
    fn look_through(&mut self, replica: &Replica, lane: Option<&Lane>, first: usize) {
        let (base, sketch) = (&self.base, replica.own());
        let lane = lane.map(Lane::number);
        let mut cells = CellIndexes::NONE;
        let look = |hash| {
            sketch.cells_of_into(hash, &mut cells);
            let last = cells.iter().last();
            let value = last.map_or(0, |last| sketch.own_part(lane, last));
            base.estimate(replica, &cells, value).0
        };
        self.next = (self.list).look_through(first, LOOKED_AT_A_PAUSE, look);
        if self.next.is_none() {
            self.list.settle();
        }
    }
}

impl Base {
    fn new(replica: &Replica, ring: usize, part: Option<usize>) -> Self {
        let (number, geometry) = (ring, replica.own().geometry());
        let ring = &replica.windows.rings()[ring];
        let mut base = Self {
            ring: number,
            turns: Arc::clone(ring.turns()),
            part,
            first: (geometry.cells() - geometry.width()) as u32,
            half: (ring.plan().steps() as u64).div_ceil(2),
            begun: 0,
            slot: 0,
            last_row: None,
        };
        base.renew(ring);
        base
    }

    fn renew(&mut self, ring: &Ring) {
        self.begun = ring.begun();
        self.slot = ring.oldest_slot(self.begun);
        let part = self.part;
        self.last_row = part.and_then(|part| ring.last_row_before(self.begun, part));
    }

    /// Whether no snapshot was begun meanwhile, so that what was just read holds.
    #[inline]
    fn holds(&self) -> bool {
        self.turns.are_begun(self.begun)
    }

    /// What was added to a cell of the last row since before the window, mod 2^32.
    #[inline]
    fn growth(&self, last: u32, value: u32) -> u32 {
        let before = self.last_row.as_ref();
        let before = before.and_then(|row| row.get((last - self.first) as usize));
        before.map_or(u32::MAX, |before| value.wrapping_sub(before.load(Relaxed)))
    }

    /// The count of a key in the window, which is never below what its thread added to it, and whether it holds. The
    /// value is that of its cell of the last row, where the thread adds.
    fn estimate(&self, replica: &Replica, cells: &CellIndexes, value: u32) -> (u64, bool) {
        let ring = &replica.windows.rings()[self.ring];
        let (since, all_time) = replica.since(ring, self.slot, cells);
        let last = cells.as_slice().last();
        let growth = last.map_or(u32::MAX, |&last| self.growth(last, value));
        match self.holds() {
            true => (since.min(growth.into()).min(all_time), true),
            false => (all_time, false),
        }
    }
}
