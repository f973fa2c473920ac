//! The cluster's part of a status.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Slices of others that are listed one by one. There may be tens of thousands: one of each start of each node.
pub const SLICES_LISTED_MAX: usize = 256;

/// The cluster as this node sees it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ClusterStatus {
    /// Whether this node takes part in one, or would.
    pub enabled: bool,
    /// Why it does not.
    pub off_because: Option<String>,
    /// Number of the node, 16 hexadecimal digits; stays the same with `--data-dir`.
    pub node: String,
    /// Number of this start of it, 16 hexadecimal digits.
    pub boot: String,
    /// Number of who writes its slices, 16 hexadecimal digits.
    #[serde(default)]
    pub writer: String,
    /// Real address where other nodes are heard, over UDP.
    pub address: Option<String>,
    /// The same as others are told it.
    pub advertised: Option<String>,
    /// Whether datagrams are sealed with a key that only members have.
    pub sealed: bool,
    /// Other nodes that are known.
    pub members: Vec<MemberStatus>,
    /// Nodes that `peer` orders made us push everything to, one way.
    pub one_way: Vec<OneWayStatus>,
    /// Slices here: our own, and those of others in which most was counted, at most [`SLICES_LISTED_MAX`] of them.
    pub slices: Vec<SliceStatus>,
    /// How many there are, our own included.
    #[serde(default)]
    pub slices_held: u64,
    /// How many of them are this node's: of all its writers.
    #[serde(default)]
    pub slices_of_this_node: u64,
    /// All that was added to them.
    #[serde(default)]
    pub slices_weight: u64,
    /// Slices that are known to exist and are not held.
    pub slices_refused: Vec<String>,
    /// Rounds begun.
    pub rounds: u64,
    /// Datagrams sent.
    pub datagrams_sent: u64,
    /// Datagrams received that were a member's.
    pub datagrams_received: u64,
    /// Bytes sent, by kind.
    pub bytes_sent: BTreeMap<String, u64>,
    /// Bytes received and understood, by kind.
    pub bytes_received: BTreeMap<String, u64>,
    /// Ranges of cells that were sent again because nobody acknowledged them.
    pub resends: u64,
    /// Datagrams, and parts of them, that were refused, by reason.
    pub refused: BTreeMap<String, u64>,
    /// Dropped by the kernel at the cluster's port because the queue was full, all queues together.
    pub dropped_by_kernel: u64,
    /// How often a flood of datagrams that were refused made the node stop reading a queue for some
    /// milliseconds.
    pub flood_pauses: u64,
    /// The queues of the cluster's port, the one that is read first at the front. One that is named `all` says that the
    /// kernel takes no filter.
    pub queues: Vec<QueueStatus>,
    /// Seconds since all live members were last known to have all that this node had published;
    /// `None` where there is no other member, or they never had.
    pub convergence_age_s: Option<f64>,
}

/// What waits, apart from all else, to be read at the cluster's port.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueStatus {
    /// Whose it is: `members`; `contested`, members whose datagrams somebody forges who has seen some; `strangers`, who
    /// include newcomers; `others`, whose datagrams cannot be ours; or `all`.
    pub name: String,
    /// Datagrams read.
    pub received: u64,
    /// Those of them that were refused.
    pub refused: u64,
    /// Dropped by the kernel because it was full.
    pub dropped_by_kernel: u64,
    /// How often a flood made the node stop reading it for some milliseconds.
    pub pauses: u64,
}

/// Another node.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct MemberStatus {
    /// Number of the node, 16 hexadecimal digits.
    pub node: String,
    /// Number of its start, 16 hexadecimal digits.
    pub boot: String,
    /// Its cluster address.
    pub address: String,
    /// Its UDP client port, on the same host.
    pub client_port: u16,
    /// `alive`, `suspect` or `down`.
    pub state: String,
    /// Slices of the node that are held here, of all its writers.
    pub slices: u64,
    /// Versions of our slice that it has not confirmed.
    pub lag_versions: u64,
    /// Seconds since it had all that we had; 0 while it has.
    pub lag_s: f64,
    /// Seconds since it was last heard.
    pub heard_s: Option<f64>,
    /// Bytes sent to it.
    pub bytes_sent: u64,
    /// Bytes received from it.
    pub bytes_received: u64,
    /// It has no room for what this node counts, and does not hold it.
    #[serde(default)]
    pub refuses_ours: bool,
    /// Number of who writes its slices, 16 hexadecimal digits, as it has told.
    #[serde(default)]
    pub writer: Option<String>,
    /// Sketches of this node that it has otherwise, or not at all: nothing of them is exchanged with it.
    #[serde(default)]
    pub other_sketches: Vec<OtherSketch>,
}

/// A sketch that another node has otherwise, or not at all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OtherSketch {
    /// Number of the sketch.
    pub sketch: u32,
    /// The other node's fingerprint of it, 16 hexadecimal digits; `None` where it has no such sketch.
    pub fingerprint: Option<String>,
}

/// A node that we push to without being members of one cluster.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct OneWayStatus {
    /// Its cluster address.
    pub address: String,
    /// Number of the node that answered from there, 16 hexadecimal digits.
    pub node: Option<String>,
    /// Number of its start, 16 hexadecimal digits.
    pub boot: Option<String>,
    /// Seconds since it last answered.
    pub heard_s: Option<f64>,
    /// Versions of our slice that it has not confirmed.
    pub lag_versions: u64,
    /// Sketches of this node that it has otherwise, or not at all: nothing of them is pushed to it.
    #[serde(default)]
    pub other_sketches: Vec<OtherSketch>,
}

/// What one writer of one node has counted in one sketch, as it is held here.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SliceStatus {
    /// Number of the sketch.
    #[serde(default)]
    pub sketch: u32,
    /// Number of the node, 16 hexadecimal digits.
    pub node: String,
    /// Number of its writer, 16 hexadecimal digits.
    pub writer: String,
    /// Whether it is the one that this process writes.
    pub own: bool,
    /// Its version up to which everything is here.
    pub version: u64,
    /// Hash over all cells that were published, 16 hexadecimal digits: equal where all of them are.
    /// `None` in no cluster.
    #[serde(default)]
    pub root: Option<String>,
    /// Sum of all weights in it.
    pub weight: u64,
    /// Bytes of its cells here.
    pub memory_bytes: u64,
}
