//! Replies: written piece by piece, since answers come late and in places that were kept for them,
//! and read by clients.

use std::iter::FusedIterator;

use thiserror::Error;

use super::{
    BOUNDS, COOKIE, COOKIE_BYTES_MAX, COUNT, FLAG_REPEATED, HIT, INCOMPLETE, INFO, OVER_LIMIT,
    Problem, REPLY, REPLY_BYTES_MAX, REPLY_HEAD_BYTES, VERSION,
};
use crate::reader::{ReadError, Reader};
use crate::{Boot, Writer};

/// Bytes of the answer to a count or a hit.
pub const COUNT_ANSWER_BYTES: usize = 1 + 8;
/// Bytes of the answer to bounds.
pub const BOUNDS_ANSWER_BYTES: usize = 1 + 3 * 8;
/// Bytes of the longest answer to info.
pub const INFO_ANSWER_BYTES_MAX: usize = 2
    + INFO_FIELDS_BYTES
    + VERSION_TEXT_BYTES_MAX
    + CLUSTER_PORT_BYTES
    + 1
    + COOKIE_BYTES_MAX
    + INFO_BEHIND_COOKIE_BYTES;
/// Bytes of an info behind its cookie.
pub const INFO_BEHIND_COOKIE_BYTES: usize = 8;
/// Bytes of the longest answer with a cookie.
pub const COOKIE_ANSWER_BYTES_MAX: usize = 2 + COOKIE_BYTES_MAX;
/// Bytes of the program's version in an info; what is longer is cut.
pub const VERSION_TEXT_BYTES_MAX: usize = 32;
/// [`Info::hash`] of XXH3-128.
pub const HASH_XXH3: u8 = 1;
/// [`Info::hash`] of the Python program's FNV-1a.
pub const HASH_FNV: u8 = 2;

/// Of an info, between its length and the text: boot, fingerprint, width, max weight, depth, hash, and
/// the text's length.
const INFO_FIELDS_BYTES: usize = 8 + 8 + 8 + 4 + 1 + 1 + 1;
/// Of an info, behind the text.
const CLUSTER_PORT_BYTES: usize = 2;

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

/// A node's description of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Info<'a> {
    /// A random number of the node's present start.
    pub boot: Boot,
    /// Equal where width, depth, hash and its seed are.
    pub fingerprint: u64,
    /// Columns a row.
    pub width: u64,
    /// The largest weight of one add or hit.
    pub max_weight: u32,
    /// Rows.
    pub depth: u8,
    /// [`HASH_XXH3`], [`HASH_FNV`], or what is not known here.
    pub hash: u8,
    /// The program's version, perhaps not UTF-8.
    pub version: &'a [u8],
    /// UDP port where other nodes are heard, on the address that answers; 0 is nowhere, as in the
    /// infos of nodes that know of none.
    pub cluster_port: u16,
    /// Proof to the node that the client receives at the address that asked; at most
    /// [`COOKIE_BYTES_MAX`] bytes, none where the node asks for no proof.
    pub cookie: &'a [u8],
    /// The writer of the slices that the node counts in; 0 in the infos of nodes that do not tell.
    pub writer: Writer,
}

/// An answer to one operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer<'a> {
    /// To a count.
    Count {
        /// Never below the truth for what is known at the node.
        estimate: u64,
        /// Something that others counted is not here: all together may have more.
        incomplete: bool,
    },
    /// To a hit.
    Hit {
        /// The same, the hit's own weight included.
        estimate: u64,
        /// Something that others counted is not here: all together may have more.
        incomplete: bool,
        /// The estimate is not above the limit.
        within: bool,
    },
    /// To bounds.
    Bounds {
        /// Never below the truth for what is known at the node.
        estimate: u64,
        /// Something that others counted is not here: all together may have more.
        incomplete: bool,
        /// The truth is at least this, with the sketch's confidence.
        lower: u64,
        /// N, the total weight that the estimate rests on.
        total_weight: u64,
    },
    /// To info.
    Info(Info<'a>),
    /// To no operation: with [`Problem::AddressUnproven`].
    Cookie(&'a [u8]),
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

/// Writes the answer to a count.
#[inline]
pub fn write_count_answer(estimate: u64, incomplete: bool, out: &mut [u8; COUNT_ANSWER_BYTES]) {
    write_tagged(COUNT | flag(INCOMPLETE, incomplete), estimate, out);
}

/// Writes the answer to a hit.
#[inline]
pub fn write_hit_answer(
    estimate: u64,
    incomplete: bool,
    within: bool,
    out: &mut [u8; COUNT_ANSWER_BYTES],
) {
    let flags = flag(INCOMPLETE, incomplete) | flag(OVER_LIMIT, !within);
    write_tagged(HIT | flags, estimate, out);
}

/// Writes the answer to bounds.
#[inline]
pub fn write_bounds_answer(
    estimate: u64,
    incomplete: bool,
    lower: u64,
    total_weight: u64,
    out: &mut [u8; BOUNDS_ANSWER_BYTES],
) {
    let [tag, numbers @ ..] = out;
    *tag = BOUNDS | flag(INCOMPLETE, incomplete);
    let numbers = numbers.as_chunks_mut().0.iter_mut();
    for (out, number) in numbers.zip([estimate, lower, total_weight]) {
        *out = number.to_le_bytes();
    }
}

/// The answer to info. It stays the same as long as the node runs, but for the cookie, which stands before the last
/// [`INFO_BEHIND_COOKIE_BYTES`].
#[must_use]
pub fn encode_info(info: &Info<'_>) -> Vec<u8> {
    let version = &info.version[..info.version.len().min(VERSION_TEXT_BYTES_MAX)];
    let mut out = Vec::with_capacity(INFO_ANSWER_BYTES_MAX);
    let cookie = &info.cookie[..info.cookie.len().min(COOKIE_BYTES_MAX)];
    let bytes = INFO_FIELDS_BYTES
        + version.len()
        + CLUSTER_PORT_BYTES
        + 1
        + cookie.len()
        + INFO_BEHIND_COOKIE_BYTES;
    // At most 90 and 32.
    out.extend([INFO, bytes as u8]);
    out.extend(info.boot.0.to_le_bytes());
    out.extend(info.fingerprint.to_le_bytes());
    out.extend(info.width.to_le_bytes());
    out.extend(info.max_weight.to_le_bytes());
    out.extend([info.depth, info.hash, version.len() as u8]);
    out.extend(version);
    out.extend(info.cluster_port.to_le_bytes());
    out.push(cookie.len() as u8);
    out.extend(cookie);
    out.extend(info.writer.0.to_le_bytes());
    out
}

/// The answer with a cookie of the longest size.
#[must_use]
pub fn encode_cookie(cookie: &[u8; COOKIE_BYTES_MAX]) -> [u8; COOKIE_ANSWER_BYTES_MAX] {
    let mut out = [0; COOKIE_ANSWER_BYTES_MAX];
    let [kind, length, bytes @ ..] = &mut out;
    (*kind, *length) = (COOKIE, COOKIE_BYTES_MAX as u8);
    *bytes = *cookie;
    out
}

#[inline]
fn write_tagged(tag: u8, number: u64, out: &mut [u8; COUNT_ANSWER_BYTES]) {
    let [first, bytes @ ..] = out;
    *first = tag;
    *bytes = number.to_le_bytes();
}

#[inline]
const fn flag(bit: u8, set: bool) -> u8 {
    if set { bit } else { 0 }
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
            if LATER.contains(&tag) && reader.field().is_ok() {
                self.rest = reader.rest();
                continue;
            }
            let answer = answer(tag, &mut reader);
            self.rest = answer.map_or(&[], |_| reader.rest());
            return Some(answer.map_err(|_| ReplyMalformed::Answer));
        }
    }
}

/// Answers of later versions: skipped by their length.
const LATER: std::ops::RangeInclusive<u8> = COOKIE + 1..=0x3f;

impl FusedIterator for Answers<'_> {}

fn answer<'a>(tag: u8, reader: &mut Reader<'a>) -> Result<Answer<'a>, ReadError> {
    let incomplete = tag & INCOMPLETE != 0;
    match tag & !INCOMPLETE {
        COUNT => Ok(Answer::Count {
            estimate: reader.u64()?,
            incomplete,
        }),
        hit if hit & !OVER_LIMIT == HIT => Ok(Answer::Hit {
            estimate: reader.u64()?,
            incomplete,
            within: hit & OVER_LIMIT == 0,
        }),
        BOUNDS => Ok(Answer::Bounds {
            estimate: reader.u64()?,
            incomplete,
            lower: reader.u64()?,
            total_weight: reader.u64()?,
        }),
        INFO if !incomplete => {
            let fields = reader.field()?;
            info(Reader::new(fields)).map(Answer::Info)
        }
        COOKIE if !incomplete => reader.field().map(Answer::Cookie),
        _ => Err(ReadError::Form),
    }
}

/// Bytes behind what is known here are skipped: an info may grow.
fn info(mut reader: Reader<'_>) -> Result<Info<'_>, ReadError> {
    let (boot, fingerprint, width) = (reader.u64()?, reader.u64()?, reader.u64()?);
    let max_weight = reader.u32()?;
    let [depth, hash, length] = reader.array()?;
    let version = reader.bytes(length.into())?;
    // An info may end before any of these.
    let cluster_port = reader.u16().unwrap_or_default();
    let cookie = reader.field();
    let writer = cookie.and_then(|_| reader.u64());
    Ok(Info {
        boot: Boot(boot),
        fingerprint,
        width,
        max_weight,
        depth,
        hash,
        version,
        cluster_port,
        cookie: cookie.unwrap_or_default(),
        writer: Writer(writer.unwrap_or_default()),
    })
}
