//! The times that a client keeps to.

use std::time::Duration;

/// The times that a client keeps to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientOptions {
    /// For how long a request is sent again and again before the call fails; at most 120 s, because
    /// the node may forget the client after that. How soon it is sent again, the client measures.
    pub timeout: Duration,
    /// How long an operation waits for others to fill its datagram. The [client for tokio](super::AsyncClient)
    /// waits no longer than this, and not at all with 0: it then sends what all tasks have asked for so far. An
    /// [`Adder`](super::Adder) waits 1 ms or this, whichever is longer. The calls of the
    /// [blocking client](super::Client) never wait.
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
