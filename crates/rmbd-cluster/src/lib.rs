//! Talking to other nodes, as state machines without a socket, a clock or a thread: time comes in as an argument, and
//! bytes go out through one.

mod gossip;
pub mod legacy;
pub mod membership;
pub mod seal;

pub use gossip::{
    Agreement, Cluster, ClusterEvent, ClusterLimits, ClusterOptions, ClusterState, LEAVE_LIMIT,
    MemberView, OneWayView, READY_LIMIT, ReadyState, Traffic,
};
