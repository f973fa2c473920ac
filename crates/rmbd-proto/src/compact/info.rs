//! What a node says of itself: the answer to info.

use super::{COOKIE_BYTES_MAX, INFO};
use crate::reader::{ReadError, Reader};
use crate::{Boot, Writer};

/// Bytes of the longest answer to info.
pub const INFO_ANSWER_BYTES_MAX: usize = 2
    + INFO_FIELDS_BYTES
    + VERSION_TEXT_BYTES_MAX
    + CLUSTER_PORT_BYTES
    + 1
    + COOKIE_BYTES_MAX
    + INFO_BEHIND_COOKIE_BYTES;
/// Bytes of an info behind its cookie.
pub const INFO_BEHIND_COOKIE_BYTES: usize = 8;
/// Bytes of the program's version in an info; what is longer is cut.
pub const VERSION_TEXT_BYTES_MAX: usize = 32;
/// [`Info::hash`] of XXH3-128.
pub const HASH_XXH3: u8 = 1;
/// [`Info::hash`] of the Python program's FNV-1a.
pub const HASH_FNV: u8 = 2;

/// Of an info, between its length and the text: boot, fingerprint, width, max weight, depth, hash, and
/// the text's length.
const INFO_FIELDS_BYTES: usize = 8 + 8 + 8 + 4 + 1 + 1 + 1;
/// Of an info, behind the text.
const CLUSTER_PORT_BYTES: usize = 2;

/// A node's description of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Info<'a> {
    /// A random number of the node's present start.
    pub boot: Boot,
    /// Equal where width, depth, hash and its seed are.
    pub fingerprint: u64,
    /// Columns a row.
    pub width: u64,
    /// The largest weight of one add or hit.
    pub max_weight: u32,
    /// Rows.
    pub depth: u8,
    /// [`HASH_XXH3`], [`HASH_FNV`], or what is not known here.
    pub hash: u8,
    /// The program's version, perhaps not UTF-8.
    pub version: &'a [u8],
    /// UDP port where other nodes are heard, on the address that answers; 0 is nowhere, as in the
    /// infos of nodes that know of none.
    pub cluster_port: u16,
    /// Proof to the node that the client receives at the address that asked; at most
    /// [`COOKIE_BYTES_MAX`] bytes, none where the node asks for no proof.
    pub cookie: &'a [u8],
    /// The writer of the slices that the node counts in; 0 in the infos of nodes that do not tell.
    pub writer: Writer,
}

/// The answer to info. It stays the same as long as the node runs, but for the cookie, which stands before the last
/// [`INFO_BEHIND_COOKIE_BYTES`].
#[must_use]
pub fn encode_info(info: &Info<'_>) -> Vec<u8> {
    let version = &info.version[..info.version.len().min(VERSION_TEXT_BYTES_MAX)];
    let mut out = Vec::with_capacity(INFO_ANSWER_BYTES_MAX);
    let cookie = &info.cookie[..info.cookie.len().min(COOKIE_BYTES_MAX)];
    let bytes = INFO_FIELDS_BYTES
        + version.len()
        + CLUSTER_PORT_BYTES
        + 1
        + cookie.len()
        + INFO_BEHIND_COOKIE_BYTES;
    // At most 90 and 32.
    out.extend([INFO, bytes as u8]);
    out.extend(info.boot.0.to_le_bytes());
    out.extend(info.fingerprint.to_le_bytes());
    out.extend(info.width.to_le_bytes());
    out.extend(info.max_weight.to_le_bytes());
    out.extend([info.depth, info.hash, version.len() as u8]);
    out.extend(version);
    out.extend(info.cluster_port.to_le_bytes());
    out.push(cookie.len() as u8);
    out.extend(cookie);
    out.extend(info.writer.0.to_le_bytes());
    out
}

/// Reads what stands behind the length. Bytes behind what is known here are skipped: an info may grow.
pub(super) fn read(mut reader: Reader<'_>) -> Result<Info<'_>, ReadError> {
    let (boot, fingerprint, width) = (reader.u64()?, reader.u64()?, reader.u64()?);
    let max_weight = reader.u32()?;
    let [depth, hash, length] = reader.array()?;
    let version = reader.bytes(length.into())?;
    // An info may end before any of these.
    let cluster_port = reader.u16().unwrap_or_default();
    let cookie = reader.field();
    let writer = cookie.and_then(|_| reader.u64());
    Ok(Info {
        boot: Boot(boot),
        fingerprint,
        width,
        max_weight,
        depth,
        hash,
        version,
        cluster_port,
        cookie: cookie.unwrap_or_default(),
        writer: Writer(writer.unwrap_or_default()),
    })
}
