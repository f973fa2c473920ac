//! One place for a candidate: its thread writes it, and any thread reads it without waiting.
//!
//! ```text
//!    thread    puts      makes the turn odd (then a Release fence), writes the key's hash and numbers, makes the turn
//!                        even (Release)
//!              goes on   adds to cells, writes the numbers (the certain count with Release)
//!              marks     writes the certain count into a mark, then the moment (Release)
//!              clears    raises the threshold (then a Release fence), writes an estimate of 0
//!    reader    turn (Acquire), hash and numbers, of a mark the moment first (Acquire), an Acquire fence, turn: anew if
//!              it was odd or has changed
//!              when all places are read: an Acquire fence, the threshold
//! ```
//!
//! - *Numbers are those of the hash* that is read with them: the turn changes with each other key.
//! - *A candidate is seen, or the threshold above which it was not*: a reader that finds a place cleared, or another key
//!   in it, has behind its fence the threshold that was raised before.
//! - *A key that is just coming may be left out*, where the turn is odd whenever it is read: the weight that brings it
//!   is not told as added yet. Of the key that was there before, the threshold tells.
//! - *A certain count is in the cells already*: a reader that has read it reads cells behind it that have as much.
//! - *What came since a mark is never too much*: a count that is read behind a moment is that of it, or a later one.
//!
//! This file uses nothing but atomics, so that a model checker can run it (`tests/loom_candidates.rs`).

use super::atomic::{
    AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
    SLOT_TRIES, fence,
};

/// A place for a candidate. There is none where the estimate is 0.
#[derive(Debug)]
pub(super) struct Slot {
    /// Odd while another key is being put here.
    turn: AtomicU64,
    hash: [AtomicU64; 2],
    estimate: AtomicU64,
    certain: AtomicU64,
    marks: [SharedMark; 2],
}

#[derive(Debug)]
struct SharedMark {
    begun: AtomicU64,
    certain: AtomicU64,
}

/// What is known of a candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Candidate {
    /// The halves of its key's hash.
    pub(super) hash: [u64; 2],
    /// Its estimate when its key was added last, or when it was looked at since.
    pub(super) estimate: u64,
    /// What was added to its key since it is a candidate.
    pub(super) certain: u64,
    /// Two moments since then, the earlier one first.
    pub(super) marks: [Mark; 2],
}

/// What a candidate's certain count was at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Mark {
    /// Snapshots of the window that were begun then.
    pub(super) begun: u64,
    pub(super) certain: u64,
}

impl Slot {
    pub(super) fn new() -> Self {
        let number = || AtomicU64::new(0);
        let mark = || SharedMark {
            begun: number(),
            certain: number(),
        };
        Self {
            turn: number(),
            hash: [number(), number()],
            estimate: number(),
            certain: number(),
            marks: [mark(), mark()],
        }
    }

    /// What is here; `None` if nothing is, or keys change all the time. Any thread may call this.
    pub(super) fn read(&self) -> Option<Candidate> {
        for _ in 0..SLOT_TRIES {
            let turn = self.turn.load(Acquire);
            let found = self.load();
            fence(Acquire);
            if turn.is_multiple_of(2) && self.turn.load(Relaxed) == turn {
                return Some(found).filter(|found| found.estimate > 0);
            }
        }
        None
    }

    fn load(&self) -> Candidate {
        Candidate {
            hash: self.hash(),
            estimate: self.estimate(),
            certain: self.certain.load(Acquire),
            marks: self.marks.each_ref().map(SharedMark::load),
        }
    }
}

/// The calls of the one thread whose candidates these are.
impl Slot {
    #[inline]
    pub(super) fn hash(&self) -> [u64; 2] {
        self.hash.each_ref().map(|half| half.load(Relaxed))
    }

    #[inline]
    pub(super) fn estimate(&self) -> u64 {
        self.estimate.load(Relaxed)
    }

    #[inline]
    pub(super) fn certain(&self) -> u64 {
        self.certain.load(Relaxed)
    }

    /// Puts another candidate here.
    pub(super) fn put(&self, candidate: &Candidate) {
        let turn = self.turn.load(Relaxed);
        self.turn.store(turn + 1, Relaxed);
        fence(Release);
        for (half, value) in self.hash.iter().zip(candidate.hash) {
            half.store(value, Relaxed);
        }
        self.certain.store(candidate.certain, Release);
        for (mark, value) in self.marks.iter().zip(candidate.marks) {
            mark.store(value);
        }
        self.estimate.store(candidate.estimate, Relaxed);
        self.turn.store(turn + 2, Release);
    }

    /// The key was added with this weight, and has this estimate now.
    #[inline]
    pub(super) fn grow(&self, estimate: u64, weight: u64) {
        self.estimate.store(estimate, Relaxed);
        // Release: see the head of this file.
        self.certain.store(self.certain() + weight, Release);
    }

    /// The candidate has this estimate now. There is none any more if it is 0: before that the threshold was
    /// [raised](super::Table::raise), or nothing counts of the key.
    pub(super) fn set_estimate(&self, estimate: u64) {
        self.estimate.store(estimate, Relaxed);
    }

    /// Takes up the later mark as the earlier one, and makes another.
    pub(super) fn mark(&self, begun: u64) {
        let [earlier, later] = &self.marks;
        let certain = self.certain();
        earlier.store(later.load());
        later.store(Mark { begun, certain });
    }

    /// When the later mark was made.
    pub(super) fn marked(&self) -> u64 {
        self.marks[1].begun.load(Relaxed)
    }
}

impl SharedMark {
    fn load(&self) -> Mark {
        let begun = self.begun.load(Acquire);
        Mark {
            begun,
            certain: self.certain.load(Relaxed),
        }
    }

    fn store(&self, mark: Mark) {
        self.certain.store(mark.certain, Relaxed);
        self.begun.store(mark.begun, Release);
    }
}
