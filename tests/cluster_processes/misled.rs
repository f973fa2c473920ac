//! Tests with ten nodes, most of which know less than one of them. The knowledge of that one reaches all others. The
//! time that this took is printed (`--nocapture`).

use std::time::Instant;

use crate::support::group::Group;
use crate::support::running::{Running, loopback, wait_until};
use crate::support::together::{wait_until_equal, wait_until_one};
use rmbd_testkit::proxy::Harm;

const NODES: usize = 10;
const OPTIONS: [&str; 2] = ["-x=65536", "--gossip-interval=500"];

fn start(seed: u64) -> Group {
    let mut group = Group::start(NODES, Harm::NONE, seed, &OPTIONS);
    group.add_some(0);
    group.wait_for_truth();
    group
}

/// Waits until `neighbour` has all that was added at the first node.
fn wait_until_told(group: &Group, neighbour: usize) {
    wait_until("what the neighbour heard", || {
        let (below, _) = group.wrong(neighbour);
        below
            .is_empty()
            .then_some(())
            .ok_or_else(|| below.join(", "))
    });
}

fn tell(what: &str, since: Instant) {
    println!("{what}: {:.1} s", since.elapsed().as_secs_f64());
}

#[test]
fn a_writer_that_one_of_ten_hears_is_known_to_all() {
    let mut group = start(0x0e4d);
    group.network.let_only_hear(0, 1);
    let since = Instant::now();
    group.add_some(0);
    group.wait_for_truth();
    tell("heard by one of ten, then known to all", since);
}

#[test]
fn what_a_dead_writer_told_one_of_ten_is_known_to_all() {
    let mut group = start(0xdead);
    group.network.let_only_hear(0, 1);
    group.add_some(0);
    wait_until_told(&group, 1);
    group.take(0).kill();
    group.network.heal();
    let since = Instant::now();
    group.wait_for_truth();
    tell("told one of ten and died, then known to all", since);
}

/// Half of the members have no room for the slices of dead nodes, and the joiner knows only one of these members.
#[test]
fn who_joins_by_way_of_one_that_refuses_gets_all() {
    let first = running(&[]);
    let join = format!("--join={}", first.cluster());
    let mut nodes: Vec<_> = (1..NODES / 2).map(|_| running(&[&join])).collect();
    for node in &nodes {
        node.add("all", 100);
    }
    nodes.insert(0, first);
    wait_until_one(&nodes.iter().collect::<Vec<_>>());
    wait_until_equal(&nodes.iter().collect::<Vec<_>>());
    let refusing: Vec<_> = (NODES / 2..NODES - 1)
        .map(|_| running(&[&join, "--max-origins=1"]))
        .collect();
    let all: Vec<_> = nodes.iter().chain(&refusing).collect();
    wait_until_one(&all);
    for node in &refusing {
        node.wait("a refusal", |status| {
            !status.cluster.slices_refused.is_empty()
        });
    }
    let written = 100 * (NODES as u64 / 2 - 1);
    for dead in nodes.drain(1..3) {
        dead.kill();
    }
    let since = Instant::now();
    let joiner = running(&[&format!("--join={}", refusing[0].cluster())]);
    wait_until("all at the joiner", || match joiner.count("all") {
        found if found == written => Ok(()),
        found => Err(format!("{found}, not {written}")),
    });
    tell("joined by way of one that refuses, then had all", since);
}

fn running(words: &[&str]) -> Running {
    let address = format!("{}:0", loopback());
    let words = [
        &[address.as_str(), "--cluster", &address],
        &OPTIONS[..],
        words,
    ]
    .concat();
    Running::start(&words)
}
