//! When rounds are due.

use std::time::Duration;

/// The clock of rounds.
#[derive(Debug)]
pub(super) struct Rounds {
    interval: Duration,
    next: Duration,
    count: u64,
}

impl Rounds {
    /// The first one is due after an interval.
    pub(super) fn new(now: Duration, interval: Duration) -> Self {
        Self {
            interval,
            next: now + interval,
            count: 0,
        }
    }

    /// When the next one is due.
    pub(super) fn next(&self) -> Duration {
        self.next
    }

    /// How many there were.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// So many rounds take this long.
    pub(super) fn span(&self, rounds: u32) -> Duration {
        self.interval * rounds
    }

    /// Begins a round where one is due. The next one is due an interval after now, not after when this one was due: a
    /// process that was stopped does not hurry after.
    pub(super) fn begin(&mut self, now: Duration) -> bool {
        let is_due = now >= self.next;
        if is_due {
            self.count += 1;
            self.next = now + self.interval;
        }
        is_due
    }

    /// The next one is due at once.
    pub(super) fn hurry(&mut self, now: Duration) {
        self.next = now;
    }
}
