//! Passes over our own cells, and snapshots of them, in a node without a cluster; in a cluster its task makes them.
//! Only a bounded weight may be added until the next pass ([`rmbd_sketch::Exhausted`]).

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::yield_now;
use tokio::time::sleep;

use crate::shared::{LoneSlices, Shared};
use rmbd_store::{Published, Slices};

/// Number of cells that are gone over before other tasks get their turn on this thread: less than a millisecond's
/// work.
const CELLS_A_TURN: usize = 1 << 18;
/// The longest sleep of a task that has nothing to do.
const IDLE: Duration = Duration::from_secs(3600);
/// Time between two looks at whether a step of ages is over: as often as in a cluster. The shortest step of a window
/// is not much longer.
const ROUND: Duration = Duration::from_millis(500);
/// Groups whose ages are looked through in a round: some milliseconds of work.
const AGED_GROUPS_A_ROUND: usize = 512;

/// The task that makes them.
pub(super) struct Passes {
    shared: Arc<Shared>,
    /// Those of each sketch.
    slices: Arc<LoneSlices>,
    next_round: Duration,
}

impl Passes {
    pub(super) fn new(shared: Arc<Shared>, slices: Arc<LoneSlices>) -> Self {
        Self {
            next_round: shared.now(),
            shared,
            slices,
        }
    }

    /// Runs until it is told to end, which happens when no data thread adds any more.
    pub(super) async fn run(mut self, leave: impl Future<Output = ()>) {
        let mut leave = pin!(leave);
        loop {
            let now = self.shared.now();
            let snapshot = self.next_snapshot().saturating_sub(now);
            let round = match self.slices.keeps_ages() {
                true => self.next_round.saturating_sub(now),
                false => IDLE,
            };
            tokio::select! {
                () = &mut leave => return,
                () = self.shared.control_is_called() => self.pass().await,
                () = sleep(snapshot) => self.snapshots().await,
                () = sleep(round) => self.round().await,
            }
        }
    }

    async fn pass(&self) {
        for at in 0..self.count() {
            while self.with(at, |slices| slices.wants_pass()) == Some(true) {
                self.whole_pass(at).await;
            }
        }
    }

    async fn whole_pass(&self, at: usize) {
        let piece = || self.with(at, |slices| slices.publish(CELLS_A_TURN));
        while piece() == Some(Published::Partly) {
            yield_now().await;
        }
        yield_now().await;
    }

    /// Takes all snapshots that are due. A pass that becomes due meanwhile waits for a piece at most.
    async fn snapshots(&self) {
        let clock = || self.shared.now();
        for at in 0..self.count() {
            let piece = || self.with(at, |slices| slices.snapshot(&clock, CELLS_A_TURN));
            while piece().flatten().is_some() {
                yield_now().await;
                self.pass().await;
            }
        }
    }

    /// Ends the steps of ages that are over. What was added in one is published first, so that it does not count as
    /// later than it is.
    async fn round(&mut self) {
        for at in 0..self.count() {
            let now = self.shared.now();
            if self.with(at, |slices| slices.wants_mark(now)) == Some(true) {
                self.whole_pass(at).await;
            }
            self.with(at, |slices| {
                // The clock is read under the lock: no pass goes on between.
                slices.end_step(self.shared.now());
                slices.tidy_ages(AGED_GROUPS_A_ROUND);
            });
            yield_now().await;
        }
        self.next_round = self.shared.now() + ROUND;
    }

    fn next_snapshot(&self) -> Duration {
        let all = self.slices.lock();
        let due = all.iter().filter_map(Slices::next_snapshot);
        due.min().unwrap_or_else(|| self.shared.now() + IDLE)
    }

    fn count(&self) -> usize {
        self.slices.lock().len()
    }

    /// Locks the slices of one sketch for a piece of work.
    fn with<T>(&self, at: usize, work: impl FnOnce(&mut Slices) -> T) -> Option<T> {
        self.slices.lock().get_mut(at).map(work)
    }
}
