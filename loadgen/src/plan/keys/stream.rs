//! Streams of keys.

use std::sync::Arc;

use rand::distr::Distribution;
use rand::rand_core::{Rng, SeedableRng};
use rand_distr::Zipf;
use rand_xoshiro::Xoshiro256PlusPlus;
use rmbd_proto::compact::KEY_BYTES_MAX;

use super::alias::ZipfRanks;
use super::set::{KeySet, Kind};
use super::spec::{self, KeySpec};

impl KeySet {
    /// Stream `part` of `parts` that share the work. Random streams are independent of each other. `sequential` and
    /// `file` deal their keys out in turn, so one part alone sends them in order. The same seed and part give the same
    /// stream (`zipf` as far as the machine's `pow` is the same). Streams never end: `sequential` and `file` begin
    /// again.
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
            // `open` gives lines to every file.
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
            change: None,
            key,
            latest: 0,
        }
    }
}

/// The generator of a part. Generators of different parts are 2^128 steps apart, so they never overlap.
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
    change: Option<Change>,
    /// The bytes of a made key.
    key: [u8; KEY_BYTES_MAX],
    /// The number of the latest key.
    latest: u64,
}

/// The change of which keys are hot: after every so many keys, ranks go to keys further on.
#[derive(Debug, Clone)]
struct Change {
    every: u64,
    /// Number of keys until the next change.
    left: u64,
    stride: u64,
    /// The distance from a rank to its key, modulo the number of keys.
    shift: u64,
}

impl Change {
    fn moved(&mut self, place: u64, keys: u64) -> u64 {
        if self.left == 0 {
            self.left = self.every;
            self.shift = (self.shift + self.stride) % keys;
        }
        self.left -= 1;
        (place + self.shift) % keys
    }
}

/// By how many of `keys` keys the hot ranks move at each change: the golden section of all, so that the hottest of
/// some changes in turn are different keys.
pub(crate) fn change_stride(keys: u64) -> u64 {
    ((keys as f64 * 0.618_034) as u64).clamp(1, keys.max(1))
}

#[derive(Debug, Clone)]
enum Source {
    Uniform {
        rng: Xoshiro256PlusPlus,
        keys: u64,
    },
    ZipfTable(ZipfRanks),
    /// Zipf with too many ranks for a table, which is drawn by rejection and slower.
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
            // This is Lemire's multiply-shift without rejection: the bias is below keys / 2^64.
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
    /// The same stream, in which other keys are hot after every so many keys. Only made keys change.
    #[must_use]
    pub(crate) fn changing_every(mut self, keys: Option<u64>) -> Self {
        self.change = keys.map(|every| Change {
            every: every.max(1),
            left: every.max(1),
            stride: change_stride(self.keys.distinct()),
            shift: 0,
        });
        self
    }

    /// The number of the next key.
    #[inline]
    pub fn next_number(&mut self) -> u64 {
        let place = self.source.next();
        match &self.keys.kind {
            Kind::Made(made) => match &mut self.change {
                None => place,
                Some(change) => change.moved(place, made.keys),
            },
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

    /// The number of the key that [`Self::next_key`] gave last.
    #[inline]
    #[must_use]
    pub fn latest_number(&self) -> u64 {
        self.latest
    }

    /// The key that [`Self::next_key`] gave last; before that, the first key of all.
    #[inline]
    #[must_use]
    pub fn latest_key(&self) -> &[u8] {
        match &self.keys.kind {
            Kind::Made(made) => &self.key[..made.bytes],
            Kind::Lines(lines) => lines.key(self.latest),
        }
    }
}
