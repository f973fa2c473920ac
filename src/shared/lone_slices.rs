//! The slices of a node without a cluster. In a cluster its state machine has them.

use std::sync::{Mutex, MutexGuard, PoisonError};

use rmbd_store::Slices;

/// The slices of all sketches. The control thread, and the thread of snapshot files, lock them for a piece of work at a
/// time: less than a millisecond.
#[derive(Debug)]
pub(crate) struct LoneSlices {
    all: Mutex<Vec<Slices>>,
    keeps_ages: bool,
}

impl LoneSlices {
    /// Shares these slices; whether they keep ages, for later starts (`keeps_ages`).
    pub(crate) fn new(all: Vec<Slices>, keeps_ages: bool) -> Self {
        Self {
            all: Mutex::new(all),
            keeps_ages,
        }
    }

    /// Locks them. A panic while they were locked ends the node, so poison is ignored.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Vec<Slices>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether somebody panicked while they were locked, so that they may be half-changed.
    pub(crate) fn is_poisoned(&self) -> bool {
        self.all.is_poisoned()
    }

    /// Whether steps are to be ended ([`Slices::end_step`]).
    pub(crate) fn keeps_ages(&self) -> bool {
        self.keeps_ages
    }
}
