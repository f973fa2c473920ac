//! Keys that cannot be.

use std::io;
use std::path::PathBuf;

use rmbd_proto::compact::KEY_BYTES_MAX;
use thiserror::Error;

use super::super::format::Format;
use super::spec::KeySpec;

/// Keys that cannot be. Nothing was sent.
#[derive(Debug, Error)]
pub enum KeysError {
    /// A file that cannot be read.
    #[error(
        "can't read keys from {path}: {source}; name a file with one key a line, or - for standard input"
    )]
    Read {
        /// The file, or `-`.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file without a key.
    #[error("no keys in {path}: it has no line that is not empty; write one key a line")]
    Empty {
        /// The file, or `-`.
        path: PathBuf,
    },
    /// More than is kept in memory.
    #[error(
        "{path} has more than {limit} {what}, the most that are kept in memory; take a part of it (`head`, `split`)"
    )]
    TooLarge {
        /// The file, or `-`.
        path: PathBuf,
        /// The limit.
        limit: usize,
        /// Of what.
        what: &'static str,
    },
    /// Keys that are too short to differ.
    #[error(
        "{keys} different keys do not fit {bytes} bytes of which {prefix_bytes} are the prefix: use --key-len {needed} or more"
    )]
    TooShort {
        /// Keys asked for.
        keys: u64,
        /// Bytes of a key.
        bytes: usize,
        /// Bytes of the prefix.
        prefix_bytes: usize,
        /// Bytes that are needed.
        needed: usize,
    },
    /// Made keys that the format cannot carry.
    #[error(
        "keys of {bytes} bytes are not possible: the {} format carries at most {}; use a smaller --key-len{}",
        format.name(), format.key_bytes_max(), or_compact(*format)
    )]
    TooLong {
        /// Bytes of a key.
        bytes: usize,
        /// What they were to be written in.
        format: Format,
    },
    /// Keys that are no lines, and have no CR.
    #[error(
        "keys of {spec} are made and have no CR to keep: leave --keep-cr out, or read lines with --keys file:PATH or --keys -"
    )]
    NoLines {
        /// Which keys.
        spec: KeySpec,
    },
    /// A line that the compact format cannot carry.
    #[error(
        "line {line} of {path} has {bytes} bytes, and the compact format carries keys of at most {KEY_BYTES_MAX}: take it out, or shorten it (`cut -b -{KEY_BYTES_MAX}`)"
    )]
    LineTooLong {
        /// The file, or `-`.
        path: PathBuf,
        /// The first such line, from 1.
        line: u64,
        /// Bytes of the line.
        bytes: usize,
    },
}

/// What else to do about keys that are too long.
fn or_compact(format: Format) -> &'static str {
    match format {
        Format::Legacy => ", or --format compact, which carries 1024",
        Format::Compact => "",
    }
}
