//! The server that ours is compared with, and how the command line names it.

use std::fmt;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::str::FromStr;
use std::time::Duration;

use thiserror::Error;

/// How long each address of a name may take to accept a connection.
const CONNECT_PATIENCE: Duration = Duration::from_secs(2);

/// The server that ours is compared with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rival {
    /// The kind of the server.
    pub kind: RivalKind,
    /// The address `HOST:PORT`; empty if the server is to be started.
    pub address: String,
}

/// A kind of server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RivalKind {
    /// Redis, or another server with its protocol.
    Redis,
    /// memcached.
    Memcached,
}

impl RivalKind {
    /// The name of the kind: `redis` or `memcached`.
    #[must_use]
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Redis => "redis",
            Self::Memcached => "memcached",
        }
    }
}

/// The error for a text that names no server.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(super) enum RivalError {
    /// The text has another form.
    #[error("not a server: write redis://HOST:PORT or memcached://HOST:PORT")]
    Form,
    /// There is no host, although the server is not to be started.
    #[error("no address in {0}: add HOST:PORT, or start one with --start")]
    NoAddress(Rival),
    /// The host cannot be looked up.
    #[error("can't resolve {0}: {1}; write HOST:PORT with a name that this machine knows")]
    Resolve(String, String),
}

impl FromStr for Rival {
    type Err = RivalError;

    fn from_str(text: &str) -> Result<Self, RivalError> {
        let (scheme, address) = text.split_once("://").ok_or(RivalError::Form)?;
        let kind = match scheme {
            "redis" => RivalKind::Redis,
            "memcached" => RivalKind::Memcached,
            _ => return Err(RivalError::Form),
        };
        let address = address.trim_end_matches('/').to_owned();
        Ok(Self { kind, address })
    }
}

impl fmt::Display for Rival {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.kind.name(), self.address)
    }
}

impl Rival {
    /// The address of a server that runs: the first of the name's that accepts a connection, or else the first.
    pub(super) fn resolve(&self) -> Result<SocketAddr, RivalError> {
        if self.address.is_empty() {
            return Err(RivalError::NoAddress(self.clone()));
        }
        let failed = |error: &dyn fmt::Display| {
            let address = self.address.clone();
            RivalError::Resolve(address, error.to_string())
        };
        let all = self
            .address
            .to_socket_addrs()
            .map_err(|error| failed(&error))?;
        let all: Vec<SocketAddr> = all.collect();
        let listens = |at: &&SocketAddr| TcpStream::connect_timeout(at, CONNECT_PATIENCE).is_ok();
        let chosen = match &all[..] {
            [only] => Some(only),
            several => several.iter().find(listens).or_else(|| several.first()),
        };
        chosen
            .copied()
            .ok_or_else(|| failed(&"the name has no address"))
    }
}
