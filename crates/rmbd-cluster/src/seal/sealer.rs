//! The sending end of a channel.

use aws_lc_rs::aead::{Aad, LessSafeKey};

use super::{Channel, HEADER_BYTES, Header, KeyRing, VERSION, nonce};

/// Messages of a channel. At 1 200 bytes each, these are below 2^39 blocks of AES: an attacker who sees
/// them all tells them from noise with an advantage of less than 2^-50.
pub const MESSAGES_MAX: u64 = 1 << 32;

/// Seals what goes out on one channel. It cannot be cloned: two of a channel would repeat nonces.
#[derive(Debug)]
pub struct Sealer {
    key: LessSafeKey,
    channel: Channel,
    /// The last number that was taken, whether or not it was used.
    number: u64,
}

/// The reason for which a datagram was not sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The buffer has no room for a header; nothing has changed.
    #[error(
        "a datagram of {bytes} bytes has no room for the header: leave {HEADER_BYTES} bytes in front of the payload"
    )]
    NoHeader {
        /// The buffer's length.
        bytes: usize,
    },
    /// The channel has sent [`MESSAGES_MAX`] messages; nothing has changed, and it seals no more.
    #[error("the channel has sent 2^32 messages, as many as its key may seal: draw a new channel")]
    Exhausted,
    /// The cipher refused: the payload is longer than 64 GiB. The datagram is of no use any more.
    #[error("the payload could not be sealed, the datagram is spoiled: send a shorter one")]
    Cipher,
}

impl Sealer {
    /// Seals with the first key of `keys`. `channel.id` must be random, and drawn for this sealer.
    #[must_use]
    pub fn new(keys: &KeyRing, channel: Channel) -> Self {
        Self {
            key: keys.channel_key(0, channel),
            channel,
            number: 0,
        }
    }

    /// A sealer of another channel that goes on with the numbers of this one, so that none of them means two datagrams
    /// to who sends them. `channel.id` must be random, and drawn for this sealer.
    #[must_use]
    pub fn succeeded_by(&self, keys: &KeyRing, channel: Channel) -> Self {
        Self {
            number: self.number,
            ..Self::new(keys, channel)
        }
    }

    /// The channel that this is the sending end of.
    #[must_use]
    pub const fn channel(&self) -> Channel {
        self.channel
    }

    /// Seals a datagram and returns its number, from 1 on, each once.
    ///
    /// In: [`HEADER_BYTES`] of any content, then the payload (which may be empty). Out: the header
    /// filled in, the payload encrypted, the tag ([`super::TAG_BYTES`]) appended. A buffer with room for the tag
    /// is not reallocated.
    ///
    /// # Errors
    /// [`SealError`].
    pub fn seal(&mut self, datagram: &mut Vec<u8>) -> Result<u64, SealError> {
        let bytes = datagram.len();
        let Some((header, payload)) = datagram.split_first_chunk_mut::<HEADER_BYTES>() else {
            return Err(SealError::NoHeader { bytes });
        };
        if self.number >= MESSAGES_MAX {
            return Err(SealError::Exhausted);
        }
        // Taken even if sealing fails: whatever the cipher did with it, it is not used again.
        self.number += 1;
        *header = self.header(self.number).write();
        let tag = self
            .key
            .seal_in_place_separate_tag(nonce(self.number), Aad::from(&*header), payload)
            .map_err(|_| SealError::Cipher)?;
        datagram.extend_from_slice(tag.as_ref());
        Ok(self.number)
    }

    const fn header(&self, number: u64) -> Header {
        Header {
            version: VERSION,
            kind: 0,
            channel: self.channel,
            number,
        }
    }

    /// As if `number` had been the last one.
    #[cfg(test)]
    pub(super) const fn skip_to(&mut self, number: u64) {
        self.number = number;
    }
}
