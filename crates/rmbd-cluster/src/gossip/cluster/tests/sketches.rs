//! Several sketches: what is bounded is so for all together, and each has its share.

use super::*;
use crate::gossip::{Agreement, NewClusterError};
use rmbd_proto::cluster::SKETCHES_MAX;

type Spec = (u32, Geometry, HashFamily);

fn small() -> Geometry {
    Geometry::new(64, 2).unwrap()
}

fn specs(count: u32) -> Vec<Spec> {
    let number = |at: u32| {
        if at == 0 {
            0
        } else {
            at.wrapping_mul(0x9e37_79b9)
        }
    };
    (0..count).map(|at| (number(at), small(), FAMILY)).collect()
}

fn cluster_of(nodes: &[Vec<Spec>], loss: f64) -> Net {
    let mut net = Net::new(loss);
    for (n, sketches) in nodes.iter().enumerate() {
        net.start_with(n as u64 + 1, n as u64 + 101, n as u16, sketches);
        if n > 0 {
            let now = net.now;
            net.nodes[n].cluster.join(now, address(0));
        }
    }
    net.run(MS * 5_000);
    net
}

fn count(net: &Net, node: usize, sketch: usize) -> u64 {
    net.nodes[node].replicas[sketch].estimate(b"key").count
}

#[test]
fn as_many_sketches_as_there_may_be_are_exchanged_each_by_itself() {
    for loss in [0.0, 0.2] {
        let many = specs(SKETCHES_MAX as u32);
        let mut net = cluster_of(&vec![many; 3], loss);
        for (n, node) in net.nodes.iter().enumerate() {
            for (at, replica) in node.replicas.iter().enumerate() {
                let weight = (1 + at as u16 + n as u16 * 1_000).into();
                replica.add(b"key", weight).unwrap();
            }
        }
        net.run(MS);
        let took = net.until_equal(ROUND * 30);
        println!("{took:?}");
        for node in 0..3 {
            for sketch in 0..SKETCHES_MAX {
                let right = 3 * (1 + sketch as u64) + 3_000;
                assert_eq!(count(&net, node, sketch), right, "{node}, {sketch}");
            }
            let state = net.nodes[node].cluster.status(net.now);
            assert!(state.is_ready && state.version as usize >= SKETCHES_MAX);
            assert!(state.members.iter().all(|member| member.apart.is_empty()));
        }
    }
}

#[test]
fn a_sketch_that_one_has_otherwise_or_not_is_not_exchanged_alone_and_all_others_are() {
    let all = specs(4);
    let mut differs = all.clone();
    differs[2].1 = Geometry::new(65, 2).unwrap();
    differs.remove(3);
    let mut net = cluster_of(&[all.clone(), all.clone(), differs], 0.0);
    for node in &net.nodes {
        for replica in &node.replicas {
            replica.add(b"key", 5.into()).unwrap();
        }
    }
    net.run(ROUND * 8);
    for node in 0..2 {
        let counts = [0, 1, 2, 3].map(|sketch| count(&net, node, sketch));
        assert_eq!(counts, [15, 15, 10, 10]);
    }
    assert_eq!([0, 1, 2].map(|sketch| count(&net, 2, sketch)), [15, 15, 5]);
    let cluster = &mut net.nodes[0].cluster;
    let state = cluster.status(net.now);
    let apart: Vec<_> = state.members.iter().map(|member| &member.apart).collect();
    let (third, fourth) = (SketchNumber(all[2].0), SketchNumber(all[3].0));
    let named = apart.iter().find(|apart| !apart.is_empty()).unwrap();
    assert_eq!(named.len(), 2);
    assert!(named.contains(&(fourth, Agreement::Lacks)));
    assert!(
        named
            .iter()
            .any(|&(it, how)| it == third && how != Agreement::Lacks)
    );
    assert_eq!(apart.iter().filter(|apart| !apart.is_empty()).count(), 1);
    assert_eq!(state.converged_age, Some(Duration::ZERO));
    let told = std::iter::from_fn(|| cluster.poll_event());
    let told = told.filter(|event| matches!(event, ClusterEvent::OtherSketch { .. }));
    assert_eq!(told.count(), 2, "each is told once");
    // Nobody waits for what is not exchanged.
    let now = net.now;
    net.nodes[2].cluster.leave(now);
    net.run(MS * 500);
    assert!(net.nodes[2].cluster.is_flushed());
}

/// Bytes that all nodes send in ten rounds, long after the last add.
fn idle_bytes(sketches: u32) -> u64 {
    let mut net = cluster_of(&vec![specs(sketches); 3], 0.0);
    for replica in net.nodes.iter().flat_map(|node| &node.replicas) {
        replica.add(b"key", 5.into()).unwrap();
    }
    net.run(ROUND * 120);
    assert!(net.is_equal());
    let sent = |net: &Net| -> u64 {
        let nodes = net.nodes.iter();
        nodes.map(|node| node.cluster.outbox.sent().bytes).sum()
    };
    let before = sent(&net);
    net.run(ROUND * 10);
    sent(&net) - before
}

#[test]
fn idle_sketches_cost_almost_nothing() {
    let (one, many) = (idle_bytes(1), idle_bytes(SKETCHES_MAX as u32));
    println!("{one} bytes with one sketch, {many} with {SKETCHES_MAX}");
    assert!(many < one * 2, "{many}, and {one} with one");
}

/// What differs in a sketch at rest is found by its sum.
#[test]
fn a_difference_in_a_sketch_at_rest_is_found() {
    let mut net = cluster_of(&vec![specs(40); 3], 0.0);
    net.run(ROUND * 40);
    let sketch = SketchNumber(specs(40)[33].0);
    let departed = SliceId {
        sketch,
        ..SliceId::of(77, Writer(1))
    };
    // As if it had come long ago, when nobody could be told.
    let cluster = &mut net.nodes[1].cluster;
    cluster
        .sketches
        .merge(&departed, [(3, 9)].into_iter())
        .unwrap();
    assert!(cluster.sketches.complete(&departed, 0, 4));
    let (tour, sketches) = (cluster.repair.tour_mut(), &cluster.sketches);
    for _ in 0..20 {
        tour.begin_round(sketches);
    }
    net.until_equal_in(ROUND * 40);
    let versions = net
        .nodes
        .iter()
        .map(|node| node.cluster.sketches.version(&departed));
    assert_eq!(versions.collect::<Vec<_>>(), [4, 4, 4]);
}

/// One sketch is written to without an end, at a rate at which the node cannot tell all of it.
#[test]
fn a_busy_sketch_does_not_keep_others_from_being_told() {
    let wide = Geometry::new(1 << 16, 2).unwrap();
    let mut sketches = specs(4);
    sketches[2].1 = wide;
    let mut net = Net::new(0.0);
    net.rate = 8_000;
    for n in 0..2 {
        net.start_with(n + 1, n + 101, n as u16, &sketches);
    }
    let now = net.now;
    net.nodes[1].cluster.join(now, address(0));
    net.run(ROUND * 10);
    for round in 1..20_u32 {
        for key in 0..4_000_u32 {
            let key = (u64::from(key) << 32 | u64::from(round)).to_le_bytes();
            net.nodes[0].replicas[2].add(&key, 1.into()).unwrap();
        }
        net.nodes[0].replicas[3].add(b"key", 1.into()).unwrap();
        net.run(ROUND * 2);
        assert_eq!(count(&net, 1, 3), u64::from(round), "round {round}");
    }
    let lag = net.nodes[0].cluster.status(net.now).members[0].lag_versions;
    assert!(lag > 0, "the busy one is behind all the time");
}

/// The budget of any sketch is served at once, also where nobody listens.
#[test]
fn a_pass_that_data_threads_wait_for_comes_at_once() {
    let mut net = Net::new(0.0);
    net.start_with(1, 101, 0, &specs(8));
    net.run(ROUND);
    let (now, node) = (net.now, &mut net.nodes[0]);
    let heavy = rmbd_sketch::Weight::MAX;
    while !node.cluster.all_slices().any(Slices::wants_pass) {
        node.replicas[5].add(b"key", heavy).unwrap();
    }
    assert_eq!(node.cluster.next_wake(now), now);
    node.cluster.wake(now);
    assert!(!node.cluster.all_slices().any(Slices::wants_pass));
    assert!(node.cluster.next_wake(now) > now);
}

/// Whoever writes a snapshot file has all published that was added before, also while a pass is under way and others
/// add; and members are told of it.
#[test]
fn passes_are_made_until_all_is_published_that_was_added() {
    let wide = Geometry::new(1 << 19, 1).unwrap();
    let mut sketches = specs(3);
    sketches[1].1 = wide;
    let mut net = Net::new(0.0);
    for n in 0..2 {
        net.start_with(n + 1, n + 101, n as u16, &sketches);
    }
    let now = net.now;
    net.nodes[1].cluster.join(now, address(0));
    net.run(ROUND * 10);
    let now = net.now;
    let node = &mut net.nodes[0];
    let add = |node: &Node, key: &[u8]| {
        for replica in &node.replicas {
            replica.add(key, 1.into()).unwrap();
        }
    };
    add(node, b"before");
    // A pass over the wide one is under way, and another key comes behind it or before it.
    assert!(!node.cluster.publish_until(now, &[1 << 40; 3]));
    add(node, b"key");
    let slices = node.cluster.all_slices();
    let until: Vec<u64> = slices.map(Slices::passes_until_now).collect();
    let mut calls = 0;
    while !node.cluster.publish_until(now, &until) {
        calls += 1;
        add(node, b"later");
    }
    assert!(calls > 1, "the pass that was under way is not enough");
    for replica in &node.replicas {
        let slices = node.cluster.slices_of(replica.own_slice().sketch).unwrap();
        let (own, cells) = (slices.own_cells(), replica.own().cells_of(b"key"));
        let counted = cells.as_slice().iter().map(|&cell| own.get(cell)).min();
        assert_eq!(counted, Some(1));
    }
    assert!(node.cluster.next_wake(now) <= now + ROUND);
    net.run(ROUND * 4);
    for sketch in 0..3 {
        assert_eq!(count(&net, 1, sketch), 1);
    }
}

#[test]
fn what_cannot_be_one_nodes_sketches_makes_no_cluster() {
    let replica = |number: u32, node: u64| {
        let own = SliceId {
            sketch: SketchNumber(number),
            ..SliceId::of(node, Writer(9))
        };
        let limits = Net::new(0.0).limits;
        Arc::new(Replica::try_with(small(), FAMILY, own, limits).unwrap())
    };
    let made = |replicas: Vec<Arc<Replica>>| {
        let slices = slices_of(replicas, Duration::ZERO).unwrap();
        Sketches::try_new(slices).map(|_| ())
    };
    assert_eq!(made(Vec::new()), Err(NewClusterError::NumberOfSketches(0)));
    let many = (0..257).map(|number| replica(number, 1)).collect();
    assert_eq!(made(many), Err(NewClusterError::NumberOfSketches(257)));
    let twice = vec![replica(0, 1), replica(7, 1), replica(7, 1)];
    let same = NewClusterError::SameNumber(SketchNumber(7));
    assert_eq!(made(twice), Err(same));
    let others = vec![replica(0, 1), replica(7, 2)];
    let other = NewClusterError::OtherWriter(SketchNumber(7));
    assert_eq!(made(others), Err(other));
    assert_eq!(made(vec![replica(7, 1), replica(0, 1)]), Ok(()));
}
