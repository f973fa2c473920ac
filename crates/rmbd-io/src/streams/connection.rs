//! One connection.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{SendFlags, Shutdown};

use super::{
    Closed, FIRST_BYTES, Handler, KEPT_BYTES, REPLIES_FULL_BYTES, StreamReplies, Taken, Then,
};

/// What system calls send with.
pub(super) const SEND: SendFlags = SendFlags::DONTWAIT.union(SendFlags::NOSIGNAL);

/// How far a connection has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Open,
    /// Nothing more is taken from it, and what it is owed is still sent.
    Ending(Closed),
    /// It was told the end, and may still send until this tick.
    Lingering(Closed, u32),
    /// It is shut, and goes when the kernel has let go of it.
    Closing(Closed),
}

/// A connection, whatever waits and sends for it.
#[derive(Debug)]
pub(crate) struct Connection {
    socket: OwnedFd,
    phase: Phase,
    /// What came, and was not taken.
    input: Vec<u8>,
    /// The handler has left some of it, since replies were too many.
    left_some: bool,
    /// Replies that wait to be sent.
    output: Vec<u8>,
    /// Replies that are being sent. The kernel may read them while [`is_sending`](Self::is_sending).
    sending: Vec<u8>,
    /// So many of these bytes are sent.
    sent: usize,
    /// The kernel has an operation that reads `sending`.
    pub(crate) is_sending: bool,
    /// The kernel has an operation that receives.
    pub(crate) is_receiving: bool,
    /// That operation was told to end.
    pub(crate) is_cancelled: bool,
    /// The client sends nothing any more.
    is_at_end: bool,
    /// It is in the list of those that have to be settled.
    pub(super) is_touched: bool,
    /// What the kernel was asked to watch it for, where it is asked.
    pub(crate) watched: Option<u32>,
    /// Bytes of its buffers, as the table has counted them.
    pub(super) counted_bytes: usize,
    /// When it last sent something.
    heard: u32,
    /// When it last read something, or began to be owed something.
    read: u32,
}

impl Connection {
    pub(super) fn new(socket: OwnedFd, now: u32) -> Self {
        Self {
            socket,
            phase: Phase::Open,
            input: Vec::with_capacity(FIRST_BYTES),
            left_some: false,
            output: Vec::with_capacity(FIRST_BYTES),
            sending: Vec::with_capacity(FIRST_BYTES),
            sent: 0,
            is_sending: false,
            is_receiving: false,
            is_cancelled: false,
            is_at_end: false,
            is_touched: false,
            watched: None,
            counted_bytes: 0,
            heard: now,
            read: now,
        }
    }

    pub(super) fn phase(&self) -> Phase {
        self.phase
    }

    /// Whether it is shut, so that it goes when the kernel has let go of it.
    pub(crate) fn is_shut(&self) -> bool {
        matches!(self.phase, Phase::Closing(_))
    }

    /// Bytes of its buffers.
    pub(super) fn memory_bytes(&self) -> usize {
        self.input.capacity() + self.output.capacity() + self.sending.capacity()
    }

    /// Bytes of replies that the client has not read.
    fn owed_bytes(&self) -> usize {
        self.output.len() + self.sending.len() - self.sent
    }

    /// Whether it is owed a reply.
    pub(crate) fn is_owed(&self) -> bool {
        self.owed_bytes() > 0
    }

    fn is_full(&self) -> bool {
        self.owed_bytes() >= REPLIES_FULL_BYTES
    }

    /// Whether more should be received from it. What comes of one that ends is thrown away: if it stayed unread, the
    /// end would overtake the last reply.
    pub(crate) fn wants_input(&self) -> bool {
        match self.phase {
            Phase::Open => !self.is_at_end && !self.left_some && !self.is_full(),
            Phase::Ending(_) | Phase::Lingering(..) => !self.is_at_end,
            Phase::Closing(_) => false,
        }
    }

    /// Takes what has come.
    pub(super) fn received(
        &mut self,
        number: usize,
        bytes: &[u8],
        now: u32,
        handler: &mut impl Handler,
    ) {
        self.heard = now;
        if self.phase != Phase::Open {
            return;
        }
        if self.left_some || self.is_full() {
            self.input.extend_from_slice(bytes);
            self.left_some = true;
        } else if self.input.is_empty() {
            // Most of what comes is whole, and is not copied.
            let taken = handler.received(number, bytes, &mut self.replies());
            let rest = bytes.get(taken.bytes..).unwrap_or_default();
            self.input.extend_from_slice(rest);
            self.after(taken);
        } else {
            self.input.extend_from_slice(bytes);
            self.take_input(number, handler);
        }
    }

    /// Whether the handler has left some, and there is room for replies again.
    pub(super) fn may_go_on(&self) -> bool {
        self.left_some && self.phase == Phase::Open && !self.is_full()
    }

    /// Shows the handler all that it has not taken.
    pub(super) fn take_input(&mut self, number: usize, handler: &mut impl Handler) {
        let input = std::mem::take(&mut self.input);
        let taken = handler.received(number, &input, &mut self.replies());
        self.input = input;
        let rest = self.input.len().saturating_sub(taken.bytes);
        let start = self.input.len() - rest;
        self.input.copy_within(start.., 0);
        self.input.truncate(rest);
        self.after(taken);
    }

    fn replies(&mut self) -> StreamReplies<'_> {
        StreamReplies {
            sending_bytes: self.sending.len() - self.sent,
            bytes: &mut self.output,
        }
    }

    fn after(&mut self, taken: Taken) {
        self.left_some = taken.then == Then::Room;
        if taken.then == Then::End {
            self.phase = Phase::Ending(Closed::ByHandler);
            self.input.clear();
        }
        shrink(&mut self.input);
    }

    /// The client sends nothing any more.
    pub(super) fn ended_by_client(&mut self) {
        self.is_at_end = true;
    }

    /// Replies that are to be sent now; empty if there are none. While [`is_sending`](Self::is_sending), these bytes
    /// stay where and as they are, and this is not called.
    pub(crate) fn next_replies(&mut self) -> &[u8] {
        if self.sent == self.sending.len() {
            self.sent = 0;
            self.sending.clear();
            shrink(&mut self.sending);
            std::mem::swap(&mut self.sending, &mut self.output);
            // Both take turns, so that they grow together, and once.
            let wanted = self.sending.capacity().min(KEPT_BYTES);
            self.output.reserve(wanted);
        }
        &self.sending[self.sent..]
    }

    /// Sends some of what it is owed by a system call, without waiting; 0 bytes where nothing is owed.
    pub(super) fn send_some(&mut self) -> rustix::io::Result<usize> {
        if self.next_replies().is_empty() {
            return Ok(0);
        }
        rustix::net::send(&self.socket, &self.sending[self.sent..], SEND)
    }

    /// So many bytes of [`next_replies`](Self::next_replies) were sent.
    pub(super) fn sent(&mut self, bytes: usize, now: u32) {
        self.sent = (self.sent + bytes).min(self.sending.len());
        self.read = now;
    }

    /// Takes the next step towards the end, if it is time for it.
    pub(super) fn end_if_due(&mut self, now: u32, linger_ticks: u32) {
        if self.phase == Phase::Open && self.is_at_end && !self.left_some {
            self.phase = Phase::Ending(Closed::ByClient);
        }
        match self.phase {
            Phase::Ending(why) if !self.is_owed() && self.is_at_end => self.shut(why),
            Phase::Ending(why) if !self.is_owed() => {
                let _ = rustix::net::shutdown(&self.socket, Shutdown::Write);
                self.phase = Phase::Lingering(why, now.saturating_add(linger_ticks));
            }
            Phase::Lingering(why, _) if self.is_at_end => self.shut(why),
            _ => {}
        }
    }

    /// Why it has to be shut now, if it has.
    pub(super) fn overdue(&self, now: u32, idle_ticks: u32, stall_ticks: u32) -> Option<Closed> {
        let since = |then: u32| now.saturating_sub(then);
        match self.phase {
            Phase::Closing(_) => None,
            Phase::Lingering(why, until) => (now >= until).then_some(why),
            _ if self.is_owed() => (since(self.read) >= stall_ticks).then_some(Closed::Stalled),
            _ => (since(self.heard) >= idle_ticks).then_some(Closed::Idle),
        }
    }

    /// A tick has come: who is owed nothing reads in time.
    pub(super) fn tick(&mut self, now: u32) {
        if !self.is_owed() {
            self.read = now;
        }
    }

    /// Ends it in both directions, so that the kernel lets go of it.
    pub(crate) fn shut(&mut self, why: Closed) {
        if !self.is_shut() {
            self.phase = Phase::Closing(why);
            let _ = rustix::net::shutdown(&self.socket, Shutdown::Both);
        }
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Gives memory back that only something very large has needed.
fn shrink(buffer: &mut Vec<u8>) {
    if buffer.is_empty() && buffer.capacity() > KEPT_BYTES {
        buffer.shrink_to(KEPT_BYTES);
    }
}
