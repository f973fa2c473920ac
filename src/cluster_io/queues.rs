//! The queues of the cluster's port: for members, for contested channels (on which an attacker sends, too), for
//! strangers, and for datagrams that cannot be ours. The kernel chooses the queue of a datagram by
//! [`steering`](super::steering). Members are read first, and each queue is read only as fast as its senders are
//! worth.
//!
//! If the kernel takes no program, there is one queue for all, and members wait behind strangers.

use std::cmp::Reverse;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, UdpSocket as StdUdpSocket};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::Poll;
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::time::sleep;
use tracing::warn;

use super::flood::Flood;
use super::steering::{CHANNELS_MAX, program};
use crate::status::QueueStatus;
use rmbd_cluster::Cluster;
use rmbd_cluster::seal::KnownChannel;
use rmbd_io::{BindError, Steered, bind_steered, steer};
use rmbd_udp::kernel_drops;

/// Bytes to ask for as receive and send buffers of the members' queue: what comes in and goes out in a tenth of a
/// second at the default rate.
const BUFFER_BYTES: usize = 4 << 20;
/// Shortest time between two programs. Each costs some ten to a hundred microseconds.
const STEER_EVERY: Duration = Duration::from_millis(20);
/// Time between two checks of contested channels, which become quiet without a notice.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How a queue is read.
#[derive(Debug)]
struct Kind {
    name: &'static str,
    receive_buffer_bytes: usize,
    /// Largest number of refused datagrams in a window of [`Flood`], 10 ms.
    refused_max: u32,
    /// Largest number of datagrams read in one turn; 256 are about a fifth of a millisecond's work.
    datagrams_a_turn: usize,
}

/// The kinds, in the order of [`Queue`](super::steering::Queue) and of reading. It takes 2 to 3 us to receive a
/// datagram, and about 1 us more to try to open one of our version. With these limits strangers cost at most some 10
/// % of a core, and all others 0.3 %. Contested channels are given more, up to 30 %: half of a flood of 200 000 a
/// second is read, and so every other datagram of that member. The other queues are short enough to be read within
/// some tens of milliseconds, so that a newcomer's datagram that got in is soon answered.
const KINDS: [Kind; 4] = [
    Kind {
        name: "members",
        receive_buffer_bytes: BUFFER_BYTES,
        refused_max: 500,
        datagrams_a_turn: 256,
    },
    Kind {
        name: "contested",
        receive_buffer_bytes: 1 << 20,
        refused_max: 1_000,
        datagrams_a_turn: 256,
    },
    Kind {
        name: "strangers",
        receive_buffer_bytes: 1 << 18,
        refused_max: 200,
        datagrams_a_turn: 64,
    },
    Kind {
        name: "others",
        receive_buffer_bytes: 1 << 16,
        refused_max: 10,
        datagrams_a_turn: 16,
    },
];

/// The kind of the only queue, if there is one for all.
const ONE: Kind = Kind {
    name: "all",
    receive_buffer_bytes: BUFFER_BYTES,
    refused_max: 200,
    datagrams_a_turn: 256,
};

/// Binds the port's sockets. It fails if any other program has the address.
pub(super) fn bind(address: SocketAddr) -> Result<Vec<StdUdpSocket>, BindError> {
    let buffers = KINDS.map(|kind| kind.receive_buffer_bytes);
    // No member is known yet.
    let program = program(std::iter::empty());
    let Steered { sockets, refused } = bind_steered(address, &buffers, BUFFER_BYTES, &program)?;
    if let Some(error) = refused {
        warn!(
            "the kernel takes no filter for the cluster's port ({error}), so that members and strangers wait in \
             one queue: a flood of forged datagrams at {address} would keep other nodes from being heard; keep it \
             to your own network"
        );
    }
    Ok(sockets)
}

/// The state of a queue, for a status.
#[derive(Debug)]
pub(super) struct QueueGauge {
    name: &'static str,
    /// A second descriptor of the socket, which is asked for the number of drops.
    socket: StdUdpSocket,
    received: AtomicU64,
    refused: AtomicU64,
    /// Number of times that a flood stopped the reading.
    pauses: AtomicU64,
}

impl QueueGauge {
    pub(super) fn all(sockets: &[StdUdpSocket]) -> io::Result<Vec<Self>> {
        let gauge = |(socket, kind): (&StdUdpSocket, &Kind)| {
            Ok(Self {
                name: kind.name,
                socket: socket.try_clone()?,
                received: AtomicU64::new(0),
                refused: AtomicU64::new(0),
                pauses: AtomicU64::new(0),
            })
        };
        sockets
            .iter()
            .zip(kinds(sockets.len()))
            .map(gauge)
            .collect()
    }

    pub(super) fn status(&self) -> QueueStatus {
        QueueStatus {
            name: self.name.to_owned(),
            received: self.received.load(Relaxed),
            refused: self.refused.load(Relaxed),
            // The number of drops is modulo 2^32.
            dropped_by_kernel: kernel_drops(&self.socket).map_or(0, u64::from),
            pauses: self.pauses.load(Relaxed),
        }
    }
}

fn kinds(sockets: usize) -> &'static [Kind] {
    if sockets == KINDS.len() {
        &KINDS
    } else {
        std::slice::from_ref(&ONE)
    }
}

/// The sockets of the port, one for each queue.
pub(super) struct Queues {
    /// The queues, at least one.
    queues: Vec<SteeredQueue>,
    /// The cluster's count of changes when the program was made.
    steered_by: Option<u64>,
    /// The earliest time for a new program.
    earliest: Duration,
    /// The time to check whether channels are still contested.
    look_again: Option<Duration>,
    has_complained: bool,
}

/// A queue, and the state of its flood.
struct SteeredQueue {
    kind: &'static Kind,
    socket: UdpSocket,
    flood: Flood,
}

impl Queues {
    /// Takes the sockets of [`bind`], at least one.
    pub(super) fn new(sockets: Vec<StdUdpSocket>) -> io::Result<Self> {
        let kinds = kinds(sockets.len());
        let queue = |(socket, kind): (StdUdpSocket, &'static Kind)| {
            Ok(SteeredQueue {
                kind,
                socket: UdpSocket::from_std(socket)?,
                flood: Flood::new(kind.refused_max),
            })
        };
        Ok(Self {
            queues: sockets
                .into_iter()
                .zip(kinds)
                .map(queue)
                .collect::<io::Result<_>>()?,
            steered_by: None,
            earliest: Duration::ZERO,
            look_again: None,
            has_complained: false,
        })
    }

    /// Reads datagrams that have come, up to a limit for each queue. Returns whether more may be there that may be
    /// read now. `take` returns whether it took the datagram.
    pub(super) fn receive(
        &mut self,
        gauges: &[QueueGauge],
        buffer: &mut [u8],
        now: impl Fn() -> Duration,
        mut take: impl FnMut(Duration, SocketAddr, &mut [u8]) -> bool,
    ) -> bool {
        let mut has_more = false;
        for (queue, gauge) in self.queues.iter_mut().zip(gauges) {
            has_more |= queue.receive(gauge, buffer, &now, &mut take);
        }
        has_more
    }

    /// Waits until a datagram is there that may be read.
    pub(super) async fn readable(&self, now: Duration) {
        let pauses = || self.queues.iter().map(|queue| queue.flood.pause(now));
        let end = pauses().flatten().min();
        let readable = std::future::poll_fn(|context| {
            // All queues are polled, so that each can wake this task.
            let mut open = self
                .queues
                .iter()
                .zip(pauses())
                .filter(|(_, pause)| pause.is_none());
            let is_ready = open.any(|(queue, _)| queue.socket.poll_recv_ready(context).is_ready());
            if is_ready {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        });
        tokio::select! {
            () = readable => {}
            () = sleep(end.unwrap_or(Duration::MAX)), if end.is_some() => {}
        }
    }

    /// Waits until the kernel takes datagrams again.
    pub(super) async fn writable(&self) {
        // An error shows when something is sent.
        let _ = self.sender().writable().await;
    }

    /// Sends a datagram without waiting.
    ///
    /// # Errors
    /// The error of the system call; `WouldBlock` if the send buffer is full.
    pub(super) fn try_send_to(&self, datagram: &[u8], to: SocketAddr) -> io::Result<usize> {
        self.sender().try_send_to(datagram, to)
    }

    fn sender(&self) -> &UdpSocket {
        &self.queues[0].socket
    }

    /// Gives the kernel a program for the channels that the cluster knows. Returns the time of the next call, at the
    /// latest.
    pub(super) fn steer(&mut self, now: Duration, cluster: &Cluster) -> Option<Duration> {
        if self.queues.len() < KINDS.len() {
            return None;
        }
        let is_new = self.steered_by != Some(cluster.channel_changes());
        let is_due = is_new || self.look_again.is_some_and(|at| at <= now);
        if !is_due {
            return self.look_again;
        }
        if now < self.earliest {
            return Some(self.earliest);
        }
        let mut known: Vec<KnownChannel> = cluster.known_channels(now).collect();
        known.sort_unstable_by_key(|known| Reverse(known.last_use));
        self.attach(&known);
        let is_contested = known.iter().any(|known| known.is_contested);
        self.look_again = is_contested.then(|| now + LOOK_EVERY);
        self.earliest = now + STEER_EVERY;
        self.steered_by = Some(cluster.channel_changes());
        self.look_again
    }

    /// Attaches a program. If there are too many channels, the last ones of `known` stay among strangers.
    fn attach(&mut self, known: &[KnownChannel]) {
        let mut count = known.len().min(CHANNELS_MAX);
        let outcome = loop {
            let channels = known[..count].iter();
            let channels = channels.map(|known| (known.channel.id, known.is_contested));
            match steer(self.sender(), &program(channels)) {
                // The program is longer than the system allows.
                Err(error) if error.kind() == ErrorKind::OutOfMemory && count > 1 => count /= 2,
                outcome => break outcome,
            }
        };
        let complaint = match outcome {
            Err(error) => error.to_string(),
            Ok(()) if count < known.len().min(CHANNELS_MAX) => {
                format!("{count} fit net.core.optmem_max")
            }
            Ok(()) => return,
        };
        if !std::mem::replace(&mut self.has_complained, true) {
            warn!(
                "the cluster port's filter does not know all members ({complaint}): in a flood of forged \
                 datagrams some would be heard late"
            );
        }
    }
}

impl SteeredQueue {
    fn receive(
        &mut self,
        gauge: &QueueGauge,
        buffer: &mut [u8],
        clock: &impl Fn() -> Duration,
        take: &mut impl FnMut(Duration, SocketAddr, &mut [u8]) -> bool,
    ) -> bool {
        for _ in 0..self.kind.datagrams_a_turn {
            let now = clock();
            if self.flood.pause(now).is_some() {
                return false;
            }
            match self.socket.try_recv_from(buffer) {
                Ok((len, from)) => {
                    gauge.received.fetch_add(1, Relaxed);
                    // The time of arrival, from which ages are taken off, must not be before it was sent: this thread
                    // may have been stopped since the clock was read.
                    if take(clock(), from, &mut buffer[..len]) {
                        continue;
                    }
                    gauge.refused.fetch_add(1, Relaxed);
                    if self.flood.refused(now) {
                        gauge.pauses.fetch_add(1, Relaxed);
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.flood.emptied(now);
                    return false;
                }
                // The error is about an earlier datagram; the next one is not concerned.
                Err(_) => {}
            }
        }
        true
    }
}
