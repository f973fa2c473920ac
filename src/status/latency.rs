//! How long a node takes from receiving to replying, by operation.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::counters::{PublishedTally, Tally};
use crate::engine;
use rmbd_io::latency::{Histogram, Times};

/// Kinds of operations that a data thread does.
pub(crate) const THREAD_KINDS: usize = 9;

/// Their names in documents, in the order of [`operations_done`].
const THREAD_NAMES: [&str; THREAD_KINDS] = [
    "add",
    "count",
    "hit",
    "bounds",
    "window",
    "limits",
    "hit_by_name",
    "top",
    "resp",
];

/// How many operations of each kind a data thread has done: those of datagrams by themselves, and all commands of
/// Redis's protocol together.
#[inline]
pub(crate) fn operations_done(
    by_datagrams: &engine::Tally,
    resp_commands: u64,
) -> [u64; THREAD_KINDS] {
    [
        by_datagrams.add,
        by_datagrams.count,
        by_datagrams.hit,
        by_datagrams.bounds,
        by_datagrams.window,
        by_datagrams.limits,
        by_datagrams.hit_by_name,
        by_datagrams.top,
        resp_commands,
    ]
}

/// The times of one data thread.
pub(crate) type ThreadTimes = Arc<[Histogram; THREAD_KINDS]>;

/// Times of a data thread that has done nothing yet.
pub(super) fn thread_times() -> ThreadTimes {
    Arc::new(std::array::from_fn(|_| Histogram::default()))
}

/// What a front that one thread serves shows of itself.
#[derive(Debug, Default)]
pub(crate) struct PublishedFront {
    tally: PublishedTally,
    times: Histogram,
}

impl PublishedFront {
    /// Its counters.
    pub(crate) fn tally(&self) -> &PublishedTally {
        &self.tally
    }

    /// How long its requests took. Only the front writes there.
    pub(crate) fn times(&self) -> &Histogram {
        &self.times
    }

    /// The counters as they are published.
    pub(crate) fn read(&self) -> Tally {
        self.tally.read()
    }
}

/// How long the operations of one kind took, since the start of the node.
///
/// An operation of datagrams or of Redis's protocol takes from when the data thread took it of the kernel, until the
/// kernel was given the reply; what owes no reply, until it is in the cells. A request over HTTP, of Envoy or of
/// HAProxy takes from when all of it has been read until its answer is made. How long something lay in a socket is not
/// in it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct LatencyStatus {
    /// The operation: `add`, `count`, `hit`, `bounds`, `window`, `limits`, `hit_by_name` or `top` by datagrams, a
    /// command (`resp`), or a request (`http`, `envoy`, `spoe`).
    pub operation: String,
    /// Number of operations.
    pub count: u64,
    /// The sum of their times in seconds.
    pub sum_s: f64,
    /// What half of them did not exceed, in seconds, at most a quarter too long; `None` where that is above 1.05 s.
    pub p50_s: Option<f64>,
    /// What 99 % of them did not exceed, likewise.
    pub p99_s: Option<f64>,
    /// What 99.9 % of them did not exceed, likewise.
    pub p999_s: Option<f64>,
    /// The buckets with operations in them, from short times to long ones.
    pub buckets: Vec<LatencyBucket>,
}

/// Operations that took about as long.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LatencyBucket {
    /// What they did not exceed, in seconds; `None` where that is above 1.05 s.
    pub le_s: Option<f64>,
    /// Number of operations, without those of other buckets.
    pub count: u64,
}

impl LatencyStatus {
    /// All kinds of which there was an operation: those of data threads, then those of other fronts.
    pub(crate) fn all<'t>(
        threads: impl Iterator<Item = &'t ThreadTimes>,
        fronts: impl IntoIterator<Item = (&'static str, &'t Histogram)>,
    ) -> Vec<Self> {
        let mut sums: [Times; THREAD_KINDS] = Default::default();
        for thread in threads {
            for (sum, histogram) in sums.iter_mut().zip(thread.iter()) {
                *sum += &histogram.read();
            }
        }
        let threads = THREAD_NAMES.into_iter().zip(sums);
        let fronts = fronts.into_iter().map(|(name, times)| (name, times.read()));
        let all = threads.chain(fronts);
        let all = all.map(|(operation, times)| Self::of(operation, &times));
        all.filter(|kind| kind.count > 0).collect()
    }

    fn of(operation: &str, times: &Times) -> Self {
        let quantile = |share| times.quantile(share).map(|time| time.as_secs_f64());
        let seconds = |time: Option<Duration>| time.map(|time| time.as_secs_f64());
        let buckets = times.buckets().filter(|&(_, count)| count > 0);
        Self {
            operation: operation.to_owned(),
            count: times.count(),
            sum_s: times.sum().as_secs_f64(),
            p50_s: quantile(0.5),
            p99_s: quantile(0.99),
            p999_s: quantile(0.999),
            buckets: buckets
                .map(|(end, count)| LatencyBucket {
                    le_s: seconds(end),
                    count,
                })
                .collect(),
        }
    }

    /// One bucket for each doubling of the time from 1 us to 1.05 s, as [`Times::octaves`] has them: its end in
    /// seconds, without an end for the last.
    pub(super) fn octaves(&self) -> Vec<(Option<f64>, u64)> {
        let octaves = Times::default();
        let mut from = f64::NEG_INFINITY;
        let octaves = octaves.octaves().map(|(end, _)| {
            let end = end.map(|end| end.as_secs_f64());
            let last = end.unwrap_or(f64::INFINITY);
            let is_here = |bucket: &&LatencyBucket| {
                let le_s = bucket.le_s.unwrap_or(f64::INFINITY);
                from < le_s && le_s <= last
            };
            let count = self.buckets.iter().filter(is_here).map(|it| it.count).sum();
            from = last;
            (end, count)
        });
        octaves.collect()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_named_as_the_counters_that_they_are_taken_from() {
        let tally = engine::Tally {
            add: 1,
            count: 2,
            hit: 3,
            bounds: 4,
            window: 5,
            limits: 6,
            hit_by_name: 7,
            top: 8,
            ..engine::Tally::default()
        };
        let mut by_name = Tally::default();
        by_name.take_over(&tally);
        let mut status = crate::status::testing::status();
        status.messages = Default::default();
        by_name.tell(&mut status);
        let counters: Vec<_> = status.messages.by_type().collect();
        for (name, count) in THREAD_NAMES.into_iter().zip(operations_done(&tally, 9)) {
            let counter = counters.iter().find(|(counter, _)| *counter == name);
            assert_eq!(counter.map_or(9, |(_, count)| *count), count, "{name}");
        }
    }

    #[test]
    fn threads_are_summed_and_what_was_not_done_is_not_shown() {
        let threads = [thread_times(), thread_times()];
        threads[0][1].record(Duration::from_micros(3), 2);
        threads[1][1].record(Duration::from_micros(700), 1);
        threads[1][8].record(Duration::from_secs(3), 4);
        let (http, idle) = (Histogram::default(), Histogram::default());
        http.record(Duration::from_nanos(1), 5);
        let fronts = [("http", &http), ("envoy", &idle)];
        let all = LatencyStatus::all(threads.iter(), fronts);
        let names: Vec<_> = all.iter().map(|it| (&*it.operation, it.count)).collect();
        assert_eq!(names, [("count", 3), ("resp", 4), ("http", 5)]);
        let count = &all[0];
        assert!((count.sum_s - 706e-6).abs() < 1e-9);
        assert_eq!((count.p50_s, count.p99_s), (Some(3e-6), Some(768e-6)));
        let buckets = [(Some(3e-6), 2), (Some(768e-6), 1)];
        let buckets = buckets.map(|(le_s, count)| LatencyBucket { le_s, count });
        assert_eq!(count.buckets, buckets);
        assert_eq!((all[1].p50_s, all[1].buckets[0].le_s), (None, None));
    }

    #[test]
    fn octaves_have_all_operations() {
        let histogram = Histogram::default();
        let every = Times::default();
        for (at, (end, _)) in every.buckets().enumerate() {
            histogram.record(end.unwrap_or(Duration::from_secs(2)), at as u64 + 1);
        }
        let status = LatencyStatus::of("count", &histogram.read());
        let expected: Vec<_> = histogram
            .read()
            .octaves()
            .map(|(end, count)| (end.map(|end| end.as_secs_f64()), count))
            .collect();
        assert_eq!(status.octaves(), expected);
    }
}
