//! The sums of what other writers counted, each beside our own cell.

use super::atomic::{
    AtomicBool, AtomicU32, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};

/// Sums of others that a cell of 32 bits beside our own holds; from here on all are in a table of their own.
const NARROW_END: u64 = 1 << 31;

/// The sums of others that 32 bits do not hold. One writer.
#[derive(Debug)]
pub(super) struct WideOthers {
    /// Once set, the narrow cells are not written any more.
    are_used: AtomicBool,
    sums: Box<[AtomicU64]>,
}

impl WideOthers {
    /// One for each cell; pages that nobody writes cost nothing.
    pub(super) fn new(sums: Box<[AtomicU64]>) -> Self {
        Self {
            are_used: AtomicBool::new(false),
            sums,
        }
    }

    /// Whether narrow cells may be out of date. To be asked after an Acquire fence behind them.
    #[inline]
    pub(super) fn are_used(&self) -> bool {
        self.are_used.load(Relaxed)
    }

    /// The sum of a cell; by any thread.
    #[inline]
    pub(super) fn sum(&self, index: usize, narrow: &AtomicU32) -> u64 {
        let value = narrow.load(Relaxed);
        // Acquire, against the Release in `widen`: who uses the table sees all that was copied into it. Who does not
        // see it used reads what stood there before: the narrow cell stays below its end.
        if self.are_used.load(Acquire) {
            self.sums[index].load(Relaxed)
        } else {
            value.into()
        }
    }

    /// Adds to the sum of a cell; `narrow` gives the narrow cells, in order. By the one writer.
    #[inline]
    pub(super) fn add<'c>(
        &self,
        index: usize,
        narrow: &'c AtomicU32,
        growth: u64,
        all: impl FnOnce() -> Narrow<'c>,
    ) {
        // One writer: a load and a store lose nothing.
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
            // A page of zeros stays untaken.
            if value > 0 {
                sum.store(value.into(), Relaxed);
            }
        }
        self.are_used.store(true, Release);
    }
}

/// All cells in their pairs.
pub(super) struct Narrow<'c>(pub(super) &'c [AtomicU32]);
