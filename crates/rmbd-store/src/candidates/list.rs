//! A thread's own side of a table of candidates: where which key is, and who leaves.

use std::sync::Arc;

use rmbd_sketch::KeyHash;

use super::slot::{Candidate, Mark, Slot};
use super::table::Table;

/// A place in a table; there are at most [`PLACES_MAX`](super::PLACES_MAX).
type Place = u16;
/// No place.
const NONE: Place = Place::MAX;
/// Of so many candidates one leaves when there is no room: those with the least estimates.
const LEAVING_PART: usize = 4;
/// So many keys are looked at in vain before the threshold is compared with the floor, which grows with all that is
/// added.
const IN_VAIN_MAX: u32 = 64;

/// The candidates of one thread for one list. It allocates when it is made, and never again.
#[derive(Debug)]
pub(super) struct List {
    table: Arc<Table>,
    /// A key may only enter with an estimate above this.
    threshold: u64,
    /// The moment whose threshold it is.
    moment: u64,
    /// Candidates whose later mark was made before this moment get another.
    mark_before: u64,
    /// Keys that were looked at and did not enter.
    in_vain: u32,
    /// Places by hash, in a table with twice as many entries as there are places (open addressing, linear probing).
    index: Box<[Place]>,
    /// Places without a candidate.
    free: Vec<Place>,
    /// Where places are sorted.
    order: Vec<Place>,
}

impl List {
    /// Goes on with a table, which nobody else writes, at a moment from which this threshold is in force.
    pub(super) fn new(table: Arc<Table>, moment: u64, threshold: u64) -> Self {
        let places = table.slots().len();
        table.begin(moment, threshold);
        let mut list = Self {
            threshold,
            moment,
            mark_before: 0,
            in_vain: 0,
            index: vec![NONE; 2 * places].into(),
            free: Vec::with_capacity(places),
            order: Vec::with_capacity(places),
            table,
        };
        list.tidy();
        list
    }

    /// The estimate above which a key becomes a candidate.
    #[inline]
    pub(super) fn threshold(&self) -> u64 {
        self.threshold
    }

    /// Notes an add that was made: a key's weight, which is not 0, and its estimate after that. Where all places are
    /// taken some candidates leave, and the threshold is at least `floor` then.
    pub(super) fn note(
        &mut self,
        hash: KeyHash,
        estimate: u64,
        weight: u64,
        floor: impl FnOnce() -> u64,
    ) {
        let (hash, estimate) = (hash.halves(), estimate.max(1));
        if let Some(place) = self.find(hash) {
            let slot = &self.table.slots()[place];
            self.mark_if_due(slot);
            return slot.grow(estimate, weight);
        }
        if estimate <= self.threshold {
            self.in_vain = self.in_vain.wrapping_add(1);
            if self.in_vain.is_multiple_of(IN_VAIN_MAX) {
                // The threshold is not 0, so all places have been taken once.
                self.raise(floor());
            }
            return;
        }
        if self.free.is_empty() {
            let left = self.let_leave();
            self.raise(left.max(floor()));
            self.clear();
            if estimate <= self.threshold {
                return;
            }
        }
        self.enter(hash, estimate, weight);
    }

    /// From this moment on this threshold is in force, and candidates get marks that have none since another.
    pub(super) fn begin(&mut self, moment: u64, threshold: u64, mark_before: u64) {
        (self.moment, self.threshold) = (moment, threshold);
        self.mark_before = mark_before;
        self.table.begin(moment, threshold);
    }

    /// Gives each candidate from the place `first` on, `most` of them at most, the estimate that `look` has of it. It
    /// leaves if that is 0. Returns the place after the last one, or `None` at the end.
    pub(super) fn look_through(
        &mut self,
        first: usize,
        most: usize,
        mut look: impl FnMut(KeyHash) -> u64,
    ) -> Option<usize> {
        let slots = self.table.slots();
        let end = (first + most).min(slots.len());
        let mut has_left = false;
        for slot in &slots[first..end] {
            if slot.estimate() == 0 {
                continue;
            }
            self.mark_if_due(slot);
            let estimate = look(KeyHash::of_halves(slot.hash()));
            slot.set_estimate(estimate);
            has_left |= estimate == 0;
        }
        let next = (end < slots.len()).then_some(end);
        if has_left {
            self.tidy();
        }
        next
    }

    /// Finds the threshold anew, after the estimates have become smaller: as many candidates leave as if there were no
    /// room, and where there are few anyway, each key may enter.
    pub(super) fn settle(&mut self) {
        let left = self.let_leave();
        self.table.raise(self.moment, left);
        self.clear();
        self.threshold = left;
    }

    /// Puts those candidates at the end of `order` of which the places are needed, and returns the largest of their
    /// estimates.
    fn let_leave(&mut self) -> u64 {
        let slots = self.table.slots();
        let stay = slots.len() - slots.len().div_ceil(LEAVING_PART);
        self.order.clear();
        let taken = (0..slots.len()).filter(|&place| slots[place].estimate() > 0);
        self.order.extend(taken.map(|place| place as Place));
        let Some(leaving) = self.order.len().checked_sub(stay).filter(|&it| it > 0) else {
            self.order.clear();
            return 0;
        };
        let rank = |place: &Place| {
            let slot = &slots[usize::from(*place)];
            (slot.estimate(), slot.certain())
        };
        let (_, largest, _) = self
            .order
            .select_nth_unstable_by_key(leaving - 1, |place| rank(place));
        let largest = rank(largest).0;
        self.order.truncate(leaving);
        largest
    }

    fn raise(&mut self, threshold: u64) {
        self.threshold = self.threshold.max(threshold);
        self.table.raise(self.moment, self.threshold);
    }

    /// Clears the places in `order`.
    fn clear(&mut self) {
        if self.order.is_empty() {
            return;
        }
        for &place in &self.order {
            self.table.slots()[usize::from(place)].set_estimate(0);
        }
        self.tidy();
    }

    fn mark_if_due(&self, slot: &Slot) {
        if slot.marked() < self.mark_before {
            slot.mark(self.moment);
        }
    }

    fn enter(&mut self, hash: [u64; 2], estimate: u64, weight: u64) {
        let Some(place) = self.free.pop() else {
            return;
        };
        let began = Mark {
            begun: self.moment,
            certain: 0,
        };
        self.table.slots()[usize::from(place)].put(&Candidate {
            hash,
            estimate,
            certain: weight,
            marks: [began; 2],
        });
        self.table.note_entered();
        self.insert(hash, place);
    }

    fn find(&self, hash: [u64; 2]) -> Option<usize> {
        let mut at = self.home(hash);
        // There are twice as many entries as places, so one of them is empty.
        loop {
            let place = self.index[at];
            if place == NONE {
                return None;
            }
            let place = usize::from(place);
            if self.table.slots()[place].hash() == hash {
                return Some(place);
            }
            at = (at + 1) % self.index.len();
        }
    }

    fn insert(&mut self, hash: [u64; 2], place: Place) {
        let mut at = self.home(hash);
        while self.index[at] != NONE {
            at = (at + 1) % self.index.len();
        }
        self.index[at] = place;
    }

    /// The first entry where a hash may be. Both halves count: of some families the lower one alone is no hash.
    fn home(&self, [low, high]: [u64; 2]) -> usize {
        // Fibonacci hashing; the length is a power of two.
        let mixed = (low ^ high).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed >> 32) as usize & (self.index.len() - 1)
    }

    /// Finds out which places are free, and makes the index anew.
    fn tidy(&mut self) {
        self.index.fill(NONE);
        self.free.clear();
        for place in (0..self.table.slots().len()).rev() {
            let slot = &self.table.slots()[place];
            if slot.estimate() == 0 {
                self.free.push(place as Place);
            } else {
                let hash = slot.hash();
                self.insert(hash, place as Place);
            }
        }
    }
}
