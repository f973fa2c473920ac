//! The clock that all threads of a phase share.

use std::sync::OnceLock;
use std::time::Instant;

use crate::plan::nanoseconds;

/// Nanoseconds since a moment that all threads share. It shows 0 until the moment is set.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock<'a>(pub(crate) &'a OnceLock<Instant>);

impl Clock<'_> {
    #[inline]
    pub(crate) fn now_ns(self) -> u64 {
        self.0.get().map_or(0, |zero| nanoseconds(zero.elapsed()))
    }
}
