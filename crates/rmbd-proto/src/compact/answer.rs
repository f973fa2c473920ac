//! The answers of a reply: what each says, how long it is, how it is written, and how it is read. An answer has the
//! code of its operation, which stands in `operation.rs`.
//!
//! A new answer takes a variant, its length, a function that writes it, and a line in each of the others.

use std::ops::RangeInclusive;

use super::info::{self, Info};
use super::limits::Verdict;
use super::sketches::Sketches;
use super::top::Top;
use super::{
    BOUNDS, COOKIE_BYTES_MAX, COUNT, HIT, HIT_BY_NAME, INFO, LIMITS, PARDON, SKETCHES, TOP, WINDOW,
    flag,
};
use crate::reader::{ReadError, Reader};

/// The code of a cookie: only an answer.
const COOKIE: u8 = 7;
/// Codes of answers that begin with their length as a varint, so that who does not know one skips it.
const WITH_LENGTH: RangeInclusive<u8> = COOKIE + 1..=0x3f;

/// Added to the code of an answer.
const INCOMPLETE: u8 = 0x80;
/// Added to the code of a hit.
const OVER_LIMIT: u8 = 0x40;

/// Flags of the answer to a count in a window.
const WINDOW_INCOMPLETE: u8 = 1;
const WINDOW_OVERFLOWED: u8 = 2;
/// Bytes of that answer behind its length: flags, estimate, and what is covered.
const WINDOW_BYTES: usize = 1 + 8 + 4;
/// Bytes of the answer to a pardon behind its length.
const PARDON_BYTES: usize = 8;

/// Bytes of the answer to a count or a hit.
pub const COUNT_ANSWER_BYTES: usize = 1 + 8;
/// Bytes of the answer to bounds.
pub const BOUNDS_ANSWER_BYTES: usize = 1 + 5 * 8;
/// Bytes of the answer to a count in a window.
pub const WINDOW_ANSWER_BYTES: usize = 2 + WINDOW_BYTES;
/// Bytes of the answer to a pardon.
pub const PARDON_ANSWER_BYTES: usize = 2 + PARDON_BYTES;
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
    Bounds(BoundsAnswer),
    /// To info.
    Info(Info<'a>),
    /// To a count in a window.
    Window(WindowAnswer),
    /// To limits.
    Limits(Verdict),
    /// To sketches.
    Sketches(Sketches<'a>),
    /// To a hit by the name of a limit.
    HitByName(Verdict),
    /// To a pardon.
    Pardon {
        /// The weight that is forgiven now.
        credit: u64,
    },
    /// To top.
    Top(Top<'a>),
    /// To no operation: with [`Problem::AddressUnproven`](super::Problem::AddressUnproven).
    Cookie(&'a [u8]),
}

/// Between what a key's weight lies: certain lower bound <= likely lower bound <= likely estimate <= estimate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BoundsAnswer {
    /// Never below the truth for what is known at the node.
    pub estimate: u64,
    /// Something that others counted is not here: all together may have more.
    pub incomplete: bool,
    /// The estimate less the median of the errors that the node sampled: too high about as often as too low.
    pub likely_estimate: u64,
    /// The estimate less the quantile of those errors at the sketch's confidence. Of keys that were chosen without
    /// the seed, the truth is at least this for the share of the confidence.
    pub likely_lower: u64,
    /// The truth is at least this, with the sketch's confidence, whatever was added.
    pub certain_lower: u64,
    /// N, the total weight that the estimate rests on.
    pub total_weight: u64,
}

/// A key's count in a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowAnswer {
    /// At most the estimate over all time.
    pub estimate: u64,
    /// Something that others counted is not here, or the node has not been here for the whole window: all together
    /// may have more.
    pub incomplete: bool,
    /// More than 2^32 came within the window: the estimate may be too low.
    pub overflowed: bool,
    /// Milliseconds that the estimate covers.
    pub covered_ms: u32,
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
            BOUNDS => Self::Bounds(BoundsAnswer {
                estimate: reader.u64()?,
                incomplete,
                likely_estimate: reader.u64()?,
                likely_lower: reader.u64()?,
                certain_lower: reader.u64()?,
                total_weight: reader.u64()?,
            }),
            INFO if !incomplete => Self::Info(info::read(Reader::new(reader.field()?))?),
            COOKIE if !incomplete => Self::Cookie(reader.field()?),
            _ if WITH_LENGTH.contains(&tag) => {
                return Self::read_content(tag, Reader::new(reader.long_field()?));
            }
            _ => return Err(ReadError::Form),
        }))
    }

    /// Reads what stands behind the length. Bytes behind what is known here are skipped: these answers may grow.
    fn read_content(code: u8, mut content: Reader<'a>) -> Result<Option<Self>, ReadError> {
        Ok(Some(match code {
            WINDOW => {
                let flags = content.byte()?;
                Self::Window(WindowAnswer {
                    estimate: content.u64()?,
                    incomplete: flags & WINDOW_INCOMPLETE != 0,
                    overflowed: flags & WINDOW_OVERFLOWED != 0,
                    covered_ms: content.u32()?,
                })
            }
            LIMITS => Self::Limits(Verdict {
                shadow: false,
                ..Verdict::read(content)?
            }),
            SKETCHES => Self::Sketches(Sketches::read(content)?),
            HIT_BY_NAME => Self::HitByName(Verdict::read(content)?),
            PARDON => Self::Pardon {
                credit: content.u64()?,
            },
            TOP => Self::Top(Top::read(content)?),
            _ => return Ok(None),
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
pub fn write_bounds_answer(answer: &BoundsAnswer, out: &mut [u8; BOUNDS_ANSWER_BYTES]) {
    let [tag, numbers @ ..] = out;
    *tag = BOUNDS | flag(INCOMPLETE, answer.incomplete);
    let all = [
        answer.estimate,
        answer.likely_estimate,
        answer.likely_lower,
        answer.certain_lower,
        answer.total_weight,
    ];
    for (out, number) in numbers.as_chunks_mut().0.iter_mut().zip(all) {
        *out = number.to_le_bytes();
    }
}

/// Writes the answer to a count in a window.
#[inline]
pub fn write_window_answer(answer: &WindowAnswer, out: &mut [u8; WINDOW_ANSWER_BYTES]) {
    let [code, length, flags, numbers @ ..] = out;
    let [estimate @ .., a, b, c, d] = numbers;
    (*code, *length) = (WINDOW, WINDOW_BYTES as u8);
    *flags =
        flag(WINDOW_INCOMPLETE, answer.incomplete) | flag(WINDOW_OVERFLOWED, answer.overflowed);
    *estimate = answer.estimate.to_le_bytes();
    [*a, *b, *c, *d] = answer.covered_ms.to_le_bytes();
}

/// Writes the answer to a pardon.
#[inline]
pub fn write_pardon_answer(credit: u64, out: &mut [u8; PARDON_ANSWER_BYTES]) {
    let [code, length, bytes @ ..] = out;
    (*code, *length) = (PARDON, PARDON_BYTES as u8);
    *bytes = credit.to_le_bytes();
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
