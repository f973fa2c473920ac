//! How old what a slice counts is: what goes along with groups in a frame, and what is read from one.

use std::time::Duration;

use rmbd_proto::cluster::{
    Ages, Fold, FrameWriter, GROUP_CELLS, Listed, MARKS_MAX, SliceId, pack_group,
};
use rmbd_store::{CellsRef, Mark, Moment, Slices};

/// A group with its increments and the ages of the frame's marks takes no more, so that it fits an empty datagram.
/// Where it would be longer, fewer marks go along. Without marks any group fits.
const GROUP_BYTES_MAX: usize = 1_000;
/// Bytes of an age at most, where marks are less than half an hour apart.
const AGE_BYTES: usize = 3;

/// Writes groups of a slice with their ages.
#[derive(Debug)]
pub(crate) struct AgedGroupsOf<'s> {
    slices: &'s Slices,
    slice: SliceId,
    cells: CellsRef<'s>,
    fold: Fold,
    marks: Vec<Mark>,
    now: Moment,
    values: Vec<u64>,
    increments: Vec<u64>,
}

/// How far a frame has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(crate) struct Written {
    pub(crate) listed: Listed,
    /// The first group that did not fit.
    pub(crate) rest_from: Option<u32>,
}

impl<'s> AgedGroupsOf<'s> {
    /// For somebody who has all of a slice until version `base`. `now` was read before this call. `None` where cells
    /// go alone: what is lacking is all of the last step, or nothing is known.
    pub(crate) fn since(
        slices: &'s Slices,
        slice: &SliceId,
        base: u64,
        now: Duration,
    ) -> Option<Self> {
        let marks = slices.marks_since(slice, base, now);
        if marks.is_empty() {
            return None;
        }
        Some(Self {
            slices,
            slice: *slice,
            cells: slices.cells(slice)?,
            fold: slices.ages_fold()?,
            marks,
            now: Moment::of(now),
            values: Vec::with_capacity(GROUP_CELLS),
            increments: Vec::new(),
        })
    }

    /// Whether the slice has this group.
    pub(crate) fn has(&self, group: u32) -> bool {
        (group as usize).saturating_mul(GROUP_CELLS) < self.cells.len()
    }

    /// Writes one frame of these groups, which ascend, as many as fit.
    pub(crate) fn write(
        &mut self,
        writer: &mut FrameWriter<'_>,
        groups: impl Iterator<Item = u32>,
    ) -> Written {
        let mut groups = groups.peekable();
        if let Some(&first) = groups.peek() {
            self.choose_marks(first);
        }
        let ages = self.marks.iter().map(|mark| mark.at.told_age_ms(self.now));
        let ages: Vec<u64> = ages.collect();
        let (slice, version) = (self.slice, self.slices.version(&self.slice));
        let mut rest_from = None;
        let listed = writer.aged_groups(&slice, version, (self.fold, &ages), |writer| {
            for group in groups {
                self.read(group);
                if !writer.push(group, &self.values, &self.increments) {
                    rest_from = Some(group);
                    break;
                }
            }
        });
        Written { listed, rest_from }
    }

    /// Leaves out marks until a group fits. What was reached by a mark that is left out counts as reached by the next
    /// younger one.
    fn choose_marks(&mut self, group: u32) {
        let all = std::mem::take(&mut self.marks);
        let mut count = all.len().min(MARKS_MAX);
        loop {
            self.marks = some_of(&all, count);
            if count == 0 || self.bytes(group) <= GROUP_BYTES_MAX {
                return;
            }
            count = count * 3 / 4;
        }
    }

    fn bytes(&mut self, group: u32) -> usize {
        self.read(group);
        let folded = self.fold.folded(self.values.len()).max(1);
        let mut packed = Vec::new();
        pack_group(&self.values, &mut packed);
        for increments in self.increments.chunks(folded) {
            pack_group(increments, &mut packed);
        }
        packed.len() + self.marks.len() * AGE_BYTES
    }

    fn read(&mut self, group: u32) {
        self.cells.read_group(group, &mut self.values);
        (self.slices).increments(&self.slice, group, &self.marks, &mut self.increments);
    }
}

/// So many of these marks, evenly apart. The oldest one is among them: a window reaches so far back.
fn some_of(marks: &[Mark], count: usize) -> Vec<Mark> {
    let oldest_first = marks.iter().rev();
    let places = (0..count).map(|at| at * marks.len() / count);
    let mut chosen: Vec<Mark> = places
        .filter_map(|at| oldest_first.clone().nth(at).copied())
        .collect();
    chosen.reverse();
    chosen
}

/// The marks of a frame by our own clock, the youngest first. `arrived` was read after the frame had been received.
pub(crate) fn marks_of(ages: Ages<'_>, arrived: Duration) -> Vec<Moment> {
    let arrived = Moment::of(arrived);
    ages.map(|age_ms| arrived.before(age_ms)).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use rmbd_proto::Writer;
    use rmbd_proto::cluster::{AgedGroup, Frame, frames};
    use rmbd_sketch::{Geometry, HashFamily, Weight};
    use rmbd_store::{Replica, ReplicaLimits, WindowPlan};

    use super::*;

    const OWN: SliceId = SliceId::of(1, Writer(9));
    const SECOND: Duration = Duration::from_secs(1);
    const CELLS: u32 = 2 * 1_000;

    /// A node that has counted for a minute; `keys` different ones each second.
    fn minute(keys: u32, weight: u32, width: Option<u64>) -> Slices {
        let limits = ReplicaLimits {
            max_peers: 2,
            max_origins: 8,
            max_memory_bytes: u64::MAX,
        };
        let geometry = Geometry::new(u64::from(CELLS / 2), 2).unwrap();
        let family = HashFamily::Xxh3 { seed: 7 };
        let replica = Arc::new(Replica::try_with(geometry, family, OWN, limits).unwrap());
        let mut slices = Slices::try_new(Arc::clone(&replica)).unwrap();
        let window = WindowPlan::new(60_000, Some(1_000), width, geometry, family).unwrap();
        slices.keep_ages(&[window], Duration::ZERO).unwrap();
        for second in 1..=60 {
            for key in 0..keys {
                let key = (second * key).to_le_bytes();
                replica.add(&key, Weight::new(weight).unwrap()).unwrap();
            }
            slices.publish(usize::MAX);
            slices.end_step(SECOND * second);
        }
        slices
    }

    #[test]
    fn whatever_a_group_has_grown_by_it_fits_a_datagram() {
        for (keys, weight, width) in [(1, 1, None), (900, 1_000_000, None), (500, 3, Some(125))] {
            let slices = minute(keys, weight, width);
            let mut next = Some(0);
            let (mut groups, mut frames_written) = (0, 0);
            while let Some(from) = next {
                let mut aged = AgedGroupsOf::since(&slices, &OWN, 0, SECOND * 61).unwrap();
                let mut out = Vec::new();
                let changed = slices.changed_groups(0, from);
                let written = aged.write(&mut FrameWriter::new(&mut out, 1_060), changed);
                assert_eq!(written.listed, Listed::Some, "from {from}");
                let Some(Ok(Frame::AgedGroups {
                    groups: mut read, ..
                })) = frames(&out, |_| Some(CELLS)).next()
                else {
                    panic!("another frame");
                };
                let mut group = AgedGroup::default();
                let mut values = Vec::new();
                while let Some(number) = read.next_group(&mut group) {
                    slices.own_cells().read_group(number, &mut values);
                    let cells = group.cells.iter().map(|&(_, value)| value);
                    assert_eq!(cells.sum::<u64>(), values.iter().sum::<u64>());
                    groups += 1;
                }
                next = written.rest_from;
                frames_written += 1;
            }
            assert_eq!(groups, slices.changed_groups(0, 0).count());
            assert!(frames_written <= groups);
        }
    }

    #[test]
    fn where_not_all_marks_fit_some_are_chosen_evenly() {
        let slices = minute(900, 1_000, None);
        let all = slices.marks_since(&OWN, 0, SECOND * 61);
        for count in 0..=all.len() {
            let chosen = some_of(&all, count);
            assert_eq!(chosen.len(), count);
            assert!(count == 0 || chosen.last() == all.last());
            let gaps = chosen.windows(2).map(|pair| pair[1].at.age_ms(pair[0].at));
            let (least, most) = (gaps.clone().min().unwrap_or(0), gaps.max().unwrap_or(0));
            assert!(most - least <= 1_000 && (count < 2 || least > 0), "{count}");
        }
        let mut aged = AgedGroupsOf::since(&slices, &OWN, 0, SECOND * 61).unwrap();
        aged.choose_marks(3);
        let chosen = aged.marks.len();
        assert!(
            chosen > 1 && chosen < all.len(),
            "{chosen} of {}",
            all.len()
        );
        assert!(aged.bytes(3) <= GROUP_BYTES_MAX);
    }

    #[test]
    fn who_has_all_but_the_last_step_gets_cells_alone() {
        let slices = minute(2, 1, None);
        let now = SECOND * 60;
        assert!(AgedGroupsOf::since(&slices, &OWN, slices.own_version() - 1, now).is_none());
        assert!(AgedGroupsOf::since(&slices, &OWN, slices.own_version() - 9, now).is_some());
        let unknown = SliceId::of(5, Writer(5));
        assert!(AgedGroupsOf::since(&slices, &unknown, 0, now).is_none());
    }
}
