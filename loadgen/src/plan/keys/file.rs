//! Keys from the lines of a file. All of them are in memory, so that a run reads no disk.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use super::super::format::Format;
use super::error::KeysError;

/// Largest size of a file in bytes; it stays in memory.
const FILE_BYTES_MAX: usize = 1 << 30;
/// Largest number of lines. Each costs 4 bytes, and some 40 while lines are read.
const LINES_MAX: usize = 50_000_000;

/// The end of a line in a file of keys.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LineEnd {
    /// A line ends before LF, and before a CR in front of it or at the end of the file, as in `rmbd add`.
    #[default]
    LfOrCrLf,
    /// A line ends before LF; a CR is part of the key.
    Lf,
}

impl LineEnd {
    /// The line end for `--keep-cr`: whether a CR at the end of a line is part of the key.
    #[must_use]
    pub(crate) fn with_cr(is_kept: bool) -> Self {
        match is_kept {
            true => Self::Lf,
            false => Self::LfOrCrLf,
        }
    }
}

/// The keys of a file, and their order there.
#[derive(Debug)]
pub(super) struct Lines {
    text: Vec<u8>,
    /// The position of each different key in `text`, in the order of their first lines.
    keys: Vec<Span>,
    /// Numbers of the keys, line by line.
    entries: Vec<u32>,
    cut: u64,
}

/// A part of the text.
#[derive(Debug, Clone, Copy)]
struct Span {
    start: u32,
    len: u16,
}

/// Reads a file; see [`read_lines`].
pub(super) fn read_file(
    path: &Path,
    format: Format,
    line_end: LineEnd,
) -> Result<Lines, KeysError> {
    let file = File::open(path).map_err(|source| KeysError::Read {
        path: path.to_owned(),
        source,
    })?;
    read_lines(file, path, format, line_end)
}

/// Reads all lines that are not empty, without their line ends.
pub(super) fn read_lines(
    from: impl Read,
    path: &Path,
    format: Format,
    line_end: LineEnd,
) -> Result<Lines, KeysError> {
    let longest = format.key_bytes_max();
    let text = read_all(from, path)?;
    let mut numbers: HashMap<&[u8], u32> = HashMap::new();
    let (mut keys, mut entries, mut cut) = (Vec::new(), Vec::new(), 0);
    let mut start = 0;
    for (line, number) in text.split_inclusive(|&byte| byte == b'\n').zip(1..) {
        let key = without(line_end, line);
        let span = Span {
            // The text is shorter than 2^32 bytes, and a key than 2^16.
            start: start as u32,
            len: key.len().min(longest) as u16,
        };
        start += line.len();
        if key.is_empty() {
            continue;
        }
        if entries.len() == LINES_MAX {
            return Err(too_large(path, LINES_MAX, "lines"));
        }
        if key.len() > longest {
            if format == Format::Compact {
                return Err(KeysError::LineTooLong {
                    path: path.to_owned(),
                    line: number,
                    bytes: key.len(),
                });
            }
            cut += 1;
        }
        let number = *numbers
            .entry(&key[..key.len().min(longest)])
            .or_insert_with(|| {
                keys.push(span);
                keys.len() as u32 - 1
            });
        entries.push(number);
    }
    if entries.is_empty() {
        let path = path.to_owned();
        return Err(KeysError::Empty { path });
    }
    Ok(Lines {
        text,
        keys,
        entries,
        cut,
    })
}

fn read_all(from: impl Read, path: &Path) -> Result<Vec<u8>, KeysError> {
    let mut text = Vec::new();
    let read = from.take(FILE_BYTES_MAX as u64 + 1).read_to_end(&mut text);
    read.map_err(|source: io::Error| KeysError::Read {
        path: path.to_owned(),
        source,
    })?;
    if text.len() > FILE_BYTES_MAX {
        return Err(too_large(path, FILE_BYTES_MAX, "bytes"));
    }
    Ok(text)
}

fn too_large(path: &Path, limit: usize, what: &'static str) -> KeysError {
    KeysError::TooLarge {
        path: path.to_owned(),
        limit,
        what,
    }
}

fn without(line_end: LineEnd, line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    match line_end {
        LineEnd::LfOrCrLf => line.strip_suffix(b"\r").unwrap_or(line),
        LineEnd::Lf => line,
    }
}

impl Lines {
    pub(super) fn distinct(&self) -> u64 {
        self.keys.len() as u64
    }

    pub(super) fn entries(&self) -> u64 {
        self.entries.len() as u64
    }

    pub(super) fn cut(&self) -> u64 {
        self.cut
    }

    /// Bytes of the shortest and of the longest key.
    pub(super) fn key_bytes_range(&self) -> (usize, usize) {
        let lengths = || self.keys.iter().map(|span| usize::from(span.len));
        // There is at least one key, and none is empty.
        (lengths().min().unwrap_or(1), lengths().max().unwrap_or(1))
    }

    /// The number of the key in line `entry`.
    #[inline]
    pub(super) fn number(&self, entry: u64) -> u64 {
        self.entries[entry as usize].into()
    }

    #[inline]
    pub(super) fn key(&self, number: u64) -> &[u8] {
        let Span { start, len } = self.keys[number as usize];
        &self.text[start as usize..start as usize + usize::from(len)]
    }

    pub(super) fn hottest(&self, count: usize) -> Vec<u64> {
        let mut lines = vec![0u32; self.keys.len()];
        for &number in &self.entries {
            lines[number as usize] += 1;
        }
        let mut numbers: Vec<u64> = (0..self.distinct()).collect();
        numbers.sort_by_key(|&number| std::cmp::Reverse(lines[number as usize]));
        numbers.truncate(count);
        numbers
    }
}
