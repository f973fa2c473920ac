//! What a sketch really errs by: a sample of it.
//!
//! The theorem promises epsilon * N for any stream; most streams are kinder by an order of magnitude. A count of a key
//! that was never added reads nothing but error, and a key that was added has as much of it from the others. So the
//! counts of some thousand random keys are a sample of the errors of all keys (Ting, "Count-Min: optimal estimation
//! and tight error bounds using empirical error distributions", KDD 2018). They are read in the way of any other
//! count, so whatever a count is made of is in them: own cells and those of others, what wrapped, and legacy peers.
//!
//! **What it promises.** Of keys that were chosen without a look at the seed, no more than the share that the theorem
//! leaves have a larger error than the [quantile](LikelyError::quantile). That is likely and not certain: it holds for
//! the keys together, and whoever knows the seed finds keys of which it does not. From a depth of 9 on the sample is
//! too small for such a share; the largest error of it is passed by 1 key in 4 097.
//!
//! **How old it may be.** Errors of totals only grow, so an older sample is too small. It is scaled by what N has grown
//! since, and is no answer where N has grown by more than an eighth: then there is none until the next one. An empty
//! sketch and one at rest are not sampled.

#[cfg(test)]
mod tests;

use std::sync::atomic::{
    AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};

use super::Replica;
use rmbd_sketch::Geometry;

/// Number of keys of a sample. At a depth of 4 some 75 of them are above the quantile.
const SAMPLE_KEYS: usize = 4_096;
/// Number of keys that one piece reads: tens of microseconds where cells are not in the cache.
const PIECE_KEYS: usize = 256;
/// A sample is due when N has changed by 1 in this many. So a sketch of N weights has been sampled no more often than
/// some 64 ln N times.
const CHANGED_SHARE: u64 = 64;
/// A sample is no answer any more when N has grown by more than 1 in this many.
const HOLDS_SHARE: u64 = 8;
/// The quantile is taken this many standard deviations of a sample's noise further out, so that the share of larger
/// errors is what is promised for nearly every sample, and not for every second one.
const SAFE_DEVIATIONS: f64 = 2.0;

/// What estimates of a sketch exceed the truth by, as it was sampled.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LikelyError {
    /// The mean.
    pub mean: f64,
    /// The median: half of the keys have a larger error, or the same.
    pub median: u64,
    /// At most a share of 1 - [`likely_share`] of the keys has a larger error. It is not below the median.
    pub quantile: u64,
}

/// The share of keys whose error is at most the [quantile](LikelyError::quantile): the confidence of the sketch, or
/// 4095 / 4096 where that is less.
#[must_use]
pub fn likely_share(geometry: Geometry) -> f64 {
    geometry.confidence().min(1.0 - 1.0 / SAMPLE_KEYS as f64)
}

impl Replica {
    /// What estimates likely exceed the truth by where N is `total_weight`. `None` where there is no sample that is
    /// young enough.
    #[must_use]
    pub fn likely_error(&self, total_weight: u64) -> Option<LikelyError> {
        self.sampled.at(total_weight)
    }

    /// Whether N has changed so much that there should be another sample.
    #[must_use]
    pub fn wants_sample(&self) -> bool {
        self.sampled.is_old_at(self.total_weight())
    }
}

/// Draws random keys, and reads what counts of them come to. It serves any number of sketches, one after the other.
///
/// ```
/// use rmbd_sketch::{Geometry, HashFamily, Weight};
/// use rmbd_store::{ErrorSampler, Replica};
///
/// let replica = Replica::try_new(Geometry::new(64, 2)?, HashFamily::Xxh3 { seed: 7 }, 0)?;
/// for key in 0..1000_u32 {
///     replica.add(&key.to_le_bytes(), Weight::ONE)?;
/// }
/// assert!(replica.wants_sample());
/// let mut sampler = ErrorSampler::new(0x5eed);
/// let mut sample = sampler.begin(&replica);
/// while sample.read_piece() {} // other work goes on between the pieces
/// let likely = replica.likely_error(1000).ok_or("no sample")?;
/// let promised = replica.error();
/// assert!(likely.median <= likely.quantile && likely.quantile < promised);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct ErrorSampler {
    keys: Keys,
    errors: Vec<u64>,
}

/// A sample that has begun. It ends with the piece that completes it; where it is dropped before, nothing has changed.
#[derive(Debug)]
pub struct Sample<'a> {
    sampler: &'a mut ErrorSampler,
    replica: &'a Replica,
    total_weight: u64,
}

impl ErrorSampler {
    /// A sampler that draws keys from this seed. Nobody should know it who chooses keys to be counted.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            keys: Keys(seed),
            errors: Vec::with_capacity(SAMPLE_KEYS),
        }
    }

    /// Begins a sample of a sketch. Of each sketch only one may be under way.
    #[must_use]
    pub fn begin<'a>(&'a mut self, replica: &'a Replica) -> Sample<'a> {
        self.errors.clear();
        Sample {
            // Read before the cells, which have at least that.
            total_weight: replica.total_weight(),
            sampler: self,
            replica,
        }
    }
}

impl Sample<'_> {
    /// Counts some more keys. Returns whether more are to come; otherwise the sample is complete, and everybody sees
    /// it.
    pub fn read_piece(&mut self) -> bool {
        let ErrorSampler { keys, errors } = &mut *self.sampler;
        let left = SAMPLE_KEYS - errors.len();
        let read = |key: u64| self.replica.estimate(&key.to_le_bytes()).count;
        errors.extend(keys.take(left.min(PIECE_KEYS)).map(read));
        if errors.len() < SAMPLE_KEYS {
            return true;
        }
        let share = self.replica.own.geometry().confidence();
        let likely = LikelyError::of(errors, share);
        self.replica.sampled.set(likely, self.total_weight);
        false
    }
}

impl LikelyError {
    /// What sampled errors come to, which are left in another order. There is one at least.
    fn of(errors: &mut [u64], share: f64) -> Self {
        let sum: u128 = errors.iter().map(|&error| u128::from(error)).sum();
        let last = errors.len() - 1;
        let mut at = |rank: usize| *errors.select_nth_unstable(rank.min(last)).1;
        let (median, quantile) = (at(last / 2), at(last - larger(last + 1, share)));
        Self {
            mean: sum as f64 / (last + 1) as f64,
            median,
            quantile: quantile.max(median),
        }
    }

    /// What it is where N has grown from one value to another: as much larger.
    fn grown(self, from: u64, to: u64) -> Self {
        let Self {
            mean,
            median,
            quantile,
        } = self;
        if to <= from {
            return self;
        }
        // To the nearest, since rounding up would make a sample too large as soon as anything was added.
        let scaled = |error: u64| {
            let scaled =
                (u128::from(error) * u128::from(to) + u128::from(from / 2)) / u128::from(from);
            u64::try_from(scaled).unwrap_or(u64::MAX)
        };
        Self {
            mean: mean * (to as f64 / from as f64),
            median: scaled(median),
            quantile: scaled(quantile),
        }
    }
}

/// How many of these keys may have a larger error than the quantile at this share.
fn larger(keys: usize, share: f64) -> usize {
    let expected = keys as f64 * (1.0 - share);
    let safe = expected - SAFE_DEVIATIONS * expected.sqrt();
    // `as` makes 0 of what is negative.
    (safe as usize).min(keys - 1)
}

/// The latest sample of a sketch. It has one writer.
///
/// Errors are relaxed: each stands for itself, and to mix those of two samples harms nobody, since both held. Only N
/// orders anything: it is written last (Release) and read first (Acquire), so that no error is of an older sample than
/// the N by which it is scaled. A younger one is scaled by too much, which is safe.
#[derive(Debug, Default)]
pub(super) struct Sampled {
    /// N when the sample was begun; 0 where there is none.
    total_weight: AtomicU64,
    mean_bits: AtomicU64,
    median: AtomicU64,
    quantile: AtomicU64,
}

impl Sampled {
    fn set(&self, likely: LikelyError, total_weight: u64) {
        self.mean_bits.store(likely.mean.to_bits(), Relaxed);
        self.median.store(likely.median, Relaxed);
        self.quantile.store(likely.quantile, Relaxed);
        self.total_weight.store(total_weight, Release);
    }

    fn at(&self, total_weight: u64) -> Option<LikelyError> {
        let from = self.total_weight.load(Acquire);
        if from == 0 || total_weight.saturating_sub(from) > from / HOLDS_SHARE {
            return None;
        }
        let median = self.median.load(Relaxed);
        let likely = LikelyError {
            mean: f64::from_bits(self.mean_bits.load(Relaxed)),
            median,
            // Where they are of two samples, their order is kept.
            quantile: self.quantile.load(Relaxed).max(median),
        };
        Some(likely.grown(from, total_weight))
    }

    fn is_old_at(&self, total_weight: u64) -> bool {
        let from = self.total_weight.load(Relaxed);
        total_weight > 0 && total_weight.abs_diff(from) > from / CHANGED_SHARE
    }
}

/// Random keys: SplitMix64 (Steele, Lea & Flood 2014), since they only have to be unlike the keys that are counted.
#[derive(Debug)]
struct Keys(u64);

impl Iterator for &mut Keys {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Some(mixed ^ (mixed >> 31))
    }
}
