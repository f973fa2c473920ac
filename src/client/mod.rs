//! Clients of one server: [`Client`] blocks, [`AsyncClient`] awaits; both speak the
//! [compact format](crate::wire::compact), which carries weights and answers, and both share one state
//! machine. [`legacy::Client`] speaks the Python program's protocol.
//!
//! **An add counts exactly once.** Whatever UDP loses is sent again until the node acknowledges it, with
//! the same sequence, which the node applies once. Where nobody can know (no reply came at all, or
//! the node was started again meanwhile), the error says that the add is *uncertain* ([`Fate`]), and
//! nothing is sent twice.
//!
//! **A name is looked up again.** A server is told as [`Server`]: by name, or by address. Where an address
//! refuses, or stays silent for a third of the timeout, the name is looked up again and the next address is
//! tried: for questions that are under way, and for adds that were never sent. Adds that are under way keep
//! the client where it is until they are acknowledged or uncertain; they are never sent to another node.
//!
//! Many operations share a datagram, and as many datagrams are under way as the network and the node take.

mod adder;
mod answer;
mod asynchronous;
mod blocking;
mod core;
mod detached;
mod error;
pub mod legacy;
mod link;
mod route;
mod server;

use std::time::Duration;

pub use self::adder::Adder;
pub use self::answer::{Bounds, Count, Hash, Hit, Info};
pub use self::asynchronous::AsyncClient;
pub use self::blocking::Client;
pub use self::detached::Detached;
pub use self::error::{AddsReport, ClientError, Fate};
pub use self::route::Asked;
pub use self::server::Server;
pub use crate::wire::compact::KEY_BYTES_MAX;

/// How a client waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientOptions {
    /// For how long a request is sent again and again before the call fails; at most 120 s, because
    /// the node may forget the client after that. How soon it is sent again, the client measures.
    pub timeout: Duration,
    /// How long an operation waits for others to fill its datagram. An [`AsyncClient`] waits no longer
    /// than this, and not at all with 0: it then sends what all tasks have asked for so far. An
    /// [`Adder`] waits 1 ms or this, whichever is longer. The calls of [`Client`] never wait.
    pub linger: Duration,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(3),
            linger: Duration::ZERO,
        }
    }
}
