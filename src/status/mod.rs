//! What a node says of itself: the JSON of `/status`, from which the metrics and the page are made.
//!
//! Field names are part of the public interface; fields may be added, none changes its meaning.

mod cluster;
mod counters;
mod json_key;
pub mod metrics;
mod sources;
#[cfg(test)]
pub(crate) mod testing;
mod thread;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use self::cluster::{
    ClusterStatus, MemberStatus, OneWayStatus, OtherSketch, QueueStatus, SLICES_LISTED_MAX,
    SliceStatus,
};
pub use self::counters::Messages;
pub(crate) use self::counters::{Tally, TurnedAway};
pub use self::json_key::JsonKey;
pub(crate) use self::sources::{hex, tally_of};
pub(crate) use self::thread::ObservedThread;

/// One consistent-enough picture of a node: every counter is read once, none goes backwards.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Crate version.
    pub version: String,
    /// Seconds since the node was ready.
    pub uptime_s: f64,
    /// True while the data threads serve.
    pub ready: bool,
    /// Real address of the UDP client port.
    pub udp: String,
    /// Real address of the HTTP port; `None` when it is off.
    pub http: Option<String>,
    /// What keeps `/readyz` from saying that the node is ready, and what the node lacks while it is.
    #[serde(default)]
    pub readiness: Readiness,
    /// What keeps `/healthz` from saying that all is well: something of the node has ended by itself. It ends, or
    /// should be started again.
    #[serde(default)]
    pub failure: Option<String>,
    /// The sketch and what is in it.
    pub sketch: SketchStatus,
    /// Messages taken, by type.
    pub messages: Messages,
    /// Datagrams, and what became of them.
    pub datagrams: Datagrams,
    /// Replies to the client port's users.
    pub replies: Replies,
    /// The packet path.
    pub io: IoStatus,
    /// What users of the compact format are told, and how much they use it.
    #[serde(default)]
    pub compact: CompactStatus,
    /// The process's log.
    #[serde(default)]
    pub log: LogStatus,
    /// The nodes that answer for each other.
    #[serde(default)]
    pub cluster: ClusterStatus,
    /// Legacy peers that this node pushes to or has rows of.
    pub peers: Vec<PeerStatus>,
    /// The latest `peer` orders and what became of them, oldest first, at most 16.
    pub peer_orders: Vec<PeerOrder>,
}

impl Status {
    /// What `/readyz` says: the data threads serve, and nothing else is waited for.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.ready && self.readiness.waits_for.is_empty()
    }
}

/// Geometry, hash and content of the sketch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SketchStatus {
    /// Columns a row.
    pub width: u64,
    /// Rows.
    pub depth: u64,
    /// `xxh3` or `fnv`.
    pub hash: String,
    /// Error bound: an estimate exceeds the truth by at most `epsilon * total_weight` ...
    pub epsilon: f64,
    /// ... with this probability.
    pub confidence: f64,
    /// Bytes of all cells: this node's, the copy of what it told other nodes, learnt slices, and what is
    /// held for legacy peers. Pages that nothing was written to cost nothing.
    pub memory_bytes: u64,
    /// Sum of all weights that were added on this node (N).
    pub total_weight: u64,
    /// Something that others counted was refused here for want of room: answers say that they are incomplete.
    #[serde(default)]
    pub incomplete: bool,
}

/// The compact format: what its users are told, and how much they use it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompactStatus {
    /// Random number of this start, 16 hexadecimal digits.
    pub boot: String,
    /// Equal on nodes whose width, depth, hash and seed are; 16 hexadecimal digits.
    pub fingerprint: String,
    /// The largest weight of one add.
    pub max_weight: u32,
    /// Requests in this format, understood or not.
    pub requests: u64,
    /// Exactly-once requests that came again: their weights were not added again.
    pub repeats: u64,
    /// Places that exactly-once clients hold, each for 300 s from when it was last heard ...
    pub once_clients: u64,
    /// ... and how many there are. Who got none is in [`Datagrams::refused`]: `once_table_full`,
    /// `once_network_full`, and `address_unproven`, which is how first contact begins.
    pub once_clients_max: u64,
}

/// Lines for standard error that nobody will read, since the process began.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogStatus {
    /// Dropped because they came faster than standard error took them, if it took any at all.
    pub lines_dropped: u64,
    /// Refused by standard error: a full disk, a reader that has gone.
    pub lines_refused: u64,
}

/// Datagrams, and what became of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Datagrams {
    /// All that reached the data threads.
    pub received: u64,
    /// Dropped, by reason, because they could not be understood (to the end).
    pub malformed: BTreeMap<String, u64>,
    /// Understood but refused, by reason (access lists, full tables).
    pub refused: BTreeMap<String, u64>,
    /// Dropped by the kernel because a receive buffer was full. With GRO this counts trains of
    /// datagrams, so it is a lower bound.
    pub dropped_by_kernel: u64,
}

/// Replies to the client port's users, in datagrams.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replies {
    /// Handed to the kernel.
    pub sent: u64,
    /// Not taken by the kernel (a full send buffer, no route).
    pub dropped: u64,
}

/// The packet path.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct IoStatus {
    /// `uring` or `mmsg`.
    pub backend: String,
    /// One entry for each data thread.
    pub threads: Vec<ThreadStatus>,
}

/// One data thread.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ThreadStatus {
    /// CPU it is pinned to; `None` where pinning was refused.
    pub cpu: Option<usize>,
    /// Datagrams that it received.
    pub datagrams: u64,
    /// Size of its socket's receive buffer, as the kernel reports it.
    pub receive_buffer_bytes: u64,
    /// Dropped by the kernel at its socket.
    pub dropped_by_kernel: u64,
    /// Seconds that it spent looking for datagrams while nothing was there (`--busy-poll`).
    #[serde(default)]
    pub spinning_s: f64,
}

/// A legacy peer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PeerStatus {
    /// Its address.
    pub address: String,
    /// True where a `peer` order makes us push to it.
    pub pushing: bool,
    /// Seconds since we last sent to it.
    pub last_send_s: Option<f64>,
    /// Seconds since its last ack.
    pub last_ack_s: Option<f64>,
    /// Seconds since it last sent us a row.
    pub last_row_s: Option<f64>,
    /// Rows that we have sent to it.
    pub rows_sent: u64,
    /// Rows that it acknowledged.
    pub rows_acked: u64,
    /// Rows that we have of it.
    pub rows_received: u64,
    /// How often it was seen to have restarted.
    pub restarts: u64,
}

/// A `peer` order and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerOrder {
    /// Number of the order since the start, from 1.
    pub number: u64,
    /// Who gave it.
    pub from: String,
    /// Host and port as they stand in the message.
    pub target: String,
    /// Whether we push to it now.
    pub accepted: bool,
    /// Why, in one line.
    pub detail: String,
}

/// What `/readyz` says, in words.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Readiness {
    /// What has to happen first; empty when the node is ready.
    pub waits_for: Vec<String>,
    /// What a ready node's answers lack, such as slices that it refused.
    pub lacks: Vec<String>,
}

/// A key's count by origin: the JSON of `/detail`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Detail {
    /// The key: a member `key`, or `key_base64` where it is no UTF-8.
    #[serde(flatten)]
    pub key: JsonKey<'static>,
    /// The count: the sum of the origins'.
    pub count: u64,
    /// Something that others counted is not here for want of room: all together may have more.
    #[serde(default)]
    pub incomplete: bool,
    /// Who contributes.
    pub origins: Vec<OriginDetail>,
}

/// One node's part of a key's count.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OriginDetail {
    /// Number of the node, 16 hexadecimal digits; `None` for a legacy peer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Address of the legacy peer; `None` for a node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub legacy: Option<String>,
    /// Slices of it that are held.
    pub slices: u64,
    /// Its part of the count.
    pub count: u64,
    /// Whether it is the node that answers.
    pub own: bool,
}
