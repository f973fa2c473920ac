//! The operations of a request: their codes, how each is read, and how it is written. What each is answered with
//! stands in `answer.rs`, under the same code.
//!
//! A new operation takes a code, a variant, and a line in each function here.

use super::answer::{Answer, BOUNDS_ANSWER_BYTES, COUNT_ANSWER_BYTES};
use super::info::INFO_ANSWER_BYTES_MAX;
use super::write::{RequestWriter, WriteError};
use super::{ADD, ADD_WEIGHT, BOUNDS, COUNT, HIT, INFO, KEY_BYTES_MAX, Problem};
use crate::reader::{ReadError, Reader};

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
    /// Answer a key's estimate, its lower bound, and N.
    Bounds {
        /// 0 to 1 024 bytes.
        key: &'a [u8],
    },
    /// Answer what the node is.
    Info,
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
            Self::Bounds { .. } => matches!(answer, Answer::Bounds { .. }),
            Self::Info => matches!(answer, Answer::Info(_)),
        }
    }

    /// Its key; empty where it has none.
    #[must_use]
    pub const fn key(&self) -> &'a [u8] {
        match *self {
            Self::Add { key, .. }
            | Self::Count { key }
            | Self::Hit { key, .. }
            | Self::Bounds { key } => key,
            Self::Info => &[],
        }
    }

    /// The same operation on another key; what has no key stays as it is.
    #[must_use]
    pub const fn with_key<'k>(&self, key: &'k [u8]) -> Operation<'k> {
        match *self {
            Self::Add { weight, .. } => Operation::Add { key, weight },
            Self::Count { .. } => Operation::Count { key },
            Self::Hit {
                weight,
                limit,
                window_ms,
                ..
            } => Operation::Hit {
                key,
                weight,
                limit,
                window_ms,
            },
            Self::Bounds { .. } => Operation::Bounds { key },
            Self::Info => Operation::Info,
        }
    }

    /// Reads the operation of this code from what stands behind the code.
    pub(super) fn read(code: u8, reader: &mut Reader<'a>) -> Result<Self, Problem> {
        match code {
            INFO => Ok(Self::Info),
            _ => {
                let key = key(reader);
                Self::read_behind_key(code, key, reader)
            }
        }
    }

    /// Reads the operation of this code from what stands behind its key. A code that is not known is told before
    /// what is wrong with the key.
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
fn key<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], Problem> {
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

impl RequestWriter {
    /// Writes an operation.
    ///
    /// # Errors
    /// [`WriteError::Full`], [`WriteError::KeyTooLong`].
    #[inline]
    pub fn operation(&mut self, operation: Operation<'_>) -> Result<(), WriteError> {
        match operation {
            Operation::Add { key, weight: 1 } => self.with_key(ADD, key, [], 0),
            Operation::Add { key, weight } => self.with_key(ADD_WEIGHT, key, [weight], 0),
            Operation::Count { key } => self.with_key(COUNT, key, [], COUNT_ANSWER_BYTES),
            Operation::Hit {
                key,
                weight,
                limit,
                window_ms,
            } => {
                let numbers = [weight, limit, window_ms];
                self.with_key(HIT, key, numbers, COUNT_ANSWER_BYTES)
            }
            Operation::Bounds { key } => self.with_key(BOUNDS, key, [], BOUNDS_ANSWER_BYTES),
            Operation::Info => self.without_key(INFO, INFO_ANSWER_BYTES_MAX),
        }
    }

    /// Adds `weight` to `key`.
    ///
    /// # Errors
    /// [`WriteError::Full`], [`WriteError::KeyTooLong`].
    #[inline]
    pub fn add(&mut self, key: &[u8], weight: u64) -> Result<(), WriteError> {
        self.operation(Operation::Add { key, weight })
    }

    /// Asks for the estimate of `key`.
    ///
    /// # Errors
    /// [`WriteError::Full`], [`WriteError::KeyTooLong`].
    #[inline]
    pub fn count(&mut self, key: &[u8]) -> Result<(), WriteError> {
        self.operation(Operation::Count { key })
    }

    /// Adds `weight` to `key` and asks whether its estimate is then within `limit`; `window_ms` 0 is
    /// all time.
    ///
    /// # Errors
    /// [`WriteError::Full`], [`WriteError::KeyTooLong`].
    #[inline]
    pub fn hit(
        &mut self,
        key: &[u8],
        weight: u64,
        limit: u64,
        window_ms: u64,
    ) -> Result<(), WriteError> {
        self.operation(Operation::Hit {
            key,
            weight,
            limit,
            window_ms,
        })
    }

    /// Asks for the estimate of `key`, its lower bound, and N.
    ///
    /// # Errors
    /// [`WriteError::Full`], [`WriteError::KeyTooLong`].
    #[inline]
    pub fn bounds(&mut self, key: &[u8]) -> Result<(), WriteError> {
        self.operation(Operation::Bounds { key })
    }

    /// Asks what the node is.
    ///
    /// # Errors
    /// [`WriteError::Full`].
    pub fn info(&mut self) -> Result<(), WriteError> {
        self.operation(Operation::Info)
    }
}
