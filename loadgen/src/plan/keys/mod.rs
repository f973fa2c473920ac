//! Which keys a run sends: deterministic streams from a seed, or the lines of a file.
//!
//! Every key has a number below [`KeySet::distinct`], and a stream is a sequence of such numbers.
//! So what was sent need not be noted while sending: the same stream, run again, tells. Taking a
//! key from a stream allocates nothing.

mod alias;
mod file;
mod spec;
#[cfg(test)]
mod tests;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use rand::distr::Distribution;
use rand::rand_core::{Rng, SeedableRng};
use rand_distr::Zipf;
use rand_xoshiro::Xoshiro256PlusPlus;
use rmbd::wire::compact::KEY_BYTES_MAX;
use thiserror::Error;

use self::alias::{ZipfRanks, ZipfTable};
use self::file::Lines;
pub use self::spec::{KeySpec, KeySpecError};
use super::format::Format;

/// Bytes of a made key if nothing else is said: 16 hexadecimal digits hold every number.
pub const DEFAULT_KEY_BYTES: usize = 16;

/// Hexadecimal digits of the largest number.
const DIGITS_MAX: usize = 16;

/// Where a line of a file of keys ends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LineEnd {
    /// Before LF, and before a CR that stands in front of it or at the end of the file: as `rmbd add` has it.
    #[default]
    LfOrCrLf,
    /// Before LF; a CR is the key's.
    Lf,
}

impl LineEnd {
    /// As `--keep-cr` has it: whether a CR at the end of a line is the key's.
    #[must_use]
    pub(crate) fn with_cr(is_kept: bool) -> Self {
        match is_kept {
            true => Self::Lf,
            false => Self::LfOrCrLf,
        }
    }
}

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

/// The keys of a run, shared by all its streams; cheap to clone.
#[derive(Debug, Clone)]
pub struct KeySet {
    kind: Kind,
    spec: KeySpec,
    /// Where `spec` is Zipf and has not too many ranks for it.
    zipf: Option<Arc<ZipfTable>>,
}

#[derive(Debug, Clone)]
enum Kind {
    Made(Made),
    Lines(Arc<Lines>),
}

/// Keys made from their numbers: a prefix, zeros, and the number in hexadecimal.
#[derive(Debug, Clone)]
struct Made {
    keys: u64,
    /// A key of `bytes` bytes whose digits are all 0.
    template: Box<[u8]>,
    bytes: usize,
    /// How many of its last bytes are the number.
    digits: usize,
}

impl KeySet {
    /// Makes ready what is asked for: reads the file, or checks that keys of `key_bytes` bytes, of
    /// which the first are `prefix`, can all be different. Both are ignored for a file. All of them
    /// are as long as the format can carry them; the legacy one cuts long lines of a file.
    ///
    /// # Errors
    /// [`KeysError`].
    pub fn open(
        spec: &KeySpec,
        key_bytes: usize,
        prefix: &str,
        format: Format,
    ) -> Result<Self, KeysError> {
        Self::open_with(spec, key_bytes, prefix, format, LineEnd::default())
    }

    /// The same, of lines that end as told.
    ///
    /// # Errors
    /// [`KeysError`], also where a CR is to be kept and there are no lines.
    pub fn open_with(
        spec: &KeySpec,
        key_bytes: usize,
        prefix: &str,
        format: Format,
        line_end: LineEnd,
    ) -> Result<Self, KeysError> {
        let is_of_lines = matches!(spec, KeySpec::File(_) | KeySpec::Stdin);
        if line_end == LineEnd::Lf && !is_of_lines {
            return Err(KeysError::NoLines { spec: spec.clone() });
        }
        let kind = match *spec {
            KeySpec::Uniform { keys }
            | KeySpec::Zipf { keys, .. }
            | KeySpec::Sequential { keys } => {
                Kind::Made(Made::new(keys, key_bytes, prefix, format)?)
            }
            KeySpec::File(ref path) => {
                Kind::Lines(Arc::new(file::read_file(path, format, line_end)?))
            }
            KeySpec::Stdin => Kind::Lines(Arc::new(file::read_lines(
                io::stdin().lock(),
                "-".as_ref(),
                format,
                line_end,
            )?)),
        };
        let zipf = match *spec {
            KeySpec::Zipf { exponent, keys } => ZipfTable::new(exponent, keys).map(Arc::new),
            _ => None,
        };
        let spec = spec.clone();
        Ok(Self { kind, spec, zipf })
    }

    /// What it was made from.
    #[must_use]
    pub fn spec(&self) -> &KeySpec {
        &self.spec
    }

    /// How many different keys there are; their numbers are below this.
    #[must_use]
    pub fn distinct(&self) -> u64 {
        match &self.kind {
            Kind::Made(made) => made.keys,
            Kind::Lines(lines) => lines.distinct(),
        }
    }

    /// Bytes of every key, where they are made.
    #[must_use]
    pub fn key_bytes(&self) -> Option<usize> {
        match &self.kind {
            Kind::Made(made) => Some(made.bytes),
            Kind::Lines(_) => None,
        }
    }

    /// Bytes of the shortest and of the longest key; at least 1.
    #[must_use]
    pub fn key_bytes_range(&self) -> (usize, usize) {
        match &self.kind {
            Kind::Made(made) => (made.bytes, made.bytes),
            Kind::Lines(lines) => lines.key_bytes_range(),
        }
    }

    /// Lines of the file that were longer than the legacy format carries and were cut, as every sender
    /// of that format does.
    #[must_use]
    pub fn cut(&self) -> u64 {
        match &self.kind {
            Kind::Made(_) => 0,
            Kind::Lines(lines) => lines.cut(),
        }
    }

    /// Numbers of the keys that are sent most often, most often first; none where all are sent
    /// alike.
    #[must_use]
    pub fn hottest(&self, count: usize) -> Vec<u64> {
        match (&self.kind, &self.spec) {
            (Kind::Lines(lines), _) => lines.hottest(count),
            (Kind::Made(made), KeySpec::Zipf { .. }) => (0..made.keys).take(count).collect(),
            (Kind::Made(_), _) => Vec::new(),
        }
    }

    /// Writes key `number` and returns its length. A number past the end is taken modulo
    /// [`Self::distinct`].
    pub fn write(&self, number: u64, out: &mut [u8; KEY_BYTES_MAX]) -> usize {
        match &self.kind {
            Kind::Made(made) => {
                out[..made.bytes].copy_from_slice(&made.template);
                made.write_digits(number % made.keys, out);
                made.bytes
            }
            Kind::Lines(lines) => {
                let key = lines.key(number % lines.distinct());
                out[..key.len()].copy_from_slice(key);
                key.len()
            }
        }
    }

    /// Key `number` by itself; see [`Self::write`].
    #[must_use]
    pub fn key(&self, number: u64) -> Vec<u8> {
        let mut key = [0; KEY_BYTES_MAX];
        let len = self.write(number, &mut key);
        key[..len].to_vec()
    }

    /// Stream `part` of `parts` that share the work. Random ones are independent of each other;
    /// `sequential` and `file` deal their keys out in turn, so one part alone sends them in order.
    /// The same seed and part give the same stream (`zipf` as far as the machine's `pow` is the
    /// same). Streams never end:
    /// `sequential` and `file` begin again.
    #[must_use]
    pub fn stream(&self, seed: u64, part: usize, parts: usize) -> Stream {
        let source = match (&self.spec, &self.kind) {
            (KeySpec::Uniform { keys }, _) => Source::Uniform {
                rng: part_rng(seed, part),
                keys: *keys,
            },
            (KeySpec::Zipf { exponent, keys }, _) => {
                let rng = part_rng(seed, part);
                match &self.zipf {
                    Some(table) => Source::ZipfTable(ZipfRanks::new(Arc::clone(table), rng)),
                    None => Source::Zipf {
                        rng,
                        zipf: spec::zipf(*exponent, *keys),
                    },
                }
            }
            (KeySpec::Sequential { .. }, _) => Source::turns(part, parts, self.distinct()),
            (KeySpec::File(_) | KeySpec::Stdin, Kind::Lines(lines)) => {
                Source::turns(part, parts, lines.entries())
            }
            // `open` gives lines to files.
            (KeySpec::File(_) | KeySpec::Stdin, Kind::Made(made)) => {
                Source::turns(part, parts, made.keys)
            }
        };
        let mut key = [0; KEY_BYTES_MAX];
        if let Kind::Made(made) = &self.kind {
            key[..made.bytes].copy_from_slice(&made.template);
        }
        Stream {
            keys: self.clone(),
            source,
            key,
            latest: 0,
        }
    }
}

/// Generators of different parts are 2^128 steps apart, so they never overlap.
fn part_rng(seed: u64, part: usize) -> Xoshiro256PlusPlus {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
    for _ in 0..part {
        rng.jump();
    }
    rng
}

/// An endless sequence of keys.
#[derive(Debug, Clone)]
pub struct Stream {
    keys: KeySet,
    source: Source,
    /// A made key.
    key: [u8; KEY_BYTES_MAX],
    /// Its number.
    latest: u64,
}

#[derive(Debug, Clone)]
enum Source {
    Uniform {
        rng: Xoshiro256PlusPlus,
        keys: u64,
    },
    ZipfTable(ZipfRanks),
    /// Too many ranks for a table: by rejection, which is slower.
    Zipf {
        rng: Xoshiro256PlusPlus,
        zipf: Zipf<f64>,
    },
    Turns {
        next: u64,
        step: u64,
        end: u64,
    },
}

impl Source {
    fn turns(part: usize, parts: usize, end: u64) -> Self {
        Self::Turns {
            next: part as u64 % end,
            step: parts.max(1) as u64 % end,
            end,
        }
    }

    #[inline]
    fn next(&mut self) -> u64 {
        match self {
            // Lemire's multiply-shift without rejection: the bias is below keys / 2^64.
            Self::Uniform { rng, keys } => {
                ((u128::from(rng.next_u64()) * u128::from(*keys)) >> 64) as u64
            }
            Self::ZipfTable(ranks) => ranks.next(),
            Self::Zipf { rng, zipf } => zipf.sample(rng) as u64 - 1,
            Self::Turns { next, step, end } => {
                let this = *next;
                *next += *step;
                if *next >= *end {
                    *next -= *end;
                }
                this
            }
        }
    }
}

impl Stream {
    /// Number of the next key.
    #[inline]
    pub fn next_number(&mut self) -> u64 {
        let place = self.source.next();
        match &self.keys.kind {
            Kind::Made(_) => place,
            Kind::Lines(lines) => lines.number(place),
        }
    }

    /// The next key.
    #[inline]
    pub fn next_key(&mut self) -> &[u8] {
        self.latest = self.next_number();
        if let Kind::Made(made) = &self.keys.kind {
            made.write_digits(self.latest, &mut self.key);
        }
        self.latest_key()
    }

    /// Number of what [`Self::next_key`] gave last.
    #[inline]
    #[must_use]
    pub fn latest_number(&self) -> u64 {
        self.latest
    }

    /// What [`Self::next_key`] gave last; the first key of all before that.
    #[inline]
    #[must_use]
    pub fn latest_key(&self) -> &[u8] {
        match &self.keys.kind {
            Kind::Made(made) => &self.key[..made.bytes],
            Kind::Lines(lines) => lines.key(self.latest),
        }
    }
}

impl Made {
    fn new(keys: u64, bytes: usize, prefix: &str, format: Format) -> Result<Self, KeysError> {
        if bytes > format.key_bytes_max() {
            return Err(KeysError::TooLong { bytes, format });
        }
        let needed = prefix.len() + digits(keys - 1);
        if bytes < needed {
            return Err(KeysError::TooShort {
                keys,
                bytes,
                prefix_bytes: prefix.len(),
                needed,
            });
        }
        let mut template = vec![b'0'; bytes].into_boxed_slice();
        template[..prefix.len()].copy_from_slice(prefix.as_bytes());
        Ok(Self {
            keys,
            template,
            bytes,
            digits: (bytes - prefix.len()).min(DIGITS_MAX),
        })
    }

    /// Writes the last digits of a key whose other bytes are there already.
    #[inline]
    fn write_digits(&self, number: u64, key: &mut [u8; KEY_BYTES_MAX]) {
        let digits = hexadecimal(number);
        key[self.bytes - self.digits..self.bytes]
            .copy_from_slice(&digits[DIGITS_MAX - self.digits..]);
    }
}

/// What else to do about keys that are too long.
fn or_compact(format: Format) -> &'static str {
    match format {
        Format::Legacy => ", or --format compact, which carries 1024",
        Format::Compact => "",
    }
}

/// Hexadecimal digits that a number needs, at least 1.
fn digits(number: u64) -> usize {
    (number.max(1).ilog2() as usize) / 4 + 1
}

/// 16 lower-case digits, all at once: one byte for each nibble, `0` added, and the distance from
/// `9` to `a` where it is above 9.
#[inline]
fn hexadecimal(number: u64) -> [u8; DIGITS_MAX] {
    const LOW_NIBBLES: u128 = u128::from_ne_bytes([0x0f; DIGITS_MAX]);
    const ONES: u128 = u128::from_ne_bytes([1; DIGITS_MAX]);
    let n = u128::from(number);
    let n = (n | (n << 32)) & 0x0000_0000_ffff_ffff_0000_0000_ffff_ffff;
    let n = (n | (n << 16)) & 0x0000_ffff_0000_ffff_0000_ffff_0000_ffff;
    let n = (n | (n << 8)) & 0x00ff_00ff_00ff_00ff_00ff_00ff_00ff_00ff;
    let nibbles = (n | (n << 4)) & LOW_NIBBLES;
    let above_nine = ((nibbles + ONES * 6) >> 4) & ONES;
    let letters = above_nine * u128::from(b'a' - b'9' - 1);
    (nibbles + ONES * u128::from(b'0') + letters).to_be_bytes()
}
