//! The io_uring back end: one ring for one thread.
//!
//! Each operation of the ring carries an [`Operation`], which comes back with its completions and decides how they
//! are handled (`Loop::complete`). A receive stays armed all the time (`receive`). Replies leave as `SendMsg` with
//! `MSG_DONTWAIT`, many submitted at once. The loop waits for the stop signal in the same way as for a datagram.
//! Connections have operations of their own (`streams`); where streams are served and none comes, there is one more
//! that waits.

mod buffers;
mod operation;
mod receive;
mod ring;
mod streams;

use std::os::fd::{AsFd, AsRawFd};

use io_uring::opcode;
use io_uring::types::Fd;

use self::operation::Operation;
use self::receive::Receive;
use self::ring::{Completion, Ring};
use self::streams::UringStreams;
use super::refused::RingRefused;
use super::{Endpoint, Handler, LoopError, Streams, mmsg};
use rmbd_udp::{Receiver, TRAIN_BYTES_MAX};

/// Number of completions after which replies are submitted, so that a full queue does not delay them.
const REPLY_EVERY: usize = 64;

pub(super) struct Loop {
    // The ring is dropped first, and with it the kernel's use of all fields below.
    ring: Ring,
    receive: Receive,
    streams: Option<Box<UringStreams>>,
    endpoint: Endpoint,
    stopping: bool,
}

impl Loop {
    #[allow(unsafe_code)]
    pub(super) fn new(endpoint: Endpoint) -> Result<Self, RingRefused> {
        let ring = Ring::new()?;
        // SAFETY: both become fields of one loop, which uses one with the other and drops the ring first.
        let receive = unsafe { Receive::new(&ring) }?;
        Ok(Self {
            ring,
            receive,
            streams: None,
            endpoint,
            stopping: false,
        })
    }

    #[allow(unsafe_code)]
    pub(super) fn serve_streams(&mut self, streams: Streams) -> Result<(), LoopError> {
        // SAFETY: they become a field of this loop, which uses them with its ring and drops the ring first.
        let streams = unsafe { UringStreams::new(&self.ring, streams) }?;
        self.streams = Some(Box::new(streams));
        Ok(())
    }

    pub(super) fn endpoint(&mut self) -> &mut Endpoint {
        &mut self.endpoint
    }

    pub(super) fn run(&mut self, handler: &mut impl Handler) -> Result<(), LoopError> {
        self.await_stop()?;
        self.await_question()?;
        while !self.stopping {
            self.receive.arm(&mut self.ring, &*self.endpoint.socket)?;
            if let Some(streams) = &mut self.streams {
                streams.arm(&mut self.ring)?;
            }
            self.wait()?;
            self.take_completions(handler)?;
        }
        self.finish(handler)
    }

    /// Waits for a completion: spins for as long as `busy_poll` says, and then sleeps.
    fn wait(&mut self) -> Result<(), LoopError> {
        let busy_poll = &mut self.endpoint.busy_poll;
        if busy_poll.is_on() {
            self.ring.submit(0)?;
            while !self.ring.has_completed()? {
                if !busy_poll.look_again() {
                    return self.ring.submit(1);
                }
            }
            busy_poll.end();
            return Ok(());
        }
        self.ring.submit(1)
    }

    /// Handles all completions that are there, and submits replies every now and then.
    fn take_completions(&mut self, handler: &mut impl Handler) -> Result<(), LoopError> {
        // What completes while they are handled is taken now, too, for all that anybody measures.
        handler.taken();
        loop {
            let mut handled = 0;
            while handled < REPLY_EVERY {
                let Some(completion) = self.ring.next_completion()? else {
                    break;
                };
                self.complete(completion, handler)?;
                handled += 1;
            }
            if handled == 0 {
                return Ok(());
            }
            handler.pause();
            self.submit_replies()?;
            if let Some(streams) = &mut self.streams {
                streams.settle(&mut self.ring, handler)?;
            }
            handler.replied();
        }
    }

    /// Handles a completion by the kind of its operation.
    fn complete(
        &mut self,
        completion: Completion,
        handler: &mut impl Handler,
    ) -> Result<(), LoopError> {
        match completion.operation() {
            Operation::Receive => self
                .receive
                .complete(completion, &mut self.endpoint, handler),
            Operation::Send { burst } => {
                self.sent(burst, completion);
                Ok(())
            }
            Operation::AwaitStop => {
                self.stopping = true;
                Ok(())
            }
            Operation::AwaitQuestion => self.asked(),
            Operation::CancelAll => Ok(()),
            Operation::Accept
            | Operation::StreamReceive { .. }
            | Operation::CancelReceive { .. }
            | Operation::StreamSend { .. }
            | Operation::Tick => {
                if let Some(streams) = &mut self.streams {
                    streams.complete(&completion, handler);
                }
                Ok(())
            }
        }
    }

    #[allow(unsafe_code)]
    fn sent(&mut self, burst: usize, completion: Completion) {
        let replies = &mut self.endpoint.replies;
        // SAFETY: `submit_replies` had the burst from `take_ready` and made it into this one operation, of which this
        // is the completion; it is the only one, as a send has no more.
        unsafe { replies.release(burst, completion.result()) };
    }

    #[allow(unsafe_code)]
    fn submit_replies(&mut self) -> Result<(), LoopError> {
        let replies = &mut self.endpoint.replies;
        let fd = Fd(self.endpoint.socket.as_fd().as_raw_fd());
        let mut queued = false;
        replies.close();
        while let Some(burst) = replies.take_ready() {
            let send = opcode::SendMsg::new(fd, replies.message(burst))
                .flags(libc::MSG_DONTWAIT as u32)
                .build();
            // SAFETY: the message and what it points to lie in `replies`, which is dropped after the ring; the burst
            // was taken, so they stay as they are until `sent` releases it.
            unsafe { self.ring.push(send, Operation::Send { burst }) }?;
            queued = true;
        }
        if queued {
            self.ring.submit(0)?;
        }
        // This sends what `take_ready` held back, so that nothing waits for the next train.
        if replies.has_ready() {
            replies.flush();
        }
        Ok(())
    }

    #[allow(unsafe_code)]
    fn await_stop(&mut self) -> Result<(), LoopError> {
        let fd = Fd(self.endpoint.stop.as_fd().as_raw_fd());
        let poll = opcode::PollAdd::new(fd, libc::POLLIN as u32).build();
        // SAFETY: the entry points to nothing.
        unsafe { self.ring.push(poll, Operation::AwaitStop) }
    }

    /// Waits for the next question whether the loop comes round, where somebody asks.
    #[allow(unsafe_code)]
    fn await_question(&mut self) -> Result<(), LoopError> {
        let Some(ping) = &self.endpoint.ping else {
            return Ok(());
        };
        let fd = Fd(ping.as_fd().as_raw_fd());
        let poll = opcode::PollAdd::new(fd, libc::POLLIN as u32).build();
        // SAFETY: the entry points to nothing.
        unsafe { self.ring.push(poll, Operation::AwaitQuestion) }
    }

    /// Answers, and waits for the next question, unless all operations are being ended.
    fn asked(&mut self) -> Result<(), LoopError> {
        if let Some(ping) = &self.endpoint.ping {
            ping.answer();
        }
        match self.stopping {
            true => Ok(()),
            false => self.await_question(),
        }
    }

    /// Ends all operations, and hands over the datagrams that they and the socket's buffer still bring: these were
    /// sent before the signal.
    fn finish(&mut self, handler: &mut impl Handler) -> Result<(), LoopError> {
        self.ring.cancel_all()?;
        while self.ring.is_in_use() {
            self.ring.submit(1)?;
            handler.taken();
            while let Some(completion) = self.ring.next_completion()? {
                self.complete(completion, handler)?;
            }
        }
        let mut receiver = Receiver::new(1, TRAIN_BYTES_MAX);
        mmsg::drain(&mut self.endpoint, &mut receiver, handler)?;
        if let Some(streams) = &mut self.streams {
            streams.end(handler);
        }
        Ok(())
    }
}
