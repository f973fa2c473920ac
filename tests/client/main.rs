//! The clients of the compact format against whole nodes, also through a network that does harm.

#![allow(missing_docs, clippy::unwrap_used)]

mod asynchronous;
mod blocking;
mod names;

use std::time::Duration;

use rmbd::config::{IoChoice, NodeConfig};
use rmbd::node::Node;
use rmbd_client::ClientOptions;
use rmbd_sketch::Geometry;

/// As long as anything may take on a busy machine; nothing waits this long when all is well.
const OPTIONS: ClientOptions = ClientOptions {
    timeout: Duration::from_secs(30),
    linger: Duration::ZERO,
};

fn config() -> NodeConfig {
    NodeConfig {
        geometry: Geometry::new(1 << 16, 4).unwrap(),
        threads: Some(1),
        io: IoChoice::Mmsg,
        ..NodeConfig::at("127.0.0.1:0")
    }
}

fn node() -> Node {
    Node::start(config()).unwrap()
}

/// Gives up soon.
fn impatient() -> ClientOptions {
    ClientOptions {
        timeout: Duration::from_millis(300),
        ..OPTIONS
    }
}

fn key(number: u64) -> String {
    format!("key {number:012}")
}
