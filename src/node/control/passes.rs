//! Passes over our own cells in a node without a cluster; in a cluster its task makes them. Only a bounded weight may
//! be added until the next pass ([`rmbd_sketch::Exhausted`]).

use std::pin::pin;
use std::sync::Arc;

use crate::shared::Shared;
use rmbd_store::{Published, Slices};

/// Number of cells that are gone over before other tasks get their turn on this thread: less than a millisecond's
/// work.
const CELLS_A_TURN: usize = 1 << 18;

/// The task that makes the passes.
pub(super) struct Passes {
    shared: Arc<Shared>,
    slices: Slices,
}

impl Passes {
    pub(super) fn new(shared: Arc<Shared>, slices: Slices) -> Self {
        Self { shared, slices }
    }

    /// Runs until it is told to end, which happens when no data thread adds any more.
    pub(super) async fn run(mut self, leave: impl Future<Output = ()>) {
        let mut leave = pin!(leave);
        loop {
            tokio::select! {
                () = &mut leave => return,
                () = self.shared.pass_is_due() => self.pass().await,
            }
        }
    }

    async fn pass(&mut self) {
        while self.slices.wants_pass() {
            while self.slices.publish(CELLS_A_TURN) == Published::Partly {
                tokio::task::yield_now().await;
            }
            tokio::task::yield_now().await;
        }
    }
}
