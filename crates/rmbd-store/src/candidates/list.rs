//! A thread's own side of one list: its threshold, and who leaves.

use rmbd_sketch::{Geometry, KeyHash};

use super::keys::{Keys, Place};
use super::looks::Slack;
use super::slot::Mark;
use super::table::Bound;

/// Of so many candidates one leaves where there is no room: those with the least estimates.
const LEAVING_PART: usize = 4;
/// So many keys are looked at in vain before the threshold is compared with the floor, which grows with all that is
/// added.
const IN_VAIN_MAX: u32 = 64;

/// The slack of a list is at least one in so many of all that was added: so small a part of it is nobody's whose key
/// is among the largest.
const SLACK_SHARE: u64 = 1 << 13;

/// How often the least estimates are renewed before all are.
const RENEWALS: usize = 4;

/// One list of a thread's candidates. It allocates when it is made, and never again.
#[derive(Debug)]
pub(super) struct List {
    /// A key enters only with an estimate above this.
    threshold: u64,
    slack: Slack,
    /// The moment that began last.
    moment: u64,
    /// Candidates whose later mark was made before this moment get another.
    mark_before: u64,
    /// Keys that were looked at and did not enter.
    in_vain: u32,
    number: usize,
    candidates: usize,
    candidates_max: usize,
    /// Where candidates are sorted, and which of them have an estimate of now.
    order: Vec<Place>,
    is_fresh: Box<[bool]>,
}

/// What is small beside all that was added.
#[derive(Debug, Clone, Copy)]
pub(super) struct Floor {
    /// Estimates up to this may be nothing but strangers.
    threshold: u64,
    slack: u64,
}

impl Floor {
    /// Where so much was added to a sketch of this size.
    pub(super) fn of(geometry: Geometry, weight: u64) -> Self {
        Self {
            threshold: (geometry.epsilon() * weight as f64) as u64,
            slack: weight / SLACK_SHARE,
        }
    }
}

impl List {
    /// Goes on with a list of so many candidates at most, at a moment from which this bound is in force.
    pub(super) fn new(
        keys: &Keys,
        number: usize,
        candidates_max: usize,
        (moment, bound): (u64, Bound),
    ) -> Self {
        let entries = keys.list(number).entries();
        let mut list = Self {
            threshold: bound.threshold,
            slack: Slack::at_most(bound.slack),
            moment,
            mark_before: 0,
            in_vain: 0,
            number,
            candidates: entries.iter().filter(|entry| entry.estimate() > 0).count(),
            candidates_max,
            order: Vec::with_capacity(entries.len()),
            is_fresh: vec![false; entries.len()].into(),
        };
        list.begin(keys, moment, 0);
        list
    }

    /// The estimate above which a key becomes a candidate.
    #[inline]
    pub(super) fn threshold(&self) -> u64 {
        self.threshold
    }

    /// One unit of weight in so many is to be looked at.
    pub(super) fn look_every(&self) -> u64 {
        self.slack.look_every()
    }

    /// Whether the key at a place is a candidate of this list.
    pub(super) fn has(&self, keys: &Keys, place: Place) -> bool {
        keys.entry(self.number, place).estimate() > 0
    }

    /// From this moment on what is in force counts, and candidates get marks that have none since another.
    pub(super) fn begin(&mut self, keys: &Keys, moment: u64, mark_before: u64) {
        self.moment = moment;
        self.mark_before = mark_before;
        keys.list(self.number).begin(moment, self.bound());
    }

    /// Nothing counts of what was added before.
    pub(super) fn forget(&mut self) {
        (self.threshold, self.slack) = (0, Slack::default());
    }

    /// A key has this estimate, and is no candidate of this list. Makes room for it and returns true if it is above the
    /// threshold. `estimate_of` tells what a candidate's estimate is now; threshold and slack are at least those of
    /// `floor` once all places were taken.
    pub(super) fn admits(
        &mut self,
        keys: &mut Keys,
        estimate: u64,
        estimate_of: impl FnMut(KeyHash) -> u64,
        floor: impl FnOnce() -> Floor,
    ) -> bool {
        if estimate > self.threshold && self.candidates >= self.candidates_max {
            let left = self.let_leave(keys, estimate_of);
            self.raise(keys, left, floor());
            self.clear(keys);
        } else if estimate <= self.threshold {
            self.in_vain = self.in_vain.wrapping_add(1);
            if self.in_vain.is_multiple_of(IN_VAIN_MAX) {
                // The threshold is not 0, so all places were taken once.
                self.raise(keys, 0, floor());
            }
        }
        estimate > self.threshold
    }

    /// The key at a place becomes a candidate, of which so much was certain before it was added.
    pub(super) fn enter(&mut self, keys: &Keys, place: Place, estimate: u64, certain: u64) {
        let moment = self.moment;
        keys.entry(self.number, place)
            .enter(estimate, Mark { moment, certain });
        keys.list(self.number).note_entered();
        self.candidates += 1;
    }

    /// Gives each candidate from the place `first` on, of so many places, the estimate that `look` has of it. It
    /// leaves if that is 0. Returns the next place, or `None` at the end.
    pub(super) fn look_through(
        &mut self,
        keys: &mut Keys,
        first: Place,
        places: Place,
        mut look: impl FnMut(KeyHash) -> u64,
    ) -> Option<Place> {
        let all = keys.list(self.number).entries().len() as Place;
        let end = (first + places).min(all);
        let before = self.candidates;
        for place in first..end {
            if self.has(keys, place) {
                self.mark_if_due(keys, place);
                let estimate = look(KeyHash::of_halves(keys.slot(place).hash()));
                keys.entry(self.number, place).set_estimate(estimate);
                self.candidates -= usize::from(estimate == 0);
            }
        }
        if self.candidates < before {
            keys.tidy();
        }
        (end < all).then_some(end)
    }

    /// Finds the threshold anew, after the estimates have become smaller: as many candidates leave as if there were no
    /// room, and where there are few anyway, each key may enter.
    pub(super) fn settle(&mut self, keys: &mut Keys) {
        let number = self.number;
        let left = self.order(keys);
        (self.threshold, self.slack) = (left, slack_of(left, 0));
        keys.list(number).raise(self.moment, self.bound());
        self.clear(keys);
    }

    /// Marks a candidate if its later mark is old.
    #[inline]
    pub(super) fn mark_if_due(&self, keys: &Keys, place: Place) {
        let entry = keys.entry(self.number, place);
        if entry.marked() < self.mark_before {
            let (moment, certain) = (self.moment, keys.slot(place).certain());
            entry.mark(Mark { moment, certain });
        }
    }

    /// Puts those that are to leave into `order`, and returns the largest of their estimates, which are those of now.
    fn let_leave(&mut self, keys: &Keys, mut estimate_of: impl FnMut(KeyHash) -> u64) -> u64 {
        let number = self.number;
        self.is_fresh.fill(false);
        let mut renew = |place: Place, is_fresh: &mut bool| {
            if !std::mem::replace(is_fresh, true) {
                let estimate = estimate_of(KeyHash::of_halves(keys.slot(place).hash()));
                keys.entry(number, place).set_estimate(estimate.max(1));
            }
        };
        // Mostly the least ones are soon found. Estimates of all time only grow, and large ones need not be renewed.
        for _ in 0..RENEWALS {
            let largest = self.order(keys);
            let mut leaving = self.order.iter();
            if leaving.all(|&place| self.is_fresh[place as usize]) {
                return largest;
            }
            for &place in &self.order {
                renew(place, &mut self.is_fresh[place as usize]);
            }
        }
        for (place, is_fresh) in (0..).zip(&mut self.is_fresh) {
            if keys.entry(number, place).estimate() > 0 {
                renew(place, is_fresh);
            }
        }
        self.order(keys)
    }

    /// The same with estimates as they are.
    fn order(&mut self, keys: &Keys) -> u64 {
        let entries = keys.list(self.number).entries();
        let stay = self.candidates_max - self.candidates_max.div_ceil(LEAVING_PART);
        let leaving = self.candidates.saturating_sub(stay);
        self.order.clear();
        if leaving == 0 {
            return 0;
        }
        let is_candidate = |&place: &Place| entries[place as usize].estimate() > 0;
        let places = (0..entries.len() as Place).filter(is_candidate);
        self.order.extend(places);
        let rank = |place: &Place| {
            let estimate = entries[*place as usize].estimate();
            (estimate, keys.slot(*place).certain())
        };
        let (_, largest, _) = self.order.select_nth_unstable_by_key(leaving - 1, rank);
        let (largest, _) = rank(largest);
        self.order.truncate(leaving);
        largest
    }

    fn raise(&mut self, keys: &Keys, left: u64, floor: Floor) {
        self.threshold = self.threshold.max(left).max(floor.threshold);
        self.slack = slack_of(self.threshold, floor.slack);
        keys.list(self.number).raise(self.moment, self.bound());
    }

    /// Those in `order` leave.
    fn clear(&mut self, keys: &mut Keys) {
        if self.order.is_empty() {
            return;
        }
        for &place in &self.order {
            keys.entry(self.number, place).set_estimate(0);
        }
        self.candidates -= self.order.len();
        keys.tidy();
    }

    fn bound(&self) -> Bound {
        Bound {
            threshold: self.threshold,
            slack: self.slack.weight(),
        }
    }
}

/// A half of the threshold: so that hardly any key is listed late, and few adds are looked at.
fn slack_of(threshold: u64, least: u64) -> Slack {
    Slack::at_most((threshold / 2).max(least))
}
