//! The part of a status about Envoy's rate limit service.

use serde::{Deserialize, Serialize};

/// Envoy's rate limit service, over gRPC and as `POST /json`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvoyStatus {
    /// Real address where proxies connect to; `None` when it is off.
    pub address: Option<String>,
    /// Number of connections that there are now.
    pub connections: u64,
    /// Number of connections that there may be.
    pub connections_max: u64,
    /// Number of domains that have rules.
    pub domains: u64,
    /// Number of rules.
    pub rules: u64,
    /// Number of requests that were decided.
    pub envoy_requests: u64,
    /// Number of their descriptors.
    pub envoy_descriptors: u64,
    /// Number of requests that were over a limit.
    pub envoy_over: u64,
    /// Number of requests whose domain has no rules; they have no limit.
    pub envoy_unknown_domains: u64,
    /// Number of descriptors that brought their own limit.
    pub envoy_overrides: u64,
    /// Number of descriptors whose own limit has a unit without a window here; they were decided as if it was not
    /// there.
    pub envoy_overrides_without_window: u64,
    /// Number of requests that were refused as they were.
    pub envoy_refused: u64,
    /// Number of requests that this node could not decide at that moment, or that broke off.
    pub envoy_failed: u64,
    /// Number of connections that were served.
    pub envoy_connections_accepted: u64,
    /// Number of connections that `--allow` refused.
    pub envoy_connections_not_allowed: u64,
    /// Number of connections that were refused for want of a place.
    pub envoy_connections_without_place: u64,
    /// Number of descriptors of rules with `detailed_metric` whose value got no numbers of its own, since there are
    /// as many as there may be; their rule counts them.
    pub envoy_values_left_out: u64,
    /// What was asked of each rule, the first thousand in the order of the files, and of each value of those that
    /// want it (`detailed_metric`), a thousand at most.
    pub by_rule: Vec<EnvoyRuleStatus>,
}

/// What was asked of a rule. All numbers are of hits: a descriptor weighs as much as its `hits_addend`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvoyRuleStatus {
    /// The rule's place, such as `edge.user`; of a value the key under which it is counted, such as `edge/user=ann`.
    pub rule: String,
    /// Number of all hits.
    pub hits: u64,
    /// Number of hits that were over the limit.
    pub over: u64,
    /// Number of hits that were within the limit, and above four fifths of it.
    pub near: u64,
    /// Number of hits over the limit that passed, as it is in shadow mode.
    pub shadow: u64,
}
