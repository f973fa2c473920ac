//! The two formats of messages: how large they are, and how many fit a datagram.

use clap::ValueEnum;
use rmbd::wire::compact::{
    COOKIE_FIELD_BYTES_MAX, COUNT_ANSWER_BYTES, PREFIX_BYTES, REPLY_BYTES_MAX, REPLY_HEAD_BYTES,
};
use rmbd::wire::legacy::MESSAGE_BYTES;
use rmbd::wire::{compact, legacy};

use crate::plan::load::Mode;

/// Bytes of a full datagram, at most, in either format: it stays whole on nearly all networks.
pub const DATAGRAM_BYTES: usize = REPLY_BYTES_MAX;
/// Bytes before the operations of a compact request as we write it: no token, not once, sketch 0.
pub(crate) const REQUEST_HEADER_BYTES: usize = PREFIX_BYTES + 1;

/// Bytes that tell boot, client and sequence (of a socket's first 2^35 requests, which are more than
/// any run sends), and those of a cookie, which the first ones have to show.
const ONCE_BYTES_MAX: usize = 8 + 8 + 5 + COOKIE_FIELD_BYTES_MAX;

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

    /// Bytes of the longest key that it carries.
    #[must_use]
    pub fn key_bytes_max(self) -> usize {
        match self {
            Self::Legacy => legacy::KEY_BYTES_MAX,
            Self::Compact => compact::KEY_BYTES_MAX,
        }
    }
}

/// What decides how large messages are, besides their keys.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Form {
    pub(crate) format: Format,
    pub(crate) mode: Mode,
    /// Of each add and each hit.
    pub(crate) weight: u32,
    /// Whether datagrams say which client and sequence they are.
    pub(crate) exactly_once: bool,
}

impl Form {
    /// Bytes of a datagram before its messages.
    pub(crate) fn header_bytes(self) -> usize {
        match self.format {
            Format::Legacy => 0,
            Format::Compact if self.exactly_once => REQUEST_HEADER_BYTES + ONCE_BYTES_MAX,
            Format::Compact => REQUEST_HEADER_BYTES,
        }
    }

    /// Bytes of a message with a key of so many bytes; of adds and counts together, of an add.
    pub(crate) fn message_bytes(self, key_bytes: usize) -> usize {
        let key = varint_bytes(key_bytes as u64) + key_bytes;
        let weight = varint_bytes(self.weight.into());
        match (self.format, self.mode) {
            (Format::Legacy, _) => MESSAGE_BYTES,
            (Format::Compact, Mode::Hit { limit }) => {
                let window = 1;
                1 + key + weight + varint_bytes(limit) + window
            }
            (Format::Compact, Mode::Add | Mode::Mix(_)) if self.weight != 1 => 1 + key + weight,
            (Format::Compact, _) => 1 + key,
        }
    }

    /// Messages with keys of so many bytes that fit [`DATAGRAM_BYTES`], and whose answers fit a
    /// reply; at least 1.
    ///
    /// A reply is at most three times its request: with a key of a byte or more each answer is.
    pub(crate) fn full_datagram(self, key_bytes: usize) -> usize {
        let request = DATAGRAM_BYTES - self.header_bytes();
        let fit = request / self.message_bytes(key_bytes);
        let answered = match (self.format, self.mode) {
            (Format::Legacy, _) | (Format::Compact, Mode::Add) => fit,
            (Format::Compact, _) => (REPLY_BYTES_MAX - REPLY_HEAD_BYTES) / COUNT_ANSWER_BYTES,
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
        let weights = [1, 2, 127, 128, 1 << 20];
        let cases = modes
            .into_iter()
            .flat_map(|mode| weights.map(|weight| (mode, weight)));
        for (mode, weight) in cases {
            let form = Form {
                format: Format::Compact,
                mode,
                weight,
                exactly_once: false,
            };
            for key_bytes in [1, 2, 16, 127, 128, 139, 140, 1000, 1024] {
                let key = vec![b'k'; key_bytes];
                let mut writer = RequestWriter::new(DATAGRAM_BYTES);
                writer.start(&Header::default()).unwrap();
                let mut write = || match mode {
                    Mode::Add => writer.add(&key, weight.into()),
                    Mode::Hit { limit } => writer.hit(&key, weight.into(), limit, 0),
                    _ => writer.count(&key),
                };
                let mut fit = 0;
                while write().is_ok() {
                    fit += 1;
                }
                assert_eq!(form.full_datagram(key_bytes), fit, "{form:?} {key_bytes}");
                let bytes = REQUEST_HEADER_BYTES + fit * form.message_bytes(key_bytes);
                assert_eq!(
                    writer.finish().len(),
                    bytes,
                    "{form:?} {key_bytes}: nothing is padded"
                );
            }
        }
        let of_16 = |format, weight, exactly_once| {
            let form = Form {
                format,
                mode: Mode::Add,
                weight,
                exactly_once,
            };
            form.full_datagram(16)
        };
        assert_eq!(of_16(Format::Compact, 1, false), 77);
        assert_eq!(of_16(Format::Compact, 1000, false), 69);
        // One less than without room for a cookie.
        assert_eq!(of_16(Format::Compact, 1, true), 75);
        assert_eq!(of_16(Format::Legacy, 1, false), 9);
    }
}
