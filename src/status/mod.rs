//! The status of a node: the JSON of `/status`, from which the metrics and the page are made.
//!
//! Field names are part of the public interface. Fields may be added, and none changes its meaning.

mod audit;
mod cluster;
mod counters;
mod denied;
mod detail;
mod envoy;
mod json_key;
mod latency;
pub mod metrics;
mod resp;
mod sketches;
mod snapshot_files;
mod sources;
mod spoe;
#[cfg(test)]
pub(crate) mod testing;
mod thread;
mod top;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use self::audit::{AuditErrorsStatus, AuditStatus};
pub(crate) use self::cluster::NEW_WRITER_REASONS;
pub use self::cluster::{
    ClusterStatus, MemberStatus, NewWriterStatus, OneWayStatus, OtherSketch, QueueStatus,
    SLICES_LISTED_MAX, SharedNodeStatus, SliceStatus,
};
pub use self::counters::Messages;
#[cfg(test)]
pub(crate) use self::counters::loss_reasons;
pub(crate) use self::counters::{Tally, TurnedAway};
pub use self::denied::{
    DeniedDocument, DeniedError, DeniedKeyDocument, DeniedLimitDocument, DeniedQuestion,
};
pub use self::detail::{DetailError, DetailQuestion, WindowDetail};
pub use self::envoy::{EnvoyRuleStatus, EnvoyStatus};
pub use self::json_key::JsonKey;
pub use self::latency::{LatencyBucket, LatencyStatus};
pub(crate) use self::latency::{PublishedFront, THREAD_KINDS, operations_done};
pub use self::resp::RespStatus;
pub use self::sketches::{AmountStatus, LimitStatus, NamedSketchStatus, WindowStatus};
pub use self::snapshot_files::{
    LastSnapshotFile, LoadedSnapshotFile, PendingSnapshotOrder, SetAsideFile, SnapshotFilesStatus,
    SnapshotOrder,
};
pub(crate) use self::sources::{hex, tally_of};
pub use self::spoe::SpoeStatus;
pub(crate) use self::thread::ObservedThread;
pub use self::top::{
    TopDocument, TopError, TopKeyDocument, TopListStatus, TopPart, TopQuestion, TopStatus,
};

/// A picture of a node. It is consistent enough: every counter is read once, and none goes backwards.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Version of the crate.
    pub version: String,
    /// Seconds since the node became ready.
    pub uptime_s: f64,
    /// Whether the data threads serve.
    pub ready: bool,
    /// Real address of the UDP client port.
    pub udp: String,
    /// Real address of the HTTP port; `None` when it is off.
    pub http: Option<String>,
    /// What `/readyz` waits for, and what a ready node lacks.
    #[serde(default)]
    pub readiness: Readiness,
    /// The failure that turns `/healthz` red, because a part of the node has ended by itself. The node ends, or should
    /// be started again.
    #[serde(default)]
    pub failure: Option<String>,
    /// The sketch `default` and its content.
    pub sketch: SketchStatus,
    /// All sketches with their windows; `default` is the first.
    #[serde(default)]
    pub sketches: Vec<NamedSketchStatus>,
    /// The limits with names, in the order of their names.
    #[serde(default)]
    pub limits: Vec<LimitStatus>,
    /// Number of pardons in force here, from whichever node of the cluster they are.
    #[serde(default)]
    pub pardons: u64,
    /// Numbers of messages taken, by type.
    pub messages: Messages,
    /// Numbers of datagrams, by what happened to them.
    pub datagrams: Datagrams,
    /// Replies to users of the client port.
    pub replies: Replies,
    /// The packet path.
    pub io: IoStatus,
    /// Settings and use of the compact format.
    #[serde(default)]
    pub compact: CompactStatus,
    /// Clients of Redis's protocol.
    #[serde(default)]
    pub resp: RespStatus,
    /// HAProxy's offload protocol.
    #[serde(default)]
    pub spoe: SpoeStatus,
    /// Envoy's rate limit service.
    #[serde(default)]
    pub envoy: EnvoyStatus,
    /// Requests to the API over HTTP.
    #[serde(default)]
    pub http_api: HttpApiStatus,
    /// How long operations take, by kind; kinds of which there was none are left out.
    #[serde(default)]
    pub latencies: Vec<LatencyStatus>,
    /// What is kept from one start to the next.
    #[serde(default)]
    pub snapshot_files: SnapshotFilesStatus,
    /// The process's log.
    #[serde(default)]
    pub log: LogStatus,
    /// The nodes that answer for each other.
    #[serde(default)]
    pub cluster: ClusterStatus,
    /// Legacy peers that this node pushes to or has rows of.
    pub peers: Vec<PeerStatus>,
    /// The latest `peer` orders and their outcomes, oldest first, at most 16.
    pub peer_orders: Vec<PeerOrder>,
}

impl Status {
    /// Whether `/readyz` answers that the node is ready: the data threads serve, and nothing else is waited for.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.ready && self.readiness.waits_for.is_empty()
    }
}

/// Geometry, hash and content of the sketch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SketchStatus {
    /// Columns of each row.
    pub width: u64,
    /// Number of rows.
    pub depth: u64,
    /// Name of the hash: `xxh3` or `fnv`.
    pub hash: String,
    /// Error bound: an estimate exceeds the truth by at most `epsilon * total_weight`.
    pub epsilon: f64,
    /// Probability with which an estimate keeps the error bound.
    pub confidence: f64,
    /// Bytes of all cells: this node's, the copy that was published to other nodes, learnt slices, those of legacy
    /// peers, and the snapshots of windows; of the lists of the largest keys, and of exact counts. Pages that were
    /// never written cost nothing.
    pub memory_bytes: u64,
    /// Sum of all weights that were added on this node (N).
    pub total_weight: u64,
    /// Whether counts of other nodes were refused here for want of room; answers say then that they are incomplete.
    #[serde(default)]
    pub incomplete: bool,
    /// What estimates exceed the truth by, as it was sampled; `None` where there is no sample that is young enough.
    #[serde(default)]
    pub likely_error: Option<LikelyErrorStatus>,
    /// What is known of keys that are counted exactly; `None` where no key can be.
    #[serde(default)]
    pub audit: Option<AuditStatus>,
}

/// What estimates of a sketch likely exceed the truth by, as it was sampled.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LikelyErrorStatus {
    /// The mean.
    pub mean: f64,
    /// The median: half of the keys have at most that.
    pub median: u64,
    /// Of the keys this `share` has at most that.
    pub quantile: u64,
    /// The confidence of the sketch; 4095 / 4096 where that is less.
    pub share: f64,
}

/// Settings and use of the compact format.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompactStatus {
    /// Random number of this start, 16 hexadecimal digits.
    pub boot: String,
    /// Fingerprint of the sketch, 16 hexadecimal digits. It is equal on nodes with the same width, depth, hash and
    /// seed.
    pub fingerprint: String,
    /// The largest weight of one add.
    pub max_weight: u32,
    /// Number of requests in this format, understood or not.
    pub requests: u64,
    /// Number of exactly-once requests that came again; their weights were not added again.
    pub repeats: u64,
    /// Number of places that exactly-once clients hold. A client holds one for 300 s after it was last heard.
    pub once_clients: u64,
    /// Number of all these places. [`Datagrams::refused`] counts clients that got none: `once_table_full`,
    /// `once_network_full`, and `address_unproven`, which is how a first contact begins.
    pub once_clients_max: u64,
}

/// Requests to the API over HTTP, by what they asked for and by what came of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpApiStatus {
    /// Number of requests to add.
    pub http_adds: u64,
    /// Number of requests to count.
    pub http_counts: u64,
    /// Number of requests to hit.
    pub http_hits: u64,
    /// Number of requests to take.
    pub http_takes: u64,
    /// Number of requests for the largest keys.
    pub http_tops: u64,
    /// Number of checks.
    pub http_checks: u64,
    /// Number of requests for one verdict that were over a limit.
    pub http_over: u64,
    /// Number of requests that were refused as they were: not understood, not allowed, or about what is not here.
    pub http_refused: u64,
    /// Number of requests that this node could not take at that moment.
    pub http_failed: u64,
}

/// Lines for standard error since the process began that nobody will read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogStatus {
    /// Number of lines that were dropped because they came faster than standard error took them.
    pub lines_dropped: u64,
    /// Number of lines that standard error refused, because of a full disk or a reader that has gone.
    pub lines_refused: u64,
}

/// Numbers of datagrams, by what happened to them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Datagrams {
    /// Number of datagrams that reached the data threads.
    pub received: u64,
    /// Numbers of datagrams that were dropped because they could not be understood (to the end), by reason.
    pub malformed: BTreeMap<String, u64>,
    /// Numbers of datagrams that were understood but refused, by reason (access lists, full tables).
    pub refused: BTreeMap<String, u64>,
    /// Number of datagrams that the kernel dropped because a receive buffer was full. With GRO it counts trains of
    /// datagrams, so it is a lower bound.
    pub dropped_by_kernel: u64,
}

/// Replies to users of the client port, in datagrams.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replies {
    /// Number of replies that the kernel took.
    pub sent: u64,
    /// Number of replies that the kernel did not take (a full send buffer, no route).
    pub dropped: u64,
}

/// Input and output of the data threads.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct IoStatus {
    /// Name of the back end: `uring` or `mmsg`.
    pub backend: String,
    /// One entry for each data thread.
    pub threads: Vec<ThreadStatus>,
}

/// One data thread.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ThreadStatus {
    /// The CPU that the thread is pinned to; `None` if pinning was refused.
    pub cpu: Option<usize>,
    /// Number of datagrams that the thread received.
    pub datagrams: u64,
    /// Size of its socket's receive buffer in bytes, as the kernel reports it.
    pub receive_buffer_bytes: u64,
    /// Number of datagrams that the kernel dropped at its socket.
    pub dropped_by_kernel: u64,
    /// Seconds that the thread spent looking for datagrams while nothing was there (`--busy-poll`).
    #[serde(default)]
    pub spinning_s: f64,
}

/// A legacy peer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PeerStatus {
    /// Address of the peer.
    pub address: String,
    /// Whether a `peer` order makes us push to the peer.
    pub pushing: bool,
    /// Seconds since we last sent to the peer.
    pub last_send_s: Option<f64>,
    /// Seconds since the peer's last ack.
    pub last_ack_s: Option<f64>,
    /// Seconds since the peer last sent us a row.
    pub last_row_s: Option<f64>,
    /// Number of rows that we have sent to the peer.
    pub rows_sent: u64,
    /// Number of rows that the peer acknowledged.
    pub rows_acked: u64,
    /// Number of rows that we have received from the peer.
    pub rows_received: u64,
    /// Number of restarts of the peer that were noticed.
    pub restarts: u64,
}

/// A `peer` order and its outcome.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerOrder {
    /// Number of the order since the start, from 1.
    pub number: u64,
    /// Address of the sender of the order.
    pub from: String,
    /// Host and port as they stand in the message.
    pub target: String,
    /// Whether we push to the target now.
    pub accepted: bool,
    /// The reason in one line.
    pub detail: String,
}

/// The answer of `/readyz`, in words.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Readiness {
    /// What has to happen before the node is ready; empty when it is ready.
    pub waits_for: Vec<String>,
    /// What a ready node's answers lack, such as slices that it refused.
    pub lacks: Vec<String>,
}

/// A key's count by origin: the JSON of `/detail`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Detail {
    /// The key, as a member `key`, or `key_base64` if it is no UTF-8.
    #[serde(flatten)]
    pub key: JsonKey<'static>,
    /// Name of the sketch, if the question named one; else it is `default`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sketch: Option<String>,
    /// The count of all time: the sum over the origins.
    pub count: u64,
    /// Whether counts of other nodes are missing here for want of room, so that all together may have more.
    #[serde(default)]
    pub incomplete: bool,
    /// The count in a window, if the question named one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<WindowDetail>,
    /// The origins that contribute to the count of all time.
    pub origins: Vec<OriginDetail>,
}

/// One node's part of a key's count.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OriginDetail {
    /// Id of the node, 16 hexadecimal digits; `None` for a legacy peer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Address of the legacy peer; `None` for a node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub legacy: Option<String>,
    /// Number of slices of the origin that are held.
    pub slices: u64,
    /// The origin's part of the count.
    pub count: u64,
    /// Whether the origin is the node that answers.
    pub own: bool,
}
