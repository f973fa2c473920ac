//! Trains that are filled from a script, and sent.

use std::io;
use std::ops::Range;

use super::filling::Filling;
use super::legacy;
use super::requests::Requests;
use crate::flight::{Clock, Connection, InFlight, Question};
use crate::judge::{Chosen, Diary, Entry, Ledger, NEVER_NS, What};
use crate::plan::{Format, Load, Script};
use crate::record::Sent;

/// A train that is being filled. Each sender makes one; filling and sending allocate nothing.
pub(crate) struct TrainWriter<'a> {
    pub(super) filling: Filling,
    packer: Packer<'a>,
    pack: usize,
}

/// The way in which messages become datagrams.
enum Packer<'a> {
    Legacy,
    Compact(Requests<'a>),
}

impl<'a> TrainWriter<'a> {
    /// A writer for a load. For hits, the ledger keeps what must be true of their answers. Chosen keys are noted.
    pub(crate) fn new(load: &Load, ledger: Option<&'a Ledger>, chosen: Option<&'a Chosen>) -> Self {
        Self {
            filling: Filling::of(load),
            packer: match load.format {
                Format::Legacy => Packer::Legacy,
                Format::Compact => Packer::Compact(Requests::new(load, ledger, chosen)),
            },
            pack: load.pack,
        }
    }

    /// Whether another whole datagram fits.
    pub(crate) fn has_room(&self) -> bool {
        self.filling.train.has_room()
    }

    /// Number of messages in the train.
    pub(crate) fn messages(&self) -> usize {
        self.filling.contents.messages() as usize
    }

    /// Number of questions in the train.
    pub(crate) fn questions(&self) -> usize {
        self.filling.questions.len()
    }

    /// Number of messages that fit a train whose last datagram is left for a fence.
    pub(crate) fn messages_before_fence(&self) -> usize {
        (self.filling.train.datagrams_max().max(2) - 1) * self.pack
    }

    /// Adds a datagram of the next `messages` messages, at most a full one, all planned for the same time. Returns how
    /// many there was room for.
    pub(crate) fn datagram(
        &mut self,
        script: &mut Script,
        messages: usize,
        planned_ns: u64,
    ) -> usize {
        let messages = messages.min(self.pack);
        let filling = &mut self.filling;
        let written = match &mut self.packer {
            Packer::Legacy => legacy::datagram(filling, script, messages, planned_ns),
            Packer::Compact(requests) => requests.datagram(filling, script, messages, planned_ns),
        };
        filling.scripted += written as u64;
        written
    }

    /// Adds a fence, whose answer tells that the server has read all that came before it on this socket. It is a count
    /// of the latest key, in the last datagram if that is not full, or a request that asks only for an
    /// acknowledgement.
    pub(crate) fn fence(&mut self, script: &Script, planned_ns: u64) {
        let filling = &mut self.filling;
        match &mut self.packer {
            Packer::Legacy => legacy::fence(filling, self.pack, script.latest_key(), planned_ns),
            Packer::Compact(requests) => requests.fence(filling, planned_ns),
        }
    }

    /// Whether the train has adds that no answer comes after.
    pub(crate) fn needs_fence(&self) -> bool {
        self.filling.adds_uncovered > 0
    }

    /// Sends the whole train over one connection, writes its adds into the diary, and empties it. It waits if the
    /// kernel has no room, and tries again if the kernel reports that an *earlier* datagram found no server.
    ///
    /// # Errors
    /// Fails if the kernel does not take the train. Then `contents` were not sent, and the script has gone on without
    /// them, so the sender must end. It also fails if `give_up` returns true (`Interrupted`).
    pub(crate) fn send(
        &mut self,
        connection: &Connection,
        clock: Clock<'_>,
        diary: Option<&mut Diary<'_>>,
        give_up: impl Fn() -> bool,
    ) -> Result<Departed, Stranded> {
        let filling = &mut self.filling;
        filling.contents.bytes = filling.train.bytes() as u64;
        let sent_ns = clock.now_ns();
        let (questions, ends) = (&mut filling.questions, &filling.question_ends);
        let leave = |datagrams: Range<usize>| {
            let sent_ns = match datagrams.start {
                0 => sent_ns,
                _ => clock.now_ns(),
            };
            let until = |datagram: usize| datagram.checked_sub(1).map_or(0, |last| ends[last]);
            let leaving = until(datagrams.start)..until(datagrams.end);
            ask(&connection.in_flight, &mut questions[leaving], sent_ns);
        };
        let (_, result) = filling.train.send(&connection.socket, give_up, leave);
        if let Some(diary) = diary {
            diary.added(filling.contents.adds, sent_ns);
            for &key in &filling.noted_adds {
                diary.note(Entry {
                    key,
                    what: What::Add,
                    node: connection.node,
                    socket: connection.number,
                    times: 1,
                    sent_ns,
                    last_ns: sent_ns,
                    ended_ns: NEVER_NS,
                });
            }
        }
        let scripted = filling.scripted;
        let contents = filling.empty();
        match result {
            Ok(()) => Ok(Departed {
                node: connection.node,
                contents,
                scripted,
                sent_ns,
            }),
            Err(source) => Err(Stranded { contents, source }),
        }
    }

    /// Empties the train without sending it.
    pub(crate) fn abandon(&mut self) -> Stranded {
        Stranded {
            contents: self.filling.empty(),
            source: io::ErrorKind::Interrupted.into(),
        }
    }
}

/// What left, and when.
pub(crate) struct Departed {
    /// Position of the node that it left for.
    pub(crate) node: u16,
    pub(crate) contents: Sent,
    /// Number of its messages that came from the script.
    pub(crate) scripted: u64,
    pub(crate) sent_ns: u64,
}

/// What did not leave, and why.
pub(crate) struct Stranded {
    pub(crate) contents: Sent,
    pub(crate) source: io::Error,
}

/// Enters questions before they leave, since their answers may be here before the system call returns.
fn ask(in_flight: &InFlight, questions: &mut [Question], sent_ns: u64) {
    for question in questions {
        question.sent_ns = sent_ns;
        in_flight.push(*question);
    }
}
