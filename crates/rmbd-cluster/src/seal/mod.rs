//! Sealing what nodes of a cluster send each other: nobody without a key reads it, changes it, or
//! plays it to the same node twice.
//!
//! One datagram, all integers little-endian:
//!
//! ```text
//! 0         1        2      10        18       26               -16
//! | version | kind 0 | boot | channel | number | sealed payload | tag |
//! |<----- header: additional authenticated data ---->|<- AES-256-GCM ->|
//! ```
//!
//! A *channel* is one direction from one start of a node (`boot`, random) to one target (`channel`,
//! random, drawn anew for each target). It has a key of its own, HKDF-SHA256 (RFC 5869) with
//!
//! - secret: a key of the [`KeyRing`], 32 bytes,
//! - salt: `rmbd cluster channel`,
//! - info: boot, then channel id, 8 bytes each.
//!
//! The nonce is 4 zero bytes and the packet number. It is never used twice with a key: no other sealer
//! has these 128 random bits, and the numbers of one [`Sealer`] only grow. That is the deterministic
//! construction of NIST SP 800-38D, 8.2.1, with one device for each key. Section 8.3 sets no limit on
//! messages for it; a sealer ends at [`MESSAGES_MAX`] all the same.
//!
//! It knows nothing of what is counted: nodes with different sketches are members of one cluster.
//!
//! A seal does not tell *for whom* a datagram is. A recorded datagram opens once at every node
//! of the cluster, at its own sender too, and again at a node that has restarted or that has dropped an
//! idle channel. So what is inside must be harmless when it comes late, twice or to the wrong node, or
//! must name its addressee.

mod contest;
mod keys;
mod openers;
mod replay;
mod sealer;

pub use keys::{KEYS_MAX, KeyFileError, KeyRing, generate_key_text};
pub use openers::{IDLE, KnownChannel, OpenError, Opened, Openers, OpenersOptions, accepts};
pub use replay::WINDOW as REPLAY_WINDOW;
pub use sealer::{MESSAGES_MAX, SealError, Sealer};

use aws_lc_rs::aead::{NONCE_LEN, Nonce};

use rmbd_proto::Boot;

/// The version that is sent. It and the one before (where that is at least 1) are accepted.
pub const VERSION: u8 = 1;

/// Bytes in front of the payload.
pub const HEADER_BYTES: usize = 26;

/// Where the channel's id stands, 8 bytes.
pub const CHANNEL_ID_AT: usize = 10;

/// Bytes behind the payload.
pub const TAG_BYTES: usize = 16;

/// One direction: from one start of a node to one of its targets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Channel {
    /// The sender's start: a random number, fresh each time.
    pub boot: Boot,
    /// The channel's id: a random number, drawn anew for each target. It must never be used for a
    /// second [`Sealer`] of the same boot.
    pub id: u64,
}

/// The header in front of the payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Header {
    version: u8,
    kind: u8,
    channel: Channel,
    number: u64,
}

impl Header {
    fn read(bytes: &[u8; HEADER_BYTES]) -> Self {
        let u64_at = |at: usize| {
            let mut field = [0; 8];
            field.copy_from_slice(&bytes[at..at + 8]);
            u64::from_le_bytes(field)
        };
        Self {
            version: bytes[0],
            kind: bytes[1],
            channel: Channel {
                boot: Boot(u64_at(2)),
                id: u64_at(CHANNEL_ID_AT),
            },
            number: u64_at(18),
        }
    }

    fn write(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[0] = self.version;
        bytes[1] = self.kind;
        bytes[2..10].copy_from_slice(&self.channel.boot.0.to_le_bytes());
        bytes[10..18].copy_from_slice(&self.channel.id.to_le_bytes());
        bytes[18..26].copy_from_slice(&self.number.to_le_bytes());
        bytes
    }
}

/// 4 zero bytes and the packet number; see the head of this file for why none repeats.
fn nonce(number: u64) -> Nonce {
    let mut bytes = [0; NONCE_LEN];
    bytes[4..].copy_from_slice(&number.to_le_bytes());
    Nonce::assume_unique_for_key(bytes)
}

#[cfg(test)]
mod tests;
