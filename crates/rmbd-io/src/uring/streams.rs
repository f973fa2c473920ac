//! Streams by a ring.
//!
//! One multishot accept stays armed, and one multishot receive for each connection, into buffers that all connections
//! share. A connection has at most one send under way, so that its replies keep their order; what is written meanwhile
//! leaves with the next. Where a client does not read, its receive is cancelled until it does.

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;

use io_uring::opcode;
use io_uring::types::{Fd, Timespec};

use super::super::refused::RingRefused;
use super::super::streams::Connections;
use super::super::{Closed, Handler, LoopError, StreamListener, Streams};
use super::buffers::{Buffers, STREAMS};
use super::operation::Operation;
use super::ring::{Completion, Ring};

/// Number of receive buffers, of all connections together.
const BUFFERS: u16 = 64;
/// Bytes of a buffer. What a client sends in a row comes in as few pieces as buffers are large, and what is larger
/// leaves the cache before it is read.
const BUFFER_BYTES: usize = 16 << 10;

/// The streams of one ring.
pub(super) struct UringStreams {
    listener: Arc<StreamListener>,
    connections: Connections,
    buffers: Buffers,
    /// The time of a tick. The kernel reads it when a tick is armed.
    tick_time: Box<Timespec>,
    is_accepting: bool,
    /// Accepting has failed, and is tried again with the next tick.
    accepts_later: bool,
    is_ticking: bool,
}

impl UringStreams {
    /// # Safety
    /// - The result is used with this ring and its completions only.
    /// - The ring is dropped before it.
    #[allow(unsafe_code)]
    pub(super) unsafe fn new(ring: &Ring, streams: Streams) -> Result<Self, LoopError> {
        // SAFETY: the buffers are dropped with the result, and so after the ring.
        let buffers = unsafe { Buffers::register(ring, STREAMS, BUFFERS, BUFFER_BYTES) }
            .map_err(|error| RingRefused::new("registering the buffers of streams", error))?;
        let waits = streams.listener.set_waiting(true);
        waits.map_err(|source| LoopError::System {
            call: "fcntl",
            source,
        })?;
        let connections = Connections::new(&streams);
        Ok(Self {
            listener: streams.listener,
            tick_time: Box::new(connections.tick_time().into()),
            connections,
            buffers,
            is_accepting: false,
            accepts_later: false,
            is_ticking: false,
        })
    }

    /// Arms accepting and ticks, where they are not armed and wanted.
    #[inline]
    pub(super) fn arm(&mut self, ring: &mut Ring) -> Result<(), LoopError> {
        if !self.is_accepting && !self.accepts_later {
            self.arm_accept(ring)?;
        }
        if !self.is_ticking && (self.accepts_later || !self.connections.are_none()) {
            self.arm_tick(ring)?;
        }
        Ok(())
    }

    #[allow(unsafe_code)]
    fn arm_accept(&mut self, ring: &mut Ring) -> Result<(), LoopError> {
        let accept = opcode::AcceptMulti::new(fd(&*self.listener))
            .flags(libc::SOCK_CLOEXEC)
            .build();
        // SAFETY: the entry points to nothing.
        unsafe { ring.push(accept, Operation::Accept) }?;
        self.is_accepting = true;
        Ok(())
    }

    #[allow(unsafe_code)]
    fn arm_tick(&mut self, ring: &mut Ring) -> Result<(), LoopError> {
        let tick = opcode::Timeout::new(&raw const *self.tick_time).build();
        // SAFETY: the kernel reads the time, which is boxed, never written, and dropped after the ring.
        unsafe { ring.push(tick, Operation::Tick) }?;
        self.is_ticking = true;
        Ok(())
    }

    /// Handles a completion of one of its operations.
    pub(super) fn complete(&mut self, completion: &Completion, handler: &mut impl Handler) {
        match completion.operation() {
            Operation::Accept => self.accepted(completion, handler),
            Operation::StreamReceive { connection } => {
                self.received(connection as usize, completion, handler);
            }
            Operation::StreamSend { connection } => self.sent(connection as usize, completion),
            Operation::Tick => {
                self.is_ticking = false;
                self.accepts_later = false;
                self.connections.tick();
            }
            // The receive that it ends has a completion of its own.
            _ => {}
        }
    }

    #[allow(unsafe_code)]
    fn accepted(&mut self, completion: &Completion, handler: &mut impl Handler) {
        self.is_accepting = !completion.is_last();
        match completion.result() {
            Ok(descriptor) => {
                // SAFETY: the kernel has opened this descriptor for us with the completion, which ends here, and nobody
                // else knows it.
                let socket = unsafe { OwnedFd::from_raw_fd(descriptor as RawFd) };
                self.connections.accept(socket, handler);
            }
            // Too many open files, or no memory: the kernel would say so again at once.
            Err(_) => self.accepts_later = !self.is_accepting,
        }
    }

    #[allow(unsafe_code)]
    fn received(&mut self, number: usize, completion: &Completion, handler: &mut impl Handler) {
        let connections = &mut self.connections;
        if let Some(connection) = connections.get(number)
            && completion.is_last()
        {
            (connection.is_receiving, connection.is_cancelled) = (false, false);
        }
        let result = completion.result();
        if let Some(id) = completion.buffer() {
            let length = result.as_ref().map_or(0, |length| *length);
            let read = |bytes: Option<&[u8]>| {
                if let Some(bytes) = bytes.filter(|bytes| !bytes.is_empty()) {
                    connections.received(number, bytes, handler);
                }
            };
            // SAFETY: the completion named the buffer, is one of our ring, as `new` asks, and ends here.
            unsafe { self.buffers.read(id, length, read) };
        }
        match result {
            Ok(0) => connections.ended_by_client(number),
            Ok(_) => connections.touch(number),
            Err(error) if passes(&error) => connections.touch(number),
            Err(_) => connections.shut(number, Closed::Failed),
        }
    }

    fn sent(&mut self, number: usize, completion: &Completion) {
        if let Some(connection) = self.connections.get(number) {
            connection.is_sending = false;
        }
        match completion.result() {
            Ok(bytes) => self.connections.sent(number, bytes),
            Err(error) if passes(&error) => self.connections.touch(number),
            Err(_) => self.connections.shut(number, Closed::Failed),
        }
    }

    /// Takes the connections on that something has happened to.
    #[inline]
    pub(super) fn settle(
        &mut self,
        ring: &mut Ring,
        handler: &mut impl Handler,
    ) -> Result<(), LoopError> {
        while let Some(number) = self.connections.next_touched() {
            self.settle_one(number, ring, handler)?;
        }
        Ok(())
    }

    fn settle_one(
        &mut self,
        number: usize,
        ring: &mut Ring,
        handler: &mut impl Handler,
    ) -> Result<(), LoopError> {
        self.connections.go_on(number, handler);
        self.connections.end_if_due(number);
        let Some(connection) = self.connections.get(number) else {
            return Ok(());
        };
        if connection.is_shut() && !connection.is_receiving && !connection.is_sending {
            self.connections.remove(number, handler);
            return Ok(());
        }
        self.send(number, ring)?;
        self.receive(number, ring)
    }

    /// Sends what the connection is owed, if nothing is under way.
    #[allow(unsafe_code)]
    fn send(&mut self, number: usize, ring: &mut Ring) -> Result<(), LoopError> {
        let Some(connection) = self.connections.get(number) else {
            return Ok(());
        };
        if connection.is_sending || connection.is_shut() {
            return Ok(());
        }
        let replies = connection.next_replies();
        if replies.is_empty() {
            return Ok(());
        }
        let (start, length) = (replies.as_ptr(), replies.len() as u32);
        let send = opcode::Send::new(fd(&*connection), start, length)
            .flags(libc::MSG_NOSIGNAL)
            .build();
        connection.is_sending = true;
        let operation = Operation::StreamSend {
            connection: number as u32,
        };
        // SAFETY: the kernel reads `replies`, which lie on the heap. While the connection is sending, they stay as they
        // are (`next_replies`), and it stays in the table (`settle_one`), which is dropped after the ring.
        unsafe { ring.push(send, operation) }
    }

    /// Arms receiving where it is wanted, and ends it where it is not.
    #[allow(unsafe_code)]
    fn receive(&mut self, number: usize, ring: &mut Ring) -> Result<(), LoopError> {
        let Some(connection) = self.connections.get(number) else {
            return Ok(());
        };
        let of = Operation::StreamReceive {
            connection: number as u32,
        };
        match (connection.is_receiving, connection.wants_input()) {
            (false, true) => {
                let receive = opcode::RecvMulti::new(fd(&*connection), STREAMS).build();
                connection.is_receiving = true;
                // SAFETY: the kernel writes into buffers that it was given, which are dropped after the ring.
                unsafe { ring.push(receive, of) }
            }
            (true, false) if !connection.is_cancelled => {
                connection.is_cancelled = true;
                let by = Operation::CancelReceive {
                    connection: number as u32,
                };
                ring.cancel(of, by)
            }
            _ => Ok(()),
        }
    }

    /// The loop ends, and all operations have.
    pub(super) fn end(&mut self, handler: &mut impl Handler) {
        self.connections.end_all(handler);
    }
}

fn fd(of: impl AsFd) -> Fd {
    Fd(of.as_fd().as_raw_fd())
}

/// No buffer was free, which the buffers that were given back have cured; or it was told to end, or a signal came.
fn passes(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::ENOBUFS | libc::ECANCELED | libc::EINTR | libc::EAGAIN)
    )
}
