//! Tests of access lists.

use std::net::UdpSocket;

use rmbd::config::NodeConfig;
use rmbd::node::Node;
use rmbd_proto::legacy::{encode_add, encode_count, encode_peer};

use crate::support::{BACKENDS, PATIENCE, config, receive, wait_for};

/// A socket at one of this machine's addresses: all of 127.0.0.0/8 belong to it, so senders can differ.
fn client_at(host: &str, node: &Node) -> UdpSocket {
    let client = UdpSocket::bind((host, 0)).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.connect(node.udp_addr()).unwrap();
    client
}

#[test]
fn only_who_is_allowed_counts_and_refusals_are_counted() {
    for io in BACKENDS {
        let allow = vec!["127.0.0.2/32".parse().unwrap()];
        let node = Node::start(NodeConfig {
            allow,
            ..config(io)
        })
        .unwrap();
        let stranger = client_at("127.0.0.3", &node);
        for _ in 0..5 {
            stranger.send(&encode_add(b"key")).unwrap();
        }
        let status = wait_for(&node, "5 refusals", |s| {
            s.datagrams.refused["not_allowed"] == 5
        });
        assert_eq!((status.messages.add, status.datagrams.received), (0, 5));
        let friend = client_at("127.0.0.2", &node);
        friend
            .send(&[encode_add(b"key"), encode_count(b"key")].concat())
            .unwrap();
        assert_eq!(receive(&friend)[144], 1);
    }
}

#[test]
fn a_target_whose_acks_would_be_refused_is_refused_itself() {
    for io in BACKENDS {
        let allow = vec!["127.0.0.2/32".parse().unwrap()];
        let node = Node::start(NodeConfig {
            allow,
            geometry: rmbd_sketch::Geometry::new(100, 4).unwrap(),
            ..config(io)
        })
        .unwrap();
        let friend = client_at("127.0.0.2", &node);
        friend
            .send(&encode_peer("127.0.0.9", 9, Default::default()).unwrap())
            .unwrap();
        let status = wait_for(&node, "the refusal", |s| !s.peer_orders.is_empty());
        assert!(!status.peer_orders[0].accepted);
        assert!(
            status.peer_orders[0].detail.contains("--allow"),
            "{:?}",
            status.peer_orders
        );
    }
}
