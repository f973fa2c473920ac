//! Receiving by a ring.
//!
//! One multishot `RecvMsg` (io_uring_prep_recvmsg_multishot(3)) stays armed. The kernel picks a buffer from a ring of
//! provided ones, writes sender, control messages and payload into it, and posts a completion; we hand the train over
//! and give the buffer back. A last completion means that the multishot receive has ended, because no buffer was
//! free, the completion queue was full, or an error happened. It is armed again, whatever the reason.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use io_uring::opcode;
use io_uring::types::{Fd, RecvMsgOut};

use super::super::counters::bump;
use super::super::refused::RingRefused;
use super::super::{Endpoint, Handler, LoopError};
use super::buffers::{Buffers, DATAGRAMS};
use super::operation::Operation;
use super::ring::{Completion, Ring};
use rmbd_udp::{CONTROL_BYTES, NAME_BYTES, RawTrain, TRAIN_BYTES_MAX, empty_message};

/// Number of receive buffers. The kernel fills at most 32 before it lets us work (`MULTISHOT_MAX_RETRY`), so these
/// suffice. More would be used in turn all the same, and push each other out of the cache.
const BUFFERS: u16 = 64;
/// Bytes of a buffer: one train, and before it the kernel's header (16 bytes), name and control messages.
const BUFFER_BYTES: usize = (TRAIN_BYTES_MAX + 1) + 256;
/// Number of failed receives in a row after which waiting is no cure.
const FAILURES_MAX: u32 = 1000;

/// The receive of one ring, and the buffers that it receives into.
pub(super) struct Receive {
    buffers: Buffers,
    /// The form of message that a receive delivers. The kernel reads it when the receive is armed.
    template: Box<libc::msghdr>,
    is_armed: bool,
    failures: u32,
}

impl Receive {
    /// # Safety
    /// - The result is used with this ring and its completions only.
    /// - The ring is dropped before it.
    #[allow(unsafe_code)]
    pub(super) unsafe fn new(ring: &Ring) -> Result<Self, RingRefused> {
        // SAFETY: the buffers are dropped with the result, and so after the ring.
        let buffers = unsafe { Buffers::register(ring, DATAGRAMS, BUFFERS, BUFFER_BYTES) }
            .map_err(|error| RingRefused::new("registering the receive buffers", error))?;
        Ok(Self {
            buffers,
            template: template(),
            is_armed: false,
            failures: 0,
        })
    }

    /// Arms the receive from `socket`, if it is not armed.
    #[allow(unsafe_code)]
    pub(super) fn arm(&mut self, ring: &mut Ring, socket: impl AsFd) -> Result<(), LoopError> {
        if self.is_armed {
            return Ok(());
        }
        let fd = Fd(socket.as_fd().as_raw_fd());
        let entry = opcode::RecvMsgMulti::new(fd, &raw const *self.template, DATAGRAMS).build();
        // SAFETY: the kernel reads the template, which is boxed and never written, and writes into buffers that
        // it was given; both are dropped after the ring.
        unsafe { ring.push(entry, Operation::Receive) }?;
        self.is_armed = true;
        Ok(())
    }

    /// Hands over what a completion of the receive brought.
    #[allow(unsafe_code)]
    pub(super) fn complete(
        &mut self,
        completion: Completion,
        endpoint: &mut Endpoint,
        handler: &mut impl Handler,
    ) -> Result<(), LoopError> {
        if completion.is_last() {
            self.is_armed = false;
        }
        let result = completion.result();
        let Some(id) = completion.buffer() else {
            let no_buffer = |_| io::Error::other("the kernel chose no buffer");
            return self.failed(result.map_or_else(|error| error, no_buffer));
        };
        self.failures = 0;
        let template = &self.template;
        let read = |bytes: Option<&[u8]>| {
            let train = bytes.and_then(|bytes| RecvMsgOut::parse(bytes, template).ok());
            match &train {
                Some(train) => endpoint.hand_over(raw(train), handler),
                None => bump(&endpoint.counters.truncated, 1),
            }
        };
        // SAFETY: the completion named the buffer, is one of our ring, as `new` asks, and ends here.
        unsafe { self.buffers.read(id, result.unwrap_or(0), read) };
        Ok(())
    }

    /// Handles a failed receive. Usually no buffer was free, which the buffers that were given back have cured; or the
    /// kernel could not receive at all.
    fn failed(&mut self, source: io::Error) -> Result<(), LoopError> {
        if matches!(
            source.raw_os_error(),
            Some(libc::ENOBUFS | libc::ECANCELED | libc::EINTR)
        ) {
            return Ok(());
        }
        self.failures += 1;
        if self.failures < FAILURES_MAX {
            return Ok(());
        }
        Err(LoopError::System {
            call: "io_uring receive",
            source,
        })
    }
}

fn template() -> Box<libc::msghdr> {
    let mut template = Box::new(empty_message());
    template.msg_namelen = NAME_BYTES as libc::socklen_t;
    template.msg_controllen = CONTROL_BYTES as _;
    template
}

fn raw<'a>(train: &'a RecvMsgOut<'_>) -> RawTrain<'a> {
    RawTrain {
        name: train.name_data(),
        control: train.control_data(),
        payload: train.payload_data(),
        truncated: train.is_payload_truncated(),
    }
}
