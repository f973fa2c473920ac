//! Time, as all threads of a phase see it.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// Nanoseconds since a moment that all threads share: 0 until somebody sets it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock<'a>(pub(crate) &'a OnceLock<Instant>);

impl Clock<'_> {
    #[inline]
    pub(crate) fn now_ns(self) -> u64 {
        self.0.get().map_or(0, |zero| nanoseconds(zero.elapsed()))
    }
}

/// Of a duration of less than 584 years.
pub(crate) fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
