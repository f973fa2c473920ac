//! How long to wait before a request is sent again.

/// How long an acknowledgement is waited for while no round trip has been measured ...
pub(super) const PATIENCE_FIRST_NS: u64 = 100_000_000;
/// ... at least, since a busy machine may leave a node without a CPU for so long, ...
const PATIENCE_MIN_NS: u64 = 10_000_000;
/// ... and at most.
const PATIENCE_MAX_NS: u64 = 1_000_000_000;

/// How long an acknowledgement may take, from round trips as RFC 6298 measures them: of requests that
/// were sent once (3, Karn's algorithm).
#[derive(Default)]
pub(super) struct Patience {
    /// Smoothed round trip, and its variation.
    measured_ns: Option<(u64, u64)>,
}

impl Patience {
    pub(super) fn measured(&mut self, round_trip_ns: u64) {
        self.measured_ns = Some(match self.measured_ns {
            None => (round_trip_ns, round_trip_ns / 2),
            Some((smoothed, variation)) => (
                (smoothed * 7 + round_trip_ns) / 8,
                (variation * 3 + smoothed.abs_diff(round_trip_ns)) / 4,
            ),
        });
    }

    /// For a request of which so many copies were sent: twice as long for each.
    pub(super) fn ns(&self, copies: u32) -> u64 {
        let first = self
            .measured_ns
            .map_or(PATIENCE_FIRST_NS, |(smoothed, variation)| {
                (smoothed + 4 * variation).max(PATIENCE_MIN_NS)
            });
        let doublings = copies.saturating_sub(1).min(16);
        first.saturating_mul(1 << doublings).min(PATIENCE_MAX_NS)
    }
}
