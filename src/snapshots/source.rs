//! Where slices come from while a file is written: from the cluster, or from a node without one. Each time they are
//! locked for a piece of work only.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

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
    /// Whether a fault of this program may have left the slices half-changed. They still answer, as well as they can;
    /// but nobody should take them over.
    pub(super) fn is_poisoned(&self) -> bool {
        match self {
            Self::Cluster(cluster) => cluster.is_poisoned(),
            Self::Alone(slices) => slices.is_poisoned(),
        }
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

    /// What is published is to be kept: see [`settle_name`](rmbd_cluster::Cluster::settle_name). A node that is alone
    /// has names of which nobody has heard.
    pub(super) fn settle_name(&self, now: Duration) {
        if let Self::Cluster(cluster) = self {
            cluster.lock().settle_name(now);
        }
    }

    /// Whether anybody may have heard of our slices under their present name.
    pub(super) fn is_name_told(&self) -> bool {
        match self {
            Self::Cluster(cluster) => cluster.lock().is_name_told(),
            Self::Alone(_) => false,
        }
    }

    /// See [`signature_of`].
    pub(super) fn signature(&self) -> u64 {
        let mut signature = 0;
        self.with(&mut |all| signature = signature_of(all.iter().copied()));
        signature
    }
}

/// A number that changes when anything is counted or learnt, and else stays the same, with a probability that leaves no
/// doubt. It is the same after what was written is taken over.
pub(super) fn signature_of<'a>(all: impl Iterator<Item = &'a Slices>) -> u64 {
    let mut parts: Vec<_> = all
        .map(|slices| (slices.own_slice().sketch.0, slices.sum(), slices.weight()))
        .collect();
    // A cluster has them in another order than the list of sketches.
    parts.sort_unstable();
    let mut hasher = DefaultHasher::new();
    parts.hash(&mut hasher);
    hasher.finish()
}
