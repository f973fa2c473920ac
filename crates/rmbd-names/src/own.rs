//! The address that a name of this machine stands for.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};

/// An address of this machine that cannot be looked up.
#[derive(Debug, thiserror::Error)]
#[error("can't resolve {address}: {source}; give HOST:PORT with a name that this machine knows")]
pub struct Unresolved {
    /// As it was given.
    pub address: String,
    /// What the resolver said.
    pub source: io::Error,
}

/// Where to bind for `HOST:PORT`: the first IPv4 address of the name, as the Python program has only that, and else its
/// first IPv6 one. The system's resolver is asked, and waited for.
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
