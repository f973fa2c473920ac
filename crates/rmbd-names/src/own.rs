//! Addresses of this machine by their names.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};

/// The error for an address of this machine that cannot be looked up.
#[derive(Debug, thiserror::Error)]
#[error("can't resolve {address}: {source}; give HOST:PORT with a name that this machine knows")]
pub struct Unresolved {
    /// The address as it was given.
    pub address: String,
    /// The resolver's error.
    pub source: io::Error,
}

/// The address to bind for `HOST:PORT`. It is the first IPv4 address of the name, since the Python program has only
/// IPv4, or else its first IPv6 address. The system's resolver is asked, and this waits for it.
///
/// # Errors
/// [`Unresolved`].
pub fn resolve(address: &str) -> Result<SocketAddr, Unresolved> {
    let failed = |source| Unresolved {
        address: address.to_owned(),
        source,
    };
    let all: Vec<SocketAddr> = address.to_socket_addrs().map_err(failed)?.collect();
    let v4 = all.iter().find(|address| address.is_ipv4());
    let none = || failed(io::Error::other("the name has no address"));
    v4.or_else(|| all.first()).copied().ok_or_else(none)
}
