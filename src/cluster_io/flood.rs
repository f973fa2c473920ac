//! A limit for the cost of datagrams that are refused: only a fixed number of them is read from a queue in any window
//! of time.

use std::time::Duration;

const WINDOW: Duration = Duration::from_millis(10);
/// How long an emptied queue is left alone after a refusal. Waking up costs more than reading and refusing a
/// datagram, so in a flood many are read at once.
const REST: Duration = Duration::from_millis(1);

/// Counts refusals of a queue. Datagrams that come while reading is paused wait in the queue's buffer. The kernel
/// drops those that do not fit there, and members send them again.
#[derive(Debug)]
pub(super) struct Flood {
    /// Largest number of refused datagrams in a window.
    refused_max: u32,
    window_start: Duration,
    refused: u32,
    /// Whether a datagram was refused since the last rest.
    has_refused: bool,
    rest_start: Option<Duration>,
}

impl Flood {
    /// A limit of `refused_max` refused datagrams (at least 1) in a window; in a second it is a hundred times as many.
    pub(super) const fn new(refused_max: u32) -> Self {
        Self {
            refused_max,
            window_start: Duration::ZERO,
            refused: 0,
            has_refused: false,
            rest_start: None,
        }
    }

    /// Notes that a datagram was refused. Returns true if this pauses the reading.
    pub(super) fn refused(&mut self, now: Duration) -> bool {
        if now.saturating_sub(self.window_start) >= WINDOW {
            self.window_start = now;
            self.refused = 0;
        }
        self.refused += 1;
        self.has_refused = true;
        self.refused == self.refused_max
    }

    /// Notes that no datagram waits any more.
    pub(super) fn emptied(&mut self, now: Duration) {
        self.rest_start = std::mem::take(&mut self.has_refused).then_some(now);
    }

    /// The remaining time for which nothing is to be read; `None` if reading is not paused.
    pub(super) fn pause(&self, now: Duration) -> Option<Duration> {
        let is_full = self.refused >= self.refused_max;
        let window = is_full.then(|| left(self.window_start, WINDOW, now));
        let rest = self.rest_start.map(|start| left(start, REST, now));
        window.max(rest).filter(|left| !left.is_zero())
    }
}

/// The rest of a time. A clock that went back must not make it longer.
fn left(start: Duration, length: Duration, now: Duration) -> Duration {
    (start + length).saturating_sub(now).min(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    const REFUSED_MAX: u32 = 200;

    #[test]
    fn no_window_takes_more_than_its_share() {
        let mut flood = Flood::new(REFUSED_MAX);
        let mut taken = 0;
        // A refused datagram comes every microsecond, for a second.
        for now_us in 0..1_000_000 {
            let now = Duration::from_micros(now_us);
            if flood.pause(now).is_none() {
                flood.refused(now);
                taken += 1;
            }
        }
        assert_eq!(taken, 20_000);
    }

    #[test]
    fn what_is_refused_slowly_never_pauses() {
        let mut flood = Flood::new(REFUSED_MAX);
        for number in 0..100_000 {
            let now = Duration::from_micros(number * 51);
            assert_eq!(flood.pause(now), None);
            assert!(!flood.refused(now));
        }
    }

    #[test]
    fn an_emptied_queue_rests_where_something_was_refused() {
        let mut flood = Flood::new(REFUSED_MAX);
        let at = Duration::from_micros;
        flood.emptied(at(5));
        assert_eq!(flood.pause(at(5)), None);
        flood.refused(at(10));
        assert_eq!(flood.pause(at(10)), None);
        flood.emptied(at(20));
        assert_eq!(flood.pause(at(120)), Some(at(900)));
        assert_eq!(flood.pause(at(1_020)), None);
        // The queue rests once for each refusal.
        flood.emptied(at(1_100));
        assert_eq!(flood.pause(at(1_100)), None);
    }

    #[test]
    fn a_pause_ends_with_its_window_and_is_told_once() {
        let mut flood = Flood::new(REFUSED_MAX);
        let at = Duration::from_millis;
        let told = (0..REFUSED_MAX + 5)
            .filter(|_| flood.refused(at(100)))
            .count();
        assert_eq!(told, 1);
        assert_eq!(flood.pause(at(100)), Some(at(10)));
        assert_eq!(flood.pause(at(109)), Some(at(1)));
        assert_eq!(flood.pause(at(110)), None);
        // The clock went back.
        assert_eq!(flood.pause(at(0)), Some(at(10)));
    }
}
