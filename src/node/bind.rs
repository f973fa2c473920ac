//! The addresses of a node for clients, bound for datagrams and for HTTP.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use tracing::warn;

use super::NodeError;
use crate::config::{HostPort, HttpChoice, NodeConfig};
use crate::fronts::http::Hosts;
use rmbd_io::{BindError, DataSocket, SocketOptions, bind_group};
use rmbd_names::{Unresolved, resolve};

/// Number of attempts to find a port that is free for both UDP and HTTP, where port 0 was asked for.
const FREE_PORT_TRIES: usize = 32;
/// How long an address in use may be a remainder of a killed process.
const RING_LINGERS: Duration = Duration::from_secs(1);
const BIND_AGAIN: Duration = Duration::from_millis(10);

/// The bound addresses of the node for clients.
pub(super) struct Bound {
    /// One socket for each data thread, all of one address.
    pub(super) sockets: Vec<DataSocket>,
    pub(super) http: Option<TcpListener>,
}

/// Binds the addresses for clients.
///
/// # Errors
/// Fails if one of them cannot be looked up or bound.
pub(super) fn bind(config: &NodeConfig, threads: usize) -> Result<Bound, NodeError> {
    let address = resolve(&config.address)?;
    let options = SocketOptions {
        receive_buffer_bytes: config.receive_buffer_bytes,
    };
    let mut tries = 0;
    loop {
        let sockets = patiently(|| bind_group(address, threads, options))?;
        let Some(http) = http_address(config, sockets[0].local_addr())? else {
            return Ok(Bound {
                sockets,
                http: None,
            });
        };
        tries += 1;
        match listen(http) {
            Ok(listener) => {
                return Ok(Bound {
                    sockets,
                    http: Some(listener),
                });
            }
            // The kernel chose a port that is free for UDP; another program has it for TCP.
            Err(_) if address.port() == 0 && http.port() != 0 && tries < FREE_PORT_TRIES => {}
            Err(source) => {
                return Err(NodeError::Http {
                    address: http,
                    source,
                });
            }
        }
    }
}

/// Binds, and tries again for a while if the address is in use. A ring holds its sockets until the kernel has taken
/// it down, tens of milliseconds after its process was killed, so a node that is started again at once finds its own
/// address in use.
pub(super) fn patiently<T>(bind: impl Fn() -> Result<T, BindError>) -> Result<T, BindError> {
    let start = Instant::now();
    loop {
        match bind() {
            Err(BindError::InUse(_)) if start.elapsed() < RING_LINGERS => {
                std::thread::sleep(BIND_AGAIN);
            }
            outcome => return outcome,
        }
    }
}

fn http_address(config: &NodeConfig, udp: SocketAddr) -> Result<Option<SocketAddr>, NodeError> {
    match &config.http {
        HttpChoice::Off => Ok(None),
        HttpChoice::SameAsUdp => Ok(Some(udp)),
        HttpChoice::At(address) => Ok(Some(resolve(address)?)),
    }
}

/// The names that the configuration gives to this node, and the host's own name.
pub(super) fn http_hosts(config: &NodeConfig) -> Hosts {
    let http = match &config.http {
        HttpChoice::At(address) => address.parse::<HostPort>().ok(),
        _ => None,
    };
    let client = config.address.parse::<HostPort>().ok();
    let named = [config.cluster.advertise.clone(), http, client];
    let named = named.into_iter().flatten().map(|address| address.host);
    Hosts::of_this_host(named.chain(config.http_hosts.iter().cloned()))
}

/// Listens at an address, without ever blocking.
pub(super) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// The port in the client address; 0 leaves the choice to the kernel.
pub(super) fn asked_port(config: &NodeConfig) -> Result<u16, NodeError> {
    let parsed = config.address.parse::<HostPort>();
    parsed.map(|address| address.port).map_err(|error| {
        let address = config.address.clone();
        let source = io::Error::other(error);
        Unresolved { address, source }.into()
    })
}

pub(super) fn warn_of_small_buffers(config: &NodeConfig, sockets: &[DataSocket]) {
    let got = sockets
        .iter()
        .map(DataSocket::receive_buffer_bytes)
        .min()
        .unwrap_or(0);
    let asked = config.receive_buffer_bytes;
    // The kernel reports twice what it grants.
    if got / 2 < asked {
        warn!(
            "receive buffer of {} bytes instead of {asked}: raise net.core.rmem_max to {asked}, or \
             grant CAP_NET_ADMIN, to lose less under bursts",
            got / 2
        );
    }
}

/// Warns of a port that is open to everybody, once at the start: that is a decision, and easily an oversight.
pub(super) fn warn_of_an_open_port(config: &NodeConfig, client: SocketAddr) {
    if is_open(config, client) {
        warn!(
            "whoever reaches {client} over UDP can add, count, and take places of exactly-once clients: name \
             those who may with --allow ADDRESS/BITS"
        );
    }
}

/// Whether any host may use the client port.
fn is_open(config: &NodeConfig, client: SocketAddr) -> bool {
    config.allow.is_empty() && !client.ip().to_canonical().is_loopback()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_open_unless_it_is_loopbacks_or_has_a_list() {
        let listed = NodeConfig {
            allow: vec![ipnet::Ipv4Net::new_assert([10, 0, 0, 0].into(), 8).into()],
            ..NodeConfig::at("127.0.0.1:0")
        };
        for (ip, open) in [
            ([127, 0, 0, 1].into(), false),
            ([127, 9, 0, 1].into(), false),
            (std::net::Ipv6Addr::LOCALHOST.into(), false),
            ([0, 0, 0, 0, 0, 0xffff, 0x7f00, 1].into(), false),
            ([0; 4].into(), true),
            ([0_u16; 8].into(), true),
            ([192, 0, 2, 7].into(), true),
            ([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1].into(), true),
        ] {
            let client = SocketAddr::new(ip, 8000);
            assert_eq!(
                is_open(&NodeConfig::at("127.0.0.1:0"), client),
                open,
                "{ip}"
            );
            assert!(!is_open(&listed, client), "{ip}");
        }
    }
}
