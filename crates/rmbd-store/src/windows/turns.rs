//! The order between the one writer of snapshots and their readers.
//!
//! ```text
//!    copier    says that it begins (Release, then a Release fence), reads cells, writes them to the slot, says that it
//!              has completed (Release)
//!    booking   makes the number of changes odd (then a Release fence), raises a cell, a Release fence, raises the
//!              snapshots, makes the number even (Release)
//!    reader    number of changes (Acquire), what is completed (Acquire), the snapshot (Acquire), the cell, an Acquire
//!              fence, what is begun, number of changes: anew if the slot was begun again or changes were made
//! ```
//!
//! - *A difference is never negative*: whoever sees a value in a snapshot sees the cell at least as it was when it was
//!   copied (through what is completed) or raised (through the fence of the booking).
//! - *A slot that is written again is noticed*: a reader that has read a new value in it has, behind its fence, what
//!   the copier said before it wrote.
//! - *A booking that is under way is noticed*: a reader that has read a raised cell has, behind its fence, the odd
//!   number or a later one. A reader that has read the number that ended a booking has all that was raised.
//! - *Who adds needs no clock* to know when a window begins: as long as no other snapshot is begun, that is at the
//!   oldest one that is still in its slot. An adder that has read from [`begun`](Turns::begun) (Acquire) how many there
//!   are sees all snapshots before the last one, and [`are_begun`](Turns::are_begun) tells it behind its reads whether
//!   what it has read was written again.
//!
//! This file uses nothing but atomics, so that a model checker can run it (`tests/loom.rs`).

use super::atomic::{
    AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
    fence,
};

/// How many snapshots of a ring were begun, and how many were completed. Snapshot `n` is in slot `n` mod `slots`.
#[derive(Debug)]
pub(super) struct Turns {
    slots: u64,
    begun: AtomicU64,
    completed: AtomicU64,
}

impl Turns {
    /// All slots are filled with completed snapshots.
    pub(super) fn new(slots: u64) -> Self {
        Self {
            slots,
            begun: AtomicU64::new(slots),
            completed: AtomicU64::new(slots),
        }
    }

    /// The numbers of the oldest and the youngest snapshot. Their slots may be written again at any time.
    #[inline]
    pub(super) fn numbers(&self) -> (u64, u64) {
        let completed = self.completed.load(Acquire);
        let begun = self.begun.load(Relaxed).max(completed);
        (begun - self.slots, completed - 1)
    }

    /// How many snapshots were begun. All but the last of them are completed.
    #[inline]
    pub(super) fn begun(&self) -> u64 {
        self.begun.load(Acquire)
    }

    /// Whether so many snapshots are begun still, and no more were while something was read.
    #[inline]
    pub(super) fn are_begun(&self, begun: u64) -> bool {
        fence(Acquire);
        self.begun.load(Relaxed) == begun
    }

    /// Whether a snapshot is still in its slot, and was so while it was read.
    #[inline]
    pub(super) fn still_has(&self, number: u64) -> bool {
        fence(Acquire);
        self.begun.load(Relaxed) <= number + self.slots
    }

    /// Whether this is still the youngest snapshot, and was so while what belongs to it was read. The caller has an
    /// Acquire fence behind its reads.
    #[inline]
    pub(super) fn is_youngest(&self, number: u64) -> bool {
        self.completed.load(Relaxed) == number + 1
    }

    /// Whether a snapshot is being copied.
    pub(super) fn is_one_at_hand(&self) -> bool {
        self.begun.load(Relaxed) > self.completed.load(Relaxed)
    }

    /// Begins the next snapshot, and returns its number. Only the one writer calls this.
    pub(super) fn begin(&self) -> u64 {
        let number = self.begun.load(Relaxed);
        // Release: whoever sees this sees the snapshots before it. The fence comes before what is written to the slot.
        self.begun.store(number + 1, Release);
        fence(Release);
        number
    }

    /// Completes the snapshot that was begun last. Only the one writer calls this.
    pub(super) fn complete(&self, number: u64) {
        self.completed.store(number + 1, Release);
    }
}

/// The number of changes of bookings; odd while one is under way.
#[derive(Debug)]
pub(super) struct Bookings(AtomicU64);

impl Bookings {
    pub(super) fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Only the one writer calls this and [`end`](Self::end).
    pub(super) fn begin(&self) {
        self.0.store(self.0.load(Relaxed) + 1, Relaxed);
        fence(Release);
    }

    pub(super) fn end(&self) {
        self.0.store(self.0.load(Relaxed) + 1, Release);
    }

    /// The order between cells that were raised and the snapshots that will be.
    pub(super) fn between(&self) {
        fence(Release);
    }

    /// A number to compare with later.
    #[inline]
    pub(super) fn number(&self) -> u64 {
        self.0.load(Acquire)
    }

    /// Whether nothing was booked since this number was read. The caller has an Acquire fence behind its reads.
    #[inline]
    pub(super) fn were_none_since(&self, number: u64) -> bool {
        number.is_multiple_of(2) && self.0.load(Relaxed) == number
    }
}
