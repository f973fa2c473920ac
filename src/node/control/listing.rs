//! The lists of the largest keys, which are told to whoever answers questions twice a second, between other work, and
//! the names of keys that limits deny.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::yield_now;
use tokio::time::{MissedTickBehavior, interval};

use super::Publisher;
use crate::cluster_io::SharedCluster;
use crate::shared::{LoneSlices, Shared};
use rmbd_proto::SketchNumber;
use rmbd_store::{SketchIndex, ToldLists};

/// Time between two looks for names that threads have told. They find room again after each, so that a stream of a few
/// tenths of a second is named, too.
const NAMES_ROUND: Duration = Duration::from_millis(100);
/// Lists are made anew with each so many looks for names.
const LIST_EVERY: u64 = 5;

/// The task that tells them.
pub(super) struct Listing {
    shared: Arc<Shared>,
    lists: Lists,
    /// Those that have lists.
    sketches: Vec<(SketchIndex, SketchNumber)>,
}

/// Who has the lists.
enum Lists {
    /// The cluster's task keeps them up to date, with those of other nodes.
    Cluster(Arc<SharedCluster>),
    /// This task does.
    Alone(Arc<LoneSlices>),
}

impl Listing {
    pub(super) fn new(shared: Arc<Shared>, publisher: &Publisher) -> Self {
        let all = shared.engine().registry().iter();
        let listing = all.filter(|(_, named)| named.replica.top() > 0);
        let sketches = listing.map(|(sketch, named)| (sketch, named.name.number()));
        let sketches = sketches.collect();
        let lists = match publisher {
            Publisher::Cluster { cluster, .. } => Lists::Cluster(Arc::clone(cluster)),
            Publisher::Alone(slices) => Lists::Alone(Arc::clone(slices)),
        };
        Self {
            shared,
            lists,
            sketches,
        }
    }

    /// Runs until it is told to end.
    pub(super) async fn run(self, leave: impl Future<Output = ()>) {
        let mut leave = pin!(leave);
        let mut rounds = interval(NAMES_ROUND);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for round in 0_u64.. {
            tokio::select! {
                () = &mut leave => return,
                _ = rounds.tick() => {}
            }
            self.take_names();
            if round.is_multiple_of(LIST_EVERY) {
                tokio::select! {
                    () = &mut leave => return,
                    () = self.make_lists() => {}
                }
            }
        }
    }

    fn take_names(&self) {
        self.shared.engine().take_denied_names();
        let registry = self.shared.engine().registry();
        for &(sketch, number) in &self.sketches {
            if registry.replica(sketch).has_names_told() {
                self.lists.take_names(sketch, number);
            }
        }
    }

    async fn make_lists(&self) {
        for &(sketch, number) in &self.sketches {
            let told = self.lists.make(sketch, number, self.shared.now());
            self.shared.engine().top().tell(sketch, told);
            yield_now().await;
        }
    }
}

impl Lists {
    fn take_names(&self, sketch: SketchIndex, number: SketchNumber) {
        match self {
            Self::Cluster(cluster) => cluster.lock().take_names(number),
            Self::Alone(slices) => {
                if let Some(slices) = slices.lock().get_mut(sketch.get()) {
                    slices.take_names();
                }
            }
        }
    }

    /// The lists of one sketch as they are now.
    fn make(&self, sketch: SketchIndex, number: SketchNumber, now: Duration) -> ToldLists {
        match self {
            Self::Cluster(cluster) => cluster.lock().told_lists(number, now),
            Self::Alone(slices) => {
                let mut all = slices.lock();
                let slices = all.get_mut(sketch.get());
                slices.map_or_else(ToldLists::default, |slices| {
                    slices.update_top(now);
                    slices.told_lists(now)
                })
            }
        }
    }
}
