//! Whether somebody else sends on a channel, who has seen what its owner sends.

use std::time::Duration;

const WINDOW: Duration = Duration::from_millis(100);
/// In a window. What a network damages, doubles or delays is less, up to a thousand a second; where it is more, the
/// channel is only read from another queue.
const REFUSED_MAX: u32 = 100;
/// How long it must have been quiet.
const QUIET: Duration = Duration::from_secs(5);

/// Counts what is refused on one known channel.
#[derive(Debug, Default)]
pub(super) struct Contest {
    window_start: Duration,
    refused: u32,
    until: Option<Duration>,
}

impl Contest {
    /// Something of the channel was refused; true where this is what makes it contested.
    pub(super) fn refused(&mut self, now: Duration) -> bool {
        // Also where the clock went back.
        if now.abs_diff(self.window_start) >= WINDOW {
            self.window_start = now;
            self.refused = 0;
        }
        self.refused = self.refused.saturating_add(1);
        if self.refused < REFUSED_MAX {
            return false;
        }
        let was_contested = self.is_contested(now);
        self.until = Some(now.saturating_add(QUIET));
        !was_contested
    }

    pub(super) fn is_contested(&self, now: Duration) -> bool {
        self.until
            .is_some_and(|until| now < until && until - now <= QUIET)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusals(contest: &mut Contest, start_ms: u64, count: u64, per_ms: u64) -> usize {
        (0..count)
            .filter(|number| contest.refused(Duration::from_millis(start_ms + number / per_ms)))
            .count()
    }

    #[test]
    fn a_channel_is_contested_until_it_was_quiet() {
        let mut contest = Contest::default();
        let at = Duration::from_millis;
        assert_eq!(refusals(&mut contest, 1_000, 99, 200), 0);
        assert!(!contest.is_contested(at(1_001)));
        // Told once, however long it goes on.
        assert_eq!(refusals(&mut contest, 2_000, 1_000_000, 200), 1);
        assert!(contest.is_contested(at(7_000)) && contest.is_contested(at(11_000)));
        assert!(!contest.is_contested(at(12_000)));
        assert_eq!(refusals(&mut contest, 20_000, 1_000, 200), 1);
        // The clock went back: it does not stay for long.
        assert!(!contest.is_contested(at(0)));
    }

    #[test]
    fn what_a_network_doubles_is_no_contest() {
        let mut contest = Contest::default();
        for number in 0..100_000 {
            assert!(!contest.refused(Duration::from_micros(number * 1_100)));
        }
    }
}
