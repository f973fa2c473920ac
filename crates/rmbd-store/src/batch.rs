//! Many adds, counts and hits in order, faster than one by one.
//!
//! ```text
//!    add ───> absorber ──(displaced, or all at the end)──> pipeline ───> sketch
//!    count, hit ─────(with what is absorbed of their key)────^   └────> answers
//! ```

use std::sync::Arc;

use rmbd_sketch::{Allowance, Exhausted, Lane, Weight};

use super::absorber::Absorber;
use super::pipeline::{Key, Operation, Pipeline, Way};
use super::{Estimate, Replica};

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
/// ```
/// use std::sync::Arc;
///
/// use rmbd_store::{Batch, Replica};
/// use rmbd_sketch::{Geometry, HashFamily, Weight};
///
/// let replica = Replica::try_new(Geometry::DEFAULT, HashFamily::Xxh3 { seed: 7 }, 8)?;
/// let mut batch = Batch::new(Arc::new(replica));
/// let mut answers = Vec::new();
/// let mut answer = |token: u16, estimate: rmbd_store::Estimate| answers.push((token, estimate.count));
/// batch.add(b"key", Weight::new(2)?, &mut answer)?;
/// batch.count(b"key", 17, &mut answer);
/// batch.finish(&mut answer);
/// assert_eq!(answers, [(17, 2)]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Batch<T: Copy> {
    absorber: Absorber,
    pipeline: Pipeline<T>,
    /// What is charged of it is applied or waits.
    allowance: Allowance,
}

impl<T: Copy> Batch<T> {
    /// An empty batch that works in the way that is faster for the replica's memory, and for as many batches as
    /// it has.
    #[must_use]
    pub fn new(replica: Arc<Replica>) -> Self {
        let lane = replica.own.take_lane();
        Self::with(replica, None, lane)
    }

    /// As [`new`](Self::new), for whoever adds seldom: cells of their own are left to the threads that add all the
    /// time.
    #[must_use]
    pub fn sharing(replica: Arc<Replica>) -> Self {
        Self::with(replica, None, None)
    }

    /// An empty batch that always works in the given way: for measurements.
    #[must_use]
    pub fn with_way(replica: Arc<Replica>, way: Way) -> Self {
        let lane = replica.own.take_lane();
        Self::with(replica, Some(way), lane)
    }

    fn with(replica: Arc<Replica>, way: Option<Way>, lane: Option<Lane>) -> Self {
        Self {
            absorber: Absorber::new(),
            pipeline: Pipeline::new(replica, way, lane),
            allowance: Allowance::default(),
        }
    }

    /// Whether this thread alone adds to what it adds to.
    #[cfg(test)]
    pub(crate) fn has_lane(&self) -> bool {
        self.pipeline.has_lane()
    }

    /// The replica that it adds to.
    #[inline]
    #[must_use]
    pub fn replica(&self) -> &Replica {
        self.pipeline.replica()
    }

    /// Makes sure that this much weight may be added before the next [`finish`](Self::finish), however much others
    /// add meanwhile.
    ///
    /// # Errors
    /// [`Exhausted`] where that would be more than may be added until the next pass over the cells. Nothing has
    /// changed; what may be added already may be added still.
    #[inline]
    pub fn provide(&mut self, weight: u64) -> Result<(), Exhausted> {
        let own = self.pipeline.replica().own();
        own.provide(&mut self.allowance, weight)
    }

    /// As [`provide`](Self::provide), where that leaves enough for all others; whether it does.
    #[inline]
    #[must_use]
    pub fn provide_of_plenty(&mut self, weight: u64) -> bool {
        let own = self.pipeline.replica().own();
        own.provide_of_plenty(&mut self.allowance, weight)
    }

    /// Adds `weight` to `key`; before it, waiting counts may be answered.
    ///
    /// # Errors
    /// [`Exhausted`] where too much was added since the last pass over the cells; nothing was added then.
    #[inline(always)]
    pub fn add(
        &mut self,
        key: &[u8],
        weight: Weight,
        answer: &mut impl FnMut(T, Estimate),
    ) -> Result<(), Exhausted> {
        self.charge(weight)?;
        let (key, weight) = match self.replica().own.hash(key) {
            None => (Key::Bytes(key), weight),
            Some(hash) => match self.absorber.add(hash, weight) {
                None => return Ok(()),
                Some((hash, weight)) => (Key::Hash(hash), weight),
            },
        };
        let add = Operation::Add { weight };
        self.pipeline.push(key, add, answer);
        Ok(())
    }

    /// Asks for the estimate of `key`: `answer` gets it with the `token`, here or later.
    #[inline]
    pub fn count(&mut self, key: &[u8], token: T, answer: &mut impl FnMut(T, Estimate)) {
        self.ask(key, Weight::ZERO, token, answer);
    }

    /// Adds `weight` to `key`, then asks for its estimate, which has that weight in it: `answer` gets it
    /// with the `token`, here or later. A weight of 0 only asks.
    ///
    /// # Errors
    /// As of [`add`](Self::add); then nothing is asked, either.
    #[inline]
    pub fn hit(
        &mut self,
        key: &[u8],
        weight: Weight,
        token: T,
        answer: &mut impl FnMut(T, Estimate),
    ) -> Result<(), Exhausted> {
        self.charge(weight)?;
        self.ask(key, weight, token, answer);
        Ok(())
    }

    /// The weight that was added since the last [`finish`](Self::finish), and is not in the sketch's total yet.
    #[inline]
    #[must_use]
    pub fn weight(&self) -> u64 {
        self.allowance.charged()
    }

    /// Applies and answers all that waits, and counts the batch's weight in the sketch's total.
    pub fn finish(&mut self, answer: &mut impl FnMut(T, Estimate)) {
        let pipeline = &mut self.pipeline;
        self.absorber.release_all(|hash, weight| {
            let add = Operation::Add { weight };
            pipeline.push(Key::Hash(hash), add, answer);
        });
        pipeline.finish(answer);
        pipeline.replica().own().settle(&mut self.allowance);
    }

    /// Takes a weight from what may be added.
    #[inline(always)]
    fn charge(&mut self, weight: Weight) -> Result<(), Exhausted> {
        let own = self.pipeline.replica().own();
        own.charge(&mut self.allowance, weight)
    }

    /// What is absorbed of the key goes first. What is of others may wait: they are not asked for.
    #[inline]
    fn ask(
        &mut self,
        key: &[u8],
        mut weight: Weight,
        token: T,
        answer: &mut impl FnMut(T, Estimate),
    ) {
        let hash = self.replica().own.hash(key);
        let key = hash.map_or(Key::Bytes(key), Key::Hash);
        if let Key::Hash(hash) = key {
            let absorbed = self.absorber.release(hash);
            if let Some(both) = weight.checked_add(absorbed) {
                weight = both;
            } else {
                let add = Operation::Add { weight: absorbed };
                self.pipeline.push(key, add, answer);
            }
        }
        let ask = Operation::Ask { weight, token };
        self.pipeline.push(key, ask, answer);
    }
}

/// Adds that were taken are not lost where nobody calls `finish`.
impl<T: Copy> Drop for Batch<T> {
    fn drop(&mut self) {
        self.finish(&mut |_, _| {});
    }
}
