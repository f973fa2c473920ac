//! The absorber sums the weights of keys that come again soon, so that each goes into the sketch once.
//!
//! An add to the sketch is a locked instruction for each row, and costs most of an add's time, not memory. Where few
//! keys make up most of the traffic (Zipf), all threads also contend for the same few cache lines, and a line moves
//! from core to core with every add. So each thread has an absorber: a small table of the keys that it has seen last.
//! An add of a key in the table costs a comparison and an addition.
//!
//! ```text
//!    set        first              second
//!    0     [ hash | weight ]  [ hash | weight ]      a new key becomes second, and what was there
//!    1     [ hash | weight ]  [ hash | weight ]      leaves for the sketch; a second one that comes
//!    ...                                             again becomes first, and the first one second
//! ```
//!
//! So a key that came once does not drive out one that comes often. A key is known by its [`KeyHash`]. Two keys with
//! the same hash are the same key to the sketch, so the absorber adds no error.

use rmbd_sketch::{KeyHash, Weight};

/// Number of sets of two, a power of two. All sets take 80 KiB, a small part of a second-level cache. Twice as many
/// absorb more and cost more to empty. With these, and with half as many, adds through a node take 5 % longer or more
/// (`benches/compact.rs`).
const SETS: usize = 1 << 11;

/// Adds between two checks of whether absorbing pays.
const PERIOD: u32 = 1 << 15;
/// Number of adds of a period that may miss; with more, absorbing does not pay (`benches/threads.rs`).
const MISSES_MAX: u32 = PERIOD / 8 * 7;
/// Number of adds that pass by the absorber after it did not pay.
const PAUSE: u32 = PERIOD * 16;

/// The table of one thread. It allocates when it is made, and never again.
#[derive(Debug)]
pub(super) struct Absorber {
    hashes: Box<[[KeyHash; 2]; SETS]>,
    /// The summed weight of each key; 0 marks an empty place.
    weights: Box<[[Weight; 2]; SETS]>,
    /// A bit for each set, which is 1 if the set may hold a key.
    filled: Box<[u64; SETS / 64]>,
    is_paused: bool,
    /// Adds until the next check of whether absorbing pays.
    left: u32,
    /// Adds of this period that were not absorbed.
    misses: u32,
}

impl Absorber {
    pub(super) fn new() -> Self {
        Self {
            hashes: Box::new([[KeyHash::default(); 2]; SETS]),
            weights: Box::new([[Weight::ZERO; 2]; SETS]),
            filled: Box::new([0; SETS / 64]),
            is_paused: false,
            left: PERIOD,
            misses: 0,
        }
    }

    /// Takes an add. With `None` nothing is to be done now. With `Some` this weight has to be added to that key now:
    /// either the key at hand, or another one that made room for it. `come` is called where no weight of the key waits
    /// here, so once at least for each weight that leaves.
    // In line, since a call of its own costs a node a tenth of an add.
    #[inline(always)]
    pub(super) fn add(
        &mut self,
        hash: KeyHash,
        weight: Weight,
        come: impl FnOnce(),
    ) -> Option<(KeyHash, Weight)> {
        self.left -= 1;
        if self.left == 0 {
            self.review();
        }
        if self.is_paused {
            come();
            return Some((hash, weight));
        }
        let set = set_of(hash);
        let (hashes, weights) = (&mut self.hashes[set], &mut self.weights[set]);
        if hashes[0] != hash {
            if hashes[1] != hash {
                self.misses += 1;
                come();
                let displaced = (hashes[1], weights[1]);
                (hashes[1], weights[1]) = (hash, weight);
                self.filled[set / 64] |= 1 << (set % 64);
                return (displaced.1 > Weight::ZERO).then_some(displaced);
            }
            hashes.swap(0, 1);
            weights.swap(0, 1);
        }
        let there = weights[0];
        // The place holds a weight, and both together weigh no more than one add may: the sum leaves.
        if there > Weight::ZERO
            && let Some(both) = there.checked_add(weight)
        {
            weights[0] = both;
            return None;
        }
        self.misses += 1;
        come();
        weights[0] = weight;
        self.filled[set / 64] |= 1 << (set % 64);
        (there > Weight::ZERO).then_some((hash, there))
    }

    /// Takes out the weight that is absorbed for a key, 0 if there is none: a count of the key comes next.
    #[inline]
    pub(super) fn release(&mut self, hash: KeyHash) -> Weight {
        let set = set_of(hash);
        // The bits are near at all times, and sets may be far.
        if self.filled[set / 64] & (1 << (set % 64)) == 0 {
            return Weight::ZERO;
        }
        let (hashes, weights) = (&self.hashes[set], &mut self.weights[set]);
        let place = hashes
            .iter()
            .zip(weights)
            .find(|(there, _)| **there == hash);
        place.map_or(Weight::ZERO, |(_, weight)| std::mem::take(weight))
    }

    /// Takes out all that is absorbed.
    #[inline]
    pub(super) fn release_all(&mut self, mut each: impl FnMut(KeyHash, Weight)) {
        for (word, filled) in self.filled.iter_mut().enumerate() {
            let mut sets = std::mem::take(filled);
            while sets > 0 {
                let set = word * 64 + sets.trailing_zeros() as usize;
                sets &= sets - 1;
                for (hash, weight) in self.hashes[set].iter().zip(&mut self.weights[set]) {
                    if *weight > Weight::ZERO {
                        each(*hash, std::mem::take(weight));
                    }
                }
            }
        }
    }

    /// Checks whether this period paid. If it did not, absorbing pauses and is tried anew after that.
    #[cold]
    fn review(&mut self) {
        self.is_paused = !self.is_paused && self.misses > MISSES_MAX;
        self.left = if self.is_paused { PAUSE } else { PERIOD };
        self.misses = 0;
    }
}

#[inline]
fn set_of(hash: KeyHash) -> usize {
    hash.low_bits() % SETS
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;
    use rmbd_sketch::{Geometry, HashFamily, MAX_WEIGHT};

    /// Hashes of made-up keys, all different.
    fn all_hashes() -> impl Iterator<Item = KeyHash> {
        let family = HashFamily::Xxh3 { seed: 7 };
        (0_u64..).map(move |key| family.hash(&key.to_le_bytes(), Geometry::DEFAULT).unwrap())
    }

    /// Hashes of keys that share few sets.
    fn hashes(keys: usize) -> Vec<KeyHash> {
        all_hashes()
            .filter(|&hash| set_of(hash) < 4)
            .take(keys)
            .collect()
    }

    proptest! {
        /// All weight that goes in comes out (displaced, released, or at the end), and no other weight does.
        #[test]
        fn weight_is_kept_for_each_key(
            steps in prop::collection::vec((0..16_usize, 0..=MAX_WEIGHT, 0..20), 0..300),
        ) {
            let hashes = hashes(16);
            let mut absorber = Absorber::new();
            let (mut truth, mut seen) = (HashMap::new(), HashMap::new());
            for (key, weight, what) in steps {
                let (hash, weight) = (hashes[key], Weight::new(weight).unwrap());
                *truth.entry(hash.low_bits()).or_insert(0) += u64::from(weight);
                let mut out = |hash: KeyHash, weight: Weight| {
                    *seen.entry(hash.low_bits()).or_insert(0) += u64::from(weight);
                };
                match what {
                    0 => absorber.release_all(&mut out),
                    1..=3 => {
                        out(hash, absorber.release(hash));
                        prop_assert_eq!(absorber.release(hash), Weight::ZERO);
                    }
                    _ => {}
                }
                if let Some((hash, weight)) = absorber.add(hash, weight, || {}) {
                    out(hash, weight);
                }
            }
            absorber.release_all(|hash, weight| {
                assert!(weight > Weight::ZERO);
                *seen.entry(hash.low_bits()).or_insert(0) += u64::from(weight);
            });
            absorber.release_all(|_, _| panic!("it was emptied"));
            truth.retain(|_, weight| *weight > 0);
            seen.retain(|_, weight| *weight > 0);
            prop_assert_eq!(truth, seen);
        }
    }

    #[test]
    fn a_key_that_comes_often_stays_while_others_pass() {
        let hashes = hashes(4000);
        let (often, others) = hashes.split_first().unwrap();
        let mut absorber = Absorber::new();
        absorber.add(*often, Weight::ONE, || {});
        for other in others {
            assert_eq!(absorber.add(*often, Weight::ONE, || {}), None);
            if let Some((left, _)) = absorber.add(*other, Weight::ONE, || {}) {
                assert_ne!(left, *often);
            }
        }
        assert_eq!(absorber.release(*often).get(), others.len() as u32 + 1);
    }

    #[test]
    fn it_steps_aside_where_no_key_comes_again_and_comes_back() {
        let hashes: Vec<KeyHash> = all_hashes().take(2 * PERIOD as usize).collect();
        let mut absorber = Absorber::new();
        let passed = hashes
            .iter()
            .filter(|&&hash| absorber.add(hash, Weight::ONE, || {}) == Some((hash, Weight::ONE)))
            .count();
        assert_eq!(passed, PERIOD as usize + 1);
        let add = |_: &u32| absorber.add(hashes[0], Weight::ONE, || {}).is_none();
        let again = (0..PAUSE + PERIOD).filter(add);
        assert!(again.count() > PERIOD as usize / 2);
    }
}
