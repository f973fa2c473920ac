//! Streams (TCP) beside the datagrams of a loop: connections are accepted, what they send goes to the [`Handler`], and
//! its replies are sent in their order. The back ends differ in how they wait and send (`uring/streams.rs`,
//! `epoll.rs`); the table of connections and all its rules are the same.
//!
//! **A client is bounded.** What it sends waits in its connection's input until the handler takes it. While
//! [`REPLIES_FULL_BYTES`] of replies wait that it does not read, nothing more is taken or received from it; if it reads
//! nothing for [`stall`](StreamOptions::stall), it is closed. All buffers of a loop together have a
//! [limit](StreamOptions::memory_bytes_max), too.
//!
//! **Steady connections cost no memory and no clock.** A connection takes its buffers when it is accepted, and keeps
//! what they have grown to, up to [`KEPT_BYTES`]. Times are counted in ticks, and there are ticks only while there are
//! connections.

mod connection;
mod listener;
mod places;
mod table;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

pub(super) use self::connection::Connection;
pub use self::listener::{StreamListener, bind_streams};
pub use self::places::ConnectionPlaces;
pub(super) use self::table::Connections;
use super::Handler;

/// Bytes of replies that may wait for a client before nothing more is taken from it. A command may go beyond it with
/// its own reply.
pub const REPLIES_FULL_BYTES: usize = 256 << 10;
/// Bytes of each buffer of a new connection, of which it has three.
pub const FIRST_BYTES: usize = 4 << 10;
/// Bytes of the buffers of a connection that says nothing: what came, replies, and replies that are sent.
pub const CONNECTION_BYTES: usize = 3 * FIRST_BYTES;
/// Bytes up to which an empty buffer is kept as it has grown: a few receives.
const KEPT_BYTES: usize = 64 << 10;
/// The longest time between ticks.
const TICK_MAX: Duration = Duration::from_secs(1);
/// The shortest one.
const TICK_MIN: Duration = Duration::from_millis(5);
/// Ticks in a time that is watched, so that it is kept well enough.
const TICKS_A_TIME: u32 = 4;
/// Ticks for which a connection that we have ended waits for the client's end.
const LINGER_TICKS: u32 = 2;

/// What a loop serves streams with.
#[derive(Debug, Clone)]
pub struct Streams {
    /// The loop's own listener.
    pub listener: Arc<StreamListener>,
    /// The places for connections, which several loops share.
    pub places: Arc<ConnectionPlaces>,
    /// The options.
    pub options: StreamOptions,
}

/// Options of the streams of one loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamOptions {
    /// How long a connection may be silent before it is closed; `None` is for ever.
    pub idle: Option<Duration>,
    /// How long a client may leave replies unread before it is closed.
    pub stall: Duration,
    /// Most bytes of the buffers of all connections of the loop. One that needs more is closed.
    pub memory_bytes_max: usize,
}

impl StreamOptions {
    /// The time between two ticks.
    fn tick(&self) -> Duration {
        let watched = self.idle.map_or(self.stall, |idle| idle.min(self.stall));
        (watched / TICKS_A_TIME).clamp(TICK_MIN, TICK_MAX)
    }

    /// Ticks of a time, rounded up; one more, since the first of them is not a whole one.
    fn ticks(&self, time: Duration) -> u32 {
        let ticks = time.as_nanos().div_ceil(self.tick().as_nanos()) + 1;
        u32::try_from(ticks).unwrap_or(u32::MAX)
    }
}

/// What a handler has done with the bytes of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// So many of them need not be shown again.
    pub bytes: usize,
    /// What is to be done with the rest.
    pub then: Then,
}

/// What comes next on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// The rest is shown again with more behind it.
    More,
    /// The rest is shown again when the client has read some replies.
    Room,
    /// The connection ends when all replies are sent. The rest, and what else comes, is not shown.
    End,
}

/// The replies of a connection, to which a handler adds.
#[derive(Debug)]
pub struct StreamReplies<'r> {
    bytes: &'r mut Vec<u8>,
    /// Bytes that are under way.
    sending_bytes: usize,
}

impl<'r> StreamReplies<'r> {
    /// Replies behind these bytes; a loop makes those that it hands to a handler.
    #[must_use]
    pub fn new(bytes: &'r mut Vec<u8>) -> Self {
        Self {
            bytes,
            sending_bytes: 0,
        }
    }

    /// The bytes that wait; new ones go behind them.
    #[inline]
    pub fn bytes(&mut self) -> &mut Vec<u8> {
        self.bytes
    }

    /// Whether so many more bytes would make it too many: the handler should leave the rest of what it was shown. It
    /// is shown again when the client has read.
    #[inline]
    #[must_use]
    pub fn are_full_with(&self, more_bytes: usize) -> bool {
        self.bytes.len() + self.sending_bytes + more_bytes >= REPLIES_FULL_BYTES
    }
}

/// Why a connection was closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closed {
    /// The client has closed it.
    ByClient,
    /// The handler has [ended](Then::End) it.
    ByHandler,
    /// It was silent for too long.
    Idle,
    /// The client did not read its replies.
    Stalled,
    /// There was no memory for its buffers.
    NoMemory,
    /// The network failed.
    Failed,
    /// The loop ended.
    AtEnd,
}
