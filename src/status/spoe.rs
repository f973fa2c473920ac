//! The part of a status about HAProxy's offload protocol.

use serde::{Deserialize, Serialize};

/// HAProxies that ask by their offload protocol, and what they ask.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpoeStatus {
    /// Real address where they connect to; `None` when it is off.
    pub address: Option<String>,
    /// Number of connections that there are now.
    pub connections: u64,
    /// Number of connections that there may be.
    pub connections_max: u64,
    /// Number of messages, understood or not.
    pub spoe_messages: u64,
    /// Number of messages that were over a limit.
    pub spoe_over: u64,
    /// Number of messages that were refused as they were: not understood, or about what is not here.
    pub spoe_refused: u64,
    /// Number of messages that this node could not take at that moment.
    pub spoe_failed: u64,
    /// Number of health checks.
    pub spoe_health_checks: u64,
    /// Number of times that something else came than frames, which ends a connection.
    pub spoe_protocol_errors: u64,
    /// Number of connections that were served.
    pub spoe_connections_accepted: u64,
    /// Number of connections that `--allow` refused.
    pub spoe_connections_not_allowed: u64,
    /// Number of connections that were refused for want of a place.
    pub spoe_connections_without_place: u64,
    /// Number of connections that were silent for too long.
    pub spoe_closed_idle: u64,
    /// Number of connections whose clients did not read.
    pub spoe_closed_stalled: u64,
}
