//! Streams over epoll(7), for the back end of system calls.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SocketFlags};

use super::streams::Connections;
use super::{Closed, Handler, LoopError, StreamListener, Streams};

/// Events that one call takes.
const EVENTS: usize = 64;
/// Bytes that one call receives.
const RECEIVE_BYTES: usize = 64 << 10;
/// Connections that are accepted at once.
const ACCEPTS: usize = 64;
/// The listener among the events; no connection has this number.
const LISTENER: u64 = u64::MAX;

/// The streams of one loop.
pub(super) struct EpollStreams {
    epoll: OwnedFd,
    listener: Arc<StreamListener>,
    connections: Connections,
    events: Vec<Event>,
    bytes: Box<[u8]>,
    /// When the next tick is due.
    next_tick: Instant,
}

impl EpollStreams {
    pub(super) fn new(streams: &Streams) -> Result<Self, LoopError> {
        let epoll = epoll::create(CreateFlags::CLOEXEC).map_err(|e| failed("epoll_create", e))?;
        let listener = Arc::clone(&streams.listener);
        let waits = listener.set_waiting(false);
        waits.map_err(|source| LoopError::System {
            call: "fcntl",
            source,
        })?;
        let data = EventData::new_u64(LISTENER);
        epoll::add(&epoll, &*listener, data, EventFlags::IN).map_err(|e| failed("epoll_ctl", e))?;
        let connections = Connections::new(streams);
        Ok(Self {
            next_tick: Instant::now() + connections.tick_time(),
            epoll,
            listener,
            connections,
            events: Vec::with_capacity(EVENTS),
            bytes: vec![0; RECEIVE_BYTES].into_boxed_slice(),
        })
    }

    /// How long the thread may sleep at most; `None` is until something comes.
    pub(super) fn sleep_max(&self) -> Option<Duration> {
        let until = |tick: Instant| tick.saturating_duration_since(Instant::now());
        (!self.connections.are_none()).then(|| until(self.next_tick))
    }

    /// Handles what has come, without waiting.
    pub(super) fn look(&mut self, handler: &mut impl Handler) -> Result<(), LoopError> {
        loop {
            self.events.clear();
            let no_time = Timespec::default();
            let spare = rustix::buffer::spare_capacity(&mut self.events);
            match epoll::wait(&self.epoll, spare, Some(&no_time)) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(failed("epoll_wait", error)),
            }
            if !self.events.is_empty() {
                handler.taken();
            }
            for at in 0..self.events.len() {
                let Event { data, flags, .. } = self.events[at];
                match data.u64() {
                    LISTENER => self.accept(handler),
                    number => self.receive(number as usize, flags, handler),
                }
                self.settle(handler);
                handler.replied();
            }
            if self.events.len() < EVENTS {
                break;
            }
        }
        self.tick_if_due(handler);
        Ok(())
    }

    fn accept(&mut self, handler: &mut impl Handler) {
        for _ in 0..ACCEPTS {
            match rustix::net::accept_with(&*self.listener, SocketFlags::CLOEXEC) {
                Ok(socket) => self.connections.accept(socket, handler),
                Err(Errno::INTR | Errno::CONNABORTED) => {}
                // None waits, or there is no file for it now.
                Err(_) => return,
            }
        }
    }

    fn receive(&mut self, number: usize, flags: EventFlags, handler: &mut impl Handler) {
        let connections = &mut self.connections;
        let Some(connection) = connections.get(number) else {
            return;
        };
        let is_broken = flags.intersects(EventFlags::ERR | EventFlags::HUP);
        if connection.wants_input() && (is_broken || flags.contains(EventFlags::IN)) {
            match rustix::net::recv(&*connection, &mut self.bytes[..], RecvFlags::DONTWAIT) {
                Ok((0, _)) => connections.ended_by_client(number),
                Ok((bytes, _)) => connections.received(number, &self.bytes[..bytes], handler),
                Err(Errno::INTR | Errno::AGAIN) => {}
                Err(_) => connections.shut(number, Closed::Failed),
            }
        } else if is_broken {
            connections.shut(number, Closed::Failed);
        }
        connections.send_now(number);
    }

    /// Takes the connections on that something has happened to.
    fn settle(&mut self, handler: &mut impl Handler) {
        while let Some(number) = self.connections.next_touched() {
            self.connections.send_now(number);
            while self.connections.go_on(number, handler) {
                self.connections.send_now(number);
            }
            self.connections.end_if_due(number);
            self.watch(number, handler);
        }
    }

    /// Asks the kernel for what the connection waits for.
    fn watch(&mut self, number: usize, handler: &mut impl Handler) {
        let Some(connection) = self.connections.get(number) else {
            return;
        };
        if connection.is_shut() {
            return self.connections.remove(number, handler);
        }
        let mut interest = EventFlags::empty();
        interest.set(EventFlags::IN, connection.wants_input());
        interest.set(EventFlags::OUT, connection.is_owed());
        let before = connection.watched.replace(interest.bits());
        let data = EventData::new_u64(number as u64);
        let watched = match before {
            None => epoll::add(&self.epoll, &*connection, data, interest),
            Some(same) if same == interest.bits() => Ok(()),
            Some(_) => epoll::modify(&self.epoll, &*connection, data, interest),
        };
        if watched.is_err() {
            connection.shut(Closed::Failed);
            self.connections.remove(number, handler);
        }
    }

    fn tick_if_due(&mut self, handler: &mut impl Handler) {
        if self.connections.are_none() || Instant::now() < self.next_tick {
            return;
        }
        self.next_tick = Instant::now() + self.connections.tick_time();
        self.connections.tick();
        self.settle(handler);
    }

    /// The loop ends.
    pub(super) fn end(&mut self, handler: &mut impl Handler) {
        self.connections.end_all(handler);
    }
}

impl AsFd for EpollStreams {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

fn failed(call: &'static str, error: Errno) -> LoopError {
    LoopError::System {
        call,
        source: error.into(),
    }
}
