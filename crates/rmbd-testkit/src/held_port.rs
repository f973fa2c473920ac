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

impl Default for HeldPort {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use super::*;

    #[test]
    fn the_kernel_refuses_while_nobody_is_there() {
        let port = HeldPort::new();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.connect(port.address()).unwrap();
        for n in 0..3 {
            client.send(&[n]).unwrap();
            let refused = client.recv(&mut [0]).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
            let server = port.open();
            client.send(&[n]).unwrap();
            let mut heard = [9];
            let (_, from) = server.recv_from(&mut heard).unwrap();
            assert_eq!((heard, from), ([n], client.local_addr().unwrap()));
            server.send_to(&heard, from).unwrap();
            assert_eq!(client.recv(&mut heard).unwrap(), 1);
        }
    }
}
