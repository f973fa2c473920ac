//! Legacy messages. Adds are not acknowledged, so a train ends in a count of a key that is never added.

use rmbd_proto::legacy::{
    MESSAGE_BYTES, REPLY_DATAGRAM_BYTES_MAX, encode_count, replies, write_add, write_count,
};

use super::{Filled, Speech};
use crate::plan::{Stream, TRAIN_BYTES_MAX};

/// Number of messages in a datagram of 1 400 bytes.
const PACK: usize = REPLY_DATAGRAM_BYTES_MAX / MESSAGE_BYTES;
const DATAGRAM_BYTES: usize = PACK * MESSAGE_BYTES;
/// Number of datagrams in one system call.
const TRAIN_DATAGRAMS: usize = TRAIN_BYTES_MAX / DATAGRAM_BYTES;
const TRAIN_MESSAGES: usize = TRAIN_DATAGRAMS * PACK;

const MARKER: &[u8] = b"\0versus train ";

pub(super) struct Legacy {
    train: Box<[u8]>,
    question: [u8; MESSAGE_BYTES],
}

impl Legacy {
    pub(super) fn new() -> Self {
        Self {
            train: vec![0; TRAIN_DATAGRAMS * DATAGRAM_BYTES].into(),
            question: [0; MESSAGE_BYTES],
        }
    }
}

impl Speech for Legacy {
    fn adds_as(&self) -> String {
        format!(
            "legacy ADD, {PACK} in a datagram of {DATAGRAM_BYTES} bytes, {TRAIN_DATAGRAMS} datagrams \
             in one send (UDP_SEGMENT), the last message of which is a COUNT"
        )
    }

    fn counts_as(&self) -> String {
        "legacy COUNT, one in a datagram".to_owned()
    }

    fn fill(&mut self, keys: &mut Stream, adds_left: u64, number: u64) -> Filled<'_> {
        let (messages, _) = self.train.as_chunks_mut::<MESSAGE_BYTES>();
        let adds = adds_left.min(TRAIN_MESSAGES as u64 - 1) as usize;
        for message in &mut messages[..adds] {
            write_add(keys.next_key(), message);
        }
        write_count(&marker(number), &mut messages[adds]);
        Filled {
            adds: adds as u64,
            bytes: &self.train[..(adds + 1) * MESSAGE_BYTES],
            segment_bytes: DATAGRAM_BYTES as u16,
        }
    }

    fn confirmed(&self, datagram: &[u8]) -> Option<u64> {
        replies(datagram).filter_map(|(key, _)| train_of(key)).max()
    }

    fn question(&mut self, key: &[u8]) -> &[u8] {
        self.question = encode_count(key);
        &self.question
    }

    fn answer(&self, datagram: &[u8], key: &[u8]) -> Option<u64> {
        let answer = replies(datagram).find(|(found, _)| *found == key);
        answer.map(|(_, count)| count)
    }
}

/// A key with a number that no stream has: no line holds a 0 byte, and no made key begins with one.
fn marker(train: u64) -> [u8; MARKER.len() + 8] {
    let mut key = [0; MARKER.len() + 8];
    let (text, number) = key.split_at_mut(MARKER.len());
    text.copy_from_slice(MARKER);
    number.copy_from_slice(&train.to_le_bytes());
    key
}

fn train_of(key: &[u8]) -> Option<u64> {
    let number = key.strip_prefix(MARKER)?.try_into().ok()?;
    Some(u64::from_le_bytes(number))
}
