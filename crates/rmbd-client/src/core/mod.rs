//! The client's state machine: no socket, no clock. Operations with a token each go in, trains of
//! datagrams come out; replies and the time go in, outcomes with their tokens come out.
//!
//! ```text
//!            push            seal            transmit           receive
//!  operation ────> open batch ───> sealed ────────────> flying ─────────> outcome, token
//!                  (of each sketch one      ^              │
//!                   for adds, and one       └── lost ──────┘  again, with the same sequence
//!                   for questions)
//! ```
//!
//! Batches of all sketches stand in one line, and take their sequence from one counter when they are sealed. A request
//! that counts once has at most one operation that takes, since the node remembers one verdict for it.
//!
//! Every copy of a batch that is sent has a request id of its own. So a reply tells which copy it
//! answers: round trips are measured without doubt, a copy whose followers were answered is lost, and a
//! second reply to the same copy finds nothing.
//!
//! What adds carries the client's number and a sequence (*once*), and the boot of the node, which is
//! asked for before the first such batch goes out. With the boot comes a *cookie*: until the node is seen to
//! know the client, copies carry the latest one, and what the node sends back for want of a good one goes
//! again with that which came with the refusal.

mod cookie;
mod lane;
mod moving;
mod recovery;
mod replies;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use self::cookie::Cookie;
use self::cookie::{cookie_of, shown};
pub(super) use self::lane::DATAGRAM_BYTES;
use self::lane::{Batch, Lanes};
use self::recovery::Recovery;
use super::questions::Question;
use rmbd_proto::compact::{
    self, Answer, Header, ONCE_RETRY_S_MAX, ONCE_WINDOW, Operation, Problem, RequestWriter,
    WriteError,
};
use rmbd_proto::{Boot, SketchNumber};

/// Bytes of the largest train: an IPv4 datagram's payload.
const TRAIN_BYTES_MAX: usize = 65_507;
/// Datagrams that the kernel takes at once (udp(7), `UDP_SEGMENT`).
const TRAIN_DATAGRAMS_MAX: usize = 64;
/// After so much silence the node may have been started again: its boot is asked for before adding,
/// so that nothing becomes uncertain that need not.
const BOOT_TRUSTED: Duration = Duration::from_secs(10);

/// The times that a client keeps to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Settings {
    /// For how long a batch is sent again and again.
    pub(super) timeout: Duration,
    /// How long an operation waits for others.
    pub(super) linger: Duration,
}

/// Numbers that make a client different from all others.
#[derive(Debug, Clone, Copy)]
pub(super) struct ClientId {
    pub(super) client: u64,
    pub(super) first_id: u32,
}

/// An operation that failed, and whether it may have been applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) reason: Reason,
    /// Whether it may have been applied: never true of what only asks.
    pub(super) uncertain: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    /// No reply in time.
    Silence,
    /// The node refused, with the code of a [`Problem`].
    Code(u8),
    /// Nobody listens there.
    #[cfg_attr(
        not(feature = "tokio"),
        allow(dead_code, reason = "the blocking client tells it by itself")
    )]
    Unreachable,
    /// The driver gave up.
    Abandoned,
}

/// The outcome of an operation. `None` is the answer to what has none.
pub(super) type Outcome<'a> = Result<Option<Answer<'a>>, Failure>;

/// Takes outcomes.
pub(super) type Sink<'s, T> = dyn FnMut(T, Outcome<'_>) + 's;

/// An operation that cannot be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unsendable {
    KeyTooLong {
        bytes: usize,
    },
    /// Of a limit.
    NameTooLong {
        bytes: usize,
    },
    /// None, or too many.
    LimitParts {
        parts: usize,
    },
    /// Limits whose keys do not fit a datagram together: all else has room with the longest key and numbers.
    TooLong,
    WeightTooLarge {
        weight: u64,
        weight_max: u32,
    },
}

impl From<WriteError> for Unsendable {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::KeyTooLong { bytes } => Self::KeyTooLong { bytes },
            WriteError::NameTooLong { bytes } => Self::NameTooLong { bytes },
            WriteError::LimitParts { parts } => Self::LimitParts { parts },
            WriteError::Full
            | WriteError::TokenTooLong { .. }
            | WriteError::CookieTooLong { .. } => Self::TooLong,
        }
    }
}

#[derive(Debug)]
pub(super) struct Core<T> {
    settings: Settings,
    node: Option<Node>,
    heard_at: Duration,
    /// When the present address was turned to.
    arrived_at: Duration,
    has_heard: bool,
    adding: Lanes<T>,
    asking: Lanes<T>,
    /// Whose turn it is, where both have something.
    adding_is_next: bool,
    /// The question for the boot; it has no token.
    handshake: Option<Batch<T>>,
    /// By the order in which they were sent first.
    flying: BTreeMap<u64, Flying<T>>,
    next_flight: u64,
    /// Flights of which nothing is under way.
    lost: VecDeque<u64>,
    /// Copies by id, for replies.
    copies: HashMap<u32, Copy>,
    /// Copies by number, for the time.
    sent: VecDeque<Copy>,
    first_id: u32,
    next_copy: u64,
    replied_max: u64,
    recovery: Recovery,
    repeated: u64,
    /// The latest one.
    cookie: Cookie,
    /// Whether the node has taken something of ours that adds: then it needs no cookie. It may forget a
    /// client that was silent for minutes, so that each question for the boot begins anew.
    is_known: bool,
}

/// The node, as its info describes it.
#[derive(Debug, Clone, Copy)]
struct Node {
    boot: Boot,
    weight_max: u32,
}

#[derive(Debug)]
struct Flying<T> {
    batch: Batch<T>,
    kind: Kind,
    boot: Boot,
    first_sent: Duration,
    /// Of its copies.
    ids: Vec<u32>,
    /// The latest one; `None` if that is lost.
    under_way: Option<u64>,
    /// How often the node has sent it back for want of a good cookie.
    sent_back: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Adding,
    Asking,
    Handshake,
}

#[derive(Debug, Clone, Copy)]
struct Copy {
    number: u64,
    flight: u64,
    sent_at: Duration,
}

impl<T> Core<T> {
    pub(super) fn new(settings: Settings, id: ClientId) -> Self {
        let timeout_max = Duration::from_secs(ONCE_RETRY_S_MAX);
        Self {
            settings: Settings {
                timeout: settings.timeout.min(timeout_max),
                ..settings
            },
            node: None,
            heard_at: Duration::ZERO,
            arrived_at: Duration::ZERO,
            has_heard: false,
            adding: Lanes::new(Some(id.client)),
            asking: Lanes::new(None),
            adding_is_next: true,
            handshake: None,
            flying: BTreeMap::new(),
            next_flight: 0,
            lost: VecDeque::new(),
            copies: HashMap::new(),
            sent: VecDeque::new(),
            first_id: id.first_id,
            next_copy: 0,
            replied_max: 0,
            recovery: Recovery::default(),
            repeated: 0,
            cookie: Cookie::default(),
            is_known: false,
        }
    }

    /// Takes an operation. It is sent with others: when a datagram is full, at [`Self::flush`], or
    /// after the linger.
    #[inline]
    pub(super) fn push<'q>(
        &mut self,
        question: impl Into<Question<'q>>,
        token: T,
        now: impl Fn() -> Duration,
    ) -> Result<(), Unsendable> {
        let Question {
            operation,
            sketch,
            once,
            ..
        } = question.into();
        let weight = heaviest(operation);
        if let Some(Node { weight_max, .. }) = self.node
            && weight > weight_max.into()
        {
            return Err(Unsendable::WeightTooLarge { weight, weight_max });
        }
        let lanes = match weight > 0 && once {
            true => &mut self.adding,
            false => &mut self.asking,
        };
        lanes.place(sketch, operation, now)?;
        lanes.push_token(token);
        Ok(())
    }

    /// Makes what was pushed ready to be sent.
    pub(super) fn flush(&mut self) {
        self.adding.flush();
        self.asking.flush();
    }

    /// Datagrams that wait until they may be sent.
    pub(super) fn waiting(&self) -> usize {
        self.adding.sealed.len() + self.asking.sealed.len()
    }

    /// Whether no operation is left without an outcome.
    pub(super) fn is_idle(&self) -> bool {
        self.adding.is_empty()
            && self.asking.is_empty()
            && self.flying.values().all(|f| f.kind == Kind::Handshake)
    }

    /// Whether a node has ever replied.
    pub(super) fn has_heard(&self) -> bool {
        self.has_heard
    }

    /// Copies that were sent in place of lost ones.
    pub(super) fn repeated(&self) -> u64 {
        self.repeated
    }

    /// Puts what may be sent now into `train`, datagrams of one size but the last; that size, or
    /// `None` where there is nothing. To be called until there is nothing.
    pub(super) fn transmit(&mut self, now: Duration, train: &mut Vec<u8>) -> Option<u16> {
        train.clear();
        self.prepare_handshake(now);
        let mut segment_bytes = None;
        for _ in 0..TRAIN_DATAGRAMS_MAX {
            let Some((next, bytes)) = self.next_flight() else {
                break;
            };
            let size = *segment_bytes.get_or_insert(bytes);
            if bytes > size || train.len() + bytes > TRAIN_BYTES_MAX {
                break;
            }
            self.launch(next, now, train);
            if bytes < size {
                break;
            }
        }
        // At most DATAGRAM_BYTES.
        segment_bytes.map(|bytes| bytes as u16)
    }

    /// Takes a datagram from the node; what is no reply to something under way is ignored.
    pub(super) fn receive(&mut self, datagram: &[u8], now: Duration, sink: &mut Sink<'_, T>) {
        let Ok(reply) = compact::reply(datagram) else {
            return;
        };
        let Some(copy) = self.copies.get(&reply.head.id).copied() else {
            return;
        };
        let fits = (self.flying.get(&copy.flight)).is_some_and(|flying| flying.fits(&reply));
        if !fits {
            return;
        }
        self.heard_at = now;
        self.has_heard = true;
        if let Some(cookie) = cookie_of(&reply) {
            return self.take_back(copy, cookie);
        }
        if reply.head.code == Problem::Busy.code() {
            // As if it had been lost: it goes again, and more slowly.
            return;
        }
        self.replied_max = self.replied_max.max(copy.number);
        self.recovery.replied(now.saturating_sub(copy.sent_at));
        if let Some(flying) = self.land(copy.flight) {
            self.settle(flying, &reply, now, sink);
        }
        self.find_overtaken();
    }

    /// Does what is due. Outcomes here are failures.
    pub(super) fn tick(&mut self, now: Duration, sink: &mut Sink<'_, T>) {
        for lane in [&mut self.adding, &mut self.asking] {
            if lane
                .opened_at()
                .is_some_and(|at| at + self.settings.linger <= now)
            {
                lane.flush();
            }
        }
        self.find_late(now);
        let timeout = self.settings.timeout;
        while let Some((&flight, flying)) = self.flying.first_key_value()
            && flying.first_sent + timeout <= now
        {
            if let Some(flying) = self.land(flight) {
                flying.give_up(sink);
            }
        }
        let silent_since = now.saturating_sub(timeout);
        for lane in [&mut self.adding, &mut self.asking] {
            while (lane.sealed.front())
                .is_some_and(|batch| batch.queued_at.max(self.heard_at) <= silent_since)
                && let Some(batch) = lane.sealed.pop_front()
            {
                batch.fail(Reason::Silence, false, sink);
            }
        }
    }

    /// When [`Self::tick`] has something to do, unless something else happens before.
    pub(super) fn next_tick(&self) -> Option<Duration> {
        let Settings { timeout, linger } = self.settings;
        let lanes = [&self.adding, &self.asking];
        let opened = lanes.iter().filter_map(|lane| lane.opened_at());
        let sealed = (lanes.iter()).filter_map(|lane| lane.sealed.front());
        let flown = self.flying.first_key_value();
        let sent = self.sent.front();
        opened
            .map(|at| at + linger)
            .chain(sealed.map(|batch| batch.queued_at.max(self.heard_at) + timeout))
            .chain(flown.map(|(_, flying)| flying.first_sent + timeout))
            .chain(sent.map(|copy| copy.sent_at + self.recovery.patience()))
            .min()
    }

    /// Gives up on everything.
    pub(super) fn abandon(&mut self, reason: Reason, sink: &mut Sink<'_, T>) {
        for flying in std::mem::take(&mut self.flying).into_values() {
            flying.fail(reason, true, sink);
        }
        self.copies.clear();
        self.sent.clear();
        self.lost.clear();
        self.handshake = None;
        self.flush();
        for lane in [&mut self.adding, &mut self.asking] {
            for batch in lane.sealed.drain(..) {
                batch.fail(reason, false, sink);
            }
        }
    }
}

// --- Sending ---

/// The flight that is sent next.
#[derive(Debug, Clone, Copy)]
enum Next {
    Again(u64),
    Handshake,
    Adding,
    Asking,
}

impl<T> Core<T> {
    fn prepare_handshake(&mut self, now: Duration) {
        let is_stale = self.flying.is_empty() && now.saturating_sub(self.heard_at) >= BOOT_TRUSTED;
        if self.adding.sealed.is_empty() || (self.node.is_some() && !is_stale) {
            return;
        }
        self.node = None;
        let is_asked = self.flying.values().any(|f| f.kind == Kind::Handshake);
        if self.handshake.is_none() && !is_asked {
            let mut writer = RequestWriter::new(DATAGRAM_BYTES);
            // Both fit: neither has a key or a token.
            let written = writer
                .start(&Header::default())
                .and_then(|()| writer.info());
            self.handshake = written.ok().map(|()| Batch {
                datagram: writer.finish().to_vec(),
                tokens: Vec::new(),
                asks: true,
                adds: false,
                sequence: None,
                sketch: SketchNumber::DEFAULT,
                queued_at: now,
                first_sent: None,
            });
        }
    }

    /// What may be sent next, and its length.
    fn next_flight(&mut self) -> Option<(Next, usize)> {
        if self.sent.len() >= self.recovery.window() {
            return None;
        }
        while let Some(&flight) = self.lost.front() {
            if let Some(flying) = self.flying.get(&flight) {
                return Some((Next::Again(flight), self.copy_bytes(&flying.batch)));
            }
            self.lost.pop_front();
        }
        if let Some(batch) = &self.handshake {
            return Some((Next::Handshake, self.copy_bytes(batch)));
        }
        let adding = (self.adding.sealed.front())
            .filter(|batch| self.node.is_some() && self.is_within_window(batch))
            .map(|batch| (Next::Adding, self.copy_bytes(batch)));
        let asking = (self.asking.sealed.front()).map(|b| (Next::Asking, self.copy_bytes(b)));
        match self.adding_is_next {
            true => adding.or(asking),
            false => asking.or(adding),
        }
    }

    /// The node forgets sequences that are too far behind the newest.
    fn is_within_window(&self, batch: &Batch<T>) -> bool {
        let oldest = self.flying.values().find_map(|f| f.batch.sequence);
        let newest = batch.sequence;
        oldest
            .zip(newest)
            .is_none_or(|(oldest, newest)| newest - oldest < ONCE_WINDOW)
    }

    /// Of a copy that is sent now.
    fn copy_bytes(&self, batch: &Batch<T>) -> usize {
        let cookie = shown(&self.cookie, self.is_known, batch);
        batch.datagram.len() + cookie.map_or(0, |cookie| 1 + cookie.len())
    }

    fn launch(&mut self, next: Next, now: Duration, train: &mut Vec<u8>) {
        let (batch, kind) = match next {
            Next::Again(flight) => {
                self.lost.pop_front();
                self.repeated += 1;
                return self.send_copy(flight, now, train);
            }
            Next::Handshake => (self.handshake.take(), Kind::Handshake),
            Next::Adding => (self.adding.sealed.pop_front(), Kind::Adding),
            Next::Asking => (self.asking.sealed.pop_front(), Kind::Asking),
        };
        self.adding_is_next = kind == Kind::Asking;
        let Some(mut batch) = batch else { return };
        let boot = self.node.map_or(Boot(0), |node| node.boot);
        if batch.sequence.is_some() {
            batch.set_boot(boot);
        }
        let flight = self.next_flight;
        self.next_flight += 1;
        let flying = Flying {
            first_sent: batch.first_sent.unwrap_or(now),
            batch,
            kind,
            boot,
            ids: Vec::with_capacity(1),
            under_way: None,
            sent_back: 0,
        };
        self.flying.insert(flight, flying);
        self.send_copy(flight, now, train);
    }

    fn send_copy(&mut self, flight: u64, now: Duration, train: &mut Vec<u8>) {
        let Some(flying) = self.flying.get_mut(&flight) else {
            return;
        };
        let number = self.next_copy;
        self.next_copy += 1;
        // Unique among those under way, of which there are far less than 2^32.
        let id = self.first_id.wrapping_add(number as u32);
        let copy = Copy {
            number,
            flight,
            sent_at: now,
        };
        flying.batch.set_id(id);
        flying.ids.push(id);
        flying.under_way = Some(number);
        match shown(&self.cookie, self.is_known, &flying.batch) {
            Some(cookie) => compact::write_with_cookie(&flying.batch.datagram, cookie, train),
            None => train.extend_from_slice(&flying.batch.datagram),
        }
        self.copies.insert(id, copy);
        self.sent.push_back(copy);
    }
}

/// The largest weight of an operation, of which limits have several; 0 where it only asks.
#[inline]
fn heaviest(operation: Operation<'_>) -> u64 {
    match operation {
        Operation::Limits(limits) => limits.parts().map(|part| part.weight).max().unwrap_or(0),
        other => other.weight(),
    }
}
