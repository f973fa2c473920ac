//! Addresses: which of a name's a socket can send to, and which are our own.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs, UdpSocket};

/// The first address that our socket can send to; for a name, IPv4 before IPv6, as the Python
/// program has only that.
pub(super) fn resolve(
    (host, port): &(String, u16),
    ours: SocketAddr,
) -> Result<SocketAddr, String> {
    let usable = usable_by(ours, (host, *port))
        .map_err(|error| format!("{host} can't be resolved: {error}"))?;
    let address = usable.first().map(|&address| as_sent_by(ours, address));
    address.ok_or_else(|| format!("{host} has no address that {ours} can send to"))
}

/// A name's addresses that a socket bound to `ours` can send to, IPv4 before IPv6, in their plain form.
pub(in crate::node) fn usable_by(
    ours: SocketAddr,
    (host, port): (&str, u16),
) -> std::io::Result<Vec<SocketAddr>> {
    let addresses = (host, port).to_socket_addrs()?;
    let plain = addresses.map(canonical);
    let is_usable = |address: &SocketAddr| match ours {
        SocketAddr::V4(_) => address.is_ipv4(),
        SocketAddr::V6(ours) => address.is_ipv6() || ours.ip().is_unspecified(),
    };
    let mut usable: Vec<SocketAddr> = plain.filter(is_usable).collect();
    usable.sort_by_key(SocketAddr::is_ipv6);
    Ok(usable)
}

/// An IPv4 address in its own form, however a dual-stack socket shows it.
pub(in crate::node) fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        IpAddr::V4(v4) => SocketAddr::new(v4.into(), address.port()),
        // As it is, with its scope.
        IpAddr::V6(_) => address,
    }
}

/// An address in the form that a socket bound to `ours` takes.
fn as_sent_by(ours: SocketAddr, address: SocketAddr) -> SocketAddr {
    match ours {
        SocketAddr::V4(_) => address,
        SocketAddr::V6(_) => mapped(address),
    }
}

/// An IPv4 address as a dual-stack socket knows it.
pub(in crate::node) fn mapped(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(v4) => (v4.ip().to_ipv6_mapped(), v4.port()).into(),
        v6 @ SocketAddr::V6(_) => v6,
    }
}

/// Our own port on one of our addresses. Which those are tells the kernel: only they can be bound.
pub(super) fn is_ourselves(peer: SocketAddr, ours: SocketAddr) -> bool {
    if peer.port() != ours.port() {
        return false;
    }
    let (ip, our_ip) = (peer.ip().to_canonical(), ours.ip().to_canonical());
    // Only where it cannot be an address of ours: a bind fails for want of files, too.
    let is_foreign = |error: std::io::Error| error.kind() == ErrorKind::AddrNotAvailable;
    ip == our_ip || (our_ip.is_unspecified() && !UdpSocket::bind((ip, 0)).is_err_and(is_foreign))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn targets_are_resolved_to_what_our_socket_can_send_to() {
        let of = |host: &str, ours: &str| resolve(&(host.to_owned(), 9), address(ours));
        assert_eq!(of("127.0.0.1", "127.0.0.1:1"), Ok(address("127.0.0.1:9")));
        assert_eq!(
            of("127.0.0.1", "[::]:1"),
            Ok(address("[::ffff:127.0.0.1]:9"))
        );
        assert_eq!(of("::1", "[::1]:1"), Ok(address("[::1]:9")));
        assert_eq!(of("localhost", "0.0.0.0:1"), Ok(address("127.0.0.1:9")));
        assert!(
            of("::1", "127.0.0.1:1")
                .unwrap_err()
                .contains("can send to")
        );
        assert!(
            of("no such host", "127.0.0.1:1")
                .unwrap_err()
                .contains("resolved")
        );
    }

    #[test]
    fn our_own_address_is_known_in_all_its_forms() {
        for (peer, ours, expected) in [
            ("127.0.0.1:8000", "127.0.0.1:8000", true),
            ("127.0.0.1:8001", "127.0.0.1:8000", false),
            ("127.0.0.2:8000", "127.0.0.1:8000", false),
            ("127.0.0.2:8000", "0.0.0.0:8000", true),
            ("192.0.2.7:8000", "0.0.0.0:8000", false),
            ("[::ffff:127.0.0.1]:8000", "[::]:8000", true),
            ("[::1]:8000", "[::]:8000", true),
        ] {
            assert_eq!(
                is_ourselves(address(peer), address(ours)),
                expected,
                "{peer} {ours}"
            );
        }
    }
}
