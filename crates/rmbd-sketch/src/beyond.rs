//! Cells of 32 bits count further than that: this is how.
//!
//! A cell wraps: it holds the lowest 32 bits of what was added to it, its *total*. From time to time a *pass* of the
//! one writer goes over all cells and notes for each how many *half turns* of 2^31 its total has made. Between two
//! passes no cell grows by more than 2^31, since all weight is taken from a [`WeightBudget`] before it is added, and
//! only what was added before a pass began is given back by it. So whoever reads a cell and its half turns knows the
//! total: the highest bit of the cell says whether it has made one half turn more since.
//!
//! ```text
//!    adds     take from the budget (Acquire what the last pass gave back, then a Release fence), add to cells, add
//!             to N (Release)
//!    pass     reads N (Acquire), reads each cell and notes its half turns (Release), says that there are any, gives
//!             N back to the budget (Release)
//!    reads    read the cell, an Acquire fence, look whether there are any half turns; where there are: half turns
//!             (Acquire), the cell, an Acquire fence, half turns again, and anew if they have changed
//! ```
//!
//! *Never ahead, never behind*. Let P be a cell's total as the last pass that gave back has read it, and T the total
//! that a reader sees. What T has beyond P was taken from the budget after that pass began, so T - P is at most
//! [`BUDGET`] = 2^31. If nobody has seen half turns then P < 2^31, and T < 2^32 is the cell itself; the last add of T
//! came from a budget that a pass with half turns gave back only if that pass had said so before, and the fences bring
//! this to whoever has read the add. With half turns h, the same before and after: h was noted of a total that the
//! reader's cell includes (coherence), so T >= h * 2^31; were T >= (h + 2) * 2^31, its last add would rest on a pass
//! that has noted h + 1 at least, and the second look would have seen it.
//!
//! *A cell may be a sum* of several that only grow (mod 2^32), each read on its own: all of this is said of what is
//! read of them together. What a pass has read of each is in what a later reader reads of it, and for T whichever of
//! its adds rests on the latest pass is the last one: all weight that was taken until the next pass rests on it or on
//! earlier ones.
//!
//! This file uses nothing but atomics, so that a model of them can run it (`tests/loom.rs`).

use super::atomic::{
    AtomicBool, AtomicU32, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
    fence,
};

/// Weight that may be added between two passes, over all threads.
pub(super) const BUDGET: u64 = 1 << HALF_TURN_BITS;

/// All weight that may be added in a life. Below half of what 64 bits hold, it takes thousands of years of single adds.
const TOTAL_WEIGHT_MAX: u64 = 1 << 62;

const HALF_TURN_BITS: u32 = 31;

/// Each take is this part of what is left, so that there is something left for others, however many hold some.
const PART: u64 = 4;

/// Weight that may be added until the next pass.
#[derive(Debug, Default)]
pub(super) struct WeightBudget {
    /// All weight that threads have taken so far.
    taken: AtomicU64,
    /// All weight that passes have found in the cells.
    passed: AtomicU64,
    /// Somebody got nothing since the last pass began.
    is_short: AtomicBool,
}

impl WeightBudget {
    /// Takes at least `least`, and a good part of what is left; `None` where there is less than `least` until the next
    /// pass.
    pub(super) fn take(&self, least: u64) -> Option<u64> {
        let taken = self.take_of(|left| (left >= least).then(|| (left / PART).max(least)));
        if taken.is_none() {
            self.is_short.store(true, Relaxed);
        }
        taken
    }

    /// As [`take`](Self::take), where that leaves enough for all others.
    pub(super) fn take_of_plenty(&self, least: u64) -> Option<u64> {
        self.take_of(|left| Some(left / PART).filter(|&part| part >= least))
    }

    fn take_of(&self, part: impl Fn(u64) -> Option<u64>) -> Option<u64> {
        let mut taken = self.taken.load(Relaxed);
        loop {
            // Acquire, against the Release in `give_back`: what the pass has noted is seen by whoever sees an add that
            // rests on it.
            let end = (self.passed.load(Acquire) + BUDGET).min(TOTAL_WEIGHT_MAX);
            let more = part(end.saturating_sub(taken))?;
            let exchanged = self
                .taken
                .compare_exchange(taken, taken + more, Relaxed, Relaxed);
            match exchanged {
                Ok(_) => {
                    // Release, before the adds: see above.
                    fence(Release);
                    return Some(more);
                }
                Err(now) => taken = now,
            }
        }
    }

    /// What was taken and not added.
    pub(super) fn return_unused(&self, weight: u64) {
        self.taken.fetch_sub(weight, Relaxed);
    }

    /// A pass begins.
    pub(super) fn begin_pass(&self) {
        self.is_short.store(false, Relaxed);
    }

    /// A pass is done, by the one writer; `passed` is all that had been added before it began.
    pub(super) fn give_back(&self, passed: u64) {
        // Release, after what the pass has noted.
        self.passed.store(passed, Release);
    }

    /// Whether a pass should come soon, given all that was added so far.
    pub(super) fn wants_pass(&self, added: u64) -> bool {
        let since = added.saturating_sub(self.passed.load(Relaxed));
        since >= BUDGET / 2 || self.is_short.load(Relaxed)
    }
}

/// How far each cell's total is beyond its 32 bits.
#[derive(Debug)]
pub(super) struct HalfTurns {
    are_any: AtomicBool,
    of_cells: Box<[AtomicU32]>,
}

impl HalfTurns {
    /// Of cells that are 0; one for each cell.
    pub(super) fn new(of_cells: Box<[AtomicU32]>) -> Self {
        Self {
            are_any: AtomicBool::new(false),
            of_cells,
        }
    }

    /// Whether a cell alone may say too little. To be asked after an Acquire fence behind the cell.
    #[inline]
    pub(super) fn are_any(&self) -> bool {
        self.are_any.load(Relaxed)
    }

    /// The total of the cell with this index, of which `read` reads the lowest 32 bits. By any thread; it does not
    /// wait.
    pub(super) fn total(&self, index: usize, read: impl Fn() -> u32) -> u64 {
        let noted = &self.of_cells[index];
        let mut before = noted.load(Acquire);
        loop {
            let value = read();
            fence(Acquire);
            let after = noted.load(Relaxed);
            if before == after {
                return total(after, value);
            }
            // A pass has come by, and 2^31 were added since the one before: seldom, and never twice in a row.
            before = after;
            fence(Acquire);
        }
    }

    /// The total of a cell of which the pass has just read this value; by the one writer.
    #[inline]
    pub(super) fn note(&self, index: usize, value: u32) -> u64 {
        let noted = &self.of_cells[index];
        let before = noted.load(Relaxed);
        let total = total(before, value);
        let half_turns = (total >> HALF_TURN_BITS) as u32;
        if half_turns != before {
            self.are_any.store(true, Relaxed);
            noted.store(half_turns, Release);
        }
        total
    }

    /// The total of a cell that had this value when it was noted last; by the one writer.
    #[inline]
    pub(super) fn noted(&self, index: usize, value: u32) -> u64 {
        total(self.of_cells[index].load(Relaxed), value)
    }
}

/// Of a cell whose total had made so many half turns at the latest pass, or one more since.
#[inline]
fn total(half_turns: u32, value: u32) -> u64 {
    let has_made_one_more = (value >> HALF_TURN_BITS) ^ (half_turns & 1);
    let half_turns = u64::from(half_turns) + u64::from(has_made_one_more);
    half_turns << HALF_TURN_BITS | u64::from(value & (u32::MAX >> 1))
}
