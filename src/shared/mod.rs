//! What all threads of a node share: what they count with, the node's clock, the call for a pass over its cells, and
//! whether it ends.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::engine::{Engine, EngineOptions};
use rmbd_io::Stop;
use rmbd_store::Replica;

/// Shared by all threads of a node.
pub(crate) struct Shared {
    engine: Arc<Engine>,
    started: Instant,
    pass_is_due: Notify,
    stop: Stop,
}

impl Shared {
    /// The node's clock begins now. `stop` ends its data threads.
    pub(crate) fn new(replica: Arc<Replica>, options: &EngineOptions, stop: Stop) -> Self {
        Self {
            engine: Arc::new(Engine::new(replica, options)),
            started: Instant::now(),
            pass_is_due: Notify::new(),
            stop,
        }
    }

    pub(crate) fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    pub(crate) fn replica(&self) -> &Arc<Replica> {
        self.engine.replica()
    }

    /// Time since the node was made.
    pub(crate) fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// Whether the end of the node was begun.
    pub(crate) fn is_ending(&self) -> bool {
        self.stop.is_given()
    }

    /// Has the control thread go over the cells, where so much was added that it should. By data threads, often.
    #[inline]
    pub(crate) fn ask_for_pass_if_due(&self) {
        if self.replica().own().wants_pass() {
            self.pass_is_due.notify_one();
        }
    }

    /// Waits until a pass is due, or was since the last wait.
    pub(crate) async fn pass_is_due(&self) {
        self.pass_is_due.notified().await;
    }
}
