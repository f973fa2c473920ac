//! Tests of a push target that is a node of ours, on a path where its answers are late or lost, so that it looks like
//! the Python program for a while. Nothing is counted twice in the end.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;

use rmbd::config::IoChoice;
use rmbd::node::Node;
use rmbd_proto::compact::is_reply;
use rmbd_proto::legacy::{Dialect, encode_peer};

use crate::support::{BACKENDS, client_of, compat, wait_for};

/// The harm to what the node behind the relay sends, while `in_the_way` is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Harm {
    /// All datagrams wait, and then come in order.
    Late,
    /// Replies of the compact format are lost; only these tell what the node is.
    Lost,
}

struct Relay {
    address: SocketAddr,
    in_the_way: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Relay {
    fn to(node: SocketAddr, harm: Harm) -> Self {
        let open = || {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            let turn = Duration::from_millis(1);
            socket.set_read_timeout(Some(turn)).unwrap();
            socket
        };
        let (near, far) = (open(), open());
        let address = near.local_addr().unwrap();
        let in_the_way = Arc::new(AtomicBool::new(true));
        let stop = Arc::new(AtomicBool::new(false));
        let (harmful, stopped) = (Arc::clone(&in_the_way), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            let mut buffer = vec![0; 1 << 16];
            let (mut asker, mut waiting) = (None, Vec::new());
            while !stopped.load(Relaxed) {
                if let Ok((length, from)) = near.recv_from(&mut buffer) {
                    asker = Some(from);
                    far.send_to(&buffer[..length], node).unwrap();
                }
                if let Ok(length) = far.recv(&mut buffer) {
                    waiting.push(buffer[..length].to_vec());
                }
                let harmful = harmful.load(Relaxed);
                if harmful && harm == Harm::Lost {
                    waiting.retain(|datagram: &Vec<u8>| !is_reply(datagram[0]));
                }
                if let Some(asker) = asker.filter(|_| !(harmful && harm == Harm::Late)) {
                    for datagram in waiting.drain(..) {
                        near.send_to(&datagram, asker).unwrap();
                    }
                }
            }
        });
        Self {
            address,
            in_the_way,
            stop,
            thread: Some(thread),
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

#[test]
fn answers_that_are_late_or_lost_make_nothing_count_twice() {
    // The cases run at once, since they wait most of the time.
    std::thread::scope(|scope| {
        for io in BACKENDS {
            for harm in [Harm::Late, Harm::Lost] {
                scope.spawn(move || push_through(harm, io));
            }
        }
    });
}

fn push_through(harm: Harm, io: IoChoice) {
    let giver = Node::start(compat(io)).unwrap();
    let taker = Node::start(compat(io)).unwrap();
    giver.add(b"k", 1).unwrap();
    taker.add(b"k", 10).unwrap();
    let relay = Relay::to(taker.udp_addr(), harm);
    let port = relay.address.port();
    let order = encode_peer("127.0.0.1", port, Dialect::Native).unwrap();
    client_of(&giver).send(&order).unwrap();
    // The target looks like an instance of the Python program ...
    let status = wait_for(&giver, "rows", |status| {
        !status.peer_orders.is_empty() && status.peers.iter().any(|peer| peer.rows_sent > 0)
    });
    assert!(status.peer_orders[0].accepted, "{:?}", status.peer_orders);
    if harm == Harm::Lost {
        // ... and gets all rows, which count ...
        wait_for(&taker, "all rows", |_| taker.estimate(b"k").count == 11);
    }
    // ... until its answer comes.
    relay.in_the_way.store(false, Relaxed);
    wait_for(&giver, "the end of rows", |status| {
        status.peers.iter().all(|peer| !peer.pushing) && status.cluster.one_way.len() == 1
    });
    giver.add(b"k", 100).unwrap();
    wait_for(&taker, "all of it, once", |_| {
        taker.estimate(b"k").count == 111
    });
    let rounds = taker.status().cluster.rounds;
    wait_for(&taker, "more rounds", |status| {
        status.cluster.rounds > rounds + 4
    });
    assert_eq!(taker.estimate(b"k").count, 111, "{harm:?}");
    assert_eq!(giver.estimate(b"k").count, 101);
}
