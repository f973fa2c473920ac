//! What a run found: the JSON of `--json`, from which the table, the report and the percentile
//! text are made.
//!
//! # Schema, version 1
//! One JSON object, [`Record`]. Units are the last word of a name (`_ns`, `_s`, `_bytes`, `_per_s`);
//! shares are between 0 and 1; times are nanoseconds where a histogram measured them and seconds
//! elsewhere. `null` says "not measured" (a server elsewhere has no CPU time that we can read),
//! never zero. Fields may be added under the same [`SCHEMA`]; one that changes its meaning or goes
//! makes it the next.
//!
//! A run is a list of [`Phase`]s, one after the other, each with its own load, latencies and
//! series; what holds for the whole run ([`Truth`], [`Check`]s) stands beside them.

pub mod environment;
#[cfg(test)]
pub(crate) mod sample;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::output::files::{OutputError, write_json};
use crate::record::environment::Environment;

/// Version of the schema of [`Record`], its first field.
pub const SCHEMA: u32 = 1;

/// Longest time that a histogram tells from a longer one.
pub const LATENCY_MAX_NS: u64 = 120_000_000_000;

/// How many points a [`Latency::distribution`] has for each halving of the distance to 100 %.
const TICKS_PER_HALF_DISTANCE: u32 = 5;

/// A run and what it found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Where, with what, and by which command.
    pub environment: Environment,
    /// The server as it was before the first phase.
    pub server: Server,
    /// Why the run ended before its time (Ctrl-C, a server that restarted); `None` when it did not.
    pub ended_early: Option<String>,
    /// One after the other.
    pub phases: Vec<Phase>,
    /// Answers compared with what was sent; `None` where nothing was added or it was not asked for.
    pub truth: Option<Truth>,
    /// What was checked; one that failed makes the exit code 1.
    pub checks: Vec<Check>,
    /// What a reader has to know to judge the figures, one sentence each.
    pub notes: Vec<String>,
}

/// The server under load.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Server {
    /// `HOST:PORT` that the load goes to.
    pub address: String,
    /// True where the node runs inside the load generator.
    pub inside: bool,
    /// Where it says what it counted; `None` where there is no HTTP, then nothing is known of it.
    pub status_url: Option<String>,
    /// Its process, where it runs on this machine.
    pub pid: Option<u32>,
    /// Version as it says it.
    pub version: Option<String>,
    /// Columns a row.
    pub width: Option<u64>,
    /// Rows.
    pub depth: Option<u64>,
    /// `xxh3` or `fnv`.
    pub hash: Option<String>,
    /// `uring` or `mmsg`.
    pub io: Option<String>,
    /// Data threads.
    pub threads: Option<usize>,
    /// How many of them got datagrams during the run.
    pub threads_with_traffic: Option<usize>,
    /// CPUs that the data threads are pinned to.
    pub cpus: Vec<usize>,
}

/// A part of the run with one load.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Phase {
    /// What a person calls it: `adds, flood`.
    pub name: String,
    /// What was sent, and how.
    pub load: Load,
    /// Seconds before the measured part, with the same load, in no figure but the truth's.
    pub warmup_s: f64,
    /// Seconds of the measured part, as they were.
    pub seconds: f64,
    /// What left, in the measured part.
    pub sent: Sent,
    /// What became of the requests that have an answer; `None` where none has (adds).
    pub answers: Option<Answers>,
    /// What hits were answered; `None` where nothing was hit.
    #[serde(default)]
    pub verdicts: Option<Verdicts>,
    /// What became of adds that count exactly once; `None` where they were not asked to.
    #[serde(default)]
    pub once: Option<Once>,
    /// What the server says that it got; `None` where it can't be asked.
    pub received: Option<Received>,
    /// From the planned send time to the answer; a request without one stands at the timeout.
    pub response_time: Option<Latency>,
    /// From the real send time to the answer; answered requests only.
    pub service_time: Option<Latency>,
    /// How the generator kept its own plan; `None` where there is no plan (flood, closed loop).
    pub schedule: Option<Schedule>,
    /// CPU and memory of the server; `None` where it runs elsewhere.
    pub cost: Option<Cost>,
    /// CPU seconds of the generator's own threads.
    pub generator_cpu_s: Option<f64>,
    /// One entry for each interval of the measured part.
    pub series: Vec<Interval>,
}

/// What was sent, and how.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Load {
    /// Share of counts: 0 for adds only, 1 for counts only.
    pub count_share: f64,
    /// Share of hits: 0 or 1.
    #[serde(default)]
    pub hit_share: f64,
    /// Limit of the hits.
    #[serde(default)]
    pub limit: Option<u64>,
    /// Weight of each add and each hit.
    #[serde(default = "one")]
    pub weight: u32,
    /// Whether requests are repeated until they are acknowledged, and count once.
    #[serde(default)]
    pub exactly_once: bool,
    /// What decides when the next message leaves.
    pub pace: Pace,
    /// `legacy` or `compact`.
    pub format: String,
    /// Messages a datagram; of compact ones whose keys vary in length the most.
    pub pack: usize,
    /// Whether many datagrams leave in one system call (`UDP_SEGMENT`).
    pub gso: bool,
    /// Sending threads.
    pub threads: usize,
    /// Sockets over all threads.
    pub sockets: usize,
    /// `zipf:1.1:1000000`, as on the command line.
    pub keys: String,
    /// Bytes of a key, where the stream makes them.
    pub key_bytes: Option<usize>,
    /// Seed of the key stream and the gaps.
    pub seed: u64,
    /// After how long a request counts as unanswered.
    pub timeout_s: f64,
}

/// Of records from before there were others.
fn one() -> u32 {
    1
}

/// What decides when the next message leaves.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Pace {
    /// As fast as the kernel takes them.
    Flood,
    /// Open loop: at planned times, whatever the server does.
    Rate {
        /// Messages a second, over all threads.
        per_s: f64,
        /// Between planned times.
        gaps: Gaps,
    },
    /// Closed loop: as soon as another one is answered.
    Outstanding {
        /// Requests on their way at most, over all threads.
        requests: usize,
    },
}

/// Between planned send times.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Gaps {
    /// All the same.
    Constant,
    /// Exponential: a Poisson process, as of many independent clients.
    Exponential,
}

/// What left.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sent {
    /// Adds.
    pub adds: u64,
    /// Counts.
    pub counts: u64,
    /// Hits.
    #[serde(default)]
    pub hits: u64,
    /// Requests without a message, whose answer says that all before them were read.
    #[serde(default)]
    pub acknowledgements: u64,
    /// Datagrams; those that were sent again, too, while their messages stand above once.
    pub datagrams: u64,
    /// Payload.
    pub bytes: u64,
    /// Messages that the kernel did not take (a full send buffer, no server); not in the above.
    pub refused_by_kernel: u64,
}

impl Sent {
    /// Adds, counts and hits.
    #[must_use]
    pub fn messages(&self) -> u64 {
        self.adds + self.counts + self.hits
    }

    /// Those that add: adds and hits.
    #[must_use]
    pub fn adding(&self) -> u64 {
        self.adds + self.hits
    }

    pub(crate) fn add(&mut self, more: &Self) {
        self.adds += more.adds;
        self.counts += more.counts;
        self.hits += more.hits;
        self.acknowledgements += more.acknowledgements;
        self.datagrams += more.datagrams;
        self.bytes += more.bytes;
        self.refused_by_kernel += more.refused_by_kernel;
    }

    /// All that have an answer.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.counts + self.hits + self.acknowledgements
    }
}

/// What became of requests. `answered + timed_out` are all that were sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answers {
    /// In time.
    pub answered: u64,
    /// Not within the timeout; they stand in the response time at the timeout.
    pub timed_out: u64,
    /// Answers to nothing that was waited for: too late, or never asked.
    pub unexpected: u64,
}

/// What became of adds that count exactly once. `acknowledged + uncertain` are all that were sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Once {
    /// Adds of requests that the node acknowledged: each counts, and no more than once.
    pub acknowledged: u64,
    /// Adds of requests that it did not acknowledge within the timeout, or refused: each may count, and
    /// no more than once.
    pub uncertain: u64,
    /// Datagrams that were sent again, as no acknowledgement had come.
    pub repeated: u64,
    /// Acknowledgements that say that the request had been applied before: a copy of it was late, or an
    /// earlier acknowledgement was lost.
    pub applied_before: u64,
}

impl Once {
    pub(crate) fn add(&mut self, more: &Self) {
        self.acknowledged += more.acknowledged;
        self.uncertain += more.uncertain;
        self.repeated += more.repeated;
        self.applied_before += more.applied_before;
    }
}

/// What hits were answered, and whether that is right.
///
/// Of each key it is known how many hits were answered when another one left (the truth is more), and
/// how many had left when its answer came (the truth is at most that).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdicts {
    /// Within the limit.
    pub within: u64,
    /// Over it.
    pub over: u64,
    /// Of those within, above the limit by the truth: must be 0.
    pub allowed_above_limit: u64,
    /// Estimates below the truth: must be 0.
    pub below_truth: u64,
    /// Verdicts that do not follow from the estimate beside them: must be 0.
    pub contradictory: u64,
    /// Of those over it, not above the limit by the truth: of an estimate that is too high, as estimates
    /// may be, or of weight from before the phase.
    pub refused_early: u64,
}

impl Verdicts {
    /// None.
    pub const NONE: Self = Self {
        within: 0,
        over: 0,
        allowed_above_limit: 0,
        below_truth: 0,
        contradictory: 0,
        refused_early: 0,
    };

    /// How many.
    #[must_use]
    pub fn judged(&self) -> u64 {
        self.within + self.over
    }

    /// How many cannot be.
    #[must_use]
    pub fn wrong(&self) -> u64 {
        self.allowed_above_limit + self.below_truth + self.contradictory
    }

    pub(crate) fn add(&mut self, more: &Self) {
        self.within += more.within;
        self.over += more.over;
        self.allowed_above_limit += more.allowed_above_limit;
        self.below_truth += more.below_truth;
        self.contradictory += more.contradictory;
        self.refused_early += more.refused_early;
    }
}

/// What the server says that it got during a phase.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Received {
    /// Adds.
    pub adds: u64,
    /// Counts.
    pub counts: u64,
    /// Hits.
    #[serde(default)]
    pub hits: u64,
    /// By how much its N, the sum of all weights, grew.
    #[serde(default)]
    pub weight: Option<u64>,
    /// Datagrams.
    pub datagrams: u64,
    /// Dropped by the kernel at the server's sockets: datagrams, or trains of them with GSO.
    pub dropped_by_kernel: u64,
    /// Datagrams that the server did not understand.
    pub malformed: u64,
    /// Datagrams that the server did not want; first contacts that it sent back with a cookie are none.
    pub refused: u64,
    /// Of those, requests that came when the window of their client had passed them.
    #[serde(default)]
    pub too_old: u64,
    /// Replies, in datagrams, that the server's kernel did not take.
    pub replies_dropped: u64,
}

impl Received {
    /// Nothing yet, of a server that says so.
    pub(crate) const NONE: Self = Self {
        adds: 0,
        counts: 0,
        hits: 0,
        weight: Some(0),
        datagrams: 0,
        dropped_by_kernel: 0,
        malformed: 0,
        refused: 0,
        too_old: 0,
        replies_dropped: 0,
    };

    /// Of all kinds.
    #[must_use]
    pub fn messages(&self) -> u64 {
        self.adds + self.counts + self.hits
    }

    /// Those that add: adds and hits.
    #[must_use]
    pub fn adding(&self) -> u64 {
        self.adds + self.hits
    }

    pub(crate) fn plus(self, more: &Self) -> Self {
        Self {
            adds: self.adds + more.adds,
            counts: self.counts + more.counts,
            hits: self.hits + more.hits,
            weight: self.weight.zip(more.weight).map(|(a, b)| a + b),
            datagrams: self.datagrams + more.datagrams,
            dropped_by_kernel: self.dropped_by_kernel + more.dropped_by_kernel,
            malformed: self.malformed + more.malformed,
            refused: self.refused + more.refused,
            too_old: self.too_old + more.too_old,
            replies_dropped: self.replies_dropped + more.replies_dropped,
        }
    }
}

/// How the generator kept its own plan. One sample for each message: how much later than planned it
/// left.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    /// Messages planned for the measured part.
    pub planned: u64,
    /// Half left at most this late.
    pub late_p50_ns: u64,
    /// 99 % left at most this late.
    pub late_p99_ns: u64,
    /// The latest.
    pub late_max_ns: u64,
    /// Rate that was reached.
    pub reached_per_s: f64,
    /// False where the lateness makes the figures the generator's and not the server's.
    pub kept: bool,
}

/// Times of many requests.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// Requests.
    pub count: u64,
    /// Shortest.
    pub min_ns: u64,
    /// Longest.
    pub max_ns: u64,
    /// Mean.
    pub mean_ns: f64,
    /// Standard deviation.
    pub stdev_ns: f64,
    /// Half are at most this.
    pub p50_ns: u64,
    /// 90 %.
    pub p90_ns: u64,
    /// 99 %.
    pub p99_ns: u64,
    /// 99.9 %.
    pub p99_9_ns: u64,
    /// 99.99 %.
    pub p99_99_ns: u64,
    /// The whole curve: ascending, denser towards 100 %.
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
    /// Of a histogram of nanoseconds; `None` of an empty one.
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

/// A histogram that every [`Latency`] is made of: nanoseconds to [`LATENCY_MAX_NS`], 3 significant
/// digits, of fixed size; record with `saturating_record`.
#[must_use]
pub fn latency_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_MAX_NS, 3).expect("constant bounds that are in order")
}

/// What the server used over a phase.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// CPU seconds of its data threads, or of the process where threads can't be told apart.
    pub cpu_s: f64,
    /// CPU nanoseconds for each message that it received.
    pub cpu_ns_per_message: Option<f64>,
    /// Most memory that the process had in use (`VmHWM`), ours included where it is inside.
    pub peak_memory_bytes: Option<u64>,
}

/// A second of a phase, or less at its end.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Where it ends, from the start of the measured part.
    pub end_s: f64,
    /// How long it is.
    pub seconds: f64,
    /// Messages sent.
    pub sent: u64,
    /// Messages that the server says that it received, from a look at its status a second; the
    /// ends of intervals lie between two looks and are interpolated.
    pub received: Option<u64>,
    /// Requests answered.
    pub answered: u64,
    /// Requests given up.
    pub timed_out: u64,
    /// Response time: median of those that ended in this interval.
    pub response_p50_ns: Option<u64>,
    /// 99 %.
    pub response_p99_ns: Option<u64>,
    /// The longest.
    pub response_max_ns: Option<u64>,
    /// Service time: 99 %.
    pub service_p99_ns: Option<u64>,
}

/// Answers compared with what was sent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Truth {
    /// Adds (and hits) sent in the whole run, warm-up included.
    pub total_adds: u64,
    /// Their weight: by so much N grew, where nothing was lost.
    #[serde(default)]
    pub total_weight: Option<u64>,
    /// Adds of them that did not arrive; where not 0, an estimate below the truth says nothing.
    pub lost_adds: u64,
    /// Distinct keys, of which the truth was kept.
    pub distinct_keys: u64,
    /// Share of all keys of which it was kept (by their hash): 1, or a power of 1/2.
    pub kept_share: f64,
    /// Keys that were counted for the comparison.
    pub checked_keys: u64,
    /// The hottest ones among them.
    pub checked_hot_keys: u64,
    /// Estimates below the truth: must be 0 where nothing was lost.
    pub below_truth: u64,
    /// Estimate less truth, mean.
    pub over_mean: f64,
    /// Half are at most this much above.
    pub over_p50: u64,
    /// 99 % are.
    pub over_p99: u64,
    /// The farthest above.
    pub over_max: u64,
    /// What the sketch promises to stay under: `epsilon * N`.
    pub bound: f64,
    /// Share of the checked keys that are above it.
    pub over_bound_share: f64,
    /// What the sketch promises this share to stay under.
    pub delta: f64,
}

/// Something that was checked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Check {
    /// What: `every datagram is accounted for`.
    pub name: String,
    /// What came out.
    pub outcome: Outcome,
    /// The figures behind it, or why it could not be checked, in a sentence.
    pub detail: String,
}

/// What came out of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// As it must be.
    Passed,
    /// Not as it must be: the exit code is 1.
    Failed,
    /// Could not be told.
    Unknown,
}

impl Record {
    /// False where a check failed.
    #[must_use]
    pub fn passed(&self) -> bool {
        let failed = |check: &Check| check.outcome == Outcome::Failed;
        !self.checks.iter().any(failed)
    }

    /// Seconds of all phases, without warm-ups.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        self.phases.iter().map(|phase| phase.seconds).sum()
    }

    /// Writes it as JSON.
    ///
    /// # Errors
    /// [`OutputError`]; the record is as it was, and can be written elsewhere.
    pub fn write_json(&self, path: &Path) -> Result<(), OutputError> {
        write_json(self, path)
    }

    /// Reads what [`Self::write_json`] wrote.
    ///
    /// # Errors
    /// [`ReadError`]: no file, no record, or one of another version.
    pub fn read_json(path: &Path) -> Result<Self, ReadError> {
        let text = fs::read(path).map_err(|source| ReadError::File {
            path: path.to_owned(),
            source,
        })?;
        let not_a_record = |source| ReadError::NotARecord {
            path: path.to_owned(),
            source,
        };
        let Version { schema } = serde_json::from_slice(&text).map_err(not_a_record)?;
        if schema != SCHEMA {
            return Err(ReadError::Schema {
                path: path.to_owned(),
                schema,
            });
        }
        serde_json::from_slice(&text).map_err(not_a_record)
    }
}

#[derive(Deserialize)]
struct Version {
    schema: u32,
}

/// A record that can't be read.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The file can't be read.
    #[error("can't read {path}: {source}")]
    File {
        /// Where.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is not what it should be.
    #[error("{path} is no record of a run: {source}; use a file that --json wrote")]
    NotARecord {
        /// Where.
        path: PathBuf,
        /// What does not fit.
        source: serde_json::Error,
    },
    /// It is of another version.
    #[error(
        "{path} has schema {schema}, this loadgen reads {SCHEMA}: use the version that wrote it"
    )]
    Schema {
        /// Where.
        path: PathBuf,
        /// Its version.
        schema: u32,
    },
}

/// A name as a part of a file name: `adds, flood` is `adds-flood`.
pub(crate) fn slug(name: &str) -> String {
    let words = name.split(|c: char| !c.is_ascii_alphanumeric());
    let words: Vec<_> = words.filter(|word| !word.is_empty()).collect();
    words.join("-").to_ascii_lowercase()
}
