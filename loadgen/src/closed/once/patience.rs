//! How long to wait before a request is sent again.

use std::time::Duration;

use rmbd_pace::{RoundTrip, Timeouts};

/// The time for which an acknowledgement is waited for while no round trip has been measured.
pub(super) const PATIENCE_FIRST_NS: u64 = 100_000_000;

const TIMEOUTS: Timeouts = Timeouts {
    first: Duration::from_nanos(PATIENCE_FIRST_NS),
    variation_min: Duration::ZERO,
    answer_delay: Duration::ZERO,
    // A busy machine may leave a node without a CPU for so long.
    min: Duration::from_millis(10),
    max: Duration::from_secs(1),
    doublings_max: 16,
};

/// How long an acknowledgement may take, from the round trips of requests that were sent once.
pub(super) struct Patience(RoundTrip);

impl Default for Patience {
    fn default() -> Self {
        Self(RoundTrip::new(TIMEOUTS))
    }
}

impl Patience {
    pub(super) fn measured(&mut self, round_trip_ns: u64) {
        self.0.measured(Duration::from_nanos(round_trip_ns));
    }

    /// Nanoseconds to wait for a request of which so many copies were sent: twice as long for each.
    pub(super) fn ns(&self, copies: u32) -> u64 {
        // At most a second.
        self.0.timeout(copies.saturating_sub(1)).as_nanos() as u64
    }
}
