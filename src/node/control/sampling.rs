//! What sketches err by, on keys that never came and on those that are counted exactly: both are looked at where
//! sketches have changed, in pieces between other work.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::yield_now;
use tokio::time::{MissedTickBehavior, interval};

use crate::shared::Shared;
use rmbd_store::{AuditReader, AuditWindows, ErrorSampler, Replica};

/// Time between two looks at whether sketches have changed. An answer rests on a sample until N has grown by an eighth,
/// so that a sketch of some seconds' age always has one.
const ROUND: Duration = Duration::from_millis(500);

/// The task that takes them.
pub(super) struct Sampling {
    shared: Arc<Shared>,
    sampler: ErrorSampler,
    auditor: AuditReader,
    /// Those of each sketch, in the order of the registry.
    windows: Vec<AuditWindows>,
}

impl Sampling {
    /// A task that draws keys from this seed.
    pub(super) fn new(shared: Arc<Shared>, seed: u64) -> Self {
        let sketches = shared.engine().registry().sketches().iter();
        let windows = sketches.map(|sketch| AuditWindows::new(Arc::clone(&sketch.replica)));
        Self {
            windows: windows.collect(),
            shared,
            sampler: ErrorSampler::new(seed),
            auditor: AuditReader::new(),
        }
    }

    /// Runs until it is told to end.
    pub(super) async fn run(mut self, leave: impl Future<Output = ()>) {
        let mut leave = pin!(leave);
        let mut rounds = interval(ROUND);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = &mut leave => return,
                _ = rounds.tick() => {}
            }
            tokio::select! {
                () = &mut leave => return,
                () = self.round() => {}
            }
        }
    }

    async fn round(&mut self) {
        let Self {
            shared,
            sampler,
            auditor,
            windows,
        } = self;
        for sketch in shared.engine().registry().sketches() {
            if sketch.replica.wants_sample() {
                sample(sampler, &sketch.replica).await;
            }
            if sketch.replica.wants_audit() {
                audit(auditor, &sketch.replica).await;
            }
        }
        for windows in windows {
            while windows.read_piece(shared.now()) {
                yield_now().await;
            }
        }
    }
}

async fn sample(sampler: &mut ErrorSampler, replica: &Replica) {
    let mut sample = sampler.begin(replica);
    while sample.read_piece() {
        yield_now().await;
    }
    yield_now().await;
}

async fn audit(auditor: &mut AuditReader, replica: &Replica) {
    // Where keys just leave, the next round looks.
    if let Some(mut look) = auditor.begin(replica) {
        while look.read_piece() {
            yield_now().await;
        }
    }
    yield_now().await;
}
