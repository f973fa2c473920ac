//! What a snapshot file needs, which another thread writes.

use std::time::Duration;

use super::Cluster;
use crate::gossip::state::NameTaken;
use rmbd_proto::SketchNumber;
use rmbd_store::Slices;

impl Cluster {
    /// Goes on with passes over our own live cells, as much as one call of [`wake`](Self::wake) does, until each sketch
    /// has made as many ([`Slices::passes`]) as `passes` says, in the order of [`all_slices`](Self::all_slices).
    /// Returns whether all have. Others are told of what this publishes, so [`next_wake`](Self::next_wake) may be
    /// earlier.
    pub fn publish_until(&mut self, now: Duration, passes: &[u64]) -> bool {
        let missing: Vec<SketchNumber> = self.missing_passes(passes).collect();
        if !missing.is_empty() {
            for sketch in missing {
                self.publishing.want(sketch);
            }
            self.publish_some(now);
        }
        self.missing_passes(passes).next().is_none()
    }

    /// To be called before our slices are kept for a later start, when all is published that is to be kept. Where
    /// their name is that of an earlier start, nobody has told yet what it has of any of them, and something was added,
    /// it gets a name of its own: what a later start goes on from must be what nobody else can have written.
    pub fn settle_name(&mut self, now: Duration) {
        let has_grown = self.sketches.iter().any(Slices::has_grown);
        if self.naming.is_untold() && has_grown {
            self.naming.lose(now, NameTaken::Unasked, None);
        }
        if let Some(taken) = self.naming.due(now) {
            self.take_new_writer(now, taken);
        }
    }

    /// Whether anybody may have heard of our slices under the name that they have.
    #[must_use]
    pub fn is_name_told(&self) -> bool {
        self.naming.is_resumed() || self.has_met_anybody
    }

    fn missing_passes(&self, passes: &[u64]) -> impl Iterator<Item = SketchNumber> {
        let all = self.sketches.iter().zip(passes);
        let missing = all.filter(|(slices, passes)| slices.passes() < **passes);
        missing.map(|(slices, _)| slices.own_slice().sketch)
    }
}
