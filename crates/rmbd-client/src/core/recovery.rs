//! Decides when a datagram counts as lost, and how many may be under way.

use std::time::Duration;

use rmbd_pace::{RoundTrip, Timeouts};

/// Datagrams under way at first: what a receive buffer of Linux' default size takes (212 992 bytes,
/// and 2 304 for each datagram of 1 400), with room for another client.
const WINDOW_FIRST: f64 = 32.0;
/// Even where many are lost for other reasons than congestion, some go on.
const WINDOW_MIN: f64 = 8.0;
/// Well within [`ONCE_WINDOW`](rmbd_proto::compact::ONCE_WINDOW), and half a receive buffer of a node.
pub(super) const WINDOW_MAX: f64 = 512.0;

/// Bounds of the wait for a reply.
const PATIENCE: Timeouts = Timeouts {
    first: Duration::from_millis(100),
    variation_min: Duration::ZERO,
    answer_delay: Duration::ZERO,
    // A busy machine may leave a node or a client without a core for so long.
    min: Duration::from_millis(10),
    max: Duration::from_secs(1),
    doublings_max: 16,
};

/// Replies to so many later datagrams mean that one is lost. RFC 9002, 6.1.1 has 3; cards and switches
/// reorder within a train of segments.
pub(super) const REORDERING_MAX: u64 = 8;

/// The patience that round trips make, and a window as RFC 9002 (7.3) moves it.
#[derive(Debug, Clone)]
pub(super) struct Recovery {
    round_trip: RoundTrip,
    /// Doublings of the patience since the last reply.
    backoff: u32,
    window: f64,
    /// Above it the window grows by one a round trip, below by one a reply.
    threshold: f64,
    /// Losses of copies before this one have made the window smaller already.
    reduced_until: u64,
}

impl Default for Recovery {
    fn default() -> Self {
        Self {
            round_trip: RoundTrip::new(PATIENCE),
            backoff: 0,
            window: WINDOW_FIRST,
            threshold: WINDOW_MAX,
            reduced_until: 0,
        }
    }
}

impl Recovery {
    /// A reply came, this long after its copy was sent.
    pub(super) fn replied(&mut self, round_trip: Duration) {
        self.backoff = 0;
        self.round_trip.measured(round_trip);
        let growth = if self.window < self.threshold {
            1.0
        } else {
            1.0 / self.window
        };
        self.window = (self.window + growth).min(WINDOW_MAX);
    }

    /// Copy `number` is lost, and `next` is the number of the next one: one loss or many within a
    /// round trip halve the window once.
    pub(super) fn lost(&mut self, number: u64, next: u64) {
        if number >= self.reduced_until {
            self.reduced_until = next;
            self.window = (self.window / 2.0).max(WINDOW_MIN);
            self.threshold = self.window;
        }
    }

    /// Nothing came for the whole patience.
    pub(super) fn ran_out(&mut self) {
        self.backoff = self.backoff.saturating_add(1);
    }

    /// How long a reply may take.
    pub(super) fn patience(&self) -> Duration {
        self.round_trip.timeout(self.backoff)
    }

    /// Datagrams that may be under way.
    pub(super) fn window(&self) -> usize {
        self.window as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn patience_follows_the_round_trips() {
        let mut recovery = Recovery::default();
        assert_eq!(recovery.patience(), PATIENCE.first);
        recovery.replied(40 * MS);
        assert_eq!(recovery.patience(), 40 * MS + 4 * 20 * MS);
        for _ in 0..100 {
            recovery.replied(40 * MS);
        }
        assert!(recovery.patience() < 45 * MS, "{recovery:?}");
        recovery.ran_out();
        assert!(recovery.patience() > 79 * MS);
        for _ in 0..100 {
            recovery.ran_out();
        }
        assert_eq!(recovery.patience(), PATIENCE.max);
        recovery.replied(Duration::ZERO);
        assert!(recovery.patience() < 90 * MS);
    }

    #[test]
    fn the_window_halves_once_a_round_trip_and_stays_in_its_limits() {
        let mut recovery = Recovery::default();
        for _ in 0..32 {
            recovery.replied(MS);
        }
        assert_eq!(recovery.window(), 64);
        recovery.lost(100, 164);
        recovery.lost(101, 170);
        assert_eq!(recovery.window(), 32);
        recovery.lost(164, 200);
        assert_eq!(recovery.window(), 16);
        for _ in 0..16 {
            recovery.replied(MS);
        }
        // By one a round trip from here on.
        assert_eq!(recovery.window(), 16);
        recovery.replied(MS);
        assert_eq!(recovery.window(), 17);
        for number in 0..100 {
            recovery.lost(200 + number, 201 + number);
        }
        assert_eq!(recovery.window(), WINDOW_MIN as usize);
        for _ in 0..1_000_000 {
            recovery.replied(MS);
        }
        assert_eq!(recovery.window(), WINDOW_MAX as usize);
    }
}
