//! Taking datagrams from sockets, many with one system call.

use rmbd_udp::{Receiver, TRAIN_BYTES_MAX};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::flight::{Clock, Connection, is_refusal};

/// Number of trains that one system call takes.
const TRAINS: usize = 16;
/// Nanoseconds to wait before looking for requests that have timed out.
const WAIT_NS: u32 = 2_000_000;

/// Takes datagrams. All its memory is allocated at the start.
pub(crate) struct Inbox<'a> {
    receiver: Receiver,
    polled: Box<[PollFd<'a>]>,
}

impl<'a> Inbox<'a> {
    pub(crate) fn new(connections: &'a [Connection]) -> Self {
        Self {
            receiver: Receiver::new(TRAINS, TRAIN_BYTES_MAX),
            polled: connections
                .iter()
                .map(|connection| PollFd::new(&connection.socket, PollFlags::IN))
                .collect(),
        }
    }

    /// Hands over the datagrams that have come on one connection, each with the time.
    pub(crate) fn take(
        &mut self,
        connection: &Connection,
        clock: Clock<'_>,
        mut hear: impl FnMut(&[u8], u64),
    ) {
        loop {
            let trains = match self.receiver.receive(&connection.socket) {
                Ok(0) => return,
                Ok(trains) => trains,
                // The kernel reports an error of an earlier send here, too: look again.
                Err(error) if is_refusal(&error) => continue,
                Err(_) => return,
            };
            let now_ns = clock.now_ns();
            for train in (0..trains).filter_map(|index| self.receiver.train(index)) {
                for datagram in train.datagrams() {
                    hear(datagram, now_ns);
                }
            }
            if trains < TRAINS {
                return;
            }
        }
    }

    /// Sleeps until a datagram is there on any connection, or for a short while.
    pub(crate) fn wait(&mut self) {
        let wait = Timespec {
            tv_sec: 0,
            tv_nsec: WAIT_NS.into(),
        };
        // The call was interrupted, or refused for want of memory: the caller looks again anyway.
        let _ = poll(&mut self.polled, Some(&wait));
    }
}
