//! The name or the addresses of a server.

use std::fmt;
use std::net::SocketAddr;

use rmbd_names::{AddressError, HostPort, LookupError, Resolver};

/// A server as a client is told it: `HOST:PORT`, which is looked up again when it falls silent, or addresses.
///
/// ```
/// use rmbd_client::Server;
///
/// let by_name = Server::from("counts.internal:8000");
/// let by_address = Server::from(std::net::SocketAddr::from(([127, 0, 0, 1], 8000)));
/// assert_eq!((by_name.to_string(), by_address.to_string()), (
///     "counts.internal:8000".to_owned(),
///     "127.0.0.1:8000".to_owned(),
/// ));
/// ```
#[derive(Debug, Clone)]
pub struct Server {
    name: Named,
    resolver: Resolver,
    first: Option<SocketAddr>,
}

#[derive(Debug, Clone)]
enum Named {
    Name(HostPort),
    Addresses(Vec<SocketAddr>),
    /// Told to whoever connects.
    Wrong(String, AddressError),
}

impl Server {
    /// Has a resolver of the program's own look the name up, instead of the system's.
    #[must_use]
    pub fn resolved_by(self, resolver: Resolver) -> Self {
        Self { resolver, ..self }
    }

    /// Tries this one of its addresses first.
    #[must_use]
    pub fn first_at(self, address: SocketAddr) -> Self {
        Self {
            first: Some(address),
            ..self
        }
    }

    /// All its addresses, in the order in which they are to be tried.
    pub(super) fn addresses(&self) -> Result<Vec<SocketAddr>, ServerError> {
        let addresses = match &self.name {
            Named::Name(name) => self.resolver.look_up(name)?,
            Named::Addresses(addresses) if addresses.is_empty() => {
                return Err(ServerError::NoAddress);
            }
            Named::Addresses(addresses) => addresses.clone(),
            Named::Wrong(text, error) => {
                return Err(ServerError::Address(text.clone(), error.clone()));
            }
        };
        Ok(self.in_order(addresses))
    }

    pub(super) fn in_order(&self, mut addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
        addresses.sort_by_key(|address| Some(*address) != self.first);
        let mut seen = Vec::new();
        addresses.retain(|address| {
            !seen.contains(address) && {
                seen.push(*address);
                true
            }
        });
        addresses
    }

    /// The name, and who looks it up; `None` where a look-up would give the same each time.
    pub(super) fn name(&self) -> Option<(&HostPort, &Resolver)> {
        match &self.name {
            Named::Name(name) if name.literal().is_none() => Some((name, &self.resolver)),
            _ => None,
        }
    }
}

/// Why a server has no address.
#[derive(Debug)]
pub(super) enum ServerError {
    Lookup(LookupError),
    NoAddress,
    Address(String, AddressError),
}

impl From<LookupError> for ServerError {
    fn from(error: LookupError) -> Self {
        Self::Lookup(error)
    }
}

impl From<HostPort> for Server {
    fn from(name: HostPort) -> Self {
        Self::of(Named::Name(name))
    }
}

impl From<&HostPort> for Server {
    fn from(name: &HostPort) -> Self {
        name.clone().into()
    }
}

impl From<&str> for Server {
    fn from(text: &str) -> Self {
        match HostPort::target(text) {
            Ok(name) => name.into(),
            Err(error) => Self::of(Named::Wrong(text.to_owned(), error)),
        }
    }
}

impl From<String> for Server {
    fn from(text: String) -> Self {
        text.as_str().into()
    }
}

impl From<&String> for Server {
    fn from(text: &String) -> Self {
        text.as_str().into()
    }
}

impl From<(&str, u16)> for Server {
    fn from((host, port): (&str, u16)) -> Self {
        let host = host.to_owned();
        HostPort { host, port }.into()
    }
}

impl From<SocketAddr> for Server {
    fn from(address: SocketAddr) -> Self {
        Self::of(Named::Addresses(vec![address]))
    }
}

impl From<&[SocketAddr]> for Server {
    fn from(addresses: &[SocketAddr]) -> Self {
        Self::of(Named::Addresses(addresses.to_vec()))
    }
}

impl Server {
    fn of(name: Named) -> Self {
        Self {
            name,
            resolver: Resolver::default(),
            first: None,
        }
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Named::Name(name) => name.fmt(f),
            Named::Wrong(text, _) => f.write_str(text),
            Named::Addresses(addresses) => {
                for (index, address) in addresses.iter().enumerate() {
                    let comma = if index == 0 { "" } else { ", " };
                    write!(f, "{comma}{address}")?;
                }
                Ok(())
            }
        }
    }
}
