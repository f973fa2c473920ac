//! A test through a network that loses, doubles and reorders, with a client that counts exactly once.

use std::collections::BTreeMap;
use std::net::UdpSocket;
use std::time::{Duration, Instant};

use rmbd::node::Node;
use rmbd_proto::Boot;
use rmbd_proto::compact::{Header, ONCE_WINDOW, Once, RequestWriter, reply};

use crate::support::{BACKENDS, PATIENCE, client_of, config, introduce};
use rmbd_testkit::proxy::{Harm, Proxy};

const SEED: u64 = 0x10_55e5;
/// Largest number of requests under way, which the proxy's receive buffer takes.
const UNDER_WAY_MAX: usize = 64;
const RETRY_AFTER: Duration = Duration::from_millis(10);

/// A client that adds with acknowledge and exactly once, and repeats requests without an acknowledgement.
struct Adder {
    socket: UdpSocket,
    under_way: BTreeMap<u64, (Instant, Vec<u8>)>,
    acknowledged_adds: u64,
    repeated: u64,
}

impl Adder {
    fn send(&mut self, sequence: u64, datagram: Vec<u8>) {
        while self.under_way.len() >= UNDER_WAY_MAX || self.leaves_the_window(sequence) {
            self.receive_or_repeat();
        }
        self.socket.send(&datagram).unwrap();
        self.under_way.insert(sequence, (Instant::now(), datagram));
    }

    /// Whether a sequence would move a request without a reply out of the window.
    fn leaves_the_window(&self, sequence: u64) -> bool {
        let oldest = self.under_way.first_key_value();
        oldest.is_some_and(|(oldest, _)| sequence - oldest >= ONCE_WINDOW)
    }

    fn receive_or_repeat(&mut self) {
        let mut buffer = [0; 2048];
        if let Ok(len) = self.socket.recv(&mut buffer) {
            let head = reply(&buffer[..len]).unwrap().head;
            self.repeated += u64::from(head.repeated);
            // A second reply has no request any more; it may say that the request is too old by now.
            if self.under_way.remove(&u64::from(head.id)).is_some() {
                assert_eq!(head.code, 0);
                self.acknowledged_adds += u64::from(head.done);
            }
        }
        for (sent, datagram) in self.under_way.values_mut() {
            if sent.elapsed() > RETRY_AFTER {
                self.socket.send(datagram).unwrap();
                *sent = Instant::now();
            }
        }
    }
}

#[test]
fn a_million_weights_through_a_lossy_network_are_exactly_a_million() {
    const WEIGHTS: u64 = 1_000_000;
    for io in BACKENDS {
        let node = Node::start(config(io)).unwrap();
        let boot = Boot(u64::from_str_radix(&node.status().compact.boot, 16).unwrap());
        introduce(&client_of(&node), boot, 0x5eed);
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let proxy = Proxy::both_ways(node.udp_addr(), Harm::A_TENTH_LOST, SEED);
        socket.connect(proxy.address()).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_millis(2)))
            .unwrap();
        let mut adder = Adder {
            socket,
            under_way: BTreeMap::new(),
            acknowledged_adds: 0,
            repeated: 0,
        };
        let mut writer = RequestWriter::new(1400);
        let (mut added, mut sequence) = (0, 0);
        while added < WEIGHTS {
            sequence += 1;
            let once = Once {
                boot,
                client: 0x5eed,
                sequence,
            };
            let header = Header {
                id: sequence as u32,
                acknowledge: true,
                once: Some(once),
                ..Header::default()
            };
            writer.start(&header).unwrap();
            while added < WEIGHTS
                && writer
                    .add(format!("key {:012}", added % 997).as_bytes(), 1)
                    .is_ok()
            {
                added += 1;
            }
            adder.send(sequence, writer.finish().to_vec());
        }
        let start = Instant::now();
        while !adder.under_way.is_empty() {
            adder.receive_or_repeat();
            assert!(start.elapsed() < PATIENCE, "seed {SEED:#x}, {io}");
        }
        assert_eq!(adder.acknowledged_adds, WEIGHTS, "seed {SEED:#x}, {io}");
        // Acknowledged requests are counted. Copies that are still under way will not be added again.
        assert_eq!(node.status().sketch.total_weight, WEIGHTS, "{io}");
        let counts = proxy.stop();
        let sentinel = client_of(&node);
        writer.start(&Header::default()).unwrap();
        writer.count(b"the last one").unwrap();
        sentinel.send(writer.finish()).unwrap();
        sentinel.recv(&mut [0; 64]).unwrap();
        let status = node.stop().unwrap();
        assert_eq!(status.sketch.total_weight, WEIGHTS, "seed {SEED:#x}, {io}");
        // Without exactly-once the count would be higher: the network did harm of all kinds.
        assert!(status.compact.repeats > 500, "{:?}", status.compact);
        assert!(adder.repeated > 500);
        for kind in [counts.lost, counts.doubled, counts.late] {
            assert!(kind > 500, "{counts:?}");
        }
    }
}
