//! Addresses of peers: the form that our socket takes, and the check for our own.

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};

use crate::cluster_io::mapped;

/// An address in the form that a socket bound to `ours` takes.
pub(super) fn as_sent_by(ours: SocketAddr, address: SocketAddr) -> SocketAddr {
    match ours {
        SocketAddr::V4(_) => address,
        SocketAddr::V6(_) => mapped(address),
    }
}

/// Whether an address is our own port on one of our addresses. The kernel tells which these are: only they can be
/// bound.
pub(super) fn is_ourselves(peer: SocketAddr, ours: SocketAddr) -> bool {
    if peer.port() != ours.port() {
        return false;
    }
    let (ip, our_ip) = (peer.ip().to_canonical(), ours.ip().to_canonical());
    // Only this error means that the address is not ours: a bind also fails for want of files.
    let is_foreign = |error: std::io::Error| error.kind() == ErrorKind::AddrNotAvailable;
    ip == our_ip || (our_ip.is_unspecified() && !UdpSocket::bind((ip, 0)).is_err_and(is_foreign))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::cluster_io::usable;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn of_a_names_addresses_those_are_usable_that_our_socket_can_send_to() {
        let all = ["[::1]:9", "127.0.0.1:9", "[::ffff:127.0.0.2]:9"].map(address);
        let (v4, v6) = (["127.0.0.1:9", "127.0.0.2:9"], "[::1]:9");
        let [one, two] = v4.map(address);
        assert_eq!(usable(address("127.0.0.1:1"), &all), [one, two]);
        assert_eq!(usable(address("[::1]:1"), &all), [address(v6)]);
        assert_eq!(usable(address("[::]:1"), &all), [one, two, address(v6)]);
        let sent = as_sent_by(address("[::]:1"), one);
        assert_eq!(sent, address("[::ffff:127.0.0.1]:9"));
        assert_eq!(as_sent_by(address("0.0.0.0:1"), one), one);
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
