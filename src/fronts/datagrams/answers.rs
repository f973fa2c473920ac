//! Replies to one train, in the order of its datagrams. Places are kept when questions are read, and
//! filled when the batch answers.

use crate::engine::Answer;
use rmbd_io::Replies;
use rmbd_proto::compact::{self, AMPLIFICATION_MAX, PREFIX_BYTES, REPLY_HEAD_BYTES, ReplyHead};
use rmbd_proto::legacy::{self, Dialect, MESSAGE_BYTES, REPLY_DATAGRAM_BYTES_MAX};
use rmbd_udp::TRAIN_BYTES_MAX;

/// Bytes of the replies to one train, at most: a compact reply is within its limit, a legacy one
/// slightly longer than its request.
const BYTES_MAX: usize = TRAIN_BYTES_MAX * AMPLIFICATION_MAX;
/// Reply datagrams to one train, at most: nothing shorter than this is replied to.
const REPLIES_MAX: usize = TRAIN_BYTES_MAX / PREFIX_BYTES + 1;

const _: () = assert!(Dialect::Native.reply_bytes() <= AMPLIFICATION_MAX * MESSAGE_BYTES);

/// Where an answer goes.
#[derive(Debug, Clone, Copy)]
pub(super) enum ReplySlot {
    Legacy { at: usize },
    Compact { at: usize },
}

pub(super) struct Answers {
    dialect: Dialect,
    bytes: Box<[u8]>,
    len: usize,
    /// Where the reply at hand begins, and where it must end.
    start: usize,
    limit: usize,
    /// Where each reply datagram ends.
    ends: Vec<usize>,
}

impl Answers {
    pub(super) fn new(dialect: Dialect) -> Self {
        Self {
            dialect,
            bytes: vec![0; BYTES_MAX].into_boxed_slice(),
            len: 0,
            start: 0,
            limit: 0,
            ends: Vec::with_capacity(REPLIES_MAX),
        }
    }

    /// Room for the reply to a count of `key` in the legacy format. Replies to one request are split
    /// between whole ones where they are too long for a datagram.
    pub(super) fn reserve_legacy(&mut self, key: &[u8]) -> ReplySlot {
        let bytes = self.dialect.reply_bytes();
        if self.len + bytes - self.start > REPLY_DATAGRAM_BYTES_MAX {
            self.end_datagram();
        }
        let at = self.len;
        self.len += bytes;
        legacy::write_reply_key(key, self.dialect, &mut self.bytes[at..self.len]);
        ReplySlot::Legacy { at }
    }

    /// Replies to different requests never share a datagram.
    pub(super) fn end_legacy(&mut self) {
        if self.len > self.start {
            self.end_datagram();
        }
    }

    /// Begins the reply to a compact request of so many bytes (at least [`PREFIX_BYTES`]).
    pub(super) fn begin_compact(&mut self, request_bytes: usize) {
        self.limit = self.start + compact::reply_bytes_max(request_bytes);
        self.len = self.start + REPLY_HEAD_BYTES;
    }

    /// Where the next answer would be: a place to [go back](Self::back_to) to.
    #[inline]
    pub(super) fn place(&self) -> usize {
        self.len
    }

    /// Gives up all room from this place on, which was kept for an operation that was not done: the bytes that stand
    /// there are those of an earlier reply.
    #[inline]
    pub(super) fn back_to(&mut self, place: usize) {
        self.len = place.min(self.len);
    }

    /// Room for an answer; `None` where the reply would be too long.
    #[inline]
    pub(super) fn reserve(&mut self, bytes: usize) -> Option<usize> {
        let at = self.len;
        (at + bytes <= self.limit).then(|| {
            self.len += bytes;
            at
        })
    }

    /// Writes an answer into all the room that is left. `write` returns how many bytes it has taken; `None` where
    /// there is too little room.
    pub(super) fn write_rest(
        &mut self,
        write: impl FnOnce(&mut [u8]) -> Option<usize>,
    ) -> Option<()> {
        let room = self.bytes.get_mut(self.len..self.limit)?;
        let room_bytes = room.len();
        let bytes = write(room)?.min(room_bytes);
        self.len += bytes;
        Some(())
    }

    /// Writes an answer of a fixed length into the place that was kept for it.
    #[inline]
    pub(super) fn write_at<const N: usize>(&mut self, at: usize, write: impl FnOnce(&mut [u8; N])) {
        // Always there: places come from `reserve`.
        if let Some(place) = self.bytes.get_mut(at..).and_then(<[u8]>::first_chunk_mut) {
            write(place);
        }
    }

    /// Writes an answer that is known already.
    pub(super) fn write(&mut self, at: usize, answer: &[u8]) {
        self.bytes[at..at + answer.len()].copy_from_slice(answer);
    }

    /// Ends the reply that was begun; without a head there is none.
    #[inline]
    pub(super) fn end_compact(&mut self, head: Option<ReplyHead>) {
        let Some(head) = head else {
            self.len = self.start;
            return;
        };
        if let Some(out) = self.bytes[self.start..].first_chunk_mut() {
            compact::write_reply_head(head, out);
        }
        self.end_datagram();
    }

    #[inline]
    pub(super) fn fill(&mut self, slot: ReplySlot, answer: Answer) {
        match slot {
            ReplySlot::Legacy { at } => {
                let reply = &mut self.bytes[at..at + self.dialect.reply_bytes()];
                legacy::write_reply_count(answer.estimate().count, self.dialect, reply);
            }
            ReplySlot::Compact { at } => self.fill_compact(at, answer),
        }
    }

    /// Whether no reply is owed.
    pub(super) fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Hands over all replies, and begins anew.
    pub(super) fn send(&mut self, replies: &mut Replies) {
        let mut start = 0;
        for &end in &self.ends {
            replies.push(&self.bytes[start..end]);
            start = end;
        }
        self.len = 0;
        self.start = 0;
        self.ends.clear();
    }

    /// What [`Self::send`] would hand over.
    #[cfg(test)]
    pub(super) fn take(&mut self) -> Vec<Vec<u8>> {
        let mut start = 0;
        let ends = std::mem::take(&mut self.ends);
        (self.len, self.start) = (0, 0);
        let datagram = |end: usize| self.bytes[std::mem::replace(&mut start, end)..end].to_vec();
        ends.into_iter().map(datagram).collect()
    }

    fn end_datagram(&mut self) {
        self.ends.push(self.len);
        self.start = self.len;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The largest train that asks for the largest replies fits, and so does the one with most of them.
    #[test]
    fn no_train_asks_for_more_room_than_there_is() {
        for request_bytes in [PREFIX_BYTES, 141, 467, 1400, TRAIN_BYTES_MAX] {
            let mut answers = Answers::new(Dialect::Native);
            let capacity = answers.ends.capacity();
            for _ in 0..TRAIN_BYTES_MAX / request_bytes {
                answers.begin_compact(request_bytes);
                while answers.reserve(1).is_some() {}
                answers.end_compact(Some(ReplyHead::default()));
            }
            assert!(answers.len <= answers.bytes.len());
            assert_eq!(answers.ends.capacity(), capacity);
        }
        let mut answers = Answers::new(Dialect::Native);
        for _ in 0..TRAIN_BYTES_MAX / MESSAGE_BYTES {
            answers.reserve_legacy(b"key");
            answers.end_legacy();
        }
        assert_eq!(answers.ends.len(), TRAIN_BYTES_MAX / MESSAGE_BYTES);
    }
}
