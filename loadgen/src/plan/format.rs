//! The two formats of messages.

use clap::ValueEnum;
use rmbd_proto::compact::REPLY_BYTES_MAX;
use rmbd_proto::{compact, legacy};

/// Most bytes of a full datagram in either format. It stays whole on nearly all networks.
pub(crate) const DATAGRAM_BYTES: usize = REPLY_BYTES_MAX;

/// Format of the messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// 141 bytes a message, as the Python program has them
    Legacy,
    /// A key and 2 bytes, or a few more, behind a header for the whole datagram
    Compact,
}

impl Format {
    /// The name of the format: `legacy` or `compact`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Legacy => "legacy",
            Self::Compact => "compact",
        }
    }

    /// Length of the longest key that the format carries, in bytes.
    #[must_use]
    pub fn key_bytes_max(self) -> usize {
        match self {
            Self::Legacy => legacy::KEY_BYTES_MAX,
            Self::Compact => compact::KEY_BYTES_MAX,
        }
    }
}
