//! One cell: it grows, and where it ends it stays.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// Most that one add may weigh.
pub const MAX_WEIGHT: u32 = 1 << 20;

/// Adds to a cell. True for the one add, of all threads', that brought the cell to its end.
#[inline]
pub(crate) fn add(cell: &AtomicU32, weight: u32) -> bool {
    let mut seen = cell.load(Relaxed);
    loop {
        if seen == u32::MAX {
            return false;
        }
        let next = seen.saturating_add(weight);
        match cell.compare_exchange_weak(seen, next, Relaxed, Relaxed) {
            Ok(_) => return next == u32::MAX,
            Err(now) => seen = now,
        }
    }
}
