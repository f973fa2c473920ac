//! Operations on their way into the sketch, in order.
//!
//! A sketch that has outgrown the cache nearest to the core spends its time waiting for memory, one cache line for
//! each row. So the work is a *rolling pipeline*: key i is hashed and its cells are prefetched, then key i - [`LAG`]
//! is applied, whose cells have come meanwhile. A small sketch waits for nothing, and there the plain way is faster,
//! if only one thread adds. [`Way::of`] decides.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use rmbd_sketch::{CellIndexes, KeyHash, Lane, Weight};

use super::candidates::Adder;
use super::windows::{Kept, Question, RESOLVED_KEPT, Resolved};
use super::{Estimate, Replica, Terms, WindowQuestion};

/// Number of keys between a prefetch and its use: enough to hide the memory's latency, few enough that the lines are
/// still in the cache.
pub(super) const LAG: usize = 16;

/// Memory of a sketch, in bytes, up to which keys are applied one by one: the size of the second-level cache of
/// current cores. Up to here single updates are 5 to 10 % faster than pipelined ones. At two to four times this size
/// both ways are equal, and at sixteen times the pipeline is twice as fast or faster (`benches/sketch.rs`).
pub const PIPELINE_ABOVE_BYTES: u64 = 1 << 20;

/// The same limit where several threads add to the same cells: the sketch is too large, or there are too many
/// threads, for lanes ([`lanes_of`](rmbd_sketch::lanes_of)). At 1 MiB two threads on uniform keys add 1.24 times as
/// much as one if pipelined, and 0.76 times if not. At 64 KiB pipelined threads add 0.51 times as much.
pub(super) const PIPELINE_SHARED_ABOVE_BYTES: u64 = 1 << 18;

/// The way in which a batch works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Each key is applied at once.
    Direct,
    /// Each key's cells are prefetched, and the key is applied some keys later.
    Pipelined,
}

impl Way {
    /// The faster way for a sketch of this much memory, into which this many threads add. With several threads a cache
    /// line may be in another core's cache, and is slow to get for that reason. In a very small sketch threads want
    /// the same lines, and a prefetch takes them away too early.
    #[inline]
    #[must_use]
    pub const fn of(memory_bytes: u64, threads: usize) -> Self {
        if memory_bytes > PIPELINE_ABOVE_BYTES
            || (threads > 1 && memory_bytes > PIPELINE_SHARED_ABOVE_BYTES)
        {
            Self::Pipelined
        } else {
            Self::Direct
        }
    }
}

/// An operation at a key's cells.
#[derive(Debug, Clone, Copy)]
pub(super) enum Operation<T> {
    Add {
        weight: Weight,
    },
    /// Adds, and then asks for the estimate, which is within the limit or not.
    Ask {
        weight: Weight,
        limit: u64,
        token: T,
    },
    /// Does the same with the estimate in a window.
    AskIn {
        weight: Weight,
        limit: u64,
        token: T,
        window: Kept,
    },
    /// Asks for the estimate on the terms that stand beside the operation, and then adds what they allow.
    Take {
        weight: Weight,
        token: T,
        /// Without a window it is the estimate of all time that is limited.
        window: Option<Kept>,
    },
}

/// The limit of whoever has none.
pub(super) const NO_LIMIT: u64 = u64::MAX;

/// More operations wait never, so a question is kept as long as one waits that asks it.
const _: () = assert!(LAG <= RESOLVED_KEPT);

/// A key, or a hash that stands for it.
#[derive(Debug, Clone, Copy)]
pub(super) enum Key<'a> {
    Hash(KeyHash),
    Bytes(&'a [u8]),
}

/// The pipeline of one thread. It allocates nothing.
#[derive(Debug)]
pub(super) struct Pipeline<T> {
    replica: Arc<Replica>,
    adder: Adder,
    way: Way,
    /// Whether the way stays as it is.
    is_fixed: bool,
    /// The ring of cells, and of the hashes that they are of: operation `i` waits at `i % LAG`.
    cells: [CellIndexes; LAG],
    hashes: [KeyHash; LAG],
    operations: [Operation<T>; LAG],
    /// The terms of takes.
    terms: [Terms; LAG],
    /// Takes that wait.
    takes: usize,
    /// The questions of operations that wait, and those of keys that were looked up.
    resolved: Resolved,
    looked: Resolved,
    /// Operations taken since the last `finish`.
    taken: usize,
    /// Weight that was not added since it would have passed a limit, until somebody takes the number.
    refused_weight: u64,
}

impl<T: Copy> Pipeline<T> {
    /// A pipeline that works in the given way, or with `None` in the faster one. The lane must be of this replica.
    pub(super) fn new(replica: Arc<Replica>, way: Option<Way>, lane: Option<Lane>) -> Self {
        // Relaxed, here and below: the number stands for itself, and a wrong one costs some time at most.
        replica.batches.fetch_add(1, Relaxed);
        Self {
            way: way.unwrap_or_else(|| faster_way(&replica, lane.as_ref())),
            adder: Adder::new(&replica, lane),
            is_fixed: way.is_some(),
            replica,
            cells: [CellIndexes::NONE; LAG],
            hashes: [KeyHash::default(); LAG],
            operations: [Operation::Add {
                weight: Weight::ZERO,
            }; LAG],
            terms: [Terms::default(); LAG],
            takes: 0,
            resolved: Resolved::default(),
            looked: Resolved::default(),
            taken: 0,
            refused_weight: 0,
        }
    }

    #[cfg(test)]
    pub(super) fn has_lane(&self) -> bool {
        self.adder.lane().is_some()
    }

    /// The replica that operations are applied to.
    #[inline]
    pub(super) fn replica(&self) -> &Replica {
        &self.replica
    }

    /// Takes an operation, and applies it or the one that has waited longest.
    #[inline]
    pub(super) fn push(
        &mut self,
        key: Key<'_>,
        operation: Operation<T>,
        answer: &mut impl FnMut(T, Estimate),
    ) {
        match self.way {
            Way::Direct => {
                self.find(key, 0);
                self.perform(0, operation, answer);
            }
            Way::Pipelined => {
                self.push_pipelined(key, operation, answer);
            }
        }
    }

    /// Like [`push`](Self::push), for an addition and a question about a window.
    #[inline]
    pub(super) fn push_in(
        &mut self,
        key: Key<'_>,
        (weight, limit, token): (Weight, u64, T),
        question: &WindowQuestion,
        answer: &mut impl FnMut(T, Estimate),
    ) {
        let window = self.resolved.keep(&self.replica.windows, question);
        let operation = Operation::AskIn {
            weight,
            limit,
            token,
            window,
        };
        let place = self.push_at(key, operation, answer);
        self.wait_or_apply(place, Some(window), answer);
    }

    /// Like [`push`](Self::push), for what is added on terms. A weight that is not added counts as
    /// [refused](Self::take_refused_weight).
    #[inline]
    pub(super) fn push_take(
        &mut self,
        key: Key<'_>,
        (weight, terms, token): (Weight, &Terms, T),
        question: Option<&WindowQuestion>,
        answer: &mut impl FnMut(T, Estimate),
    ) {
        let windows = &self.replica.windows;
        let window = question.map(|question| self.resolved.keep(windows, question));
        let operation = Operation::Take {
            weight,
            token,
            window,
        };
        let place = self.push_at(key, operation, answer);
        self.terms[place] = *terms;
        self.takes += 1;
        self.wait_or_apply(place, window, answer);
    }

    /// Puts an operation at a place, which it returns.
    #[inline]
    fn push_at(
        &mut self,
        key: Key<'_>,
        operation: Operation<T>,
        answer: &mut impl FnMut(T, Estimate),
    ) -> usize {
        match self.way {
            Way::Direct => {
                self.find(key, 0);
                self.operations[0] = operation;
                0
            }
            Way::Pipelined => self.push_pipelined(key, operation, answer),
        }
    }

    /// Fetches what the operation at a place reads of a window, or applies it where nothing waits.
    #[inline]
    fn wait_or_apply(
        &mut self,
        place: usize,
        window: Option<Kept>,
        answer: &mut impl FnMut(T, Estimate),
    ) {
        match (self.way, window) {
            (Way::Direct, _) => self.apply(place, answer),
            (Way::Pipelined, None) => {}
            (Way::Pipelined, Some(window)) => {
                let question = self.resolved.get(window);
                self.replica.prefetch_window(&self.cells[place], question);
            }
        }
    }

    /// Weight that was not added since the last call.
    pub(super) fn take_refused_weight(&mut self) -> u64 {
        std::mem::take(&mut self.refused_weight)
    }

    /// Whether takes wait, of which nobody knows whether they add.
    #[inline]
    pub(super) fn has_takes(&self) -> bool {
        self.takes > 0
    }

    /// Weight that was not added since it was taken last.
    #[inline]
    pub(super) fn refused_weight(&self) -> u64 {
        self.refused_weight
    }

    /// The cells of a key and its hash, when everything that waited is applied.
    pub(super) fn look(
        &mut self,
        key: Key<'_>,
        answer: &mut impl FnMut(T, Estimate),
    ) -> (CellIndexes, KeyHash) {
        self.drain(answer);
        let mut cells = CellIndexes::NONE;
        find(&self.replica, key, &mut cells);
        self.prefetch(&cells);
        (cells, hash_of(key))
    }

    /// Like [`Replica::estimate_in`], for a key with these cells.
    #[inline]
    pub(super) fn estimate_in_at(
        &mut self,
        cells: &CellIndexes,
        question: &WindowQuestion,
    ) -> Estimate {
        (self.replica).estimate_in_at(cells, question, &mut self.looked)
    }

    /// Starts to fetch what [`estimate_in_at`](Self::estimate_in_at) reads.
    #[inline]
    pub(super) fn prefetch_in(&mut self, cells: &CellIndexes, question: &WindowQuestion) {
        let window = self.looked.keep(&self.replica.windows, question);
        self.replica.prefetch_window(cells, self.looked.get(window));
    }

    /// Adds at once to the cells of a key with this hash.
    #[inline]
    pub(super) fn add_at(&mut self, cells: &CellIndexes, hash: KeyHash, weight: Weight) {
        self.adder.add(&self.replica, cells, hash, weight);
    }

    /// Counts a verdict on a key with this hash, if it is audited.
    #[inline]
    pub(super) fn judge(
        &self,
        key: (&CellIndexes, KeyHash),
        estimate: u64,
        passes: impl Fn(u64) -> bool,
    ) {
        self.adder.judge(&self.replica, key, estimate, passes);
    }

    /// Applies all operations that wait.
    pub(super) fn drain(&mut self, answer: &mut impl FnMut(T, Estimate)) {
        for operation in self.taken.saturating_sub(LAG)..self.taken {
            self.apply(operation % LAG, answer);
        }
        self.taken = 0;
    }

    /// Applies all operations that wait, does what is due beside them, and looks which way is faster now.
    pub(super) fn finish(&mut self, answer: &mut impl FnMut(T, Estimate)) {
        self.drain(answer);
        self.adder.pause(&self.replica);
        // No operation waits, so the way may change.
        if !self.is_fixed {
            self.way = faster_way(&self.replica, self.adder.lane());
        }
    }

    #[inline]
    fn push_pipelined(
        &mut self,
        key: Key<'_>,
        operation: Operation<T>,
        answer: &mut impl FnMut(T, Estimate),
    ) -> usize {
        let place = self.taken % LAG;
        if self.taken >= LAG {
            self.apply(place, answer);
        }
        self.find(key, place);
        self.prefetch(&self.cells[place]);
        self.operations[place] = operation;
        self.taken += 1;
        place
    }

    /// Finds the cells of a key, for the operation at a place.
    #[inline(always)]
    fn find(&mut self, key: Key<'_>, place: usize) {
        find(&self.replica, key, &mut self.cells[place]);
        self.hashes[place] = hash_of(key);
    }

    #[inline(always)]
    fn prefetch(&self, cells: &CellIndexes) {
        match self.adder.lane() {
            None => self.replica.own.prefetch(cells),
            Some(lane) => self.replica.own.prefetch_lane(lane, cells),
        }
    }

    #[inline]
    fn apply(&mut self, place: usize, answer: &mut impl FnMut(T, Estimate)) {
        match self.operations[place] {
            // In line, since this is what most operations are.
            Operation::Add { weight } => {
                let (cells, hash) = (&self.cells[place], self.hashes[place]);
                self.adder.add(&self.replica, cells, hash, weight);
            }
            operation @ Operation::Ask { .. } => self.perform(place, operation, answer),
            Operation::AskIn { .. } | Operation::Take { .. } => self.apply_in(place, answer),
        }
    }

    #[inline]
    fn perform(
        &mut self,
        place: usize,
        operation: Operation<T>,
        answer: &mut impl FnMut(T, Estimate),
    ) {
        let key = (&self.cells[place], self.hashes[place]);
        perform(&self.replica, &mut self.adder, key, operation, answer);
    }

    /// Applies an operation with a window or a limit.
    // A call of its own, so that the other operations stay as short as they are.
    #[inline(never)]
    fn apply_in(&mut self, place: usize, answer: &mut impl FnMut(T, Estimate)) {
        let (replica, adder, cells) = (&self.replica, &mut self.adder, &self.cells[place]);
        let hash = self.hashes[place];
        match self.operations[place] {
            Operation::AskIn {
                weight,
                limit,
                token,
                window,
            } => {
                if weight > Weight::ZERO {
                    adder.add(replica, cells, hash, weight);
                }
                let estimate = replica.estimate_of(cells, self.resolved.get(window));
                replica.note_limit(cells, estimate.count, limit);
                answer(token, estimate);
            }
            Operation::Take {
                weight,
                token,
                window,
            } => {
                let window = window.map(|window| self.resolved.get(window));
                let terms = &self.terms[place];
                let estimate = take(replica, adder, (cells, hash), (weight, terms), window);
                if terms.takes && estimate.passed.is_some() {
                    self.refused_weight += u64::from(weight);
                }
                self.takes -= 1;
                answer(token, estimate);
            }
            // See `apply`.
            Operation::Add { .. } | Operation::Ask { .. } => {}
        }
    }
}

impl<T> Drop for Pipeline<T> {
    fn drop(&mut self) {
        self.adder.give_back(&self.replica);
        self.replica.batches.fetch_sub(1, Relaxed);
    }
}

fn faster_way(replica: &Replica, lane: Option<&Lane>) -> Way {
    match lane {
        // The lane belongs to this thread alone, and adds touch nothing else.
        Some(_) => Way::of(replica.own.geometry().memory_bytes(), 1),
        None => Way::of(replica.own.table_bytes(), replica.batches.load(Relaxed)),
    }
}

// In line, since the call costs a count a tenth.
#[inline(always)]
fn find(replica: &Replica, key: Key<'_>, cells: &mut CellIndexes) {
    match key {
        Key::Hash(hash) => replica.own.cells_of_into(hash, cells),
        Key::Bytes(key) => replica.own.cells_into(key, cells),
    }
}

/// The hash by which a key may be listed; where keys have none, nothing is.
#[inline(always)]
fn hash_of(key: Key<'_>) -> KeyHash {
    match key {
        Key::Hash(hash) => hash,
        Key::Bytes(_) => KeyHash::default(),
    }
}

#[inline]
fn perform<T>(
    replica: &Replica,
    adder: &mut Adder,
    (cells, hash): (&CellIndexes, KeyHash),
    operation: Operation<T>,
    answer: &mut impl FnMut(T, Estimate),
) {
    match operation {
        Operation::Add { weight } => adder.add(replica, cells, hash, weight),
        Operation::Ask {
            weight,
            limit,
            token,
        } => {
            if weight > Weight::ZERO {
                adder.add(replica, cells, hash, weight);
            }
            let estimate = replica.estimate_at(cells);
            replica.note_limit(cells, estimate.count, limit);
            if limit != NO_LIMIT {
                adder.judge(replica, (cells, hash), estimate.count, |count| {
                    count > limit
                });
            }
            answer(token, estimate);
        }
        // These need what stands beside them: see `apply`.
        Operation::AskIn { .. } | Operation::Take { .. } => {}
    }
}

/// Asks for an estimate, and adds a weight to the key if the terms allow it.
#[inline]
fn take(
    replica: &Replica,
    adder: &mut Adder,
    (cells, hash): (&CellIndexes, KeyHash),
    (weight, terms): (Weight, &Terms),
    window: Option<&Question>,
) -> Estimate {
    let mut estimate = match window {
        Some(question) => replica.estimate_of(cells, question),
        None => replica.estimate_at(cells),
    };
    if window.is_none() {
        let passes = |count| terms.are_passed(count, weight);
        adder.judge(replica, (cells, hash), estimate.count, passes);
    }
    if terms.are_passed(estimate.count, weight) {
        let limit = terms.limit.saturating_add(terms.credit);
        estimate.passed = Some(replica.passed(cells, window, (estimate.count, weight), limit));
        if terms.takes {
            return estimate;
        }
    }
    adder.add(replica, cells, hash, weight);
    let counted = estimate.count.saturating_sub(terms.credit);
    let counted = counted.saturating_add(weight.into());
    replica.note_limit(cells, counted, terms.limit);
    estimate
}
