//! The data that all threads of a node share: its counts, its limits, its clock, the call for the
//! control thread, and whether it ends.

mod access;
mod limits;
mod lone_slices;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

pub(crate) use self::access::{Access, AccessInForce, Asks};
pub(crate) use self::limits::LimitsInForce;
pub(crate) use self::lone_slices::LoneSlices;
use crate::engine::Engine;
#[cfg(test)]
use crate::engine::EngineOptions;
use rmbd_io::Stop;
#[cfg(test)]
use rmbd_store::Registry;
use rmbd_store::Replica;

/// The shared data of a node.
pub(crate) struct Shared {
    engine: Arc<Engine>,
    limits: Arc<LimitsInForce>,
    started: Instant,
    control_call: Notify,
    stop: Stop,
}

impl Shared {
    /// Makes the shared data; the node's clock begins now. `stop` ends the data threads.
    #[cfg(test)]
    pub(crate) fn new(
        registry: Registry,
        options: &EngineOptions,
        limits: Arc<LimitsInForce>,
        stop: Stop,
    ) -> Self {
        Self::since(Instant::now(), Engine::new(registry, options), limits, stop)
    }

    /// Makes the shared data of a node whose clock has `started`. `stop` ends the data threads.
    pub(crate) fn since(
        started: Instant,
        engine: Engine,
        limits: Arc<LimitsInForce>,
        stop: Stop,
    ) -> Self {
        Self {
            engine: Arc::new(engine),
            limits,
            started,
            control_call: Notify::new(),
            stop,
        }
    }

    pub(crate) fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// The sketch that every node has.
    pub(crate) fn replica(&self) -> &Arc<Replica> {
        self.engine.replica()
    }

    pub(crate) fn limits(&self) -> &LimitsInForce {
        &self.limits
    }

    /// Time since the node began to be made.
    pub(crate) fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// Whether the node's end has begun.
    pub(crate) fn is_ending(&self) -> bool {
        self.stop.is_given()
    }

    /// Calls the control thread, if so much was added that a pass over the cells should come, or if other nodes must
    /// know something before the next one. Data threads call this often.
    #[inline]
    pub(crate) fn call_control_if_due(&self) {
        let mut sketches = self.engine.registry().sketches().iter();
        let is_due = |replica: &Replica| replica.own().wants_pass() || replica.has_urgent();
        if sketches.any(|sketch| is_due(&sketch.replica)) {
            self.control_call.notify_one();
        }
    }

    /// Waits until the control thread is called. It returns at once if it was called since the last wait.
    pub(crate) async fn control_is_called(&self) {
        self.control_call.notified().await;
    }
}
