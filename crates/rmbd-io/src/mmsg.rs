//! The back end that works everywhere. It uses `recvmmsg(2)`, `poll(2)`, and one `sendmsg(2)` for each burst of
//! replies.

use std::io;

use rustix::event::{PollFd, PollFlags};

use super::{Endpoint, Handler, LoopError};
use rmbd_udp::{Receiver, TRAIN_BYTES_MAX};

/// Number of trains that one system call takes. Each has a buffer of 64 KiB; 32 of them stay near the L2 cache, and
/// more gained nothing.
const TRAINS: usize = 32;

pub(super) struct Loop {
    endpoint: Endpoint,
    receiver: Receiver,
}

impl Loop {
    pub(super) fn new(endpoint: Endpoint) -> Self {
        Self {
            endpoint,
            receiver: Receiver::new(TRAINS, TRAIN_BYTES_MAX),
        }
    }

    pub(super) fn run(&mut self, handler: &mut impl Handler) -> Result<(), LoopError> {
        while !self.endpoint.stop.is_given() {
            let taken = take(&mut self.endpoint, &mut self.receiver, handler)?;
            let busy_poll = &mut self.endpoint.busy_poll;
            let look_again = match taken.trains {
                0 => busy_poll.look_again(),
                TRAINS => true,
                // The socket was emptied: without busy polling the thread sleeps at once, which saves a call in vain.
                _ => busy_poll.is_on(),
            };
            if !look_again {
                self.sleep()?;
            }
        }
        self.endpoint.busy_poll.end();
        drain(&mut self.endpoint, &mut self.receiver, handler)
    }

    /// Sleeps until a datagram or the stop signal comes.
    fn sleep(&self) -> Result<(), LoopError> {
        let mut fds = [
            PollFd::new(&*self.endpoint.socket, PollFlags::IN),
            PollFd::new(&self.endpoint.stop, PollFlags::IN),
        ];
        match rustix::event::poll(&mut fds, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(LoopError::System {
                call: "poll",
                source: error.into(),
            }),
        }
    }
}

/// Hands over what is in the receive buffer, and no more than the buffer can hold, so that this ends even if a sender
/// goes on.
pub(super) fn drain(
    endpoint: &mut Endpoint,
    receiver: &mut Receiver,
    handler: &mut impl Handler,
) -> Result<(), LoopError> {
    let mut left = endpoint.socket.receive_buffer_bytes();
    while left > 0 {
        match take(endpoint, receiver, handler)? {
            Taken { trains: 0, .. } => break,
            // The kernel counts at least one byte of the buffer for each datagram.
            taken => left = left.saturating_sub(taken.bytes + taken.trains),
        }
    }
    Ok(())
}

/// The result of one system call.
struct Taken {
    trains: usize,
    bytes: usize,
}

/// Hands over the trains of one system call.
fn take(
    endpoint: &mut Endpoint,
    receiver: &mut Receiver,
    handler: &mut impl Handler,
) -> Result<Taken, LoopError> {
    let trains = match receiver.receive(&*endpoint.socket) {
        Ok(trains) => trains,
        Err(error) if is_transient(&error) => 0,
        Err(source) => {
            return Err(LoopError::System {
                call: "recvmmsg",
                source,
            });
        }
    };
    if trains > 0 {
        endpoint.busy_poll.end();
    }
    let mut bytes = 0;
    for raw in receiver.raw_trains() {
        bytes += raw.payload.len();
        endpoint.hand_over(raw, handler);
    }
    handler.pause();
    endpoint.replies.flush();
    Ok(Taken { trains, bytes })
}

fn is_transient(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}
