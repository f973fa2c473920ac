//! Busy polling: looking for datagrams again and again before a thread sleeps.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::counters::{IoCounters, bump};

/// Number of looks between two readings of the clock. A reading costs as much as some looks into shared memory.
const LOOKS_A_READING: u32 = 64;

/// Decides how long a thread that finds nothing goes on looking, and counts how long it looked in vain
/// ([`IoCounters::spinning_ns`]). The clock is only read while a thread looks in vain, never while there is work.
pub(super) struct BusyPoll {
    /// The time for which a thread looks before it sleeps; zero turns looking off.
    limit: Duration,
    counters: Arc<IoCounters>,
    /// The current spin; `None` while there is work, and while the thread sleeps.
    spin: Option<Spin>,
}

/// One period of looking in vain.
struct Spin {
    started: Instant,
    /// The moment until which the time has been counted.
    counted_until: Instant,
    looks: u32,
}

impl BusyPoll {
    pub(super) fn new(limit: Duration, counters: Arc<IoCounters>) -> Self {
        Self {
            limit,
            counters,
            spin: None,
        }
    }

    /// Whether a thread that finds nothing looks again at all.
    pub(super) fn is_on(&self) -> bool {
        !self.limit.is_zero()
    }

    /// Decides after each look that found nothing: true is to look once more, false is to sleep.
    pub(super) fn look_again(&mut self) -> bool {
        let Some(spin) = &mut self.spin else {
            self.spin = self.is_on().then(Spin::start);
            return self.is_on();
        };
        spin.looks += 1;
        if spin.looks.is_multiple_of(LOOKS_A_READING) {
            bump(&self.counters.spinning_ns, spin.uncounted_ns());
            if spin.counted_until - spin.started >= self.limit {
                self.spin = None;
                return false;
            }
        }
        std::hint::spin_loop();
        true
    }

    /// Ends the spin, because something was found or the loop ends.
    pub(super) fn end(&mut self) {
        if let Some(mut spin) = self.spin.take() {
            bump(&self.counters.spinning_ns, spin.uncounted_ns());
        }
    }
}

impl Spin {
    fn start() -> Self {
        let now = Instant::now();
        Self {
            started: now,
            counted_until: now,
            looks: 0,
        }
    }

    /// Reads the clock, and returns the nanoseconds since it was last read, which the caller counts.
    fn uncounted_ns(&mut self) -> u64 {
        let now = Instant::now();
        let passed = now - self.counted_until;
        self.counted_until = now;
        passed.as_nanos() as u64
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering::Relaxed;

    use super::*;

    fn busy_poll(limit: Duration) -> (BusyPoll, Arc<IoCounters>) {
        let counters = Arc::new(IoCounters::default());
        (BusyPoll::new(limit, Arc::clone(&counters)), counters)
    }

    #[test]
    fn without_a_limit_nobody_looks_again_and_no_time_is_counted() {
        let (mut off, counters) = busy_poll(Duration::ZERO);
        for _ in 0..2 * LOOKS_A_READING {
            assert!(!off.look_again());
        }
        off.end();
        assert_eq!(counters.spinning_ns.load(Relaxed), 0);
    }

    #[test]
    fn the_clock_ends_a_spin_where_it_is_read() {
        let (mut short, counters) = busy_poll(Duration::from_nanos(1));
        for _ in 0..2 {
            let before = counters.spinning_ns.load(Relaxed);
            let looks = (0..).take_while(|_| short.look_again()).count();
            assert_eq!(looks, LOOKS_A_READING as usize);
            assert!(counters.spinning_ns.load(Relaxed) > before);
        }
    }

    #[test]
    fn what_is_found_ends_a_spin() {
        let (mut long, counters) = busy_poll(Duration::MAX);
        long.end();
        assert_eq!(counters.spinning_ns.load(Relaxed), 0);
        let started = Instant::now();
        for _ in 0..LOOKS_A_READING / 2 {
            assert!(long.look_again());
        }
        assert_eq!(counters.spinning_ns.load(Relaxed), 0, "counted too early");
        long.end();
        let counted = counters.spinning_ns.load(Relaxed);
        assert!(counted > 0 && u128::from(counted) <= started.elapsed().as_nanos());
        long.end();
        assert_eq!(counters.spinning_ns.load(Relaxed), counted);
    }
}
