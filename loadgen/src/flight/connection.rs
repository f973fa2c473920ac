//! Sockets to the server.

use std::io;
use std::net::{SocketAddr, UdpSocket};

use rustix::io::Errno;

use super::questions::InFlight;
use crate::plan::Load;
use crate::server::connected_socket;

/// Size of the receive buffer for answers in bytes, if the kernel grants it.
const RECEIVE_BUFFER_BYTES: usize = 4 << 20;

/// A socket, and the requests that wait for an answer on it.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) socket: UdpSocket,
    pub(crate) in_flight: InFlight,
    /// Position of the server among those of the load.
    pub(crate) node: u16,
    /// Number of the socket in its phase.
    pub(crate) number: u16,
}

impl Connection {
    /// Socket `number` of a phase, at a free port. It talks to one server only, in turn.
    pub(crate) fn open(servers: &[SocketAddr], number: usize, load: &Load) -> io::Result<Self> {
        let node = number % servers.len();
        let socket = connected_socket(servers[node])?;
        if load.asks() {
            // Errors are ignored here: then more answers are lost, and that shows.
            let _ = rustix::net::sockopt::set_socket_recv_buffer_size_force(
                &socket,
                RECEIVE_BUFFER_BYTES,
            )
            .or_else(|_| {
                rustix::net::sockopt::set_socket_recv_buffer_size(&socket, RECEIVE_BUFFER_BYTES)
            });
            let _ = rmbd_udp::enable_gro(&socket);
        }
        Ok(Self {
            socket,
            in_flight: InFlight::new(load.waiting_per_socket()),
            // Both are below 2^16, as the number of sockets is.
            node: node as u16,
            number: number as u16,
        })
    }
}

/// Whether a failed call can be repeated: its error reports that an *earlier* datagram found no server, or that a
/// signal came.
pub(crate) fn is_refusal(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::CONNREFUSED | Errno::HOSTUNREACH | Errno::NETUNREACH | Errno::INTR)
    )
}
