//! The io_uring back end: one ring for one thread.
//!
//! One multishot `RecvMsg` (io_uring_prep_recvmsg_multishot(3)) stays armed: the kernel picks a
//! buffer from a ring of provided ones, writes sender, control messages and payload into it, and
//! posts a completion; we hand the train over and give the buffer back. A completion without the
//! MORE flag means that the shot has ended (no buffer was free, the completion queue was full, an
//! error): it is armed again, whatever the reason. Replies leave as `SendMsg` with `MSG_DONTWAIT`,
//! many submitted at once.
//!
//! `SINGLE_ISSUER | DEFER_TASKRUN` let the kernel do its part of the work only when this thread
//! asks for completions, never in the middle of its own work.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Instant;

use io_uring::types::{CancelBuilder, Fd, RecvMsgOut};
use io_uring::{IoUring, cqueue, opcode, squeue};

use super::buffers::{Buffers, GROUP};
use super::mmsg;
use super::refused::RingRefused;
use super::{Counters, Handler, LoopError, Parts};
use crate::udp::{CONTROL_BYTES, NAME_BYTES, RawTrain, Receiver, TRAIN_BYTES_MAX, empty_message};

/// Submissions that may wait: all replies, the receive, the stop signal and two cancels fit.
const SUBMISSIONS: u32 = 256;
/// More than all buffers and all replies can complete at once: the queue never overflows.
const COMPLETIONS: u32 = 4096;
/// Receive buffers. The kernel fills at most 32 before it lets us work (`MULTISHOT_MAX_RETRY`), so
/// these suffice; more would be used in turn all the same and push each other out of the cache.
const BUFFERS: u16 = 64;
/// One train with what comes before it: the kernel's header (16), name and control messages.
const BUFFER_BYTES: usize = (TRAIN_BYTES_MAX + 1) + 256;
/// Completions handled before replies are submitted, so that a full queue does not delay them.
const REPLY_EVERY: usize = 64;
/// Failed receives in a row, without one that succeeds, after which waiting is no cure.
const FAILURES_MAX: u32 = 1000;

const RECEIVE: u64 = u64::MAX;
const STOP: u64 = u64::MAX - 1;
const CANCEL: u64 = u64::MAX - 2;

pub(super) struct Loop {
    // Dropped first, and with it the kernel's use of all below.
    ring: IoUring,
    buffers: Buffers,
    /// What a receive is asked to deliver; the kernel reads it when the receive is armed.
    template: Box<libc::msghdr>,
    parts: Parts,
    armed: bool,
    /// Replies that the kernel has and has not yet answered for.
    sending: usize,
    watching: bool,
    cancelling: bool,
    stopping: bool,
    failures: u32,
}

fn build_ring() -> Result<IoUring, RingRefused> {
    IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_taskrun_flag()
        .setup_cqsize(COMPLETIONS)
        .build(SUBMISSIONS)
        .map_err(|e| RingRefused::new("io_uring_setup", e))
}

fn register_buffers(ring: &IoUring) -> Result<Buffers, RingRefused> {
    Buffers::register(ring, BUFFERS, BUFFER_BYTES)
        .map_err(|e| RingRefused::new("registering the receive buffers", e))
}

impl Loop {
    pub(super) fn new(parts: Parts) -> Result<Self, LoopError> {
        let ring = build_ring()?;
        let buffers = register_buffers(&ring)?;
        Ok(Self {
            ring,
            buffers,
            template: receive_template(),
            parts,
            armed: false,
            sending: 0,
            watching: false,
            cancelling: false,
            stopping: false,
            failures: 0,
        })
    }

    pub(super) fn run(&mut self, handler: &mut impl Handler) -> Result<(), LoopError> {
        self.watch_for_stop()?;
        while !self.stopping {
            if !self.armed {
                self.arm()?;
            }
            self.wait()?;
            self.take_completions(handler)?;
        }
        self.quiesce(|this, entry| this.complete(entry, handler))?;
        // What is still in the socket's buffer was sent before the signal.
        mmsg::drain(
            &mut self.parts,
            &mut Receiver::new(1, TRAIN_BYTES_MAX),
            handler,
        )
    }

    /// Handles all completions that are there, submitting replies every now and then.
    fn take_completions(&mut self, handler: &mut impl Handler) -> Result<(), LoopError> {
        loop {
            let mut handled = 0;
            while handled < REPLY_EVERY {
                let Some(entry) = self.next_completion() else {
                    break;
                };
                self.complete(entry, handler)?;
                handled += 1;
            }
            if handled == 0 {
                return Ok(());
            }
            handler.pause();
            self.submit_replies()?;
        }
    }

    fn next_completion(&mut self) -> Option<cqueue::Entry> {
        self.ring.completion().next()
    }

    fn complete(
        &mut self,
        entry: cqueue::Entry,
        handler: &mut impl Handler,
    ) -> Result<(), LoopError> {
        match entry.user_data() {
            RECEIVE => self.received(entry, handler),
            STOP => {
                self.stopping = true;
                self.watching = false;
                Ok(())
            }
            CANCEL => {
                self.cancelling = false;
                Ok(())
            }
            burst => {
                self.sent(burst as usize, entry.result());
                Ok(())
            }
        }
    }

    fn received(
        &mut self,
        entry: cqueue::Entry,
        handler: &mut impl Handler,
    ) -> Result<(), LoopError> {
        if !cqueue::more(entry.flags()) {
            self.armed = false;
            Counters::bump(&self.parts.counters.rearmed, 1);
        }
        let Some(id) = cqueue::buffer_select(entry.flags()) else {
            return self.receive_failed(entry.result());
        };
        self.failures = 0;
        let len = usize::try_from(entry.result()).unwrap_or(0);
        let received = self
            .buffers
            .received(id, len)
            .and_then(|bytes| RecvMsgOut::parse(bytes, &self.template).ok());
        match &received {
            Some(out) => self.parts.hand_over(as_train(out), handler),
            None => Counters::bump(&self.parts.counters.truncated, 1),
        }
        self.buffers.give_back(id);
        Ok(())
    }

    /// No buffer was free (the usual reason, cured by the ones that have been given back), or the
    /// kernel would not receive at all.
    fn receive_failed(&mut self, result: i32) -> Result<(), LoopError> {
        if matches!(-result, libc::ENOBUFS | libc::ECANCELED | libc::EINTR) {
            return Ok(());
        }
        self.failures += 1;
        if self.failures < FAILURES_MAX {
            return Ok(());
        }
        let source = io::Error::from_raw_os_error(-result);
        Err(LoopError::System {
            call: "io_uring receive",
            source,
        })
    }

    fn sent(&mut self, burst: usize, result: i32) {
        self.sending -= 1;
        let result = usize::try_from(result).map_err(|_| io::Error::from_raw_os_error(-result));
        self.parts.replies.release(burst, result);
    }

    fn submit_replies(&mut self) -> Result<(), LoopError> {
        self.parts.replies.close();
        let fd = Fd(self.parts.socket.as_fd().as_raw_fd());
        let mut queued = false;
        while let Some(burst) = self.parts.replies.take_ready() {
            let message: *const libc::msghdr = self.parts.replies.message(burst);
            let send = opcode::SendMsg::new(fd, message)
                .flags(libc::MSG_DONTWAIT as u32)
                .build()
                .user_data(burst as u64);
            self.push(&send)?;
            self.sending += 1;
            queued = true;
        }
        if queued {
            self.submit(0)?;
        }
        // What take_ready kept back, so that nothing waits for the next train.
        if self.parts.replies.has_ready() {
            self.parts.replies.flush();
        }
        Ok(())
    }

    /// Waits for a completion: looking again and again for as long as `busy_poll` says, then asleep.
    fn wait(&mut self) -> Result<(), LoopError> {
        let busy_poll = self.parts.options.busy_poll;
        if !busy_poll.is_zero() {
            self.submit(0)?;
            let start = Instant::now();
            while start.elapsed() < busy_poll {
                if self.something_completed()? {
                    return Ok(());
                }
                std::hint::spin_loop();
            }
        }
        self.submit(1)
    }

    /// Looks into shared memory; enters the kernel only where it says that it has work for us.
    fn something_completed(&mut self) -> Result<bool, LoopError> {
        if self.ring.submission().taskrun() {
            self.get_events()?;
        }
        Ok(!self.ring.completion().is_empty())
    }

    #[allow(unsafe_code)]
    fn get_events(&mut self) -> Result<(), LoopError> {
        const GETEVENTS: u32 = 1; // IORING_ENTER_GETEVENTS of linux/io_uring.h
        // SAFETY: nothing is submitted and no argument structure is passed.
        let result = unsafe {
            self.ring
                .submitter()
                .enter::<libc::sigset_t>(0, 0, GETEVENTS, None)
        };
        transient(result.map(drop))
    }

    /// Submits what is queued and waits for `want` completions.
    fn submit(&mut self, want: usize) -> Result<(), LoopError> {
        transient(self.ring.submit_and_wait(want).map(drop))
    }

    #[allow(unsafe_code)]
    fn push(&mut self, entry: &squeue::Entry) -> Result<(), LoopError> {
        loop {
            // SAFETY: every entry that is pushed points only to `template`, to a burst of
            // `replies` that is not reused before its completion is seen, or to nothing. All are
            // boxed, and `quiesce` (also called by drop) ends every operation before they go.
            if unsafe { self.ring.submission().push(entry) }.is_ok() {
                return Ok(());
            }
            self.submit(0)?;
        }
    }

    fn arm(&mut self) -> Result<(), LoopError> {
        let fd = Fd(self.parts.socket.as_fd().as_raw_fd());
        let receive = opcode::RecvMsgMulti::new(fd, &raw const *self.template, GROUP)
            .build()
            .user_data(RECEIVE);
        self.push(&receive)?;
        self.armed = true;
        Ok(())
    }

    fn watch_for_stop(&mut self) -> Result<(), LoopError> {
        let fd = Fd(self.parts.stop.as_fd().as_raw_fd());
        let poll = opcode::PollAdd::new(fd, libc::POLLIN as u32)
            .build()
            .user_data(STOP);
        self.push(&poll)?;
        self.watching = true;
        Ok(())
    }

    /// Ends every operation and waits until the kernel has answered for each, so that it writes to
    /// none of our memory any more.
    fn quiesce(
        &mut self,
        mut each: impl FnMut(&mut Self, cqueue::Entry) -> Result<(), LoopError>,
    ) -> Result<(), LoopError> {
        let cancel = opcode::AsyncCancel2::new(CancelBuilder::any())
            .build()
            .user_data(CANCEL);
        self.push(&cancel)?;
        self.cancelling = true;
        while self.armed || self.watching || self.cancelling || self.sending > 0 {
            self.submit(1)?;
            while let Some(entry) = self.next_completion() {
                each(self, entry)?;
            }
        }
        Ok(())
    }

    fn forget(&mut self, entry: cqueue::Entry) {
        match entry.user_data() {
            RECEIVE => self.armed &= cqueue::more(entry.flags()),
            STOP => self.watching = false,
            CANCEL => self.cancelling = false,
            _ => self.sending -= 1,
        }
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let quiet = self.quiesce(|this, entry| {
            this.forget(entry);
            Ok(())
        });
        if quiet.is_err() {
            // The kernel may still write to buffers that are about to be unmapped, and it does not
            // take our word for the contrary. Nothing may run on after that.
            std::process::abort();
        }
    }
}

fn receive_template() -> Box<libc::msghdr> {
    let mut template = Box::new(empty_message());
    template.msg_namelen = NAME_BYTES as libc::socklen_t;
    template.msg_controllen = CONTROL_BYTES as _;
    template
}

fn as_train<'a>(out: &'a RecvMsgOut<'_>) -> RawTrain<'a> {
    RawTrain {
        name: out.name_data(),
        control: out.control_data(),
        payload: out.payload_data(),
        truncated: out.is_payload_truncated(),
    }
}

/// Errors that go away by themselves: a signal came, the kernel is short of memory for a moment, or
/// it wants completions to be taken first.
fn transient(result: io::Result<()>) -> Result<(), LoopError> {
    match result {
        Err(error)
            if !matches!(
                error.raw_os_error(),
                Some(libc::EINTR | libc::EAGAIN | libc::EBUSY)
            ) =>
        {
            Err(LoopError::System {
                call: "io_uring_enter",
                source: error,
            })
        }
        _ => Ok(()),
    }
}
