//! A node with rules for an edge proxy, and what the proxy asks it.

#![allow(clippy::unwrap_used)]

use prost::Message;
use rmbd::config::{EnvoyConfig, NodeConfig, RuleFiles, RulesText};
use rmbd_envoy::{Entry, RateLimitDescriptor, RateLimitRequest};

const RULES: &str = "
domain: edge
descriptors:
  - key: user
    rate_limit: { name: per-user, unit: minute, requests_per_unit: 1000000 }
";

/// A node with one data thread, which answers Envoy by these rules.
pub(crate) fn node() -> NodeConfig {
    let text = RulesText {
        name: "edge.yaml".to_owned(),
        text: RULES.to_owned(),
    };
    let envoy = EnvoyConfig {
        address: Some("127.0.0.1:0".to_owned()),
        rules: RuleFiles::of(vec![text]).unwrap(),
        ..EnvoyConfig::default()
    };
    let config = NodeConfig {
        threads: Some(1),
        ..NodeConfig::at("127.0.0.1:0")
    };
    config.with_envoy(envoy).unwrap()
}

/// A question about one user.
pub(crate) fn question(user: u64) -> Vec<u8> {
    let entry = Entry {
        key: "user".to_owned(),
        value: format!("user-{user}"),
    };
    let request = RateLimitRequest {
        domain: "edge".to_owned(),
        descriptors: vec![RateLimitDescriptor {
            entries: vec![entry],
            ..RateLimitDescriptor::default()
        }],
        hits_addend: 0,
    };
    request.encode_to_vec()
}
