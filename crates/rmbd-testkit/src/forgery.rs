//! Floods of forged datagrams to a cluster's port: every kind that can be made without its key.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

use super::random::Random;

/// Number of different datagrams of a flood, which are repeated.
const DATAGRAMS: usize = 4_096;
/// Length of a burst, in which datagrams are sent.
const BURST: Duration = Duration::from_millis(1);
/// Datagrams that were not sent in time because the machine was busy are made up for only within this time.
const LATE_MAX: Duration = Duration::from_millis(20);

/// Sizes in bytes that matter: nothing, less and more than a header, the longest of ours, and a large frame's.
pub const SIZES: [usize; 6] = [0, 1, 41, 100, 1_200, 9_000];

/// The knowledge of a forger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forgery {
    /// The forger knows nothing, and sends random bytes of random length up to 1 500.
    Noise,
    /// The forger knows the version, as everybody does.
    Version,
    /// The forger also knows a live member's boot, which clients are told.
    Boot,
    /// The forger has seen what a member sends: the member's boot and channel stand in front of a random number and
    /// random bytes.
    Channel,
    /// The forger has seen what a member sends, and sends it again unchanged.
    Replay,
}

impl Forgery {
    pub const ALL: [Self; 5] = [
        Self::Noise,
        Self::Version,
        Self::Boot,
        Self::Channel,
        Self::Replay,
    ];

    /// Whether the forger has seen what the member sends.
    pub fn has_seen(self) -> bool {
        matches!(self, Self::Channel | Self::Replay)
    }

    /// One datagram, of this length if it can be chosen. `seen` is a genuine datagram of a member.
    fn datagram(self, random: &mut Random, bytes: usize, seen: &[u8]) -> Vec<u8> {
        let known = match self {
            Self::Noise => {
                let bytes = random.below(1_500) as usize;
                return random.bytes(bytes);
            }
            Self::Replay => return seen.to_vec(),
            Self::Version => 2,
            Self::Boot => 10,
            Self::Channel => 18,
        };
        let mut datagram = random.bytes(bytes);
        let known = known.min(bytes);
        datagram[..known].copy_from_slice(&seen[..known]);
        datagram
    }

    /// The datagrams of a flood, of this length, or with `None` of all [`SIZES`]. `seen` holds genuine datagrams of
    /// one member.
    pub fn datagrams(
        self,
        random: &mut Random,
        bytes: Option<usize>,
        seen: &[Vec<u8>],
    ) -> Vec<Vec<u8>> {
        let datagram = |number: usize| {
            let bytes = bytes.unwrap_or(SIZES[number % SIZES.len()]);
            self.datagram(random, bytes, &seen[number % seen.len()])
        };
        (0..DATAGRAMS).map(datagram).collect()
    }
}

/// The genuine datagrams of one start of a node among recorded ones; `boot` is its number in hexadecimal digits.
pub fn of_boot<'r>(recorded: impl Iterator<Item = &'r Vec<u8>>, boot: &str) -> Vec<Vec<u8>> {
    let boot = u64::from_str_radix(boot, 16).unwrap().to_le_bytes();
    let is_theirs = |datagram: &&Vec<u8>| datagram.get(2..10) == Some(&boot[..]);
    recorded.filter(is_theirs).cloned().collect()
}

/// The sender address of forged datagrams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Datagrams come from one address of this machine.
    Stranger,
    /// Datagrams come from 127.0.1.1 to 127.0.1.64 in turn.
    Many,
    /// Datagrams come from a member's cluster address and port (IPv4), which takes `CAP_NET_RAW`.
    Spoofed(SocketAddr),
}

enum Sender {
    Plain(Vec<UdpSocket>),
    /// A raw socket, which takes datagrams with a UDP header.
    Raw(Socket, u16),
}

impl Sender {
    fn new(source: Source) -> Result<Self, String> {
        let plain = |ip: IpAddr| UdpSocket::bind((ip, 0)).unwrap();
        match source {
            Source::Stranger => Ok(Self::Plain(vec![plain([127, 0, 0, 1].into())])),
            Source::Many => {
                let all = (1..=64).map(|last| plain([127, 0, 1, last].into()));
                Ok(Self::Plain(all.collect()))
            }
            Source::Spoofed(member) => {
                let raw = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::UDP))
                    .map_err(|error| format!("no raw socket: {error}"))?;
                raw.bind(&SocketAddr::new(member.ip(), 0).into()).unwrap();
                Ok(Self::Raw(raw, member.port()))
            }
        }
    }

    /// Sends a datagram, which the kernel may drop.
    fn send(&self, number: usize, datagram: &[u8], to: SocketAddr) {
        match self {
            Self::Plain(sockets) => {
                let _ = sockets[number % sockets.len()].send_to(datagram, to);
            }
            Self::Raw(socket, port) => {
                // The UDP header is that of RFC 768, where a checksum of 0 means none.
                let bytes = (8 + datagram.len()) as u16;
                let mut whole = Vec::with_capacity(bytes.into());
                for field in [*port, to.port(), bytes, 0] {
                    whole.extend(field.to_be_bytes());
                }
                whole.extend(datagram);
                let _ = socket.send_to(&whole, &SocketAddr::new(to.ip(), 0).into());
            }
        }
    }
}

/// A flood that is under way, and ends when dropped.
pub struct Flood {
    start: Instant,
    done: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Flood {
    /// Sends these datagrams to `to`, at a rate per second or as fast as the machine can. `Err` names the right that
    /// is missing.
    pub fn start(
        datagrams: Vec<Vec<u8>>,
        source: Source,
        to: SocketAddr,
        per_s: u64,
    ) -> Result<Self, String> {
        let sender = Sender::new(source)?;
        let (done, sent) = (Arc::default(), Arc::default());
        let (is_done, count): (Arc<AtomicBool>, Arc<AtomicU64>) =
            (Arc::clone(&done), Arc::clone(&sent));
        let start = Instant::now();
        let run = move || {
            let mut planned = start;
            for number in 0.. {
                if is_done.load(Relaxed) {
                    return;
                }
                sender.send(number, &datagrams[number % datagrams.len()], to);
                count.fetch_add(1, Relaxed);
                planned += Duration::from_secs(1) / per_s as u32;
                let now = Instant::now();
                planned = planned.max(now - LATE_MAX);
                if planned > now + BURST {
                    std::thread::sleep(planned - now);
                }
            }
        };
        Ok(Self {
            start,
            done,
            sent,
            thread: Some(std::thread::spawn(run)),
        })
    }

    pub fn sent(&self) -> u64 {
        self.sent.load(Relaxed)
    }

    /// Datagrams per second so far.
    pub fn rate(&self) -> f64 {
        self.sent() as f64 / self.start.elapsed().as_secs_f64()
    }

    /// Ends the flood, and returns the number of datagrams sent.
    pub fn stop(mut self) -> u64 {
        self.end();
        self.sent()
    }

    fn end(&mut self) {
        self.done.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            let is_well = thread.join().is_ok();
            assert!(is_well || std::thread::panicking(), "the flood panicked");
        }
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.end();
    }
}
