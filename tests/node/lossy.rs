//! A network that loses, doubles and reorders, and a client that counts exactly once through it.

use std::collections::{BTreeMap, VecDeque};
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rmbd::node::Node;
use rmbd::wire::compact::{Header, ONCE_WINDOW, Once, RequestWriter, reply};

use crate::support::{BACKENDS, PATIENCE, client_of, config};

const SEED: u64 = 0x10_55e5;
/// Of a thousand datagrams in each direction.
const LOST: u64 = 100;
const DOUBLED: u64 = 50;
const LATE: u64 = 50;

/// A seeded stream (splitmix64).
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % end
    }
}

#[derive(Debug, Default)]
struct Harm {
    lost: AtomicU64,
    doubled: AtomicU64,
    late: AtomicU64,
}

/// Stands between one client and a node.
struct Network {
    address: SocketAddr,
    harm: Arc<Harm>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Network {
    fn between(client: SocketAddr, node: SocketAddr) -> Self {
        let near = UdpSocket::bind("127.0.0.1:0").unwrap();
        near.connect(client).unwrap();
        let far = UdpSocket::bind("127.0.0.1:0").unwrap();
        far.connect(node).unwrap();
        let address = near.local_addr().unwrap();
        let (harm, stop) = (Arc::new(Harm::default()), Arc::new(AtomicBool::new(false)));
        let threads = [(&near, &far, SEED), (&far, &near, SEED + 1)]
            .map(|(from, to, seed)| {
                let way = Way {
                    from: from.try_clone().unwrap(),
                    to: to.try_clone().unwrap(),
                    random: Random(seed),
                    held: VecDeque::new(),
                    harm: Arc::clone(&harm),
                };
                let stop = Arc::clone(&stop);
                std::thread::spawn(move || way.run(&stop))
            })
            .into();
        Self {
            address,
            harm,
            stop,
            threads,
        }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        self.threads.drain(..).for_each(|thread| {
            let _ = thread.join();
        });
    }
}

/// One direction.
struct Way {
    from: UdpSocket,
    to: UdpSocket,
    random: Random,
    /// Late datagrams, and how many others go before them.
    held: VecDeque<(u64, Vec<u8>)>,
    harm: Arc<Harm>,
}

impl Way {
    fn run(mut self, stop: &AtomicBool) {
        self.from
            .set_read_timeout(Some(Duration::from_millis(5)))
            .unwrap();
        let mut buffer = vec![0; 1 << 16];
        while !stop.load(Relaxed) {
            match self.from.recv(&mut buffer) {
                Ok(len) => self.pass(&buffer[..len]),
                // Nothing comes that could overtake them.
                Err(_) => self.let_go(u64::MAX),
            }
        }
    }

    fn pass(&mut self, datagram: &[u8]) {
        match self.random.below(1000) {
            fate if fate < LOST => {
                self.harm.lost.fetch_add(1, Relaxed);
            }
            fate if fate < LOST + DOUBLED => {
                self.harm.doubled.fetch_add(1, Relaxed);
                let _ = self.to.send(datagram);
                let later = self.random.below(20);
                self.held.push_back((later, datagram.to_vec()));
            }
            fate if fate < LOST + DOUBLED + LATE => {
                self.harm.late.fetch_add(1, Relaxed);
                let later = 1 + self.random.below(20);
                self.held.push_back((later, datagram.to_vec()));
            }
            _ => {
                let _ = self.to.send(datagram);
            }
        }
        self.let_go(1);
    }

    fn let_go(&mut self, passed: u64) {
        let to = &self.to;
        self.held.retain_mut(|(others, datagram)| {
            if *others <= passed {
                let _ = to.send(datagram);
                return false;
            }
            *others -= passed;
            true
        });
    }
}

/// Requests under way: no more than the proxy's receive buffer takes.
const UNDER_WAY_MAX: usize = 64;
const RETRY_AFTER: Duration = Duration::from_millis(10);

/// Adds with acknowledge and exactly once, repeating what is not acknowledged.
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

    /// A request without a reply must stay within the window.
    fn leaves_the_window(&self, sequence: u64) -> bool {
        let oldest = self.under_way.first_key_value();
        oldest.is_some_and(|(oldest, _)| sequence - oldest >= ONCE_WINDOW)
    }

    fn receive_or_repeat(&mut self) {
        let mut buffer = [0; 2048];
        if let Ok(len) = self.socket.recv(&mut buffer) {
            let head = reply(&buffer[..len]).unwrap().head;
            self.repeated += u64::from(head.repeated);
            // A second reply finds nothing; it may say that the request is too old by now.
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
        let boot = u64::from_str_radix(&node.status().compact.boot, 16).unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let network = Network::between(socket.local_addr().unwrap(), node.udp_addr());
        socket.connect(network.address).unwrap();
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
        // What was acknowledged is in; what is still under way twice will not be added again.
        assert_eq!(node.status().sketch.total_weight, WEIGHTS, "{io}");
        let harm = Arc::clone(&network.harm);
        drop(network);
        let sentinel = client_of(&node);
        writer.start(&Header::default()).unwrap();
        writer.count(b"the last one").unwrap();
        sentinel.send(writer.finish()).unwrap();
        sentinel.recv(&mut [0; 64]).unwrap();
        let status = node.stop().unwrap();
        assert_eq!(status.sketch.total_weight, WEIGHTS, "seed {SEED:#x}, {io}");
        // Without exactly-once it would have been more: all kinds of harm were done.
        assert!(status.compact.repeats > 500, "{:?}", status.compact);
        assert!(adder.repeated > 500);
        for kind in [&harm.lost, &harm.doubled, &harm.late] {
            assert!(kind.load(Relaxed) > 500, "{harm:?}");
        }
    }
}
