//! Times from receiving to replying, by kind of operation.
//!
//! A [`Stopwatch`] belongs to a [`Handler`](super::Handler). It reads the clock once when the loop has taken something
//! of the kernel, and once when the replies are on their way back. All operations in between took so long, those that
//! were answered first as long as the last: so the cost is that of a batch, whatever is in it.
//!
//! Reading the clock twice takes longer than an operation, and under load a batch may be a single one. So one batch in
//! 17 is measured, and those until the next one count with its time: each operation is counted, and its time is that of
//! a batch shortly before it.
//!
//! What came before is not in it: how long a datagram lay in the socket's receive buffer. The kernel would tell
//! (`SO_TIMESTAMPNS`), but reads a clock for every packet of the machine then, by a clock that people set, and joins
//! datagrams to trains that have one time; and a queue that grows shows in drops.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use super::counters::bump;

/// The upper end of the first bucket, in nanoseconds.
const FIRST_NS: u64 = 1_000;
/// Buckets of equal width in each doubling of the time.
const BUCKETS_AN_OCTAVE: usize = 4;
/// Doublings from the upper end of the first bucket to that of the last but one: 1 us to 1.05 s.
const OCTAVES: usize = 20;
/// One of so many batches is measured. It is a prime, so that no load that repeats itself falls in step with it.
const BATCHES_A_MEASUREMENT: u32 = 17;
/// The first bucket, those of the octaves, and one for what took longer.
const BUCKETS: usize = 1 + OCTAVES * BUCKETS_AN_OCTAVE + 1;

/// How often what took how long. One thread writes it, and any thread may read it. Access is relaxed: each number
/// stands for itself, and nothing else is published through it.
// Aligned as other counters of a loop are.
#[derive(Debug)]
#[repr(align(128))]
pub struct Histogram {
    buckets: [AtomicU64; BUCKETS],
    sum_ns: AtomicU64,
}

impl Histogram {
    /// Notes that so many operations took this time each.
    #[inline]
    pub fn record(&self, time: Duration, operations: u64) {
        let ns = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        bump(&self.buckets[bucket_of(ns)], operations);
        bump(&self.sum_ns, ns.wrapping_mul(operations));
    }

    /// What was noted so far.
    #[must_use]
    pub fn read(&self) -> Times {
        Times {
            buckets: std::array::from_fn(|at| self.buckets[at].load(Relaxed)),
            sum_ns: self.sum_ns.load(Relaxed),
        }
    }
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            buckets: [const { AtomicU64::new(0) }; BUCKETS],
            sum_ns: AtomicU64::new(0),
        }
    }
}

/// A picture of a [`Histogram`], or the sum of several.
///
/// ```
/// use std::time::Duration;
/// use rmbd_io::latency::Histogram;
///
/// let histogram = Histogram::default();
/// histogram.record(Duration::from_micros(3), 99);
/// histogram.record(Duration::from_micros(900), 1);
/// let times = histogram.read();
/// assert_eq!(times.count(), 100);
/// assert_eq!(times.quantile(0.5), Some(Duration::from_micros(3)));
/// assert_eq!(times.quantile(0.999), Some(Duration::from_micros(1_024)));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Times {
    buckets: [u64; BUCKETS],
    sum_ns: u64,
}

impl Times {
    /// Number of operations.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// The sum of all times. It begins anew after 584 years of them.
    #[must_use]
    pub fn sum(&self) -> Duration {
        Duration::from_nanos(self.sum_ns)
    }

    /// A time that this share (0 to 1) of the operations did not exceed: the upper end of the bucket in which it is, at
    /// most a quarter too long, and at least 1 us. `None` where there are no operations, or it is above 1.05 s.
    #[must_use]
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        // At least one of them, and never more than all.
        let wanted = (self.count() as f64 * share).ceil().max(1.0) as u64;
        let mut reached = 0;
        let mut buckets = self.buckets();
        let found = buckets.find(|(_, operations)| {
            reached += operations;
            reached >= wanted
        });
        found.and_then(|(end, _)| end)
    }

    /// The buckets from the shortest times to the longest: the time that its operations did not exceed, and the number
    /// of these. The last one has no such time.
    pub fn buckets(&self) -> impl Iterator<Item = (Option<Duration>, u64)> {
        let buckets = self.buckets.iter().enumerate();
        buckets.map(|(at, &operations)| (end_of(at), operations))
    }

    /// The same with one bucket for each doubling of the time, for readers who pay for each bucket.
    pub fn octaves(&self) -> impl Iterator<Item = (Option<Duration>, u64)> {
        let first = (end_of(0), self.buckets[0]);
        let others = (1..BUCKETS).step_by(BUCKETS_AN_OCTAVE).map(move |at| {
            let last = (at + BUCKETS_AN_OCTAVE).min(BUCKETS) - 1;
            (end_of(last), self.buckets[at..=last].iter().sum())
        });
        std::iter::once(first).chain(others)
    }
}

impl Default for Times {
    fn default() -> Self {
        Histogram::default().read()
    }
}

impl std::ops::AddAssign<&Self> for Times {
    fn add_assign(&mut self, other: &Self) {
        let buckets = self.buckets.iter_mut().zip(other.buckets);
        buckets.for_each(|(sum, more)| *sum += more);
        self.sum_ns = self.sum_ns.wrapping_add(other.sum_ns);
    }
}

/// Measures how long the operations of one thread take, of `N` kinds.
#[derive(Debug)]
pub struct Stopwatch<const N: usize> {
    histograms: Arc<[Histogram; N]>,
    /// When the loop took what is at hand, if that is measured.
    taken: Option<Instant>,
    /// Batches until one is measured.
    left: u32,
    /// How long the last batch took that was measured.
    time: Duration,
    /// Operations of each kind that have been noted.
    noted: [u64; N],
}

impl<const N: usize> Stopwatch<N> {
    /// A stopwatch that is the only one to write into `histograms`.
    #[must_use]
    pub fn new(histograms: Arc<[Histogram; N]>) -> Self {
        Self {
            histograms,
            taken: None,
            // The first one is measured, since those after it count with its time.
            left: 0,
            time: Duration::ZERO,
            noted: [0; N],
        }
    }

    /// The loop has taken something of the kernel.
    #[inline]
    pub fn taken(&mut self) {
        self.taken = (self.left == 0).then(Instant::now);
    }

    /// The replies to what was taken are on their way. `done` is how many operations of each kind the thread has done
    /// since its start; where none is new, the clock is not read.
    #[inline]
    pub fn replied(&mut self, done: &[u64; N]) {
        if *done == self.noted {
            return;
        }
        if let Some(taken) = self.taken {
            self.time = taken.elapsed();
            self.left = BATCHES_A_MEASUREMENT;
        }
        // What was taken at once may be answered in parts.
        self.left = self.left.saturating_sub(1);
        for ((histogram, &done), noted) in self.histograms.iter().zip(done).zip(&mut self.noted) {
            if done != *noted {
                histogram.record(self.time, done - *noted);
                *noted = done;
            }
        }
    }
}

/// The bucket of a time. Ends of buckets belong to them.
#[inline]
fn bucket_of(ns: u64) -> usize {
    // In parts of which the first bucket has as many as an octave has buckets.
    let parts = ns.saturating_sub(1) / (FIRST_NS / BUCKETS_AN_OCTAVE as u64);
    if parts < BUCKETS_AN_OCTAVE as u64 {
        return 0;
    }
    let octave = (parts.ilog2() - BUCKETS_AN_OCTAVE.ilog2()) as usize;
    let quarter = (parts >> octave) as usize % BUCKETS_AN_OCTAVE;
    (1 + octave * BUCKETS_AN_OCTAVE + quarter).min(BUCKETS - 1)
}

/// The longest time of a bucket; `None` for the last.
fn end_of(bucket: usize) -> Option<Duration> {
    let parts = match bucket.checked_sub(1) {
        None => BUCKETS_AN_OCTAVE,
        Some(at) => {
            let (octave, quarter) = (at / BUCKETS_AN_OCTAVE, at % BUCKETS_AN_OCTAVE);
            (BUCKETS_AN_OCTAVE + quarter + 1) << octave
        }
    };
    let ns = parts as u64 * (FIRST_NS / BUCKETS_AN_OCTAVE as u64);
    (bucket < BUCKETS - 1).then(|| Duration::from_nanos(ns))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The bucket by going through all of them.
    fn naive(ns: u64) -> usize {
        let is_within =
            |&bucket: &usize| end_of(bucket).is_none_or(|end| Duration::from_nanos(ns) <= end);
        (0..BUCKETS).find(is_within).unwrap()
    }

    #[test]
    fn ends_of_buckets_grow_by_a_quarter_at_most_from_one_us_to_a_second() {
        let ends: Vec<Duration> = (0..BUCKETS - 1).map(|at| end_of(at).unwrap()).collect();
        assert_eq!(ends[0], Duration::from_micros(1));
        assert_eq!(*ends.last().unwrap(), Duration::from_micros(1 << OCTAVES));
        for pair in ends.windows(2) {
            assert!(pair[0] < pair[1] && pair[1] <= pair[0] * 5 / 4, "{pair:?}");
        }
        for (at, end) in ends.iter().enumerate() {
            let ns = end.as_nanos() as u64;
            assert_eq!((bucket_of(ns), bucket_of(ns + 1)), (at, at + 1));
        }
        assert_eq!((bucket_of(0), bucket_of(u64::MAX)), (0, BUCKETS - 1));
    }

    #[test]
    fn octaves_have_what_buckets_have() {
        let histogram = Histogram::default();
        for at in 0..BUCKETS {
            let time = end_of(at).unwrap_or(Duration::MAX);
            histogram.record(time, at as u64 + 1);
        }
        let times = histogram.read();
        let sum_up_to = |end: Option<Duration>| -> u64 {
            let within = |&(it, _): &(Option<Duration>, u64)| it.is_some() && it <= end;
            let buckets = times.buckets().filter(|it| end.is_none() || within(it));
            buckets.map(|(_, operations)| operations).sum()
        };
        let mut reached = 0;
        let ends: Vec<_> = times
            .octaves()
            .map(|(end, operations)| {
                reached += operations;
                assert_eq!(reached, sum_up_to(end), "{end:?}");
                end
            })
            .collect();
        let doubled = (0..=OCTAVES).map(|octave| Some(Duration::from_micros(1 << octave)));
        assert_eq!(ends, doubled.chain([None]).collect::<Vec<_>>());
        assert_eq!(reached, times.count());
    }

    #[test]
    fn nothing_has_no_quantile_and_what_is_too_long_has_no_end() {
        assert_eq!(Times::default().quantile(0.5), None);
        let histogram = Histogram::default();
        histogram.record(Duration::from_secs(2), 1);
        assert_eq!(histogram.read().quantile(0.0), None);
        assert_eq!(histogram.read().count(), 1);
    }

    #[test]
    fn a_stopwatch_notes_each_operation_once_under_its_kind() {
        let histograms = Arc::new([Histogram::default(), Histogram::default()]);
        let mut stopwatch = Stopwatch::new(Arc::clone(&histograms));
        let mut expected = [0, 0];
        for (first, second) in [(3, 0), (0, 0), (2, 7), (0, 1)] {
            stopwatch.taken();
            expected = [expected[0] + first, expected[1] + second];
            stopwatch.replied(&expected);
            stopwatch.replied(&expected);
            let counts = [0, 1].map(|kind| histograms[kind].read().count());
            assert_eq!(counts, expected);
        }
    }

    #[test]
    fn one_batch_in_17_is_measured_and_the_others_count_as_it() {
        let histograms = Arc::new([Histogram::default()]);
        let mut stopwatch = Stopwatch::new(Arc::clone(&histograms));
        let mut times = Vec::new();
        for done in 1..=2 * u64::from(BATCHES_A_MEASUREMENT) {
            let before = histograms[0].read().sum();
            stopwatch.taken();
            if done.is_multiple_of(2) {
                // Nothing was done, so that nothing is measured.
                stopwatch.replied(&[done - 1]);
            }
            stopwatch.replied(&[done]);
            times.push(histograms[0].read().sum() - before);
        }
        let (first, second) = times.split_at(BATCHES_A_MEASUREMENT as usize);
        for times in [first, second] {
            assert!(times.iter().all(|time| *time == times[0]), "{times:?}");
        }
        assert_eq!(histograms[0].read().count(), times.len() as u64);
    }

    #[test]
    fn an_answer_in_parts_is_measured_whole_or_not_at_all() {
        let histograms = Arc::new([Histogram::default()]);
        let mut stopwatch = Stopwatch::new(Arc::clone(&histograms));
        for done in 0..100 {
            if done % 40 == 0 {
                stopwatch.taken();
            }
            stopwatch.replied(&[done]);
        }
        assert_eq!(histograms[0].read().count(), 99);
    }

    proptest! {
        #[test]
        fn a_time_is_in_the_first_bucket_that_has_room_for_it(ns in prop_oneof![
            0_u64..10_000, 0_u64..5_000_000_000, any::<u64>()
        ]) {
            prop_assert_eq!(bucket_of(ns), naive(ns));
        }

        /// A quantile is never below the truth, and at most a quarter above it.
        #[test]
        fn quantiles_are_those_of_the_sorted_list(
            mut us in prop::collection::vec(1_u64..1_000_000, 1..200), share in 0.0_f64..=1.0
        ) {
            let mut sum = Times::default();
            for half in us.chunks(us.len().div_ceil(2)) {
                let histogram = Histogram::default();
                half.iter().for_each(|&us| histogram.record(Duration::from_micros(us), 1));
                sum += &histogram.read();
            }
            us.sort_unstable();
            let at = ((us.len() as f64 * share).ceil() as usize).clamp(1, us.len()) - 1;
            let (truth, told) = (Duration::from_micros(us[at]), sum.quantile(share).unwrap());
            prop_assert!(truth <= told && told <= truth * 5 / 4, "{:?} {:?}", truth, told);
            prop_assert_eq!(sum.sum(), Duration::from_micros(us.iter().sum()));
        }
    }
}
