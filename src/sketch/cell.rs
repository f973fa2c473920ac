//! One cell: it grows, and where it ends it stays.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// Most that one add may weigh: larger ones are more likely mistakes, and would bring a cell to its
/// end in a few.
pub const MAX_WEIGHT: u32 = 1 << 20;

/// Adds to a cell. True for the one add, of all threads', that brought the cell to its end.
///
/// A compare-exchange all the way, which looks slow and is not: with one thread an update costs 1 to
/// 7 % more than with `fetch_add`, with two threads on keys of a Zipf distribution it is as fast. What
/// it buys is that no interleaving wraps. A `fetch_add` behind a look at the cell would: a thread that looked, found
/// room, and was then put aside by the scheduler adds to whatever the cell has become meanwhile, and
/// the others need but 4 096 of the largest adds to take it from empty to its end.
///
/// Relaxed: only this cell's own order of changes matters, and that is total for every atomic. A cell
/// is at its end after exactly one exchange, since no later one starts from there.
#[inline]
pub(crate) fn add(cell: &AtomicU32, weight: u32) -> bool {
    let mut seen = cell.load(Relaxed);
    loop {
        if seen == u32::MAX {
            return false;
        }
        let grown = seen.saturating_add(weight);
        match cell.compare_exchange_weak(seen, grown, Relaxed, Relaxed) {
            Ok(_) => return grown == u32::MAX,
            Err(now) => seen = now,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_to_its_end_and_stays_there() {
        for (before, weight, after, ends) in [
            (0, 0, 0, false),
            (0, MAX_WEIGHT, MAX_WEIGHT, false),
            ((1 << 31) - 1, 2, (1 << 31) + 1, false),
            (u32::MAX - 2, 1, u32::MAX - 1, false),
            (u32::MAX - 1, 0, u32::MAX - 1, false),
            (u32::MAX - 1, 1, u32::MAX, true),
            (u32::MAX - 1, MAX_WEIGHT, u32::MAX, true),
            (u32::MAX, 0, u32::MAX, false),
            (u32::MAX, MAX_WEIGHT, u32::MAX, false),
        ] {
            let cell = AtomicU32::new(before);
            assert_eq!(add(&cell, weight), ends, "{before} + {weight}");
            assert_eq!(cell.into_inner(), after, "{before} + {weight}");
        }
    }

    #[test]
    fn threads_at_the_middle_and_at_the_end_lose_and_wrap_nothing() {
        const ADDS: u32 = 20_000;
        const THREADS: u32 = 4;
        const WEIGHT: u32 = 3;
        let all = ADDS * THREADS * WEIGHT;
        // (start, does it end there): around 2^31, one short of the end, at it, and far beyond.
        for (start, ends) in [
            ((1 << 31) - all / 2, false),
            (u32::MAX - 1 - all, false),
            (u32::MAX - all, true),
            (u32::MAX - all / 2, true),
        ] {
            let cell = AtomicU32::new(start);
            let ended: u32 = std::thread::scope(|scope| {
                let adders: Vec<_> = (0..THREADS)
                    .map(|_| scope.spawn(|| add_watched(&cell, WEIGHT, ADDS)))
                    .collect();
                let ended = adders.into_iter().map(|adder| adder.join());
                ended.map(|ended| ended.expect("no panic")).sum()
            });
            assert_eq!(cell.into_inner(), start.saturating_add(all));
            assert_eq!(ended, u32::from(ends));
        }
    }

    /// Adds, and checks after each add that the cell never falls. How often an add ended the cell.
    fn add_watched(cell: &AtomicU32, weight: u32, adds: u32) -> u32 {
        let mut ended = 0;
        let mut least = 0;
        for _ in 0..adds {
            ended += u32::from(add(cell, weight));
            let now = cell.load(Relaxed);
            assert!(now >= least, "{now} after {least}");
            least = now;
        }
        ended
    }
}
