//! Batches: many adds, counts, hits and takes in order, faster than one by one.
//!
//! ```text
//!    add ───> absorber ──(displaced, or all at the end)──> pipeline ───> sketch
//!    count, hit ─────(with what is absorbed of their key)────^   └────> answers
//! ```

use std::sync::Arc;
use std::time::Duration;

use rmbd_sketch::{Allowance, CellIndexes, Exhausted, KeyHash, Lane, Weight};

use super::absorber::Absorber;
use super::candidates::Wanted;
use super::pipeline::{Key, NO_LIMIT, Operation, Pipeline, Way};
use super::{Estimate, Replica, WindowQuestion};

/// Applies adds, counts and hits to a [`Replica`], in the order given: a count (and that of a hit) sees every add of
/// its key before it and none behind it. Adds of other keys in the same batch can only make it too large; it may miss
/// some of them.
///
/// Each data thread makes one, with buffers of fixed size; after that a batch allocates nothing. Each count or hit
/// carries a token, which comes back with its answer. Answers come in the order of the counts, in this call or a
/// later one, at the latest in [`finish`](Self::finish).
///
/// Other threads see an add when it has left the batch, at the latest in `finish`. A thread calls `finish` before it
/// reports an add as made.
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
    /// The names that are wanted; `None` where nothing is listed.
    wanted: Option<Arc<Wanted>>,
    /// Weight for this batch. The charged part has been applied, or waits in the batch.
    allowance: Allowance,
}

/// On which terms a weight is added to a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Terms {
    /// The largest estimate that is within the limit.
    pub limit: u64,
    /// What the key is forgiven: it does not count towards the limit.
    pub credit: u64,
    /// Whether nothing is added where the limit is passed.
    pub takes: bool,
}

impl Terms {
    /// Whether a weight passes the limit, of a key with this estimate.
    #[inline]
    pub(crate) fn are_passed(&self, estimate: u64, weight: Weight) -> bool {
        let counts = estimate.saturating_sub(self.credit);
        counts.saturating_add(weight.into()) > self.limit
    }
}

/// A key that was looked up in a batch, so that several estimates of it can be read before anything is added. It is
/// good for this batch only.
#[derive(Debug, Clone, Copy)]
pub struct Looked {
    cells: CellIndexes,
    hash: KeyHash,
}

impl<T: Copy> Batch<T> {
    /// An empty batch that works in the faster way for the replica's memory and its number of batches.
    #[must_use]
    pub fn new(replica: Arc<Replica>) -> Self {
        let lane = replica.own.take_lane();
        Self::with(replica, None, lane)
    }

    /// Like [`new`](Self::new), for a thread that adds seldom: it leaves lanes to the threads that add all the time.
    #[must_use]
    pub fn sharing(replica: Arc<Replica>) -> Self {
        Self::with(replica, None, None)
    }

    /// An empty batch that always works in the given way, for measurements.
    #[must_use]
    pub fn with_way(replica: Arc<Replica>, way: Way) -> Self {
        let lane = replica.own.take_lane();
        Self::with(replica, Some(way), lane)
    }

    fn with(replica: Arc<Replica>, way: Option<Way>, lane: Option<Lane>) -> Self {
        Self {
            absorber: Absorber::new(),
            wanted: (replica.lists.as_ref()).map(|lists| Arc::clone(lists.wanted())),
            pipeline: Pipeline::new(replica, way, lane),
            allowance: Allowance::default(),
        }
    }

    /// Whether this batch has a lane.
    #[cfg(test)]
    pub(crate) fn has_lane(&self) -> bool {
        self.pipeline.has_lane()
    }

    /// The replica that the batch adds to.
    #[inline]
    #[must_use]
    pub fn replica(&self) -> &Replica {
        self.pipeline.replica()
    }

    /// Makes sure that this much weight may be added before the next [`finish`](Self::finish), however much other
    /// threads add meanwhile.
    ///
    /// # Errors
    /// [`Exhausted`] where that would be more than may be added until the next pass over the cells. Nothing has
    /// changed: weight that could be added before still can be.
    #[inline]
    pub fn provide(&mut self, weight: u64) -> Result<(), Exhausted> {
        let own = self.pipeline.replica().own();
        own.provide(&mut self.allowance, weight)
    }

    /// Like [`provide`](Self::provide), but only if enough is left for all other threads. Returns whether it
    /// succeeded.
    #[inline]
    #[must_use]
    pub fn provide_of_plenty(&mut self, weight: u64) -> bool {
        let own = self.pipeline.replica().own();
        own.provide_of_plenty(&mut self.allowance, weight)
    }

    /// Adds `weight` to `key`. Counts that wait may be answered before it.
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
            Some(hash) => {
                let wanted = self.wanted.as_deref();
                let come = || tell_if_wanted(wanted, hash, key);
                match self.absorber.add(hash, weight, come) {
                    None => return Ok(()),
                    Some((hash, weight)) => (Key::Hash(hash), weight),
                }
            }
        };
        let add = Operation::Add { weight };
        self.pipeline.push(key, add, answer);
        Ok(())
    }

    /// Asks for the estimate of `key`. `answer` gets it with the `token`, in this call or a later one.
    #[inline]
    pub fn count(&mut self, key: &[u8], token: T, answer: &mut impl FnMut(T, Estimate)) {
        self.ask(key, (Weight::ZERO, NO_LIMIT), token, answer);
    }

    /// Adds `weight` to `key`, then asks for its estimate, which includes that weight. `answer` gets it with the
    /// `token`, in this call or a later one. A weight of 0 only asks. The limit is for the other members of a cluster:
    /// they are told at once where they would pass it ([`Slices::take_urgent`](super::Slices::take_urgent)).
    ///
    /// # Errors
    /// Like [`add`](Self::add); nothing is asked then, either.
    #[inline]
    pub fn hit(
        &mut self,
        key: &[u8],
        (weight, limit): (Weight, u64),
        token: T,
        answer: &mut impl FnMut(T, Estimate),
    ) -> Result<(), Exhausted> {
        self.charge(weight)?;
        self.ask(key, (weight, limit), token, answer);
        Ok(())
    }

    /// Asks for the estimate of `key` in a window. `answer` gets it with the `token`, in this call or a later one.
    #[inline]
    pub fn count_in(
        &mut self,
        key: &[u8],
        question: WindowQuestion,
        token: T,
        answer: &mut impl FnMut(T, Estimate),
    ) {
        self.ask_in(key, (Weight::ZERO, NO_LIMIT), question, token, answer);
    }

    /// Adds `weight` to `key`, then asks for its estimate in a window, which includes that weight. `answer` gets it
    /// with the `token`, in this call or a later one. The limit is as in [`hit`](Self::hit).
    ///
    /// # Errors
    /// Like [`add`](Self::add); nothing is asked then, either.
    #[inline]
    pub fn hit_in(
        &mut self,
        key: &[u8],
        (weight, limit): (Weight, u64),
        question: WindowQuestion,
        token: T,
        answer: &mut impl FnMut(T, Estimate),
    ) -> Result<(), Exhausted> {
        self.charge(weight)?;
        self.ask_in(key, (weight, limit), question, token, answer);
        Ok(())
    }

    /// Asks for the estimate of `key`, in a window or, without a question, of all time, and then adds `weight` on these
    /// terms: a *take* only if the estimate with it is within the limit. `answer` gets the estimate without the weight
    /// with the `token`, in this call or a later one, and what was found out where the limit is
    /// [passed](Estimate::passed). Several threads may each add at the same moment, and pass the limit together.
    ///
    /// # Errors
    /// Like [`add`](Self::add); nothing is asked then, either.
    #[inline]
    pub fn take(
        &mut self,
        key: &[u8],
        (weight, terms): (Weight, &Terms),
        question: Option<&WindowQuestion>,
        token: T,
        answer: &mut impl FnMut(T, Estimate),
    ) -> Result<(), Exhausted> {
        // What was refused before may be charged again.
        let refused = self.pipeline.take_refused_weight();
        let own = self.pipeline.replica().own();
        own.refund(&mut self.allowance, refused);
        self.charge(weight)?;
        let (key, absorbed) = self.release(key);
        if absorbed > Weight::ZERO {
            let add = Operation::Add { weight: absorbed };
            self.pipeline.push(key, add, answer);
        }
        let take = (weight, terms, token);
        self.pipeline.push_take(key, take, question, answer);
        Ok(())
    }

    /// Looks up a key, for several questions about it that are answered at once. Everything that waits is applied and
    /// answered first, and all adds of the key before.
    pub fn look(&mut self, key: &[u8], answer: &mut impl FnMut(T, Estimate)) -> Looked {
        let (key, absorbed) = self.release(key);
        let (cells, hash) = self.pipeline.look(key, answer);
        if absorbed > Weight::ZERO {
            self.pipeline.add_at(&cells, hash, absorbed);
        }
        Looked { cells, hash }
    }

    /// Starts to fetch what [`estimate_in`](Self::estimate_in) reads for this question.
    #[inline]
    pub fn prefetch_in(&mut self, looked: &Looked, question: &WindowQuestion) {
        self.pipeline.prefetch_in(&looked.cells, question);
    }

    /// The estimate of all time of a key that was looked up.
    #[inline]
    #[must_use]
    pub fn estimate(&self, looked: &Looked) -> Estimate {
        self.replica().estimate_at(&looked.cells)
    }

    /// The estimate in a window of a key that was looked up.
    #[inline]
    #[must_use]
    pub fn estimate_in(&mut self, looked: &Looked, question: &WindowQuestion) -> Estimate {
        self.pipeline.estimate_in_at(&looked.cells, question)
    }

    /// How long after the question's time `weight` may be added to a key that was looked up, so that its estimate in
    /// the window is at most `limit`, if nobody else adds to the key meanwhile. `None` if never, since the weight alone
    /// is above the limit.
    #[must_use]
    pub fn retry_after(
        &self,
        looked: &Looked,
        question: &WindowQuestion,
        weight: Weight,
        limit: u64,
    ) -> Option<Duration> {
        self.replica()
            .retry_after(&looked.cells, question, weight, limit)
    }

    /// Adds `weight` to a key that was looked up, at once: before what was taken into the batch since then.
    ///
    /// # Errors
    /// Like [`add`](Self::add).
    #[inline]
    pub fn add_looked(&mut self, looked: &Looked, weight: Weight) -> Result<(), Exhausted> {
        self.charge(weight)?;
        self.pipeline.add_at(&looked.cells, looked.hash, weight);
        Ok(())
    }

    /// A key that was looked up has this estimate, with what was added to it, and this limit: see [`hit`](Self::hit).
    #[inline]
    pub fn note_limit(&self, looked: &Looked, estimate: u64, limit: u64) {
        self.replica().note_limit(&looked.cells, estimate, limit);
    }

    /// A verdict was made of an estimate of all time of a key that was looked up: it `passes` a limit or not. Verdicts
    /// on audited keys are judged ([`AuditVerdicts`](super::AuditVerdicts)).
    #[inline]
    pub fn judge(&self, looked: &Looked, estimate: u64, passes: impl Fn(u64) -> bool) {
        (self.pipeline).judge((&looked.cells, looked.hash), estimate, passes);
    }

    /// Weight that was added since the last [`finish`](Self::finish), and is not yet in the sketch's total. Takes that
    /// wait are answered first.
    #[inline]
    #[must_use]
    pub fn weight(&mut self, answer: &mut impl FnMut(T, Estimate)) -> u64 {
        if self.pipeline.has_takes() {
            self.drain(answer);
        }
        self.allowance.charged() - self.pipeline.refused_weight()
    }

    /// Answers everything that waits.
    pub fn drain(&mut self, answer: &mut impl FnMut(T, Estimate)) {
        self.pipeline.drain(answer);
    }

    /// Applies and answers everything that waits, and adds the batch's weight to the sketch's total.
    pub fn finish(&mut self, answer: &mut impl FnMut(T, Estimate)) {
        let pipeline = &mut self.pipeline;
        self.absorber.release_all(|hash, weight| {
            let add = Operation::Add { weight };
            pipeline.push(Key::Hash(hash), add, answer);
        });
        pipeline.finish(answer);
        let refused = pipeline.take_refused_weight();
        let own = pipeline.replica().own();
        own.refund(&mut self.allowance, refused);
        own.settle(&mut self.allowance);
    }

    /// Charges the batch's allowance with a weight.
    #[inline(always)]
    fn charge(&mut self, weight: Weight) -> Result<(), Exhausted> {
        let own = self.pipeline.replica().own();
        own.charge(&mut self.allowance, weight)
    }

    /// Adds of the key that the absorber holds go first. Those of other keys may wait: this count does not ask for
    /// them.
    #[inline]
    fn ask(
        &mut self,
        key: &[u8],
        (weight, limit): (Weight, u64),
        token: T,
        answer: &mut impl FnMut(T, Estimate),
    ) {
        let (key, weight) = self.with_absorbed(key, weight, answer);
        let ask = Operation::Ask {
            weight,
            limit,
            token,
        };
        self.pipeline.push(key, ask, answer);
    }

    /// Like [`ask`](Self::ask), in a window.
    #[inline]
    fn ask_in(
        &mut self,
        key: &[u8],
        (weight, limit): (Weight, u64),
        question: WindowQuestion,
        token: T,
        answer: &mut impl FnMut(T, Estimate),
    ) {
        let (key, weight) = self.with_absorbed(key, weight, answer);
        let asked = (weight, limit, token);
        self.pipeline.push_in(key, asked, &question, answer);
    }

    /// A key with its weight and what is absorbed for it. What is too much for one add goes first.
    #[inline(always)]
    fn with_absorbed<'k>(
        &mut self,
        key: &'k [u8],
        weight: Weight,
        answer: &mut impl FnMut(T, Estimate),
    ) -> (Key<'k>, Weight) {
        let (key, absorbed) = self.release(key);
        if let Some(both) = weight.checked_add(absorbed) {
            return (key, both);
        }
        let add = Operation::Add { weight: absorbed };
        self.pipeline.push(key, add, answer);
        (key, weight)
    }

    /// A key, and what was absorbed for it and is now to be added.
    #[inline(always)]
    fn release<'k>(&mut self, key: &'k [u8]) -> (Key<'k>, Weight) {
        match self.replica().own.hash(key) {
            Some(hash) => {
                tell_if_wanted(self.wanted.as_deref(), hash, key);
                (Key::Hash(hash), self.absorber.release(hash))
            }
            None => (Key::Bytes(key), Weight::ZERO),
        }
    }
}

/// Tells the name of a key that is known by its hash alone, if somebody has asked for it.
#[inline(always)]
fn tell_if_wanted(wanted: Option<&Wanted>, hash: KeyHash, key: &[u8]) {
    if let Some(wanted) = wanted
        && wanted.has(hash)
    {
        wanted.tell(hash, key);
    }
}

/// A dropped batch applies its adds, so that none is lost where nobody calls `finish`.
impl<T: Copy> Drop for Batch<T> {
    fn drop(&mut self) {
        self.finish(&mut |_, _| {});
    }
}
