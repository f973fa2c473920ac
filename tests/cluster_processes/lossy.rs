//! Tests in which all datagrams between nodes pass gates that lose, double and delay them.

use crate::support::group::Group;
use crate::support::running::wait_until;
use crate::support::together::wait_until_one;
use rmbd_testkit::proxy::Harm;

const WIDE: [&str; 2] = ["-x", "65536"];

#[test]
fn what_is_lost_doubled_and_held_back_is_counted_once() {
    let mut group = Group::start(3, Harm::A_FIFTH_LOST, 0x0010_55e5, &WIDE);
    for _ in 0..3 {
        for node in 0..3 {
            group.add_some(node);
        }
    }
    let content = group.wait_for_truth();
    assert_eq!(content.len(), 3, "{content:#?}");
    let is_done = |group: &Group| {
        let counts = group.network.counts();
        let kinds = [counts.lost, counts.doubled, counts.late];
        kinds.iter().all(|&kind| kind > 20)
    };
    // The group was equal so quickly that few datagrams were sent.
    while !is_done(&group) {
        group.add_some(0);
        group.add_some(1);
        group.wait_for_truth();
    }
    let resends: u64 = (group.all().iter())
        .map(|node| node.status().cluster.resends)
        .sum();
    assert!(resends > 0, "{:?}", group.network.counts());
}

/// Both sides of a cut go on counting, and are one cluster again when the network is whole.
#[test]
fn a_partition_heals() {
    let mut group = Group::start(3, Harm::A_FIFTH_LOST, 0x9a27, &WIDE);
    for node in 0..3 {
        group.add_some(node);
    }
    group.wait_for_truth();
    group.network.part(&[&[0], &[1, 2]]);
    for node in 0..3 {
        group.add_some(node);
    }
    // Each side takes the other one for down; no node forgets counts that it knew.
    group.wait_for_live(0, 0, || {});
    for node in 1..3 {
        group.wait_for_live(node, 1, || {});
    }
    for node in 0..3 {
        group.add_some(node);
        let (below, above) = group.wrong(node);
        assert!(!below.is_empty() && above.is_empty(), "nothing was cut off");
    }
    assert!(group.network.counts().cut > 0);
    group.network.heal();
    group.wait_for_truth();
    wait_until_one(&group.all());
}

/// `kill -9` of a node whose counts the others have takes nothing from any node.
#[test]
fn a_node_that_is_killed_stays_counted_and_comes_back() {
    let mut group = Group::start(3, Harm::NONE, 0xdead, &WIDE);
    for node in 0..3 {
        group.add_some(node);
    }
    let before = group.wait_for_truth();
    let identity = group.node(1).status().cluster;
    group.take(1).kill();
    for node in [0, 2] {
        let undisturbed = || assert_eq!(group.wrong(node), (vec![], vec![]));
        group.wait_for_live(node, 1, undisturbed);
    }
    group.add_some(0);
    group.add_some(2);
    assert_eq!(group.wait_for_truth().len(), before.len());
    // The same node starts again, and gets its earlier counts back.
    group.start_node(1);
    let again = group.node(1).status().cluster;
    assert_eq!(again.node, identity.node);
    assert_ne!(again.boot, identity.boot);
    wait_until_one(&group.all());
    let content = group.wait_for_truth();
    let theirs = content.keys().filter(|(node, _)| *node == again.node);
    assert_eq!(theirs.collect::<Vec<_>>().len(), 1, "its first start's");
    group.add_some(1);
    let content = group.wait_for_truth();
    let theirs = content.keys().filter(|(node, _)| *node == again.node);
    assert_eq!(theirs.collect::<Vec<_>>().len(), 2, "both starts'");
    // No node takes it for two nodes.
    for node in [0, 2] {
        let members = group.node(node).status().cluster.members;
        let entries = members.iter().filter(|member| member.node == again.node);
        let states: Vec<_> = entries.map(|member| member.state.as_str()).collect();
        assert_eq!(states, ["alive"]);
    }
    wait_until("its readiness", || {
        let status = group.node(1).status();
        status
            .is_ready()
            .then_some(())
            .ok_or_else(|| format!("{:?}", status.readiness))
    });
}

/// A node is killed again and again, even before others have its counts. No count is ever too high.
#[test]
fn a_node_that_keeps_crashing_is_never_counted_twice() {
    let mut group = Group::start(3, Harm::A_FIFTH_LOST, 0xc2a5, &WIDE);
    for _ in 0..4 {
        group.add_some(0);
        group.add_some(2);
        // Counts of this node alone were copied before, or are lost: they are not part of the truth.
        group.node(2).add("lost or not", 1);
        group.take(2).kill();
        group.start_node(2);
    }
    wait_until_one(&group.all());
    crate::support::together::wait_until_equal(&group.all());
    let survived = group.node(0).count("lost or not");
    assert!(survived <= 4);
    for node in 0..3 {
        let (_, above) = group.wrong(node);
        assert_eq!(above, Vec::<String>::new());
        assert_eq!(group.node(node).count("lost or not"), survived);
    }
}
