//! Passes over our own cells, and snapshots of them, in a node without a cluster; in a cluster its task makes them.
//! Only a bounded weight may be added until the next pass ([`rmbd_sketch::Exhausted`]).

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use crate::shared::Shared;
use rmbd_store::{Published, Slices};

/// Number of cells that are gone over before other tasks get their turn on this thread: less than a millisecond's
/// work.
const CELLS_A_TURN: usize = 1 << 18;
/// The longest sleep of a task that has nothing to do.
const IDLE: Duration = Duration::from_secs(3600);

/// The task that makes them.
pub(super) struct Passes {
    shared: Arc<Shared>,
    /// Those of each sketch.
    sketches: Vec<Slices>,
}

impl Passes {
    pub(super) fn new(shared: Arc<Shared>, sketches: Vec<Slices>) -> Self {
        Self { shared, sketches }
    }

    /// Runs until it is told to end, which happens when no data thread adds any more.
    pub(super) async fn run(mut self, leave: impl Future<Output = ()>) {
        let mut leave = pin!(leave);
        loop {
            let wait = self.next_snapshot().saturating_sub(self.shared.now());
            tokio::select! {
                () = &mut leave => return,
                () = self.shared.control_is_called() => self.pass().await,
                () = sleep(wait) => self.snapshots().await,
            }
        }
    }

    async fn pass(&mut self) {
        for slices in &mut self.sketches {
            while slices.wants_pass() {
                while slices.publish(CELLS_A_TURN) == Published::Partly {
                    tokio::task::yield_now().await;
                }
                tokio::task::yield_now().await;
            }
        }
    }

    /// Takes all snapshots that are due. A pass that becomes due meanwhile waits for a piece at most.
    async fn snapshots(&mut self) {
        let shared = Arc::clone(&self.shared);
        let clock = || shared.now();
        for at in 0..self.sketches.len() {
            while self.sketches[at].snapshot(&clock, CELLS_A_TURN).is_some() {
                tokio::task::yield_now().await;
                self.pass().await;
            }
        }
    }

    fn next_snapshot(&self) -> Duration {
        let due = self.sketches.iter().filter_map(Slices::next_snapshot);
        due.min().unwrap_or_else(|| self.shared.now() + IDLE)
    }
}
