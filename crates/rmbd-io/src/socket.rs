//! The sockets of data threads: each thread has one UDP socket, and all share one address.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};

use socket2::{Domain, Protocol, Socket, Type};

use rmbd_udp::{enable_drop_counts, enable_gro, enable_local_addresses, kernel_drops};

/// The options of each socket.
#[derive(Debug, Clone, Copy)]
pub struct SocketOptions {
    /// Size of the receive buffer to ask for, in bytes, for each socket. The kernel gives at most `net.core.rmem_max`
    /// to a process without `CAP_NET_ADMIN`.
    pub receive_buffer_bytes: usize,
}

/// Why an address could not be bound. Nothing stays bound.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another program has the address.
    #[error(
        "{0} is in use: another program, or another rmbd, serves there; stop it or choose another port"
    )]
    InUse(SocketAddr),
    /// The port is below 1024, and the process has no right to bind it.
    #[error(
        "no right to bind {0}: ports below 1024 need CAP_NET_BIND_SERVICE (or \
         net.ipv4.ip_unprivileged_port_start); choose a higher port"
    )]
    Privileged(SocketAddr),
    /// The host part is not one of this machine's addresses.
    #[error("{0} is not an address of this machine; use one that `ip address` shows, or 0.0.0.0")]
    NotOurs(SocketAddr),
    /// The system refused for another reason.
    #[error("can't open a socket on {address}: {source}")]
    Other {
        /// The address that was asked for.
        address: SocketAddr,
        /// The system's error.
        source: io::Error,
    },
}

/// One data thread's UDP socket. It is blocking: on a non-blocking socket a ring would give up at once where it
/// should wait.
#[derive(Debug)]
pub struct DataSocket {
    socket: Socket,
    local: SocketAddr,
}

/// Binds `count` sockets to one address; the kernel spreads senders over them (`SO_REUSEPORT`,
/// socket(7)). With port 0 the kernel chooses, and all sockets share its choice.
///
/// The first socket is bound *without* `SO_REUSEPORT`, so the call fails if any other program, or another instance of
/// this one, has the address. The socket joins the group only afterwards. There is no moment at which two instances
/// could both succeed.
///
/// # Errors
/// [`BindError`]; nothing stays bound.
pub fn bind_group(
    address: SocketAddr,
    count: usize,
    options: SocketOptions,
) -> Result<Vec<DataSocket>, BindError> {
    let first = open(address, Sharing::JoinLater, options).map_err(|e| explain(address, e))?;
    let local = first.local;
    let mut group = vec![first];
    while group.len() < count {
        group.push(open(local, Sharing::Join, options).map_err(|e| explain(local, e))?);
    }
    Ok(group)
}

#[derive(PartialEq)]
enum Sharing {
    Join,
    JoinLater,
}

fn open(address: SocketAddr, sharing: Sharing, options: SocketOptions) -> io::Result<DataSocket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::DGRAM,
        Some(Protocol::UDP),
    )?;
    set_receive_buffer(&socket, options.receive_buffer_bytes)?;
    if sharing == Sharing::Join {
        socket.set_reuse_port(true)?;
    }
    ask_for_control_messages(&socket, address)?;
    socket.bind(&address.into())?;
    if sharing == Sharing::JoinLater {
        socket.set_reuse_port(true)?;
    }
    let local = local_addr(&socket)?;
    Ok(DataSocket { socket, local })
}

/// Asks for a receive buffer of this many bytes. With `CAP_NET_ADMIN` the kernel grants it whatever the system's
/// limit is; otherwise it grants as much as the limit allows.
pub(super) fn set_receive_buffer(socket: &Socket, bytes: usize) -> io::Result<()> {
    rustix::net::sockopt::set_socket_recv_buffer_size_force(socket, bytes)
        .map_err(io::Error::from)
        .or_else(|_| socket.set_recv_buffer_size(bytes))
}

fn ask_for_control_messages(socket: &Socket, address: SocketAddr) -> io::Result<()> {
    enable_drop_counts(socket)?;
    // Joining is optional: without UDP_GRO each train has one datagram.
    let _ = enable_gro(socket);
    enable_local_addresses(socket, address)
}

fn local_addr(socket: &Socket) -> io::Result<SocketAddr> {
    socket
        .local_addr()?
        .as_socket()
        .ok_or_else(|| io::Error::other("the kernel named no IP address for a UDP socket"))
}

pub(super) fn explain(address: SocketAddr, source: io::Error) -> BindError {
    match source.kind() {
        io::ErrorKind::AddrInUse => BindError::InUse(address),
        io::ErrorKind::PermissionDenied => BindError::Privileged(address),
        io::ErrorKind::AddrNotAvailable => BindError::NotOurs(address),
        _ => BindError::Other { address, source },
    }
}

impl DataSocket {
    /// The bound address, with the port that the kernel chose if port 0 was asked for.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Size of the receive buffer in bytes as the kernel counts it, twice what it granted (socket(7)).
    pub fn receive_buffer_bytes(&self) -> usize {
        self.socket.recv_buffer_size().unwrap_or(0)
    }

    /// Number of datagrams that the kernel dropped at this socket so far, modulo 2^32; a train that was joined counts
    /// as one. Unlike the count that comes with received data, this one is never late.
    ///
    /// # Errors
    /// The error of the system call.
    pub fn kernel_drops(&self) -> io::Result<u32> {
        kernel_drops(self)
    }

    /// Sends one datagram from this socket's address, without waiting. Any thread may call it, not only the one that
    /// runs the loop.
    ///
    /// # Errors
    /// The error of the system call; `WouldBlock` if the send buffer is full.
    pub fn send_to(&self, datagram: &[u8], to: SocketAddr) -> io::Result<usize> {
        self.socket
            .send_to_with_flags(datagram, &to.into(), libc::MSG_DONTWAIT)
    }
}

impl AsFd for DataSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    const OPTIONS: SocketOptions = SocketOptions {
        receive_buffer_bytes: 1 << 20,
    };

    fn any_port(host: &str) -> SocketAddr {
        SocketAddr::new(host.parse().unwrap(), 0)
    }

    #[test]
    fn a_group_shares_one_port() {
        let group = bind_group(any_port("127.0.0.1"), 3, OPTIONS).unwrap();
        assert_ne!(group[0].local_addr().port(), 0);
        assert!(
            group
                .iter()
                .all(|s| s.local_addr() == group[0].local_addr())
        );
    }

    #[test]
    fn a_second_group_on_the_address_is_refused() {
        for (taken, asked) in [
            ("127.0.0.1", "127.0.0.1"),
            ("0.0.0.0", "127.0.0.1"),
            ("127.0.0.1", "0.0.0.0"),
            ("127.0.0.1", "::"),
        ] {
            let group = bind_group(any_port(taken), 2, OPTIONS).unwrap();
            let second = SocketAddr::new(asked.parse().unwrap(), group[0].local_addr().port());
            let error = bind_group(second, 2, OPTIONS).unwrap_err();
            assert!(
                matches!(error, BindError::InUse(a) if a == second),
                "{taken} {asked}: {error}"
            );
        }
    }

    #[test]
    fn a_foreign_address_is_explained() {
        let error = bind_group("192.0.2.1:0".parse().unwrap(), 1, OPTIONS).unwrap_err();
        assert!(matches!(error, BindError::NotOurs(_)), "{error}");
    }

    #[test]
    fn drops_of_an_unread_socket_are_counted() {
        let tiny = SocketOptions {
            receive_buffer_bytes: 4096,
        };
        let receiver = bind_group(any_port("127.0.0.1"), 1, tiny)
            .unwrap()
            .remove(0);
        assert_eq!(receiver.kernel_drops().unwrap(), 0);
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        for _ in 0..100 {
            sender.send_to(&[0; 141], receiver.local_addr()).unwrap();
        }
        assert!(receiver.kernel_drops().unwrap() > 50);
    }
}
