//! Errors of a client, and what is known of the adds after each.

use std::io;
use std::net::SocketAddr;

use thiserror::Error;

use crate::route::Asked;
use crate::server::ServerError;
use rmbd_names::{AddressError, LookupError};
use rmbd_proto::legacy::HostTooLong;

/// An error of a client, with what is known of its adds.
#[derive(Debug, Error)]
pub enum ClientError {
    /// The name cannot be looked up, or has no address.
    #[error("{0}; nothing was sent: check the server's name, or use an address")]
    Resolve(#[from] LookupError),
    /// Not `HOST:PORT`.
    #[error("{text:?} is no server, nothing was sent: {source}")]
    Address {
        /// What was given.
        text: String,
        /// What is wrong with it.
        source: AddressError,
    },
    /// An empty list of addresses.
    #[error("no address of a server was given, nothing was sent")]
    NoAddress,
    /// None of several addresses answers.
    #[error("nobody answers at any address of {server}{}", listed(causes))]
    Unreached {
        /// As it was given.
        server: String,
        /// Each address that was tried, and why it will not do.
        causes: Vec<(SocketAddr, Self)>,
    },
    /// The server's machine says that nobody listens there.
    #[error("no server at {server}; start one with `rmbd`")]
    Refused {
        /// Where it was looked for.
        server: Box<Asked>,
    },
    /// No answer in time.
    #[error(
        "no answer from {server} in {tries} tries of {timeout_ms} ms, {answered} of {asked} counts were answered: is the server up, does --allow there admit this machine, does a firewall drop UDP?"
    )]
    Timeout {
        /// Who did not answer.
        server: Box<Asked>,
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
            io::ErrorKind::ConnectionRefused => Self::Refused {
                server: Box::new(server.into()),
            },
            _ => Self::Socket {
                doing,
                server,
                source,
            },
        }
    }

    /// Names all addresses that were tried.
    pub(super) fn asked(self, asked: Asked) -> Self {
        match self {
            Self::Refused { .. } => Self::Refused {
                server: Box::new(asked),
            },
            other => other,
        }
    }
}

fn listed(causes: &[(SocketAddr, ClientError)]) -> String {
    let cause = |(address, cause): &(SocketAddr, ClientError)| format!("; {address}: {cause}");
    causes.iter().map(cause).collect()
}

impl From<ServerError> for ClientError {
    fn from(error: ServerError) -> Self {
        match error {
            ServerError::Lookup(error) => Self::Resolve(error),
            ServerError::NoAddress => Self::NoAddress,
            ServerError::Address(text, source) => Self::Address { text, source },
        }
    }
}
