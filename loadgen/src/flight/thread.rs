//! The generator's own threads.

use std::num::NonZeroU64;
use std::time::Duration;

use crate::machine::thread_cpu_time;

/// Sleeps of this thread end when they should, not up to 50 µs later (`PR_SET_TIMERSLACK`,
/// prctl(2)).
pub(crate) fn precise_sleep() {
    // A favour: without it the generator's lateness shows.
    let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
}

/// CPU time that the calling thread uses from some moment on.
pub(crate) struct CpuTime {
    before: Duration,
}

impl CpuTime {
    pub(crate) fn from_now() -> Self {
        Self {
            before: thread_cpu_time(),
        }
    }

    pub(crate) fn spent(&self) -> Duration {
        thread_cpu_time().saturating_sub(self.before)
    }
}
