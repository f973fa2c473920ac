//! An estimate of the round trip, and of when an answer counts as lost.

use std::time::Duration;

/// The longest round trip that is told apart (36 years), so that no sum of some of them overflows.
const SAMPLE_NS_MAX: u64 = u64::MAX / 16;

/// Bounds of the timeouts that a [`RoundTrip`] gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// The timeout while no round trip has been measured.
    pub first: Duration,
    /// At least so much is added to the smoothed round trip, however little round trips vary: the `G` of RFC 6298,
    /// `kGranularity` of RFC 9002.
    pub variation_min: Duration,
    /// The time for which the other end may keep an answer back: `max_ack_delay` of RFC 9002.
    pub answer_delay: Duration,
    /// The least timeout once a round trip has been measured, before it is doubled.
    pub min: Duration,
    /// The largest timeout, doublings included.
    pub max: Duration,
    /// A timeout is doubled at most so often; below 32.
    pub doublings_max: u32,
}

/// Round trips as RFC 6298 (section 2) and RFC 9002 (5.3) smooth them: a mean and a mean deviation, of which each
/// sample makes an eighth and a quarter.
///
/// Only round trips of what was sent once are to be measured (Karn's algorithm, RFC 6298 section 3): of what was sent
/// twice nobody knows which copy was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoundTrip {
    timeouts: Timeouts,
    measured: Option<Measured>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Measured {
    smoothed_ns: u64,
    variation_ns: u64,
}

impl RoundTrip {
    /// Nothing has been measured yet.
    #[must_use]
    pub const fn new(timeouts: Timeouts) -> Self {
        Self {
            timeouts,
            measured: None,
        }
    }

    /// An answer came this long after what it answers was sent.
    pub fn measured(&mut self, sample: Duration) {
        let sample_ns = u64::try_from(sample.as_nanos()).unwrap_or(u64::MAX);
        let sample_ns = sample_ns.min(SAMPLE_NS_MAX);
        self.measured = Some(match self.measured {
            None => Measured {
                smoothed_ns: sample_ns,
                variation_ns: sample_ns / 2,
            },
            Some(before) => before.and(sample_ns),
        });
    }

    /// How long to wait for an answer before it counts as lost. `doublings` is how often in a row nothing came
    /// within the timeout.
    #[must_use]
    pub fn timeout(&self, doublings: u32) -> Duration {
        let timeouts = &self.timeouts;
        let timeout = match self.measured {
            None => timeouts.first,
            Some(measured) => {
                let variation = Duration::from_nanos(measured.variation_ns * 4);
                let timeout = Duration::from_nanos(measured.smoothed_ns)
                    + variation.max(timeouts.variation_min)
                    + timeouts.answer_delay;
                timeout.max(timeouts.min)
            }
        };
        let doublings = doublings.min(timeouts.doublings_max);
        timeout.saturating_mul(1 << doublings).min(timeouts.max)
    }
}

impl Measured {
    fn and(self, sample_ns: u64) -> Self {
        Self {
            smoothed_ns: (self.smoothed_ns * 7 + sample_ns) / 8,
            // With the mean before this sample, as RFC 6298 (2.3) says.
            variation_ns: (self.variation_ns * 3 + self.smoothed_ns.abs_diff(sample_ns)) / 4,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const TIMEOUTS: Timeouts = Timeouts {
        first: Duration::from_millis(250),
        variation_min: Duration::from_millis(15),
        answer_delay: Duration::from_millis(10),
        min: Duration::from_millis(30),
        max: Duration::from_secs(4),
        doublings_max: 4,
    };

    #[test]
    fn the_first_timeout_doubles_up_to_the_limits() {
        let round_trip = RoundTrip::new(TIMEOUTS);
        let timeouts = [0, 1, 2, 3, 4, 5, u32::MAX].map(|doublings| round_trip.timeout(doublings));
        assert_eq!(
            timeouts,
            [250, 500, 1_000, 2_000, 4_000, 4_000, 4_000].map(|ms| MS * ms)
        );
    }

    #[test]
    fn round_trips_that_do_not_vary_keep_the_slack() {
        let mut round_trip = RoundTrip::new(TIMEOUTS);
        round_trip.measured(MS);
        assert_eq!(round_trip.timeout(0), 30 * MS, "1 + 15 + 10 is below");
        for _ in 0..100 {
            round_trip.measured(40 * MS);
        }
        let timeout = round_trip.timeout(0);
        assert!(timeout > 64 * MS && timeout <= 65 * MS, "{timeout:?}");
    }

    #[test]
    fn no_round_trip_is_too_long() {
        let mut round_trip = RoundTrip::new(TIMEOUTS);
        for sample in [Duration::MAX, Duration::ZERO, Duration::MAX, Duration::MAX] {
            round_trip.measured(sample);
            assert_eq!(round_trip.timeout(u32::MAX), TIMEOUTS.max);
        }
    }

    /// RFC 6298, section 2, as it reads: in seconds.
    fn retransmission_timeout(samples: &[f64], granularity: f64) -> f64 {
        let (mut srtt, mut rttvar) = (0.0, 0.0);
        for (at, r) in samples.iter().enumerate() {
            if at == 0 {
                srtt = *r;
                rttvar = r / 2.0;
            } else {
                rttvar = (1.0 - 0.25) * rttvar + 0.25 * f64::abs(srtt - r);
                srtt = (1.0 - 0.125) * srtt + 0.125 * r;
            }
        }
        srtt + f64::max(granularity, 4.0 * rttvar)
    }

    proptest! {
        #[test]
        fn timeouts_are_those_of_the_rfc(
            samples_us in prop::collection::vec(0..10_000_000_u64, 1..50),
            doublings in 0..8_u32,
        ) {
            let mut round_trip = RoundTrip::new(TIMEOUTS);
            for &sample_us in &samples_us {
                round_trip.measured(Duration::from_micros(sample_us));
            }
            let samples: Vec<f64> = samples_us.iter().map(|&us| us as f64 / 1e6).collect();
            let timeout = (retransmission_timeout(&samples, 0.015) + 0.010).max(0.030);
            let expected = (timeout * f64::from(1 << doublings.min(4))).min(4.0);
            let off = round_trip.timeout(doublings).as_secs_f64() - expected;
            // Whole nanoseconds are kept: at most 8 are lost of the mean, and 4 x 4 + 8 of the deviation.
            prop_assert!(off.abs() < 32e-9 * 16.0, "{off}");
        }
    }
}
