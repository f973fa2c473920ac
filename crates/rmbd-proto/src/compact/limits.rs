//! Limits: several in one operation, read in place, and the verdict that answers them.

use std::iter::FusedIterator;

use super::operation::key;
use super::write::WriteError;
use super::{HIT_BY_NAME, KEY_BYTES_MAX, LIMITS, Problem, flag};
use crate::reader::{ReadError, Reader};
use crate::{SketchNumber, varint};

/// The largest number of limits in one operation: an address, its network, a name and a device, each in two windows.
pub const LIMIT_PARTS_MAX: usize = 8;
/// Bytes of the answer to limits, and to a hit by the name of one.
pub const LIMITS_ANSWER_BYTES: usize = 2 + VERDICT_BYTES;
/// [`Verdict::retry_after_ms`] where no waiting helps: the weight alone is above the limit, or the window is all time.
pub const RETRY_NEVER_MS: u32 = u32::MAX;

/// Code, length, flags and part.
const HEAD_BYTES: usize = 4;
/// Of a verdict: flags, part, estimate, remaining, retry-after, and what is covered.
const VERDICT_BYTES: usize = 1 + 1 + 8 + 8 + 4 + 4;

/// Of the operation.
const TAKE: u8 = 1;
const BOUND: u8 = 2;

/// Of the answer.
const OVER: u8 = 1;
const INCOMPLETE: u8 = 2;
const UNSURE: u8 = 4;
const OVERFLOWED: u8 = 8;
const SHADOW: u8 = 16;

/// One limit, and what is counted towards it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitPart<'a> {
    /// Which sketch counts it.
    pub sketch: SketchNumber,
    /// 0 to 1 024 bytes.
    pub key: &'a [u8],
    /// 0 only looks.
    pub weight: u64,
    /// The largest estimate that is within it.
    pub limit: u64,
    /// Milliseconds; 0 is all time.
    pub window_ms: u64,
}

/// One to [`LIMIT_PARTS_MAX`] limits, borrowed as they stand in a datagram. All of them were looked at when they were
/// read, so that [`parts`](Self::parts) cannot fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits<'a> {
    /// Adds only if all are within; otherwise adds always.
    pub take: bool,
    /// Counts as *bound*, otherwise as *smooth*.
    pub bound: bool,
    parts: u8,
    bytes: &'a [u8],
}

impl<'a> Limits<'a> {
    /// Writes parts into `out`, whose content it replaces, and borrows them from there.
    ///
    /// ```
    /// use rmbd_proto::SketchNumber;
    /// use rmbd_proto::compact::{LimitPart, Limits};
    ///
    /// let part = LimitPart {
    ///     sketch: SketchNumber::DEFAULT,
    ///     key: b"10.0.0.7",
    ///     weight: 1,
    ///     limit: 5,
    ///     window_ms: 60_000,
    /// };
    /// let mut out = Vec::new();
    /// let limits = Limits::write(true, false, &[part], &mut out)?;
    /// assert_eq!((limits.parts().len(), limits.parts().next()), (1, Some(part)));
    /// # Ok::<(), rmbd_proto::compact::WriteError>(())
    /// ```
    ///
    /// # Errors
    /// [`WriteError::LimitParts`], [`WriteError::KeyTooLong`].
    pub fn write(
        take: bool,
        bound: bool,
        parts: &[LimitPart<'_>],
        out: &'a mut Vec<u8>,
    ) -> Result<Self, WriteError> {
        out.clear();
        if !(1..=LIMIT_PARTS_MAX).contains(&parts.len()) {
            let parts = parts.len();
            return Err(WriteError::LimitParts { parts });
        }
        for part in parts {
            let bytes = part.key.len();
            if bytes > KEY_BYTES_MAX {
                return Err(WriteError::KeyTooLong { bytes });
            }
            varint::write(part.sketch.0.into(), out);
            varint::write(bytes as u64, out);
            out.extend_from_slice(part.key);
            for number in [part.weight, part.limit, part.window_ms] {
                varint::write(number, out);
            }
        }
        Ok(Self {
            take,
            bound,
            parts: parts.len() as u8,
            bytes: out,
        })
    }

    /// The limits, in order.
    #[inline]
    #[must_use]
    pub fn parts(&self) -> LimitParts<'a> {
        LimitParts {
            left: self.parts,
            reader: Reader::new(self.bytes),
        }
    }

    /// The weights of all parts together: what they add at most. A key that several of them name is added once.
    #[must_use]
    pub fn weight(&self) -> u64 {
        let weights = self.parts().map(|part| part.weight);
        weights.fold(0, u64::saturating_add)
    }

    /// Reads what stands behind the code.
    pub(super) fn read(reader: &mut Reader<'a>) -> Result<Self, Problem> {
        let [flags, parts] = reader.array()?;
        if flags & !(TAKE | BOUND) != 0 {
            return Err(Problem::UnknownOperation);
        }
        if !(1..=LIMIT_PARTS_MAX).contains(&parts.into()) {
            return Err(Problem::LimitParts);
        }
        let start = reader.rest();
        for _ in 0..parts {
            LimitPart::read(reader)?;
        }
        Ok(Self {
            take: flags & TAKE != 0,
            bound: flags & BOUND != 0,
            parts,
            bytes: &start[..start.len() - reader.rest().len()],
        })
    }

    /// Appends the operation.
    pub(super) fn append(&self, out: &mut Vec<u8>) {
        let flags = flag(TAKE, self.take) | flag(BOUND, self.bound);
        out.extend([LIMITS, flags, self.parts]);
        out.extend_from_slice(self.bytes);
    }
}

impl<'a> LimitPart<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, Problem> {
        let sketch = reader.varint()?;
        let key = key(reader)?;
        let [weight, limit, window_ms] = [reader.varint()?, reader.varint()?, reader.varint()?];
        let sketch = u32::try_from(sketch).map_err(|_| Problem::UnknownSketch)?;
        Ok(Self {
            sketch: SketchNumber(sketch),
            key,
            weight,
            limit,
            window_ms,
        })
    }
}

/// Iterator of [`Limits::parts`].
#[derive(Debug, Clone)]
pub struct LimitParts<'a> {
    left: u8,
    /// Of whole parts only.
    reader: Reader<'a>,
}

impl<'a> Iterator for LimitParts<'a> {
    type Item = LimitPart<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        LimitPart::read(&mut self.reader).ok()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left.into(), Some(self.left.into()))
    }
}

impl ExactSizeIterator for LimitParts<'_> {}
impl FusedIterator for LimitParts<'_> {}

/// What a node says to limits. The numbers are those of one part, which [`Self::part`] names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Verdict {
    /// At least one of the limits is passed: nothing was added by what takes.
    pub over: bool,
    /// Something that others counted is not here, or the node has not been here for the whole window: all together
    /// may have more.
    pub incomplete: bool,
    /// The limit lies between the estimate and the estimate less the sketch's error (epsilon * N of the window): other
    /// keys may be why it is over. The caller may choose.
    pub unsure: bool,
    /// So much came within the window that its estimate may be too low, by multiples of 2^32.
    pub overflowed: bool,
    /// It is over and was admitted all the same, since the limit is in shadow mode. Only of a hit by name.
    pub shadow: bool,
    /// Position of the part that decided: the one that is over with the longest retry-after, else the one with the
    /// least remaining.
    pub part: u8,
    /// Of its key within its window, with what this operation has added.
    pub estimate: u64,
    /// How much more would be within its limit; `u64::MAX` where no limit holds for its key.
    pub remaining: u64,
    /// Milliseconds until the same weight would be within; 0 where it is, [`RETRY_NEVER_MS`] where it never is.
    pub retry_after_ms: u32,
    /// Milliseconds that the estimate covers.
    pub covered_ms: u32,
}

impl Verdict {
    /// Reads what stands behind the length.
    pub(super) fn read(mut reader: Reader<'_>) -> Result<Self, ReadError> {
        let [flags, part] = reader.array()?;
        Ok(Self {
            over: flags & OVER != 0,
            incomplete: flags & INCOMPLETE != 0,
            unsure: flags & UNSURE != 0,
            overflowed: flags & OVERFLOWED != 0,
            shadow: flags & SHADOW != 0,
            part,
            estimate: reader.u64()?,
            remaining: reader.u64()?,
            retry_after_ms: reader.u32()?,
            covered_ms: reader.u32()?,
        })
    }

    fn write(&self, code: u8, out: &mut [u8; LIMITS_ANSWER_BYTES]) {
        let flags = flag(OVER, self.over)
            | flag(INCOMPLETE, self.incomplete)
            | flag(UNSURE, self.unsure)
            | flag(OVERFLOWED, self.overflowed)
            | flag(SHADOW, self.shadow);
        let (head, numbers) = out.as_mut_slice().split_at_mut(HEAD_BYTES);
        head.copy_from_slice(&[code, VERDICT_BYTES as u8, flags, self.part]);
        let times = u64::from(self.covered_ms) << 32 | u64::from(self.retry_after_ms);
        let numbers = numbers.as_chunks_mut().0.iter_mut();
        for (out, number) in numbers.zip([self.estimate, self.remaining, times]) {
            *out = number.to_le_bytes();
        }
    }
}

/// Writes the answer to limits.
#[inline]
pub fn write_limits_answer(verdict: &Verdict, out: &mut [u8; LIMITS_ANSWER_BYTES]) {
    let shadow = false;
    Verdict { shadow, ..*verdict }.write(LIMITS, out);
}

/// Writes the answer to a hit by the name of a limit.
#[inline]
pub fn write_hit_by_name_answer(verdict: &Verdict, out: &mut [u8; LIMITS_ANSWER_BYTES]) {
    verdict.write(HIT_BY_NAME, out);
}
