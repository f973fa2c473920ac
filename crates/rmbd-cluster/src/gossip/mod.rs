//! Replication between nodes, without a socket, a clock or a thread: see [`Cluster`].
//!
//! ```text
//!             handle(datagram)                      transmit() -> datagram, address
//!                   |                                     ^
//!     inbox ------->+--> membership (foca)                |  outbox: paced, one peer after the other
//!                   |                              +------+-------+
//!                   +--> peers: acks, questions -->| per peer:    |
//!                   |                              | acks, frames,|<-- push: our slice, what changed
//!                   +--> sketches: merge           | pieces       |<-- served: groups asked for
//!                   |                              +--------------+
//!                   +--> repair: digests, siblings, hashes, pulls
//! ```
//!
//! Each folder is a part with private fields, which knows only parts above it in this list:
//!
//! - `ages`: how old what a slice counts is, for windows, beside its groups.
//! - `reports`: events for a log, and how often something was refused.
//! - `transport`: datagrams are opened and sealed, paced and counted.
//! - `sketches`: our slices and those of others, for each sketch of this node.
//! - `contact`: who is at which address, and to which of them we push one way.
//! - `pardons`: who is told of which pardon.
//! - `top`: who is told which list of largest keys.
//! - `push`: each node sends what changed in its own slices to every live member.
//! - `peers`: what is known of each peer, and what waits to go to it. Before two nodes know that they have the same
//!   sketch (`peers/about.rs`), they exchange nothing of it.
//! - `repair`: each round a digest of all slices goes to one live member, and whoever is behind pulls. So slices of
//!   nodes that are gone, or cannot be reached, come from any neighbour.
//! - `lifecycle`: when a node that joins has everything, when one that leaves has told everything, and whose the name
//!   of our slices is where an earlier start gave it.
//! - `cluster`: the [`Cluster`], which holds one of each, and says what happens in which order.
//!
//! A node has up to 256 sketches, and all bounds are for all of them together. Each has a share: passes over live
//! cells, pieces for a peer, groups that it asked for, lines of a digest and pulls go by turns from sketch to sketch.

mod ages;
mod cluster;
mod contact;
mod lifecycle;
mod limits;
mod pacer;
mod pardons;
mod peers;
mod push;
mod repair;
mod reports;
mod sketches;
mod state;
mod top;
mod transport;

pub use self::cluster::{Cluster, ClusterOptions};
pub use self::lifecycle::{LEAVE_LIMIT, NAME_LIMIT, READY_LIMIT};
pub use self::limits::ClusterLimits;
pub use self::sketches::{NewClusterError, slices_of};
pub use self::state::{
    Agreement, ClusterEvent, ClusterState, MemberView, NameTaken, NewWriter, OneWayView,
    ReadyState, SharedNode, Traffic,
};
