//! Places for connections.

use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

/// How many connections there may be, and how many there are, of all loops that share this.
#[derive(Debug)]
pub struct ConnectionPlaces {
    max: usize,
    taken: AtomicUsize,
}

impl ConnectionPlaces {
    /// So many places, all free.
    #[must_use]
    pub fn new(max: usize) -> Self {
        Self {
            max,
            taken: AtomicUsize::new(0),
        }
    }

    /// Number of connections that there are.
    #[must_use]
    pub fn taken(&self) -> usize {
        self.taken.load(Relaxed)
    }

    /// Takes a place, if there is one.
    pub(super) fn take(&self) -> bool {
        // Relaxed: the number stands for itself.
        let more = |taken: usize| (taken < self.max).then_some(taken + 1);
        self.taken.fetch_update(Relaxed, Relaxed, more).is_ok()
    }

    pub(super) fn give_back(&self) {
        self.taken.fetch_sub(1, Relaxed);
    }
}
