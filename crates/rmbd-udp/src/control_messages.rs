//! Control messages (cmsg(3)), read and written as plain bytes. They carry the length of a train's segments
//! (`UDP_GRO`, `UDP_SEGMENT`: udp(7)), the kernel's count of drops (`SO_RXQ_OVFL`: socket(7)), and the local address
//! that the sender sent to (`IP_PKTINFO`: ip(7), `IPV6_PKTINFO`: ipv6(7)).

/// Bytes for all control messages that can come at once: 24 (GRO) + 24 (drops) + 40 (IPv6 packet info), and some to
/// spare. With too few the kernel would cut off the *segment length* as soon as it reports the first drop.
pub const CONTROL_BYTES: usize = 128;

const LENGTH_BYTES: usize = size_of::<usize>();
const HEADER_BYTES: usize = LENGTH_BYTES + 8;
const fn align(len: usize) -> usize {
    len.next_multiple_of(LENGTH_BYTES)
}

/// The control messages that came with a train.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ControlMessages {
    /// Bytes of each datagram but the last, if the kernel joined several.
    pub segment_bytes: Option<usize>,
    /// The socket's drops so far, modulo 2^32.
    pub drops: Option<u32>,
    /// The address of this machine to which the sender sent.
    pub local: Option<LocalAddress>,
}

/// An address of this machine that a reply must come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LocalAddress {
    /// An IPv4 address.
    V4([u8; 4]),
    /// An IPv6 address, and the number of the interface that has it.
    V6 {
        /// The address.
        ip: [u8; 16],
        /// The number of the interface; 0 stands for any.
        interface: u32,
    },
}

impl ControlMessages {
    /// Reads all known control messages. Unknown ones, and a malformed rest, are ignored.
    pub fn parse(mut control: &[u8]) -> Self {
        let mut found = Self::default();
        while let Some((level, kind, data, rest)) = next_message(control) {
            found.take(level, kind, data);
            control = rest;
        }
        found
    }

    fn take(&mut self, level: i32, kind: i32, data: &[u8]) {
        match (level, kind) {
            (libc::SOL_UDP, libc::UDP_GRO) => {
                self.segment_bytes = i32_at(data, 0).and_then(|n| usize::try_from(n).ok());
            }
            (libc::SOL_SOCKET, libc::SO_RXQ_OVFL) => {
                self.drops = i32_at(data, 0).map(|n| n as u32);
            }
            (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                // struct in_pktinfo: interface, local address, destination address
                self.local = data
                    .get(4..8)
                    .and_then(|ip| Some(LocalAddress::V4(ip.try_into().ok()?)));
            }
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                // struct in6_pktinfo: destination address, interface
                self.local = data.get(..16).and_then(|ip| {
                    Some(LocalAddress::V6 {
                        ip: ip.try_into().ok()?,
                        interface: i32_at(data, 16)? as u32,
                    })
                });
            }
            _ => {}
        }
    }
}

fn next_message(control: &[u8]) -> Option<(i32, i32, &[u8], &[u8])> {
    let header = control.get(..HEADER_BYTES)?;
    let mut len = [0; LENGTH_BYTES];
    len.copy_from_slice(&header[..LENGTH_BYTES]);
    let len = usize::from_ne_bytes(len);
    let level = i32_at(header, LENGTH_BYTES)?;
    let kind = i32_at(header, LENGTH_BYTES + 4)?;
    let data = control.get(HEADER_BYTES..len)?;
    let rest = control.get(align(len)..).unwrap_or_default();
    Some((level, kind, data, rest))
}

fn i32_at(bytes: &[u8], at: usize) -> Option<i32> {
    Some(i32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// Writes the control messages of a send: the length of its segments if there are several, and the address that it
/// comes from. Returns how many bytes they take, 0 if none is needed.
pub fn write_control_messages(
    segment_bytes: Option<u16>,
    local: Option<LocalAddress>,
    out: &mut [u8; CONTROL_BYTES],
) -> usize {
    let mut at = 0;
    if let Some(bytes) = segment_bytes {
        at = append(
            out,
            at,
            libc::SOL_UDP,
            libc::UDP_SEGMENT,
            &bytes.to_ne_bytes(),
        );
    }
    match local {
        Some(LocalAddress::V4(ip)) => {
            let mut info = [0; 12];
            info[4..8].copy_from_slice(&ip);
            at = append(out, at, libc::IPPROTO_IP, libc::IP_PKTINFO, &info);
        }
        Some(LocalAddress::V6 { ip, interface }) => {
            let mut info = [0; 20];
            info[..16].copy_from_slice(&ip);
            // Only a link-local address needs its interface; otherwise the kernel chooses the route.
            if ip[0] == 0xfe && ip[1] & 0xc0 == 0x80 {
                info[16..].copy_from_slice(&interface.to_ne_bytes());
            }
            at = append(out, at, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &info);
        }
        None => {}
    }
    at
}

fn append(out: &mut [u8; CONTROL_BYTES], at: usize, level: i32, kind: i32, data: &[u8]) -> usize {
    let len = HEADER_BYTES + data.len();
    let message = &mut out[at..at + align(len)];
    message.fill(0);
    message[..LENGTH_BYTES].copy_from_slice(&len.to_ne_bytes());
    message[LENGTH_BYTES..LENGTH_BYTES + 4].copy_from_slice(&level.to_ne_bytes());
    message[LENGTH_BYTES + 4..HEADER_BYTES].copy_from_slice(&kind.to_ne_bytes());
    message[HEADER_BYTES..len].copy_from_slice(data);
    at + align(len)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_is_built_is_read_back() {
        let mut out = [0xff; CONTROL_BYTES];
        let v6 = LocalAddress::V6 {
            ip: [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
            interface: 9,
        };
        for local in [None, Some(LocalAddress::V4([10, 0, 0, 1])), Some(v6)] {
            let len = write_control_messages(None, local, &mut out);
            assert_eq!(ControlMessages::parse(&out[..len]).local, local);
        }
    }

    #[test]
    fn all_messages_at_once_fit_and_are_read() {
        let mut out = [0; CONTROL_BYTES];
        let mut at = append(
            &mut out,
            0,
            libc::SOL_SOCKET,
            libc::SO_RXQ_OVFL,
            &7u32.to_ne_bytes(),
        );
        at = append(
            &mut out,
            at,
            libc::IPPROTO_IPV6,
            libc::IPV6_PKTINFO,
            &[1; 20],
        );
        at = append(
            &mut out,
            at,
            libc::SOL_UDP,
            libc::UDP_GRO,
            &141i32.to_ne_bytes(),
        );
        let found = ControlMessages::parse(&out[..at]);
        assert_eq!(found.segment_bytes, Some(141));
        assert_eq!(found.drops, Some(7));
        assert!(matches!(
            found.local,
            Some(LocalAddress::V6 {
                interface: 0x0101_0101,
                ..
            })
        ));
    }

    #[test]
    fn cut_and_nonsensical_control_bytes_are_harmless() {
        let mut out = [0; CONTROL_BYTES];
        let len = append(
            &mut out,
            0,
            libc::SOL_UDP,
            libc::UDP_GRO,
            &141i32.to_ne_bytes(),
        );
        for cut in 0..len {
            let found = ControlMessages::parse(&out[..cut]);
            assert!(found.segment_bytes.is_none() || cut >= HEADER_BYTES + 4);
        }
        for byte in 0..=255 {
            ControlMessages::parse(&[byte; CONTROL_BYTES]);
        }
        let mut huge = [0; CONTROL_BYTES];
        huge[..LENGTH_BYTES].copy_from_slice(&usize::MAX.to_ne_bytes());
        assert_eq!(ControlMessages::parse(&huge), ControlMessages::default());
        assert_eq!(
            ControlMessages::parse(&[0; CONTROL_BYTES]),
            ControlMessages::default()
        );
    }
}
