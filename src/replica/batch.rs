//! Many adds, counts and hits in order, faster than one by one.
//!
//! A sketch that has outgrown the cache nearest to the core spends its time waiting for memory, a
//! line for each row. So the work is a *rolling pipeline*: key i is hashed and its cells are asked
//! for, then key i - [`LAG`] is applied, whose cells have come meanwhile. A small sketch waits for
//! nothing, and there the plain way is faster: [`Way::of_memory`] decides.
//!
//! In front of the pipeline stands an absorber: adds of a key that comes again within a batch are
//! summed and go into the sketch once, which keeps threads from fighting for the cells of hot keys.

use crate::sketch::{Estimate, MAX_DEPTH, WeightError, check_weight};

use super::Replica;
use super::absorber::{Absorber, copy};

/// Keys between a prefetch and its use: enough to hide the memory's latency, few enough that the
/// lines are still there.
pub const LAG: usize = 16;

/// Memory of a sketch up to which keys are applied one by one: what the second-level cache of
/// current cores holds. Updates are then 5 to 10 % faster than pipelined; at twice to four times this
/// size the two ways are equal, and at sixteen times the pipeline is twice as fast and more
/// (`benches/sketch.rs`).
pub const PIPELINE_ABOVE_BYTES: u64 = 1 << 20;

/// How a batch works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Each key is hashed and applied at once.
    Direct,
    /// Each key is hashed, prefetched, and applied [`LAG`] keys later.
    Pipelined,
}

impl Way {
    /// The faster way for a sketch with this much memory.
    #[inline]
    #[must_use]
    pub const fn of_memory(memory_bytes: u64) -> Self {
        if memory_bytes > PIPELINE_ABOVE_BYTES {
            Self::Pipelined
        } else {
            Self::Direct
        }
    }
}

/// Applies adds, counts and hits to a [`Replica`], in the order given: a count (and that of a hit) sees
/// every add of its key before it and none behind it. (Of other keys' adds in the same batch, which can
/// only make it too large, it may see fewer than were made.)
///
/// Made once for each data thread, with a buffer of fixed size; it allocates nothing. Each count or hit
/// carries a token, which comes back with its answer; answers come in the order of the counts, in
/// this call or a later one, at the latest in [`finish`](Self::finish).
///
/// Between two `finish`es a batch serves one replica: it remembers cells, and they mean nothing in
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
    way: Option<Way>,
    absorber: Absorber,
    /// The cells of the key at hand.
    hashed: [u32; MAX_DEPTH],
    /// The ring: the operation `i` waits at `i % LAG`.
    cells: [[u32; MAX_DEPTH]; LAG],
    operations: [Operation<T>; LAG],
    /// Operations taken since the last `finish`.
    taken: usize,
    /// Weight applied or waiting, not yet counted in the sketch's total.
    weight: u64,
}

#[derive(Debug, Clone, Copy)]
enum Operation<T> {
    Add { weight: u32 },
    Count { token: T },
    Hit { weight: u32, token: T },
}

impl<T: Copy> Batch<T> {
    /// An empty batch that works in the way that is faster for the replica's memory.
    #[must_use]
    pub fn new() -> Self {
        Self {
            way: None,
            absorber: Absorber::new(),
            hashed: [0; MAX_DEPTH],
            cells: [[0; MAX_DEPTH]; LAG],
            operations: [Operation::Add { weight: 0 }; LAG],
            taken: 0,
            weight: 0,
        }
    }

    /// An empty batch that always works in the given way: for measurements.
    #[must_use]
    pub fn with_way(way: Way) -> Self {
        let mut batch = Self::new();
        batch.way = Some(way);
        batch
    }

    /// Adds `weight` to `key`; before it, waiting counts may be answered.
    ///
    /// # Errors
    ///
    /// A weight above [`MAX_WEIGHT`](crate::sketch::MAX_WEIGHT); then nothing has changed, and the
    /// batch goes on as if it had not been asked.
    #[inline]
    pub fn add(
        &mut self,
        replica: &Replica,
        key: &[u8],
        weight: u32,
        answer: &mut impl FnMut(T, Estimate),
    ) -> Result<(), WeightError> {
        check_weight(weight)?;
        self.weight += u64::from(weight);
        self.take(replica, key, Operation::Add { weight }, answer);
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
        self.take(replica, key, Operation::Count { token }, answer);
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
        self.take(replica, key, Operation::Hit { weight, token }, answer);
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
        self.release_all(replica, answer);
        for operation in self.taken.saturating_sub(LAG)..self.taken {
            self.apply(replica, operation % LAG, answer);
        }
        self.taken = 0;
        // Once a batch and not once a key: the total is a line that all threads fight for.
        replica
            .own
            .add_total_weight(std::mem::take(&mut self.weight));
    }

    #[inline]
    fn take(
        &mut self,
        replica: &Replica,
        key: &[u8],
        operation: Operation<T>,
        answer: &mut impl FnMut(T, Estimate),
    ) {
        let memory_bytes = replica.own.geometry().memory_bytes();
        let way = self.way.unwrap_or_else(|| Way::of_memory(memory_bytes));
        match way {
            Way::Direct => {
                let cells = replica.own.hash_into(key, &mut self.hashed);
                perform(replica, cells, operation, answer);
            }
            Way::Pipelined => self.take_pipelined(replica, key, operation, answer),
        }
    }

    #[inline]
    fn take_pipelined(
        &mut self,
        replica: &Replica,
        key: &[u8],
        operation: Operation<T>,
        answer: &mut impl FnMut(T, Estimate),
    ) {
        let depth = replica.own.hash_into(key, &mut self.hashed).len();
        match operation {
            Operation::Add { weight } => {
                if let Some(weight) = self.absorber.add(&mut self.hashed[..depth], weight) {
                    self.push(replica, depth, Operation::Add { weight }, answer);
                }
            }
            Operation::Count { .. } | Operation::Hit { .. } => {
                self.release(replica, depth, answer);
                self.push(replica, depth, operation, answer);
            }
        }
    }

    /// Adds of the key that is asked for go first. Those of others may wait: they are not asked for.
    #[inline]
    fn release(&mut self, replica: &Replica, depth: usize, answer: &mut impl FnMut(T, Estimate)) {
        let weight = self.absorber.release(&self.hashed[..depth]);
        if weight > 0 {
            self.push(replica, depth, Operation::Add { weight }, answer);
        }
    }

    /// `hashed` into the ring, behind a prefetch; what has waited longest is applied.
    #[inline]
    fn push(
        &mut self,
        replica: &Replica,
        depth: usize,
        operation: Operation<T>,
        answer: &mut impl FnMut(T, Estimate),
    ) {
        let place = self.taken % LAG;
        if self.taken >= LAG {
            self.apply(replica, place, answer);
        }
        replica.own.prefetch(&self.hashed[..depth]);
        // Adds touch our own slice only. Legacy peers' slices are small enough to be near.
        if !matches!(operation, Operation::Add { .. }) {
            replica.learnt.prefetch(&self.hashed[..depth]);
        }
        copy(&self.hashed[..depth], &mut self.cells[place][..depth]);
        self.operations[place] = operation;
        self.taken += 1;
    }

    /// All that is absorbed, through the pipeline.
    fn release_all(&mut self, replica: &Replica, answer: &mut impl FnMut(T, Estimate)) {
        let depth = replica.own.geometry().depth();
        while let Some((cells, weight)) = self.absorber.pop(depth) {
            copy(cells, &mut self.hashed[..depth]);
            self.push(replica, depth, Operation::Add { weight }, answer);
        }
    }

    #[inline]
    fn apply(&self, replica: &Replica, place: usize, answer: &mut impl FnMut(T, Estimate)) {
        let cells = &self.cells[place][..replica.own.geometry().depth()];
        perform(replica, cells, self.operations[place], answer);
    }
}

impl<T: Copy> Default for Batch<T> {
    fn default() -> Self {
        Self::new()
    }
}

#[inline]
fn perform<T>(
    replica: &Replica,
    cells: &[u32],
    operation: Operation<T>,
    answer: &mut impl FnMut(T, Estimate),
) {
    match operation {
        Operation::Add { weight } => replica.own.add_at(cells, weight),
        Operation::Count { token } => answer(token, replica.estimate_at(cells)),
        Operation::Hit { weight, token } => {
            replica.own.add_at(cells, weight);
            answer(token, replica.estimate_at(cells));
        }
    }
}
