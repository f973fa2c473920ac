//! Socket addresses in the kernel's layout, read and written as plain bytes.
//!
//! Layouts: `sockaddr_in` (ip(7)) and `sockaddr_in6` (ipv6(7)).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// Bytes of the larger of the two, `sockaddr_in6`: enough for any sender's name.
pub const NAME_BYTES: usize = 28;
const NAME_BYTES_V4: usize = 16;

/// An address as the kernel wrote it, kept so that a reply goes back to exactly there. The default is no address at
/// all and has no bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RawAddress {
    bytes: [u8; NAME_BYTES],
    len: u8,
}

impl RawAddress {
    /// Copies the address that the kernel wrote. Returns `None` for a family other than IPv4 and IPv6, or for fewer
    /// bytes than the family has.
    pub fn from_kernel(name: &[u8]) -> Option<Self> {
        let family = u16::from_ne_bytes([*name.first()?, *name.get(1)?]);
        let len = match i32::from(family) {
            libc::AF_INET => NAME_BYTES_V4,
            libc::AF_INET6 => NAME_BYTES,
            _ => return None,
        };
        let mut bytes = [0; NAME_BYTES];
        bytes[..len].copy_from_slice(name.get(..len)?);
        Some(Self {
            bytes,
            len: len as u8,
        })
    }

    /// The address in the kernel's layout: 16 bytes for IPv4, 28 for IPv6.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    /// The same address in the form of the standard library.
    pub fn to_socket_addr(self) -> SocketAddr {
        let b = &self.bytes;
        let port = u16::from_be_bytes([b[2], b[3]]);
        if usize::from(self.len) == NAME_BYTES_V4 {
            return SocketAddr::new(IpAddr::V4(Ipv4Addr::new(b[4], b[5], b[6], b[7])), port);
        }
        let mut ip = [0; 16];
        ip.copy_from_slice(&b[8..24]);
        let flow = u32::from_be_bytes([b[4], b[5], b[6], b[7]]);
        let scope = u32::from_ne_bytes([b[24], b[25], b[26], b[27]]);
        SocketAddr::V6(SocketAddrV6::new(Ipv6Addr::from(ip), port, flow, scope))
    }
}

impl From<SocketAddr> for RawAddress {
    fn from(address: SocketAddr) -> Self {
        match address {
            SocketAddr::V4(v4) => Self::from_v4(&v4),
            SocketAddr::V6(v6) => Self::from_v6(&v6),
        }
    }
}

impl RawAddress {
    fn from_v4(v4: &SocketAddrV4) -> Self {
        let mut bytes = [0; NAME_BYTES];
        bytes[0..2].copy_from_slice(&(libc::AF_INET as u16).to_ne_bytes());
        bytes[2..4].copy_from_slice(&v4.port().to_be_bytes());
        bytes[4..8].copy_from_slice(&v4.ip().octets());
        Self {
            bytes,
            len: NAME_BYTES_V4 as u8,
        }
    }

    fn from_v6(v6: &SocketAddrV6) -> Self {
        let mut bytes = [0; NAME_BYTES];
        bytes[0..2].copy_from_slice(&(libc::AF_INET6 as u16).to_ne_bytes());
        bytes[2..4].copy_from_slice(&v6.port().to_be_bytes());
        bytes[4..8].copy_from_slice(&v6.flowinfo().to_be_bytes());
        bytes[8..24].copy_from_slice(&v6.ip().octets());
        bytes[24..28].copy_from_slice(&v6.scope_id().to_ne_bytes());
        Self {
            bytes,
            len: NAME_BYTES as u8,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn addresses_survive_the_round_trip() {
        for text in [
            "127.0.0.1:8000",
            "[::1]:65535",
            "[fe80::1%7]:1",
            "0.0.0.0:0",
        ] {
            let address: SocketAddr = text.parse().unwrap();
            let raw = RawAddress::from(address);
            assert_eq!(raw.to_socket_addr(), address);
            assert_eq!(RawAddress::from_kernel(raw.bytes()), Some(raw));
        }
    }

    #[test]
    fn the_bytes_are_the_kernels() {
        // socket2 fills the same structures through libc's definitions.
        for text in ["10.1.2.3:4567", "[2001:db8::5]:89"] {
            let address: SocketAddr = text.parse().unwrap();
            let theirs = socket2::SockAddr::from(address);
            assert_eq!(
                theirs.len() as usize,
                RawAddress::from(address).bytes().len()
            );
            let back = RawAddress::from(theirs.as_socket().unwrap());
            assert_eq!(back, RawAddress::from(address));
        }
    }

    #[test]
    fn foreign_or_short_names_are_refused() {
        let v4 = RawAddress::from("1.2.3.4:5".parse::<SocketAddr>().unwrap());
        assert_eq!(RawAddress::from_kernel(&[]), None);
        assert_eq!(RawAddress::from_kernel(&v4.bytes()[..15]), None);
        assert_eq!(RawAddress::from_kernel(&[1, 0, 0, 0]), None);
    }
}
