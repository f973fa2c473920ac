//! The address form `HOST:PORT`.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use thiserror::Error;

/// A host and a port, as they were written. Nothing is looked up.
///
/// ```
/// use rmbd_names::HostPort;
///
/// let address: HostPort = "[::1]:8000".parse()?;
/// assert_eq!((address.host.as_str(), address.port), ("::1", 8000));
/// assert_eq!(address.to_string(), "[::1]:8000");
/// # Ok::<(), rmbd_names::AddressError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPort {
    /// A name, an IPv4 address, or an IPv6 address without its brackets.
    pub host: String,
    /// The port. Port 0 asks for a free one where a program listens.
    pub port: u16,
}

/// Why a text is not a valid `HOST:PORT`.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AddressError {
    /// There is no colon.
    #[error("no port: write HOST:PORT, such as 127.0.0.1:8000")]
    NoPort,
    /// There is nothing before the colon.
    #[error(
        "no host: write HOST:PORT, such as 127.0.0.1:8000, or 0.0.0.0:8000 for every interface"
    )]
    NoHost,
    /// The port is not a number up to 65 535.
    #[error("{0:?} is not a port: use a number from 0 to 65535")]
    Port(String),
    /// An IPv6 address has no brackets.
    #[error("an IPv6 address stands in brackets: [::1]:8000")]
    Brackets,
    /// The brackets do not hold an IPv6 address.
    #[error("{0:?} is not an IPv6 address")]
    Ipv6(String),
    /// The port is 0, and the address is one to connect to.
    #[error("port 0 cannot be reached: use the port that the server printed when it was ready")]
    PortZero,
}

impl HostPort {
    /// Reads the address of a server: like [`FromStr`], but port 0 is refused.
    ///
    /// # Errors
    /// Fails if the text is not `HOST:PORT` with a port from 1 to 65 535.
    pub fn target(text: &str) -> Result<Self, AddressError> {
        let target: Self = text.parse()?;
        match target.port {
            0 => Err(AddressError::PortZero),
            _ => Ok(target),
        }
    }
}

impl FromStr for HostPort {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        if text.parse::<Ipv6Addr>().is_ok() {
            return Err(AddressError::Brackets);
        }
        let (host, port) = text.rsplit_once(':').ok_or(AddressError::NoPort)?;
        let host = match host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
            Some(v6) => {
                // The resolver checks a zone (`fe80::1%eth0`).
                let (address, _) = v6.split_once('%').unwrap_or((v6, ""));
                let valid = address.parse::<Ipv6Addr>().is_ok();
                valid
                    .then_some(v6)
                    .ok_or_else(|| AddressError::Ipv6(v6.to_owned()))?
            }
            None if host.starts_with('[') => return Err(AddressError::NoPort),
            None if host.contains(':') => return Err(AddressError::Brackets),
            None => host,
        };
        if host.is_empty() {
            return Err(AddressError::NoHost);
        }
        // The digits are checked, since `parse` would accept a sign.
        let digits = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
        let port = port
            .parse()
            .ok()
            .filter(|_| digits)
            .ok_or_else(|| AddressError::Port(port.to_owned()))?;
        Ok(Self {
            host: host.to_owned(),
            port,
        })
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') {
            write!(f, "[{host}]:{port}")
        } else {
            write!(f, "{host}:{port}")
        }
    }
}
