//! What goes between nodes, as state machines: no socket, no clock, no thread. Time comes in as an
//! argument, bytes go out through one.

mod gossip;
pub mod legacy;
pub mod membership;
pub mod seal;

pub use gossip::{
    Agreement, Cluster, ClusterEvent, ClusterLimits, ClusterOptions, ClusterState, LEAVE_LIMIT,
    MemberStatus, OneWayStatus, READY_LIMIT, ReadyState, Traffic,
};
