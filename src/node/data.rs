//! What a data thread does with its datagrams: adds, counts, and a hand-off for what is rare. It
//! allocates nothing after it was made.

use std::net::SocketAddr;
use std::sync::Arc;

use super::shared::Shared;
use super::tally::{Refused, Tally};
use crate::io::{self, Replies, TRAIN_BYTES_MAX, Train};
use crate::replica::Batch;
use crate::sketch::Estimate;
use crate::wire::legacy::{
    self, Dialect, Layout, MESSAGE_BYTES, Message, REPLY_DATAGRAM_BYTES_MAX,
};

/// Messages that are answered in one train, at most.
const ANSWERS_MAX: usize = TRAIN_BYTES_MAX / MESSAGE_BYTES + 1;

/// A data thread's handler.
pub(super) struct DataHandler {
    shared: Arc<Shared>,
    thread: usize,
    layout: Layout,
    /// Counts are answered with the place of their reply in `answers`.
    batch: Batch<usize>,
    answers: Answers,
    tally: Tally,
}

impl DataHandler {
    pub(super) fn new(shared: Arc<Shared>, thread: usize) -> Self {
        let layout = shared.layout();
        Self {
            thread,
            layout,
            batch: Batch::new(),
            answers: Answers::new(layout.dialect),
            tally: Tally::default(),
            shared,
        }
    }

    fn datagram(&mut self, datagram: &[u8], from: SocketAddr) {
        self.tally.datagrams += 1;
        for message in legacy::messages(datagram, self.layout) {
            match message {
                Ok(Message::Add { key }) => self.add(key),
                Ok(Message::Count { key }) => self.count(key),
                Ok(Message::Sync(_)) => {
                    self.tally.sync += 1;
                    self.hand_off_if_trusted(datagram, from);
                }
                Ok(Message::Peer(_)) => {
                    self.tally.peer += 1;
                    self.hand_off_if_trusted(datagram, from);
                }
                Ok(Message::Ack) => {
                    self.tally.ack += 1;
                    // Its length is the sender's whim; what it says is in the first byte.
                    self.hand_off(&legacy::ACK, from);
                }
                Err(reason) => self.tally.malformed(reason),
            }
        }
        self.answers.end_datagram();
    }

    #[inline]
    fn add(&mut self, key: &[u8]) {
        self.tally.add += 1;
        let Self {
            batch,
            answers,
            shared,
            ..
        } = self;
        // A weight of 1 is never too large.
        let _ = batch.add(shared.replica(), key, 1, &mut |place, e| {
            answers.fill(place, e);
        });
    }

    #[inline]
    fn count(&mut self, key: &[u8]) {
        self.tally.count += 1;
        let Self {
            batch,
            answers,
            shared,
            ..
        } = self;
        let place = answers.reserve(key);
        batch.count(shared.replica(), key, place, &mut |place, e| {
            answers.fill(place, e);
        });
    }

    fn hand_off_if_trusted(&mut self, datagram: &[u8], from: SocketAddr) {
        if self.shared.access().is_trusted(from.ip()) {
            self.hand_off(datagram, from);
        } else {
            self.tally.refused(Refused::NotTrusted, 1);
        }
    }

    fn hand_off(&mut self, datagram: &[u8], from: SocketAddr) {
        if !self.shared.hand_off().offer(from, datagram) {
            self.tally.refused(Refused::QueueFull, 1);
        }
    }

    fn finish(&mut self, replies: &mut Replies) {
        let Self {
            batch,
            answers,
            shared,
            ..
        } = self;
        batch.finish(shared.replica(), &mut |place, e| answers.fill(place, e));
        answers.send(replies);
    }
}

impl io::Handler for DataHandler {
    fn train(&mut self, train: &Train<'_>, replies: &mut Replies) {
        let from = train.from();
        if !self.shared.access().may_use(from.ip()) {
            let datagrams = train.datagrams().count() as u64;
            self.tally.datagrams += datagrams;
            return self.tally.refused(Refused::NotAllowed, datagrams);
        }
        for datagram in train.datagrams() {
            self.datagram(datagram, from);
        }
        self.finish(replies);
    }

    fn pause(&mut self) {
        self.shared.tally(self.thread).publish(&self.tally);
    }
}

/// Replies to the counts of one train, in order. Keys are written when the counts are read, numbers
/// when the batch answers.
struct Answers {
    dialect: Dialect,
    bytes: Box<[u8]>,
    len: usize,
    /// Where the replies to each request datagram end, for those that have any.
    ends: Vec<usize>,
}

impl Answers {
    fn new(dialect: Dialect) -> Self {
        Self {
            dialect,
            bytes: vec![0; ANSWERS_MAX * dialect.reply_bytes()].into_boxed_slice(),
            len: 0,
            ends: Vec::with_capacity(ANSWERS_MAX),
        }
    }

    /// Room for the reply to a count of `key`; returns its place.
    fn reserve(&mut self, key: &[u8]) -> usize {
        let place = self.len;
        self.len += self.dialect.reply_bytes();
        legacy::write_reply_key(key, self.dialect, &mut self.bytes[place..self.len]);
        place
    }

    fn fill(&mut self, place: usize, estimate: Estimate) {
        let reply = &mut self.bytes[place..place + self.dialect.reply_bytes()];
        legacy::write_reply_count(estimate.count, self.dialect, reply);
    }

    fn end_datagram(&mut self) {
        if self.len > self.ends.last().copied().unwrap_or(0) {
            self.ends.push(self.len);
        }
    }

    /// Replies to different requests never share a datagram; those to one are split between whole
    /// replies.
    fn send(&mut self, replies: &mut Replies) {
        let reply_bytes = self.dialect.reply_bytes();
        let datagram_bytes = REPLY_DATAGRAM_BYTES_MAX / reply_bytes * reply_bytes;
        let mut start = 0;
        for &end in &self.ends {
            for datagram in self.bytes[start..end].chunks(datagram_bytes) {
                replies.push(datagram);
            }
            start = end;
        }
        self.len = 0;
        self.ends.clear();
    }
}
