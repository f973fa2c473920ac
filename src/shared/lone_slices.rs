//! The slices of a node without a cluster. In a cluster its state machine has them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rmbd_store::{NoMemory, Replica, Slices, WindowPlan};

/// The slices of all sketches. The control thread, and the thread of snapshot files, lock them for a piece of work at a
/// time: less than a millisecond.
#[derive(Debug)]
pub(crate) struct LoneSlices {
    all: Mutex<Vec<Slices>>,
    keeps_ages: bool,
}

impl LoneSlices {
    /// The slices of these replicas. Ages are kept where a later start is to know them (`keeps_ages`).
    ///
    /// # Errors
    /// [`NoMemory`].
    pub(crate) fn try_new(
        replicas: impl Iterator<Item = Arc<Replica>>,
        keeps_ages: bool,
    ) -> Result<Self, NoMemory> {
        let all = replicas.map(|replica| {
            let windows: Vec<WindowPlan> = replica.window_plans().copied().collect();
            let mut slices = Slices::try_new(replica)?;
            if keeps_ages {
                // The node's clock begins with its slices.
                slices.keep_ages(&windows, Duration::ZERO)?;
            }
            Ok(slices)
        });
        Ok(Self {
            all: Mutex::new(all.collect::<Result<_, NoMemory>>()?),
            keeps_ages,
        })
    }

    /// Locks them. A panic while they were locked ends the node, so poison is ignored.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Vec<Slices>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether steps are to be ended ([`Slices::end_step`]).
    pub(crate) fn keeps_ages(&self) -> bool {
        self.keeps_ages
    }
}
