//! The legacy protocol: the five messages of the Python program, byte for byte.
//!
//! | type | message | bytes native | bytes network | after the type byte |
//! |---|---|---|---|---|
//! | `00` | add | 141 | 141 | key (`140p`) |
//! | `01` | count | 141 | 141 | key (`140p`); answered by key and count, 152 or 144 bytes, no type byte |
//! | `02` | sync | 9 + 8w | 3 + 4w | row index (`H`), then one counter (`L`) a column |
//! | `03` | peer | 143 or 153 | 143 or 145 | host (`140p`), port (`H` or `L`) |
//! | `04` | ack | any | any | nothing that is looked at |
//!
//! The formats in brackets are those of Python's `struct` module
//! (<https://docs.python.org/3/library/struct.html>). A *Pascal string* (`140p`) is a length byte,
//! up to 139 bytes, and zeros up to 140; a length byte above 139 reads as 139.
//!
//! There are two [`Dialect`]s. The length of sync messages and of most peer messages tells the dialect. The length of
//! a count's reply and of a peer message of 143 bytes does not, so a setting of the node decides.
//!
//! One extension: a datagram may carry many add and count messages back to back. The other types
//! stand alone.
//!
//! Nothing in here panics on any bytes, and reading copies nothing and allocates nothing.

mod parse;
mod reply;
#[cfg(test)]
mod tests;
mod write;

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

pub use self::parse::{Layout, Malformed, Message, Messages, PeerOrder, SyncRow, messages};
pub use self::reply::{Replies, replies, write_reply_count, write_reply_key};
pub use self::write::{
    ACK, HostTooLong, encode_add, encode_count, encode_peer, encode_sync, write_add, write_count,
};

/// Bytes of an add or a count message.
pub const MESSAGE_BYTES: usize = 1 + PASCAL_BYTES;
/// Bytes of the longest key (and of the longest host name).
pub const KEY_BYTES_MAX: usize = PASCAL_BYTES - 1;
/// Bytes of the largest datagram of replies: whole replies that fit an Ethernet frame with room
/// for tunnels.
pub const REPLY_DATAGRAM_BYTES_MAX: usize = 1400;

/// Bytes of a Pascal string with its length byte and its padding.
const PASCAL_BYTES: usize = 140;
/// Bytes of the largest UDP payload over IPv4: 65 535 less the IP and UDP headers.
const UDP_PAYLOAD_BYTES_MAX: usize = 65_535 - 20 - 8;

const TYPE_ADD: u8 = 0;
const TYPE_COUNT: u8 = 1;
const TYPE_SYNC: u8 = 2;
const TYPE_PEER: u8 = 3;
const TYPE_ACK: u8 = 4;

/// The form of numbers on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Dialect {
    /// Format strings without a prefix, on x86-64 Linux: little-endian, `L` of 8 bytes, aligned.
    #[default]
    Native,
    /// Format strings behind `!`: big-endian, `L` of 4 bytes, no padding.
    Network,
}

impl Dialect {
    /// Bytes of the reply to one count.
    #[must_use]
    pub const fn reply_bytes(self) -> usize {
        match self {
            Self::Native => PASCAL_BYTES + 4 + 8,
            Self::Network => PASCAL_BYTES + 4,
        }
    }

    /// Bytes of a sync message with `width` counters. It may exceed what a datagram holds (see
    /// [`Self::max_sync_width`]); it does not overflow.
    #[must_use]
    pub const fn sync_bytes(self, width: usize) -> usize {
        width
            .saturating_mul(self.counter_bytes())
            .saturating_add(self.sync_header_bytes())
    }

    /// The largest width whose sync message fits a datagram.
    #[must_use]
    pub const fn max_sync_width(self) -> usize {
        (UDP_PAYLOAD_BYTES_MAX - self.sync_header_bytes()) / self.counter_bytes()
    }

    /// The name of the dialect: `native` or `network`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Network => "network",
        }
    }

    const fn counter_bytes(self) -> usize {
        match self {
            Self::Native => 8,
            Self::Network => 4,
        }
    }

    /// Bytes before the counters: type, row index, and in the native dialect padding that aligns the counters.
    const fn sync_header_bytes(self) -> usize {
        match self {
            Self::Native => 1 + 2 + 6,
            Self::Network => 1 + 2,
        }
    }
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Dialect {
    type Err = UnknownDialect;

    fn from_str(name: &str) -> Result<Self, UnknownDialect> {
        match name {
            "native" => Ok(Self::Native),
            "network" => Ok(Self::Network),
            _ => Err(UnknownDialect),
        }
    }
}

/// The error for a name that is not a dialect's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("not a dialect: use `native` or `network`")]
pub struct UnknownDialect;
