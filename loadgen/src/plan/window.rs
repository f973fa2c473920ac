//! The time in which a load is measured.

use std::time::Duration;

use super::load::Load;

/// Largest number of intervals of a series; longer phases have longer intervals.
const INTERVALS_MAX: u64 = 300;

/// The measured part of a phase, in the phase's own nanoseconds, with its division into intervals.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Window {
    pub(crate) start_ns: u64,
    pub(crate) end_ns: u64,
    pub(crate) interval_ns: u64,
    pub(crate) timeout_ns: u64,
}

impl Window {
    /// A window from `start_ns` for as long as the load lasts. Intervals are whole seconds.
    pub(crate) fn new(start_ns: u64, load: &Load) -> Self {
        let duration_ns = nanoseconds(load.duration);
        let seconds = duration_ns.div_ceil(1_000_000_000);
        Self {
            start_ns,
            end_ns: start_ns + duration_ns,
            interval_ns: seconds.div_ceil(INTERVALS_MAX).max(1) * 1_000_000_000,
            timeout_ns: nanoseconds(load.timeout),
        }
    }

    /// Number of intervals of the measured part, and one for what comes after it.
    pub(crate) fn intervals(&self) -> usize {
        (self.end_ns - self.start_ns).div_ceil(self.interval_ns) as usize + 1
    }

    pub(crate) fn interval(&self, now_ns: u64) -> usize {
        let interval = now_ns.saturating_sub(self.start_ns) / self.interval_ns;
        (interval as usize).min(self.intervals() - 1)
    }
}

/// A duration in nanoseconds; the largest number for one of more than 584 years.
pub(crate) fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
