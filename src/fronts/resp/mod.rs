//! The protocol of Redis over TCP, so that its clients count with a node. Sketches are the keys, and what is counted
//! are items of `CMS.INCRBY` and its like. A data thread serves its connections beside its datagrams, by the same
//! engine. It allocates when it is made and when connections come, and not for commands.
//!
//! ```text
//!  bytes ──> CommandParser ──> commands::find ──> Call ──> Session ──┐ answers, in any order
//!  bytes <── StreamReplies <── Answers (replies in their order) <────┘
//! ```
//!
//! All that one receive brings is one pipeline: its questions are asked one behind the other, and their answers are
//! awaited once, at its end.

mod answers;
mod client;
mod commands;
mod password;
mod port;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use self::answers::{Answers, Slot};
use self::client::Client;
use self::commands::Call;
pub use self::password::RespError;
pub(crate) use self::port::RespPort;
use crate::engine::Session;
use crate::shared::Access;
use crate::status::{ObservedThread, Tally};
use rmbd_io::{Closed, StreamReplies, Taken, Then};
use rmbd_proto::resp::{Parsed, Words};
use rmbd_store::Seen;

/// What who finds no place is told.
const NO_PLACE: &[u8] = b"-ERR max number of clients reached\r\n";

/// A data thread's part of the front.
pub(crate) struct RespHandler {
    port: Arc<RespPort>,
    thread: Arc<ObservedThread>,
    /// The clients by the numbers of their connections.
    clients: Vec<Client>,
    words: Words,
    desk: Desk,
    /// Something was counted that is not published.
    has_news: bool,
}

/// What a data thread has of its own.
struct Desk {
    /// Questions are answered with the slot of their reply in `answers`.
    session: Session<Slot>,
    answers: Answers,
    /// Who may do what, as it was when bytes came last.
    access: Seen<Access>,
    /// When the bytes at hand came; read from the clock when it is first needed.
    now: Option<Duration>,
    tally: Tally,
}

impl RespHandler {
    /// `thread` is what others see of the thread that will run it.
    pub(crate) fn new(port: Arc<RespPort>, thread: Arc<ObservedThread>) -> Self {
        let engine = Arc::clone(port.shared().engine());
        Self {
            port,
            thread,
            clients: Vec::new(),
            words: Words::default(),
            desk: Desk {
                session: Session::sharing(engine),
                answers: Answers::default(),
                access: Seen::default(),
                now: None,
                tally: Tally::default(),
            },
            has_news: false,
        }
    }

    /// Number of commands that have come so far.
    #[inline]
    pub(crate) fn commands(&self) -> u64 {
        self.desk.tally.commands
    }

    /// A connection was accepted. Returns whether its client may use the node.
    pub(crate) fn opened(&mut self, connection: usize, from: SocketAddr) -> bool {
        self.has_news = true;
        if !self.desk.may_use(&self.port, from.ip()) {
            self.desk.tally.connections_not_allowed += 1;
            return false;
        }
        self.desk.tally.connections_accepted += 1;
        let client = self.port.new_client(from.ip());
        match self.clients.get_mut(connection) {
            Some(place) => *place = client,
            // Numbers are given without gaps.
            None => self.clients.push(client),
        }
        true
    }

    /// Does what the commands say that have come, and writes their replies.
    pub(crate) fn received(
        &mut self,
        connection: usize,
        bytes: &[u8],
        replies: &mut StreamReplies<'_>,
    ) -> Taken {
        self.has_news = true;
        let Some(client) = self.clients.get_mut(connection) else {
            return Taken {
                bytes: 0,
                then: Then::End,
            };
        };
        let (desk, words) = (&mut self.desk, &mut self.words);
        // A reload may have taken its network off the list.
        if !desk.may_use(&self.port, client.from) {
            return Taken {
                bytes: bytes.len(),
                then: Then::End,
            };
        }
        desk.now = None;
        let mut taken = 0;
        let then = loop {
            if replies.are_full_with(desk.answers.bytes_max()) {
                break Then::Room;
            }
            let rest = &bytes[taken..];
            match client.parser.next(rest, client.limits(), words) {
                Ok(Parsed::More) => break Then::More,
                Ok(Parsed::Nothing { end }) => taken += end,
                Ok(Parsed::Command { end }) => {
                    let mut call = Call::new(desk, &self.port, client, replies.bytes());
                    let then = call.perform(words.of(rest));
                    taken += end;
                    if then == Then::End {
                        break then;
                    }
                }
                Err(error) => {
                    desk.tally.protocol_errors += 1;
                    let text = format!("ERR {error}");
                    desk.answers.reply(client.version).error(text.as_bytes());
                    break Then::End;
                }
            }
        };
        desk.finish(replies.bytes());
        Taken { bytes: taken, then }
    }

    /// A connection is gone.
    pub(crate) fn closed(&mut self, connection: usize, why: Closed) {
        self.has_news = true;
        if let Some(client) = self.clients.get_mut(connection) {
            client.forget();
        }
        let tally = &mut self.desk.tally;
        let counter = match why {
            Closed::ByClient => &mut tally.closed_by_client,
            Closed::ByHandler => &mut tally.closed_by_node,
            Closed::Idle => &mut tally.closed_idle,
            Closed::Stalled => &mut tally.closed_stalled,
            Closed::NoMemory => &mut tally.closed_no_memory,
            Closed::Failed => &mut tally.closed_failed,
            Closed::AtEnd => &mut tally.closed_at_end,
        };
        *counter += 1;
    }

    /// There was no place for a connection. Returns what it is told.
    pub(crate) fn turned_away(&mut self, from: SocketAddr) -> &'static [u8] {
        self.has_news = true;
        let may_use = self.desk.may_use(&self.port, from.ip());
        let tally = &mut self.desk.tally;
        if may_use {
            tally.connections_without_place += 1;
            NO_PLACE
        } else {
            tally.connections_not_allowed += 1;
            b""
        }
    }

    /// Publishes what was counted.
    #[inline]
    pub(crate) fn pause(&mut self) {
        if self.has_news {
            self.has_news = false;
            self.desk.tally.take_over(self.desk.session.tally());
            self.thread.publish_resp(&self.desk.tally);
        }
    }
}

impl Desk {
    #[inline]
    fn may_use(&mut self, port: &RespPort, ip: IpAddr) -> bool {
        self.access.current(port.access()).may_use(ip)
    }

    /// Awaits all answers, and writes all replies behind `out`.
    #[inline]
    fn finish(&mut self, out: &mut Vec<u8>) {
        let Self {
            session, answers, ..
        } = self;
        session.finish(&mut |slot, answer| answers.fill(slot, &answer));
        answers.move_to(out);
    }
}
