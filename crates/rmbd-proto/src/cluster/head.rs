//! The head of a datagram: receiver and sender, before the frames.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::Boot;
use crate::reader::{ReadError, Reader};

const V4: u8 = 4;
const V6: u8 = 6;

/// The receiver and the sender of a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The receiver's boot; 0 where the sender does not know it.
    pub to_boot: Boot,
    /// The sender's node.
    pub node: u64,
    /// The address at which the sender can be reached.
    pub address: SocketAddr,
}

impl Head {
    /// Bytes of the longest head.
    pub const BYTES_MAX: usize = 8 + 8 + 1 + 16 + 2;

    /// Appends the head.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend(self.to_boot.0.to_le_bytes());
        out.extend(self.node.to_le_bytes());
        write_address(&self.address, out);
    }
}

/// Appends an address in the form that a head has. Flow label and scope of an IPv6 address are left out.
pub(super) fn write_address(address: &SocketAddr, out: &mut Vec<u8>) {
    match address.ip() {
        IpAddr::V4(ip) => {
            out.push(V4);
            out.extend(ip.octets());
        }
        IpAddr::V6(ip) => {
            out.push(V6);
            out.extend(ip.octets());
        }
    }
    out.extend(address.port().to_le_bytes());
}

/// Reads the head of a payload, and returns it with the bytes behind it; `None` if it is malformed.
#[must_use]
pub fn head(payload: &[u8]) -> Option<(Head, &[u8])> {
    let mut reader = Reader::new(payload);
    let head = reader.head().ok()?;
    Some((head, reader.rest()))
}

impl Reader<'_> {
    fn head(&mut self) -> Result<Head, ReadError> {
        Ok(Head {
            to_boot: Boot(self.u64()?),
            node: self.u64()?,
            address: self.address()?,
        })
    }

    pub(super) fn address(&mut self) -> Result<SocketAddr, ReadError> {
        let ip = match self.byte()? {
            V4 => IpAddr::V4(Ipv4Addr::from(self.array::<4>()?)),
            V6 => IpAddr::V6(Ipv6Addr::from(self.array::<16>()?)),
            _ => return Err(ReadError::Form),
        };
        Ok(SocketAddr::new(ip, self.u16()?))
    }
}
