//! A challenge, the question "what are you?", which is sent before rows are pushed to an address or accepted from
//! one.
//!
//! A node of this program answers `info` of the compact format, and the Python program does not. Silence alone would
//! prove nothing: the question or its answer may be lost or late. So a push target is asked two questions at a time:
//! `info`, and behind it a `count` of the legacy protocol, which both programs answer, and which changes nothing at
//! either. A node's two answers come in order. A target that answers the second question all five times, and never
//! the first, is the Python program. This is known a fifth of a second after the order. A late answer is late to both
//! questions, so that delay is not mistaken for it.
//!
//! ```text
//!   0 ms  25    50         100                   200                                     700
//!   |ask  |ask  |ask       |ask                  |ask  the fifth count: not ours         |not ours if any count
//!                                                                                         was answered, or silent
//! ```
//!
//! An answer to `info` decides at any time, even for a while after the conclusion.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::SocketAddr;
use std::time::Duration;

use crate::fronts::datagrams::probe_key;
use rmbd_proto::compact::{Answer, Header, RequestWriter, reply};
use rmbd_proto::legacy;
use rmbd_proto::{Boot, Writer};

/// Times at which the questions are sent, since each may be lost.
const TRIES_AT: [Duration; 5] = [
    Duration::ZERO,
    Duration::from_millis(25),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(200),
];
/// How long answers to the last question are awaited; then the decision is made without them.
const PATIENCE: Duration = Duration::from_millis(500);
/// How long after the first question an answer is still accepted.
const LISTEN: Duration = Duration::from_secs(30);
/// How long further answers of an address that has answered are expected, to the other questions.
const ANSWERED: Duration = Duration::from_secs(2);
/// Largest number of decisions that are remembered because they may turn out wrong. The oldest is forgotten for a new
/// one.
const DECIDED_MAX: usize = 1024;
/// Bytes of a question with its padding, which is there for the answer.
const QUESTION_BYTES_MAX: usize = 64;
/// The addresses that were asked, and what is known of them. Time is a [`Duration`] since any fixed moment.
#[derive(Debug)]
pub(super) struct Challenges {
    asked: BTreeMap<SocketAddr, Asked>,
    writer: RequestWriter,
    random: RandomState,
    numbers: u64,
}

#[derive(Debug, Clone, Copy)]
struct Asked {
    /// The question's number, which nobody can guess without seeing the question.
    id: u32,
    since: Duration,
    state: State,
    /// Number of questions sent; the time of the latest follows.
    tries: usize,
    asked_at: Duration,
    /// Whether counts are asked for, too, and a conclusion is wanted.
    identify: bool,
    /// The tries whose count was answered, a bit for each.
    counted: u32,
    /// Whether the address has acknowledged a row.
    acked: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Asking,
    Decided,
    Answered { at: Duration },
}

/// The conclusion about an address that has not said what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Conclusion {
    /// The address understands the legacy protocol and not the question: it is an instance of the Python program.
    NotOurs,
    /// The address has not answered at all.
    Silent,
}

/// What a node says of itself in its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Introduction {
    pub(super) boot: Boot,
    /// The writer of its slices; 0 if it does not tell.
    pub(super) writer: Writer,
    pub(super) fingerprint: u64,
    /// Its cluster port; 0 if it is in no cluster.
    pub(super) cluster_port: u16,
}

/// The meaning of a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heard {
    /// This is the first answer.
    Introduced(Introduction),
    /// This is a further answer of the same address, which says nothing new.
    Again,
    /// This answers nothing that was asked.
    Nobody,
}

impl Challenges {
    pub(super) fn new() -> Self {
        Self {
            asked: BTreeMap::new(),
            writer: RequestWriter::new(QUESTION_BYTES_MAX),
            random: RandomState::new(),
            numbers: 0,
        }
    }

    /// Whether answers are awaited.
    pub(super) fn is_waiting(&self) -> bool {
        !self.asked.is_empty()
    }

    /// The next time at which [`Self::due`] has something to do.
    pub(super) fn next(&self) -> Option<Duration> {
        self.asked.values().map(Asked::next).min()
    }

    /// Asks an address that is known to understand the legacy protocol, in case it is a node of ours by now. Nothing
    /// is sent until [`Self::due`] is called.
    pub(super) fn ask(&mut self, now: Duration, whom: SocketAddr) {
        self.begin(now, whom, false);
    }

    /// Asks an address so that there will be an answer or a conclusion. Nothing is sent until [`Self::due`] is called.
    pub(super) fn identify(&mut self, now: Duration, whom: SocketAddr) {
        self.begin(now, whom, true);
    }

    /// Asks in the same way an address that has acknowledged a row, which is a sign of life.
    pub(super) fn identify_by_ack(&mut self, now: Duration, whom: SocketAddr) {
        self.begin(now, whom, true);
        if let Some(asked) = self.asked.get_mut(&whom) {
            asked.acked = true;
        }
    }

    /// Begins to ask, unless that is under way. An address that was asked not long ago is asked with the same number,
    /// so that a very late answer still fits.
    fn begin(&mut self, now: Duration, whom: SocketAddr, identify: bool) {
        let before = self.asked.get(&whom);
        if before.is_some_and(|asked| asked.is_asking() && (asked.identify || !identify)) {
            return;
        }
        let same = before.filter(|asked| !matches!(asked.state, State::Answered { .. }));
        let id = same.map_or_else(|| self.fresh_id(), |asked| asked.id);
        self.numbers += 1;
        self.make_room();
        self.asked.insert(
            whom,
            Asked {
                id,
                since: now,
                state: State::Asking,
                tries: 0,
                asked_at: now,
                identify,
                counted: 0,
                acked: false,
            },
        );
    }

    fn fresh_id(&self) -> u32 {
        let mut hasher = self.random.build_hasher();
        hasher.write_u64(self.numbers);
        hasher.finish() as u32
    }

    /// Limits the remembered decisions. The caller limits the addresses that are being asked.
    fn make_room(&mut self) {
        let decided = || self.asked.iter().filter(|(_, asked)| !asked.is_asking());
        if decided().count() >= DECIDED_MAX
            && let Some((&oldest, _)) = decided().min_by_key(|(_, asked)| asked.since)
        {
            self.asked.remove(&oldest);
        }
    }

    /// Asks the addresses for which it is time. Returns the conclusions that are due.
    pub(super) fn due(
        &mut self,
        now: Duration,
        mut send: impl FnMut(SocketAddr, &[u8]),
    ) -> Vec<(SocketAddr, Conclusion)> {
        self.asked.retain(|_, asked| !asked.is_over(now));
        let mut conclusions = Vec::new();
        for (&whom, asked) in &mut self.asked {
            while asked.try_due(now) {
                if let Some(question) = question(&mut self.writer, asked.id) {
                    send(whom, question);
                }
                if asked.identify {
                    send(
                        whom,
                        &legacy::encode_count(&probe_key(asked.id, asked.tries)),
                    );
                }
                asked.tries += 1;
                asked.asked_at = now;
            }
            if asked.is_asking() && asked.next() <= now {
                conclusions.extend(asked.decide().map(|conclusion| (whom, conclusion)));
            }
        }
        conclusions
    }

    /// Takes an answer to a count. If all counts are answered, and no other question, that is a conclusion.
    pub(super) fn counted(&mut self, from: SocketAddr, datagram: &[u8]) -> Option<Conclusion> {
        let asked = self.asked.get_mut(&from)?;
        let reply = legacy::replies(datagram).next()?;
        let made = (0..asked.tries).find(|&number| probe_key(asked.id, number) == reply.0)?;
        asked.counted |= 1 << made;
        let is_all = asked.counted.count_ones() as usize == TRIES_AT.len();
        if is_all && asked.is_asking() {
            return asked.decide();
        }
        None
    }

    /// Takes a reply, and returns its meaning.
    pub(super) fn answer(&mut self, now: Duration, from: SocketAddr, datagram: &[u8]) -> Heard {
        let (Some(asked), Ok(reply)) = (self.asked.get_mut(&from), reply(datagram)) else {
            return Heard::Nobody;
        };
        let Some(Ok(Answer::Info(info))) = reply.answers().next() else {
            return Heard::Nobody;
        };
        match asked.state {
            _ if reply.head.id != asked.id => Heard::Nobody,
            State::Answered { .. } => Heard::Again,
            State::Asking | State::Decided => {
                asked.state = State::Answered { at: now };
                Heard::Introduced(Introduction {
                    boot: info.boot,
                    writer: info.writer,
                    fingerprint: info.fingerprint,
                    cluster_port: info.cluster_port,
                })
            }
        }
    }
}

impl Asked {
    fn is_asking(&self) -> bool {
        self.state == State::Asking
    }

    fn is_over(&self, now: Duration) -> bool {
        !self.is_asking() && self.next() <= now
    }

    fn next(&self) -> Duration {
        match self.state {
            State::Asking => match TRIES_AT.get(self.tries) {
                Some(&at) => self.since + at,
                // A thread that was held up asks late, and waits as long all the same.
                None => self.asked_at + PATIENCE,
            },
            State::Decided => self.since + LISTEN,
            State::Answered { at } => at + ANSWERED,
        }
    }

    fn try_due(&self, now: Duration) -> bool {
        let at = TRIES_AT.get(self.tries);
        self.is_asking() && at.is_some_and(|&at| self.since + at <= now)
    }

    fn decide(&mut self) -> Option<Conclusion> {
        self.state = State::Decided;
        let is_alive = self.acked || self.counted != 0;
        self.identify.then_some(match is_alive {
            true => Conclusion::NotOurs,
            false => Conclusion::Silent,
        })
    }
}

/// Writes the question, which always fits.
fn question(writer: &mut RequestWriter, id: u32) -> Option<&[u8]> {
    let header = Header {
        id,
        ..Header::default()
    };
    writer.start(&header).ok()?;
    writer.info().ok()?;
    Some(writer.finish())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
