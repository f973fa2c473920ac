//! Listeners: each thread has one, and all share one address.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};

use socket2::{Domain, Protocol, Socket, Type};

use crate::BindError;
use crate::socket::explain;

/// Connections that may wait to be accepted, as in Redis. The system may allow fewer (`net.core.somaxconn`).
const BACKLOG: i32 = 511;

/// One thread's listener.
#[derive(Debug)]
pub struct StreamListener {
    socket: Socket,
    local: SocketAddr,
}

/// Binds `count` listeners to one address, over which the kernel spreads connections (`SO_REUSEPORT`, socket(7)). With
/// port 0 the kernel chooses, and all share its choice. As with [`bind_group`](crate::bind_group), the first is bound
/// alone, so that no other program has the address.
///
/// # Errors
/// [`BindError`]; nothing stays bound.
pub fn bind_streams(address: SocketAddr, count: usize) -> Result<Vec<StreamListener>, BindError> {
    let first = open(address, true).map_err(|error| explain(address, error))?;
    let local = first.local;
    let mut group = vec![first];
    while group.len() < count {
        group.push(open(local, false).map_err(|error| explain(local, error))?);
    }
    Ok(group)
}

fn open(address: SocketAddr, is_first: bool) -> io::Result<StreamListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    // Connections of an earlier process that linger do not hinder.
    socket.set_reuse_address(true)?;
    if !is_first {
        socket.set_reuse_port(true)?;
    }
    socket.bind(&address.into())?;
    if is_first {
        socket.set_reuse_port(true)?;
    }
    // Accepted sockets inherit both.
    socket.set_tcp_nodelay(true)?;
    socket.set_keepalive(true)?;
    socket.listen(BACKLOG)?;
    let local = socket.local_addr()?.as_socket();
    let local = local.ok_or_else(|| io::Error::other("the kernel named no IP address for it"))?;
    Ok(StreamListener { socket, local })
}

impl StreamListener {
    /// The bound address, with the port that the kernel chose if port 0 was asked for.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Whether accepting waits: a ring is to wait, system calls are not.
    pub(crate) fn set_waiting(&self, waits: bool) -> io::Result<()> {
        self.socket.set_nonblocking(!waits)
    }
}

impl AsFd for StreamListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_group_shares_one_port_and_lets_nobody_else_in() {
        let group = bind_streams("127.0.0.1:0".parse().unwrap(), 3).unwrap();
        let address = group[0].local_addr();
        assert!(group.iter().all(|it| it.local_addr() == address));
        let second = bind_streams(address, 1).unwrap_err();
        assert!(
            matches!(second, BindError::InUse(a) if a == address),
            "{second}"
        );
        assert!(std::net::TcpListener::bind(address).is_err());
        drop(group);
        bind_streams(address, 2).unwrap();
    }
}
