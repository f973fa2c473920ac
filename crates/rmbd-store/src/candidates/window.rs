//! The list of a window, for a thread that adds: what counts in the window, and which adds it looks at.

use std::sync::atomic::Ordering::Acquire;

use rmbd_sketch::{CellIndexes, KeyHash};

use super::keys::{Keys, Place};
use super::list::List;
use crate::Replica;
use crate::windows::Ring;

/// Looks that a key gets while as much is added to it as the threshold: so many that it is without any with a chance of
/// e^-32 only, which is 10^-14.
const LOOKS: u64 = 32;
/// How often an add is looked at again whose snapshot was written again meanwhile.
const TRIES: usize = 4;
/// Places that are looked through in one pause: some ten microseconds of work at most.
const PLACES_A_PAUSE: Place = 128;

/// One thread's list of a window.
#[derive(Debug)]
pub(super) struct Window {
    /// Weight that is not looked at from now on; below 0 where an add is to be looked at.
    unseen: i64,
    list: List,
    since: Since,
    random: Random,
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

/// Random numbers that nobody can tell who does not know the seed (splitmix64: Steele, Lea & Flood 2014).
#[derive(Debug)]
struct Random(u64);

impl Window {
    /// Goes on with a list of the window of a ring.
    pub(super) fn new(
        keys: &Keys,
        replica: &Replica,
        (number, ring): (usize, usize),
        candidates_max: usize,
        seed: u64,
    ) -> Self {
        let since = Since::new(replica, ring);
        let begun = since.begun;
        Self {
            unseen: 0,
            list: List::new(keys, number, candidates_max, slack, (begun, 0)),
            since,
            random: Random(seed),
            next: None,
            looked_through: begun,
        }
    }

    /// Whether an add of this weight is looked at. Each unit of weight is with the same chance, whatever came before.
    #[inline]
    pub(super) fn sees(&mut self, weight: u64) -> bool {
        // Weights are small.
        self.unseen -= weight as i64;
        self.is_due()
    }

    /// Whether the add at hand is looked at.
    #[inline]
    pub(super) fn is_due(&self) -> bool {
        self.unseen < 0
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
        let is_in_window = begun - before <= ring.len();
        let threshold = if is_in_window {
            self.list.threshold()
        } else {
            0
        };
        let half = (ring.plan().steps() as u64).div_ceil(2);
        self.list.begin(keys, begun, threshold, begun + 1 - half);
        // An add that is to be looked at still is.
        if !self.is_due() {
            self.draw();
        }
    }

    #[cold]
    fn look_through(&mut self, keys: &mut Keys, replica: &Replica, first: Place) {
        let since = &self.since;
        let look = |hash| since.estimate_of(replica, hash);
        self.next = self.list.look_through(keys, first, PLACES_A_PAUSE, look);
        if self.next.is_none() {
            self.list.settle(keys);
            // The threshold may be lower now.
            self.draw();
        }
    }

    /// Draws how much weight is not looked at from now on.
    pub(super) fn draw(&mut self) {
        self.unseen = match look_every(self.list.threshold()) {
            1 => 0,
            every => self.random.gap(every),
        };
    }
}

/// With a threshold, one unit of weight in so many is looked at.
fn look_every(threshold: u64) -> u64 {
    (threshold / LOOKS).max(1)
}

/// What may be added to a key above a threshold before it is looked at.
fn slack(threshold: u64) -> u64 {
    match look_every(threshold) {
        1 => 0,
        every => every * LOOKS,
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

    /// Epsilon * N of the window.
    fn floor(&self, replica: &Replica) -> u64 {
        let ring = &replica.windows.rings()[self.ring];
        let weight = replica.slices_weight();
        let weight = weight.saturating_sub(ring.weight_before(self.number));
        (ring.plan().geometry().epsilon() * weight as f64) as u64
    }
}

impl Random {
    /// A weight that no look falls into, where one unit in `every` is looked at.
    fn gap(&mut self, every: u64) -> i64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^= mixed >> 31;
        // From 0 on and below 1, in steps of 2^-53; at the least one it is infinite, and `as` clamps.
        let uniform = (mixed >> 11) as f64 / (1_u64 << 53) as f64;
        (-uniform.ln() * every as f64) as i64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gaps are as long as they should be, and long ones as rare.
    #[test]
    fn one_unit_in_so_many_is_looked_at() {
        let mut random = Random(7);
        for every in [2, 100, 1 << 20] {
            let gaps: Vec<i64> = (0..100_000).map(|_| random.gap(every)).collect();
            let mean = gaps.iter().sum::<i64>() as f64 / gaps.len() as f64;
            let expected = 1.0 / (1.0 / every as f64).exp_m1();
            assert!((mean / expected - 1.0).abs() < 0.02, "{every}: {mean}");
            let long = gaps.iter().filter(|&&gap| gap >= 5 * every as i64).count();
            let share = long as f64 / gaps.len() as f64;
            assert!(share > 0.005 && share < 0.0085, "{every}: {share}");
        }
    }

    #[test]
    fn where_little_counts_each_add_is_looked_at() {
        for threshold in 0..2 * LOOKS {
            assert_eq!((look_every(threshold), slack(threshold)), (1, 0));
        }
        assert_eq!((look_every(6_400), slack(6_400)), (200, 6_400));
    }
}
