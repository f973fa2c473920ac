//! Many adds, counts and hits in order, faster than one by one.
//!
//! ```text
//!    add ───> absorber ──(displaced, or all at the end)──> pipeline ───> sketch
//!    count, hit ─────(with what is absorbed of their key)────^   └────> answers
//! ```

use crate::sketch::{Estimate, MAX_WEIGHT, WeightError, check_weight};

use super::Replica;
use super::absorber::Absorber;
use super::pipeline::{Key, Operation, Pipeline, Way};

/// Applies adds, counts and hits to a [`Replica`], in the order given: a count (and that of a hit) sees
/// every add of its key before it and none behind it. (Of other keys' adds in the same batch, which can
/// only make it too large, it may see fewer than were made.)
///
/// Made once for each data thread, with buffers of fixed size; it allocates nothing. Each count or hit
/// carries a token, which comes back with its answer; answers come in the order of the counts, in
/// this call or a later one, at the latest in [`finish`](Self::finish).
///
/// Others see an add when it has left the batch: at the latest in `finish`, which whoever adds calls before
/// it tells anybody that the add was made.
///
/// Between two `finish`es a batch serves one replica: it remembers hashes, and they mean nothing in
/// another.
///
/// ```
/// use rmbd::replica::{Batch, Replica};
/// use rmbd::sketch::{Geometry, HashFamily};
///
/// let replica = Replica::try_new(Geometry::DEFAULT, HashFamily::Xxh3 { seed: 7 }, 8)?;
/// let mut batch = Batch::new();
/// let mut answers = Vec::new();
/// let mut answer = |token: u16, estimate: rmbd::sketch::Estimate| answers.push((token, estimate.count));
/// batch.add(&replica, b"key", 2, &mut answer)?;
/// batch.count(&replica, b"key", 17, &mut answer);
/// batch.finish(&replica, &mut answer);
/// assert_eq!(answers, [(17, 2)]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Batch<T> {
    absorber: Absorber,
    pipeline: Pipeline<T>,
    /// Weight applied or waiting, not yet counted in the sketch's total.
    weight: u64,
}

impl<T: Copy> Batch<T> {
    /// An empty batch that works in the way that is faster for the replica's memory.
    #[must_use]
    pub fn new() -> Self {
        Self {
            absorber: Absorber::new(),
            pipeline: Pipeline::new(None),
            weight: 0,
        }
    }

    /// An empty batch that always works in the given way: for measurements.
    #[must_use]
    pub fn with_way(way: Way) -> Self {
        Self {
            pipeline: Pipeline::new(Some(way)),
            ..Self::new()
        }
    }

    /// Adds `weight` to `key`; before it, waiting counts may be answered.
    ///
    /// # Errors
    ///
    /// A weight above [`MAX_WEIGHT`]; then nothing has changed, and the batch goes on as if it had not been
    /// asked.
    #[inline(always)]
    pub fn add(
        &mut self,
        replica: &Replica,
        key: &[u8],
        weight: u32,
        answer: &mut impl FnMut(T, Estimate),
    ) -> Result<(), WeightError> {
        check_weight(weight)?;
        self.weight += u64::from(weight);
        let (key, weight) = match replica.own.hash(key) {
            None => (Key::Bytes(key), weight),
            Some(hash) => match self.absorber.add(hash, weight) {
                None => return Ok(()),
                Some((hash, weight)) => (Key::Hash(hash), weight),
            },
        };
        let add = Operation::Add { weight };
        self.pipeline.push(replica, key, add, answer);
        Ok(())
    }

    /// Asks for the estimate of `key`: `answer` gets it with the `token`, here or later.
    #[inline]
    pub fn count(
        &mut self,
        replica: &Replica,
        key: &[u8],
        token: T,
        answer: &mut impl FnMut(T, Estimate),
    ) {
        self.ask(replica, key, 0, token, answer);
    }

    /// Adds `weight` to `key`, then asks for its estimate, which has that weight in it: `answer` gets it
    /// with the `token`, here or later. A weight of 0 only asks.
    ///
    /// # Errors
    ///
    /// As for [`add`](Self::add).
    #[inline]
    pub fn hit(
        &mut self,
        replica: &Replica,
        key: &[u8],
        weight: u32,
        token: T,
        answer: &mut impl FnMut(T, Estimate),
    ) -> Result<(), WeightError> {
        check_weight(weight)?;
        self.weight += u64::from(weight);
        self.ask(replica, key, weight, token, answer);
        Ok(())
    }

    /// What was added since the last [`finish`](Self::finish), and is not in the sketch's total yet.
    #[inline]
    #[must_use]
    pub fn weight(&self) -> u64 {
        self.weight
    }

    /// Applies and answers all that waits, and counts the batch's weight in the sketch's total.
    pub fn finish(&mut self, replica: &Replica, answer: &mut impl FnMut(T, Estimate)) {
        let pipeline = &mut self.pipeline;
        self.absorber.release_all(|hash, weight| {
            let add = Operation::Add { weight };
            pipeline.push(replica, Key::Hash(hash), add, answer);
        });
        pipeline.finish(replica, answer);
        // Once a batch and not once a key: the total is a line that all threads fight for.
        if self.weight > 0 {
            replica
                .own
                .add_total_weight(std::mem::take(&mut self.weight));
        }
    }

    /// What is absorbed of the key goes first. What is of others may wait: they are not asked for.
    #[inline]
    fn ask(
        &mut self,
        replica: &Replica,
        key: &[u8],
        mut weight: u32,
        token: T,
        answer: &mut impl FnMut(T, Estimate),
    ) {
        let key = replica.own.hash(key).map_or(Key::Bytes(key), Key::Hash);
        if let Key::Hash(hash) = key {
            weight += self.absorber.release(hash);
            if weight > MAX_WEIGHT {
                // Each is within what one add may weigh, both together are not.
                let add = Operation::Add { weight: MAX_WEIGHT };
                self.pipeline.push(replica, key, add, answer);
                weight -= MAX_WEIGHT;
            }
        }
        let ask = Operation::Ask { weight, token };
        self.pipeline.push(replica, key, ask, answer);
    }
}

impl<T: Copy> Default for Batch<T> {
    fn default() -> Self {
        Self::new()
    }
}
