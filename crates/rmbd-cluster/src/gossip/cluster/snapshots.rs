//! Snapshots of windows, which are taken on the thread that merges what others counted.

use std::time::Duration;

use super::Cluster;
use rmbd_store::{Slices, Snapshot};

impl Cluster {
    /// Goes on with a snapshot of a window that is at hand or due, in any sketch. It goes over at most `cells_max`
    /// cells. `None` if nothing is due. The clock is that of all other calls.
    pub fn snapshot(&mut self, clock: &dyn Fn() -> Duration, cells_max: usize) -> Option<Snapshot> {
        let mut sketches = self.sketches.iter_mut();
        sketches.find_map(|slices| slices.snapshot(clock, cells_max))
    }

    /// When [`snapshot`](Self::snapshot) wants to be called next: a time that is past where there is something to do.
    /// `None` if no sketch has windows.
    #[must_use]
    pub fn next_snapshot(&self) -> Option<Duration> {
        self.all_slices().filter_map(Slices::next_snapshot).min()
    }
}
