//! One place for a candidate: its thread writes it, and any thread reads it without waiting.
//!
//! ```text
//!    thread    puts      makes the turn odd (then a Release fence), writes the key's hash and what is certain of it,
//!                        makes the turn even (Release)
//!              enters    marks it, and writes its estimate in a list (Release)
//!              goes on   adds to cells, writes what is certain (Release)
//!              marks     writes what is certain into a mark, then the moment (Release)
//!              leaves    raises the list's threshold (then a Release fence), writes an estimate of 0
//!    reader    turn (Acquire), estimate (Acquire), hash and what is certain, of a mark the moment first (Acquire), an
//!              Acquire fence, turn: anew if it was odd or has changed
//!              when all places are read: an Acquire fence, the threshold
//! ```
//!
//! - *What is read is all of one key*: the turn changes with each other key, which comes when the one before has left
//!   all lists.
//! - *A candidate is seen, or the threshold above which it was not*: a reader that finds no estimate, or another key,
//!   has behind its fence the threshold that was raised before.
//! - *A key that is just coming may be left out*, where the turn is odd whenever it is read: the weight that brings it
//!   is not told as added yet.
//! - *What is certain is in the cells already*: a reader that has read it reads cells behind it that have as much.
//! - *What came since a mark is never too much*: a count that is read behind a moment is that of it, or a later one.
//!
//! This file uses nothing but atomics, so that a model checker can run it (`tests/loom_candidates.rs`).

use super::atomic::{
    AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
    SLOT_TRIES, fence,
};

/// A place for a key.
#[derive(Debug)]
pub(super) struct Slot {
    /// Odd while another key is being put here.
    turn: AtomicU64,
    hash: [AtomicU64; 2],
    certain: AtomicU64,
}

/// What a list has of the key at a place.
#[derive(Debug)]
pub(super) struct Entry {
    /// 0 where the key is no candidate of this list.
    estimate: AtomicU64,
    marks: [SharedMark; 2],
}

#[derive(Debug)]
struct SharedMark {
    moment: AtomicU64,
    certain: AtomicU64,
}

/// What is known of a candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Candidate {
    /// The halves of its key's hash.
    pub(super) hash: [u64; 2],
    /// Its estimate when it was looked at last.
    pub(super) estimate: u64,
    /// What was added to its key since it is a candidate of any list.
    pub(super) certain: u64,
    /// Two moments since then, the earlier one first.
    pub(super) marks: [Mark; 2],
}

/// What was certain of a candidate at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Mark {
    pub(super) moment: u64,
    pub(super) certain: u64,
}

impl Slot {
    pub(super) fn new() -> Self {
        let number = || AtomicU64::new(0);
        Self {
            turn: number(),
            hash: [number(), number()],
            certain: number(),
        }
    }

    /// The key that is here, if it is a candidate of the list to which the entry belongs. Any thread may call this.
    pub(super) fn read(&self, entry: &Entry) -> Option<Candidate> {
        for _ in 0..SLOT_TRIES {
            let turn = self.turn.load(Acquire);
            let estimate = entry.estimate.load(Acquire);
            if estimate == 0 {
                return None;
            }
            let found = Candidate {
                hash: self.hash(),
                estimate,
                certain: self.certain.load(Acquire),
                marks: entry.marks.each_ref().map(SharedMark::load),
            };
            fence(Acquire);
            if turn.is_multiple_of(2) && self.turn.load(Relaxed) == turn {
                return Some(found);
            }
        }
        None
    }
}

/// The calls of the one thread whose candidates these are.
impl Slot {
    #[inline]
    pub(super) fn hash(&self) -> [u64; 2] {
        self.hash.each_ref().map(|half| half.load(Relaxed))
    }

    #[inline]
    pub(super) fn certain(&self) -> u64 {
        self.certain.load(Relaxed)
    }

    /// Puts another key here, of which nothing is certain yet. The one before is in no list.
    pub(super) fn put(&self, hash: [u64; 2]) {
        let turn = self.turn.load(Relaxed);
        self.turn.store(turn + 1, Relaxed);
        fence(Release);
        for (half, value) in self.hash.iter().zip(hash) {
            half.store(value, Relaxed);
        }
        self.certain.store(0, Relaxed);
        self.turn.store(turn + 2, Release);
    }

    /// This weight was added to the key.
    #[inline]
    pub(super) fn grow(&self, weight: u64) {
        // Release: see the head of this file.
        self.certain.store(self.certain() + weight, Release);
    }
}

impl Entry {
    pub(super) fn new() -> Self {
        let number = || AtomicU64::new(0);
        let mark = || SharedMark {
            moment: number(),
            certain: number(),
        };
        Self {
            estimate: number(),
            marks: [mark(), mark()],
        }
    }

    #[inline]
    pub(super) fn estimate(&self) -> u64 {
        self.estimate.load(Relaxed)
    }

    /// The key at this place, of which so much is certain, becomes a candidate with this estimate, which is not 0.
    pub(super) fn enter(&self, estimate: u64, began: Mark) {
        self.marks.iter().for_each(|mark| mark.store(began));
        self.estimate.store(estimate, Release);
    }

    /// The candidate has this estimate now. It is none any more if that is 0: before, the threshold was
    /// [raised](super::table::SharedList::raise), or nothing counts of the key.
    pub(super) fn set_estimate(&self, estimate: u64) {
        self.estimate.store(estimate, Relaxed);
    }

    /// Takes up the later mark as the earlier one, and makes another.
    pub(super) fn mark(&self, mark: Mark) {
        let [earlier, later] = &self.marks;
        earlier.store(later.load());
        later.store(mark);
    }

    /// When the later mark was made.
    #[inline]
    pub(super) fn marked(&self) -> u64 {
        self.marks[1].moment.load(Relaxed)
    }
}

impl SharedMark {
    fn load(&self) -> Mark {
        let moment = self.moment.load(Acquire);
        Mark {
            moment,
            certain: self.certain.load(Relaxed),
        }
    }

    fn store(&self, mark: Mark) {
        self.certain.store(mark.certain, Relaxed);
        self.moment.store(mark.moment, Release);
    }
}
