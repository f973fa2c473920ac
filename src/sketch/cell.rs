//! One cell: it grows, and where it ends it stays.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use super::{MAX_WEIGHT, Weight};

/// Threads that may add at the same moment.
pub const MAX_WRITERS: u32 = 1 << 10;

/// Where a cell ends: from here on it is saturated, and nobody adds to it any more.
///
/// The room above is what keeps it from wrapping. A thread looks at the cell, then adds, and may be
/// put aside by the scheduler in between, for as long as it likes; but each thread has at most one
/// such add under way, so all that can still come once the cell is at its end is one add of each.
pub const SATURATES_AT: u32 = u32::MAX - MAX_WRITERS * MAX_WEIGHT + 1;

/// Adds to a cell. True for the one add, of all threads', that brought the cell to its end.
///
/// Relaxed: only this cell's own order of changes matters, and that is total for every atomic. So
/// exactly one `fetch_add` starts below the end and arrives there.
#[inline]
pub(crate) fn add(cell: &AtomicU32, weight: Weight) -> bool {
    let weight = weight.get();
    if cell.load(Relaxed) >= SATURATES_AT {
        return false;
    }
    let before = cell.fetch_add(weight, Relaxed);
    // The sum does not wrap: see `SATURATES_AT`.
    before < SATURATES_AT && before.wrapping_add(weight) >= SATURATES_AT
}

/// What a cell counts; [`u32::MAX`] where it is saturated, whatever came after its end.
#[inline]
pub(crate) fn value(cell: &AtomicU32) -> u32 {
    match cell.load(Relaxed) {
        SATURATES_AT.. => u32::MAX,
        count => count,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn grows_to_its_end_and_stays_there() {
        for (before, weight, after, ends) in [
            (0, 0, 0, false),
            (0, MAX_WEIGHT, MAX_WEIGHT, false),
            ((1 << 31) - 1, 2, (1 << 31) + 1, false),
            (SATURATES_AT - 2, 1, SATURATES_AT - 1, false),
            (SATURATES_AT - 1, 0, SATURATES_AT - 1, false),
            (SATURATES_AT - 1, 1, u32::MAX, true),
            (SATURATES_AT - 1, MAX_WEIGHT, u32::MAX, true),
            (SATURATES_AT, 0, u32::MAX, false),
            (SATURATES_AT, MAX_WEIGHT, u32::MAX, false),
            (u32::MAX, MAX_WEIGHT, u32::MAX, false),
        ] {
            let cell = AtomicU32::new(before);
            assert_eq!(
                add(&cell, Weight::new(weight).unwrap()),
                ends,
                "{before} + {weight}"
            );
            assert_eq!(value(&cell), after, "{before} + {weight}");
        }
    }

    /// The worst interleaving: every thread has looked and found room for one more, and all of them
    /// add their largest weight afterwards.
    #[test]
    fn late_adds_of_all_threads_do_not_wrap() {
        let cell = AtomicU32::new(SATURATES_AT - 1);
        let mut least = 0;
        for _ in 0..MAX_WRITERS {
            let before = cell.fetch_add(MAX_WEIGHT, Relaxed);
            assert!(before >= least);
            least = before;
        }
        assert_eq!(cell.load(Relaxed), u32::MAX);
        assert!(!add(&cell, Weight::MAX));
        assert_eq!(cell.into_inner(), u32::MAX);
    }

    #[test]
    fn threads_at_the_end_lose_and_wrap_nothing() {
        const ADDS: u32 = 20_000;
        const THREADS: u32 = 4;
        for weight in [3, MAX_WEIGHT] {
            let all = ADDS
                .saturating_mul(THREADS)
                .saturating_mul(weight)
                .min(1 << 30);
            // (start, does it end there): one short of the end, at it, and far beyond.
            for (start, ends) in [
                (SATURATES_AT - 1 - all, weight == MAX_WEIGHT),
                (SATURATES_AT - all, true),
                (SATURATES_AT - all / 2, true),
            ] {
                let cell = AtomicU32::new(start);
                let ended: u32 = std::thread::scope(|scope| {
                    let adders: Vec<_> = (0..THREADS)
                        .map(|_| scope.spawn(|| add_watched(&cell, weight, ADDS)))
                        .collect();
                    let ended = adders.into_iter().map(|adder| adder.join());
                    ended.map(|ended| ended.expect("no panic")).sum()
                });
                let expected = if ends { u32::MAX } else { start + all };
                assert_eq!(value(&cell), expected, "{start} {weight}");
                assert_eq!(ended, u32::from(ends), "{start} {weight}");
            }
        }
    }

    /// Adds, and checks after each add that the cell never falls. How often an add ended the cell.
    fn add_watched(cell: &AtomicU32, weight: u32, adds: u32) -> u32 {
        let mut ended = 0;
        let mut least = 0;
        for _ in 0..adds {
            ended += u32::from(add(cell, Weight::new(weight).unwrap()));
            let now = cell.load(Relaxed);
            assert!(now >= least, "{now} after {least}");
            least = now;
        }
        ended
    }
}
