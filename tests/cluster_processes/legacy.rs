//! A Python instance beside a cluster: rows in both directions, with the node that is its peer.

use crate::shared::proxy::Harm;
use crate::support::group::Group;
use crate::support::python::Python;
use crate::support::together::wait_until_one;

#[test]
fn a_python_instance_is_the_peer_of_one_member() {
    let mut group = Group::start(3, Harm::NONE, 0x9e7, &["--compat"]);
    let python = Python::new();
    group.node(0).add("abc", 3);
    group.node(1).add("abc", 5);
    for node in 0..3 {
        group.node(node).wait_for_count("abc", 8);
    }
    // Its counts are its peer's neighbours', and stay there.
    python.push(group.node(0), 4);
    python.push(group.node(0), 7);
    group.node(0).wait_for_count("abc", 15);
    group.node(1).add("abc", 1);
    group.node(0).wait_for_count("abc", 16);
    for node in 1..3 {
        group.node(node).wait_for_count("abc", 9);
    }
    // What this node counted is pushed, and nothing that it learnt.
    let order = ["peer", &python.address().to_string()];
    let mut rows = [0; 10];
    assert!(group.node(0).command(&order).status.success());
    python.rows_until(group.node(0), &mut rows, 3);
    group.node(0).add("abc", 10);
    python.rows_until(group.node(0), &mut rows, 13);
    for node in 1..3 {
        group.node(node).wait_for_count("abc", 19);
    }

    // It is killed and cannot reach the others for a while: no row goes that takes anything back.
    group.take(0).kill();
    group.network.part(&[&[0], &[1, 2]]);
    group.start_node(0);
    let order = ["peer", &python.address().to_string()];
    assert!(group.node(0).command(&order).status.success());
    let accepted = |status: &rmbd::node::status::Status| !status.peer_orders.is_empty();
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
