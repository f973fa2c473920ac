//! A server of the legacy protocol that counts exactly, and loses the answers that it is told to lose.

use std::collections::HashMap;
use std::net::{SocketAddr, UdpSocket};
use std::thread::JoinHandle;

use rmbd_proto::legacy::{Dialect, Layout, Message, messages, write_reply_count, write_reply_key};

/// The fate of the answer to one datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Deliver,
    Lose,
    /// The answer is delivered after the next answer that is delivered.
    Late,
    Double,
}

/// What the server received.
#[derive(Debug, Default)]
pub struct Seen {
    pub counts: HashMap<Vec<u8>, u64>,
    pub adds: u64,
    pub peers: Vec<(Vec<u8>, u64)>,
    pub datagram_bytes_max: usize,
    /// Largest number of consecutive datagrams without a count.
    pub datagrams_unanswered_max: usize,
}

/// A server that runs until it is stopped.
pub struct Fake {
    pub address: SocketAddr,
    stop: UdpSocket,
    thread: JoinHandle<Seen>,
}

impl Fake {
    pub fn start(dialect: Dialect, mut fate: impl FnMut(usize) -> Fate + Send + 'static) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let stop = UdpSocket::bind("127.0.0.1:0").unwrap();
        let (address, stopper) = (socket.local_addr().unwrap(), stop.local_addr().unwrap());
        let thread = std::thread::spawn(move || {
            let mut seen = Seen::default();
            let mut late: Vec<(Vec<u8>, SocketAddr)> = Vec::new();
            let (mut answers, mut unanswered) = (0, 0);
            let mut datagram = [0; 2048];
            loop {
                let (length, from) = socket.recv_from(&mut datagram).unwrap();
                if from == stopper {
                    return seen;
                }
                let reply = serve(&datagram[..length], dialect, &mut seen);
                unanswered = if reply.is_empty() { unanswered + 1 } else { 0 };
                seen.datagrams_unanswered_max = seen.datagrams_unanswered_max.max(unanswered);
                if reply.is_empty() {
                    continue;
                }
                let fate = fate(answers);
                answers += 1;
                match fate {
                    Fate::Lose => continue,
                    Fate::Late => {
                        late.push((reply, from));
                        continue;
                    }
                    Fate::Deliver => socket.send_to(&reply, from).unwrap(),
                    Fate::Double => {
                        socket.send_to(&reply, from).unwrap();
                        socket.send_to(&reply, from).unwrap()
                    }
                };
                for (reply, from) in late.drain(..) {
                    // The client may be gone.
                    let _ = socket.send_to(&reply, from);
                }
            }
        });
        Self {
            address,
            stop,
            thread,
        }
    }

    pub fn reliable() -> Self {
        Self::start(Dialect::Native, |_| Fate::Deliver)
    }

    /// Stops the server after it has read all that was sent before.
    pub fn stop(self) -> Seen {
        self.stop.send_to(&[], self.address).unwrap();
        self.thread.join().unwrap()
    }
}

/// Takes a datagram, and returns the replies to it.
fn serve(datagram: &[u8], dialect: Dialect, seen: &mut Seen) -> Vec<u8> {
    let layout = Layout {
        dialect,
        width: 100,
        depth: 10,
    };
    seen.datagram_bytes_max = seen.datagram_bytes_max.max(datagram.len());
    let mut reply = Vec::new();
    // Like the Python program, it does not answer unknown types.
    if datagram.first().is_some_and(|&first| first > 4) {
        return reply;
    }
    for message in messages(datagram, layout) {
        match message.unwrap() {
            Message::Add { key } => {
                *seen.counts.entry(key.to_vec()).or_default() += 1;
                seen.adds += 1;
            }
            Message::Count { key } => {
                let at = reply.len();
                reply.resize(at + dialect.reply_bytes(), 0);
                write_reply_key(key, dialect, &mut reply[at..]);
                let count = seen.counts.get(key).copied().unwrap_or_default();
                write_reply_count(count, dialect, &mut reply[at..]);
            }
            Message::Peer(order) => seen.peers.push((order.host.to_vec(), order.port)),
            Message::Sync(_) | Message::Ack => panic!("no client sends this"),
        }
    }
    reply
}

/// An address at which nobody answers: the kernel refuses all senders, since the socket that holds it hears only
/// itself.
pub fn nobody() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(socket.local_addr().unwrap()).unwrap();
    socket
}
