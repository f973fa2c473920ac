//! Exact totals above 32 bits, from cells of 32 bits.
//!
//! A cell wraps: it holds the lowest 32 bits of its *total*, the sum of all that was added to it. From time to time
//! the one writer makes a *pass* over all cells and notes for each how many *half turns* of 2^31 its total has made.
//! Between two passes no cell grows by more than 2^31, since all weight is taken from a [`WeightBudget`] before it is
//! added, and a pass gives back only what was added before the pass began. So a reader that has a cell and its half
//! turns knows the total: the highest bit of the cell tells whether the total has made one more half turn since.
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
//! that a reader sees. The difference T - P was taken from the budget after that pass began, so it is at most
//! [`BUDGET`] = 2^31. There are two cases.
//!
//! - The reader finds no half turns. Then P < 2^31, so T < 2^32 and T is the cell itself. It cannot have missed half
//!   turns: the last add of T came from a budget that a pass with half turns gave back only after it had said that
//!   there are some, and the fences bring this to every thread that has read the add.
//! - The reader finds h half turns, the same before and after. Then h was noted of a total that the reader's cell
//!   includes (coherence), so T >= h * 2^31. If T were >= (h + 2) * 2^31, its last add would rest on a pass that had
//!   noted h + 1 at least, and the second look would have seen that.
//!
//! *A cell may be a sum* of several values that only grow (mod 2^32) and are read one by one. The proof then holds
//! for the values that are read together. A later reader of each value sees at least what the pass has read of it.
//! The last add of T is the one that rests on the latest pass: all weight that is taken before the next pass rests on
//! this pass or on earlier ones.
//!
//! This file uses nothing but atomics, so that a model checker can run it (`tests/loom.rs`).

use super::atomic::{
    AtomicBool, AtomicU32, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
    fence,
};

/// Weight that all threads together may add between two passes.
pub(super) const BUDGET: u64 = 1 << HALF_TURN_BITS;

/// Weight that may be added in the life of a sketch. It is below half of what 64 bits hold, and takes thousands of
/// years of single adds.
const TOTAL_WEIGHT_MAX: u64 = 1 << 62;

const HALF_TURN_BITS: u32 = 31;

/// A take gets 1 in `PART` of what is left (unless it needs more), so that something is left for other threads.
const PART: u64 = 4;

/// Weight that may be added until the next pass.
#[derive(Debug, Default)]
pub(super) struct WeightBudget {
    /// All weight that threads have taken so far.
    taken: AtomicU64,
    /// All weight that passes have found in the cells.
    passed: AtomicU64,
    /// Whether a thread got nothing since the last pass began.
    is_short: AtomicBool,
}

impl WeightBudget {
    /// Takes a quarter of what is left, or `least` where that is more. Returns `None` if there is less than `least`
    /// until the next pass.
    pub(super) fn take(&self, least: u64) -> Option<u64> {
        let taken = self.take_of(|left| (left >= least).then(|| (left / PART).max(least)));
        if taken.is_none() {
            self.is_short.store(true, Relaxed);
        }
        taken
    }

    /// Like [`take`](Self::take), but only if enough is left for all other threads.
    pub(super) fn take_of_plenty(&self, least: u64) -> Option<u64> {
        self.take_of(|left| Some(left / PART).filter(|&part| part >= least))
    }

    fn take_of(&self, part: impl Fn(u64) -> Option<u64>) -> Option<u64> {
        let mut taken = self.taken.load(Relaxed);
        loop {
            // Acquire pairs with the Release in `give_back`: a thread that sees an add which rests on a pass also sees
            // what that pass has noted.
            let end = (self.passed.load(Acquire) + BUDGET).min(TOTAL_WEIGHT_MAX);
            let more = part(end.saturating_sub(taken))?;
            let exchanged = self
                .taken
                .compare_exchange(taken, taken + more, Relaxed, Relaxed);
            match exchanged {
                Ok(_) => {
                    // This Release comes before the adds: see the head of this file.
                    fence(Release);
                    return Some(more);
                }
                Err(now) => taken = now,
            }
        }
    }

    /// Returns weight that was taken and not added.
    pub(super) fn return_unused(&self, weight: u64) {
        self.taken.fetch_sub(weight, Relaxed);
    }

    /// Notes that a pass begins.
    pub(super) fn begin_pass(&self) {
        self.is_short.store(false, Relaxed);
    }

    /// Notes that a pass is done. Only the one writer calls this; `passed` is all that had been added before the pass
    /// began.
    pub(super) fn give_back(&self, passed: u64) {
        // Release comes after all that the pass has noted.
        self.passed.store(passed, Release);
    }

    /// Whether a pass should come soon, if `added` is all that was added so far.
    pub(super) fn wants_pass(&self, added: u64) -> bool {
        let since = added.saturating_sub(self.passed.load(Relaxed));
        since >= BUDGET / 2 || self.is_short.load(Relaxed)
    }
}

/// How far each cell's total is beyond its 32 bits.
#[derive(Debug)]
pub(super) struct HalfTurns {
    are_any: AtomicBool,
    /// A bit for every so many cells, which is 1 if half turns of one of them were noted.
    near: Box<[AtomicU32]>,
    of_cells: Box<[AtomicU32]>,
}

/// Largest number of words of [`HalfTurns::near`], a power of two. They take 4 KiB, a small part of the first-level
/// cache. A row has at most N / 2^31 cells with half turns, some hundreds after 10^12 adds.
const NEAR_WORDS_MAX: usize = 1 << 10;

impl HalfTurns {
    /// Half turns of cells that are all 0, from one zeroed number for each cell.
    pub(super) fn new(of_cells: Box<[AtomicU32]>) -> Self {
        let words = of_cells.len().div_ceil(u32::BITS as usize);
        let words = words.next_power_of_two().min(NEAR_WORDS_MAX);
        Self {
            are_any: AtomicBool::new(false),
            near: (0..words).map(|_| AtomicU32::new(0)).collect(),
            of_cells,
        }
    }

    /// Whether any half turns were noted, so that a cell alone may say too little. The caller asks after an Acquire
    /// fence behind its read of the cell.
    #[inline]
    pub(super) fn are_any(&self) -> bool {
        self.are_any.load(Relaxed)
    }

    /// Whether half turns may have been noted of this cell, so that it alone may say too little. The caller asks after
    /// an Acquire fence behind its read of the cell. What the head of this file says of `are_any` holds for the bit of
    /// each cell, which is set before its half turns are noted.
    #[inline]
    pub(super) fn may_be_any_of(&self, index: usize) -> bool {
        self.are_any() && self.is_near_any(index)
    }

    #[inline(never)]
    fn is_near_any(&self, index: usize) -> bool {
        let (word, bit) = self.near_of(index);
        word.load(Relaxed) & bit != 0
    }

    fn near_of(&self, index: usize) -> (&AtomicU32, u32) {
        let (word, bit) = (index / u32::BITS as usize, index % u32::BITS as usize);
        (&self.near[word % self.near.len()], 1 << bit)
    }

    /// The total of the cell with this index. `read` reads the cell's lowest 32 bits. Any thread may call this; it
    /// does not wait.
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
            // A pass has come by, and 2^31 were added since the one before. This is rare, and never happens twice in a
            // row.
            before = after;
            fence(Acquire);
        }
    }

    /// Notes the half turns of a cell of which the pass has just read this value, and returns its total. Only the one
    /// writer calls this.
    #[inline]
    pub(super) fn note(&self, index: usize, value: u32) -> u64 {
        let noted = &self.of_cells[index];
        let before = noted.load(Relaxed);
        let total = total(before, value);
        let half_turns = (total >> HALF_TURN_BITS) as u32;
        if half_turns != before {
            let (word, bit) = self.near_of(index);
            word.store(word.load(Relaxed) | bit, Relaxed);
            self.are_any.store(true, Relaxed);
            noted.store(half_turns, Release);
        }
        total
    }

    /// The total of a cell that had this value when it was noted last. Only the one writer calls this.
    #[inline]
    pub(super) fn noted(&self, index: usize, value: u32) -> u64 {
        total(self.of_cells[index].load(Relaxed), value)
    }
}

/// The total of a cell with this value that had made `half_turns` at the latest pass, and perhaps one more since.
#[inline]
fn total(half_turns: u32, value: u32) -> u64 {
    let has_made_one_more = (value >> HALF_TURN_BITS) ^ (half_turns & 1);
    let half_turns = u64::from(half_turns) + u64::from(has_made_one_more);
    half_turns << HALF_TURN_BITS | u64::from(value & (u32::MAX >> 1))
}
