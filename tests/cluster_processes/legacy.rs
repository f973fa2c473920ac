//! Tests of a Python instance beside a node or a cluster: rows go in both directions between it and the node that is
//! its peer.

use std::time::Instant;

use rmbd_client::legacy::{Client, ClientOptions};

use crate::support::group::Group;
use crate::support::original::Original;
use crate::support::python::Python;
use crate::support::running::{Running, wait_until};
use crate::support::together::wait_until_one;
use rmbd_testkit::proxy::Harm;

/// The example of the original's page, with a process at one end that speaks its protocol: both answer 2.
#[test]
fn the_pages_example_prints_two_and_two_with_a_live_python_process() {
    let Some(python) = Original::start() else {
        println!("skipped: there is no python3 on this machine");
        return;
    };
    let node = Running::start(&["127.0.0.1:0", "--compat"]);
    let mut client = python.client();
    let mut to_node = Client::connect(node.udp(), ClientOptions::default()).unwrap();
    let started = Instant::now();
    (to_node.peer("127.0.0.1", python.address.port())).unwrap();
    client.peer("127.0.0.1", node.udp().port()).unwrap();
    to_node.add("abc").unwrap();
    client.add("abc").unwrap();
    node.wait_for_count("abc", 2);
    println!("2 here after {:?}", started.elapsed());
    wait_until("2 there", || match client.count("abc").unwrap() {
        2 => Ok(()),
        count => Err(format!("{count}\n{}", node.log())),
    });
    println!("2 there after {:?}", started.elapsed());
    let status = node.status();
    assert!(status.cluster.one_way.is_empty());
    let [peer] = &status.peers[..] else {
        panic!("{:?}", status.peers);
    };
    assert!(peer.pushing && peer.rows_received >= 10, "{peer:?}");
    // Questions about what a peer is, and their answers, are nobody's faults.
    let datagrams = status.datagrams;
    assert_eq!(
        datagrams.malformed.values().sum::<u64>(),
        0,
        "{datagrams:?}"
    );
    assert_eq!(datagrams.refused.values().sum::<u64>(), 0, "{datagrams:?}");
    // This stays so.
    let acked = peer.rows_acked;
    node.wait("rounds", |status| status.peers[0].rows_acked > acked + 30);
    assert_eq!((node.count("abc"), client.count("abc").unwrap()), (2, 2));
}

#[test]
fn a_python_instance_is_the_peer_of_one_member() {
    let mut group = Group::start(3, Harm::NONE, 0x9e7, &["--compat"]);
    let python = Python::new();
    group.node(0).add("abc", 3);
    group.node(1).add("abc", 5);
    for node in 0..3 {
        group.node(node).wait_for_count("abc", 8);
    }
    // The Python program's counts reach the neighbours of its peer, and stay there.
    python.push(group.node(0), 4);
    python.push(group.node(0), 7);
    group.node(0).wait_for_count("abc", 15);
    group.node(1).add("abc", 1);
    group.node(0).wait_for_count("abc", 16);
    for node in 1..3 {
        group.node(node).wait_for_count("abc", 9);
    }
    // The node pushes what it counted itself, and nothing that it learnt.
    let order = ["peer", &python.address().to_string()];
    let mut rows = [0; 10];
    assert!(group.node(0).command(&order).status.success());
    python.rows_until(group.node(0), &mut rows, 3);
    group.node(0).add("abc", 10);
    python.rows_until(group.node(0), &mut rows, 13);
    for node in 1..3 {
        group.node(node).wait_for_count("abc", 19);
    }

    // The node is killed, and cannot reach the others for a while. It sends no row that would take counts back.
    group.take(0).kill();
    group.network.part(&[&[0], &[1, 2]]);
    group.start_node(0);
    let order = ["peer", &python.address().to_string()];
    assert!(group.node(0).command(&order).status.success());
    let accepted = |status: &rmbd::status::Status| !status.peer_orders.is_empty();
    let rounds = group.node(0).wait("the order", accepted).cluster.rounds;
    group
        .node(0)
        .wait("some rounds", |status| status.cluster.rounds > rounds + 15);
    group.network.heal();
    wait_until_one(&group.all());
    group.node(0).wait_for_count("abc", 19);
    group.node(0).add("abc", 1);
    python.rows_until(group.node(0), &mut rows, 14);
    python.push(group.node(0), 7);
    group.node(0).wait_for_count("abc", 27);
    for node in 1..3 {
        group.node(node).wait_for_count("abc", 20);
    }
}
