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

/// Time between two lists of the same keys. A name is there after two rounds and an add of its key between them.
const ROUND: Duration = Duration::from_millis(500);

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

    async fn round(&self) {
        self.shared.engine().take_denied_names();
        for &(sketch, number) in &self.sketches {
            let told = self.lists.make(sketch, number, self.shared.now());
            self.shared.engine().top().tell(sketch, told);
            yield_now().await;
        }
    }
}

impl Lists {
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
