//! What a snapshot file needs, which is written and loaded on threads of others.

use std::time::Duration;

use super::Cluster;
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

    /// The slices of all sketches, in the order of their numbers, for loading what an earlier start had counted. To be
    /// used before anybody was met, and before anything was published.
    pub fn slices_to_load(&mut self) -> &mut [Slices] {
        self.sketches.all_mut()
    }

    fn missing_passes(&self, passes: &[u64]) -> impl Iterator<Item = SketchNumber> {
        let all = self.sketches.iter().zip(passes);
        let missing = all.filter(|(slices, passes)| slices.passes() < **passes);
        missing.map(|(slices, _)| slices.own_slice().sketch)
    }
}
