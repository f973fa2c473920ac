//! The back end that works everywhere: `recvmmsg(2)`, `poll(2)`, and one `sendmsg(2)` for each
//! burst of replies.

use std::io;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags};

use super::{Handler, LoopError, Parts};
use crate::udp::{Receiver, TRAIN_BYTES_MAX};

/// Trains taken by one system call. Each has a buffer of 64 KiB; 32 of them stay in the L2 cache's
/// neighbourhood, and more gained nothing.
const TRAINS: usize = 32;

pub(super) struct Loop {
    parts: Parts,
    receiver: Receiver,
}

impl Loop {
    pub(super) fn new(parts: Parts) -> Self {
        Self {
            parts,
            receiver: Receiver::new(TRAINS, TRAIN_BYTES_MAX),
        }
    }

    pub(super) fn run(&mut self, handler: &mut impl Handler) -> Result<(), LoopError> {
        let mut idle_since = None;
        while !self.parts.stop.is_given() {
            match take(&mut self.parts, &mut self.receiver, handler)? {
                Taken { trains: 0, .. } => self.wait(&mut idle_since)?,
                Taken { trains: TRAINS, .. } => idle_since = None,
                // The socket was emptied: waiting at once saves asking in vain.
                _ => {
                    idle_since = None;
                    self.wait(&mut idle_since)?;
                }
            }
        }
        drain(&mut self.parts, &mut self.receiver, handler)
    }

    /// Sleeps until there is something to do, unless it is still time to look again at once.
    fn wait(&mut self, idle_since: &mut Option<Instant>) -> Result<(), LoopError> {
        let busy_poll = self.parts.options.busy_poll;
        if !busy_poll.is_zero() && idle_since.get_or_insert_with(Instant::now).elapsed() < busy_poll
        {
            std::hint::spin_loop();
            return Ok(());
        }
        *idle_since = None;
        let mut fds = [
            PollFd::new(&*self.parts.socket, PollFlags::IN),
            PollFd::new(&self.parts.stop, PollFlags::IN),
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

/// Hands over what is in the receive buffer, but does not keep up with a sender that goes on: no
/// more than the buffer can hold.
pub(super) fn drain(
    parts: &mut Parts,
    receiver: &mut Receiver,
    handler: &mut impl Handler,
) -> Result<(), LoopError> {
    let mut left = parts.socket.receive_buffer_bytes();
    while left > 0 {
        match take(parts, receiver, handler)? {
            Taken { trains: 0, .. } => break,
            // The buffer is charged at least one byte for each datagram.
            taken => left = left.saturating_sub(taken.bytes + taken.trains),
        }
    }
    Ok(())
}

/// What one system call brought.
struct Taken {
    trains: usize,
    bytes: usize,
}

/// One system call's worth of trains.
fn take(
    parts: &mut Parts,
    receiver: &mut Receiver,
    handler: &mut impl Handler,
) -> Result<Taken, LoopError> {
    let trains = match receiver.receive(&*parts.socket) {
        Ok(trains) => trains,
        Err(error) if is_transient(&error) => 0,
        Err(source) => {
            return Err(LoopError::System {
                call: "recvmmsg",
                source,
            });
        }
    };
    let mut bytes = 0;
    for index in 0..trains {
        let raw = receiver.raw(index);
        bytes += raw.payload.len();
        parts.hand_over(raw, handler);
    }
    handler.pause();
    parts.replies.flush();
    Ok(Taken { trains, bytes })
}

fn is_transient(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}
