//! Moments of a node's own clock.

use std::time::Duration;

/// Of so many milliseconds of an age one is left out when it is told: clocks of different machines differ by less.
const DRIFT_SHARE: u64 = 1_024;
const NS_PER_MS: u64 = 1_000_000;

/// A moment of our own clock, in nanoseconds since the fixed moment that all our times count from. It may lie before
/// that: what others had counted when we started is older than we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment {
    ns: i64,
}

impl Moment {
    /// The moment at which the clock shows this time.
    #[must_use]
    pub fn of(time: Duration) -> Self {
        Self {
            ns: i64::try_from(time.as_nanos()).unwrap_or(i64::MAX),
        }
    }

    /// The moment so many nanoseconds after the fixed one.
    #[must_use]
    pub fn at_ns(ns: i64) -> Self {
        Self { ns }
    }

    /// The moment that is so much earlier.
    #[must_use]
    pub fn before(self, age_ms: u64) -> Self {
        let age_ns = i64::try_from(age_ms.saturating_mul(NS_PER_MS)).unwrap_or(i64::MAX);
        Self {
            ns: self.ns.saturating_sub(age_ns),
        }
    }

    /// Milliseconds from this moment to `now`, rounded down; 0 if it is later.
    #[must_use]
    pub fn age_ms(self, now: Self) -> u64 {
        let age_ns = now.ns.saturating_sub(self.ns);
        u64::try_from(age_ns).unwrap_or(0) / NS_PER_MS
    }

    /// The age as it is told to another node: not above what the other node's clock would show for it. `now` is read
    /// before the age is written. The other node takes the age off a time that it reads after it has received it, so
    /// it never takes the moment for an earlier one.
    #[must_use]
    pub fn told_age_ms(self, now: Self) -> u64 {
        let age_ms = self.age_ms(now);
        age_ms - age_ms.div_ceil(DRIFT_SHARE)
    }

    /// Nanoseconds since the fixed moment.
    #[must_use]
    pub fn ns(self) -> i64 {
        self.ns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Moment {
        Moment::of(Duration::from_millis(ms))
    }

    #[test]
    fn ages_are_told_a_little_too_small() {
        let now = at(1_000_000);
        let cases = [
            (0, 0),
            (1, 0),
            (2, 1),
            (1_024, 1_023),
            (1_025, 1_023),
            (1_000_000, 999_023),
        ];
        for (age_ms, told) in cases {
            assert_eq!(now.before(age_ms).told_age_ms(now), told, "{age_ms}");
        }
        assert_eq!(at(5).age_ms(at(4)), 0, "not yet");
        assert_eq!(
            Moment::of(Duration::from_nanos(1)).age_ms(at(1)),
            0,
            "rounded down"
        );
    }

    /// Clocks that go wrong by up to 480 millionths each, which is more than NTP corrects in a second.
    #[test]
    fn what_is_told_is_never_older_than_it_is_by_the_other_clock() {
        for elapsed_us in [
            0_u64,
            1,
            999,
            5_000_000,
            61_234_567,
            3_600_000_000,
            2_678_400_000_000,
        ] {
            let by_clock = |millionths| elapsed_us + elapsed_us * millionths / 1_000_000;
            for fast in [0, 1, 960] {
                let told_at = Moment::of(Duration::from_micros(by_clock(fast)));
                let told_ms = at(0).told_age_ms(told_at);
                let heard_at = Moment::of(Duration::from_micros(elapsed_us));
                assert!(heard_at.before(told_ms) >= at(0), "{elapsed_us} us, {fast}");
            }
        }
    }

    #[test]
    fn moments_may_be_earlier_than_the_clock_can_show() {
        let early = at(1).before(1_000);
        assert!(early < Moment::of(Duration::ZERO));
        assert_eq!(early.age_ms(at(1)), 1_000);
        let earliest = at(1).before(u64::MAX);
        assert!(earliest < early && earliest.age_ms(at(1)) > 200 * 365 * 24 * 3_600_000);
        assert_eq!(earliest.before(u64::MAX).ns(), i64::MIN);
        assert_eq!(Moment::of(Duration::MAX).ns(), i64::MAX);
    }
}
