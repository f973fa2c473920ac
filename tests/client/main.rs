//! Tests of the clients of the compact format with whole nodes, also through a network that does harm.

#![allow(missing_docs, clippy::unwrap_used)]

mod asynchronous;
mod blocking;
mod limits;
mod names;
mod top;

use std::time::Duration;

use rmbd::config::{IoChoice, NodeConfig};
use rmbd::node::Node;
use rmbd_client::ClientOptions;
use rmbd_sketch::Geometry;

/// Options with the longest timeout that anything may take on a busy machine. Nothing waits this long when all is
/// well.
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

/// Options of a client that gives up soon.
fn impatient() -> ClientOptions {
    ClientOptions {
        timeout: Duration::from_millis(300),
        ..OPTIONS
    }
}

fn key(number: u64) -> String {
    format!("key {number:012}")
}
