//! A token bucket in units of time: so many tries a second, saved up for at most one second.

use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

/// How many tries are left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Budget {
    /// What one try costs.
    cost: Duration,
    /// What is saved, at most a second.
    saved: Duration,
    /// When it was last looked at.
    last: Duration,
}

impl Budget {
    /// Full. `per_s` of 0 counts as 1.
    pub(super) fn new(per_s: u32) -> Self {
        Self {
            cost: SECOND / per_s.max(1),
            saved: SECOND,
            last: Duration::ZERO,
        }
    }

    /// Takes one try, where there is one.
    ///
    /// A clock that goes back saves nothing for that step, and goes on from where it is.
    pub(super) fn take(&mut self, now: Duration) -> bool {
        let passed = now.saturating_sub(self.last);
        self.last = now;
        self.saved = self.saved.saturating_add(passed).min(SECOND);
        match self.saved.checked_sub(self.cost) {
            Some(rest) => {
                self.saved = rest;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tries(budget: &mut Budget, now: Duration) -> u32 {
        let mut count = 0;
        while budget.take(now) {
            count += 1;
        }
        count
    }

    #[test]
    fn a_second_is_saved_and_no_more() {
        let mut budget = Budget::new(100);
        assert_eq!(tries(&mut budget, Duration::ZERO), 100);
        assert_eq!(tries(&mut budget, Duration::from_millis(95)), 9);
        assert_eq!(tries(&mut budget, Duration::from_millis(100)), 1);
        assert_eq!(tries(&mut budget, Duration::from_secs(1_000_000)), 100);
    }

    #[test]
    fn a_clock_that_goes_back_or_to_the_end_of_time_starves_nobody() {
        let mut budget = Budget::new(10);
        assert_eq!(tries(&mut budget, Duration::MAX), 10);
        assert_eq!(tries(&mut budget, Duration::from_secs(5)), 0);
        assert_eq!(tries(&mut budget, Duration::from_secs(6)), 10);
    }

    #[test]
    fn none_a_second_is_one() {
        let mut budget = Budget::new(0);
        assert_eq!(tries(&mut budget, Duration::ZERO), 1);
        assert_eq!(tries(&mut budget, Duration::from_secs(1)), 1);
    }
}
