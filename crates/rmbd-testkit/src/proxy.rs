//! A UDP proxy that loses, doubles and delays datagrams by a seed, and that can be closed.

use std::collections::BTreeSet;
use std::iter::Sum;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use super::random::Random;

/// When no datagram has come for this time, none is under way that could overtake the ones that are held back.
const IDLE: Duration = Duration::from_millis(5);
/// Fewer other datagrams than this come before the second copy of a doubled datagram, and up to this many before a
/// late one.
const OTHERS_MAX: u64 = 20;

/// The harm that the proxy does, in datagrams of a thousand, each way.
#[derive(Debug, Clone, Copy, Default)]
pub struct Harm {
    pub lost: u64,
    pub doubled: u64,
    pub late: u64,
}

impl Harm {
    pub const NONE: Self = Self {
        lost: 0,
        doubled: 0,
        late: 0,
    };
    pub const A_TENTH_LOST: Self = Self {
        lost: 100,
        doubled: 50,
        late: 50,
    };
    pub const A_FIFTH_LOST: Self = Self {
        lost: 200,
        doubled: 50,
        late: 100,
    };
}

/// Numbers of datagrams by what happened to them. Each is counted once, and once more as cut if it was held back when
/// the gate closed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Datagrams without harm.
    pub passed: u64,
    pub lost: u64,
    pub doubled: u64,
    pub late: u64,
    /// Datagrams that a closed gate kept back.
    pub cut: u64,
}

impl Counts {
    /// Number of datagrams that came to an open gate.
    pub fn taken(&self) -> u64 {
        self.passed + self.harmed()
    }

    pub fn harmed(&self) -> u64 {
        self.lost + self.doubled + self.late
    }
}

impl Sum for Counts {
    fn sum<I: Iterator<Item = Self>>(counts: I) -> Self {
        counts.fold(Self::default(), |sum, one| Self {
            passed: sum.passed + one.passed,
            lost: sum.lost + one.lost,
            doubled: sum.doubled + one.doubled,
            late: sum.late + one.late,
            cut: sum.cut + one.cut,
        })
    }
}

/// A proxy: its address stands for a server's. It prints its seed when a test fails.
pub struct Proxy {
    address: SocketAddr,
    seed: u64,
    state: Arc<Mutex<State>>,
    threads: Vec<JoinHandle<()>>,
}

impl Proxy {
    /// A proxy that passes on what any client sends, and nothing back, for servers that answer to addresses they were
    /// told. It leads nowhere until [`Proxy::lead_to`]: datagrams that come before are lost and not counted.
    pub fn one_way(harm: Harm, seed: u64) -> Self {
        let socket = bind();
        Self::start(&[(End::Server, &socket, &socket)], harm, seed)
    }

    /// A proxy that also passes answers back to the client that sent last.
    pub fn both_ways(server: SocketAddr, harm: Harm, seed: u64) -> Self {
        let (near, far) = (bind(), bind());
        let ways = [(End::Server, &near, &far), (End::Client, &far, &near)];
        let proxy = Self::start(&ways, harm, seed);
        proxy.lead_to(server);
        proxy
    }

    /// Starts a thread for each way, given by the end that it leads to, the socket that receives and the one that
    /// sends.
    fn start(ways: &[(End, &UdpSocket, &UdpSocket)], harm: Harm, seed: u64) -> Self {
        let state = Arc::new(Mutex::new(State::default()));
        let threads = (seed..).zip(ways).map(|(seed, &(end, from, to))| {
            let way = Way {
                end,
                from: from.try_clone().unwrap(),
                to: to.try_clone().unwrap(),
                harm,
                random: Random(seed),
                held: Vec::new(),
                state: Arc::clone(&state),
            };
            std::thread::spawn(move || way.run())
        });
        Self {
            address: ways[0].1.local_addr().unwrap(),
            seed,
            threads: threads.collect(),
            state,
        }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Leads to this server from now on.
    pub fn lead_to(&self, server: SocketAddr) {
        self.state.lock().unwrap().server = Some(server);
    }

    /// Lets nothing through from now on, in both directions.
    pub fn close(&self) {
        self.state.lock().unwrap().is_closed = true;
    }

    /// Lets nothing through that comes from this address.
    pub fn close_to(&self, sender: IpAddr) {
        self.state.lock().unwrap().closed_to.insert(sender);
    }

    /// Opens all gates again.
    pub fn open(&self) {
        let mut state = self.state.lock().unwrap();
        state.is_closed = false;
        state.closed_to.clear();
    }

    pub fn counts(&self) -> Counts {
        self.state.lock().unwrap().counts
    }

    /// Keeps copies of up to `datagrams_max` datagrams that are sent on.
    pub fn record(&self, datagrams_max: usize) {
        self.state.lock().unwrap().record_max = datagrams_max;
    }

    pub fn recorded(&self) -> Vec<Vec<u8>> {
        self.state.lock().unwrap().record.clone()
    }

    /// Ends the proxy's threads. Datagrams that are held back are not sent any more.
    pub fn stop(mut self) -> Counts {
        self.end();
        self.counts()
    }

    fn end(&mut self) {
        if let Ok(mut state) = self.state.lock() {
            state.is_stopped = true;
        }
        for thread in self.threads.drain(..) {
            let is_well = thread.join().is_ok();
            assert!(is_well || std::thread::panicking(), "the proxy panicked");
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.end();
        if std::thread::panicking() {
            let counts = self.state.lock().map(|state| state.counts).ok();
            eprintln!("proxy: seed {:#x}, {counts:?}", self.seed);
        }
    }
}

fn bind() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(IDLE)).unwrap();
    socket
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Server,
    Client,
}

#[derive(Default)]
struct State {
    server: Option<SocketAddr>,
    client: Option<SocketAddr>,
    is_closed: bool,
    closed_to: BTreeSet<IpAddr>,
    counts: Counts,
    record: Vec<Vec<u8>>,
    record_max: usize,
    is_stopped: bool,
}

impl State {
    fn is_cut(&mut self, sender: SocketAddr) -> bool {
        let is_cut = self.is_closed || self.closed_to.contains(&sender.ip());
        self.counts.cut += u64::from(is_cut);
        is_cut
    }

    fn address(&self, end: End) -> Option<SocketAddr> {
        match end {
            End::Server => self.server,
            End::Client => self.client,
        }
    }
}

/// One direction of a proxy.
struct Way {
    end: End,
    from: UdpSocket,
    to: UdpSocket,
    harm: Harm,
    random: Random,
    held: Vec<Held>,
    state: Arc<Mutex<State>>,
}

struct Held {
    /// Number of datagrams that still come before it.
    others: u64,
    sender: SocketAddr,
    datagram: Vec<u8>,
}

impl Way {
    fn run(mut self) {
        let state = Arc::clone(&self.state);
        let mut buffer = vec![0; 1 << 16];
        loop {
            let heard = self.from.recv_from(&mut buffer);
            // The state is locked until all is sent: whoever closes the gate knows that nothing passes any more.
            let mut state = state.lock().unwrap();
            if state.is_stopped {
                return;
            }
            match heard {
                Ok((length, sender)) => self.take(&mut state, sender, &buffer[..length]),
                Err(_) => self.let_go(&mut state, u64::MAX),
            }
        }
    }

    fn take(&mut self, state: &mut State, sender: SocketAddr, datagram: &[u8]) {
        if self.end == End::Server {
            state.client = Some(sender);
        }
        if state.address(self.end).is_none() || state.is_cut(sender) {
            return;
        }
        let Harm {
            lost,
            doubled,
            late,
        } = self.harm;
        let counts = &mut state.counts;
        // The number of datagrams, itself included, that come before this one is sent again or at all.
        let (is_sent, held_for) = match self.random.below(1000) {
            fate if fate < lost => {
                counts.lost += 1;
                (false, None)
            }
            fate if fate < lost + doubled => {
                counts.doubled += 1;
                (true, Some(1 + self.random.below(OTHERS_MAX)))
            }
            fate if fate < lost + doubled + late => {
                counts.late += 1;
                (false, Some(2 + self.random.below(OTHERS_MAX)))
            }
            _ => {
                counts.passed += 1;
                (true, None)
            }
        };
        if is_sent {
            self.send(state, datagram);
        }
        self.held.extend(held_for.map(|others| Held {
            others,
            sender,
            datagram: datagram.to_vec(),
        }));
        self.let_go(state, 1);
    }

    /// Sends datagrams that were held back until this many others had passed.
    fn let_go(&mut self, state: &mut State, passed: u64) {
        for mut held in std::mem::take(&mut self.held) {
            held.others = held.others.saturating_sub(passed);
            if held.others > 0 {
                self.held.push(held);
            } else if !state.is_cut(held.sender) {
                self.send(state, &held.datagram);
            }
        }
    }

    /// Sends a datagram. If the kernel refuses it, it is lost, as on any network.
    fn send(&self, state: &mut State, datagram: &[u8]) {
        let Some(address) = state.address(self.end) else {
            return;
        };
        let _ = self.to.send_to(datagram, address);
        if state.record.len() < state.record_max {
            state.record.push(datagram.to_vec());
        }
    }
}
