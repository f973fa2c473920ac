//! When two sums of a node's earlier slices are compared in detail.
//!
//! A digest has one line for each slice that is written now, and one with a sum of all the others of its node:
//!
//! ```text
//!   us                                         a neighbour
//!    <-- siblings: (slice, count, sum) ------     in its digest; our sum is another
//!    -- buckets asked ---------------------->
//!    <-- 64 sums ----------------------------
//!    -- lines asked ------------------------>     of the buckets that differ
//!    <-- digest: (slice, version, root) -----     now it is as with every other line
//! ```
//!
//! A sketch of which nothing has changed for long is told as one sum in the same way, and then line by line.
//!
//! Two copies may go on differing, where one of the nodes has no room. So two sums of which the lines led to nothing
//! are compared ever more seldom, until one of them changes, or there is room again.

use std::collections::BTreeMap;

use rmbd_proto::cluster::{SiblingsEntry, SliceId};
use rmbd_proto::{Boot, SketchNumber};

/// Two sums of which the lines led to nothing are not compared the next time that they are heard, then not for 2 times,
/// 4 ... and at last so many.
const PASSED_OVER_MAX: u32 = 64;

/// A node's slices of a sketch; without a node all slices of the sketch.
type SummedSlices = (SketchNumber, Option<u64>);

/// The sums that were compared in detail, by neighbour, sketch and node.
#[derive(Debug)]
pub(super) struct ComparedSums {
    max: usize,
    sums: BTreeMap<(Boot, SummedSlices), Sums>,
}

#[derive(Debug, Clone, Copy)]
struct Sums {
    theirs: SiblingsEntry,
    ours: SiblingsEntry,
    /// Lines of these slices have come since they were asked for; nothing may have, when a datagram was lost.
    have_lines_come: bool,
    /// One of them told of something that is not here.
    was_worth_it: bool,
    /// How often they are passed over after lines that led to nothing, and how often still.
    passed_over: u32,
    left: u32,
}

impl ComparedSums {
    pub(super) fn new(max: usize) -> Self {
        Self {
            max,
            sums: BTreeMap::new(),
        }
    }

    /// Whether two sums that differ are to be compared in detail, now that they are heard.
    pub(super) fn hear(&mut self, from: Boot, theirs: SiblingsEntry, ours: SiblingsEntry) -> bool {
        let key = (from, (theirs.slice.sketch, Some(theirs.slice.node)));
        self.hear_sums(key, theirs, ours)
    }

    /// Whether two sums over a whole sketch that differ are to be compared line by line, now that they are heard.
    pub(super) fn hear_sketch(
        &mut self,
        from: Boot,
        sketch: SketchNumber,
        theirs: u64,
        ours: u64,
    ) -> bool {
        let entry = |sum| SiblingsEntry {
            slice: SliceId {
                sketch,
                ..SliceId::default()
            },
            count: 0,
            sum,
        };
        self.hear_sums((from, (sketch, None)), entry(theirs), entry(ours))
    }

    fn hear_sums(
        &mut self,
        key: (Boot, SummedSlices),
        theirs: SiblingsEntry,
        ours: SiblingsEntry,
    ) -> bool {
        if self.sums.len() >= self.max && !self.sums.contains_key(&key) {
            // Any one: it is compared once more than it need be.
            let next = self.sums.range(key..).next().map(|(&next, _)| next);
            match next {
                Some(next) => self.sums.remove(&next),
                None => self.sums.pop_first().map(|(_, sums)| sums),
            };
        }
        let fresh = Sums::new(theirs, ours);
        let sums = self.sums.entry(key).or_insert(fresh);
        if (sums.theirs, sums.ours) != (theirs, ours) {
            *sums = fresh;
        }
        sums.is_due()
    }

    /// A line has come; perhaps it `is_ahead` of what is here.
    pub(super) fn note_line(&mut self, from: Boot, slice: &SliceId, is_ahead: bool) {
        for node in [Some(slice.node), None] {
            let sums = self.sums.get_mut(&(from, (slice.sketch, node)));
            if let Some(sums) = sums.filter(|sums| sums.theirs.slice != *slice) {
                sums.have_lines_come = true;
                sums.was_worth_it |= is_ahead;
            }
        }
    }

    /// Forgets what was compared with somebody who is gone.
    pub(super) fn forget(&mut self, boot: Boot) {
        self.sums.retain(|&(from, _), _| from != boot);
    }

    /// Forgets which sums led to nothing: they may lead to something now.
    pub(super) fn forget_all(&mut self) {
        self.sums.clear();
    }
}

impl Sums {
    fn new(theirs: SiblingsEntry, ours: SiblingsEntry) -> Self {
        Self {
            theirs,
            ours,
            have_lines_come: false,
            was_worth_it: false,
            passed_over: 0,
            left: 0,
        }
    }

    fn is_due(&mut self) -> bool {
        if std::mem::take(&mut self.have_lines_come) {
            let was_worth_it = std::mem::take(&mut self.was_worth_it);
            let longer = (self.passed_over * 2).clamp(1, PASSED_OVER_MAX);
            self.passed_over = if was_worth_it { 0 } else { longer };
            self.left = self.passed_over;
        }
        let is_due = self.left == 0;
        self.left = self.left.saturating_sub(1);
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rmbd_proto::Writer;

    const SLICE: SliceId = SliceId::of(5, Writer(9));

    fn entry(sum: u64) -> SiblingsEntry {
        SiblingsEntry {
            slice: SLICE,
            count: 1,
            sum,
        }
    }

    /// At which of 400 times that two sums are heard they are compared, where lines come then that are ahead or not,
    /// or none come.
    fn times(
        compared: &mut ComparedSums,
        (theirs, ours): (u64, u64),
        lines: Option<bool>,
    ) -> Vec<i32> {
        let sibling = SliceId::of(5, Writer(10));
        let heard = (0..400).filter(|_| {
            let is_due = compared.hear(Boot(2), entry(theirs), entry(ours));
            compared.note_line(Boot(2), &SLICE, true);
            compared.note_line(Boot(3), &sibling, true);
            if let Some(is_ahead) = lines.filter(|_| is_due) {
                compared.note_line(Boot(2), &sibling, is_ahead);
            }
            is_due
        });
        heard.collect()
    }

    #[test]
    fn what_led_to_nothing_is_compared_ever_more_seldom_until_a_sum_changes_or_there_is_room() {
        let mut compared = ComparedSums::new(8);
        let seldom = times(&mut compared, (1, 2), Some(false));
        assert_eq!(seldom[..5], [0, 2, 5, 10, 19]);
        let gaps = seldom.windows(2).map(|pair| pair[1] - pair[0]);
        assert_eq!(gaps.max(), Some(PASSED_OVER_MAX as i32 + 1));
        assert_eq!(times(&mut compared, (1, 3), Some(false))[..2], [0, 2]);
        assert_eq!(times(&mut compared, (2, 3), Some(false))[..2], [0, 2]);
        compared.forget_all();
        assert_eq!(times(&mut compared, (2, 3), Some(false))[..2], [0, 2]);
        // Whatever is lost is asked for again, and where something is to be had there is no end of it.
        assert_eq!(times(&mut compared, (3, 3), None).len(), 400);
        assert_eq!(times(&mut compared, (4, 3), Some(true)).len(), 400);
        compared.forget(Boot(2));
        assert!(compared.sums.is_empty());
    }

    #[test]
    fn sums_of_a_sketch_are_compared_as_those_of_a_node_are() {
        let mut compared = ComparedSums::new(8);
        let line = SliceId::of(77, Writer(1));
        let due = (0..20).filter(|_| {
            let is_due = compared.hear_sketch(Boot(2), line.sketch, 1, 2);
            if is_due {
                compared.note_line(Boot(2), &line, false);
            }
            is_due
        });
        assert_eq!(due.collect::<Vec<_>>(), [0, 2, 5, 10, 19]);
        assert!(compared.hear_sketch(Boot(2), line.sketch, 1, 3));
        assert!(compared.hear_sketch(Boot(2), SketchNumber(5), 1, 2));
    }

    #[test]
    fn what_is_compared_is_bounded() {
        let mut compared = ComparedSums::new(3);
        for boot in (0..99).chain((0..99).rev()) {
            assert!(compared.hear(Boot(boot), entry(1), entry(2)));
        }
        assert_eq!(compared.sums.len(), 3);
    }
}
