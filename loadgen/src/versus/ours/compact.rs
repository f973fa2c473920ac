//! Compact requests. A train ends in a request that asks only for an acknowledgement.

use rmbd_proto::compact::{Answer, RequestWriter, reply};

use super::{Filled, Speech};
use crate::plan::{DATAGRAM_BYTES, Stream, TRAIN_BYTES_MAX, start_request};

/// Number of datagrams of adds in one system call. The rest of its room is larger than the last datagram, which has
/// no operation.
const TRAIN_DATAGRAMS: usize = TRAIN_BYTES_MAX / DATAGRAM_BYTES;
/// Numbers of questions are above this one, and those of trains below.
const QUESTIONS: u32 = 1 << 31;

pub(super) struct Compact {
    writer: RequestWriter,
    train: Vec<u8>,
    /// Whether the stream's latest key did not fit, so that it is the next one to be added.
    is_held_back: bool,
    latest_question: u32,
}

impl Compact {
    pub(super) fn new() -> Self {
        Self {
            writer: RequestWriter::new(DATAGRAM_BYTES),
            train: Vec::with_capacity(TRAIN_BYTES_MAX),
            is_held_back: false,
            latest_question: QUESTIONS,
        }
    }

    /// Writes a datagram of up to `adds_left` adds, and returns their number.
    fn datagram(&mut self, keys: &mut Stream, adds_left: u64) -> u64 {
        start_request(&mut self.writer, 0, false);
        let mut adds = 0;
        while adds < adds_left {
            let key = match self.is_held_back {
                true => keys.latest_key(),
                false => keys.next_key(),
            };
            self.is_held_back = self.writer.add(key, 1).is_err();
            if self.is_held_back {
                break;
            }
            adds += 1;
        }
        self.train.extend_from_slice(self.writer.finish());
        adds
    }
}

impl Speech for Compact {
    fn adds_as(&self) -> String {
        format!(
            "compact add, as many as fit a datagram of {DATAGRAM_BYTES} bytes (77 with keys of 16 bytes), \
             {TRAIN_DATAGRAMS} datagrams in one send (UDP_SEGMENT), and one behind them that asks for an \
             acknowledgement"
        )
    }

    fn counts_as(&self) -> String {
        "compact count, one in a datagram".to_owned()
    }

    fn fill(&mut self, keys: &mut Stream, adds_left: u64, number: u64) -> Filled<'_> {
        self.train.clear();
        let mut adds = 0;
        for datagram in 1..=TRAIN_DATAGRAMS {
            adds += self.datagram(keys, adds_left - adds);
            // All datagrams but the last have one length.
            self.train.resize(datagram * DATAGRAM_BYTES, 0);
            if adds == adds_left {
                break;
            }
        }
        // A turn has far fewer trains than 2^31.
        start_request(&mut self.writer, number as u32 % QUESTIONS, true);
        self.train.extend_from_slice(self.writer.finish());
        Filled {
            adds,
            bytes: &self.train,
            segment_bytes: DATAGRAM_BYTES as u16,
        }
    }

    fn confirmed(&self, datagram: &[u8]) -> Option<u64> {
        let head = reply(datagram).ok()?.head;
        (head.code == 0 && head.id < QUESTIONS).then_some(head.id.into())
    }

    fn question(&mut self, key: &[u8]) -> &[u8] {
        self.latest_question = self.latest_question.wrapping_add(1) | QUESTIONS;
        start_request(&mut self.writer, self.latest_question, false);
        let written = self.writer.count(key);
        debug_assert!(written.is_ok(), "a key fits a datagram");
        self.writer.finish()
    }

    fn answer(&self, datagram: &[u8], _key: &[u8]) -> Option<u64> {
        let reply = reply(datagram).ok()?;
        if reply.head.id != self.latest_question {
            return None;
        }
        match reply.answers().next()? {
            Ok(Answer::Count { estimate, .. }) => Some(estimate),
            _ => None,
        }
    }
}
