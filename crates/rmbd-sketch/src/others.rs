//! Sums of what other writers counted, each beside our own cell.

use super::atomic::{
    AtomicBool, AtomicU32, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};

/// Sums from this one on do not fit the 32-bit cell beside our own; once one is reached, all sums move to a 64-bit
/// table.
const NARROW_END: u64 = 1 << 31;

/// The sums of others as 64-bit numbers. They have one writer.
#[derive(Debug)]
pub(super) struct WideOthers {
    /// Once this is set, the narrow cells are not written any more.
    are_used: AtomicBool,
    sums: Box<[AtomicU64]>,
}

impl WideOthers {
    /// A table with one sum for each cell. Pages that nobody writes cost nothing.
    pub(super) fn new(sums: Box<[AtomicU64]>) -> Self {
        Self {
            are_used: AtomicBool::new(false),
            sums,
        }
    }

    /// Whether narrow cells may be out of date. The caller asks after an Acquire fence behind its reads of narrow
    /// cells.
    #[inline]
    pub(super) fn are_used(&self) -> bool {
        self.are_used.load(Relaxed)
    }

    /// The sum of a cell. Any thread may call this.
    #[inline]
    pub(super) fn sum(&self, index: usize, narrow: &AtomicU32) -> u64 {
        let value = narrow.load(Relaxed);
        // Acquire pairs with the Release in `widen`: a thread that uses the table sees all that was copied into it. A
        // thread that does not yet use it reads the narrow cell, which stays below `NARROW_END`.
        if self.are_used.load(Acquire) {
            self.sums[index].load(Relaxed)
        } else {
            value.into()
        }
    }

    /// Adds to the sum of a cell; `narrow` gives the narrow cells, in order. Only the one writer calls this.
    #[inline]
    pub(super) fn add<'c>(
        &self,
        index: usize,
        narrow: &'c AtomicU32,
        growth: u64,
        all: impl FnOnce() -> Narrow<'c>,
    ) {
        // There is one writer, so a load and a store lose nothing.
        if !self.are_used.load(Relaxed) {
            let grown = u64::from(narrow.load(Relaxed)).saturating_add(growth);
            if grown < NARROW_END {
                narrow.store(grown as u32, Relaxed);
                return;
            }
            self.widen(all());
        }
        let sum = &self.sums[index];
        sum.store(sum.load(Relaxed).saturating_add(growth), Relaxed);
    }

    #[cold]
    fn widen(&self, narrow: Narrow<'_>) {
        let cells = narrow.0.iter().skip(1).step_by(2);
        for (sum, cell) in self.sums.iter().zip(cells) {
            let value = cell.load(Relaxed);
            // Zeros are not written, so that a page of zeros stays untouched.
            if value > 0 {
                sum.store(value.into(), Relaxed);
            }
        }
        self.are_used.store(true, Release);
    }
}

/// The narrow cells of the others, in a table of pairs.
pub(super) struct Narrow<'c>(pub(super) &'c [AtomicU32]);
