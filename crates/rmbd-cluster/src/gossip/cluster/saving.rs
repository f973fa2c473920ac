//! What a snapshot file needs, which another thread writes.

use std::time::Duration;

use super::Cluster;
use rmbd_proto::SketchNumber;

impl Cluster {
    /// Goes on with passes over our own live cells, as much as one call of [`wake`](Self::wake) does, until each sketch
    /// has made as many ([`Slices::passes`](rmbd_store::Slices::passes)) as `passes` says, in the order of [`all_slices`](Self::all_slices).
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

    fn missing_passes(&self, passes: &[u64]) -> impl Iterator<Item = SketchNumber> {
        let all = self.sketches.iter().zip(passes);
        let missing = all.filter(|(slices, passes)| slices.passes() < **passes);
        missing.map(|(slices, _)| slices.own_slice().sketch)
    }
}
