//! Replies: their head, and what stands behind it. A node writes a reply piece by piece, since answers come late and
//! in places that were kept for them.

use std::iter::FusedIterator;

use thiserror::Error;

use super::answer::Answer;
use super::{FLAG_REPEATED, Problem, REPLY, REPLY_BYTES_MAX, REPLY_HEAD_BYTES, VERSION};
use crate::reader::Reader;

/// The fields before the answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReplyHead {
    /// The request's.
    pub id: u32,
    /// The request was applied before; its weights were not added again.
    pub repeated: bool,
    /// Operations that were applied and answered.
    pub done: u16,
    /// What stopped the request, as a code of [`Problem`]; 0 is nothing.
    pub code: u8,
}

impl ReplyHead {
    /// What stopped the request: `None` is nothing, an inner `None` a code that is not known here.
    #[must_use]
    pub fn problem(&self) -> Option<Option<Problem>> {
        (self.code != 0).then(|| Problem::from_code(self.code))
    }
}

/// Writes the first [`REPLY_HEAD_BYTES`] of a reply.
#[inline]
pub fn write_reply_head(head: ReplyHead, out: &mut [u8; REPLY_HEAD_BYTES]) {
    let [a, b, c, d] = head.id.to_le_bytes();
    let [done_low, done_high] = head.done.to_le_bytes();
    let flags = if head.repeated { FLAG_REPEATED } else { 0 };
    *out = [
        REPLY | VERSION,
        flags,
        a,
        b,
        c,
        d,
        done_low,
        done_high,
        head.code,
    ];
}

/// A reply whose head has been read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reply<'a> {
    /// The fields before the answers.
    pub head: ReplyHead,
    answers: &'a [u8],
}

impl<'a> Reply<'a> {
    /// The answers, in the order of the operations that have one. At most one `Err`, as the last item.
    #[must_use]
    pub fn answers(&self) -> Answers<'a> {
        Answers { rest: self.answers }
    }
}

/// A datagram that is no reply in this format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ReplyMalformed {
    /// Too short, too long, or with another first byte.
    #[error("not a reply in the compact format")]
    NotAReply,
    /// An answer that is cut off or not known.
    #[error("a reply's answer is cut off or not known")]
    Answer,
}

/// Reads a reply's head.
///
/// # Errors
/// [`ReplyMalformed::NotAReply`].
pub fn reply(datagram: &[u8]) -> Result<Reply<'_>, ReplyMalformed> {
    match *datagram {
        [
            first,
            flags,
            a,
            b,
            c,
            d,
            done_low,
            done_high,
            code,
            ref answers @ ..,
        ] if first == REPLY | VERSION && datagram.len() <= REPLY_BYTES_MAX => Ok(Reply {
            head: ReplyHead {
                id: u32::from_le_bytes([a, b, c, d]),
                repeated: flags & FLAG_REPEATED != 0,
                done: u16::from_le_bytes([done_low, done_high]),
                code,
            },
            answers,
        }),
        _ => Err(ReplyMalformed::NotAReply),
    }
}

/// Iterator of [`Reply::answers`].
#[derive(Debug, Clone)]
pub struct Answers<'a> {
    /// Not read yet.
    rest: &'a [u8],
}

impl<'a> Iterator for Answers<'a> {
    type Item = Result<Answer<'a>, ReplyMalformed>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (&tag, rest) = self.rest.split_first()?;
            let mut reader = Reader::new(rest);
            let answer = Answer::read(tag, &mut reader);
            // After an error nobody knows where the next answer begins.
            self.rest = answer.map_or(&[], |_| reader.rest());
            if let Some(answer) = answer.transpose() {
                return Some(answer.map_err(|_| ReplyMalformed::Answer));
            }
        }
    }
}

impl FusedIterator for Answers<'_> {}
