//! Settings of the generator's own threads.

use std::num::NonZeroU64;

/// Makes sleeps of this thread end on time, and not up to 50 µs later (`PR_SET_TIMERSLACK`, prctl(2)).
pub(crate) fn precise_sleep() {
    // An error is ignored: then the generator's lateness shows.
    let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
}
