//! The growth of our own slice, which passes feed.
//!
//! A pass meets cells that have grown every time it comes by, and a step has many passes. So growth since the last mark
//! is added up in a flat table of folded cells: one addition for a cell that has changed. When a mark was made, the
//! next pass packs each group's sums before it adds to them again.

use rmbd_proto::cluster::{CELL_MAX, Fold, GROUP_CELLS};
use rmbd_sketch::Geometry;

use super::growth::added;
use super::{AgePlan, GrowthHistory, LearntGrowth, Mark, Marks, Moment};
use crate::memory::{MemoryShare, try_zeroed};
use crate::{NoMemory, WindowPlan};

/// Bytes of a sum.
const SUM_BYTES: u64 = 4;

/// Bytes that a sketch in a cluster takes from its start for the ages of its own slice: the sums of its growth since
/// the last mark. What is packed of earlier growth comes as there is some. 0 without windows.
#[must_use]
pub fn ages_memory_bytes(geometry: Geometry, windows: &[WindowPlan]) -> u64 {
    AgePlan::own(windows).map_or(0, |plan| {
        plan.fold().folded(geometry.cells()) as u64 * SUM_BYTES
    })
}

/// What our own slice has grown by, and when.
#[derive(Debug)]
pub(crate) struct OwnGrowth {
    marks: Marks,
    history: GrowthHistory,
    /// Growth of each folded cell; the largest number means that or more.
    sums: Box<[u32]>,
    fold: Fold,
    cells: usize,
    /// The groups from this one on have not been met since the last mark: their sums belong to it.
    packed_until: usize,
}

impl OwnGrowth {
    /// A slice that has not grown yet.
    ///
    /// # Errors
    /// [`NoMemory`], where there is none for the sums.
    pub(crate) fn try_new(
        plan: AgePlan,
        geometry: Geometry,
        memory: &MemoryShare,
        now: Moment,
    ) -> Result<Self, NoMemory> {
        let (fold, cells) = (plan.fold(), geometry.cells());
        let folded = fold.folded(cells);
        let bytes = folded as u64 * SUM_BYTES;
        memory.reserve(bytes)?;
        let sums = try_zeroed(folded).inspect_err(|_| memory.release(bytes))?;
        Ok(Self {
            marks: Marks::new(plan, now),
            history: GrowthHistory::default(),
            sums,
            fold,
            cells,
            packed_until: cells.div_ceil(GROUP_CELLS),
        })
    }

    /// Takes marks in that were made before this start, the oldest first, with the versions that the slice had; and
    /// gives what the growth until now is to be noted with. Nothing has grown yet.
    pub(crate) fn restore(
        &mut self,
        made: impl Iterator<Item = (Moment, u64)>,
        now: Moment,
    ) -> LearntGrowth {
        self.marks = Marks::restored(self.marks.plan().clone(), made, now);
        LearntGrowth::with_marks(self.marks.clone())
    }

    /// Takes the growth of before this start in; returns the highest number that it may have.
    pub(crate) fn go_on_from(&mut self, history: GrowthHistory) -> u64 {
        self.history = history;
        self.marks.next_number() - 1
    }

    /// Gives the growth with this number or a lower one to the history of a learnt slice.
    pub(crate) fn give_until(
        &mut self,
        last_number: u64,
        learnt: &LearntGrowth,
        memory: &MemoryShare,
    ) -> GrowthHistory {
        let (fold, cells) = (self.fold, self.cells);
        let folded = |group: u32| folded_of(fold, cells, group as usize).len();
        self.history
            .give_until(last_number, &self.marks, learnt.marks(), memory, folded)
    }

    /// All marks that say something, the youngest first.
    pub(crate) fn all_marks(&self) -> impl Iterator<Item = Mark> + '_ {
        self.history.marks_of(&self.marks)
    }

    /// All marks, the oldest first, with the version of each.
    pub(crate) fn marks(&self) -> impl Iterator<Item = Mark> + '_ {
        let marks: Vec<Mark> = self.marks.youngest_first().collect();
        marks.into_iter().rev()
    }

    /// A pass comes to a group. It comes to all groups in order.
    #[inline]
    pub(crate) fn begin_group(&mut self, group: usize, memory: &MemoryShare) {
        if group >= self.packed_until {
            self.pack(group, memory);
            self.packed_until = group + 1;
        }
    }

    /// A pass has found that a cell of the group that it has come to has grown.
    #[inline]
    pub(crate) fn note(&mut self, index: u32, growth: u64) {
        let growth = u32::try_from(growth).unwrap_or(u32::MAX);
        if let Some(sum) = self.sums.get_mut(index as usize >> self.fold.bits()) {
            *sum = sum.saturating_add(growth);
        }
    }

    /// Whether a step has passed since the last mark.
    pub(crate) fn is_due(&self, now: Moment) -> bool {
        self.marks.is_due(now)
    }

    /// Makes a mark of a version if a step has passed since the last one and something has grown; if nothing has, marks
    /// that are too old go all the same, and with them what is kept of their growth. No pass is under way, and `now`
    /// was read after the last one had read its last cell.
    pub(crate) fn end_step(&mut self, now: Moment, version: u64) {
        if version <= self.marks.version() {
            return self.marks.drop_old(now);
        }
        if self.marks.is_due(now) {
            let groups = self.cells.div_ceil(GROUP_CELLS);
            debug_assert_eq!(
                self.packed_until, groups,
                "a pass has met all groups since then"
            );
            self.marks.push(now, version);
            self.packed_until = 0;
        }
    }

    /// The marks that are worth telling somebody who has all until version `base`, the youngest first. What is younger
    /// than a step is not told: a window that has it in it is at most a step too long. So there are none where all that
    /// is lacking is of the last step.
    pub(crate) fn marks_since(&self, now: Moment, base: u64) -> Vec<Mark> {
        let step_ms = self.marks.plan().step_ms();
        let marks = self.history.marks_of(&self.marks);
        let marks = marks.take_while(|mark| mark.version > base);
        let mut marks: Vec<Mark> = marks.collect();
        let young = marks.partition_point(|mark| mark.at.age_ms(now) < step_ms);
        marks.drain(..young);
        marks
    }

    /// Puts the growth of a group since each of the chosen marks into `out`: see [`GrowthHistory::increments`].
    pub(crate) fn increments(&self, group: u32, chosen: &[Mark], out: &mut Vec<u64>) {
        let folded = self.folded(group as usize);
        self.history.increments(chosen, (group, folded.len()), out);
        let number = self.number(group as usize);
        let at = chosen.partition_point(|mark| mark.number >= number);
        let since = out.chunks_mut(folded.len().max(1)).nth(at);
        if let Some(since) = since {
            for (since, &sum) in since.iter_mut().zip(&self.sums[folded.clone()]) {
                *since = added(*since, wide(sum));
            }
        }
    }

    /// Frees some of what belongs to marks that are gone: see [`GrowthHistory::tidy`].
    pub(crate) fn tidy(&mut self, memory: &MemoryShare, groups_max: usize) -> usize {
        let (fold, cells) = (self.fold, self.cells);
        let folded = |group: u32| folded_of(fold, cells, group as usize).len();
        self.history.tidy(&self.marks, memory, groups_max, folded)
    }

    /// The number of the growth that a group's sums hold.
    fn number(&self, group: usize) -> u64 {
        let next = self.marks.next_number();
        if group >= self.packed_until {
            next - 1
        } else {
            next
        }
    }

    fn folded(&self, group: usize) -> std::ops::Range<usize> {
        folded_of(self.fold, self.cells, group)
    }

    fn pack(&mut self, group: usize, memory: &MemoryShare) {
        let folded = self.folded(group);
        let number = self.number(group);
        let sums = &mut self.sums[folded];
        if sums.iter().all(|&sum| sum == 0) {
            return;
        }
        let mut cells = [0; GROUP_CELLS];
        let cells = &mut cells[..sums.len()];
        for (cell, sum) in cells.iter_mut().zip(sums.iter()) {
            *cell = wide(*sum);
        }
        let place = (group as u32, number);
        self.history.append(&self.marks, memory, place, cells);
        sums.fill(0);
    }
}

/// A sum that is the largest number may be any larger one.
fn wide(sum: u32) -> u64 {
    if sum == u32::MAX {
        CELL_MAX
    } else {
        sum.into()
    }
}

/// The folded cells of a group, in a slice of so many cells.
fn folded_of(fold: Fold, cells: usize, group: usize) -> std::ops::Range<usize> {
    let start = (group * GROUP_CELLS).min(cells);
    let end = (start + GROUP_CELLS).min(cells);
    start >> fold.bits()..fold.folded(end)
}
