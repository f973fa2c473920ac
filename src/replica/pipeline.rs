//! Operations on their way into the sketch, in order.
//!
//! A sketch that has outgrown the cache nearest to the core spends its time waiting for memory, a
//! line for each row. So the work is a *rolling pipeline*: key i is hashed and its cells are asked
//! for, then key i - [`LAG`] is applied, whose cells have come meanwhile. A small sketch waits for
//! nothing, and there the plain way is faster: [`Way::of_memory`] decides.

use crate::sketch::{Estimate, KeyHash, MAX_DEPTH};

use super::Replica;

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
    /// Each key is applied at once.
    Direct,
    /// Each key is prefetched, and applied [`LAG`] keys later.
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

/// What is to be done with a key's cells.
#[derive(Debug, Clone, Copy)]
pub(super) enum Operation<T> {
    /// A checked weight.
    Add { weight: u32 },
    /// The same, and then the estimate.
    Ask { weight: u32, token: T },
}

/// What cells follow from.
#[derive(Debug, Clone, Copy)]
pub(super) enum Key<'a> {
    Hash(KeyHash),
    Bytes(&'a [u8]),
}

/// One thread's. Allocates nothing.
#[derive(Debug)]
pub(super) struct Pipeline<T> {
    way: Option<Way>,
    /// The ring: the operation `i` waits at `i % LAG`.
    cells: [[u32; MAX_DEPTH]; LAG],
    operations: [Operation<T>; LAG],
    /// Operations taken since the last `finish`.
    taken: usize,
}

impl<T: Copy> Pipeline<T> {
    /// `None`: in the way that is faster for the replica's memory.
    pub(super) fn new(way: Option<Way>) -> Self {
        Self {
            way,
            cells: [[0; MAX_DEPTH]; LAG],
            operations: [Operation::Add { weight: 0 }; LAG],
            taken: 0,
        }
    }

    /// Takes an operation; it, or what has waited longest, is applied.
    #[inline]
    pub(super) fn push(
        &mut self,
        replica: &Replica,
        key: Key<'_>,
        operation: Operation<T>,
        answer: &mut impl FnMut(T, Estimate),
    ) {
        let memory_bytes = replica.own.geometry().memory_bytes();
        match self.way.unwrap_or_else(|| Way::of_memory(memory_bytes)) {
            Way::Direct => {
                let cells = cells(replica, key, &mut self.cells[0]);
                perform(replica, cells, operation, answer);
            }
            Way::Pipelined => self.push_pipelined(replica, key, operation, answer),
        }
    }

    /// Applies all that waits.
    pub(super) fn finish(&mut self, replica: &Replica, answer: &mut impl FnMut(T, Estimate)) {
        for operation in self.taken.saturating_sub(LAG)..self.taken {
            self.apply(replica, operation % LAG, answer);
        }
        self.taken = 0;
    }

    #[inline]
    fn push_pipelined(
        &mut self,
        replica: &Replica,
        key: Key<'_>,
        operation: Operation<T>,
        answer: &mut impl FnMut(T, Estimate),
    ) {
        let place = self.taken % LAG;
        if self.taken >= LAG {
            self.apply(replica, place, answer);
        }
        let cells = cells(replica, key, &mut self.cells[place]);
        replica.own.prefetch(cells);
        self.operations[place] = operation;
        self.taken += 1;
    }

    #[inline]
    fn apply(&self, replica: &Replica, place: usize, answer: &mut impl FnMut(T, Estimate)) {
        let cells = &self.cells[place][..replica.own.geometry().depth()];
        perform(replica, cells, self.operations[place], answer);
    }
}

#[inline]
fn cells<'b>(replica: &Replica, key: Key<'_>, buffer: &'b mut [u32; MAX_DEPTH]) -> &'b [u32] {
    match key {
        Key::Hash(hash) => replica.own.cells_of(hash, buffer),
        Key::Bytes(key) => replica.own.hash_into(key, buffer),
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
        Operation::Ask { weight, token } => {
            if weight > 0 {
                replica.own.add_at(cells, weight);
            }
            answer(token, replica.estimate_at(cells));
        }
    }
}
