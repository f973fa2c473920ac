//! Where slices come from while a file is written: from the cluster, or from a node without one. Each time they are
//! locked for a piece of work only.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use rmbd_proto::Writer;
use rmbd_snapshot::SlicesSource;
use rmbd_store::Slices;

use crate::cluster_io::SharedCluster;
use crate::shared::LoneSlices;

/// Cells that a pass goes over while slices are locked: less than a millisecond's work.
const CELLS_A_PIECE: usize = 1 << 18;

/// The slices of a node.
#[derive(Debug, Clone)]
pub(crate) enum Source {
    Cluster(Arc<SharedCluster>),
    Alone(Arc<LoneSlices>),
}

impl SlicesSource for Source {
    fn with(&self, read: &mut dyn FnMut(&[&Slices])) {
        match self {
            Self::Cluster(cluster) => {
                let cluster = cluster.lock();
                read(&cluster.all_slices().collect::<Vec<_>>());
            }
            Self::Alone(slices) => read(&slices.lock().iter().collect::<Vec<_>>()),
        }
    }
}

impl Source {
    /// Lets `change` take over what a file holds, before the node has published, learnt or met anything.
    pub(super) fn load<T>(&self, change: impl FnOnce(&mut [Slices]) -> T) -> T {
        match self {
            Self::Cluster(cluster) => change(cluster.lock().slices_to_load()),
            Self::Alone(slices) => change(&mut slices.lock()),
        }
    }

    /// Whether nobody else could know more of what was counted.
    pub(super) fn is_alone(&self) -> bool {
        matches!(self, Self::Alone(_))
    }

    /// The number of passes over each sketch by which all is published that was added until now.
    pub(super) fn passes_until_now(&self) -> Vec<u64> {
        let mut passes = Vec::new();
        self.with(&mut |all| {
            passes = all.iter().map(|slices| slices.passes_until_now()).collect();
        });
        passes
    }

    /// Goes on with passes for one piece, until there are as many. Returns whether there are.
    pub(super) fn publish_until(&self, passes: &[u64], clock: &dyn Fn() -> Duration) -> bool {
        match self {
            Self::Cluster(cluster) => cluster.publish_until(clock, passes),
            Self::Alone(slices) => {
                let mut all = slices.lock();
                let mut missing = all
                    .iter_mut()
                    .zip(passes)
                    .filter(|(slices, passes)| slices.passes() < **passes);
                match missing.next() {
                    Some((slices, _)) => slices.publish(CELLS_A_PIECE),
                    None => return true,
                };
                false
            }
        }
    }

    /// A number that changes when anything is counted or learnt, and else stays the same with a probability that
    /// leaves no doubt.
    pub(super) fn signature(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.with(&mut |all| {
            for slices in all {
                let number = slices.own_slice().sketch.0;
                (number, slices.sum(), slices.weight()).hash(&mut hasher);
            }
        });
        hasher.finish()
    }

    /// The writer of our own slices.
    pub(super) fn writer(&self) -> Writer {
        let mut writer = Writer(0);
        self.with(&mut |all| {
            if let Some(first) = all.first() {
                writer = first.own_slice().writer;
            }
        });
        writer
    }
}
