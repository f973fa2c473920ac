//! A token bucket limits how often something may happen: at a rate, with bursts after a time of rest.

use std::time::Duration;

const TOKEN: i128 = 1_000_000_000;

/// A rate with bursts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Number of times in one burst.
    pub burst: u64,
    /// Number of times in each second; 0 counts as 1.
    pub per_s: u64,
}

/// Tokens that come with time, at a rate and up to a burst (RFC 2697, section 3, with one rate and one burst).
///
/// Nothing is lost to rounding. In every stretch of time at most a burst, and the rate times the stretch, is taken; a
/// caller that always takes every token gets exactly that.
///
/// A moment before the last one brings no tokens, and time goes on from there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenBucket {
    rate: Rate,
    /// The level in billionths of a token, so that each nanosecond brings `per_s` of them. It is at most the burst,
    /// and negative after [`spend`](Self::spend) took more than there was.
    level: i128,
    /// The moment when time last brought tokens.
    at: Duration,
}

impl TokenBucket {
    /// A full bucket.
    #[must_use]
    pub const fn new(rate: Rate, now: Duration) -> Self {
        Self {
            rate,
            level: level_of(rate.burst),
            at: now,
        }
    }

    /// Takes a token if there is one.
    pub fn take(&mut self, now: Duration) -> bool {
        let has_token = self.has_token(now);
        if has_token {
            self.level -= TOKEN;
        }
        has_token
    }

    /// Whether there is a token.
    pub fn has_token(&mut self, now: Duration) -> bool {
        self.fill(now);
        self.level >= TOKEN
    }

    /// Takes tokens whether there are enough or not. Missing ones are a debt, which later tokens pay. The debt is at
    /// most what a second brings, so that it is paid soon, however much was taken.
    pub fn spend(&mut self, tokens: u64) {
        let debt_max = level_of(self.per_s());
        self.level = (self.level - level_of(tokens)).max(-debt_max);
    }

    /// The moment of the next token: the last moment that the bucket was told of if there is a token now.
    #[must_use]
    pub fn ready_at(&self) -> Duration {
        let missing = u128::try_from(TOKEN - self.level).unwrap_or(0);
        // A debt is at most a second's worth, and a token takes a second at most.
        let wait_ns = missing.div_ceil(u128::from(self.per_s())) as u64;
        self.at.saturating_add(Duration::from_nanos(wait_ns))
    }

    fn per_s(&self) -> u64 {
        self.rate.per_s.max(1)
    }

    fn fill(&mut self, now: Duration) {
        let passed = now.saturating_sub(self.at).as_nanos().cast_signed();
        self.at = now;
        let earned = passed.saturating_mul(self.per_s().into());
        self.level = self
            .level
            .saturating_add(earned)
            .min(level_of(self.rate.burst));
    }
}

const fn level_of(tokens: u64) -> i128 {
    tokens as i128 * TOKEN
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn full(per_s: u64, burst: u64) -> TokenBucket {
        TokenBucket::new(Rate { burst, per_s }, Duration::ZERO)
    }

    fn taken(bucket: &mut TokenBucket, now: Duration) -> u32 {
        let mut count = 0;
        while bucket.take(now) {
            count += 1;
        }
        count
    }

    #[test]
    fn a_burst_and_then_the_rate() {
        let mut bucket = full(10, 3);
        let mut take = |ms| bucket.take(Duration::from_millis(ms));
        assert_eq!([0; 4].map(&mut take), [true, true, true, false]);
        assert_eq!([99, 100, 150].map(&mut take), [false, true, false]);
        assert_eq!([5_000; 4].map(&mut take), [true, true, true, false]);
        assert!(!take(0));
    }

    #[test]
    fn a_burst_of_a_second_is_saved_and_no_more() {
        let mut bucket = full(100, 100);
        assert_eq!(taken(&mut bucket, Duration::ZERO), 100);
        assert_eq!(taken(&mut bucket, 95 * MS), 9);
        assert_eq!(taken(&mut bucket, 100 * MS), 1);
        assert_eq!(taken(&mut bucket, Duration::from_secs(1_000_000)), 100);
    }

    #[test]
    fn a_clock_that_goes_back_or_to_the_end_of_time_starves_nobody() {
        let mut bucket = full(10, 10);
        assert_eq!(taken(&mut bucket, Duration::MAX), 10);
        assert_eq!(taken(&mut bucket, Duration::from_secs(5)), 0);
        assert_eq!(taken(&mut bucket, Duration::from_secs(6)), 10);
    }

    #[test]
    fn none_a_second_is_one() {
        let mut bucket = full(0, 1);
        assert_eq!(taken(&mut bucket, Duration::ZERO), 1);
        assert_eq!(taken(&mut bucket, Duration::from_secs(1)), 1);
    }

    #[test]
    fn a_debt_ends_at_a_second_and_numbers_have_no_end() {
        let mut bucket = full(1_000, 10);
        bucket.spend(u64::MAX);
        assert_eq!(bucket.ready_at(), 1_001 * MS);
        assert!(!bucket.has_token(1_000 * MS) && bucket.has_token(1_001 * MS));

        let mut bucket = full(u64::MAX, u64::MAX);
        bucket.spend(u64::MAX);
        bucket.spend(u64::MAX);
        assert!(bucket.has_token(Duration::MAX) && bucket.ready_at() == Duration::MAX);
    }

    /// A bucket that counts one nanosecond after the other.
    #[derive(Debug)]
    struct Oracle {
        per_s: u64,
        burst: u64,
        tokens: u64,
        /// The part of the next token, in billionths.
        part: u64,
        now_ns: u64,
    }

    impl Oracle {
        fn take(&mut self, now_ns: u64) -> bool {
            while self.now_ns < now_ns {
                self.now_ns += 1;
                self.part += self.per_s;
                self.tokens += self.part / 1_000_000_000;
                self.part %= 1_000_000_000;
                if self.tokens >= self.burst {
                    self.tokens = self.burst;
                    self.part = 0;
                }
            }
            let has_token = self.tokens > 0;
            self.tokens -= u64::from(has_token);
            has_token
        }
    }

    proptest! {
        #[test]
        fn gives_what_each_nanosecond_brings(
            per_s in 1..2_000_000_000_u64,
            burst in 0..20_u64,
            steps_ns in prop::collection::vec(0..50_u64, 1..200),
        ) {
            let mut oracle = Oracle { per_s, burst, tokens: burst, part: 0, now_ns: 0 };
            let mut bucket = full(per_s, burst);
            let mut now_ns = 0;
            for step_ns in steps_ns {
                now_ns += step_ns;
                prop_assert_eq!(bucket.take(Duration::from_nanos(now_ns)), oracle.take(now_ns));
            }
        }

        #[test]
        fn there_is_a_token_when_it_says_and_not_before(
            per_s in 1..2_000_000_000_u64,
            spent in 0..1_000_000_u64,
        ) {
            let mut bucket = TokenBucket::new(Rate { burst: 64, per_s }, Duration::from_secs(1));
            bucket.spend(spent);
            let ready = bucket.ready_at();
            if ready > Duration::from_secs(1) {
                prop_assert!(!bucket.has_token(ready - Duration::from_nanos(1)));
            }
            prop_assert!(bucket.has_token(ready));
        }
    }
}
