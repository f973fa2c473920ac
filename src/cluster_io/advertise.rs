//! The address that a node tells other nodes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use tracing::warn;

use super::ClusterError;
use crate::config::ClusterConfig;
use rmbd_names::Lookups;

/// How long the start waits for a name to be looked up; after that it goes on without.
const START_PATIENCE: Duration = Duration::from_secs(5);

/// The address to begin with. It is `None` while the name that gives it cannot be looked up; until then no other node
/// hears of this one.
pub(super) fn at_start(
    config: &ClusterConfig,
    lookups: &Lookups,
    bound: SocketAddr,
) -> Result<Option<SocketAddr>, ClusterError> {
    let names = match &config.advertise {
        Some(name) => std::slice::from_ref(name),
        None if bound.ip().is_unspecified() => &config.join[..],
        None => return checked(bound, bound).map(Some),
    };
    let (mut found, mut error) = (Vec::new(), None);
    for name in names {
        match lookups.within(name, START_PATIENCE) {
            Ok(addresses) => found.extend(addresses),
            Err(unknown) => error = error.or(Some(unknown)),
        }
    }
    let chosen = match config.advertise {
        Some(_) if found.is_empty() => None,
        Some(_) => Some(of_name(&found, None, bound)?),
        None => towards(&found, bound),
    };
    match (chosen, error) {
        (None, Some(error)) => {
            warn!(
                "{error}; other nodes hear of this one when it is known at which address they reach it"
            );
            Ok(None)
        }
        (None, None) => Err(ClusterError::NoAdvertise(bound)),
        (chosen, _) => Ok(chosen),
    }
}

/// Chooses among the addresses of `--advertise`: the one that is told already, or else the first by which other nodes
/// can reach the socket.
pub(super) fn of_name(
    addresses: &[SocketAddr],
    told: Option<SocketAddr>,
    bound: SocketAddr,
) -> Result<SocketAddr, ClusterError> {
    let mut all = addresses.iter().map(|&address| checked(address, bound));
    let mut good: Vec<SocketAddr> = all.clone().flatten().collect();
    // IPv4 comes first, as everywhere. A socket of both families may be told as either.
    good.sort_by_key(SocketAddr::is_ipv6);
    let still = told.filter(|told| good.contains(told));
    match still.or_else(|| good.first().copied()) {
        Some(address) => Ok(address),
        None => all.next().unwrap_or(Err(ClusterError::NoAdvertise(bound))),
    }
}

/// The address of ours from which the first of the seeds is reached.
pub(super) fn towards(seeds: &[SocketAddr], bound: SocketAddr) -> Option<SocketAddr> {
    let ip = seeds.iter().find_map(|&seed| source_towards(seed, bound));
    let address = ip.map(|ip| SocketAddr::new(ip, 0))?;
    checked(address, bound).ok()
}

/// Checks an address, and sets the bound port if it has none.
fn checked(mut address: SocketAddr, bound: SocketAddr) -> Result<SocketAddr, ClusterError> {
    address.set_ip(address.ip().to_canonical());
    if address.port() == 0 {
        address.set_port(bound.port());
    }
    let ip = address.ip();
    if ip.is_unspecified() || ip.is_multicast() || ip == Ipv4Addr::BROADCAST {
        return Err(ClusterError::Advertise(address));
    }
    let speaks_both = bound.is_ipv6() && bound.ip().is_unspecified();
    if !speaks_both && address.is_ipv4() != is_ipv4(bound) {
        let told = address;
        return Err(ClusterError::AdvertiseFamily { told, bound });
    }
    Ok(address)
}

/// Whether an address is IPv4, perhaps in its IPv6-mapped form.
fn is_ipv4(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_ipv4()
}

/// The address of ours that the kernel would send from (connect(2) of a UDP socket sends nothing).
fn source_towards(seed: SocketAddr, bound: SocketAddr) -> Option<IpAddr> {
    if bound.is_ipv4() && seed.is_ipv6() {
        return None;
    }
    let any: IpAddr = match seed {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect(seed).ok()?;
    let ip = socket.local_addr().ok()?.ip();
    (!ip.is_unspecified()).then_some(ip)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn all(text: &[&str]) -> Vec<SocketAddr> {
        text.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn of_a_names_addresses_one_is_told_that_the_socket_speaks_and_it_stays() {
        let both = all(&["[2001:db8::7]:0", "192.0.2.8:0", "192.0.2.7:0"]);
        for (bound, told, expected) in [
            ("0.0.0.0:77", None, "192.0.2.8:77"),
            ("0.0.0.0:77", Some("192.0.2.7:77"), "192.0.2.7:77"),
            ("0.0.0.0:77", Some("192.0.2.6:77"), "192.0.2.8:77"),
            ("[::1]:77", None, "[2001:db8::7]:77"),
            ("[::]:77", None, "192.0.2.8:77"),
            ("[::]:77", Some("[2001:db8::7]:77"), "[2001:db8::7]:77"),
        ] {
            let bound = bound.parse().unwrap();
            let told = told.map(|told| told.parse().unwrap());
            let chosen = of_name(&both, told, bound).unwrap();
            assert_eq!(chosen, expected.parse().unwrap(), "{bound} {told:?}");
        }
        let bound = "127.0.0.1:77".parse().unwrap();
        let text = of_name(&both[..1], None, bound).unwrap_err().to_string();
        assert!(text.contains("the other of IPv4 and IPv6"), "{text}");
    }
}
