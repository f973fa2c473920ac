//! Pardons in a cluster of real nodes: asked for at one, they hold at all.

use std::time::Duration;

use rmbd::config::{Amount, ClusterConfig, IoChoice, LimitConfig, LimitVerdict, NodeConfig};
use rmbd::node::Node;
use rmbd_client::{Client, ClientOptions};
use rmbd_proto::SketchName;

use crate::support::{BACKENDS, PATIENCE, config, wait_for};

const MINUTE: Duration = Duration::from_secs(60);

/// A node that joins these, with a limit of five of all time, if it has one.
fn start(io: IoChoice, seeds: &[&Node], has_limit: bool) -> Node {
    let address = |node: &&Node| node.cluster_addr().unwrap().to_string().parse().unwrap();
    let limit = LimitConfig {
        name: "api".parse().unwrap(),
        sketch: SketchName::default(),
        keys: "*".parse().unwrap(),
        amounts: vec![Amount {
            count: 5,
            window_ms: 0,
        }],
        cost: 1,
        verdict: LimitVerdict::Take,
        overrides: Vec::new(),
        exempt: Vec::new(),
        shadow: false,
    };
    let config = NodeConfig {
        cluster: ClusterConfig {
            gossip_interval_ms: 50,
            ..ClusterConfig::joining(seeds.iter().map(address))
        },
        limits: if has_limit { vec![limit] } else { Vec::new() },
        ..config(io)
    };
    Node::start(config).unwrap()
}

fn client(node: &Node) -> Client {
    let options = ClientOptions {
        timeout: PATIENCE,
        ..ClientOptions::default()
    };
    Client::connect(node.udp_addr(), options).unwrap()
}

fn wait_for_pardons(node: &Node, pardons: u64) {
    wait_for(node, "pardons", |status| status.pardons == pardons);
}

#[test]
fn a_pardon_lets_a_key_in_at_every_node_and_at_one_that_joins_later() {
    for io in BACKENDS {
        let first = start(io, &[], true);
        // It has no such limit, and passes the pardon on nevertheless.
        let without = start(io, &[&first], false);
        let other = start(io, &[&first, &without], true);
        for _ in 0..5 {
            assert!(
                client(&first)
                    .hit_by_name("api", "alice", 1)
                    .unwrap()
                    .allowed
            );
        }
        wait_for(&other, "counts", |_| other.estimate(b"alice").count == 5);
        assert!(
            !client(&other)
                .hit_by_name("api", "alice", 1)
                .unwrap()
                .allowed
        );
        assert_eq!(
            client(&first).pardon("api", "alice", MINUTE * 10).unwrap(),
            5
        );
        for node in [&first, &without, &other] {
            wait_for_pardons(node, 1);
        }
        assert!(
            client(&other)
                .hit_by_name("api", "alice", 1)
                .unwrap()
                .allowed,
            "{io}"
        );
        assert!(
            !client(&other).hit_by_name("api", "bob", 6).unwrap().allowed,
            "{io}"
        );
        // The giver goes, and somebody comes who can have it only from a node without the limit.
        first.stop().unwrap();
        other.stop().unwrap();
        let new = start(io, &[&without], true);
        wait_for_pardons(&new, 1);
        wait_for(&new, "counts", |_| new.estimate(b"alice").count == 6);
        assert!(
            client(&new).hit_by_name("api", "alice", 1).unwrap().allowed,
            "{io}"
        );
        // A short one takes it back, here and there.
        client(&new)
            .pardon("api", "alice", Duration::from_millis(1))
            .unwrap();
        for node in [&new, &without] {
            wait_for_pardons(node, 0);
        }
        assert!(
            !client(&new).hit_by_name("api", "alice", 1).unwrap().allowed,
            "{io}"
        );
        let status = without.stop().unwrap();
        assert!(status.cluster.bytes_sent["pardons"] > 0, "{io}");
    }
}
