//! The growth of slices that were learnt.

use rmbd_proto::cluster::Fold;

use super::growth::Growth;
use super::{AgePlan, GroupAges, GrowthHistory, Mark, Marks, Moment, old_parts};
use crate::memory::MemoryShare;

/// The marks that all learnt slices share, by our own clock. Each slice has a [`GrowthHistory`] of its own.
#[derive(Debug, Clone)]
pub(crate) struct LearntGrowth {
    marks: Marks,
    fold: Fold,
}

impl LearntGrowth {
    pub(crate) fn new(plan: AgePlan, now: Moment) -> Self {
        Self {
            fold: plan.fold(),
            marks: Marks::dated_back(plan, now),
        }
    }

    /// Growth that belongs to marks which were made before.
    pub(crate) fn with_marks(marks: Marks) -> Self {
        Self {
            fold: marks.plan().fold(),
            marks,
        }
    }

    /// Takes marks in that were made before this start, the oldest first, in place of those that were dated back as far
    /// as these reach. Nothing has the number of a mark yet.
    pub(crate) fn restore(&mut self, made: &[Moment], now: Moment) {
        let last = made.last().copied();
        let dated_back = self.marks.youngest_first().map(|mark| mark.at);
        let mut later: Vec<Moment> = dated_back
            .filter(|&at| last.is_none_or(|last| at > last))
            .collect();
        later.reverse();
        let all = made.iter().copied().chain(later);
        self.marks = Marks::restored(self.marks.plan().clone(), all.map(|at| (at, 0)), now);
    }

    pub(crate) fn fold(&self) -> Fold {
        self.fold
    }

    pub(crate) fn marks(&self) -> &Marks {
        &self.marks
    }

    /// Makes a mark if a step has passed: all that is here now had been reached by now.
    pub(crate) fn end_step(&mut self, now: Moment) {
        if self.marks.is_due(now) {
            self.marks.push(now, 0);
        }
    }

    /// Notes that cells of a group of a slice have grown; `growth` has all cells of the group, of which the first one
    /// has the index `first_cell` in the slice. `ages` is what the parcel says of the group.
    pub(crate) fn note(
        &self,
        history: &mut GrowthHistory,
        memory: &MemoryShare,
        (group, first_cell): (u32, u32),
        growth: &[u64],
        ages: &GroupAges<'_>,
    ) {
        let place = (group, self.fold.folded(growth.len()));
        let first_folded = first_cell as usize >> self.fold.bits();
        history.change(&self.marks, memory, place, |known: &mut Growth| {
            let fold = (first_cell, self.fold.cells());
            old_parts(growth, fold, ages, |index, grown, reached| {
                // From the youngest down: what had not been reached by a mark belongs to the one before it.
                let (mut number, mut left) = (self.marks.next_number(), grown);
                for reached in reached {
                    known.add(number, index - first_folded, left - reached.part);
                    (number, left) = (self.marks.number_at(reached.at), reached.part);
                }
                known.add(number, index - first_folded, left);
            });
        });
    }

    /// The marks that are worth telling somebody of a slice, the youngest first.
    pub(crate) fn marks_of(&self, history: &GrowthHistory, now: Moment) -> Vec<Mark> {
        let step_ms = self.marks.plan().step_ms();
        let marks = history.marks_of(&self.marks);
        marks
            .filter(|mark| mark.at.age_ms(now) >= step_ms)
            .collect()
    }
}
