//! What those who send in vain may cost: at most a fixed number of refused datagrams is read from a queue in any
//! window of time.

use std::time::Duration;

const WINDOW: Duration = Duration::from_millis(10);

/// Counts refusals. What comes while reading is paused waits in the queue's buffer, and what does not
/// fit there the kernel drops; members send that again.
#[derive(Debug)]
pub(super) struct Flood {
    /// In a window.
    refused_max: u32,
    window_start: Duration,
    refused: u32,
}

impl Flood {
    /// `refused_max` is at least 1: a hundred times as many are read in a second.
    pub(super) const fn new(refused_max: u32) -> Self {
        Self {
            refused_max,
            window_start: Duration::ZERO,
            refused: 0,
        }
    }

    /// A datagram was refused; true where this is what pauses the reading.
    pub(super) fn refused(&mut self, now: Duration) -> bool {
        if now.saturating_sub(self.window_start) >= WINDOW {
            self.window_start = now;
            self.refused = 0;
        }
        self.refused += 1;
        self.refused == self.refused_max
    }

    /// For how long nothing is to be read.
    pub(super) fn pause(&self, now: Duration) -> Option<Duration> {
        let end = self.window_start + WINDOW;
        let left = end.saturating_sub(now);
        // A clock that went back must not make the pause longer.
        let left = left.min(WINDOW);
        (self.refused >= self.refused_max && !left.is_zero()).then_some(left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REFUSED_MAX: u32 = 200;

    #[test]
    fn no_window_takes_more_than_its_share() {
        let mut flood = Flood::new(REFUSED_MAX);
        let mut taken = 0;
        // A refused datagram every microsecond, for a second.
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
