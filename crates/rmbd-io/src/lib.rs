//! Event loops that receive datagrams and send replies on a node's data threads, over io_uring or system calls, and
//! serve [streams](Streams) beside them. The crate knows no message: bytes go to a [`Handler`], and replies come back
//! through [`Replies`].
//!
//! There are two back ends. [`Backend::Uring`] has one io_uring for each thread, with a multishot receive into
//! provided buffers. [`Backend::Mmsg`] uses `recvmmsg(2)` and `sendmsg(2)`, for systems that forbid io_uring. In
//! both, the kernel joins what one sender sends in a row (`UDP_GRO`), and replies to one receiver leave together
//! (`UDP_SEGMENT`). This gains more than anything else in this crate.
//!
//! The other modules are about what the machine gives to threads: processors ([`cpu`]), memory ([`huge_pages`]),
//! limits ([`limits`]) and control groups ([`cgroup`]). How long a thread takes to reply is measured by [`latency`].
//!
//! ```
//! use std::net::UdpSocket;
//! use std::sync::Arc;
//! use std::thread;
//!
//! use rmbd_io::{
//!     Backend, EventLoop, Handler, IoCounters, LoopOptions, Replies, SocketOptions, Stop, bind_group,
//! };
//! use rmbd_udp::Train;
//!
//! struct Echo;
//!
//! impl Handler for Echo {
//!     fn train(&mut self, train: &Train<'_>, replies: &mut Replies) {
//!         train.datagrams().for_each(|datagram| replies.push(datagram));
//!     }
//! }
//!
//! let options = SocketOptions { receive_buffer_bytes: 1 << 20 };
//! let mut sockets = bind_group("127.0.0.1:0".parse()?, 1, options)?;
//! let socket = Arc::new(sockets.remove(0));
//! let (address, stop) = (socket.local_addr(), Stop::new()?);
//! let server = thread::spawn({
//!     let stop = stop.clone();
//!     move || {
//!         let counters = Arc::new(IoCounters::default());
//!         let options = LoopOptions::default();
//!         EventLoop::new(Backend::Mmsg, socket, stop, options, counters)?.run(&mut Echo)
//!     }
//! });
//!
//! let client = UdpSocket::bind("127.0.0.1:0")?;
//! client.send_to(b"hello", address)?;
//! let mut reply = [0; 16];
//! let (length, from) = client.recv_from(&mut reply)?;
//! assert_eq!((&reply[..length], from), (&b"hello"[..], address));
//!
//! stop.give();
//! server.join().expect("no panic")?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use self::busy_poll::BusyPoll;
use self::counters::bump;
use rmbd_udp::{ControlMessages, RawAddress, RawTrain, Train};

mod busy_poll;
pub mod cgroup;
mod counters;
pub mod cpu;
mod epoll;
pub mod huge_pages;
pub mod latency;
pub mod limits;
mod mmsg;
mod ping;
mod refused;
mod replies;
mod socket;
mod steer;
mod stop;
mod streams;
#[cfg(test)]
mod tests;
mod uring;

pub use counters::IoCounters;
pub use ping::Ping;
pub use refused::RingRefused;
pub use replies::Replies;
pub use socket::{BindError, DataSocket, SocketOptions, bind_group};
pub use steer::{INSTRUCTIONS_MAX, Instruction, Steered, bind_steered, steer};
pub use stop::Stop;
pub use streams::{
    CONNECTION_BYTES, Closed, ConnectionPlaces, FIRST_BYTES, REPLIES_FULL_BYTES, StreamListener,
    StreamOptions, StreamReplies, Streams, Taken, Then, bind_streams,
};

/// Largest number of trains between two pauses of a handler. Both back ends take fewer at once, and the end of a loop
/// may come in the middle.
pub const TRAINS_TO_PAUSE_MAX: usize = 128;

/// The program's part of a loop: it takes datagrams and answers them. Each thread has its own handler, and only that
/// thread calls it.
pub trait Handler {
    /// The loop has taken something of the kernel, and hands it over now.
    fn taken(&mut self) {}

    /// Replies to what was handed over have been given to the kernel, those on connections at the latest with the
    /// loop's next system call. More of what was [taken](Self::taken) may be handed over after it.
    fn replied(&mut self) {}

    /// Takes datagrams that one sender sent in a row; replies to that sender go to `replies`.
    fn train(&mut self, train: &Train<'_>, replies: &mut Replies);

    /// Publishes what was gathered. It is called when all waiting datagrams have been handed over, before the thread
    /// may sleep; under load after [`TRAINS_TO_PAUSE_MAX`] trains at the latest; and at the end of the loop, whatever
    /// the reason for it is.
    fn pause(&mut self) {}

    /// A connection from this address was accepted, and gets this number, which no other has meanwhile; numbers are
    /// small. Returns whether it stays; else it is closed at once.
    fn opened(&mut self, _connection: usize, _from: SocketAddr) -> bool {
        false
    }

    /// Takes what has come on a connection and was not taken before, and adds replies, which are sent in their order.
    fn received(
        &mut self,
        _connection: usize,
        bytes: &[u8],
        _replies: &mut StreamReplies<'_>,
    ) -> Taken {
        Taken {
            bytes: bytes.len(),
            then: Then::End,
        }
    }

    /// A connection is gone, and its number may be given again.
    fn closed(&mut self, _connection: usize, _why: Closed) {}

    /// There was no place for a connection from this address. Returns what it is told before it is closed.
    fn turned_away(&mut self, _from: SocketAddr) -> &'static [u8] {
        b""
    }
}

/// How datagrams are received and sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// io_uring, which needs Linux 6.1 or later.
    Uring,
    /// The system calls `recvmmsg` and `sendmsg`, on any Linux.
    Mmsg,
}

impl Backend {
    /// The name of the back end: `uring` or `mmsg`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Uring => "uring",
            Self::Mmsg => "mmsg",
        }
    }
}

/// Options of a loop.
#[derive(Debug, Clone, Copy, Default)]
pub struct LoopOptions {
    /// The time for which a thread that finds nothing looks again and again before it sleeps; with zero it sleeps at
    /// once. The clock is read only once in 64 looks.
    pub busy_poll: Duration,
}

/// Why a loop could not start or go on. All datagrams that it had taken have been handed over.
#[derive(Debug, thiserror::Error)]
pub enum LoopError {
    /// The ring could not be set up.
    #[error(transparent)]
    Ring(#[from] RingRefused),
    /// A system call failed in a way that waiting does not cure.
    #[error("{call} failed: {source}; this thread can't go on")]
    System {
        /// The system call, or the ring operation.
        call: &'static str,
        /// The kernel's error.
        source: io::Error,
    },
    /// The kernel completed an operation that this program never asked for.
    #[error(
        "io_uring completed an operation that nobody submitted, {user_data:#018x}; this thread can't go on"
    )]
    UnknownOperation {
        /// The number that the kernel returned with the completion.
        user_data: u64,
    },
}

/// One thread's loop, which receives on its socket until it is stopped.
pub struct EventLoop(Inner);

enum Inner {
    Uring(Box<uring::Loop>),
    Mmsg(Box<mmsg::Loop>),
}

impl EventLoop {
    /// Sets up a loop. It must be called on the thread that will call [`run`](Self::run).
    ///
    /// # Errors
    /// [`LoopError`] if the kernel refuses the ring or its memory.
    pub fn new(
        backend: Backend,
        socket: Arc<DataSocket>,
        stop: Stop,
        options: LoopOptions,
        counters: Arc<IoCounters>,
    ) -> Result<Self, LoopError> {
        let endpoint = Endpoint {
            replies: Replies::new(Arc::clone(&socket), Arc::clone(&counters)),
            busy_poll: BusyPoll::new(options.busy_poll, Arc::clone(&counters)),
            socket,
            stop,
            ping: None,
            counters,
        };
        Ok(Self(match backend {
            Backend::Uring => Inner::Uring(Box::new(uring::Loop::new(endpoint)?)),
            Backend::Mmsg => Inner::Mmsg(Box::new(mmsg::Loop::new(endpoint))),
        }))
    }

    /// Serves connections beside the datagrams. To be called before [`run`](Self::run), on the same thread.
    ///
    /// # Errors
    /// [`LoopError`] if the kernel refuses what that takes.
    pub fn serve_streams(&mut self, streams: Streams) -> Result<(), LoopError> {
        match &mut self.0 {
            Inner::Uring(uring) => uring.serve_streams(streams),
            Inner::Mmsg(mmsg) => mmsg.serve_streams(streams),
        }
    }

    /// Answers these questions beside its work. To be called before [`run`](Self::run); without it nothing is looked at
    /// for them.
    pub fn answer(&mut self, ping: Ping) {
        let endpoint = match &mut self.0 {
            Inner::Uring(uring) => uring.endpoint(),
            Inner::Mmsg(mmsg) => mmsg.endpoint(),
        };
        endpoint.ping = Some(ping);
    }

    /// Hands trains to `handler` until the stop signal is given, and then those that have already been received. It
    /// allocates nothing.
    ///
    /// # Errors
    /// [`LoopError::System`] if a system call fails for good.
    pub fn run(&mut self, handler: &mut impl Handler) -> Result<(), LoopError> {
        let ended = match &mut self.0 {
            Inner::Uring(uring) => uring.run(handler),
            Inner::Mmsg(mmsg) => mmsg.run(handler),
        };
        handler.pause();
        ended
    }
}

/// A thread's socket with the parts around it that are the same for both back ends.
struct Endpoint {
    socket: Arc<DataSocket>,
    stop: Stop,
    /// Questions whether the loop comes round, if anybody asks them.
    ping: Option<Ping>,
    busy_poll: BusyPoll,
    counters: Arc<IoCounters>,
    replies: Replies,
}

impl Endpoint {
    /// Hands one received train over. A train that was cut, or whose sender has no IP address, is counted and dropped.
    fn hand_over(&mut self, received: RawTrain<'_>, handler: &mut impl Handler) {
        let control = ControlMessages::parse(received.control);
        if let Some(drops) = control.drops {
            self.counters.drops_seen.store(drops.into(), Relaxed);
        }
        let name = RawAddress::from_kernel(received.name);
        let (false, Some(name)) = (received.truncated, name) else {
            bump(&self.counters.truncated, 1);
            return;
        };
        self.replies.set_destination(name, control.local);
        let from = name.to_socket_addr();
        let train = Train::new(received.payload, control.segment_bytes, from);
        handler.train(&train, &mut self.replies);
    }
}
