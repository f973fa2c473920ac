//! Datagrams on their way out: filled from a script, sent as one train where the kernel can split
//! it (`UDP_SEGMENT`, udp(7)), else one by one.

mod legacy;
mod requests;

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::thread;
use std::time::Duration;

use rmbd::io::send_segments;
use rustix::io::Errno;

use self::requests::Requests;
use crate::flight::clock::Clock;
use crate::flight::queue::{Flight, Question};
use crate::judge::ledger::Ledger;
use crate::plan::format::Format;
use crate::plan::load::{Load, SEGMENTS_MAX, TRAIN_BYTES_MAX};
use crate::plan::script::Script;
use crate::record::Sent;

/// A socket, and what waits for an answer on it.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) socket: UdpSocket,
    pub(crate) flight: Flight,
}

/// Bytes of receive buffer for answers, where the kernel gives them.
const RECEIVE_BUFFER_BYTES: usize = 4 << 20;

impl Link {
    /// A socket at a free port that talks to one server only.
    pub(crate) fn open(server: SocketAddr, load: &Load) -> io::Result<Self> {
        let any: SocketAddr = match server {
            SocketAddr::V4(_) => ([0; 4], 0).into(),
            SocketAddr::V6(_) => ([0; 16], 0).into(),
        };
        let socket = UdpSocket::bind(any)?;
        socket.connect(server)?;
        if load.asks() {
            // Both are favours: without them more answers are lost here, and that shows.
            let _ = rustix::net::sockopt::set_socket_recv_buffer_size_force(
                &socket,
                RECEIVE_BUFFER_BYTES,
            )
            .or_else(|_| {
                rustix::net::sockopt::set_socket_recv_buffer_size(&socket, RECEIVE_BUFFER_BYTES)
            });
            let _ = rmbd::io::enable_gro(&socket);
        }
        Ok(Self {
            socket,
            flight: Flight::new(load.waiting_per_socket()),
        })
    }
}

/// A train that is being filled. Made once for each sender; filling and sending allocate nothing.
pub(crate) struct Outgoing<'a> {
    train: Train,
    packer: Packer<'a>,
    pack: usize,
    datagrams_max: usize,
    gso: bool,
    segment_bytes: usize,
}

/// How messages become datagrams.
enum Packer<'a> {
    Legacy,
    Compact(Requests<'a>),
}

/// Datagrams one behind the other, and what is in them.
struct Train {
    bytes: Box<[u8]>,
    len: usize,
    contents: Sent,
    /// Messages that came from the script; fences do not.
    scripted: u64,
    /// In the order of their messages; their `sent_ns` is set when they leave.
    questions: Vec<Question>,
    /// Where each datagram ends, in bytes and in questions.
    ends: Vec<(usize, usize)>,
    /// Adds since the last question.
    adds_uncovered: u32,
}

impl Train {
    fn end_datagram(&mut self) {
        self.contents.datagrams += 1;
        self.ends.push((self.len, self.questions.len()));
    }

    fn empty(&mut self) -> Sent {
        self.len = 0;
        self.scripted = 0;
        self.questions.clear();
        self.ends.clear();
        self.adds_uncovered = 0;
        std::mem::take(&mut self.contents)
    }
}

impl<'a> Outgoing<'a> {
    /// For a load; of hits, the ledger keeps what must be true of their answers.
    pub(crate) fn new(load: &Load, ledger: Option<&'a Ledger>) -> Self {
        let datagrams_max = load.datagrams_per_train();
        // A fence may come behind a full train.
        let questions_max = (datagrams_max + 1) * load.pack + 1;
        Self {
            train: Train {
                bytes: vec![0; TRAIN_BYTES_MAX].into_boxed_slice(),
                len: 0,
                contents: Sent::default(),
                scripted: 0,
                questions: Vec::with_capacity(questions_max),
                ends: Vec::with_capacity(SEGMENTS_MAX + 1),
                adds_uncovered: 0,
            },
            packer: match load.format {
                Format::Legacy => Packer::Legacy,
                Format::Compact => Packer::Compact(Requests::new(load.weight, ledger)),
            },
            pack: load.pack,
            datagrams_max,
            gso: load.gso,
            segment_bytes: load.segment_bytes(),
        }
    }

    /// Whether another whole datagram fits.
    pub(crate) fn has_room(&self) -> bool {
        self.train.ends.len() < self.datagrams_max
    }

    /// Messages in it.
    pub(crate) fn messages(&self) -> usize {
        self.train.contents.messages() as usize
    }

    /// Messages that fit a train whose last datagram is left for a fence.
    pub(crate) fn messages_before_fence(&self) -> usize {
        (self.datagrams_max.max(2) - 1) * self.pack
    }

    /// Adds a datagram of the next `messages` messages, at most a full one, all planned for the
    /// same time. Returns how many there was room for.
    pub(crate) fn datagram(
        &mut self,
        script: &mut Script,
        messages: usize,
        planned_ns: u64,
    ) -> usize {
        let messages = messages.min(self.pack);
        let train = &mut self.train;
        let written = match &mut self.packer {
            Packer::Legacy => legacy::datagram(train, script, messages, planned_ns),
            Packer::Compact(requests) => {
                if self.gso {
                    requests::pad(train, self.segment_bytes);
                }
                requests.datagram(train, script, messages, planned_ns)
            }
        };
        train.scripted += written as u64;
        written
    }

    /// Adds something whose answer says that the server has read all that came before it on this
    /// socket: a count of the latest key, into the last datagram if that is not full; or a request that
    /// asks for nothing but an acknowledgement.
    pub(crate) fn fence(&mut self, script: &Script, planned_ns: u64) {
        let train = &mut self.train;
        match &mut self.packer {
            Packer::Legacy => legacy::fence(train, self.pack, script.latest_key(), planned_ns),
            Packer::Compact(requests) => {
                if self.gso {
                    requests::pad(train, self.segment_bytes);
                }
                requests.fence(train, planned_ns);
            }
        }
    }

    /// Whether it has adds that no answer comes after.
    pub(crate) fn needs_fence(&self) -> bool {
        self.train.adds_uncovered > 0
    }

    /// Sends all of it over one link, and empties it. Waits where the kernel has no room, and tries
    /// again where it reports that an *earlier* datagram found no server.
    ///
    /// # Errors
    /// The kernel does not take it; then `contents` were not sent, and the script has gone on
    /// without them, so the sender must end. Or `give_up` said so (`Interrupted`).
    pub(crate) fn send(
        &mut self,
        link: &Link,
        clock: Clock<'_>,
        give_up: impl Fn() -> bool,
    ) -> Result<Departed, Stranded> {
        self.train.contents.bytes = self.train.len as u64;
        let sent_ns = clock.now_ns();
        let result = self.send_all(link, clock, sent_ns, give_up);
        let scripted = self.train.scripted;
        let contents = self.train.empty();
        match result {
            Ok(()) => Ok(Departed {
                contents,
                scripted,
                sent_ns,
            }),
            Err(source) => Err(Stranded { contents, source }),
        }
    }

    /// Empties it without sending.
    pub(crate) fn abandon(&mut self) -> Stranded {
        Stranded {
            contents: self.train.empty(),
            source: io::ErrorKind::Interrupted.into(),
        }
    }

    fn send_all(
        &mut self,
        link: &Link,
        clock: Clock<'_>,
        sent_ns: u64,
        give_up: impl Fn() -> bool,
    ) -> io::Result<()> {
        let train = &mut self.train;
        if self.gso {
            ask(link, &mut train.questions, sent_ns);
            return patiently(&give_up, || {
                // At most 65 507.
                send_segments(
                    &link.socket,
                    None,
                    &train.bytes[..train.len],
                    self.segment_bytes as u16,
                )
            });
        }
        let (mut from, mut asked) = (0, 0);
        for &(to, asks) in &train.ends {
            let sent_ns = if from == 0 { sent_ns } else { clock.now_ns() };
            ask(link, &mut train.questions[asked..asks], sent_ns);
            patiently(&give_up, || link.socket.send(&train.bytes[from..to]))?;
            (from, asked) = (to, asks);
        }
        Ok(())
    }

    /// Questions in it.
    pub(crate) fn questions(&self) -> usize {
        self.train.questions.len()
    }
}

/// What left, and when.
pub(crate) struct Departed {
    pub(crate) contents: Sent,
    /// Those of its messages that came from the script.
    pub(crate) scripted: u64,
    pub(crate) sent_ns: u64,
}

/// What did not leave, and why.
pub(crate) struct Stranded {
    pub(crate) contents: Sent,
    pub(crate) source: io::Error,
}

/// Before they leave: their answers may be here before the system call returns.
fn ask(link: &Link, questions: &mut [Question], sent_ns: u64) {
    for question in questions {
        question.sent_ns = sent_ns;
        link.flight.push(*question);
    }
}

pub(crate) fn patiently(
    give_up: &impl Fn() -> bool,
    mut send: impl FnMut() -> io::Result<usize>,
) -> io::Result<()> {
    loop {
        let Err(error) = send() else {
            return Ok(());
        };
        match Errno::from_io_error(&error) {
            // What an earlier datagram met, reported once; this one has not been tried yet.
            Some(Errno::CONNREFUSED | Errno::HOSTUNREACH | Errno::NETUNREACH | Errno::INTR) => {}
            // No room in a queue of the network card, or of the socket.
            Some(Errno::NOBUFS | Errno::AGAIN) => thread::sleep(Duration::from_micros(50)),
            _ => return Err(error),
        }
        if give_up() {
            return Err(io::ErrorKind::Interrupted.into());
        }
    }
}
