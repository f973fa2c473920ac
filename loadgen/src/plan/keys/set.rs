//! The keys of a run.

#[cfg(test)]
mod tests;

use std::io;
use std::sync::Arc;

use rmbd_proto::compact::KEY_BYTES_MAX;

use super::super::format::Format;
use super::alias::ZipfTable;
use super::error::KeysError;
use super::file::{self, LineEnd, Lines};
use super::made::Made;
use super::spec::KeySpec;

/// Default length of a made key in bytes: 16 hexadecimal digits hold every number.
pub const DEFAULT_KEY_BYTES: usize = 16;

/// The keys of a run, shared by all its streams; cheap to clone.
#[derive(Debug, Clone)]
pub struct KeySet {
    pub(super) kind: Kind,
    pub(super) spec: KeySpec,
    /// The table for a Zipf distribution, if it has few enough ranks for one.
    pub(super) zipf: Option<Arc<ZipfTable>>,
}

#[derive(Debug, Clone)]
pub(super) enum Kind {
    Made(Made),
    Lines(Arc<Lines>),
}

impl KeySet {
    /// Prepares keys: reads the file, or checks that keys of `key_bytes` bytes with this prefix can all be different.
    /// Both are ignored for a file. The format limits the length of keys; the legacy one cuts long lines of a file.
    ///
    /// # Errors
    /// Fails with [`KeysError`].
    pub fn open(
        spec: &KeySpec,
        key_bytes: usize,
        prefix: &str,
        format: Format,
    ) -> Result<Self, KeysError> {
        Self::open_with(spec, key_bytes, prefix, format, LineEnd::default())
    }

    /// Does the same for lines with this line end.
    ///
    /// # Errors
    /// Fails with [`KeysError`], also if a CR is to be kept and there are no lines.
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

    /// The specification that the set was made from.
    #[must_use]
    pub fn spec(&self) -> &KeySpec {
        &self.spec
    }

    /// Number of different keys; their numbers are below this.
    #[must_use]
    pub fn distinct(&self) -> u64 {
        match &self.kind {
            Kind::Made(made) => made.keys,
            Kind::Lines(lines) => lines.distinct(),
        }
    }

    /// Length of every key in bytes, if the keys are made.
    #[must_use]
    pub fn key_bytes(&self) -> Option<usize> {
        match &self.kind {
            Kind::Made(made) => Some(made.bytes),
            Kind::Lines(_) => None,
        }
    }

    /// Bytes of the shortest and of the longest key, at least 1.
    #[must_use]
    pub fn key_bytes_range(&self) -> (usize, usize) {
        match &self.kind {
            Kind::Made(made) => (made.bytes, made.bytes),
            Kind::Lines(lines) => lines.key_bytes_range(),
        }
    }

    /// Number of lines of the file that were longer than the legacy format carries, and were cut, as every sender of
    /// that format does.
    #[must_use]
    pub fn cut(&self) -> u64 {
        match &self.kind {
            Kind::Made(_) => 0,
            Kind::Lines(lines) => lines.cut(),
        }
    }

    /// Numbers of the keys that are sent most often, the most frequent first. It is empty if all keys are sent equally
    /// often.
    #[must_use]
    pub fn hottest(&self, count: usize) -> Vec<u64> {
        match (&self.kind, &self.spec) {
            (Kind::Lines(lines), _) => lines.hottest(count),
            (Kind::Made(made), KeySpec::Zipf { .. }) => (0..made.keys).take(count).collect(),
            (Kind::Made(_), _) => Vec::new(),
        }
    }

    /// Writes key `number`, and returns its length. A number past the end is taken modulo [`Self::distinct`].
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

    /// Returns key `number`; see [`Self::write`].
    #[must_use]
    pub fn key(&self, number: u64) -> Vec<u8> {
        let mut key = [0; KEY_BYTES_MAX];
        let len = self.write(number, &mut key);
        key[..len].to_vec()
    }
}
