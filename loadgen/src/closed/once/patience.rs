//! The time to wait before a request is repeated.

/// Wait for an acknowledgement while no round trip has been measured.
pub(super) const PATIENCE_FIRST_NS: u64 = 100_000_000;
/// Shortest wait, since a busy machine may leave a node without a CPU for this long.
const PATIENCE_MIN_NS: u64 = 10_000_000;
/// Longest wait.
const PATIENCE_MAX_NS: u64 = 1_000_000_000;

/// The wait for an acknowledgement, from round trips as RFC 6298 measures them. Only requests that were sent once are
/// measured (section 3, Karn's algorithm).
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

    /// The wait for a request of which `copies` copies were sent: it doubles with each copy.
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
