//! The cluster's port: its sockets and their queues, the names of other nodes, and the task that runs them. This room
//! moves datagrams and time; their meaning is in [`cluster`](rmbd_cluster).

mod addresses;
mod advertise;
mod error;
mod flood;
mod log;
mod open;
mod queues;
mod seeds;
mod shared_cluster;
mod status;
mod steering;
mod task;

pub(crate) use self::addresses::{canonical, mapped, usable};
pub use self::error::ClusterError;
pub(crate) use self::open::{ClusterSockets, Opened, open, read_keys};
pub(crate) use self::seeds::Seeds;
pub(crate) use self::shared_cluster::{Participation, SharedCluster};
pub(crate) use self::task::ClusterTask;
use rmbd_proto::cluster::SliceId;

/// A slice's name for people.
fn name(slice: &SliceId) -> String {
    let SliceId {
        sketch,
        node,
        writer,
    } = slice;
    format!("slice of sketch {sketch}, node {node:016x}, writer {writer}")
}
