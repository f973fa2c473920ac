//! A phase of a run, as it is recorded.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::latency::Latency;
use super::tallies::{Answers, InWindow, Once, Received, Sent, Verdicts};
use super::window::{NodeShare, WindowTruth};

/// A phase: the part of a run with one load.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Phase {
    /// The name for people: `adds, flood`.
    pub name: String,
    /// The load that was sent.
    pub load: Load,
    /// Seconds of the warm-up, with the same load. It is in no figure but the truth's.
    pub warmup_s: f64,
    /// Seconds that the measured part took.
    pub seconds: f64,
    /// The messages and datagrams that left in the measured part.
    pub sent: Sent,
    /// Outcomes of requests that have an answer; `None` if no request has one (adds).
    pub answers: Option<Answers>,
    /// Outcomes of hits; `None` if there were none.
    #[serde(default)]
    pub verdicts: Option<Verdicts>,
    /// Outcomes of adds that count exactly once; `None` if there were none.
    #[serde(default)]
    pub once: Option<Once>,
    /// Answers about windows; `None` if nothing was asked about any.
    #[serde(default)]
    pub in_window: Option<InWindow>,
    /// These answers against the truth; `None` if nothing was asked about any, or no key was to be checked.
    #[serde(default)]
    pub window_truth: Option<WindowTruth>,
    /// The share of each node; empty if the load went to one server.
    #[serde(default)]
    pub nodes: Vec<NodeShare>,
    /// What the server reports as received, all nodes together; `None` if it cannot be asked.
    pub received: Option<Received>,
    /// Times from the planned send time to the answer. A request without an answer counts with the timeout.
    pub response_time: Option<Latency>,
    /// Times from the real send time to the answer, of answered requests only.
    pub service_time: Option<Latency>,
    /// How well the generator kept its own plan; `None` if there is no plan (flood, closed loop).
    pub schedule: Option<Schedule>,
    /// CPU time and memory of the server; `None` if it runs elsewhere.
    pub cost: Option<Cost>,
    /// CPU seconds of the generator's own threads.
    pub generator_cpu_s: Option<f64>,
    /// One entry for each interval of the measured part.
    pub series: Vec<Interval>,
}

/// The load of a phase.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Load {
    /// Share of counts: 0 for adds only, 1 for counts only.
    pub count_share: f64,
    /// Share of hits: 0 or 1.
    #[serde(default)]
    pub hit_share: f64,
    /// Limit of the hits, if there are any.
    #[serde(default)]
    pub limit: Option<u64>,
    /// Milliseconds of the window of counts and hits; `None` if they are of all time.
    #[serde(default)]
    pub window_ms: Option<u64>,
    /// Whether hits add only if they are within the limit.
    #[serde(default)]
    pub takes: bool,
    /// Whether windows are read as *bound*, and not as *smooth*; `None` without a window.
    #[serde(default)]
    pub bound: Option<bool>,
    /// Name of the sketch; `None` in records from before there were several.
    #[serde(default)]
    pub sketch: Option<String>,
    /// Seconds after which the hot ranks go to other keys; `None` if they stay.
    #[serde(default)]
    pub hot_change_s: Option<f64>,
    /// Weight of each add and each hit.
    #[serde(default = "one")]
    pub weight: u32,
    /// Whether requests are repeated until they are acknowledged, and count once.
    #[serde(default)]
    pub exactly_once: bool,
    /// The rule for the time at which the next message leaves.
    pub pace: Pace,
    /// Name of the format: `legacy` or `compact`.
    pub format: String,
    /// Number of messages in a datagram; the largest number if the keys of compact messages vary in length.
    pub pack: usize,
    /// Whether many datagrams leave in one system call (`UDP_SEGMENT`).
    pub gso: bool,
    /// Number of sending threads.
    pub threads: usize,
    /// Number of sockets over all threads.
    pub sockets: usize,
    /// The keys as on the command line: `zipf:1.1:1000000`.
    pub keys: String,
    /// Length of a key in bytes, if the stream makes the keys.
    pub key_bytes: Option<usize>,
    /// Seed of the key stream and the gaps.
    pub seed: u64,
    /// Seconds after which a request counts as unanswered.
    pub timeout_s: f64,
}

/// The weight in records from before there were other weights.
fn one() -> u32 {
    1
}

/// The rule for the time at which the next message leaves.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Pace {
    /// Messages leave as fast as the kernel takes them.
    Flood,
    /// In an open loop messages leave at planned times, whatever the server does.
    Rate {
        /// Messages a second, over all threads.
        per_s: f64,
        /// The gaps between planned times.
        gaps: Gaps,
    },
    /// In a closed loop a message leaves as soon as another one is answered.
    Outstanding {
        /// Largest number of requests on their way, over all threads.
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

/// How well the generator kept its own plan. There is one sample for each message: how much later than planned it
/// left.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    /// Number of messages planned for the measured part.
    pub planned: u64,
    /// Half of the messages left at most this late.
    pub late_p50_ns: u64,
    /// 99 % of the messages left at most this late.
    pub late_p99_ns: u64,
    /// The largest delay of a message.
    pub late_max_ns: u64,
    /// The rate that was reached, in messages per second.
    pub reached_per_s: f64,
    /// Whether the plan was kept. If not, the figures are the generator's and not the server's.
    pub kept: bool,
}

/// The resources that the server used over a phase.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// CPU seconds of the server's data threads, or of the process if threads cannot be told apart.
    pub cpu_s: f64,
    /// CPU nanoseconds for each message that it received.
    pub cpu_ns_per_message: Option<f64>,
    /// The part of `cpu_s` in which data threads spun while nothing was there (`--busy-poll`); `None` if they never
    /// did, or the server does not tell.
    #[serde(default)]
    pub spinning_s: Option<f64>,
    /// CPU nanoseconds for each message without the time of spinning.
    #[serde(default)]
    pub work_ns_per_message: Option<f64>,
    /// The most memory that the process had in use (`VmHWM`), in bytes. It includes the generator's if the server is
    /// inside.
    pub peak_memory_bytes: Option<u64>,
}

impl Cost {
    /// CPU nanoseconds of spinning for each message.
    #[must_use]
    pub(crate) fn spinning_ns_per_message(&self) -> Option<f64> {
        Some(self.cpu_ns_per_message? - self.work_ns_per_message?)
    }
}

/// An interval of a phase: a second or more, or less at the phase's end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Seconds from the start of the measured part to the end of the interval.
    pub end_s: f64,
    /// Length of the interval in seconds.
    pub seconds: f64,
    /// Number of messages sent.
    pub sent: u64,
    /// Number of messages that the server reports as received, by its status once a second. The ends of intervals lie
    /// between two statuses and are interpolated.
    pub received: Option<u64>,
    /// Number of requests answered.
    pub answered: u64,
    /// Number of requests given up.
    pub timed_out: u64,
    /// Median response time of requests that ended in this interval.
    pub response_p50_ns: Option<u64>,
    /// Response time that 99 % do not exceed.
    pub response_p99_ns: Option<u64>,
    /// The longest response time.
    pub response_max_ns: Option<u64>,
    /// Service time that 99 % do not exceed.
    pub service_p99_ns: Option<u64>,
}
