//! The replies to counts: key and count, without a type byte.

use std::iter::FusedIterator;

use super::parse::pascal;
use super::write::write_pascal;
use super::{Dialect, PASCAL_BYTES, REPLY_DATAGRAM_BYTES_MAX};

/// Writes the key of a reply into the first [`Dialect::reply_bytes`] of `out`, with a count of 0
/// that [`write_reply_count`] replaces as soon as it is known.
///
/// An `out` that is too short is left as it is; debug builds assert that it is not.
#[inline]
pub fn write_reply_key(key: &[u8], dialect: Dialect, out: &mut [u8]) {
    let Some((string, tail)) = split_slot(dialect, out) else {
        debug_assert!(false, "a reply's slot is too short");
        return;
    };
    write_pascal(key, string);
    tail.fill(0);
}

/// Writes the count of a reply whose key is there already. The network dialect has 4 bytes for the count, so larger
/// counts become `u32::MAX`.
///
/// An `out` that is too short is left as it is; debug builds assert that it is not.
#[inline]
pub fn write_reply_count(count: u64, dialect: Dialect, out: &mut [u8]) {
    let Some((_, tail)) = split_slot(dialect, out) else {
        debug_assert!(false, "a reply's slot is too short");
        return;
    };
    match dialect {
        Dialect::Native => tail[4..].copy_from_slice(&count.to_le_bytes()),
        Dialect::Network => {
            let count = u32::try_from(count).unwrap_or(u32::MAX);
            tail.copy_from_slice(&count.to_be_bytes());
        }
    }
}

/// Reads the replies of a datagram: keys and counts, in order.
///
/// The length of the datagram tells the dialect, since no datagram of up to [`REPLY_DATAGRAM_BYTES_MAX`] bytes holds
/// whole replies of both. A datagram of any other length holds no replies.
///
/// ```
/// use rmbd_proto::legacy::{Dialect, replies, write_reply_count, write_reply_key};
///
/// let dialect = Dialect::Network;
/// let mut datagram = vec![0; dialect.reply_bytes()];
/// write_reply_key(b"abc", dialect, &mut datagram);
/// write_reply_count(2, dialect, &mut datagram);
/// assert_eq!(replies(&datagram).collect::<Vec<_>>(), [(&b"abc"[..], 2)]);
/// ```
#[must_use]
pub fn replies(datagram: &[u8]) -> Replies<'_> {
    let dialect = [Dialect::Native, Dialect::Network]
        .into_iter()
        .find(|dialect| datagram.len().is_multiple_of(dialect.reply_bytes()))
        .filter(|_| datagram.len() <= REPLY_DATAGRAM_BYTES_MAX);
    Replies {
        rest: if dialect.is_some() { datagram } else { &[] },
        dialect: dialect.unwrap_or_default(),
    }
}

/// Iterator of [`replies`].
#[derive(Debug, Clone)]
pub struct Replies<'a> {
    /// Whole replies that are not read yet.
    rest: &'a [u8],
    dialect: Dialect,
}

impl<'a> Iterator for Replies<'a> {
    type Item = (&'a [u8], u64);

    fn next(&mut self) -> Option<Self::Item> {
        let (reply, rest) = self.rest.split_at_checked(self.dialect.reply_bytes())?;
        self.rest = rest;
        let (string, tail) = reply.split_first_chunk()?;
        let count = match *tail {
            [_, _, _, _, a, b, c, d, e, f, g, h] => u64::from_le_bytes([a, b, c, d, e, f, g, h]),
            [a, b, c, d] => u64::from(u32::from_be_bytes([a, b, c, d])),
            _ => return None,
        };
        Some((pascal(string), count))
    }
}

impl FusedIterator for Replies<'_> {}

/// Splits a reply into its Pascal string, and its padding and count.
#[inline]
fn split_slot(dialect: Dialect, out: &mut [u8]) -> Option<(&mut [u8; PASCAL_BYTES], &mut [u8])> {
    out.get_mut(..dialect.reply_bytes())?
        .split_first_chunk_mut()
}
