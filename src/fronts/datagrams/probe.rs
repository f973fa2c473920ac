//! A count that the control thread sends to others, to see what they are: how it is told from their other replies.

use rmbd_proto::legacy::Dialect;

/// What the key of such a count begins with; behind it stand the id and the number of the try. Its length, with
/// which the answer begins, is no type of a message, so that an answer that is not expected is none either.
const BEGINNING: &[u8] = b"what are you?";
/// Bytes of the key.
const KEY_BYTES: usize = BEGINNING.len() + 4 + 1;

/// The key of the count of one try.
pub(crate) fn probe_key(id: u32, number: usize) -> [u8; KEY_BYTES] {
    let mut key = [0; KEY_BYTES];
    let (start, rest) = key.split_at_mut(BEGINNING.len());
    start.copy_from_slice(BEGINNING);
    rest[..4].copy_from_slice(&id.to_le_bytes());
    // One of five.
    rest[4] = number as u8;
    key
}

/// Whether a datagram looks like an answer to one of our counts.
pub(crate) fn is_probe_answer(datagram: &[u8]) -> bool {
    let is_reply = [Dialect::Native, Dialect::Network]
        .iter()
        .any(|dialect| datagram.len() == dialect.reply_bytes());
    is_reply && usize::from(datagram[0]) == KEY_BYTES && datagram[1..].starts_with(BEGINNING)
}
