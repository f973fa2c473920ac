//! The operations of a request: their codes, how each is read, and how it is written. What each is answered with
//! stands in `answer.rs`, under the same code.
//!
//! A new operation takes a code, a variant, and a line in each function here. Those that come by the million stand in
//! [`Operation::read_behind_key`] and [`Operation::write`], which are in line; all others in calls of their own.

use super::answer::{
    Answer, BOUNDS_ANSWER_BYTES, COUNT_ANSWER_BYTES, PARDON_ANSWER_BYTES, WINDOW_ANSWER_BYTES,
};
use super::info::INFO_ANSWER_BYTES_MAX;
use super::limits::{LIMITS_ANSWER_BYTES, Limits};
use super::write::WriteError;
use super::{
    ADD, ADD_WEIGHT, BOUNDS, COUNT, HIT, HIT_BY_NAME, INFO, KEY_BYTES_MAX, LIMITS, PARDON, Problem,
    REPLY_BYTES_MAX, REPLY_HEAD_BYTES, SKETCHES, TOP, WINDOW, flag,
};
use crate::reader::{ReadError, Reader};
use crate::varint;

/// The flag of a count in a window.
const SMOOTH: u8 = 1;

/// One operation, borrowed from its datagram. Nothing is judged yet but the length of keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation<'a> {
    /// Add to a key.
    Add {
        /// 0 to 1 024 bytes.
        key: &'a [u8],
        /// 1 where the operation has none.
        weight: u64,
    },
    /// Answer a key's estimate.
    Count {
        /// 0 to 1 024 bytes.
        key: &'a [u8],
    },
    /// Add to a key, then answer its estimate and whether that is within a limit.
    Hit {
        /// 0 to 1 024 bytes.
        key: &'a [u8],
        /// 0 only looks.
        weight: u64,
        /// The largest estimate that is within it.
        limit: u64,
        /// Milliseconds; 0 is all time.
        window_ms: u64,
    },
    /// Answer a key's estimate, likely and certain bounds of it, and N.
    Bounds {
        /// 0 to 1 024 bytes.
        key: &'a [u8],
    },
    /// Answer what the node is.
    Info,
    /// Answer a key's count in a window.
    Window {
        /// 0 to 1 024 bytes.
        key: &'a [u8],
        /// Milliseconds; 0 is all time.
        window_ms: u64,
        /// Weighted by what is left of the oldest step, instead of never too low.
        smooth: bool,
    },
    /// Add to keys, always or only if all are within their limits, and answer whether they are.
    Limits(Limits<'a>),
    /// Answer which sketches the node has.
    Sketches {
        /// Position of the first entry that is wanted.
        first: u64,
    },
    /// Add to a key as a limit of the node's own says, and answer whether it is within.
    HitByName {
        /// The limit's: 0 to 255 bytes.
        name: &'a [u8],
        /// 0 to 1 024 bytes.
        key: &'a [u8],
        /// 0 only looks.
        weight: u64,
    },
    /// Forgive a key what it has in the window of a limit of the node's own.
    Pardon {
        /// The limit's: 0 to 255 bytes.
        name: &'a [u8],
        /// 0 to 1 024 bytes.
        key: &'a [u8],
        /// Milliseconds for which that holds.
        for_ms: u64,
    },
    /// Answer which keys are the largest.
    Top {
        /// Milliseconds of a whole window that the sketch keeps; 0 is all time.
        window_ms: u64,
        /// Position of the first key that is wanted.
        first: u64,
        /// How many keys are wanted at most.
        most: u64,
    },
}

impl<'a> Operation<'a> {
    /// Whether a node answers it. All but adds are answered.
    #[inline]
    #[must_use]
    pub const fn has_answer(&self) -> bool {
        !matches!(self, Self::Add { .. })
    }

    /// Whether an answer is of the kind that it asks for.
    #[must_use]
    pub const fn is_answered_by(&self, answer: &Answer<'_>) -> bool {
        match self {
            Self::Add { .. } => false,
            Self::Count { .. } => matches!(answer, Answer::Count { .. }),
            Self::Hit { .. } => matches!(answer, Answer::Hit { .. }),
            Self::Bounds { .. } => matches!(answer, Answer::Bounds(_)),
            Self::Info => matches!(answer, Answer::Info(_)),
            Self::Window { .. } => matches!(answer, Answer::Window(_)),
            Self::Limits(_) => matches!(answer, Answer::Limits(_)),
            Self::Sketches { .. } => matches!(answer, Answer::Sketches(_)),
            Self::HitByName { .. } => matches!(answer, Answer::HitByName(_)),
            Self::Pardon { .. } => matches!(answer, Answer::Pardon { .. }),
            Self::Top { .. } => matches!(answer, Answer::Top(_)),
        }
    }

    /// The weight that it adds at most; 0 where it only asks.
    #[must_use]
    pub fn weight(&self) -> u64 {
        match *self {
            Self::Add { weight, .. }
            | Self::Hit { weight, .. }
            | Self::HitByName { weight, .. } => weight,
            Self::Limits(limits) => limits.weight(),
            _ => 0,
        }
    }

    /// Whether it may add only if a limit lets it. A once-request has at most one such operation: one verdict is
    /// remembered for it. (What a hit by name does the node's limit says.)
    #[must_use]
    pub const fn may_take(&self) -> bool {
        match self {
            Self::Limits(limits) => limits.take,
            Self::HitByName { .. } => true,
            _ => false,
        }
    }

    /// Reads the operation of this code from what stands behind the code.
    pub(super) fn read(code: u8, reader: &mut Reader<'a>) -> Result<Self, Problem> {
        match code {
            INFO => Ok(Self::Info),
            WINDOW => Self::read_window(reader),
            LIMITS => Limits::read(reader).map(Self::Limits),
            SKETCHES => Ok(Self::Sketches {
                first: reader.varint()?,
            }),
            HIT_BY_NAME => Ok(Self::HitByName {
                name: reader.field()?,
                key: key(reader)?,
                weight: reader.varint()?,
            }),
            PARDON => Ok(Self::Pardon {
                name: reader.field()?,
                key: key(reader)?,
                for_ms: reader.varint()?,
            }),
            TOP => Ok(Self::Top {
                window_ms: reader.varint()?,
                first: reader.varint()?,
                most: reader.varint()?,
            }),
            _ => {
                let key = key(reader);
                Self::read_behind_key(code, key, reader)
            }
        }
    }

    fn read_window(reader: &mut Reader<'a>) -> Result<Self, Problem> {
        let (key, window_ms, flags) = (key(reader)?, reader.varint()?, reader.byte()?);
        if flags & !SMOOTH != 0 {
            return Err(Problem::UnknownOperation);
        }
        Ok(Self::Window {
            key,
            window_ms,
            smooth: flags & SMOOTH != 0,
        })
    }

    /// Reads the operation of this code from what stands behind its key. A code that is not known is told before
    /// what is wrong with the key. Only what comes by the million stands here: this is in line wherever requests are
    /// read.
    #[inline(always)]
    pub(super) fn read_behind_key(
        code: u8,
        key: Result<&'a [u8], Problem>,
        reader: &mut Reader<'a>,
    ) -> Result<Self, Problem> {
        Ok(match code {
            ADD => Self::Add {
                key: key?,
                weight: 1,
            },
            ADD_WEIGHT => Self::Add {
                key: key?,
                weight: reader.varint()?,
            },
            COUNT => Self::Count { key: key? },
            HIT => Self::Hit {
                key: key?,
                weight: reader.varint()?,
                limit: reader.varint()?,
                window_ms: reader.varint()?,
            },
            BOUNDS => Self::Bounds { key: key? },
            _ => return Err(Problem::UnknownOperation),
        })
    }
}

/// Whether the operation of this code has an answer; one that is not known may have.
pub(super) const fn may_have_answer(code: u8) -> bool {
    !matches!(code, ADD | ADD_WEIGHT)
}

/// Its length as a varint, and as many bytes.
#[inline]
pub(super) fn key<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], Problem> {
    let length = reader.varint()?;
    if length > KEY_BYTES_MAX as u64 {
        return Err(Problem::KeyTooLong);
    }
    Ok(reader.bytes(length as usize)?)
}

/// Of an operation: what is wrong with a header is [`Problem::Header`].
impl From<ReadError> for Problem {
    #[inline]
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::CutOff => Self::CutOff,
            ReadError::Form => Self::Varint,
        }
    }
}

impl Operation<'_> {
    /// Appends the operation to `out`, as it stands in a request; how long its answer may be. On an error nothing is
    /// appended. [`operations`](super::operations) reads it back.
    ///
    /// # Errors
    /// [`WriteError::KeyTooLong`], [`WriteError::NameTooLong`].
    #[inline]
    pub fn write(self, out: &mut Vec<u8>) -> Result<usize, WriteError> {
        match self {
            Self::Add { key, weight: 1 } => write_keyed(ADD, key, [], 0, out),
            Self::Add { key, weight } => write_keyed(ADD_WEIGHT, key, [weight], 0, out),
            Self::Count { key } => write_keyed(COUNT, key, [], COUNT_ANSWER_BYTES, out),
            Self::Hit {
                key,
                weight,
                limit,
                window_ms,
            } => {
                let numbers = [weight, limit, window_ms];
                write_keyed(HIT, key, numbers, COUNT_ANSWER_BYTES, out)
            }
            Self::Bounds { key } => write_keyed(BOUNDS, key, [], BOUNDS_ANSWER_BYTES, out),
            other => other.write_rare(out),
        }
    }

    /// What does not come by the million.
    fn write_rare(self, out: &mut Vec<u8>) -> Result<usize, WriteError> {
        match self {
            Self::Info => {
                out.push(INFO);
                Ok(INFO_ANSWER_BYTES_MAX)
            }
            Self::Window {
                key,
                window_ms,
                smooth,
            } => {
                // Flags below 80 look like a varint.
                let numbers = [window_ms, flag(SMOOTH, smooth).into()];
                write_keyed(WINDOW, key, numbers, WINDOW_ANSWER_BYTES, out)
            }
            Self::Limits(limits) => {
                limits.append(out);
                Ok(LIMITS_ANSWER_BYTES)
            }
            Self::Sketches { first } => {
                out.push(SKETCHES);
                varint::write(first, out);
                // As many entries as a reply has room for.
                Ok(REPLY_BYTES_MAX - REPLY_HEAD_BYTES)
            }
            Self::HitByName { name, key, weight } => {
                write_named(HIT_BY_NAME, name, key, weight, LIMITS_ANSWER_BYTES, out)
            }
            Self::Pardon { name, key, for_ms } => {
                write_named(PARDON, name, key, for_ms, PARDON_ANSWER_BYTES, out)
            }
            Self::Top {
                window_ms,
                first,
                most,
            } => {
                out.push(TOP);
                for number in [window_ms, first, most] {
                    varint::write(number, out);
                }
                // As many entries as a reply has room for.
                Ok(REPLY_BYTES_MAX - REPLY_HEAD_BYTES)
            }
            hot => hot.write(out),
        }
    }
}

/// Appends an operation with a key and numbers behind it, whose answer has at most so many bytes.
#[inline]
fn write_keyed<const N: usize>(
    code: u8,
    key: &[u8],
    numbers: [u64; N],
    answer_bytes_max: usize,
    out: &mut Vec<u8>,
) -> Result<usize, WriteError> {
    if key.len() > KEY_BYTES_MAX {
        return Err(WriteError::KeyTooLong { bytes: key.len() });
    }
    out.push(code);
    varint::write(key.len() as u64, out);
    out.extend_from_slice(key);
    for number in numbers {
        varint::write(number, out);
    }
    Ok(answer_bytes_max)
}

/// Appends an operation with the name of a limit, a key and a number, whose answer has at most so many bytes.
fn write_named(
    code: u8,
    name: &[u8],
    key: &[u8],
    number: u64,
    answer_bytes_max: usize,
    out: &mut Vec<u8>,
) -> Result<usize, WriteError> {
    if key.len() > KEY_BYTES_MAX {
        return Err(WriteError::KeyTooLong { bytes: key.len() });
    }
    let bytes = name.len();
    let length = u8::try_from(bytes).map_err(|_| WriteError::NameTooLong { bytes })?;
    out.extend([code, length]);
    out.extend_from_slice(name);
    varint::write(key.len() as u64, out);
    out.extend_from_slice(key);
    varint::write(number, out);
    Ok(answer_bytes_max)
}
