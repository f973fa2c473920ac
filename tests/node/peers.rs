//! Tests of `peer`, `sync` and `ack`, with another node and with a Python instance played by the test.

use std::net::{SocketAddr, UdpSocket};

use rmbd::config::{ClusterChoice, ClusterConfig, IoChoice, NodeConfig};
use rmbd::node::Node;
use rmbd_client::legacy::{Client, ClientOptions};
use rmbd_proto::compact::is_request;
use rmbd_proto::legacy::{ACK, Dialect, encode_peer, encode_sync};
use rmbd_sketch::Geometry;

use crate::support::{
    BACKENDS, PATIENCE, client_of, compat, config, hex, receive_from, vectors, wait_for,
};

/// The type byte of a count.
const COUNT: u8 = 1;

fn order(to: &Node, target: SocketAddr) {
    let order = encode_peer(&target.ip().to_string(), target.port(), Dialect::Native).unwrap();
    client_of(to).send(&order).unwrap();
}

fn rmbd_client(node: &Node) -> Client {
    Client::connect(node.udp_addr(), ClientOptions::default()).unwrap()
}

fn wait_for_count(node: &Node, key: &str, count: u64) {
    wait_for(node, &format!("{key} = {count}"), |_| {
        node.estimate(key.as_bytes()).count == count
    });
}

/// The example of the original's page: both nodes answer 2.
#[test]
fn the_pages_example_prints_two_and_two() {
    for io in BACKENDS {
        let (c, d) = (
            Node::start(compat(io)).unwrap(),
            Node::start(compat(io)).unwrap(),
        );
        order(&c, d.udp_addr());
        order(&d, c.udp_addr());
        let (mut to_c, mut to_d) = (rmbd_client(&c), rmbd_client(&d));
        to_c.add("abc").unwrap();
        to_d.add("abc").unwrap();
        wait_for_count(&c, "abc", 2);
        wait_for_count(&d, "abc", 2);
        assert_eq!(
            (to_c.count("abc").unwrap(), to_d.count("abc").unwrap()),
            (2, 2)
        );
        // Both are nodes of ours, so no row went. This stays so: what came from d is not sent back to d.
        let rounds = c.status().cluster.rounds;
        let status = wait_for(&c, "more rounds", |s| s.cluster.rounds > rounds + 4);
        assert_eq!(status.cluster.one_way.len(), 1);
        assert_eq!((status.messages.sync, status.peers.len()), (0, 0));
        assert_eq!((c.estimate(b"abc").count, d.estimate(b"abc").count), (2, 2));
    }
}

/// A socket that behaves like a Python instance. With `true` it is so busy that it answers no counts.
struct Python(UdpSocket, bool);

impl Python {
    fn new() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(socket, true)
    }

    fn busy() -> Self {
        Self(Self::new().0, false)
    }

    fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }

    /// The next datagram that is no question. The Python program does not know the compact format, in which a node
    /// asks it what it is; it answers counts, by which a node asks whether it is alive.
    fn receive_from(&self) -> (Vec<u8>, SocketAddr) {
        loop {
            let (bytes, from) = receive_from(&self.0);
            match bytes[0] {
                COUNT if self.1 => {
                    let mut reply = bytes[1..].to_vec();
                    reply.resize(Dialect::Native.reply_bytes(), 0);
                    self.0.send_to(&reply, from).unwrap();
                }
                COUNT => {}
                first if is_request(first) => {}
                _ => return (bytes, from),
            }
        }
    }

    fn receive(&self) -> Vec<u8> {
        self.receive_from().0
    }

    /// The next row that is pushed to it, with the row's index.
    fn row(&self) -> (usize, Vec<u8>) {
        let row = self.receive();
        (usize::from(row[1]) + usize::from(row[2]) * 256, row)
    }
}

#[test]
fn a_python_instance_gets_our_rows_byte_for_byte() {
    for io in BACKENDS {
        let node = Node::start(compat(io)).unwrap();
        node.add(b"abc", 3).unwrap();
        let python = Python::new();
        order(&node, python.address());
        // A peer that answers counts gets all rows at once ...
        let rows = (0..10).map(|_| python.row().0);
        assert!(rows.eq(0..10));
        // ... and others get one row a round until they acknowledge it, from the client port.
        let python = Python::busy();
        order(&node, python.address());
        let (bytes, from) = python.receive_from();
        assert_eq!((bytes.len(), from), (809, node.udp_addr()));
        assert_eq!(&bytes[..9], [2, 0, 0, 0, 0, 0, 0, 0, 0]);
        python.0.send_to(&ACK, from).unwrap();
        // Then all ten rows come in order, with the bytes that CPython's struct would pack.
        let columns = vectors()["columns"][1]["width100"].clone();
        let mut seen = [false; 10];
        while !seen.iter().all(|&seen| seen) {
            let (row, bytes) = python.row();
            python.0.send_to(&ACK, node.udp_addr()).unwrap();
            let mut counters = [0; 100];
            counters[columns[row].as_u64().unwrap() as usize] = 3;
            let mut expected = Vec::new();
            encode_sync(row as u16, &counters, Dialect::Native, &mut expected);
            assert_eq!(bytes, expected);
            seen[row] = true;
        }
        let status = wait_for(&node, "acks", |s| s.peers.iter().any(|p| p.rows_acked > 10));
        let acked = status
            .peers
            .iter()
            .find(|peer| peer.rows_acked > 10)
            .unwrap();
        assert!(acked.pushing && acked.last_ack_s.is_some());
    }
}

#[test]
fn rows_of_a_python_instance_are_acknowledged_and_counted() {
    let vectors = vectors();
    for io in BACKENDS {
        for dialect in ["native", "network"] {
            let node = Node::start(compat(io)).unwrap();
            let python = Python::new();
            python.0.connect(node.udp_addr()).unwrap();
            for sync in vectors["sync"].as_array().unwrap() {
                python.0.send(&hex(&sync[dialect])).unwrap();
                assert_eq!(python.receive(), ACK);
            }
            let status = node.stop().unwrap();
            let rows = vectors["sync"].as_array().unwrap().len() as u64;
            assert_eq!(status.messages.sync, rows);
            assert_eq!(status.peers[0].rows_received, rows);
            assert!(!status.peers[0].pushing);
        }
    }
}

/// The answer is the own count plus the peer's, through the peer's restart. It is never passed on.
#[test]
fn a_python_instances_counts_are_summed_and_survive_its_restart() {
    for io in BACKENDS {
        let node = Node::start(compat(io)).unwrap();
        let python = Python::new();
        python.0.connect(node.udp_addr()).unwrap();
        let columns = vectors()["columns"][1]["width100"].clone();
        let push = |count: u32| {
            for row in 0..10 {
                let mut counters = [0; 100];
                counters[columns[row].as_u64().unwrap() as usize] = count.into();
                let mut bytes = Vec::new();
                encode_sync(row as u16, &counters, Dialect::Network, &mut bytes);
                python.0.send(&bytes).unwrap();
                assert_eq!(python.receive(), ACK);
            }
        };
        node.add(b"abc", 5).unwrap();
        push(4);
        push(7);
        assert_eq!(node.estimate(b"abc").count, 12);
        // The peer restarts and counts from 1: two rounds show that.
        push(1);
        push(1);
        assert_eq!(node.estimate(b"abc").count, 5 + 7 + 1);
        push(2);
        assert_eq!(node.estimate(b"abc").count, 5 + 7 + 2);
        assert_eq!(node.status().peers[0].restarts, 1);
        // The rows that the peer pushed are not part of what we push to others.
        let other = Python::new();
        order(&node, other.address());
        let (row, bytes) = other.row();
        let mut own = [0; 100];
        own[columns[row].as_u64().unwrap() as usize] = 5;
        let mut expected = Vec::new();
        encode_sync(row as u16, &own, Dialect::Native, &mut expected);
        assert_eq!(bytes, expected);
    }
}

#[test]
fn a_silent_peer_is_dropped_after_its_grace() {
    for io in BACKENDS {
        let node = Node::start(NodeConfig {
            peer_grace_rounds: 2,
            ..compat(io)
        })
        .unwrap();
        let python = Python::busy();
        order(&node, python.address());
        let rows = [python.row().0, python.row().0];
        assert_eq!(
            rows,
            [0, 1],
            "one row a round to who has never acknowledged"
        );
        wait_for(&node, "the drop", |s| {
            s.peers.is_empty() && !s.peer_orders.is_empty()
        });
    }
}

#[test]
fn the_table_of_peers_is_bounded() {
    let node = Node::start(NodeConfig {
        max_peers: 2,
        ..compat(IoChoice::Auto)
    })
    .unwrap();
    let pythons: Vec<Python> = (0..3).map(|_| Python::new()).collect();
    let mut row = Vec::new();
    encode_sync(0, &[1; 100], Dialect::Native, &mut row);
    for python in &pythons[..2] {
        python.0.send_to(&row, node.udp_addr()).unwrap();
        assert_eq!(python.receive(), ACK);
    }
    pythons[2].0.send_to(&row, node.udp_addr()).unwrap();
    wait_for(&node, "a refused row", |s| {
        s.datagrams.refused.get("peer_table_full") == Some(&1)
    });
    for python in &pythons {
        order(&node, python.address());
    }
    let status = wait_for(&node, "three orders", |s| s.peer_orders.len() == 3);
    let refused: Vec<_> = status
        .peer_orders
        .iter()
        .filter(|order| !order.accepted)
        .collect();
    assert_eq!(refused.len(), 1);
    assert!(refused[0].detail.contains("--max-peers"), "{refused:?}");
}

#[test]
fn impossible_orders_are_refused_and_say_why() {
    for io in BACKENDS {
        let node = Node::start(compat(io)).unwrap();
        let client = client_of(&node);
        let mut bad_utf8 = encode_peer("xx", 9, Dialect::Native).unwrap();
        bad_utf8[2..4].copy_from_slice(&[0xff, 0xfe]);
        // A port in the form of L may be above 65 535.
        let mut big_port = vec![0; 153];
        big_port[..5].copy_from_slice(&[3, 3, b'a', b'.', b'b']);
        big_port[145..149].copy_from_slice(&70_000u32.to_le_bytes());
        let ours = node.udp_addr();
        let orders: [(Vec<u8>, &str); 6] = [
            (
                encode_peer("127.0.0.1", 0, Dialect::Native)
                    .unwrap()
                    .to_vec(),
                "not a port",
            ),
            (big_port, "not a port"),
            (bad_utf8.to_vec(), "UTF-8"),
            (
                encode_peer("", 9, Dialect::Native).unwrap().to_vec(),
                "empty",
            ),
            (
                encode_peer("no.such.host.invalid", 9, Dialect::Native)
                    .unwrap()
                    .to_vec(),
                "cannot look up",
            ),
            (
                encode_peer("127.0.0.1", ours.port(), Dialect::Native)
                    .unwrap()
                    .to_vec(),
                "own",
            ),
        ];
        for (i, (bytes, word)) in orders.into_iter().enumerate() {
            client.send(&bytes).unwrap();
            let status = wait_for(&node, word, |s| s.peer_orders.len() == i + 1);
            let order = &status.peer_orders[i];
            assert!(!order.accepted && order.detail.contains(word), "{order:?}");
            assert!(status.peers.is_empty());
        }
    }
}

#[test]
fn a_sketch_that_is_too_wide_for_a_datagram_refuses_peers() {
    let geometry = Geometry::new(1 << 16, 4).unwrap();
    let node = Node::start(NodeConfig {
        geometry,
        ..config(IoChoice::Auto)
    })
    .unwrap();
    order(&node, ([127, 0, 0, 1], 9).into());
    let status = wait_for(&node, "the refusal", |s| s.peer_orders.len() == 1);
    assert!(
        status.peer_orders[0].detail.contains("does not fit"),
        "{:?}",
        status.peer_orders
    );
}

/// The widest rows that a datagram holds are exchanged, also by nodes of ours that are in no cluster.
#[test]
fn the_widest_rows_are_exchanged() {
    for io in BACKENDS {
        let wide = |dialect: Dialect| NodeConfig {
            geometry: Geometry::new(dialect.max_sync_width() as u64, 3).unwrap(),
            dialect,
            cluster: ClusterConfig {
                address: ClusterChoice::Off,
                ..ClusterConfig::default()
            },
            ..config(io)
        };
        for dialect in [Dialect::Native, Dialect::Network] {
            let c = Node::start(wide(dialect)).unwrap();
            let d = Node::start(wide(dialect)).unwrap();
            let target = d.udp_addr();
            let order = encode_peer("127.0.0.1", target.port(), dialect).unwrap();
            client_of(&c).send(&order).unwrap();
            c.add(b"key", 9).unwrap();
            wait_for_count(&d, "key", 9);
        }
    }
}
