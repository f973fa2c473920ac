//! What a phase found about windows, and about each node of a cluster.

use serde::{Deserialize, Serialize};

use super::tallies::{InWindow, Received, Sent};

/// What went to one node, and what came from it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeShare {
    /// The address `HOST:PORT` of the node.
    pub address: String,
    /// The messages and datagrams that left for it.
    pub sent: Sent,
    /// Number of its answers in time.
    pub answered: u64,
    /// Number of requests that it did not answer in time.
    pub timed_out: u64,
    /// Its answers about windows.
    pub in_window: InWindow,
    /// What it reports as received; `None` if it cannot be asked.
    pub received: Option<Received>,
}

/// Answers about a window, compared with all that was sent of some keys, warm-up included. Times are those of the
/// generator: a message arrives between its leaving and its answer, or that of a later one on the same socket.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct WindowTruth {
    /// Milliseconds of the window.
    pub window_ms: u64,
    /// Milliseconds of a step of the server's window; `None` if it does not tell.
    pub step_ms: Option<u64>,
    /// Number of keys that were judged.
    pub judged_keys: u64,
    /// Number of keys of the load.
    pub distinct_keys: u64,
    /// Seconds of the measured part up to which all was kept for judging; `None` is all of it.
    pub judged_until_s: Option<f64>,
    /// Number of estimates that were judged.
    pub judged_answers: u64,
    /// Number of *bound* estimates below what had arrived at the same node within the window: must be 0.
    pub below_truth: u64,
    /// Number of *bound* estimates below that and what the other nodes had been told the time of delivery before. More
    /// than 0 means that something took longer.
    #[serde(default)]
    pub below_delivered: u64,
    /// Number of estimates that were compared with what all nodes were told in the window, two steps, and the time
    /// that it takes to reach another node.
    pub compared_answers: u64,
    /// Number of these that are above it by more than epsilon times the weight of all keys in that time.
    pub above_bound: u64,
    /// The largest difference above it.
    pub over_max: u64,
    /// Epsilon of the window; `None` if the server does not tell.
    pub epsilon: Option<f64>,
    /// What was admitted; `None` if nothing was limited.
    pub admitted: Option<Admitted>,
}

/// What takes were admitted in any window of the judged time. Numbers are weights.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Admitted {
    /// The limit, for each key in each window.
    pub allowed: u64,
    /// The largest weight of one key that was admitted in any window, by the times at which requests left.
    pub largest: u64,
    /// The same, of what was within one window for sure, from the first one's leaving to the last one's answer.
    pub largest_for_sure: u64,
    /// The least weight of that key in any full window after the first one; `None` if there was no such window.
    pub least: Option<u64>,
    /// Number of judged keys of which more than the limit was admitted in some window.
    pub keys_above: u64,
    /// Weight of takes of judged keys that have no answer, which may have been admitted.
    pub unanswered: u64,
    /// That key over time.
    pub series: Vec<AdmittedSecond>,
}

/// One second of the key of which most was admitted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct AdmittedSecond {
    /// Seconds from the first request to the end of this second.
    pub end_s: f64,
    /// Weight of the requests in this second.
    pub asked: u64,
    /// Weight of those admitted.
    pub admitted: u64,
    /// The largest weight admitted in any window that ends in this second.
    pub in_window: u64,
}
