//! Lists of the largest keys between nodes.

use rmbd_proto::cluster::{TopEntry, TopHead, TopName, TopVersion};
use rmbd_sketch::Weight;
use rmbd_store::{Batch, ReplicaOptions, ToldList};

use super::bad_input::Liar;
use super::*;

const TOP: usize = 10;

/// Starts a node that lists its largest keys; whether it tells their names.
fn start(net: &mut Net, boot: u64, port: u16, shares_names: bool) -> usize {
    let own = SliceId::of(boot, Writer(boot + WRITER));
    let options = ReplicaOptions {
        top: TOP,
        ..ReplicaOptions::of(geometry(), FAMILY, own, net.limits)
    };
    let replica = Arc::new(Replica::try_open(options).unwrap());
    let slices = slices_of([replica], net.now).unwrap();
    let node = net.start_on(slices, boot, port);
    net.nodes[node].cluster.shares_names = shares_names;
    let now = net.now;
    net.nodes[node].cluster.join(now, address(0));
    node
}

/// Adds so often that names are asked for, come, and are told; in each round some.
fn add(net: &mut Net, node: usize, adds: impl Fn(u64) -> (Vec<u8>, u16)) {
    let mut batch = Batch::<()>::new(Arc::clone(&net.nodes[node].replica));
    for n in 0..4 * 300 {
        let (key, weight) = adds(n);
        batch
            .add(&key, Weight::from(weight), &mut |(), _| {})
            .unwrap();
        if n % 300 == 299 {
            batch.finish(&mut |(), _| {});
            net.run(ROUND);
        }
    }
}

fn hot(n: u64) -> (Vec<u8>, u16) {
    let key = if n.is_multiple_of(3) { n } else { n % 4 };
    (format!("key {key}").into_bytes(), 2)
}

fn list(net: &Net, node: usize) -> ToldList {
    let lists = net.nodes[node]
        .cluster
        .told_lists(SketchNumber::DEFAULT, net.now);
    lists.lists[0].clone()
}

/// Names and what is certain of them, largest first.
fn keys(list: &ToldList) -> Vec<(String, u64)> {
    let name = |name: &[u8]| String::from_utf8_lossy(name).into_owned();
    let keys = list.keys.iter();
    keys.map(|key| {
        (
            key.name.as_deref().map(name).unwrap_or_default(),
            key.certain,
        )
    })
    .collect()
}

/// Runs until all nodes have all lists in the same version.
fn until_told(net: &mut Net, at_most: u32) {
    for _ in 0..at_most {
        net.run(ROUND);
        let of = |node: &Node| node.cluster.slices().top_sum();
        let first = of(&net.nodes[0]);
        if net.nodes.iter().all(|node| of(node) == first) {
            return;
        }
    }
    panic!("not all is told after {at_most} rounds");
}

#[test]
fn all_members_tell_the_same_list_although_datagrams_are_lost() {
    let mut net = Net::new(0.2);
    for node in 0..3 {
        start(&mut net, 101 + node, node as u16, true);
    }
    net.run(MS * 5_000);
    for node in 0..3 {
        add(&mut net, node, hot);
    }
    net.run(ROUND * 8);
    until_told(&mut net, 40);
    let lists = [0, 1, 2].map(|node| list(&net, node));
    println!("{:?} above {}", keys(&lists[0]), lists[0].complete_above);
    assert_eq!(lists[0].keys.len(), TOP);
    for list in &lists {
        assert_eq!(keys(list), keys(&lists[0]));
        assert_eq!(list.complete_above, lists[0].complete_above);
    }
    // 400 adds of all kinds, 200 of each hot key, of weight 2, on each node.
    for key in &lists[0].keys[..4] {
        assert!(key.name.is_some() && key.by_node.len() == 3);
        assert!(key.estimate >= 3 * 400 && key.certain <= 3 * 402 && key.certain > 1_000);
    }
    assert!(lists[0].complete_above < 3 * 100);
    for node in &net.nodes {
        let refused = node.cluster.status(net.now).refused;
        assert_eq!(refused.values().sum::<u64>(), 0, "{refused:?}");
    }
}

#[test]
fn lists_of_the_dead_come_from_anybody() {
    let mut net = Net::new(0.0);
    for node in 0..3 {
        start(&mut net, 101 + node, node as u16, true);
    }
    net.run(MS * 5_000);
    add(&mut net, 2, hot);
    net.run(ROUND * 8);
    until_told(&mut net, 20);
    let before = list(&net, 2);
    net.nodes.pop();
    net.run(MS * 20_000);
    start(&mut net, 909, 9, true);
    net.run(MS * 5_000);
    until_told(&mut net, 20);
    let after = list(&net, 2);
    assert_eq!(keys(&after), keys(&before));
    assert_eq!(after.complete_above, before.complete_above);
}

/// A name is told once, and what is at rest costs a sum a round.
#[test]
fn what_is_told_once_is_not_told_again() {
    let mut net = Net::new(0.0);
    for node in 0..2 {
        start(&mut net, 101 + node, node as u16, true);
    }
    net.run(MS * 5_000);
    add(&mut net, 0, hot);
    net.run(ROUND * 8);
    until_told(&mut net, 20);
    net.run(ROUND * 8);
    let sent = |net: &Net| net.nodes[0].cluster.status(net.now).sent.top;
    let before = sent(&net);
    net.run(ROUND * 100);
    assert!(sent(&net) - before <= 101 * 11, "{}", sent(&net) - before);
    // All names again, with other counts.
    let before = sent(&net);
    add(&mut net, 0, hot);
    net.run(ROUND * 8);
    until_told(&mut net, 20);
    let names: usize = keys(&list(&net, 1))
        .iter()
        .map(|(name, _)| name.len())
        .sum();
    println!("{} bytes for {names} bytes of names", sent(&net) - before);
    assert!(sent(&net) - before < 4_000, "{}", sent(&net) - before);
}

#[test]
fn names_do_not_leave_a_node_that_does_not_share_them() {
    let mut net = Net::new(0.0);
    let shares = [true, true, false];
    for (node, shares) in (0..).zip(shares) {
        start(&mut net, 101 + node, node as u16, shares);
    }
    net.run(MS * 5_000);
    for node in 0..3 {
        add(&mut net, node, move |n| {
            let (mut key, weight) = hot(n);
            key.extend(format!(" of {node}").into_bytes());
            (key, weight)
        });
    }
    net.run(ROUND * 20);
    for node in 0..3 {
        let list = list(&net, node);
        let knows = |of: &str| keys(&list).iter().any(|(name, _)| name.ends_with(of));
        let hears = |other: usize| node == other || shares[node] && shares[other];
        assert_eq!(
            [0, 1, 2].map(|other| knows(&format!(" of {other}"))),
            [0, 1, 2].map(hears)
        );
        // Of which the list is not here, anything may be missed.
        assert!(list.complete_above >= 2_400);
    }
}

#[test]
fn lists_of_strangers_and_absurd_ones_change_nothing() {
    let mut net = Net::new(0.0);
    for node in 0..2 {
        start(&mut net, 101 + node, node as u16, true);
    }
    net.run(MS * 5_000);
    add(&mut net, 0, hot);
    net.run(ROUND * 8);
    until_told(&mut net, 20);
    let before = list(&net, 0);
    let slice = net.nodes[0].cluster.slices().own_slice();
    let head = TopHead {
        from: 0,
        to: 1 << 40,
        is_complete: true,
        weight: u64::MAX,
        bounds: Vec::new(),
    };
    let entry = TopEntry {
        place: 7,
        changed: 1 << 40,
        key: TopName::Name(b"absurd"),
        lists: u64::MAX,
        certain: u64::MAX,
    };
    let version = TopVersion {
        slice,
        version: 1 << 40,
        complete: 1 << 40,
    };
    let (stranger, member) = (Liar::new(&net, 99, 999), Liar::of_member(&net));
    for mut liar in [stranger, member] {
        liar.say(&mut net, |writer| writer.top_offered(&[version]));
        liar.say(&mut net, |writer| writer.top_asked(&[version]));
        liar.say(&mut net, |writer| writer.top_sum(7));
        let entries = std::iter::once(entry);
        liar.say(&mut net, |writer| {
            writer.top(&slice, &head, entries).is_some()
        });
        let after = list(&net, 0);
        assert_eq!(
            (keys(&after), after.complete_above),
            (keys(&before), before.complete_above)
        );
    }
    let refused = net.nodes[0].cluster.status(net.now).refused;
    assert_eq!(refused["top_of_no_member"], 3, "{refused:?}");
    net.run(ROUND * 4);
    assert_eq!(keys(&list(&net, 1)), keys(&before));
}
