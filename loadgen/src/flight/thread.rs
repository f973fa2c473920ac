//! The generator's own threads.

use std::num::NonZeroU64;

/// Sleeps of this thread end when they should, not up to 50 µs later (`PR_SET_TIMERSLACK`,
/// prctl(2)).
pub(crate) fn precise_sleep() {
    // A favour: without it the generator's lateness shows.
    let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
}
