//! A port of this test's alone, at which a server comes and goes.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};

use socket2::{Domain, Protocol, Socket, Type};

/// A loopback port that nobody else gets. While no [socket](Self::open) is open there, the kernel refuses whatever
/// comes (`ECONNREFUSED`), as it does while a server is started again.
pub struct HeldPort {
    /// Hears only itself.
    holder: UdpSocket,
}

impl HeldPort {
    pub fn new() -> Self {
        let holder = open(0);
        holder.connect(holder.local_addr().unwrap()).unwrap();
        Self { holder }
    }

    pub fn address(&self) -> SocketAddr {
        self.holder.local_addr().unwrap()
    }

    /// A socket that hears everybody.
    pub fn open(&self) -> UdpSocket {
        open(self.address().port())
    }
}

fn open(port: u16) -> UdpSocket {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP)).unwrap();
    socket.set_reuse_port(true).unwrap();
    let address: SocketAddr = (Ipv4Addr::LOCALHOST, port).into();
    socket.bind(&address.into()).unwrap();
    socket.into()
}
