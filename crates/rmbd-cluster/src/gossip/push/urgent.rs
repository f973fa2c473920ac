//! Telling others at once what would let them pass a limit: cells of our own slices, ahead of what is published.
//!
//! Such cells are hints. They go out once, have no version, and nobody waits for an ack; what is lost, or was never
//! sent for want of room, comes with the next version at the latest. The receiver takes the larger value of each cell,
//! as always, so they do no harm however late they come. They tell no ages. So they go only to a peer that has all but
//! the last step of the sketch's windows: to anybody else a cell would bring what is old as new.

use std::collections::BTreeSet;
use std::time::Duration;

use rmbd_proto::SketchNumber;
use rmbd_proto::cluster::{FrameWriter, Listed};
use rmbd_sketch::CellIndex;
use rmbd_store::Slices;

use super::Progress;
use crate::gossip::sketches::Sketches;

/// How many urgent keys may still be told in this round, of all sketches.
#[derive(Debug)]
pub(crate) struct UrgentKeys {
    a_round: usize,
    left: usize,
    /// Rounds in which there were as many as may be told, or more.
    full_rounds: u64,
}

/// Urgent cells that wait for one peer. What they hold is read when they are written.
#[derive(Debug)]
pub(crate) struct UrgentCells {
    cells: BTreeSet<(SketchNumber, CellIndex)>,
    max: usize,
}

impl UrgentKeys {
    pub(crate) fn new(a_round: usize) -> Self {
        Self {
            a_round,
            left: a_round,
            full_rounds: 0,
        }
    }

    pub(crate) fn begin_round(&mut self) {
        self.left = self.a_round;
    }

    /// Some may be told yet.
    pub(crate) fn are_open(&self) -> bool {
        self.left > 0
    }

    /// How often there were as many as may be told in a round, or more.
    pub(crate) fn full_rounds(&self) -> u64 {
        self.full_rounds
    }

    /// Takes the keys that wait in one of our sketches, as many as may be told; returns their cells.
    pub(crate) fn take(&mut self, slices: &Slices) -> Vec<CellIndex> {
        let mut cells = Vec::new();
        let keys = slices.take_urgent(self.left, |cell| cells.push(cell));
        self.full_rounds += u64::from(keys > 0 && keys == self.left);
        self.left -= keys;
        cells
    }
}

impl UrgentCells {
    /// At most so many may wait.
    pub(crate) fn new(max: usize) -> Self {
        Self {
            cells: BTreeSet::new(),
            max,
        }
    }

    /// Adds cells, as far as there is room.
    pub(crate) fn note(&mut self, sketch: SketchNumber, cells: &[CellIndex]) {
        let room = self.max.saturating_sub(self.cells.len());
        let cells = cells.iter().take(room);
        self.cells.extend(cells.map(|&cell| (sketch, cell)));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.cells.is_empty()
    }

    pub(crate) fn clear(&mut self) {
        self.cells.clear();
    }

    /// Writes as many cells as fit, a frame for each sketch. Those of a sketch of which the peer lacks more are
    /// dropped.
    pub(crate) fn write(
        &mut self,
        now: Duration,
        sketches: &Sketches,
        progress: &Progress,
        writer: &mut FrameWriter<'_>,
    ) {
        while let Some(&(sketch, _)) = self.cells.first() {
            let ours = sketches.our_slice(sketch);
            let is_asked = ours.is_none_or(|ours| progress.is_asked(ours));
            let slices = sketches.get(sketch).filter(|_| !is_asked);
            let slices = slices.filter(|slices| is_up_to_date(now, slices, progress));
            let rest = match slices.map(|slices| self.write_of(slices, writer)) {
                Some(Listed::NoRoom) => return,
                Some(Listed::Some) => self.cells.first().is_some_and(|first| first.0 == sketch),
                Some(Listed::Nothing) | None => {
                    self.cells.retain(|&(other, _)| other != sketch);
                    false
                }
            };
            if rest {
                return;
            }
        }
    }

    fn write_of(&mut self, slices: &Slices, writer: &mut FrameWriter<'_>) -> Listed {
        let own = slices.own_slice();
        let cells = &mut self.cells;
        writer.cells(&own, |writer| {
            while let Some(&(sketch, cell)) = cells.first()
                && sketch == own.sketch
                && writer.push(cell.get(), slices.live_cell(cell))
            {
                cells.pop_first();
            }
        })
    }
}

/// A peer has all of our slice that is older than the last step, so that what it lacks may come without its age.
fn is_up_to_date(now: Duration, slices: &Slices, progress: &Progress) -> bool {
    let own = slices.own_slice();
    !progress.is_refused(own.sketch)
        && (slices.marks_since(&own, progress.base(own.sketch), now)).is_empty()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use rmbd_proto::Writer;
    use rmbd_proto::cluster::{Frame, SliceId, frames};
    use rmbd_sketch::{Geometry, HashFamily, Weight};
    use rmbd_store::{Batch, Replica, ReplicaLimits, ReplicaOptions, WindowPlan};

    use super::*;
    use crate::gossip::sketches::slices_of;

    const OWN: SliceId = SliceId::of(1, Writer(9));
    const SECOND: Duration = Duration::from_secs(1);
    const KEY: &[u8] = b"key";

    /// A node that counted a key a minute ago, and counts it now near a limit.
    fn node() -> (Arc<Replica>, Sketches) {
        let geometry = Geometry::new(1_000, 2).unwrap();
        let family = HashFamily::Xxh3 { seed: 7 };
        let limits = ReplicaLimits {
            max_peers: 0,
            max_origins: 8,
            max_memory_bytes: u64::MAX,
        };
        let window = WindowPlan::new(120_000, Some(1_000), None, geometry, family).unwrap();
        let options = ReplicaOptions {
            windows: vec![window],
            ..ReplicaOptions::of(geometry, family, OWN, limits)
        };
        let replica = Arc::new(Replica::try_open(options).unwrap());
        let slices = slices_of([Arc::clone(&replica)], Duration::ZERO).unwrap();
        let (mut sketches, _) = Sketches::try_new(slices).unwrap();
        replica.add(KEY, Weight::new(1_000).unwrap()).unwrap();
        for second in 1..=60 {
            let slices = sketches.get_mut(SketchNumber::DEFAULT).unwrap();
            slices.publish(usize::MAX);
            sketches.end_step(SECOND * second);
        }
        let slices = sketches.get(SketchNumber::DEFAULT).unwrap();
        slices.set_limit_members(2);
        let mut batch = Batch::new(Arc::clone(&replica));
        let weight = Weight::new(7).unwrap();
        batch
            .hit(KEY, (weight, 1_008), (), &mut |(), _| {})
            .unwrap();
        batch.finish(&mut |(), _| {});
        (replica, sketches)
    }

    fn values(bytes: &[u8]) -> Vec<u64> {
        let frames = frames(bytes, |_| Some(2_000));
        let cells = frames.flat_map(|frame| match frame.unwrap() {
            Frame::Cells { cells, .. } => cells.map(|(_, value)| value).collect::<Vec<_>>(),
            other => panic!("{other:?}"),
        });
        cells.collect()
    }

    #[test]
    fn cells_go_ahead_of_the_version_only_to_who_lacks_nothing_older() {
        let (_replica, sketches) = node();
        let slices = sketches.get(SketchNumber::DEFAULT).unwrap();
        let mut keys = UrgentKeys::new(10);
        let cells = keys.take(slices);
        assert_eq!(cells.len(), 2);
        let ours = sketches.our_slice(SketchNumber::DEFAULT).unwrap();
        for (has_all, written) in [(true, vec![1_007; 2]), (false, vec![])] {
            let mut progress = Progress::new();
            if has_all {
                progress.heard(ours.version, ours);
            }
            let mut urgent = UrgentCells::new(10);
            urgent.note(SketchNumber::DEFAULT, &cells);
            let mut bytes = Vec::new();
            let mut writer = FrameWriter::new(&mut bytes, 1_000);
            urgent.write(SECOND * 60, &sketches, &progress, &mut writer);
            assert_eq!(values(&bytes), written);
            assert!(urgent.is_empty(), "what is too old for it is dropped");
        }
    }

    #[test]
    fn what_does_not_fit_waits_and_there_is_a_bound() {
        let (_replica, sketches) = node();
        let ours = sketches.our_slice(SketchNumber::DEFAULT).unwrap();
        let mut progress = Progress::new();
        progress.heard(ours.version, ours);
        let geometry = Geometry::new(1_000, 2).unwrap();
        let cells: Vec<CellIndex> = geometry.cells_between(0, 100).collect();
        let mut urgent = UrgentCells::new(60);
        urgent.note(SketchNumber::DEFAULT, &cells);
        let mut datagrams = Vec::new();
        while !urgent.is_empty() {
            let mut bytes = Vec::new();
            let mut writer = FrameWriter::new(&mut bytes, 50);
            urgent.write(SECOND * 60, &sketches, &progress, &mut writer);
            assert!(!bytes.is_empty() && bytes.len() <= 50);
            datagrams.push(values(&bytes).len());
        }
        assert_eq!(datagrams.iter().sum::<usize>(), 60);
        assert!(datagrams.len() > 2, "{datagrams:?}");
        // No room at all: they wait.
        urgent.note(SketchNumber::DEFAULT, &cells);
        let mut bytes = Vec::new();
        let mut writer = FrameWriter::new(&mut bytes, 3);
        urgent.write(SECOND * 60, &sketches, &progress, &mut writer);
        assert!(bytes.is_empty() && !urgent.is_empty());
    }
}
