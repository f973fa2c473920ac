//! The marks that slices share.

use std::collections::VecDeque;

use super::{AgePlan, Moment};

/// A moment at which a version of a slice, or more of it, was there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// Numbers ascend with time.
    pub number: u64,
    /// When it was made, or later.
    pub at: Moment,
    /// The version that our own slice had; 0 in marks of learnt slices.
    pub version: u64,
}

/// Marks, the oldest first. There is always one, and numbers without a mark belong to the next one that has one.
#[derive(Debug, Clone)]
pub(crate) struct Marks {
    plan: AgePlan,
    marks: VecDeque<Mark>,
    next: u64,
}

impl Marks {
    /// One mark, which is made now.
    pub(crate) fn new(plan: AgePlan, now: Moment) -> Self {
        let mut marks = Self {
            plan,
            marks: VecDeque::new(),
            next: 0,
        };
        marks.push(now, 0);
        marks
    }

    /// Marks as if they had been made for as long as they are kept.
    pub(crate) fn dated_back(plan: AgePlan, now: Moment) -> Self {
        let mut age_ms = plan.kept_ms();
        let mut marks = Self::new(plan, now.before(age_ms));
        while age_ms > 0 {
            age_ms = age_ms.saturating_sub(marks.plan.gap_ms(age_ms).max(1));
            marks.push(now.before(age_ms), 0);
        }
        marks
    }

    /// Marks that were made at these moments, the oldest first, and one that is made now. What lies later than now was
    /// made now.
    pub(crate) fn restored(
        plan: AgePlan,
        made: impl Iterator<Item = (Moment, u64)>,
        now: Moment,
    ) -> Self {
        let mut marks = Self {
            plan,
            marks: VecDeque::new(),
            next: 0,
        };
        let mut version = 0;
        for (at, made_version) in made {
            version = made_version.max(version);
            marks.append(at.min(now), version);
        }
        marks.append(now, version);
        marks.thin(now);
        marks
    }

    pub(crate) fn plan(&self) -> &AgePlan {
        &self.plan
    }

    /// The number that growth of now has: that of the next mark.
    pub(crate) fn next_number(&self) -> u64 {
        self.next
    }

    /// Whether a step has passed since the last mark was made.
    pub(crate) fn is_due(&self, now: Moment) -> bool {
        let last = self.marks.back();
        last.is_none_or(|last| last.at.age_ms(now) >= self.plan.step_ms())
    }

    /// Makes a mark, and drops those that are not needed any more.
    pub(crate) fn push(&mut self, now: Moment, version: u64) {
        let at = self.append(now, version);
        self.thin(at);
    }

    /// The version of the youngest mark.
    pub(crate) fn version(&self) -> u64 {
        self.marks.back().map_or(0, |mark| mark.version)
    }

    /// The marks, the youngest first.
    pub(crate) fn youngest_first(&self) -> impl Iterator<Item = Mark> + '_ {
        self.marks.iter().rev().copied()
    }

    /// The number of the oldest mark: growth with this number, or a lower one, need not be kept.
    pub(crate) fn oldest(&self) -> u64 {
        self.marks.front().map_or(self.next, |mark| mark.number)
    }

    /// The number of the mark to which growth with this number belongs now.
    pub(crate) fn round_up(&self, number: u64) -> u64 {
        let at = self.marks.partition_point(|mark| mark.number < number);
        self.marks.get(at).map_or(self.next, |mark| mark.number)
    }

    /// By when growth with this number had been reached; `None` where it may be of just now.
    pub(crate) fn reached_at(&self, number: u64) -> Option<Moment> {
        let at = self.marks.partition_point(|mark| mark.number < number);
        self.marks.get(at).map(|mark| mark.at)
    }

    /// The number of growth that had been reached at a moment.
    pub(crate) fn number_at(&self, moment: Moment) -> u64 {
        let at = self.marks.partition_point(|mark| mark.at < moment);
        self.marks.get(at).map_or(self.next, |mark| mark.number)
    }

    fn append(&mut self, now: Moment, version: u64) -> Moment {
        // A clock that goes back makes marks younger, which is safe.
        let at = self.marks.back().map_or(now, |last| last.at.max(now));
        self.marks.push_back(Mark {
            number: self.next,
            at,
            version,
        });
        self.next += 1;
        at
    }

    fn thin(&mut self, now: Moment) {
        let mut at = 1;
        while at + 1 < self.marks.len() {
            let (older, younger) = (self.marks[at - 1].at, self.marks[at + 1].at);
            if older.age_ms(younger) <= self.plan.gap_ms(younger.age_ms(now)) {
                self.marks.remove(at);
            } else {
                at += 1;
            }
        }
        self.drop_old(now);
    }

    /// Drops marks that no window needs any more.
    pub(crate) fn drop_old(&mut self, now: Moment) {
        let kept_ms = self.plan.kept_ms();
        while let Some(second) = self.marks.get(1)
            && second.at.age_ms(now) >= kept_ms
        {
            self.marks.pop_front();
        }
    }
}
