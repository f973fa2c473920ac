//! The connections of one loop.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;

use super::connection::{Phase, SEND};
use super::{
    CONNECTION_BYTES, Closed, Connection, ConnectionPlaces, Handler, LINGER_TICKS, StreamOptions,
    Streams,
};

/// The connections of a loop by their numbers. A number is given again when its connection is gone.
pub(crate) struct Connections {
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
    /// Those that something has happened to.
    touched: Vec<usize>,
    places: Arc<ConnectionPlaces>,
    options: StreamOptions,
    /// Bytes of all buffers.
    memory_bytes: usize,
    now: u32,
    idle_ticks: u32,
    stall_ticks: u32,
}

impl Connections {
    pub(crate) fn new(streams: &Streams) -> Self {
        let options = streams.options;
        Self {
            connections: Vec::new(),
            free: Vec::new(),
            touched: Vec::new(),
            places: Arc::clone(&streams.places),
            options,
            memory_bytes: 0,
            now: 0,
            idle_ticks: options.idle.map_or(u32::MAX, |idle| options.ticks(idle)),
            stall_ticks: options.ticks(options.stall),
        }
    }

    /// Whether there is none.
    pub(crate) fn are_none(&self) -> bool {
        self.free.len() == self.connections.len()
    }

    /// The time between two [ticks](Self::tick).
    pub(crate) fn tick_time(&self) -> Duration {
        self.options.tick()
    }

    pub(crate) fn get(&mut self, number: usize) -> Option<&mut Connection> {
        self.connections.get_mut(number)?.as_mut()
    }

    /// Takes a connection that was accepted, if there is a place for it and the handler wants it.
    pub(crate) fn accept(&mut self, socket: OwnedFd, handler: &mut impl Handler) {
        let peer = rustix::net::getpeername(&socket).ok().flatten();
        let Some(from) = peer.and_then(|peer| SocketAddr::try_from(peer).ok()) else {
            // It has gone already.
            return;
        };
        let fits = self.memory_bytes + CONNECTION_BYTES <= self.options.memory_bytes_max;
        if !fits || !self.places.take() {
            let last_words = handler.turned_away(from);
            let _ = rustix::net::send(&socket, last_words, SEND);
            return;
        }
        let number = self.free.pop().unwrap_or(self.connections.len());
        if number == self.connections.len() {
            self.connections.push(None);
        }
        if !handler.opened(number, from) {
            self.free.push(number);
            self.places.give_back();
            return;
        }
        self.connections[number] = Some(Connection::new(socket, self.now));
        // Counts its memory.
        self.change(number, |_| {});
    }

    /// Takes what has come on a connection.
    #[inline]
    pub(crate) fn received(&mut self, number: usize, bytes: &[u8], handler: &mut impl Handler) {
        let now = self.now;
        self.change(number, |it| it.received(number, bytes, now, handler));
    }

    /// Shows the handler what it has left, if there is room for replies again. Returns whether it did.
    #[inline]
    pub(crate) fn go_on(&mut self, number: usize, handler: &mut impl Handler) -> bool {
        let may = self.get(number).is_some_and(|it| it.may_go_on());
        if may {
            self.change(number, |it| it.take_input(number, handler));
        }
        may
    }

    /// The client of a connection sends nothing any more.
    pub(crate) fn ended_by_client(&mut self, number: usize) {
        self.change(number, Connection::ended_by_client);
    }

    /// So many bytes were sent.
    #[inline]
    pub(crate) fn sent(&mut self, number: usize, bytes: usize) {
        let now = self.now;
        self.change(number, |it| it.sent(bytes, now));
    }

    /// Shuts a connection.
    pub(crate) fn shut(&mut self, number: usize, why: Closed) {
        self.change(number, |it| it.shut(why));
    }

    /// Takes the next step towards a connection's end, if it is time for it.
    #[inline]
    pub(crate) fn end_if_due(&mut self, number: usize) {
        let now = self.now;
        if let Some(it) = self.get(number) {
            it.end_if_due(now, LINGER_TICKS);
        }
    }

    /// Time has passed: shuts who was silent, or did not read, for too long.
    pub(crate) fn tick(&mut self) {
        self.now = self.now.saturating_add(1);
        for number in 0..self.connections.len() {
            let (now, idle, stall) = (self.now, self.idle_ticks, self.stall_ticks);
            let Some(connection) = self.get(number) else {
                continue;
            };
            connection.tick(now);
            if let Some(why) = connection.overdue(now, idle, stall) {
                self.shut(number, why);
            }
        }
    }

    /// Changes a connection, keeps account of its memory, and notes that it has to be settled.
    #[inline]
    fn change(&mut self, number: usize, change: impl FnOnce(&mut Connection)) {
        let Some(Some(connection)) = self.connections.get_mut(number) else {
            return;
        };
        change(connection);
        let after = connection.memory_bytes();
        let before = std::mem::replace(&mut connection.counted_bytes, after);
        self.memory_bytes = (self.memory_bytes + after).saturating_sub(before);
        if after > before && self.memory_bytes > self.options.memory_bytes_max {
            connection.shut(Closed::NoMemory);
        }
        self.touch(number);
    }

    #[inline]
    pub(crate) fn touch(&mut self, number: usize) {
        if let Some(Some(connection)) = self.connections.get_mut(number)
            && !std::mem::replace(&mut connection.is_touched, true)
        {
            self.touched.push(number);
        }
    }

    /// One of those that something has happened to.
    #[inline]
    pub(crate) fn next_touched(&mut self) -> Option<usize> {
        let number = self.touched.pop()?;
        if let Some(connection) = self.get(number) {
            connection.is_touched = false;
        }
        Some(number)
    }

    /// Forgets a connection that is shut. The kernel must have let go of it.
    pub(crate) fn remove(&mut self, number: usize, handler: &mut impl Handler) {
        let Some(connection) = self.connections.get_mut(number).and_then(Option::take) else {
            return;
        };
        self.memory_bytes = self.memory_bytes.saturating_sub(connection.counted_bytes);
        self.free.push(number);
        self.places.give_back();
        let why = match connection.phase() {
            Phase::Closing(why) | Phase::Ending(why) | Phase::Lingering(why, _) => why,
            Phase::Open => Closed::AtEnd,
        };
        handler.closed(number, why);
    }

    /// Sends what a connection is owed by system calls, as far as the kernel takes it without waiting. Nothing of it
    /// may be under way.
    pub(crate) fn send_now(&mut self, number: usize) {
        loop {
            match self.get(number).map(Connection::send_some) {
                None | Some(Ok(0) | Err(Errno::AGAIN)) => return,
                Some(Ok(bytes)) => self.sent(number, bytes),
                Some(Err(Errno::INTR)) => {}
                Some(Err(_)) => return self.shut(number, Closed::Failed),
            }
        }
    }

    /// The loop ends: sends what can be sent without waiting, and forgets all connections. The kernel must have let go
    /// of them.
    pub(crate) fn end_all(&mut self, handler: &mut impl Handler) {
        for number in 0..self.connections.len() {
            self.send_now(number);
            self.remove(number, handler);
        }
    }
}

impl Drop for Connections {
    fn drop(&mut self) {
        let left = self.connections.iter().flatten().count();
        (0..left).for_each(|_| self.places.give_back());
    }
}
