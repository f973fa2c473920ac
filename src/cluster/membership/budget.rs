//! Answers that somebody could make us give again and again are rationed.

use std::time::Duration;

/// A token bucket.
#[derive(Debug)]
pub(in crate::cluster) struct Budget {
    /// Time until one token more.
    interval: Duration,
    burst: u32,
    tokens: u32,
    filled_at: Duration,
}

impl Budget {
    /// Full; `per_s` is at least 1.
    pub(in crate::cluster) fn new(burst: u32, per_s: u32) -> Self {
        Self {
            interval: Duration::from_secs(1) / per_s.max(1),
            burst,
            tokens: burst,
            filled_at: Duration::ZERO,
        }
    }

    /// Takes a token, if there is one. Time that goes back brings none.
    pub(in crate::cluster) fn take(&mut self, now: Duration) -> bool {
        let gone = now.saturating_sub(self.filled_at).as_nanos();
        let new = u32::try_from(gone / self.interval.as_nanos()).unwrap_or(u32::MAX);
        if new > 0 {
            self.tokens = self.tokens.saturating_add(new).min(self.burst);
            // What is left of an interval is lost; that keeps us below the rate.
            self.filled_at = now;
        }
        let Some(left) = self.tokens.checked_sub(1) else {
            return false;
        };
        self.tokens = left;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_and_then_the_rate() {
        let mut budget = Budget::new(3, 10);
        let mut taken = |ms| budget.take(Duration::from_millis(ms));
        assert_eq!([0; 4].map(&mut taken), [true, true, true, false]);
        assert_eq!([99, 100, 150].map(&mut taken), [false, true, false]);
        assert_eq!([5_000; 4].map(&mut taken), [true, true, true, false]);
        assert!(!taken(0));
    }
}
