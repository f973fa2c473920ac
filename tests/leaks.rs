//! A test that nodes come and go in one process and leave nothing behind. It is alone in its process, since it counts
//! all threads and descriptors.

#![allow(missing_docs, clippy::unwrap_used)]

use std::net::{TcpListener, UdpSocket};

use rmbd::config::{IoChoice, NodeConfig};
use rmbd::node::Node;
use rmbd_sketch::Geometry;

fn count(what: &str) -> usize {
    std::fs::read_dir(format!("/proc/self/{what}"))
        .unwrap()
        .count()
}

#[test]
fn nodes_leave_no_thread_no_descriptor_and_no_port() {
    let config = |io| NodeConfig {
        geometry: Geometry::new(1 << 16, 4).unwrap(),
        threads: Some(2),
        io,
        ..NodeConfig::at("127.0.0.1:0")
    };
    for io in [IoChoice::Uring, IoChoice::Mmsg] {
        // The first node starts what a process has once.
        Node::start(config(io)).unwrap().stop().unwrap();
        let before = (count("fd"), count("task"));
        for round in 0..20 {
            let node = Node::start(config(io)).unwrap();
            let address = node.udp_addr();
            let mut answer = [0; 200];
            let client = UdpSocket::bind("127.0.0.1:0").unwrap();
            client.connect(address).unwrap();
            client
                .send(&rmbd_proto::legacy::encode_count(b"key"))
                .unwrap();
            client.recv(&mut answer).unwrap();
            drop(client);
            if round % 2 == 0 {
                node.stop().unwrap();
            } else {
                drop(node);
            }
            UdpSocket::bind(address).unwrap();
            TcpListener::bind(address).unwrap();
        }
        assert_eq!((count("fd"), count("task")), before, "{io}");
    }
}
