//! A part of a run, as it is recorded.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::latency::Latency;
use super::tallies::{Answers, Once, Received, Sent, Verdicts};

/// A part of the run with one load.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Phase {
    /// The name that people read: `adds, flood`.
    pub name: String,
    /// What was sent, and how.
    pub load: Load,
    /// Seconds before the measured part, with the same load, in no figure but the truth's.
    pub warmup_s: f64,
    /// Seconds of the measured part, as they were.
    pub seconds: f64,
    /// The messages and datagrams that left in the measured part.
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Gaps {
    /// All the same.
    Constant,
    /// As of many independent clients (a Poisson process).
    Exponential,
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

/// What the server used over a phase.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// CPU seconds of its data threads, or of the process where threads can't be told apart.
    pub cpu_s: f64,
    /// CPU nanoseconds for each message that it received.
    pub cpu_ns_per_message: Option<f64>,
    /// CPU seconds of `cpu_s` in which data threads spun while nothing was there (`--busy-poll`); `None` where they
    /// never did, or the server does not tell.
    #[serde(default)]
    pub spinning_s: Option<f64>,
    /// CPU nanoseconds for each message without that.
    #[serde(default)]
    pub work_ns_per_message: Option<f64>,
    /// Most memory that the process had in use (`VmHWM`), ours included where it is inside.
    pub peak_memory_bytes: Option<u64>,
}

impl Cost {
    /// CPU nanoseconds for each message in which data threads spun.
    #[must_use]
    pub(crate) fn spinning_ns_per_message(&self) -> Option<f64> {
        Some(self.cpu_ns_per_message? - self.work_ns_per_message?)
    }
}

/// A second of a phase, or less at its end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
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
