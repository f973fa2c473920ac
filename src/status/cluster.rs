//! The cluster's part of a status.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Largest number of slices of others that are listed one by one. There may be tens of thousands: one for each start
/// of each node.
pub const SLICES_LISTED_MAX: usize = 256;

/// The cluster as this node sees it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ClusterStatus {
    /// Whether this node takes part in a cluster, or would.
    pub enabled: bool,
    /// Why the node takes part in no cluster; `None` if it does.
    pub off_because: Option<String>,
    /// Id of the node, 16 hexadecimal digits. It stays the same with `--data-dir`.
    pub node: String,
    /// Number of this start of the node, 16 hexadecimal digits. With a new writer the node is another start to all
    /// others, and has another number.
    pub boot: String,
    /// Number of the writer of the node's slices, 16 hexadecimal digits.
    #[serde(default)]
    pub writer: String,
    /// Whether the node goes on with slices of an earlier start, and of some of them no other node has told yet what it
    /// has: nobody is told more of those until then. A node that is alone stays so.
    #[serde(default)]
    pub name_open: bool,
    /// The writer that this start has taken in place of an earlier start's; `None` where it took none.
    #[serde(default)]
    pub new_writer: Option<NewWriterStatus>,
    /// Node numbers that several live nodes have, this one included.
    #[serde(default)]
    pub shared_nodes: Vec<SharedNodeStatus>,
    /// Real address on which other nodes reach this one, over UDP.
    pub address: Option<String>,
    /// The address that other nodes are told, which may be another one.
    pub advertised: Option<String>,
    /// Whether datagrams are sealed with a key that only members have.
    pub sealed: bool,
    /// Other nodes that are known.
    pub members: Vec<MemberStatus>,
    /// Nodes to which `peer` orders made this node push everything, one way.
    pub one_way: Vec<OneWayStatus>,
    /// Slices that are here: our own of each sketch, and of others at most [`SLICES_LISTED_MAX`], those with the
    /// largest weights.
    pub slices: Vec<SliceStatus>,
    /// Number of slices that are here, our own included.
    #[serde(default)]
    pub slices_held: u64,
    /// Number of these slices that this node wrote, with all its writers.
    #[serde(default)]
    pub slices_of_this_node: u64,
    /// Sum of all weights that were added to these slices.
    #[serde(default)]
    pub slices_weight: u64,
    /// Slices that are known to exist and are not held.
    pub slices_refused: Vec<String>,
    /// Number of rounds that were begun.
    pub rounds: u64,
    /// Number of datagrams sent.
    pub datagrams_sent: u64,
    /// Number of datagrams received from members.
    pub datagrams_received: u64,
    /// Bytes sent, by kind.
    pub bytes_sent: BTreeMap<String, u64>,
    /// Bytes received and understood, by kind.
    pub bytes_received: BTreeMap<String, u64>,
    /// Number of ranges of cells that were sent again because nobody acknowledged them.
    pub resends: u64,
    /// Number of rounds in which as many keys near a limit were told ahead of time as a round may tell. Where it grows,
    /// other nodes may pass limits by what they count in a round.
    pub urgent_full_rounds: u64,
    /// Numbers of datagrams, and of parts of them, that were refused, by reason.
    pub refused: BTreeMap<String, u64>,
    /// Number of datagrams that the kernel dropped at the cluster's port because a queue was full, all queues
    /// together.
    pub dropped_by_kernel: u64,
    /// Number of times that a flood of refused datagrams made the node stop reading a queue for some milliseconds.
    pub flood_pauses: u64,
    /// The queues of the cluster's port in the order in which they are read. If the only one is named `all`, the
    /// kernel takes no filter.
    pub queues: Vec<QueueStatus>,
    /// Seconds since all live members were last known to have all that this node had published;
    /// `None` where there is no other member, or they never had.
    pub convergence_age_s: Option<f64>,
}

impl ClusterStatus {
    /// Whether somebody is there who has not told yet what it has of this node's slices, and nobody else has.
    pub(crate) fn waits_for_name(&self) -> bool {
        let mut members = self.members.iter();
        let is_anybody_there = members.any(|it| it.state != "down") || !self.one_way.is_empty();
        self.name_open && is_anybody_there
    }
}

/// All values of [`NewWriterStatus::reason`].
pub(crate) const NEW_WRITER_REASONS: [&str; 5] = [
    "same_writer",
    "later_version",
    "other_cells",
    "unanswered",
    "unasked",
];

/// A writer that a node has taken, since the name of its slices was not its own alone, or nobody could tell. What it
/// added since its start is a slice of its own, so that nothing is hidden.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewWriterStatus {
    /// The reason: `same_writer`, another node writes the same slices; `later_version` or `other_cells`, others have
    /// more of them, or something else, than the earlier start wrote; `unanswered`, nobody told in time what it has of
    /// them; `unasked`, nobody was there who could.
    pub reason: String,
    /// The reason in words, and what follows from it.
    pub detail: String,
    /// Whether what was told under the earlier name may count twice.
    pub may_count_twice: bool,
    /// Cluster address of the node that has shown it.
    pub by: Option<String>,
    /// Number of the writer before, 16 hexadecimal digits.
    pub before: String,
}

/// A node number that several live nodes have: they run on copies of one data folder.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharedNodeStatus {
    /// The number, 16 hexadecimal digits.
    pub node: String,
    /// The cluster addresses of these nodes.
    pub addresses: Vec<String>,
    /// What that means, and what is to be done, in words.
    pub detail: String,
}

/// A queue of the cluster's port.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueStatus {
    /// Name of the queue, by its senders: `members`; `contested`, for members whose datagrams are forged by an
    /// attacker who has seen some; `strangers`, who include newcomers; `others`, for datagrams that cannot be ours; or
    /// `all`.
    pub name: String,
    /// Number of datagrams read.
    pub received: u64,
    /// Number of read datagrams that were refused.
    pub refused: u64,
    /// Number of datagrams that the kernel dropped because the queue was full.
    pub dropped_by_kernel: u64,
    /// Number of times that a flood made the node stop reading the queue for some milliseconds.
    pub pauses: u64,
}

/// Another node of the cluster.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct MemberStatus {
    /// Id of the node, 16 hexadecimal digits.
    pub node: String,
    /// Number of the node's start, 16 hexadecimal digits.
    pub boot: String,
    /// Cluster address of the node.
    pub address: String,
    /// UDP client port of the node, on the same host.
    pub client_port: u16,
    /// State of the member: `alive`, `suspect` or `down`.
    pub state: String,
    /// Number of slices of the node that are held here, of all its writers.
    pub slices: u64,
    /// Number of versions of our slice that the node has not confirmed.
    pub lag_versions: u64,
    /// Seconds since the node had all that we had; 0 while it has.
    pub lag_s: f64,
    /// Seconds since the node was last heard.
    pub heard_s: Option<f64>,
    /// Bytes sent to the node.
    pub bytes_sent: u64,
    /// Bytes received from the node.
    pub bytes_received: u64,
    /// Whether the node has no room for our slice, and does not hold it.
    #[serde(default)]
    pub refuses_ours: bool,
    /// Number of the writer of the node's slices, 16 hexadecimal digits, as the node has told it.
    #[serde(default)]
    pub writer: Option<String>,
    /// Sketches of this node that the other one does not have, or has in another form; nothing of them is exchanged.
    #[serde(default)]
    pub other_sketches: Vec<OtherSketch>,
}

/// A sketch that another node does not have, or has in another form.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OtherSketch {
    /// Number of the sketch.
    pub sketch: u32,
    /// The other node's fingerprint of the sketch, 16 hexadecimal digits; `None` if it has no such sketch.
    pub fingerprint: Option<String>,
}

/// A node that we push to without being members of one cluster.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct OneWayStatus {
    /// Cluster address of the node.
    pub address: String,
    /// Id of the node that answered from there, 16 hexadecimal digits.
    pub node: Option<String>,
    /// Number of the node's start, 16 hexadecimal digits.
    pub boot: Option<String>,
    /// Seconds since the node last answered.
    pub heard_s: Option<f64>,
    /// Number of versions of our slice that the node has not confirmed.
    pub lag_versions: u64,
    /// Sketches of this node that the other one does not have, or has in another form; nothing of them is pushed.
    #[serde(default)]
    pub other_sketches: Vec<OtherSketch>,
}

/// A slice as it is held here: what one writer of one node has counted in one sketch.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SliceStatus {
    /// Number of the sketch.
    #[serde(default)]
    pub sketch: u32,
    /// Id of the node, 16 hexadecimal digits.
    pub node: String,
    /// Number of the node's writer, 16 hexadecimal digits.
    pub writer: String,
    /// Whether the slice is the one that this process writes.
    pub own: bool,
    /// Version of the slice up to which everything is here.
    pub version: u64,
    /// Hash of all published cells, 16 hexadecimal digits; copies with equal cells have equal hashes. `None` in a node
    /// without a cluster.
    #[serde(default)]
    pub root: Option<String>,
    /// Sum of all weights in the slice.
    pub weight: u64,
    /// Bytes of the slice's cells here.
    pub memory_bytes: u64,
}
