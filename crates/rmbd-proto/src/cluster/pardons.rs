//! Pardons, and what two nodes compare to find out which of them the other one lacks.

use std::iter::FusedIterator;

use xxhash_rust::xxh3::xxh3_64;

use super::finish;
use crate::reader::{ReadError, Reader};
use crate::{Boot, LimitNumber, varint};

/// Bytes of the longest key of a pardon: as many as the client port takes.
pub const PARDON_KEY_BYTES_MAX: usize = 1_024;
/// Largest number of credits of a pardon: a limit has no more amounts.
pub const PARDON_CREDITS_MAX: usize = 8;
/// Number of parts in which pardons are compared, each by one sum. All sums and their mask take 260 bytes.
pub const PARDON_BUCKETS: usize = 32;

/// The largest count of a pardon, which nobody reaches by giving pardons.
pub const PARDON_COUNT_MAX: u64 = (1 << 35) - 1;
/// The largest credit and time that a pardon is told with; more is written as this. So the longest pardon fits a
/// datagram.
const CREDIT_MAX: u64 = (1 << 49) - 1;
const TIME_MS_MAX: u64 = (1 << 42) - 1;

/// Bytes of the longest pardon with its length. Alone in a datagram it fits.
pub const PARDON_BYTES_MAX: usize =
    2 + 8 + 2 + PARDON_KEY_BYTES_MAX + 5 + 8 + 6 + 6 + 1 + 7 * PARDON_CREDITS_MAX;

/// A pardon of one key by one limit, as its sender has it when it writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PardonEntry<'a> {
    /// The limit. The receiver need not have it.
    pub limit: LimitNumber,
    /// The key, of at most [`PARDON_KEY_BYTES_MAX`].
    pub key: &'a [u8],
    /// Of two pardons of a limit and key the one with the higher count holds, and of two with the same count the one
    /// with the higher giver. It is at most [`PARDON_COUNT_MAX`], and a pardon with another one is not taken.
    pub count: u64,
    /// The start of the node that gave it.
    pub giver: Boot,
    /// So many more milliseconds it is in force; 0 where it is over.
    pub left_ms: u64,
    /// So many more milliseconds it is to be remembered, so that no earlier pardon comes back in its place.
    pub kept_ms: u64,
    /// What each amount of the limit is forgiven, in the order of the amounts.
    pub credits: [u64; PARDON_CREDITS_MAX],
}

/// The place of a limit and key among pardons: equal pairs have equal numbers, and others hardly ever.
#[must_use]
pub fn pardon_place(limit: LimitNumber, key: &[u8]) -> u64 {
    finish(xxh3_64(key).wrapping_add(finish(limit.0)))
}

/// The part in which pardons of a [place](pardon_place) are compared, below [`PARDON_BUCKETS`].
#[must_use]
pub const fn pardon_bucket(place: u64) -> usize {
    (place >> (u64::BITS - PARDON_BUCKETS.trailing_zeros())) as usize
}

/// The contribution of a pardon to the sum of its bucket.
#[must_use]
pub const fn pardon_hash(place: u64, count: u64, giver: Boot) -> u64 {
    finish(finish(place.wrapping_add(count)).wrapping_add(giver.0))
}

/// Iterator over pardons.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PardonEntries<'a> {
    pub(super) reader: Reader<'a>,
}

impl<'a> PardonEntries<'a> {
    fn read(&mut self) -> Result<PardonEntry<'a>, ReadError> {
        let mut entry = Reader::new(self.reader.long_field()?);
        let limit = LimitNumber(entry.u64()?);
        let key = entry.long_field()?;
        if key.len() > PARDON_KEY_BYTES_MAX {
            return Err(ReadError::Form);
        }
        let count = entry.varint()?;
        let giver = Boot(entry.u64()?);
        let (left_ms, kept_ms) = (entry.varint()?, entry.varint()?);
        let mut credits = [0; PARDON_CREDITS_MAX];
        let told = usize::from(entry.byte()?);
        // A later release may have more.
        for credit in credits.iter_mut().take(told) {
            *credit = entry.varint()?;
        }
        Ok(PardonEntry {
            limit,
            key,
            count,
            giver,
            left_ms,
            kept_ms,
            credits,
        })
    }
}

impl<'a> Iterator for PardonEntries<'a> {
    type Item = PardonEntry<'a>;

    fn next(&mut self) -> Option<PardonEntry<'a>> {
        let item = self.read();
        self.reader.item_or_end(item)
    }
}

impl FusedIterator for PardonEntries<'_> {}

/// Iterator over the sums of buckets that have pardons, with the buckets' numbers, which ascend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PardonSums<'a> {
    left: u32,
    reader: Reader<'a>,
}

impl<'a> PardonSums<'a> {
    pub(super) fn new(mut reader: Reader<'a>) -> Result<Self, ReadError> {
        Ok(Self {
            left: reader.u32()?,
            reader,
        })
    }
}

impl Iterator for PardonSums<'_> {
    type Item = (usize, u64);

    fn next(&mut self) -> Option<(usize, u64)> {
        if self.left == 0 {
            return None;
        }
        let bucket = self.left.trailing_zeros() as usize;
        self.left &= self.left - 1;
        let sum = self.reader.u64();
        if sum.is_err() {
            self.left = 0;
        }
        Some((bucket, sum.ok()?))
    }
}

impl FusedIterator for PardonSums<'_> {}

/// Appends a pardon with its length. Of a key that is too long nobody is told.
pub(super) fn write_pardon(pardon: &PardonEntry<'_>, out: &mut Vec<u8>) {
    if pardon.key.len() > PARDON_KEY_BYTES_MAX {
        return;
    }
    let told = pardon.credits.iter().rposition(|&credit| credit > 0);
    let credits = &pardon.credits[..told.map_or(0, |last| last + 1)];
    let numbers = [
        pardon.left_ms.min(TIME_MS_MAX),
        pardon.kept_ms.min(TIME_MS_MAX),
    ];
    let mut tail = Vec::with_capacity(PARDON_BYTES_MAX - PARDON_KEY_BYTES_MAX);
    varint::write(pardon.count.min(PARDON_COUNT_MAX), &mut tail);
    tail.extend(pardon.giver.0.to_le_bytes());
    numbers
        .into_iter()
        .for_each(|it| varint::write(it, &mut tail));
    tail.push(credits.len() as u8);
    for &credit in credits {
        varint::write(credit.min(CREDIT_MAX), &mut tail);
    }
    let key_bytes = pardon.key.len() as u64;
    let length = 8 + varint::bytes(key_bytes) + pardon.key.len() + tail.len();
    varint::write(length as u64, out);
    out.extend(pardon.limit.0.to_le_bytes());
    varint::write(key_bytes, out);
    out.extend(pardon.key);
    out.extend(tail);
}

/// Appends the mask of those buckets that have a sum, and the sums.
pub(super) fn write_sums(sums: &[u64; PARDON_BUCKETS], out: &mut Vec<u8>) {
    let has_any = (0..).zip(sums).filter(|(_, sum)| **sum != 0);
    let mask = has_any.fold(0_u32, |mask, (bucket, _)| mask | 1 << bucket);
    out.extend(mask.to_le_bytes());
    for sum in sums.iter().filter(|sum| **sum != 0) {
        out.extend(sum.to_le_bytes());
    }
}
