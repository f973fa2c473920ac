//! Tests of names that lead elsewhere: those of members to join, of the node itself, and of push targets.

use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex};

use rmbd::config::{ClusterChoice, ClusterConfig, HostPort, IoChoice, NodeConfig};
use rmbd::node::Node;
use rmbd::status::Status;
use rmbd_names::Resolver;
use rmbd_proto::legacy::{Dialect, encode_peer};

use crate::support::{BACKENDS, client_of, compat, config, wait_for};

/// A hosts database for the test.
#[derive(Clone, Default)]
struct Hosts(Arc<Mutex<BTreeMap<String, Vec<SocketAddr>>>>);

impl Hosts {
    fn lead(&self, host: &str, addresses: &[SocketAddr]) {
        let mut hosts = self.0.lock().unwrap();
        hosts.insert(host.to_owned(), addresses.to_vec());
    }

    fn forget(&self, host: &str) {
        self.0.lock().unwrap().remove(host);
    }

    fn resolver(&self) -> Resolver {
        let hosts = self.clone();
        Resolver::new(move |name: &HostPort| {
            let known = hosts.0.lock().unwrap().get(&name.host).cloned();
            known.ok_or_else(|| std::io::Error::other("try again"))
        })
    }

    /// The configuration of a node that joins a name.
    fn member(&self, io: IoChoice, ip: &str, join: &str) -> NodeConfig {
        NodeConfig {
            address: format!("{ip}:0"),
            resolver: self.resolver(),
            cluster: ClusterConfig {
                gossip_interval_ms: 50,
                ..ClusterConfig::joining([join.parse().unwrap()])
            },
            ..config(io)
        }
    }
}

fn alive(status: &Status) -> usize {
    let members = status.cluster.members.iter();
    members.filter(|member| member.state == "alive").count()
}

fn wait_for_members(nodes: &[&Node]) {
    for node in nodes {
        wait_for(node, "members", |status| alive(status) + 1 == nodes.len());
    }
}

fn wait_for_count(nodes: &[&Node], count: u64) {
    for node in nodes {
        wait_for(node, &format!("key = {count}"), |_| {
            node.estimate(b"key").count == count
        });
    }
}

fn at(node: &Node) -> SocketAddr {
    node.cluster_addr().unwrap()
}

/// The example: a node comes back at another address, and its name follows it.
#[test]
fn a_seed_that_moves_splits_nothing() {
    for io in BACKENDS {
        let hosts = Hosts::default();
        let seed = || Node::start(hosts.member(io, "127.0.0.1", "seed:1")).unwrap();
        // The name is not known yet, which ends nothing.
        let first = seed();
        hosts.lead("seed", &[at(&first)]);
        let others = ["127.0.0.2", "127.0.0.3"]
            .map(|ip| Node::start(hosts.member(io, ip, "seed:1")).unwrap());
        let [b, c] = &others;
        wait_for_members(&[&first, b, c]);
        first.add(b"key", 1).unwrap();
        b.add(b"key", 10).unwrap();
        wait_for_count(&[&first, b, c], 11);
        hosts.forget("seed");
        first.stop().unwrap();
        let moved = Node::start(hosts.member(io, "127.0.0.4", "seed:1")).unwrap();
        moved.add(b"key", 100).unwrap();
        wait_for(b, "the departure", |status| alive(status) == 1);
        hosts.lead("seed", &[at(&moved)]);
        wait_for_members(&[&moved, b, c]);
        wait_for_count(&[&moved, b, c], 111);
    }
}

/// A name has several addresses, as in a headless service: groups that formed apart meet by an address that is not
/// met yet.
#[test]
fn all_addresses_of_a_name_are_joined_and_dead_ones_hold_up_nothing() {
    let io = IoChoice::Auto;
    let hosts = Hosts::default();
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    hosts.lead("service", &[]);
    let nodes: Vec<Node> = (1..=4)
        .map(|n| {
            let config = hosts.member(io, &format!("127.0.0.{n}"), "service:1");
            Node::start(config).unwrap()
        })
        .collect();
    let addresses: Vec<SocketAddr> = nodes.iter().map(at).collect();
    hosts.lead(
        "service",
        &[silent.local_addr().unwrap(), addresses[0], addresses[1]],
    );
    wait_for_members(&nodes.iter().collect::<Vec<_>>());
}

#[test]
fn a_node_is_told_by_the_name_that_it_is_advertised_by_and_follows_it() {
    let io = IoChoice::Auto;
    let hosts = Hosts::default();
    let a = Node::start(hosts.member(io, "127.0.0.1", "nobody:1")).unwrap();
    hosts.lead("a", &[at(&a)]);
    let mut named = hosts.member(io, "0.0.0.0", "a:1");
    named.cluster.insecure = true;
    named.cluster.address = ClusterChoice::At("0.0.0.0:0".to_owned());
    named.cluster.advertise = Some("b:0".parse().unwrap());
    let b = Node::start(named).unwrap();
    b.add(b"key", 7).unwrap();
    assert_eq!(
        b.status().cluster.advertised,
        None,
        "nobody knows the name yet"
    );
    assert_eq!(alive(&a.status()), 0);
    let port = at(&b).port();
    let v6: SocketAddr = "[::1]:0".parse().unwrap();
    for ip in [[127, 0, 0, 6], [127, 0, 0, 7]] {
        hosts.lead("b", &[v6, (ip, 0).into()]);
        let told = SocketAddr::from((ip, port)).to_string();
        wait_for(&b, &told, |status| {
            status.cluster.advertised.as_ref() == Some(&told)
        });
        let is_told = |status: &Status| {
            let mut members = status.cluster.members.iter();
            alive(status) == 1 && members.any(|m| m.state == "alive" && m.address == told)
        };
        wait_for(&a, &told, is_told);
        let (boot, members) = (b.status().cluster.boot, a.status().cluster.members);
        let of_b = members.iter().filter(|member| member.boot == boot);
        assert_eq!(of_b.count(), 1, "one process is one member");
        wait_for_count(&[&a, &b], 7);
        // A member leaves, so that the name is looked up again soon, and not in a minute.
        let gone = Node::start(hosts.member(io, "127.0.0.8", "a:1")).unwrap();
        wait_for(&b, "one more", |status| alive(status) == 2);
        gone.stop().unwrap();
    }
}

#[test]
fn an_order_to_push_tries_all_addresses_and_follows_its_name() {
    let hosts = Hosts::default();
    let giver = Node::start(NodeConfig {
        resolver: hosts.resolver(),
        ..config(IoChoice::Auto)
    })
    .unwrap();
    let target = || Node::start(config(IoChoice::Auto)).unwrap();
    let (first, second) = (target(), target());
    giver.add(b"key", 3).unwrap();
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let dead = silent.local_addr().unwrap();
    hosts.lead("target", &[dead, first.udp_addr()]);
    let order = encode_peer("target", 9, Dialect::Native).unwrap();
    client_of(&giver).send(&order).unwrap();
    wait_for_count(&[&first], 3);
    hosts.lead("target", &[second.udp_addr()]);
    first.stop().unwrap();
    wait_for_count(&[&second], 3);
    let orders = giver.status().peer_orders;
    assert!(
        orders
            .iter()
            .all(|order| order.accepted && order.target == "target:9")
    );
}

/// Rows go to an address that does not say what it is; if they are not acknowledged there, they go to the next one.
#[test]
fn rows_go_to_the_next_address_when_they_are_not_acknowledged() {
    let hosts = Hosts::default();
    let giver = Node::start(NodeConfig {
        resolver: hosts.resolver(),
        ..compat(IoChoice::Auto)
    })
    .unwrap();
    let sockets = [(); 3].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
    let [first, second, third] = &sockets;
    let at = |socket: &UdpSocket| socket.local_addr().unwrap();
    hosts.lead("python", &[at(first), at(second)]);
    let order = encode_peer("python", 9, Dialect::Native).unwrap();
    client_of(&giver).send(&order).unwrap();
    for socket in [first, second, third] {
        let mut row = [0; 2048];
        socket
            .set_read_timeout(Some(crate::support::PATIENCE))
            .unwrap();
        while socket.recv(&mut row).unwrap() != 809 {}
        if std::ptr::eq(socket, second) {
            hosts.lead("python", &[at(third)]);
        }
    }
}
