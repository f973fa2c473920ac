//! The back end that works everywhere. It uses `recvmmsg(2)`, `poll(2)`, and one `sendmsg(2)` for each burst of
//! replies; streams have `epoll(7)` (`epoll.rs`), and cost nothing where there are none.

use std::io;

use rustix::event::{PollFd, PollFlags, Timespec};

use super::epoll::EpollStreams;
use super::{Endpoint, Handler, LoopError, Streams};
use rmbd_udp::{Receiver, TRAIN_BYTES_MAX};

/// Number of trains that one system call takes. Each has a buffer of 64 KiB; 32 of them stay near the L2 cache, and
/// more gained nothing.
const TRAINS: usize = 32;

/// Calls of [`take`] after which a thread that does not sleep looks at its streams.
const LOOKS_AT_STREAMS: u32 = 16;

pub(super) struct Loop {
    endpoint: Endpoint,
    receiver: Receiver,
    streams: Option<EpollStreams>,
    /// Calls since it last looked at its streams.
    calls: u32,
}

/// What there is to do.
struct Ready {
    datagrams: bool,
    streams: bool,
}

impl Loop {
    pub(super) fn new(endpoint: Endpoint) -> Self {
        Self {
            endpoint,
            receiver: Receiver::new(TRAINS, TRAIN_BYTES_MAX),
            streams: None,
            calls: 0,
        }
    }

    pub(super) fn serve_streams(&mut self, streams: Streams) -> Result<(), LoopError> {
        self.streams = Some(EpollStreams::new(&streams)?);
        Ok(())
    }

    pub(super) fn endpoint(&mut self) -> &mut Endpoint {
        &mut self.endpoint
    }

    pub(super) fn run(&mut self, handler: &mut impl Handler) -> Result<(), LoopError> {
        let mut ready = Ready {
            datagrams: true,
            streams: true,
        };
        while !self.endpoint.stop.is_given() {
            let look_again = ready.datagrams && self.take_datagrams(handler)?;
            if ready.streams
                && let Some(streams) = &mut self.streams
            {
                streams.look(handler)?;
                handler.pause();
            }
            if let Some(ping) = &self.endpoint.ping {
                ping.answer();
            }
            ready = match look_again {
                true => self.ready_again(),
                false => self.sleep()?,
            };
        }
        self.endpoint.busy_poll.end();
        drain(&mut self.endpoint, &mut self.receiver, handler)?;
        if let Some(streams) = &mut self.streams {
            streams.end(handler);
        }
        Ok(())
    }

    /// Takes the datagrams of one call. Returns whether to look again before sleeping.
    fn take_datagrams(&mut self, handler: &mut impl Handler) -> Result<bool, LoopError> {
        let taken = take(&mut self.endpoint, &mut self.receiver, handler)?;
        let busy_poll = &mut self.endpoint.busy_poll;
        Ok(match taken.trains {
            0 => busy_poll.look_again(),
            TRAINS => true,
            // The socket was emptied: without busy polling the thread sleeps at once, which saves a call in vain.
            _ => busy_poll.is_on(),
        })
    }

    /// The thread does not sleep, and looks at datagrams again; at streams every now and then.
    fn ready_again(&mut self) -> Ready {
        self.calls = (self.calls + 1) % LOOKS_AT_STREAMS;
        Ready {
            datagrams: true,
            streams: self.calls == 0,
        }
    }

    /// Sleeps until a datagram, something on a stream, a question or the stop signal comes.
    fn sleep(&self) -> Result<Ready, LoopError> {
        let stop = PollFd::new(&self.endpoint.stop, PollFlags::IN);
        // Where nobody asks, the stop signal is waited for twice.
        let ping = self.endpoint.ping.as_ref();
        let ping = ping.map_or_else(|| stop.clone(), |ping| PollFd::new(ping, PollFlags::IN));
        let Some(streams) = &self.streams else {
            let mut fds = [
                PollFd::new(&*self.endpoint.socket, PollFlags::IN),
                stop,
                ping,
            ];
            poll(&mut fds, None)?;
            return Ok(Ready {
                datagrams: true,
                streams: false,
            });
        };
        let mut fds = [
            PollFd::new(&*self.endpoint.socket, PollFlags::IN),
            stop,
            PollFd::new(streams, PollFlags::IN),
            ping,
        ];
        let sleep_max = streams.sleep_max();
        let timespec = sleep_max.and_then(|time| Timespec::try_from(time).ok());
        poll(&mut fds, timespec.as_ref())?;
        Ok(Ready {
            datagrams: !fds[0].revents().is_empty(),
            // A tick may be due, too.
            streams: !fds[2].revents().is_empty() || sleep_max.is_some(),
        })
    }
}

fn poll(fds: &mut [PollFd<'_>], time: Option<&Timespec>) -> Result<(), LoopError> {
    match rustix::event::poll(fds, time) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(LoopError::System {
            call: "poll",
            source: error.into(),
        }),
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
        handler.taken();
    }
    let mut bytes = 0;
    for raw in receiver.raw_trains() {
        bytes += raw.payload.len();
        endpoint.hand_over(raw, handler);
    }
    handler.pause();
    endpoint.replies.flush();
    handler.replied();
    Ok(Taken { trains, bytes })
}

fn is_transient(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}
