//! Errors of keys.

use std::io;
use std::path::PathBuf;

use rmbd_proto::compact::KEY_BYTES_MAX;
use thiserror::Error;

use super::super::format::Format;
use super::spec::KeySpec;

/// The error for keys that are not possible. Nothing was sent.
#[derive(Debug, Error)]
pub enum KeysError {
    /// The file cannot be read.
    #[error(
        "can't read keys from {path}: {source}; name a file with one key a line, or - for standard input"
    )]
    Read {
        /// The path of the file, or `-`.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The file has no key.
    #[error("no keys in {path}: it has no line that is not empty; write one key a line")]
    Empty {
        /// The path of the file, or `-`.
        path: PathBuf,
    },
    /// The file has more than is kept in memory.
    #[error(
        "{path} has more than {limit} {what}, the most that are kept in memory; take a part of it (`head`, `split`)"
    )]
    TooLarge {
        /// The path of the file, or `-`.
        path: PathBuf,
        /// The largest number.
        limit: usize,
        /// The unit of the limit.
        what: &'static str,
    },
    /// Keys of this length are too short to be different.
    #[error(
        "{keys} different keys do not fit {bytes} bytes of which {prefix_bytes} are the prefix: use --key-len {needed} or more"
    )]
    TooShort {
        /// Number of keys that were asked for.
        keys: u64,
        /// Length of a key in bytes.
        bytes: usize,
        /// Length of the prefix in bytes.
        prefix_bytes: usize,
        /// Length that is needed, in bytes.
        needed: usize,
    },
    /// The format cannot carry made keys of this length.
    #[error(
        "keys of {bytes} bytes are not possible: the {} format carries at most {}; use a smaller --key-len{}",
        format.name(), format.key_bytes_max(), or_compact(*format)
    )]
    TooLong {
        /// Length of a key in bytes.
        bytes: usize,
        /// The format that they were to be written in.
        format: Format,
    },
    /// The keys are no lines, and have no CR to keep.
    #[error(
        "keys of {spec} are made and have no CR to keep: leave --keep-cr out, or read lines with --keys file:PATH or --keys -"
    )]
    NoLines {
        /// The keys that were asked for.
        spec: KeySpec,
    },
    /// The compact format cannot carry a line.
    #[error(
        "line {line} of {path} has {bytes} bytes, and the compact format carries keys of at most {KEY_BYTES_MAX}: take it out, or shorten it (`cut -b -{KEY_BYTES_MAX}`)"
    )]
    LineTooLong {
        /// The path of the file, or `-`.
        path: PathBuf,
        /// The number of the first such line, from 1.
        line: u64,
        /// Length of the line in bytes.
        bytes: usize,
    },
}

/// An alternative for keys that are too long.
fn or_compact(format: Format) -> &'static str {
    match format {
        Format::Legacy => ", or --format compact, which carries 1024",
        Format::Compact => "",
    }
}
