//! The key under which a descriptor is counted.

use crate::Entry;

/// Largest size of a counter's key, in bytes: that of a sketch's key.
pub const COUNTER_KEY_BYTES_MAX: usize = 1024;

/// Writes the key under which a descriptor is counted, in place of what the buffer has: `domain/key=value/key=value`.
///
/// `%`, `/`, `=` and control bytes (below 0x20, and 0x7f) of each part are written as `%` and two hexadecimal digits
/// in upper case; all else is written as it is. So no two descriptors have the same key, and clients of other
/// protocols can write it by hand.
///
/// It may be longer than [`COUNTER_KEY_BYTES_MAX`]: parts come from requests. Then nothing can be counted under it.
pub fn counter_key(domain: &str, entries: &[Entry<'_>], into: &mut Vec<u8>) {
    into.clear();
    encode(domain, into);
    for entry in entries {
        into.push(b'/');
        encode(entry.key, into);
        into.push(b'=');
        encode(entry.value, into);
    }
}

/// Number of bytes of a part of a counter's key.
pub(crate) fn encoded_bytes(part: &str) -> usize {
    let escaped = part.bytes().filter(|byte| is_escaped(*byte)).count();
    part.len() + 2 * escaped
}

fn encode(part: &str, into: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    for byte in part.bytes() {
        if is_escaped(byte) {
            let [high, low] = [byte >> 4, byte & 15].map(|digit| DIGITS[usize::from(digit)]);
            into.extend([b'%', high, low]);
        } else {
            into.push(byte);
        }
    }
}

/// What separates parts, what escapes, and what a person could not write into a line.
const fn is_escaped(byte: u8) -> bool {
    matches!(byte, b'%' | b'/' | b'=') || byte.is_ascii_control()
}
