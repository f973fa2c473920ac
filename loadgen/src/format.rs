//! The two formats of messages: how large they are, and how many fit a datagram.

use clap::ValueEnum;
use rmbd::wire::compact::{COUNT_ANSWER_BYTES, PREFIX_BYTES, REPLY_BYTES_MAX, REPLY_HEAD_BYTES};
use rmbd::wire::legacy::MESSAGE_BYTES;

use crate::load::Mode;

/// Bytes of a full datagram, at most, in either format: it stays whole on nearly all networks.
pub const DATAGRAM_BYTES: usize = REPLY_BYTES_MAX;
/// Bytes before the operations of a compact request as we write it: no token, not once, sketch 0.
pub(crate) const REQUEST_HEADER_BYTES: usize = PREFIX_BYTES + 1;

/// Format of the messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// 141 bytes a message, as the Python program has them
    Legacy,
    /// A key and 2 bytes, or a few more, behind a header for the whole datagram
    Compact,
}

impl Format {
    /// `legacy` or `compact`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Legacy => "legacy",
            Self::Compact => "compact",
        }
    }

    /// Bytes of a datagram before its messages.
    #[must_use]
    pub fn header_bytes(self) -> usize {
        match self {
            Self::Legacy => 0,
            Self::Compact => REQUEST_HEADER_BYTES,
        }
    }

    /// Bytes of a message with a key of so many bytes; hits are always compact.
    #[must_use]
    pub fn message_bytes(self, mode: Mode, key_bytes: usize) -> usize {
        let key = varint_bytes(key_bytes as u64) + key_bytes;
        match (self, mode) {
            (Self::Legacy, _) => MESSAGE_BYTES,
            (Self::Compact, Mode::Hit { limit }) => {
                let (weight, window) = (1, 1);
                1 + key + weight + varint_bytes(limit) + window
            }
            (Self::Compact, _) => 1 + key,
        }
    }

    /// Messages with keys of so many bytes that fit [`DATAGRAM_BYTES`], and whose answers fit a
    /// reply; at least 1.
    ///
    /// A reply is at most three times its request: with a key of a byte or more each answer is.
    #[must_use]
    pub fn full_datagram(self, mode: Mode, key_bytes: usize) -> usize {
        let request = DATAGRAM_BYTES - self.header_bytes();
        let fit = request / self.message_bytes(mode, key_bytes);
        let answered = match (self, mode) {
            (Self::Legacy, _) | (Self::Compact, Mode::Add) => fit,
            (Self::Compact, _) => (REPLY_BYTES_MAX - REPLY_HEAD_BYTES) / COUNT_ANSWER_BYTES,
        };
        fit.min(answered).max(1)
    }
}

/// Bytes of a number as unsigned LEB128.
fn varint_bytes(number: u64) -> usize {
    (number.max(1).ilog2() as usize) / 7 + 1
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use rmbd::wire::compact::{Header, RequestWriter};

    /// What the writer takes, beside what is computed.
    #[test]
    fn as_many_fit_as_the_writer_takes() {
        let modes = [
            Mode::Add,
            Mode::Count,
            Mode::Hit { limit: 0 },
            Mode::Hit { limit: 127 },
            Mode::Hit { limit: 128 },
            Mode::Hit { limit: u64::MAX },
        ];
        for mode in modes {
            for key_bytes in [1, 2, 16, 127, 128, 139] {
                let key = vec![b'k'; key_bytes];
                let mut writer = RequestWriter::new(DATAGRAM_BYTES);
                writer.start(&Header::default()).unwrap();
                let mut write = || match mode {
                    Mode::Add => writer.add(&key, 1),
                    Mode::Hit { limit } => writer.hit(&key, 1, limit, 0),
                    _ => writer.count(&key),
                };
                let mut fit = 0;
                while write().is_ok() {
                    fit += 1;
                }
                let format = Format::Compact;
                assert_eq!(
                    format.full_datagram(mode, key_bytes),
                    fit,
                    "{mode} {key_bytes}"
                );
                let bytes = REQUEST_HEADER_BYTES + fit * format.message_bytes(mode, key_bytes);
                assert_eq!(
                    writer.finish().len(),
                    bytes,
                    "{mode} {key_bytes}: nothing is padded"
                );
            }
        }
        assert_eq!(Format::Compact.full_datagram(Mode::Add, 16), 77);
        assert_eq!(Format::Legacy.full_datagram(Mode::Add, 16), 9);
    }
}
