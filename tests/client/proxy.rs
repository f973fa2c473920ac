//! A network that loses, doubles and delays, between one client and a node.

use std::collections::VecDeque;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

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
struct Shared {
    stop: AtomicBool,
    /// Lets nothing through.
    cut: AtomicBool,
    harms: AtomicU64,
    client: Mutex<Option<SocketAddr>>,
    node: Mutex<Option<SocketAddr>>,
}

/// A proxy; clients speak to its address.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Proxy {
    pub(crate) fn to(node: SocketAddr, seed: u64) -> Self {
        let near = UdpSocket::bind("127.0.0.1:0").unwrap();
        let far = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = near.local_addr().unwrap();
        let shared = Arc::new(Shared {
            node: Mutex::new(Some(node)),
            ..Shared::default()
        });
        let threads = [(&near, &far, true), (&far, &near, false)]
            .map(|(from, to, to_node)| {
                let way = Way {
                    from: from.try_clone().unwrap(),
                    to: to.try_clone().unwrap(),
                    to_node,
                    random: Random(seed + u64::from(to_node)),
                    held: VecDeque::new(),
                    shared: Arc::clone(&shared),
                };
                std::thread::spawn(move || way.run())
            })
            .into();
        Self {
            address,
            shared,
            threads,
        }
    }

    /// Another node takes the place of the first.
    pub(crate) fn lead_to(&self, node: SocketAddr) {
        *self.shared.node.lock().unwrap() = Some(node);
    }

    pub(crate) fn cut(&self, cut: bool) {
        self.shared.cut.store(cut, Relaxed);
    }

    pub(crate) fn harms(&self) -> u64 {
        self.shared.harms.load(Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.stop.store(true, Relaxed);
        self.threads.drain(..).for_each(|thread| {
            let _ = thread.join();
        });
    }
}

struct Way {
    from: UdpSocket,
    to: UdpSocket,
    to_node: bool,
    random: Random,
    /// Late datagrams, and how many others go before them.
    held: VecDeque<(u64, Vec<u8>)>,
    shared: Arc<Shared>,
}

impl Way {
    fn run(mut self) {
        let timeout = Some(Duration::from_millis(5));
        self.from.set_read_timeout(timeout).unwrap();
        let mut buffer = vec![0; 1 << 16];
        while !self.shared.stop.load(Relaxed) {
            match self.from.recv_from(&mut buffer) {
                Ok((length, from)) => {
                    if self.to_node {
                        *self.shared.client.lock().unwrap() = Some(from);
                    }
                    if !self.shared.cut.load(Relaxed) {
                        self.pass(&buffer[..length]);
                    }
                }
                // Nothing comes that could overtake them.
                Err(_) => self.let_go(u64::MAX),
            }
        }
    }

    fn pass(&mut self, datagram: &[u8]) {
        let fate = self.random.below(1000);
        if fate < LOST + DOUBLED + LATE {
            self.shared.harms.fetch_add(1, Relaxed);
        }
        let is_doubled = (LOST..LOST + DOUBLED).contains(&fate);
        let is_late = (LOST + DOUBLED..LOST + DOUBLED + LATE).contains(&fate);
        if is_doubled || is_late {
            let others = 1 + self.random.below(20);
            self.held.push_back((others, datagram.to_vec()));
        }
        if fate >= LOST && !is_late {
            self.send(datagram);
        }
        self.let_go(1);
    }

    fn send(&self, datagram: &[u8]) {
        let target = match self.to_node {
            true => &self.shared.node,
            false => &self.shared.client,
        };
        if let Some(target) = *target.lock().unwrap() {
            let _ = self.to.send_to(datagram, target);
        }
    }

    fn let_go(&mut self, passed: u64) {
        let mut held = std::mem::take(&mut self.held);
        held.retain_mut(|(others, datagram)| {
            if *others <= passed {
                self.send(datagram);
                return false;
            }
            *others -= passed;
            true
        });
        self.held = held;
    }
}
