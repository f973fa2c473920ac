//! Event loops: how datagrams come in and replies go out on a node's data threads. This room knows no
//! message: bytes go to a [`Handler`], replies come back through [`Replies`].
//!
//! Two back ends stand behind one seam. [`Backend::Uring`] has one io_uring for each thread, with a
//! multishot receive into provided buffers. [`Backend::Mmsg`] uses `recvmmsg(2)` and `sendmsg(2)`, where
//! io_uring is forbidden. Both let the kernel join what one sender sends in a row (`UDP_GRO`) and
//! send what one receiver gets in a row at once (`UDP_SEGMENT`), which is worth more than anything
//! else in here.
//!
//! Beside the loops stands what the machine gives their threads: processors ([`cpu`]), memory
//! ([`huge_pages`]), limits ([`limits`]) and control groups ([`cgroup`]).

use std::io;
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
pub mod huge_pages;
pub mod limits;
mod mmsg;
mod refused;
mod replies;
mod socket;
mod steer;
mod stop;
#[cfg(test)]
mod tests;
mod uring;

pub use counters::IoCounters;
pub use refused::RingRefused;
pub use replies::Replies;
pub use socket::{BindError, DataSocket, SocketOptions, bind_group};
pub use steer::{INSTRUCTIONS_MAX, Instruction, Steered, bind_steered, steer};
pub use stop::Stop;

/// Trains between two pauses of a handler, at most: both back ends take fewer at once, and the end of a loop may come
/// in the middle.
pub const TRAINS_TO_PAUSE_MAX: usize = 128;

/// The program's part of a loop: it takes datagrams and answers them. Each thread has its own, which is called
/// from that thread only.
pub trait Handler {
    /// Takes the datagrams that one sender sent in a row; replies to that sender go to `replies`.
    fn train(&mut self, train: &Train<'_>, replies: &mut Replies);

    /// The time to publish what was gathered. It is called when all that was waiting has been handed over,
    /// before the thread may sleep; under load after [`TRAINS_TO_PAUSE_MAX`] trains at the latest; and at the
    /// end, whatever the reason for it is.
    fn pause(&mut self) {}
}

/// How datagrams are received and sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// io_uring, Linux 6.1 or later.
    Uring,
    /// `recvmmsg` and `sendmsg`.
    Mmsg,
}

impl Backend {
    /// `uring` or `mmsg`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Uring => "uring",
            Self::Mmsg => "mmsg",
        }
    }
}

/// How a loop behaves.
#[derive(Debug, Clone, Copy, Default)]
pub struct LoopOptions {
    /// How long a thread that finds nothing looks again and again before it sleeps; with zero it sleeps at
    /// once. The clock is read only once in 64 looks.
    pub busy_poll: Duration,
}

/// Why a loop could not start or go on. What it had taken has been handed over.
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
        /// What the kernel said.
        source: io::Error,
    },
    /// The kernel completed an operation that this program never asked for.
    #[error(
        "io_uring completed an operation that nobody submitted, {user_data:#018x}; this thread can't go on"
    )]
    UnknownOperation {
        /// What the kernel says that the operation is for.
        user_data: u64,
    },
}

/// One thread's loop: receives on its socket until it is stopped.
pub struct EventLoop(Inner);

enum Inner {
    Uring(Box<uring::Loop>),
    Mmsg(Box<mmsg::Loop>),
}

impl EventLoop {
    /// Sets everything up; must be called on the thread that will call [`run`](Self::run).
    ///
    /// # Errors
    /// [`LoopError`] where the kernel refuses the ring or its memory.
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
            counters,
        };
        Ok(Self(match backend {
            Backend::Uring => Inner::Uring(Box::new(uring::Loop::new(endpoint)?)),
            Backend::Mmsg => Inner::Mmsg(Box::new(mmsg::Loop::new(endpoint))),
        }))
    }

    /// Hands trains to `handler` until the stop signal is given; then what has already been
    /// received is handed over too. Allocates nothing.
    ///
    /// # Errors
    /// [`LoopError::System`] where the kernel refuses to go on.
    pub fn run(&mut self, handler: &mut impl Handler) -> Result<(), LoopError> {
        let ended = match &mut self.0 {
            Inner::Uring(uring) => uring.run(handler),
            Inner::Mmsg(mmsg) => mmsg.run(handler),
        };
        handler.pause();
        ended
    }
}

/// A thread's socket with the ways in and out, which are the same for both back ends.
struct Endpoint {
    socket: Arc<DataSocket>,
    stop: Stop,
    busy_poll: BusyPoll,
    counters: Arc<IoCounters>,
    replies: Replies,
}

impl Endpoint {
    /// Hands one received train over, if it can be understood at all.
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
