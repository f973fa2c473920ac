//! Writing messages.

use thiserror::Error;

use super::{
    Dialect, KEY_BYTES_MAX, MESSAGE_BYTES, PASCAL_BYTES, TYPE_ACK, TYPE_ADD, TYPE_COUNT, TYPE_PEER,
    TYPE_SYNC,
};

/// The message that acknowledges a sync row.
pub const ACK: [u8; 1] = [TYPE_ACK];

/// Writes an add. A key is cut to its first [`KEY_BYTES_MAX`] bytes, as the Python program does.
#[inline]
pub fn write_add(key: &[u8], out: &mut [u8; MESSAGE_BYTES]) {
    write_keyed(TYPE_ADD, key, out);
}

/// Writes a count. A key is cut as by [`write_add`].
#[inline]
pub fn write_count(key: &[u8], out: &mut [u8; MESSAGE_BYTES]) {
    write_keyed(TYPE_COUNT, key, out);
}

/// Returns an add message: see [`write_add`].
#[must_use]
pub fn encode_add(key: &[u8]) -> [u8; MESSAGE_BYTES] {
    let mut message = [0; MESSAGE_BYTES];
    write_add(key, &mut message);
    message
}

/// Returns a count message: see [`write_count`].
#[must_use]
pub fn encode_count(key: &[u8]) -> [u8; MESSAGE_BYTES] {
    let mut message = [0; MESSAGE_BYTES];
    write_count(key, &mut message);
    message
}

/// Replaces the content of `out` with a sync message of [`Dialect::sync_bytes`] bytes.
///
/// The message fits a datagram up to [`Dialect::max_sync_width`] counters; longer ones are written, too. In the
/// network dialect counters above 2^32 - 1 become 2^32 - 1.
pub fn encode_sync(row: u16, counters: &[u64], dialect: Dialect, out: &mut Vec<u8>) {
    out.clear();
    out.reserve(dialect.sync_bytes(counters.len()));
    out.push(TYPE_SYNC);
    match dialect {
        Dialect::Native => {
            out.extend_from_slice(&row.to_le_bytes());
            out.extend_from_slice(&[0; 6]);
            for &counter in counters {
                out.extend_from_slice(&counter.to_le_bytes());
            }
        }
        Dialect::Network => {
            out.extend_from_slice(&row.to_be_bytes());
            for &counter in counters {
                let counter = u32::try_from(counter).unwrap_or(u32::MAX);
                out.extend_from_slice(&counter.to_be_bytes());
            }
        }
    }
}

/// Returns a peer message with a 2-byte port, which every revision of the protocol takes.
///
/// # Errors
/// [`HostTooLong`] if the host has more than [`KEY_BYTES_MAX`] bytes: a host that was cut would be another host.
pub fn encode_peer(
    host: &str,
    port: u16,
    dialect: Dialect,
) -> Result<[u8; MESSAGE_BYTES + 2], HostTooLong> {
    if host.len() > KEY_BYTES_MAX {
        return Err(HostTooLong { bytes: host.len() });
    }
    let mut message = [0; MESSAGE_BYTES + 2];
    let [kind, body @ ..] = &mut message;
    *kind = TYPE_PEER;
    if let Some((string, port_bytes)) = body.split_first_chunk_mut() {
        write_pascal(host.as_bytes(), string);
        port_bytes.copy_from_slice(&match dialect {
            Dialect::Native => port.to_le_bytes(),
            Dialect::Network => port.to_be_bytes(),
        });
    }
    Ok(message)
}

/// The error for a host name that the protocol cannot carry. Nothing was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("host of {bytes} bytes: the protocol carries at most 139; use its address instead")]
pub struct HostTooLong {
    /// Length of the host in bytes.
    pub bytes: usize,
}

#[inline]
fn write_keyed(kind: u8, key: &[u8], out: &mut [u8; MESSAGE_BYTES]) {
    let [first, string @ ..] = out;
    *first = kind;
    write_pascal(key, string);
}

/// Writes a Pascal string and zeros behind it.
#[inline]
pub(super) fn write_pascal(bytes: &[u8], out: &mut [u8; PASCAL_BYTES]) {
    let bytes = &bytes[..bytes.len().min(KEY_BYTES_MAX)];
    let [length, body @ ..] = out;
    // The length is at most 139.
    *length = bytes.len() as u8;
    let (body, padding) = body.split_at_mut(bytes.len());
    body.copy_from_slice(bytes);
    padding.fill(0);
}
