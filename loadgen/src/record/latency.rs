//! Latencies of many requests.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// The longest time that a histogram tells from a longer one, in nanoseconds.
pub(crate) const LATENCY_MAX_NS: u64 = 120_000_000_000;

/// Number of points that a [`Latency::distribution`] has for each halving of the distance to 100 %.
const TICKS_PER_HALF_DISTANCE: u32 = 5;

/// The distribution of the times of many requests.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// Number of requests.
    pub count: u64,
    /// The shortest time.
    pub min_ns: u64,
    /// The longest time.
    pub max_ns: u64,
    /// The mean.
    pub mean_ns: f64,
    /// The standard deviation.
    pub stdev_ns: f64,
    /// The time that half of the requests do not exceed.
    pub p50_ns: u64,
    /// The time that 90 % do not exceed.
    pub p90_ns: u64,
    /// The time that 99 % do not exceed.
    pub p99_ns: u64,
    /// The time that 99.9 % do not exceed.
    pub p99_9_ns: u64,
    /// The time that 99.99 % do not exceed.
    pub p99_99_ns: u64,
    /// The whole curve, ascending, with more points towards 100 %.
    pub distribution: Vec<Percentile>,
}

/// A point of a distribution.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Percentile {
    /// This share of all requests ...
    pub quantile: f64,
    /// ... took at most this long, ...
    pub ns: u64,
    /// ... which are this many.
    pub count: u64,
}

impl Latency {
    /// The distribution of a histogram of nanoseconds; `None` if it is empty.
    #[must_use]
    pub fn of(histogram: &Histogram<u64>) -> Option<Self> {
        if histogram.is_empty() {
            return None;
        }
        let at = |quantile| histogram.value_at_quantile(quantile);
        Some(Self {
            count: histogram.len(),
            min_ns: histogram.min(),
            max_ns: histogram.max(),
            mean_ns: histogram.mean(),
            stdev_ns: histogram.stdev(),
            p50_ns: at(0.5),
            p90_ns: at(0.9),
            p99_ns: at(0.99),
            p99_9_ns: at(0.999),
            p99_99_ns: at(0.9999),
            distribution: distribution(histogram),
        })
    }
}

fn distribution(histogram: &Histogram<u64>) -> Vec<Percentile> {
    let mut count = 0;
    let mut points = Vec::new();
    for step in histogram.iter_quantiles(TICKS_PER_HALF_DISTANCE) {
        count += step.count_since_last_iteration();
        points.push(Percentile {
            quantile: step.quantile_iterated_to(),
            ns: step.value_iterated_to(),
            count,
        });
    }
    points
}

/// A histogram for a [`Latency`]: nanoseconds up to [`LATENCY_MAX_NS`], with 3 significant digits and of fixed size.
/// Record with `saturating_record`.
#[must_use]
pub(crate) fn latency_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_MAX_NS, 3).expect("constant bounds that are in order")
}
