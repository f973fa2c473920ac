//! Addresses in the forms that sockets of one or both families use.

use std::net::{IpAddr, SocketAddr};

/// The addresses that a socket bound to `ours` can send to, in their plain form, IPv4 before IPv6.
pub(crate) fn usable(ours: SocketAddr, addresses: &[SocketAddr]) -> Vec<SocketAddr> {
    let plain = addresses.iter().copied().map(canonical);
    let is_usable = |address: &SocketAddr| match ours {
        SocketAddr::V4(_) => address.is_ipv4(),
        SocketAddr::V6(ours) => address.is_ipv6() || ours.ip().is_unspecified(),
    };
    let mut usable: Vec<SocketAddr> = plain.filter(is_usable).collect();
    usable.sort_by_key(SocketAddr::is_ipv6);
    usable
}

/// An address in its plain form: IPv4 also if a dual-stack socket shows it as IPv6.
pub(crate) fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        IpAddr::V4(v4) => SocketAddr::new(v4.into(), address.port()),
        // An IPv6 address stays as it is, with its scope.
        IpAddr::V6(_) => address,
    }
}

/// An IPv4 address in the form of a dual-stack socket.
pub(crate) fn mapped(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(v4) => (v4.ip().to_ipv6_mapped(), v4.port()).into(),
        v6 @ SocketAddr::V6(_) => v6,
    }
}
