//! The protocol of Redis, RESP: what clients send ([`CommandParser`]), and what they are answered ([`ReplyWriter`]).
//!
//! A client sends commands, each a list of words: `*2\r\n$4\r\nECHO\r\n$2\r\nhi\r\n`, or, for people with a terminal,
//! a line of words (`ECHO hi\r\n`, *inline*). The bytes of a stream come in pieces of any size. So the parser keeps
//! how far it has come in a command, and goes on from there: it looks at each byte a bounded number of times.
//!
//! ```
//! use rmbd_proto::resp::{CommandLimits, CommandParser, Parsed, Words};
//!
//! let (mut parser, mut words) = (CommandParser::default(), Words::default());
//! let bytes = b"*2\r\n$4\r\nECHO\r\n$2\r\nhi\r\n";
//! // A piece of the command is not enough.
//! assert_eq!(parser.next(&bytes[..9], CommandLimits::FULL, &mut words)?, Parsed::More);
//! let end = bytes.len();
//! assert_eq!(parser.next(bytes, CommandLimits::FULL, &mut words)?, Parsed::Command { end });
//! assert!(words.of(bytes).iter().eq([&b"ECHO"[..], b"hi"]));
//! # Ok::<(), rmbd_proto::resp::ProtocolError>(())
//! ```

mod inline;
mod integer;
mod parse;
mod reply;
#[cfg(test)]
mod tests;

pub use self::integer::integer;
pub use self::parse::{Command, CommandParser, Parsed, Words};
pub use self::reply::{INTEGER_REPLY_BYTES_MAX, ReplyWriter, Version};

/// Words of a command at most: some 32 000 keys with a weight each.
pub const WORDS_MAX: usize = 65_536;
/// Bytes of a word at most. Keys are far shorter; whoever sends longer ones is to be told so, and stay connected.
pub const WORD_BYTES_MAX: usize = 65_536;
/// Bytes of an inline command at most, as in Redis.
pub const INLINE_BYTES_MAX: usize = 65_536;
/// Bytes of a whole command at most, so that it is known what a connection may take.
pub const COMMAND_BYTES_MAX: usize = 1 << 20;

/// What one command may have at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommandLimits {
    words: usize,
    word_bytes: usize,
    is_for_strangers: bool,
}

impl CommandLimits {
    /// What everybody may send who may send commands: [`WORDS_MAX`] of [`WORD_BYTES_MAX`].
    pub const FULL: Self = Self {
        words: WORDS_MAX,
        word_bytes: WORD_BYTES_MAX,
        is_for_strangers: false,
    };
    /// What clients may send that have not shown a password yet, as in Redis: enough for that.
    pub const BEFORE_PASSWORD: Self = Self {
        words: 10,
        word_bytes: 16_384,
        is_for_strangers: true,
    };
}

/// Why bytes are no commands. Nothing behind them can be understood, so the connection has to end. The texts are those
/// of Redis, as far as it knows the case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// The number of words is no number, or too large.
    #[error("Protocol error: invalid multibulk length")]
    WordCount,
    /// A client without a password sends more words than it may.
    #[error("Protocol error: unauthenticated multibulk length")]
    WordCountOfStranger,
    /// A word does not begin with its length.
    #[error("Protocol error: expected '$', got '{}'", shown(*.0))]
    NoLength(u8),
    /// The length of a word is no number, or too large.
    #[error("Protocol error: invalid bulk length")]
    WordLength,
    /// A client without a password sends a longer word than it may.
    #[error("Protocol error: unauthenticated bulk length")]
    WordLengthOfStranger,
    /// A word is longer or shorter than its length says.
    #[error("Protocol error: a bulk does not end where its length says")]
    WordEnd,
    /// A command is longer than [`COMMAND_BYTES_MAX`].
    #[error("Protocol error: too big a command, at most {COMMAND_BYTES_MAX} bytes are taken")]
    TooLong,
    /// An inline command is longer than [`INLINE_BYTES_MAX`].
    #[error("Protocol error: too big inline request")]
    InlineTooLong,
    /// The quotes of an inline command do not match.
    #[error("Protocol error: unbalanced quotes in request")]
    Quotes,
}

/// A byte as an error may have it.
fn shown(byte: u8) -> char {
    match byte {
        b' '..=b'~' => char::from(byte),
        _ => '?',
    }
}
