//! A bench of one count over loopback: a client's question and a node's answer.

#![allow(missing_docs, clippy::unwrap_used)]

use std::net::UdpSocket;

use criterion::{Criterion, criterion_group, criterion_main};
use rmbd::config::{HttpChoice, IoChoice, NodeConfig};
use rmbd::node::Node;
use rmbd_proto::legacy::encode_count;

fn round_trip(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("round trip");
    for io in [IoChoice::Uring, IoChoice::Mmsg] {
        for busy_poll_us in [0, 200] {
            let node = Node::start(NodeConfig {
                threads: Some(1),
                io,
                busy_poll_us,
                http: HttpChoice::Off,
                ..NodeConfig::at("127.0.0.1:0")
            })
            .unwrap();
            let client = UdpSocket::bind("127.0.0.1:0").unwrap();
            client.connect(node.udp_addr()).unwrap();
            let (question, mut answer) = (encode_count(b"key"), [0; 256]);
            group.bench_function(
                format!("count, {io}, busy-poll {busy_poll_us} us"),
                |bencher| {
                    bencher.iter(|| {
                        client.send(&question).unwrap();
                        client.recv(&mut answer).unwrap()
                    });
                },
            );
        }
    }
    group.finish();
}

criterion_group!(benches, round_trip);
criterion_main!(benches);
