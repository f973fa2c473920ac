//! What a node says that it likely errs by, against what it really errs by. The node that is asked has counted half of
//! it itself, and learnt the other half.

use rmbd::config::{ClusterConfig, IoChoice, NodeConfig};
use rmbd::node::Node;
use rmbd::status::Status;
use rmbd_client::{Bounds, Client, ClientOptions};

use crate::support::{BACKENDS, PATIENCE, config, wait_for};

const KEYS: u64 = 20_000;

/// How often a key is added at each of the nodes.
const fn weight(key: u64) -> u64 {
    1 + key % 3
}

fn start(io: IoChoice, seeds: &[&Node]) -> Node {
    let address = |node: &&Node| node.cluster_addr().unwrap().to_string().parse().unwrap();
    let config = NodeConfig {
        cluster: ClusterConfig {
            gossip_interval_ms: 50,
            ..ClusterConfig::joining(seeds.iter().map(address))
        },
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

fn name(key: u64) -> String {
    format!("key {key}")
}

/// Whether the node knows all, and has sampled it.
fn is_sampled(status: &Status, total_weight: u64) -> bool {
    let sketch = &status.sketches[0];
    sketch.known_weight == total_weight && sketch.sketch.likely_error.is_some()
}

#[test]
fn bounds_rest_on_the_errors_that_a_node_samples() {
    for io in BACKENDS {
        let one = start(io, &[]);
        let other = start(io, &[&one]);
        let nodes = [&one, &other];
        let adds = || (0..KEYS).map(|key| (name(key), weight(key)));
        for node in nodes {
            client(node).add_many(adds()).unwrap();
        }
        let total_weight = 2 * (0..KEYS).map(weight).sum::<u64>();
        let status = wait_for(&other, "a sample", |status| {
            is_sampled(status, total_weight)
        });
        // A later sample may be of a little more, but nothing is added any more.
        let asked = KEYS / 10;
        let mut client = client(&other);
        let bounds: Vec<(Bounds, u64)> = (0..asked)
            .map(|key| {
                let bounds = client.count_bounds(name(key)).unwrap();
                (bounds, 2 * weight(key))
            })
            .collect();
        for (bounds, truth) in &bounds {
            let all = [
                bounds.certain_lower,
                bounds.likely_lower,
                bounds.likely_estimate,
                bounds.estimate,
            ];
            assert!(all.is_sorted(), "{bounds:?}");
            assert!(bounds.certain_lower <= *truth && *truth <= bounds.estimate);
            assert_eq!(bounds.total_weight, total_weight);
        }
        let sum = |of: fn(&Bounds, u64) -> u64| {
            let all = bounds.iter();
            all.map(|(bounds, truth)| of(bounds, *truth)).sum::<u64>()
        };
        let above = sum(|bounds, truth| u64::from(bounds.likely_lower > truth));
        assert!(above as f64 <= 0.025 * asked as f64, "{above} of {asked}");
        let plain = sum(|bounds, truth| bounds.estimate - truth);
        let likely = sum(|bounds, truth| bounds.likely_estimate.abs_diff(truth));
        assert!(likely * 2 < plain, "{likely} of {plain}");
        let sampled = status.sketches[0].sketch.likely_error.unwrap();
        let mean = plain as f64 / asked as f64;
        assert!(
            (sampled.mean - mean).abs() < 0.1 * mean,
            "{sampled:?}, {mean}"
        );
        let promised = status.sketches[0].promised_error();
        assert!(
            (sampled.quantile as f64) < promised,
            "{sampled:?}, {promised}"
        );
        for node in [other, one] {
            node.stop().unwrap();
        }
    }
}
