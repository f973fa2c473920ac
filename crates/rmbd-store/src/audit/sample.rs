//! Which keys are audited.

use super::atomic::{
    AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed},
};

/// Keys of which one is audited at first. See the head of `audit`.
const KEYS_OF_ONE: u64 = 1 << 6;

/// The sample that all threads share: keys with a tag below a bound, which only comes down.
#[derive(Debug)]
pub(super) struct Sample {
    below: AtomicU64,
}

/// The number by which a key is in the sample or not, as random as its hash. All keys with one hash have one tag.
///
/// Both halves of the hash come to the highest bits, so that these say nothing of the cells of the key, and nothing
/// of its place in an absorber or among the wanted names: each of those is chosen by some bits of one half.
#[inline]
pub(super) fn tag_of([low, high]: [u64; 2]) -> u64 {
    (low ^ high).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// The part of all keys that have a tag below this bound.
pub(super) fn share_of(below: u64) -> f64 {
    below as f64 / 2_f64.powi(64)
}

impl Sample {
    pub(super) fn new() -> Self {
        Self {
            below: AtomicU64::new(u64::MAX / KEYS_OF_ONE + 1),
        }
    }

    /// A key is in the sample if its tag is below this. Who asks behind an Acquire fence, behind its reads of cells,
    /// knows each sample by which a thread left a key out that it added to those cells.
    #[inline]
    pub(super) fn below(&self) -> u64 {
        self.below.load(Acquire)
    }

    /// Leaves every second key out, if the bound is still this one. At last nothing is left.
    pub(super) fn halve(&self, below: u64) {
        // Where another thread has done it meanwhile, there may be room now.
        let _ = (self.below).compare_exchange(below, below / 2, AcqRel, Relaxed);
    }
}
