//! The list of a window, for a thread that adds: what counts in the window, and who leaves when a step is over.

use std::sync::atomic::Ordering::Acquire;

use rmbd_sketch::{CellIndexes, KeyHash};

use super::keys::{Keys, Place};
use super::list::{Floor, List};
use super::table::Bound;
use crate::Replica;
use crate::windows::Ring;

/// How often an add is looked at again whose snapshot was written again meanwhile.
const TRIES: usize = 4;
/// Places that are looked through in one pause: some ten microseconds of work at most.
const PLACES_A_PAUSE: Place = 128;

/// One thread's list of a window.
#[derive(Debug)]
pub(super) struct Window {
    list: List,
    since: Since,
    /// The place that is looked at next, while all candidates are.
    next: Option<Place>,
    /// Snapshots that were begun when that began.
    looked_through: u64,
}

/// The snapshot that the window reaches back to.
#[derive(Debug)]
struct Since {
    /// The ring of the window.
    ring: usize,
    /// Snapshots that were begun. What follows holds until one more is.
    begun: u64,
    number: u64,
    slot: usize,
}

impl Window {
    /// Goes on with a list of the window of a ring.
    pub(super) fn new(
        keys: &Keys,
        replica: &Replica,
        (number, ring): (usize, usize),
        candidates_max: usize,
    ) -> Self {
        let since = Since::new(replica, ring);
        let begun = since.begun;
        Self {
            list: List::new(keys, number, candidates_max, (begun, Bound::default())),
            since,
            next: None,
            looked_through: begun,
        }
    }

    pub(super) fn list(&self) -> &List {
        &self.list
    }

    /// Looks at a key that was added, and is no candidate. Makes room for it and returns its estimate if it is to be
    /// one.
    pub(super) fn look(
        &mut self,
        keys: &mut Keys,
        replica: &Replica,
        cells: &CellIndexes,
    ) -> Option<u64> {
        let mut estimate = 0;
        for _ in 0..TRIES {
            let threshold = self.list.threshold();
            let (found, holds) = self.since.estimate(replica, cells, threshold);
            // Where it does not hold it is too high at most: it is the count of all time.
            estimate = found;
            if holds {
                break;
            }
            self.step(keys, replica);
        }
        let since = &self.since;
        let estimate_of = |hash| since.estimate_of(replica, hash);
        let floor = || since.floor(replica);
        let admits = self.list.admits(keys, estimate, estimate_of, floor);
        admits.then_some(estimate)
    }

    /// A key that [looked](Self::look) large becomes a candidate.
    pub(super) fn enter(&mut self, keys: &Keys, place: Place, estimate: u64, certain: u64) {
        self.list.enter(keys, place, estimate, certain);
    }

    /// Marks a candidate to which something is about to be added.
    pub(super) fn mark_if_due(&mut self, keys: &Keys, replica: &Replica, place: Place) {
        if !self.since.holds(replica) {
            self.step(keys, replica);
        }
        self.list.mark_if_due(keys, place);
    }

    /// Looks whether a step is over, and goes on with looking through the candidates if one was.
    pub(super) fn pause(&mut self, keys: &mut Keys, replica: &Replica) {
        if !self.since.holds(replica) {
            self.step(keys, replica);
        }
        if self.next.is_none() && self.looked_through != self.since.begun {
            (self.next, self.looked_through) = (Some(0), self.since.begun);
        }
        if let Some(first) = self.next {
            self.look_through(keys, replica, first);
        }
    }

    #[cold]
    fn step(&mut self, keys: &Keys, replica: &Replica) {
        let ring = &replica.windows.rings()[self.since.ring];
        let before = self.since.begun;
        self.since.renew(ring);
        let begun = self.since.begun;
        // After a pause that is longer than the window nothing counts of what was added before.
        if begun - before > ring.len() {
            self.list.forget();
        }
        let half = (ring.plan().steps() as u64).div_ceil(2);
        self.list.begin(keys, begun, begun + 1 - half);
    }

    #[cold]
    fn look_through(&mut self, keys: &mut Keys, replica: &Replica, first: Place) {
        let since = &self.since;
        let look = |hash| since.estimate_of(replica, hash);
        self.next = self.list.look_through(keys, first, PLACES_A_PAUSE, look);
        if self.next.is_none() {
            self.list.settle(keys);
        }
    }
}

impl Since {
    fn new(replica: &Replica, ring: usize) -> Self {
        let mut since = Self {
            ring,
            begun: 0,
            number: 0,
            slot: 0,
        };
        since.renew(&replica.windows.rings()[ring]);
        since
    }

    fn renew(&mut self, ring: &Ring) {
        self.begun = ring.begun();
        (self.number, self.slot) = ring.oldest(self.begun);
    }

    /// Whether no snapshot was begun meanwhile, so that what was just read holds.
    fn holds(&self, replica: &Replica) -> bool {
        replica.windows.rings()[self.ring].are_begun(self.begun)
    }

    /// The count of a key in the window, here and of others, and whether it holds. Where one row, or the count of all
    /// time, tells that it is at most the threshold, no more is read.
    fn estimate(&self, replica: &Replica, cells: &CellIndexes, threshold: u64) -> (u64, bool) {
        // These cells are near, since they were just added to.
        let all_time = replica.own().estimate_at(cells);
        if all_time <= threshold {
            return (all_time, true);
        }
        let row = self.last_row(replica, cells);
        let estimate = if row > threshold {
            let ring = &replica.windows.rings()[self.ring];
            let (since, _) = replica.since(ring, self.slot, cells);
            since.min(all_time)
        } else {
            row
        };
        match self.holds(replica) {
            true => (estimate, true),
            false => (all_time, false),
        }
    }

    /// What was counted in the window in the cell of the last row, with its neighbours.
    fn last_row(&self, replica: &Replica, cells: &CellIndexes) -> u64 {
        let ring = &replica.windows.rings()[self.ring];
        let fold = ring.plan().fold();
        let Some(&last) = cells.as_slice().last() else {
            return 0;
        };
        let number = last as usize / fold;
        let before = ring.slot_at(self.slot)[number].load(Acquire);
        let now = replica.own().folded(number as u32, fold);
        now.wrapping_sub(before).into()
    }

    /// The same for a candidate.
    fn estimate_of(&self, replica: &Replica, hash: KeyHash) -> u64 {
        let mut cells = CellIndexes::NONE;
        replica.own().cells_of_into(hash, &mut cells);
        self.estimate(replica, &cells, 0).0
    }

    fn floor(&self, replica: &Replica) -> Floor {
        let ring = &replica.windows.rings()[self.ring];
        let weight = replica.slices_weight();
        let weight = weight.saturating_sub(ring.weight_before(self.number));
        Floor::of(ring.plan().geometry(), weight)
    }
}
