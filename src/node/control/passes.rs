//! Passes over our own cells where there is no cluster, which would make them anyway: what may be added until the next
//! one is bounded ([`rmbd_sketch::Exhausted`]).

use std::pin::pin;
use std::sync::Arc;

use crate::shared::Shared;
use rmbd_store::{Published, Slices};

/// Cells gone over before others get their turn on this thread: less than a millisecond's work.
const CELLS_A_TURN: usize = 1 << 18;

/// The task.
pub(super) struct Passes {
    shared: Arc<Shared>,
    slices: Slices,
}

impl Passes {
    pub(super) fn new(shared: Arc<Shared>, slices: Slices) -> Self {
        Self { shared, slices }
    }

    /// Runs until it is told to end, which is when no data thread adds any more.
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
