//! One window's ring of snapshots.
//!
//! Snapshots are numbered in their order; number n stands in slot n mod the number of slots. All slots are filled from
//! the start, with snapshots of nothing. In which order what is read and written, and why, is in `turns`; marks go
//! with the cells of their snapshot.

use std::sync::atomic::{
    AtomicI64, AtomicU32, AtomicU64,
    Ordering::{Relaxed, Release},
};

use rmbd_sketch::{CellIndexes, PASS_WEIGHT_MAX, SketchError, prefetch_for_read};

use super::ns_of_ms;
use super::plan::WindowPlan;
use super::turns::Turns;
use crate::memory::try_zeroed;

/// The snapshots of one window.
#[derive(Debug)]
pub(crate) struct Ring {
    plan: WindowPlan,
    /// The cells of all slots, one slot after the other.
    slots: Box<[AtomicU32]>,
    /// Cells of a slot.
    slot_len: usize,
    marks: Box<[Mark]>,
    turns: Turns,
    /// When the next snapshot is to begin, after the one that is at hand.
    due_ns: AtomicI64,
    /// N when the youngest snapshot was begun, and how much N has grown since, as far as the writer has looked.
    weight: AtomicU64,
    growing: AtomicU64,
}

/// What is known of a snapshot. It is written before the snapshot is completed, and stands for that order.
#[derive(Debug)]
struct Mark {
    /// The time at which its copying ended.
    ended_ns: AtomicI64,
    /// The sum of the growths of all snapshots up to this one, mod 2^64. A snapshot's growth is at least that of each
    /// of its cells since the one before.
    growth: AtomicU64,
    /// N when it was begun, and what was booked to it since.
    weight: AtomicU64,
}

/// A snapshot that a reader has found. What is read from it holds if it is still [there](Ring::still_has) afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) number: u64,
    pub(super) ended_ns: i64,
    /// The next younger one, if there is one.
    pub(super) younger: Option<Younger>,
}

/// The snapshot after one that was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Younger {
    pub(super) number: u64,
    pub(super) ended_ns: i64,
}

impl Ring {
    /// A ring of empty snapshots, dated back by a step each.
    pub(super) fn try_new(plan: WindowPlan, started_ns: i64) -> Result<Self, SketchError> {
        let len = plan.snapshots();
        let cells = plan.geometry().cells();
        let step_ns = ns_of_ms(plan.step_ms());
        let mark = |number: usize| {
            let steps_ago = (len - 1 - number) as i64;
            Mark {
                ended_ns: AtomicI64::new(started_ns.saturating_sub(steps_ago * step_ns)),
                growth: AtomicU64::new(0),
                weight: AtomicU64::new(0),
            }
        };
        Ok(Self {
            plan,
            slots: try_zeroed(cells.saturating_mul(len))?,
            slot_len: cells,
            marks: (0..len).map(mark).collect(),
            turns: Turns::new(len as u64),
            due_ns: AtomicI64::new(started_ns.saturating_add(step_ns)),
            weight: AtomicU64::new(0),
            growing: AtomicU64::new(0),
        })
    }

    #[inline]
    pub(crate) fn plan(&self) -> &WindowPlan {
        &self.plan
    }

    /// Number of slots.
    #[inline]
    pub(crate) fn len(&self) -> u64 {
        self.marks.len() as u64
    }

    /// The youngest snapshot that ended at `from_ns` or before; `None` where there is none any more.
    #[inline]
    pub(super) fn find(&self, from_ns: i64, steps: u64) -> Option<Found> {
        let (oldest, youngest) = self.numbers();
        let ended_ns = |number| self.mark(number).ended_ns.load(Relaxed);
        // Most snapshots are a step apart, so that the first guess is seldom wrong by more than one.
        let mut number = youngest.saturating_sub(steps).max(oldest);
        while number > oldest && ended_ns(number) > from_ns {
            number -= 1;
        }
        let mut found_ns = ended_ns(number);
        if found_ns > from_ns {
            return None;
        }
        while number < youngest {
            let younger_ns = ended_ns(number + 1);
            if younger_ns > from_ns {
                return Some(Found {
                    number,
                    ended_ns: found_ns,
                    younger: Some(Younger {
                        number: number + 1,
                        ended_ns: younger_ns,
                    }),
                });
            }
            number += 1;
            found_ns = younger_ns;
        }
        Some(Found {
            number,
            ended_ns: found_ns,
            younger: None,
        })
    }

    /// The numbers of the oldest and the youngest snapshot. Their slots may be reused at any time.
    #[inline]
    pub(super) fn numbers(&self) -> (u64, u64) {
        self.turns.numbers()
    }

    /// Whether this snapshot is still the youngest. The caller has just asked whether the ring [still
    /// has](Self::still_has) what it has read.
    #[inline]
    pub(super) fn is_youngest(&self, number: u64) -> bool {
        self.turns.is_youngest(number)
    }

    /// Whether a snapshot is in its slot, completed, and was so while it was read.
    pub(crate) fn has(&self, number: u64) -> bool {
        let (_, youngest) = self.numbers();
        number <= youngest && self.still_has(number)
    }

    /// Whether a snapshot is still in its slot, and was so while it was read.
    #[inline]
    pub(super) fn still_has(&self, number: u64) -> bool {
        self.turns.still_has(number)
    }

    /// When the copying of a snapshot ended.
    #[inline]
    pub(crate) fn ended_ns(&self, number: u64) -> i64 {
        self.mark(number).ended_ns.load(Relaxed)
    }

    /// N when a snapshot was begun, and what was booked to it since.
    #[inline]
    pub(crate) fn weight_before(&self, number: u64) -> u64 {
        self.mark(number).weight.load(Relaxed)
    }

    /// The largest growth of a cell between two snapshots, as it was noted.
    pub(super) fn growth_between(&self, older: u64, younger: u64) -> u64 {
        let growth = |number| self.mark(number).growth.load(Relaxed);
        growth(younger).wrapping_sub(growth(older))
    }

    /// Whether a cell may have grown by 2^32 or more since a snapshot: by what was noted from there to the youngest,
    /// what N has grown by since that, and what may be added before the writer looks again. The caller then asks
    /// whether that one [is the youngest](Self::is_youngest) still.
    #[inline]
    pub(super) fn may_have_passed_2_to_32(&self, noted: u64) -> bool {
        let growing = self.growing.load(Relaxed);
        noted
            .saturating_add(growing)
            .saturating_add(PASS_WEIGHT_MAX)
            >> 32
            > 0
    }

    /// How many snapshots were begun. As long as no more [are](Self::are_begun), the oldest one in its slot reaches
    /// back a window and a little further.
    #[inline]
    pub(crate) fn begun(&self) -> u64 {
        self.turns.begun()
    }

    /// Whether so many snapshots are begun still, and no more were while something was read.
    #[inline]
    pub(crate) fn are_begun(&self, begun: u64) -> bool {
        self.turns.are_begun(begun)
    }

    /// The oldest snapshot that is in its slot as long as so many are begun, and that slot: the next one takes it.
    #[inline]
    pub(crate) fn oldest(&self, begun: u64) -> (u64, usize) {
        (begun - self.len(), self.slot_number(begun))
    }

    /// When the next snapshot is to begin, after the one that is at hand.
    pub(super) fn due_ns(&self) -> i64 {
        self.due_ns.load(Relaxed)
    }

    /// Whether a snapshot is being copied.
    pub(super) fn is_at_hand(&self) -> bool {
        self.turns.is_one_at_hand()
    }

    /// The cells of the slot in which a snapshot stands, or stood.
    #[inline]
    pub(super) fn slot(&self, number: u64) -> &[AtomicU32] {
        self.slot_at(self.slot_number(number))
    }

    /// The number of the slot in which a snapshot stands. This takes a division.
    #[inline]
    pub(super) fn slot_number(&self, number: u64) -> usize {
        (number % self.len()) as usize
    }

    /// The cells of a slot.
    #[inline]
    pub(crate) fn slot_at(&self, slot_number: usize) -> &[AtomicU32] {
        &self.slots[slot_number * self.slot_len..][..self.slot_len]
    }

    #[cfg(test)]
    pub(super) fn slots(&self) -> impl Iterator<Item = &[AtomicU32]> {
        self.slots.chunks(self.slot_len)
    }

    /// Starts to fetch what a reader of a key with these cells needs of a snapshot.
    #[inline]
    pub(super) fn prefetch(&self, slot_number: usize, cells: &CellIndexes) {
        let (slot, fold) = (self.slot_at(slot_number), self.plan.fold() as u32);
        for &cell in cells.as_slice() {
            if let Some(cell) = slot.get(folded(cell, fold) as usize) {
                prefetch_for_read(cell);
            }
        }
    }

    #[inline]
    fn mark(&self, number: u64) -> &Mark {
        &self.marks[self.slot_number(number)]
    }
}

/// The writer's calls. Only the one writer makes them.
impl Ring {
    /// Begins the next snapshot, and says when the one after it is due. Returns its number.
    pub(super) fn begin(&self, next_due_ns: i64) -> u64 {
        self.due_ns.store(next_due_ns, Relaxed);
        self.turns.begin()
    }

    /// Notes N as it is now: the writer looks whenever it has learnt something, and at the end of each pass.
    pub(super) fn look(&self, total_weight: u64) {
        let growing = total_weight.saturating_sub(self.weight.load(Relaxed));
        // Release: who reads how little it is after a snapshot was completed sees that it was.
        self.growing.store(growing, Release);
    }

    /// Completes the snapshot that is at hand. Its copying ended at this time, each of its cells has grown by at most
    /// `growth` since the one before, and N was `weight` when it was begun.
    pub(super) fn complete(&self, number: u64, ended_ns: i64, growth: u64, weight: u64) {
        self.weight.store(weight, Relaxed);
        let before = self.mark(number - 1).growth.load(Relaxed);
        let mark = self.mark(number);
        mark.growth.store(before.wrapping_add(growth), Relaxed);
        mark.weight.store(weight, Relaxed);
        mark.ended_ns.store(ended_ns, Relaxed);
        self.turns.complete(number);
    }

    /// Adds growth that had been reached before a completed snapshot ended to that snapshot.
    pub(super) fn book(&self, number: u64, cell: usize, part: u64) {
        self.raise(number, cell, part);
        let mark = self.mark(number);
        add_alone(&mark.growth, part);
        // Each row has all weight; the first one says how much it is.
        if cell < self.plan.width() {
            add_alone(&mark.weight, part);
        }
    }

    /// Adds to a cell of a snapshot.
    pub(super) fn raise(&self, number: u64, cell: usize, part: u64) {
        if let Some(cell) = self.slot(number).get(cell) {
            let grown = cell.load(Relaxed).wrapping_add(part as u32);
            cell.store(grown, Relaxed);
        }
    }
}

/// Adds where there is one writer, in a tenth of the time of a `fetch_add`.
fn add_alone(number: &AtomicU64, by: u64) {
    number.store(number.load(Relaxed).wrapping_add(by), Relaxed);
}

/// The number of the cell of a snapshot to which a cell belongs.
#[inline]
pub(super) fn folded(cell: u32, fold: u32) -> u32 {
    // Divisions take time; these two are the usual ones.
    match fold {
        1 => cell,
        8 => cell / 8,
        _ => cell / fold.max(1),
    }
}
