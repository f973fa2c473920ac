//! What a data thread does with its datagrams: adds, counts, and a hand-off for what is rare. It
//! allocates nothing after it was made.

mod answers;
mod compact;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use self::answers::{Answers, Place};
use super::shared::Shared;
use super::tally::{Refused, Tally};
use crate::io::{self, Replies, Train};
use crate::replica::Batch;
use crate::wire::compact::{INFO_ANSWER_BYTES_MAX, REPLY_HEAD_BYTES, is_reply, is_request};
use crate::wire::legacy::{self, Layout, Message};

/// A data thread's handler.
pub(super) struct DataHandler {
    shared: Arc<Shared>,
    thread: usize,
    layout: Layout,
    max_weight: u32,
    /// Counts are answered with the place of their reply in `answers`.
    batch: Batch<Place>,
    answers: Answers,
    /// The answer to info.
    info: Box<[u8]>,
    /// When the train at hand came; read from the clock when it is first needed.
    now: Option<Duration>,
    tally: Tally,
}

impl DataHandler {
    pub(super) fn new(shared: Arc<Shared>, thread: usize) -> Self {
        let layout = shared.layout();
        let epsilon = shared.replica().own().geometry().epsilon();
        Self {
            thread,
            layout,
            max_weight: shared.max_weight(),
            batch: Batch::new(),
            answers: Answers::new(layout.dialect, epsilon),
            info: compact::encode_info(&shared),
            now: None,
            tally: Tally::default(),
            shared,
        }
    }

    #[inline]
    fn datagram(&mut self, datagram: &[u8], from: SocketAddr) {
        self.tally.datagrams += 1;
        match datagram.first() {
            Some(&first) if is_request(first) => self.compact(datagram),
            _ => self.legacy(datagram, from),
        }
    }

    fn legacy(&mut self, datagram: &[u8], from: SocketAddr) {
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
                // No legacy message begins like a reply, so it costs them nothing that it is
                // looked for last.
                Err(_) if datagram.first().is_some_and(|&first| is_reply(first)) => {
                    self.reply_of_another(datagram, from);
                }
                Err(reason) => self.tally.malformed(reason),
            }
        }
        self.answers.end_legacy();
    }

    /// Perhaps what the control thread has asked another node.
    fn reply_of_another(&mut self, datagram: &[u8], from: SocketAddr) {
        let is_short = datagram.len() <= REPLY_HEAD_BYTES + INFO_ANSWER_BYTES_MAX;
        if is_short && self.shared.awaits_answers() {
            self.hand_off(datagram, from);
        } else {
            self.tally.refused(Refused::Unsolicited, 1);
        }
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
        let place = answers.reserve_legacy(key);
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
        self.now = None;
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
