//! How old what slices count is: marks, what goes along with the cells of a slice, and what comes with them.

use std::time::Duration;

use rmbd_proto::cluster::{Fold, GROUP_CELLS, SliceId};

use super::groups::Keep;
use super::{SliceRefused, Slices};
use crate::ages::{AgePlan, GroupAges, LearntGrowth, Mark, Moment, OwnGrowth};
use crate::{NoMemory, WindowPlan};

/// Nothing is known: all may have been counted just now.
pub(super) const YOUNG: GroupAges<'static> = GroupAges {
    fold: Fold::NONE,
    marks: &[],
    increments: &[],
};

impl Slices {
    /// Keeps ages from now on, for windows of these plans; without a window it does nothing. It is called before
    /// anything is published or merged.
    ///
    /// # Errors
    ///
    /// Fails with [`NoMemory`], and does nothing, where there is none for the sums of our own growth.
    pub fn keep_ages(&mut self, windows: &[WindowPlan], now: Duration) -> Result<(), NoMemory> {
        let (Some(own), Some(learnt)) = (AgePlan::own(windows), AgePlan::learnt(windows)) else {
            return Ok(());
        };
        let (now, memory) = (Moment::of(now), &self.replica.memory);
        self.own.growth = Some(OwnGrowth::try_new(own, self.geometry, memory, now)?);
        self.learnt_growth = Some(LearntGrowth::new(learnt, now));
        Ok(())
    }

    /// Whether a mark of our own slice is due, and something was added that no version has: then a pass should come,
    /// whose version it marks.
    #[must_use]
    pub fn wants_mark(&self, now: Duration) -> bool {
        let growth = self.own.growth.as_ref();
        let is_due = growth.is_some_and(|growth| growth.is_due(Moment::of(now)));
        is_due && self.own.is_behind(self.replica.own())
    }

    /// Makes marks where a step has passed: of our own slice only between two passes. The caller has read `now` after
    /// the last call of [`publish`](Self::publish) has returned. To be called once a step at least.
    pub fn end_step(&mut self, now: Duration) {
        let now = Moment::of(now);
        if !self.own.is_passing() {
            let version = self.own.version();
            if let Some(growth) = &mut self.own.growth {
                growth.end_step(now, version);
            }
        }
        if let Some(learnt) = &mut self.learnt_growth {
            learnt.end_step(now);
        }
    }

    /// Merges cells of one group of a slice, like [`merge`](Self::merge), or [`merge_live`](Self::merge_live) where
    /// they come from the slice's writer. `ages` tells how old their values are; cells of other groups are left out.
    ///
    /// # Errors
    ///
    /// Like [`merge`](Self::merge).
    pub fn merge_aged(
        &mut self,
        slice: &SliceId,
        group: u32,
        cells: impl Iterator<Item = (u32, u64)>,
        ages: &GroupAges<'_>,
        is_live: bool,
    ) -> Result<u64, SliceRefused> {
        let keep = if is_live { Keep::Flat } else { Keep::Packed };
        let cells = cells.filter(|(index, _)| index / GROUP_CELLS as u32 == group);
        self.merge_with(slice, cells, keep, *ages)
    }

    /// The fold of the increments that are told; `None` where no ages are kept.
    #[must_use]
    pub fn ages_fold(&self) -> Option<Fold> {
        self.learnt_growth.as_ref().map(LearntGrowth::fold)
    }

    /// The marks that go along with cells of a slice, the youngest first, for somebody who has all of it until version
    /// `base`. There are none where all that is lacking is of the last step: then the cells go alone. Any choice of
    /// these marks is right, too. Of learnt slices `base` is not looked at.
    #[must_use]
    pub fn marks_since(&self, slice: &SliceId, base: u64, now: Duration) -> Vec<Mark> {
        let now = Moment::of(now);
        if *slice == self.own_slice() {
            let growth = self.own.growth.as_ref();
            return growth.map_or_else(Vec::new, |growth| growth.marks_since(now, base));
        }
        let held = self.known(slice).and_then(|known| known.held.as_ref());
        match (&self.learnt_growth, held) {
            (Some(learnt), Some(held)) => learnt.marks_of(&held.growth, now),
            _ => Vec::new(),
        }
    }

    /// Puts into `out` by how much the folded cells of a group have grown since each of the `chosen` marks, as
    /// [`GroupAges`] has it. The marks come from [`marks_since`](Self::marks_since) of the same slice, and nothing was
    /// merged, published or marked since then. The cells of the group are to be read now, too.
    pub fn increments(&self, slice: &SliceId, group: u32, chosen: &[Mark], out: &mut Vec<u64>) {
        out.clear();
        if *slice == self.own_slice() {
            let growth = self.own.growth.as_ref();
            return growth.map_or((), |growth| growth.increments(group, chosen, out));
        }
        let held = self.known(slice).and_then(|known| known.held.as_ref());
        if let (Some(learnt), Some(held)) = (&self.learnt_growth, held) {
            let cells = super::cells_of(group, self.geometry).len();
            let place = (group, learnt.fold().folded(cells));
            held.growth.increments(chosen, place, out);
        }
    }

    /// Frees memory of ages that no window needs any more. It looks at so many groups in all, of one slice after the
    /// other; the next call goes on there.
    pub fn tidy_ages(&mut self, groups_max: usize) {
        let (geometry, memory) = (self.geometry, &self.replica.memory);
        let Some(learnt) = &self.learnt_growth else {
            return;
        };
        let folded = |group| learnt.fold().folded(super::cells_of(group, geometry).len());
        let mut left = groups_max;
        for _ in 0..=self.known.len().min(groups_max) {
            let held = self.known.get_mut(self.tidied);
            let tidied = match (held.map(|known| known.held.as_mut()), &mut self.own.growth) {
                (Some(Some(held)), _) => (held.growth).tidy(learnt.marks(), memory, left, folded),
                (Some(None), _) | (None, None) => 0,
                (None, Some(own)) => own.tidy(memory, left),
            };
            if tidied >= left {
                return;
            }
            left -= tidied;
            // Behind the last learnt slice it is our own one's turn.
            self.tidied = (self.tidied + 1) % (self.known.len() + 1);
        }
    }
}
