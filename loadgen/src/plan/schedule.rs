//! The planned send times of an open loop's datagrams. The plan depends on the rate alone: it does not slip when the
//! sender or the server is slow.

use rand::distr::{Distribution, OpenClosed01};
use rand::rand_core::SeedableRng;
use rand_xoshiro::Xoshiro256PlusPlus;

use crate::record::Gaps;

/// Planned times, ascending, in nanoseconds.
#[derive(Debug, Clone)]
pub(crate) struct Schedule {
    start_ns: f64,
    gap_ns: f64,
    /// Sum of all gaps so far, in mean gaps.
    elapsed: f64,
    random: Option<Xoshiro256PlusPlus>,
}

impl Schedule {
    /// The schedule of thread `part` of `parts`, which together send `per_s` datagrams a second. Constant gaps are
    /// dealt out to the threads in turn, so that together they are constant, too.
    pub(crate) fn new(
        start_ns: u64,
        per_s: f64,
        gaps: Gaps,
        seed: u64,
        part: usize,
        parts: usize,
    ) -> Self {
        let mut schedule = Self {
            start_ns: start_ns as f64,
            gap_ns: 1e9 / per_s * parts as f64,
            elapsed: part as f64 / parts as f64,
            random: None,
        };
        if gaps == Gaps::Exponential {
            let seed = seed ^ 0x6761_7073_0000_0000 ^ part as u64;
            schedule.random = Some(Xoshiro256PlusPlus::seed_from_u64(seed));
            schedule.elapsed = 0.0;
            schedule.advance();
        }
        schedule
    }

    /// The planned send time of the next datagram.
    #[inline]
    pub(crate) fn next_ns(&self) -> u64 {
        // This is exact to the nanosecond for 100 days: 2^53 ns.
        (self.start_ns + self.elapsed * self.gap_ns) as u64
    }

    /// Goes on to the following datagram.
    #[inline]
    pub(crate) fn advance(&mut self) {
        self.elapsed += match &mut self.random {
            None => 1.0,
            Some(rng) => {
                let uniform: f64 = OpenClosed01.sample(rng);
                -uniform.ln()
            }
        };
    }

    /// Number of datagrams planned from the next one on and before `end_ns`; with random gaps, the average number.
    pub(crate) fn left_before(&self, end_ns: u64) -> u64 {
        let end = (end_ns as f64 - self.start_ns) / self.gap_ns;
        (end - self.elapsed).ceil().max(0.0) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(schedule: &mut Schedule, count: usize) -> Vec<u64> {
        (0..count)
            .map(|_| {
                let next = schedule.next_ns();
                schedule.advance();
                next
            })
            .collect()
    }

    #[test]
    fn constant_gaps_are_constant_over_all_threads() {
        let mut all: Vec<u64> = (0..4)
            .flat_map(|part| times(&mut Schedule::new(1000, 1e6, Gaps::Constant, 0, part, 4), 5))
            .collect();
        all.sort_unstable();
        let expected: Vec<u64> = (1..=20).map(|n| n * 1000).collect();
        assert_eq!(all, expected);
    }

    #[test]
    fn the_plan_does_not_drift() {
        // A third of a microsecond is no whole number of nanoseconds.
        let mut schedule = Schedule::new(0, 3e6, Gaps::Constant, 0, 0, 1);
        let last = times(&mut schedule, 3_000_001)[3_000_000];
        assert_eq!(last, 1_000_000_000);
    }

    #[test]
    fn what_is_left_is_what_would_come() {
        let mut schedule = Schedule::new(500, 1e6, Gaps::Constant, 0, 1, 3);
        times(&mut schedule, 7);
        for end_ns in [0, 500, 20_000, 100_500] {
            let left = schedule.left_before(end_ns);
            let coming = times(&mut schedule.clone(), 100);
            let expected = coming.iter().filter(|&&time| time < end_ns).count();
            assert_eq!(left, expected as u64, "{end_ns}");
        }
    }

    #[test]
    fn exponential_gaps_are_exponential() {
        let count = 100_000;
        let mut schedule = Schedule::new(0, 1e6, Gaps::Exponential, 9, 0, 1);
        let times = times(&mut schedule, count);
        let gaps: Vec<f64> = times.windows(2).map(|w| (w[1] - w[0]) as f64).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        assert!((mean - 1000.0).abs() < 15.0, "{mean}");
        // P(gap > mean * k) = e^-k.
        for k in [0.5f64, 1.0, 2.0, 4.0] {
            let above = gaps.iter().filter(|&&gap| gap > 1000.0 * k).count() as f64;
            let share = above / gaps.len() as f64;
            assert!((share - (-k).exp()).abs() < 0.01, "{k}: {share}");
        }
    }

    #[test]
    fn threads_have_gaps_of_their_own() {
        let of = |part| times(&mut Schedule::new(0, 1e6, Gaps::Exponential, 9, part, 2), 9);
        assert_ne!(of(0), of(1));
        assert_eq!(of(0), of(0));
    }
}
