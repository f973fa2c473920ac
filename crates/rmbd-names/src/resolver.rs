//! The resolver, which turns names into addresses.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;

use thiserror::Error;

use super::HostPort;

/// Number of addresses of one name that are kept. A headless service has one for each node, and some are enough.
pub const ADDRESSES_MAX: usize = 64;

/// The error of a look-up.
#[derive(Debug, Clone, Error)]
#[error("cannot look up {name}: {source}")]
pub struct LookupError {
    /// The name, as it was given.
    pub name: HostPort,
    /// The resolver's error.
    pub source: Arc<io::Error>,
}

impl LookupError {
    pub(super) fn new(name: &HostPort, source: io::Error) -> Self {
        Self {
            name: name.clone(),
            source: Arc::new(source),
        }
    }

    /// Whether two errors are about the same name and say the same.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.name == other.name && self.source.to_string() == other.source.to_string()
    }
}

/// A function that looks names up in place of the system's resolver.
type LookUp = dyn Fn(&HostPort) -> io::Result<Vec<SocketAddr>> + Send + Sync;

/// Turns names into addresses, by the system's resolver or by a function of the program.
///
/// ```
/// use rmbd_names::{HostPort, Resolver};
///
/// let name: HostPort = "counts.internal:8000".parse()?;
/// let ours = Resolver::new(|name| Ok(vec![([127, 0, 0, 7], name.port).into()]));
/// assert_eq!(ours.look_up(&name)?, [([127, 0, 0, 7], 8000).into()]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Default)]
pub struct Resolver(Option<Arc<LookUp>>);

impl Resolver {
    /// A resolver that calls `look_up`, from any thread, perhaps several at a time.
    pub fn new(
        look_up: impl Fn(&HostPort) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static,
    ) -> Self {
        Self(Some(Arc::new(look_up)))
    }

    /// The addresses of a name, each once, in the resolver's order; at most [`ADDRESSES_MAX`]. If the host is an
    /// address, that is the result, and no resolver is asked.
    ///
    /// # Errors
    /// The resolver's error, or that the name has no address.
    pub fn look_up(&self, name: &HostPort) -> Result<Vec<SocketAddr>, LookupError> {
        if let Some(address) = name.literal() {
            return Ok(vec![address]);
        }
        let found = match &self.0 {
            Some(look_up) => look_up(name),
            None => (name.host.as_str(), name.port)
                .to_socket_addrs()
                .map(Iterator::collect),
        };
        let found = found.map_err(|source| LookupError::new(name, source))?;
        let mut addresses = Vec::new();
        for address in found {
            if addresses.len() < ADDRESSES_MAX && !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        if addresses.is_empty() {
            let none = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
            return Err(LookupError::new(name, none));
        }
        Ok(addresses)
    }
}

impl HostPort {
    /// The error of a look-up of this name that failed for another reason than the resolver's answer.
    #[must_use]
    pub fn failed(&self, source: io::Error) -> LookupError {
        LookupError::new(self, source)
    }

    /// The address, if the host is written as one.
    #[must_use]
    pub fn literal(&self) -> Option<SocketAddr> {
        let ip = self.host.parse::<IpAddr>().ok()?;
        Some(SocketAddr::new(ip, self.port))
    }
}

/// Two resolvers are equal if both are the system's, or clones of one.
impl PartialEq for Resolver {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (None, None) => true,
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            _ => false,
        }
    }
}

impl Eq for Resolver {}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whose = if self.0.is_some() { "own" } else { "system" };
        f.debug_tuple("Resolver").field(&whose).finish()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn name(text: &str) -> HostPort {
        text.parse().unwrap()
    }

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_is_its_own_answer() {
        let nobody = Resolver::new(|_| panic!("asked"));
        for text in ["127.0.0.1:7", "[::1]:7", "[2001:db8::7]:65535"] {
            assert_eq!(nobody.look_up(&name(text)).unwrap(), [address(text)]);
        }
        assert_eq!(name("localhost:7").literal(), None);
        assert_eq!(name("[fe80::1%lo]:7").literal(), None);
    }

    #[test]
    fn each_address_is_given_once_and_not_too_many() {
        let many = Resolver::new(|name| {
            let hosts = (0..=u8::MAX).chain(0..=u8::MAX);
            Ok(hosts.map(|n| ([10, 0, 0, n], name.port).into()).collect())
        });
        let found = many.look_up(&name("many:7")).unwrap();
        assert_eq!(found.len(), ADDRESSES_MAX);
        assert_eq!(found[63], address("10.0.0.63:7"));
    }

    #[test]
    fn errors_name_the_name() {
        let text = (Resolver::default().look_up(&name("no.such.host.invalid:7")))
            .unwrap_err()
            .to_string();
        assert!(text.contains("no.such.host.invalid:7"), "{text}");
        let nothing = Resolver::new(|_| Ok(Vec::new()));
        let text = nothing.look_up(&name("empty:7")).unwrap_err().to_string();
        assert_eq!(text, "cannot look up empty:7: the name has no address");
    }
}
