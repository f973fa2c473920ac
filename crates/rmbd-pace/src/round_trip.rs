//! An estimate of the round trip, and of the time after which an answer counts as lost.

use std::time::Duration;

/// The longest round trip in nanoseconds (36 years); longer ones count as this one, so that sums do not overflow.
const SAMPLE_NS_MAX: u64 = u64::MAX / 16;

/// Bounds of the timeouts that a [`RoundTrip`] gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// The timeout while no round trip has been measured.
    pub first: Duration,
    /// The least time that is added to the smoothed round trip, however little round trips vary: the `G` of RFC 6298,
    /// `kGranularity` of RFC 9002.
    pub variation_min: Duration,
    /// The time for which the other end may delay an answer: `max_ack_delay` of RFC 9002.
    pub answer_delay: Duration,
    /// The shortest timeout once a round trip has been measured, before it is doubled.
    pub min: Duration,
    /// The longest timeout, doublings included.
    pub max: Duration,
    /// Largest number of doublings of a timeout, below 32.
    pub doublings_max: u32,
}

/// Round trips, smoothed as in RFC 6298 (section 2) and RFC 9002 (5.3): a mean and a mean deviation. A new sample has
/// a weight of an eighth in the mean, and of a quarter in the deviation.
///
/// Only round trips of messages that were sent once may be measured (Karn's algorithm, RFC 6298 section 3). Of a
/// message that was sent twice nobody knows which copy was answered.
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
    /// An estimate without any measurement.
    #[must_use]
    pub const fn new(timeouts: Timeouts) -> Self {
        Self {
            timeouts,
            measured: None,
        }
    }

    /// Takes a measurement: the time from a message to its answer.
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

    /// The time to wait for an answer before it counts as lost. `doublings` is the number of timeouts in a row without
    /// an answer.
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
            // This uses the mean before this sample, as RFC 6298 (2.3) says.
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

    /// The formula of RFC 6298, section 2, in seconds.
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
