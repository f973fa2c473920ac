//! A network of UDP proxies: a gate before each node, which loses, doubles, holds back and cuts.
//!
//! A node is known by the IP address that it sends from, before and after a restart.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use super::random::Random;

/// Datagrams that are kept for those who replay them.
const RECORD_MAX: usize = 4_000;

/// Of a thousand datagrams.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Harm {
    pub(crate) lost: u64,
    pub(crate) doubled: u64,
    /// Held back behind up to 20 others.
    pub(crate) late: u64,
}

pub(crate) const HARM: Harm = Harm {
    lost: 200,
    doubled: 50,
    late: 100,
};

/// What was done to datagrams.
#[derive(Debug, Default)]
pub(crate) struct Done {
    pub(crate) passed: AtomicU64,
    pub(crate) lost: AtomicU64,
    pub(crate) doubled: AtomicU64,
    pub(crate) late: AtomicU64,
    pub(crate) cut: AtomicU64,
}

struct Shared {
    ips: Vec<IpAddr>,
    /// Where the nodes hear, once they are there.
    nodes: Mutex<Vec<Option<SocketAddr>>>,
    /// From, to.
    cuts: Mutex<BTreeSet<(usize, usize)>>,
    record: Mutex<Vec<(usize, Vec<u8>)>>,
    done: Done,
    stop: AtomicBool,
}

pub(crate) struct Network {
    gates: Vec<SocketAddr>,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Network {
    /// A gate before each of the nodes that will send from `ips`.
    pub(crate) fn new(ips: &[Ipv4Addr], harm: Harm, seed: u64) -> Self {
        let shared = Arc::new(Shared {
            ips: ips.iter().map(|&ip| ip.into()).collect(),
            nodes: Mutex::new(vec![None; ips.len()]),
            cuts: Mutex::default(),
            record: Mutex::default(),
            done: Done::default(),
            stop: AtomicBool::new(false),
        });
        let sockets: Vec<_> = (ips.iter())
            .map(|_| UdpSocket::bind("127.0.0.1:0").unwrap())
            .collect();
        let gates = sockets.iter().map(|gate| gate.local_addr().unwrap());
        let gates = gates.collect();
        let threads = (sockets.into_iter().enumerate())
            .map(|(to, socket)| {
                let gate = Gate {
                    to,
                    socket,
                    harm,
                    random: Random(seed + to as u64),
                    held: Vec::new(),
                    shared: Arc::clone(&shared),
                };
                std::thread::spawn(move || gate.run())
            })
            .collect();
        Self {
            gates,
            shared,
            threads,
        }
    }

    pub(crate) fn gate(&self, node: usize) -> SocketAddr {
        self.gates[node]
    }

    pub(crate) fn lead_to(&self, node: usize, address: SocketAddr) {
        self.shared.nodes.lock().unwrap()[node] = Some(address);
    }

    /// Lets nothing through between the groups, either way.
    pub(crate) fn part(&self, groups: &[&[usize]]) {
        let mut cuts = self.shared.cuts.lock().unwrap();
        for from in groups {
            for to in groups.iter().filter(|to| *to != from) {
                for &from in *from {
                    cuts.extend(to.iter().map(|&to| (from, to)));
                }
            }
        }
    }

    pub(crate) fn heal(&self) {
        self.shared.cuts.lock().unwrap().clear();
    }

    pub(crate) fn done(&self) -> &Done {
        &self.shared.done
    }

    /// Datagrams that went to nodes so far, and to which; not all, where there were many.
    pub(crate) fn recorded(&self) -> Vec<(usize, Vec<u8>)> {
        self.shared.record.lock().unwrap().clone()
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.shared.stop.store(true, Relaxed);
        self.threads.drain(..).for_each(|thread| {
            let _ = thread.join();
        });
    }
}

struct Gate {
    to: usize,
    socket: UdpSocket,
    harm: Harm,
    random: Random,
    /// Late datagrams, and how many others go before them.
    held: Vec<(u64, Vec<u8>)>,
    shared: Arc<Shared>,
}

impl Gate {
    fn run(mut self) {
        let idle = Some(Duration::from_millis(5));
        self.socket.set_read_timeout(idle).unwrap();
        let mut buffer = vec![0; 1 << 16];
        while !self.shared.stop.load(Relaxed) {
            match self.socket.recv_from(&mut buffer) {
                Ok((length, from)) => self.take(from, &buffer[..length]),
                // Nothing comes that could overtake them.
                Err(_) => self.let_go(u64::MAX),
            }
        }
    }

    fn take(&mut self, from: SocketAddr, datagram: &[u8]) {
        let from = self.shared.ips.iter().position(|&ip| ip == from.ip());
        let is_cut = from.is_some_and(|from| {
            let cuts = self.shared.cuts.lock().unwrap();
            cuts.contains(&(from, self.to))
        });
        if is_cut {
            self.shared.done.cut.fetch_add(1, Relaxed);
            return;
        }
        self.pass(datagram);
        self.let_go(1);
    }

    fn pass(&mut self, datagram: &[u8]) {
        let Harm {
            lost,
            doubled,
            late,
        } = self.harm;
        let fate = self.random.below(1000);
        let (is_lost, is_doubled) = (fate < lost, fate >= lost && fate < lost + doubled);
        let is_late = fate >= lost + doubled && fate < lost + doubled + late;
        let done = &self.shared.done;
        let counter = match (is_lost, is_doubled, is_late) {
            (true, ..) => &done.lost,
            (_, true, _) => &done.doubled,
            (.., true) => &done.late,
            _ => &done.passed,
        };
        counter.fetch_add(1, Relaxed);
        if is_doubled || is_late {
            let others = 1 + self.random.below(20);
            self.held.push((others, datagram.to_vec()));
        }
        if !is_lost && !is_late {
            self.send(datagram);
        }
    }

    fn send(&self, datagram: &[u8]) {
        let to = self.shared.nodes.lock().unwrap()[self.to];
        let Some(to) = to else {
            return;
        };
        let _ = self.socket.send_to(datagram, to);
        let mut record = self.shared.record.lock().unwrap();
        if record.len() < RECORD_MAX {
            record.push((self.to, datagram.to_vec()));
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
