//! One set of calls for every kind of server.

use std::io;
use std::net::SocketAddr;

use thiserror::Error;

use crate::plan::Stream;

/// The calls that every kind of server supports, over a connection to one.
pub(super) trait Adapter {
    /// Name and version of the server, as it tells them.
    fn name(&self) -> String;

    /// The form in which adds are sent, for the record.
    fn adds_as(&self) -> String;

    /// The form in which counts are sent, for the record.
    fn counts_as(&self) -> String;

    /// Adds the next `adds` keys of a stream in batches. Returns when the server has confirmed that it has read all of
    /// them, with the number that it counted.
    fn add(&mut self, keys: &mut Stream, adds: u64) -> Result<u64, AdapterError>;

    /// Counts one key and waits for the answer.
    fn count(&mut self, key: &[u8]) -> Result<u64, AdapterError>;
}

/// The error for a server that does not do what it should. Adds that it confirmed before stay counted.
#[derive(Debug, Error)]
pub(super) enum AdapterError {
    /// Nobody accepts a connection at the address.
    #[error(
        "can't connect to {server} at {address}: {source}; start it, or let this command do it with --start"
    )]
    Connect {
        /// The name of the server.
        server: &'static str,
        /// The address of the server.
        address: SocketAddr,
        /// The system's error.
        source: io::Error,
    },
    /// The server has gone, or is silent for too long.
    #[error("{server} at {address} does not answer any more: {source}; is it still running?")]
    Lost {
        /// The name of the server.
        server: &'static str,
        /// The address of the server.
        address: SocketAddr,
        /// The system's error.
        source: io::Error,
    },
    /// The server refuses a request.
    #[error("{server} refused {what}: {answer}")]
    Refused {
        /// The name of the server.
        server: &'static str,
        /// The request.
        what: &'static str,
        /// The server's answer, and what to do if that is known.
        answer: String,
    },
    /// The program at the address speaks another protocol.
    #[error(
        "what answers at {address} is no {server}: {found}; check host, port and the scheme before ://"
    )]
    Protocol {
        /// The name of the expected server.
        server: &'static str,
        /// The address of the program.
        address: SocketAddr,
        /// The answer that came.
        found: String,
    },
    /// The user pressed Ctrl-C.
    #[error("interrupted")]
    Interrupted,
}

/// Number of batches that may be on their way before the oldest is confirmed. So the server never waits for the
/// generator to write the next one, and batches on their way fit the kernel's buffers.
pub(super) const WINDOW: usize = 4;
