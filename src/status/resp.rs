//! The part of a status about clients of Redis's protocol.

use serde::{Deserialize, Serialize};

/// Clients of Redis's protocol.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RespStatus {
    /// Real address where they connect to; `None` when it is off.
    pub address: Option<String>,
    /// Number of connections that there are now.
    pub connections: u64,
    /// Number of connections that there may be.
    pub connections_max: u64,
    /// Number of commands, understood or not.
    pub commands: u64,
    /// Number of times that a client sent what is no command, which ends its connection.
    pub protocol_errors: u64,
    /// Number of wrong passwords.
    pub wrong_passwords: u64,
    /// Number of connections that were served.
    pub connections_accepted: u64,
    /// Number of connections that `--allow` refused.
    pub connections_not_allowed: u64,
    /// Number of connections that were refused for want of a place.
    pub connections_without_place: u64,
    /// Number of connections that their clients closed.
    pub closed_by_client: u64,
    /// Number of connections that `QUIT`, wrong passwords or a protocol error ended.
    pub closed_by_node: u64,
    /// Number of connections that were silent for too long.
    pub closed_idle: u64,
    /// Number of connections whose clients did not read their replies.
    pub closed_stalled: u64,
    /// Number of connections that needed more memory than there was for all.
    pub closed_no_memory: u64,
    /// Number of connections that the network broke.
    pub closed_failed: u64,
    /// Number of connections that the node's end closed.
    pub closed_at_end: u64,
}
