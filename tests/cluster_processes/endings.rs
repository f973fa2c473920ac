//! Tests of SIGTERM: the counts that a node has taken reach the others before it ends.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use rmbd_proto::legacy::encode_add;
use rustix::process::Signal;

use crate::support::group::Group;
use crate::support::running::{Ended, text};
use crate::support::together::live;
use rmbd_testkit::proxy::Harm;

/// The longest time that an end may take. A node waits 3 s for the others; the rest is for the machine.
const END_LIMIT: Duration = Duration::from_secs(7);
const WIDE: [&str; 2] = ["-x", "65536"];

fn ends_well(ended: &Ended) {
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    assert!(ended.took < END_LIMIT, "{ended:?}");
}

/// Adds are under way when the signal comes. They are not acknowledged, so the node's own count says which were
/// taken.
#[test]
fn what_was_taken_before_the_end_is_counted_by_the_others() {
    let mut group = Group::start(3, Harm::A_FIFTH_LOST, 0x7e28, &WIDE);
    let leaver = group.take(1);
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    let add = encode_add(b"late");
    let mut sent = 0_u64;
    for _ in 0..2_000 {
        client.send_to(&add, leaver.udp()).unwrap();
        sent += 1;
    }
    leaver.wait("the first of them", |status| status.sketch.total_weight > 0);
    leaver.signal(Signal::TERM);
    // Some adds are still on their way; when the node is gone, they all end.
    for _ in 0..2_000 {
        if client.send_to(&add, leaver.udp()).is_ok() {
            sent += 1;
        }
    }
    let ended = leaver.end();
    ends_well(&ended);
    let taken = ended.log.split("total weight ").nth(1).unwrap();
    let taken: u64 = taken.trim().parse().unwrap();
    assert!(taken > 0 && taken <= sent, "{taken} of {sent}");
    for node in [0, 2] {
        group.node(node).wait_for_count("late", taken);
    }
}

/// The node says good-bye, so the others need not find out that it is gone.
#[test]
fn a_node_that_leaves_is_down_at_once() {
    let mut group = Group::start(3, Harm::NONE, 0xb7e, &WIDE);
    group.add_some(1);
    let leaver = group.take(1);
    let node = leaver.status().cluster.node;
    ends_well(&leaver.end());
    let gone = Instant::now();
    for other in [0, 2] {
        group.wait_for_live(other, 1, || {});
    }
    // Suspicion alone takes 4 s.
    assert!(gone.elapsed() < Duration::from_secs(4));
    group.wait_for_truth();
    let members = group.node(0).command(&["members"]);
    let table = text(&members.stdout);
    let line = table.lines().find(|line| line.starts_with(&node[..8]));
    assert!(line.is_some_and(|line| line.contains(" down ")), "{table}");
    let metrics = group.node(0).status().cluster.members;
    assert_eq!(metrics.len(), 2);
    // The node comes back as it was.
    group.start_node(1);
    for other in [0, 2] {
        group.wait_for_live(other, 2, || {});
    }
    group.wait_for_truth();
}

/// A node waits 3 s, and no longer, for a member that is dead and not known to be.
#[test]
fn a_dead_member_does_not_keep_a_node_from_ending() {
    let mut group = Group::start(3, Harm::NONE, 0xdead2, &WIDE);
    group.take(2).kill();
    group.add_some(1);
    let ended = group.take(1).end();
    ends_well(&ended);
    group
        .node(0)
        .wait("its good-bye", |status| live(status).len() < 2);
    assert_eq!(group.wrong(0), (vec![], vec![]));
}

/// The last node has no other to wait for.
#[test]
fn a_lone_node_ends_at_once() {
    let mut group = Group::start(2, Harm::NONE, 0x107e, &WIDE);
    group.add_some(0);
    ends_well(&group.take(0).end());
    group
        .node(1)
        .wait("its good-bye", |status| live(status).is_empty());
    assert_eq!(group.wrong(1), (vec![], vec![]));
    let last = group.take(1).end();
    ends_well(&last);
    assert!(last.took < Duration::from_secs(3), "{last:?}");
}
