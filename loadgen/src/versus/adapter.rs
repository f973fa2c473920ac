//! One set of calls for every kind of server.

use std::io;
use std::net::SocketAddr;

use thiserror::Error;

use crate::plan::Stream;

/// The same calls for each kind of server, over a connection to one.
pub(super) trait Adapter {
    /// Name and version, as it says them.
    fn name(&self) -> String;

    /// What is sent for adds, for the record.
    fn adds_as(&self) -> String;

    /// What is sent for counts, for the record.
    fn counts_as(&self) -> String;

    /// Adds the next `adds` keys of a stream, in batches, and returns when the server has confirmed
    /// to have read all of them; how many it counted.
    fn add(&mut self, keys: &mut Stream, adds: u64) -> Result<u64, AdapterError>;

    /// Counts one key and waits for the answer.
    fn count(&mut self, key: &[u8]) -> Result<u64, AdapterError>;
}

/// A server that does not do what it should. What it had confirmed before stays counted.
#[derive(Debug, Error)]
pub(super) enum AdapterError {
    /// Nobody is there.
    #[error(
        "can't connect to {server} at {address}: {source}; start it, or let this command do it with --start"
    )]
    Connect {
        /// Which server.
        server: &'static str,
        /// Where.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// It went away, or says nothing for too long.
    #[error("{server} at {address} does not answer any more: {source}; is it still running?")]
    Lost {
        /// Which server.
        server: &'static str,
        /// Where.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// It refuses what it is asked for.
    #[error("{server} refused {what}: {answer}")]
    Refused {
        /// Which server.
        server: &'static str,
        /// What it was asked for.
        what: &'static str,
        /// What it said, and what to do where that is known.
        answer: String,
    },
    /// It speaks something else.
    #[error(
        "what answers at {address} is no {server}: {found}; check host, port and the scheme before ://"
    )]
    Protocol {
        /// Which server was expected.
        server: &'static str,
        /// Where.
        address: SocketAddr,
        /// What came.
        found: String,
    },
    /// Ctrl-C.
    #[error("interrupted")]
    Interrupted,
}

/// Batches that may be on their way before the oldest is confirmed: the server never waits for the
/// generator to write the next one, and what is on its way fits the kernel's buffers.
pub(super) const WINDOW: usize = 4;
