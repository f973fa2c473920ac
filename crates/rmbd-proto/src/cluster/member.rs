//! The entry of a member in messages of membership.
//!
//! ```text
//!   node | boot | started  | renewals | address              | client port u16 | of later releases
//!   u64  | u64  | in ms    |          | 4 or 6, IP, port u16  |                 |
//! ```

use std::net::SocketAddr;

use super::head::write_address;
use crate::reader::{ReadError, Reader};
use crate::{Boot, varint};

/// The public data of a member, which all members pass on. Membership gives the fields their meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct MemberEntry {
    pub node: u64,
    pub boot: Boot,
    pub started_ms: u64,
    pub renewals: u32,
    pub address: SocketAddr,
    pub client_port: u16,
}

impl MemberEntry {
    /// Bytes of the longest entry.
    pub const BYTES_MAX: usize = 8 + 8 + 10 + 5 + (1 + 16 + 2) + 2;

    /// Appends the entry.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend(self.node.to_le_bytes());
        out.extend(self.boot.0.to_le_bytes());
        varint::write(self.started_ms, out);
        varint::write(self.renewals.into(), out);
        write_address(&self.address, out);
        out.extend(self.client_port.to_le_bytes());
    }
}

/// Reads a whole entry, and skips what a later release has added at its end. Returns `None` if it is malformed.
#[must_use]
pub fn member_entry(bytes: &[u8]) -> Option<MemberEntry> {
    Reader::new(bytes).member_entry().ok()
}

impl Reader<'_> {
    fn member_entry(&mut self) -> Result<MemberEntry, ReadError> {
        Ok(MemberEntry {
            node: self.u64()?,
            boot: Boot(self.u64()?),
            started_ms: self.varint()?,
            renewals: self.varint_u32()?,
            address: self.address()?,
            client_port: self.u16()?,
        })
    }
}
