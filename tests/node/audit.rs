//! What a node says of keys that it counts exactly, against what it really errs by.

use rmbd::node::Node;
use rmbd::status::AuditStatus;
use rmbd_client::{Client, ClientOptions};

use crate::support::{BACKENDS, PATIENCE, config, wait_for};

const KEYS: u64 = 20_000;

/// How often a key is added.
const fn weight(key: u64) -> u64 {
    1 + key % 3
}

fn name(key: u64) -> String {
    format!("key {key}")
}

/// By how much the estimate of each key is too high.
fn errors(node: &Node) -> Vec<u64> {
    let sketch = node.default_sketch();
    let error = |key| sketch.estimate(name(key).as_bytes()).count - weight(key);
    (0..KEYS).map(error).collect()
}

fn audit(node: &Node) -> AuditStatus {
    node.status().sketches[0].sketch.audit.unwrap()
}

fn is_near(found: f64, truth: f64) -> bool {
    (found - truth).abs() < 0.2 * truth
}

#[test]
fn a_node_knows_what_it_errs_by_and_which_verdicts_are_wrong() {
    for io in BACKENDS {
        let node = Node::start(config(io)).unwrap();
        let options = ClientOptions {
            timeout: PATIENCE,
            ..ClientOptions::default()
        };
        let mut client = Client::connect(node.udp_addr(), options).unwrap();
        let adds = (0..KEYS).map(|key| (name(key), weight(key)));
        client.add_many(adds).unwrap();
        let errors = errors(&node);
        let mean = errors.iter().sum::<u64>() as f64 / KEYS as f64;
        let status = wait_for(&node, "a look at most keys", |status| {
            let audit = status.sketches[0].sketch.audit.unwrap();
            audit
                .errors
                .is_some_and(|it| it.keys > 200 && is_near(it.mean, mean))
        });
        let found = status.sketches[0].sketch.audit.unwrap().errors.unwrap();
        assert!(found.keys < 450, "{found:?}");
        assert_eq!(found.sampled, 1.0 / 64.0);
        let above = errors.iter().filter(|&&it| it > found.quantile).count();
        assert!(above as f64 <= 0.08 * KEYS as f64, "{above}: {found:?}");
        assert!(found.largest <= errors.iter().copied().max().unwrap());
        // Each key is within its limit, but for the error.
        let sketch = node.default_sketch();
        let hit = |key| {
            let (estimate, _) = sketch
                .hit(name(key).as_bytes(), 1, weight(key) + 1)
                .unwrap();
            estimate.count > weight(key) + 1
        };
        let wrong = (0..KEYS).filter(|&key| hit(key)).count();
        // One verdict a key of the sample, once the node has looked at all of them.
        wait_for(&node, "a look at all keys", |status| {
            let audit = status.sketches[0].sketch.audit.unwrap();
            audit.errors.map(|it| it.keys) == Some(audit.verdicts)
        });
        let audit = audit(&node);
        assert_eq!(audit.verdicts_over, audit.verdicts_wrong);
        let (share, truth) = (
            audit.verdicts_wrong as f64 / audit.verdicts as f64,
            wrong as f64 / KEYS as f64,
        );
        assert!((share - truth).abs() < 0.1, "{share}, {truth}");
        assert_eq!((audit.too_low, audit.missed_weight), (0, 0));
        node.stop().unwrap();
    }
}
