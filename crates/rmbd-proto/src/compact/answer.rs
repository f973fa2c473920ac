//! The answers of a reply: what each says, how long it is, how it is written, and how it is read. An answer has the
//! code of its operation, which stands in `operation.rs`.
//!
//! A new answer takes a variant, its length, a function that writes it, and a line in each of the others.

use std::ops::RangeInclusive;

use super::info::{self, Info};
use super::{BOUNDS, COOKIE_BYTES_MAX, COUNT, HIT, INFO, flag};
use crate::reader::{ReadError, Reader};

/// The code of a cookie: only an answer.
const COOKIE: u8 = 7;
/// Codes of answers that begin with their length, so that who does not know one skips it.
const WITH_LENGTH: RangeInclusive<u8> = COOKIE + 1..=0x3f;

/// Added to the code of an answer.
const INCOMPLETE: u8 = 0x80;
/// Added to the code of a hit.
const OVER_LIMIT: u8 = 0x40;

/// Bytes of the answer to a count or a hit.
pub const COUNT_ANSWER_BYTES: usize = 1 + 8;
/// Bytes of the answer to bounds.
pub const BOUNDS_ANSWER_BYTES: usize = 1 + 3 * 8;
/// Bytes of the longest answer with a cookie.
pub const COOKIE_ANSWER_BYTES_MAX: usize = 2 + COOKIE_BYTES_MAX;

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
    /// To no operation: with [`Problem::AddressUnproven`](super::Problem::AddressUnproven).
    Cookie(&'a [u8]),
}

impl<'a> Answer<'a> {
    /// Reads the answer of this tag, which is a code and what is added to it, from what stands behind the tag. `None`
    /// is one of a later version, which was skipped.
    pub(super) fn read(tag: u8, reader: &mut Reader<'a>) -> Result<Option<Self>, ReadError> {
        let incomplete = tag & INCOMPLETE != 0;
        Ok(Some(match tag & !INCOMPLETE {
            COUNT => Self::Count {
                estimate: reader.u64()?,
                incomplete,
            },
            hit if hit & !OVER_LIMIT == HIT => Self::Hit {
                estimate: reader.u64()?,
                incomplete,
                within: hit & OVER_LIMIT == 0,
            },
            BOUNDS => Self::Bounds {
                estimate: reader.u64()?,
                incomplete,
                lower: reader.u64()?,
                total_weight: reader.u64()?,
            },
            INFO if !incomplete => Self::Info(info::read(Reader::new(reader.field()?))?),
            COOKIE if !incomplete => Self::Cookie(reader.field()?),
            _ if WITH_LENGTH.contains(&tag) => return reader.field().map(|_| None),
            _ => return Err(ReadError::Form),
        }))
    }
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
