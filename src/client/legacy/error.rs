//! What can go wrong at a client, and what is then known.

use std::io;
use std::net::SocketAddr;

use thiserror::Error;

use crate::wire::legacy::HostTooLong;

/// What went wrong at a client, and what is then known.
#[derive(Debug, Error)]
pub enum ClientError {
    /// The name cannot be looked up.
    #[error(
        "cannot look up the server's name ({0}), nothing was sent: check it, or use an address"
    )]
    Resolve(#[source] io::Error),
    /// The name has no address.
    #[error("the server's name has no address, nothing was sent: check it, or use an address")]
    NoAddress,
    /// The server's machine says that nobody listens there.
    #[error("no server at {server}; start one with `rmbd`")]
    Refused {
        /// Where it was looked for.
        server: SocketAddr,
    },
    /// No answer in time.
    #[error(
        "no answer from {server} in {tries} tries of {timeout_ms} ms, {answered} of {asked} counts were answered: is the server up, does --allow there admit this machine, does a firewall drop UDP?"
    )]
    Timeout {
        /// Who did not answer.
        server: SocketAddr,
        /// How often it was asked.
        tries: u32,
        /// How long an answer was waited for, each time.
        timeout_ms: u128,
        /// Counts that were answered.
        answered: usize,
        /// Counts that were asked for.
        asked: usize,
    },
    /// Adding ended early. The keys before the `confirmed`-th were read by the server, the
    /// `uncertain` after them were sent and perhaps read, and none behind those was sent.
    #[error(
        "{source}; {confirmed} adds are confirmed, {uncertain} more are uncertain and were not sent again (a repeated add would count twice), none after them was sent"
    )]
    Adds {
        /// Adds that an answered count came after.
        confirmed: u64,
        /// Adds that were sent after the last answered count.
        uncertain: u64,
        /// Why it ended.
        source: Box<Self>,
    },
    /// The protocol would cut the key to another one.
    #[error("key of {bytes} bytes, it was not sent: the protocol carries at most 139")]
    KeyTooLong {
        /// Bytes of the key.
        bytes: usize,
    },
    /// The protocol would cut the host to another one.
    #[error(transparent)]
    HostTooLong(#[from] HostTooLong),
    /// The system refused.
    #[error("cannot {doing} {server}: {source}")]
    Socket {
        /// What was tried.
        doing: &'static str,
        /// With whom.
        server: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
}

impl ClientError {
    /// Tells "nobody listens" (ICMP port unreachable) from the rest.
    pub(super) fn of_socket(server: SocketAddr, doing: &'static str, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::ConnectionRefused => Self::Refused { server },
            _ => Self::Socket {
                doing,
                server,
                source,
            },
        }
    }
}
