//! A socket that hears one server, and trains to and from it.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::ClientError;
use super::core::ClientId;
use rmbd_udp::{Receiver, TRAIN_BYTES_MAX, enable_gro, send_segments};

/// Trains of replies taken by one system call. A train of replies answers some 60 datagrams.
const TRAINS: usize = 4;

/// A socket that hears one server, does not wait by itself, and knows the time.
pub(super) struct Connection {
    pub(super) server: SocketAddr,
    pub(super) udp: UdpSocket,
    /// What is to be sent.
    pub(super) train: Vec<u8>,
    receiver: Receiver,
    started: Instant,
    /// Whether the way out takes several datagrams at once.
    takes_trains: bool,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection")
            .field("server", &self.server)
            .field("udp", &self.udp)
            .finish_non_exhaustive()
    }
}

impl Connection {
    /// At a free port, of the server's address family.
    pub(super) fn open(server: SocketAddr) -> Result<Self, ClientError> {
        Ok(Self {
            server,
            udp: open_socket(server)?,
            train: Vec::with_capacity(TRAIN_BYTES_MAX),
            receiver: Receiver::new(TRAINS, TRAIN_BYTES_MAX),
            started: Instant::now(),
            takes_trains: true,
        })
    }

    /// Goes on with another server, at another port: what the one before still says is not heard. Time goes
    /// on as it did. Where that fails all stays as it is.
    pub(super) fn reopen(&mut self, server: SocketAddr) -> Result<(), ClientError> {
        self.udp = open_socket(server)?;
        self.server = server;
        self.takes_trains = true;
        Ok(())
    }

    pub(super) fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// Sends the train: all of it, or nothing where the send buffer is full.
    pub(super) fn send(&mut self, segment_bytes: u16) -> io::Result<()> {
        let is_single = self.train.len() <= segment_bytes.into();
        if self.takes_trains || is_single {
            match send_segments(&self.udp, None, &self.train, segment_bytes) {
                Err(error) if !is_single && !is_about_the_peer(&error) => {
                    // Tunnels and old cards do not segment.
                    self.takes_trains = false;
                }
                other => return other.map(drop),
            }
        }
        for datagram in self.train.chunks(segment_bytes.into()) {
            match self.udp.send(datagram) {
                // What does not fit now is sent again when it is missed.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                other => other?,
            };
        }
        Ok(())
    }

    /// Takes some of what has come; the number of trains, 0 if there is nothing.
    pub(super) fn receive(&mut self) -> io::Result<usize> {
        match self.receiver.receive(&self.udp) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
            other => other,
        }
    }

    /// The datagrams of the first `trains` of the latest [`Self::receive`].
    pub(super) fn datagrams(&self, trains: usize) -> impl Iterator<Item = &[u8]> {
        (0..trains)
            .filter_map(|index| self.receiver.train(index))
            .flat_map(|train| train.datagrams())
    }

    /// Waits until something comes (or may be sent), or the time has come.
    pub(super) fn wait(&self, for_what: PollFlags, until: Option<Duration>) -> io::Result<()> {
        let left = until.map(|until| until.saturating_sub(self.now()));
        let timeout = left.and_then(|left| Timespec::try_from(left).ok());
        let mut fds = [PollFd::new(&self.udp, for_what)];
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// A socket of the server's address family at a free port, which hears only the server.
pub(super) fn connected_socket(server: SocketAddr) -> io::Result<UdpSocket> {
    let any: SocketAddr = match server {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any)?;
    socket.connect(server)?;
    Ok(socket)
}

fn open_socket(server: SocketAddr) -> Result<UdpSocket, ClientError> {
    let open = || {
        let socket = connected_socket(server)?;
        socket.set_nonblocking(true)?;
        // A favour: without it replies come one by one.
        let _ = enable_gro(&socket);
        Ok(socket)
    };
    open().map_err(|error| ClientError::of_socket(server, "open a socket to", error))
}

/// Whether a send failed for what the other side, the way there, or the buffer is, not for the form.
pub(super) fn is_about_the_peer(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    matches!(
        error.kind(),
        Kind::WouldBlock
            | Kind::Interrupted
            | Kind::ConnectionRefused
            | Kind::HostUnreachable
            | Kind::NetworkUnreachable
            | Kind::NetworkDown
            | Kind::PermissionDenied
    )
}

/// Numbers that nobody else has, and nobody guesses.
pub(super) fn fresh_id() -> ClientId {
    ClientId {
        client: random(),
        first_id: random() as u32,
    }
}

/// From the system's source; should that ever fail, from what the standard library seeds its maps with.
fn random() -> u64 {
    let mut bytes = [0; 8];
    match rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()) {
        Ok(8) => u64::from_ne_bytes(bytes),
        _ => RandomState::new().build_hasher().finish(),
    }
}
