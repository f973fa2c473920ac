//! What stands before the frames.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::Reader;

const V4: u8 = 4;
const V6: u8 = 6;

/// Whom a datagram is for, and whom it is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The receiver's boot; 0 where the sender does not know it.
    pub to_boot: u64,
    /// The sender's node.
    pub node: u64,
    /// Where the sender is to be reached.
    pub address: SocketAddr,
}

impl Head {
    /// Bytes of the longest head.
    pub const BYTES_MAX: usize = 8 + 8 + 1 + 16 + 2;

    /// Appends the head.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend(self.to_boot.to_le_bytes());
        out.extend(self.node.to_le_bytes());
        match self.address.ip() {
            IpAddr::V4(ip) => {
                out.push(V4);
                out.extend(ip.octets());
            }
            IpAddr::V6(ip) => {
                out.push(V6);
                out.extend(ip.octets());
            }
        }
        out.extend(self.address.port().to_le_bytes());
    }
}

/// Reads the head of a payload, and gives what comes behind it; `None` where it is malformed.
#[must_use]
pub fn head(payload: &[u8]) -> Option<(Head, &[u8])> {
    let mut reader = Reader { rest: payload };
    let (to_boot, node) = (reader.u64()?, reader.u64()?);
    let ip = match reader.byte()? {
        V4 => IpAddr::V4(Ipv4Addr::from(reader.array::<4>()?)),
        V6 => IpAddr::V6(Ipv6Addr::from(reader.array::<16>()?)),
        _ => return None,
    };
    let address = SocketAddr::new(ip, reader.u16()?);
    let head = Head {
        to_boot,
        node,
        address,
    };
    Some((head, reader.rest))
}
