//! Telling of all that is held, in few lines: one for each slice that is written now, and one for all the others of
//! its node together.
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
//! Two copies may go on differing, where one of the nodes has no room. So two sums of which the lines led to nothing
//! are compared ever more seldom, until one of them changes, or there is room again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rand::RngExt;

use super::peer::{Kind, Peer, Question};
use super::{Cluster, From};
use crate::replica::Slices;
use crate::wire::cluster::{
    DIGEST_LINE_BYTES_MAX, FRAME_HEAD_BYTES, FrameWriter, Hashes, SiblingsEntries, SiblingsEntry,
    SliceId,
};
use crate::wire::{Boot, SketchNumber, Writer};

/// Two sums of which the lines led to nothing are not compared the next time that they are heard, then not for 2 times,
/// 4 ... and at last so many.
const PASSED_OVER_MAX: u32 = 64;

/// What a line is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Line {
    /// One slice.
    Slice(SliceId),
    /// All others of its node.
    Siblings(SliceId),
}

/// A line's place: nodes ascend.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Place {
    node: u64,
    /// Of the node's two lines it is the second.
    is_of_siblings: bool,
}

/// A node's slices of a sketch.
type NodeSlices = (SketchNumber, u64);

/// What was compared in detail.
#[derive(Debug)]
pub(super) struct Compared {
    max: usize,
    sums: BTreeMap<(Boot, NodeSlices), Sums>,
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

impl Compared {
    pub(super) fn new(max: usize) -> Self {
        Self {
            max,
            sums: BTreeMap::new(),
        }
    }

    /// Whether two sums that differ are to be compared in detail, now that they are heard.
    fn hear(&mut self, from: Boot, theirs: SiblingsEntry, ours: SiblingsEntry) -> bool {
        let key = (from, (theirs.slice.sketch, theirs.slice.node));
        if self.sums.len() >= self.max && !self.sums.contains_key(&key) {
            self.sums.pop_first();
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
        let key = (from, (slice.sketch, slice.node));
        let sums = self.sums.get_mut(&key);
        if let Some(sums) = sums.filter(|sums| sums.theirs.slice != *slice) {
            sums.have_lines_come = true;
            sums.was_worth_it |= is_ahead;
        }
    }

    /// Forgets what was compared with somebody who is gone.
    pub(super) fn forget(&mut self, boot: Boot) {
        self.sums.retain(|&(from, _), _| from != boot);
    }

    /// What led to nothing may lead to something now.
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

impl Cluster {
    /// The lines of this round: of one node after the other, ours among them when its turn comes.
    pub(super) fn digest_part(&self) -> Vec<Line> {
        let lines = self.lines_from(self.digest_from);
        lines.take(self.limits.digest_lines_a_round).collect()
    }

    /// The next round goes on where this one has ended.
    pub(super) fn move_on(&mut self, told: &[Line]) {
        let next = told.last().and_then(|last| last.next());
        let next = next.filter(|&next| self.lines_from(next).next().is_some());
        self.digest_from = next.unwrap_or_default();
    }

    fn lines_from(&self, first: Place) -> impl Iterator<Item = Line> + '_ {
        let present = self.present_writers();
        let nodes = self.slices.nodes(self.own.sketch, first.node);
        nodes.flat_map(move |node| {
            let slice = SliceId {
                sketch: self.own.sketch,
                node,
                writer: present.get(&node).copied().unwrap_or(Writer(0)),
            };
            let is_written = slice.writer != Writer(0) && self.slices.has(&slice);
            let is_told = node == first.node && first.is_of_siblings;
            let has_siblings = self.slices.siblings(&slice).count > 0;
            let line = (is_written && !is_told).then_some(Line::Slice(slice));
            let siblings = has_siblings.then_some(Line::Siblings(slice));
            line.into_iter().chain(siblings)
        })
    }

    /// Who writes now, of each node.
    fn present_writers(&self) -> BTreeMap<u64, Writer> {
        let live = self.peers.values().filter(|peer| peer.is_live_member());
        let told = live.filter_map(|peer| Some((peer.node, peer.told.as_ref()?.writer)));
        let ours = (self.own.node, self.own.writer);
        told.chain([ours]).collect()
    }

    /// Tells one peer the lines of this round.
    pub(super) fn tell_digest(&mut self, boot: Boot) {
        let part = self.digest_part();
        self.tell_part(boot, &part);
    }

    /// Tells a peer a part of what is here.
    pub(super) fn tell_part(&mut self, boot: Boot, lines: &[Line]) {
        let Some(peer) = self.peers.get_mut(&boot) else {
            return;
        };
        for lines in lines.chunks(self.limits.digest_lines) {
            let lines = lines.to_vec();
            peer.ask(Question::Digest { lines });
        }
    }

    /// Takes a neighbour's lines about siblings.
    pub(super) fn take_siblings(
        &mut self,
        now: Duration,
        from: From,
        entries: SiblingsEntries<'_>,
    ) {
        // What a target has is its own business.
        if self.is_target(from.boot) || self.peer(now, from).is_none() {
            return;
        }
        for theirs in entries {
            if !self.may_take(now, from, theirs.slice.sketch) {
                continue;
            }
            let ours = self.slices.siblings(&theirs.slice);
            if ours == theirs || !self.compared.hear(from.boot, theirs, ours) {
                continue;
            }
            if let Some(peer) = self.peers.get_mut(&from.boot) {
                let slice = theirs.slice;
                peer.ask(Question::BucketsAsked { slice });
            }
        }
    }

    /// Takes a neighbour's buckets, and asks for the lines of those that differ: as many as fit a round, from any
    /// writer on.
    pub(super) fn take_buckets(&mut self, from: From, slice: SliceId, sums: Hashes<'_>) {
        let ours = self.slices.sibling_buckets(&slice);
        let pairs = ours.iter().zip(sums).enumerate();
        let differing = pairs.filter(|(_, (ours, theirs))| **ours != *theirs);
        let buckets = differing.fold(0, |buckets, (bucket, _)| buckets | 1_u64 << bucket);
        if buckets == 0 {
            return;
        }
        let first = Writer(self.random.random());
        if let Some(peer) = self.peers.get_mut(&from.boot) {
            peer.ask(Question::LinesAsked {
                slice,
                buckets,
                first,
            });
        }
    }

    /// Tells the lines that somebody asks for, as far as they fit a round.
    pub(super) fn tell_lines(&mut self, from: From, slice: &SliceId, buckets: u64, first: Writer) {
        let lines = self.slices.sibling_lines(slice, buckets, first);
        let lines = lines.take(self.limits.digest_lines_a_round);
        let part: Vec<Line> = lines.map(|line| Line::Slice(line.slice)).collect();
        self.tell_part(from.boot, &part);
    }

    /// What was refused for want of room is asked for again when there is some.
    pub(super) fn retry_refused(&mut self) {
        if self.slices.retry_refused() {
            self.compared.forget_all();
        }
        let wanted: BTreeSet<SliceId> = self.slices.wanted().collect();
        if wanted.is_empty() {
            return;
        }
        // Whoever pushes to us: members, and those who do it one way.
        let giving = self.peers.values_mut().filter(|peer| peer.gives());
        for peer in giving {
            let slice = peer.present_slice().filter(|slice| wanted.contains(slice));
            if let Some(slice) = slice {
                peer.ask(Question::Wanted { slice });
            }
        }
    }
}

impl Line {
    /// The place behind it; `None` at the end of all.
    fn next(self) -> Option<Place> {
        let (node, is_of_siblings) = match self {
            Self::Slice(slice) => (slice.node, true),
            Self::Siblings(slice) => (slice.node.checked_add(1)?, false),
        };
        Some(Place {
            node,
            is_of_siblings,
        })
    }

    /// Writes all of these, or nothing where they might not all fit.
    pub(super) fn write_all(lines: &[Self], slices: &Slices, writer: &mut FrameWriter<'_>) -> bool {
        // All of it or nothing: the rest would not be said.
        if writer.room() < 2 * FRAME_HEAD_BYTES + lines.len() * DIGEST_LINE_BYTES_MAX {
            return false;
        }
        let of_slices = lines.iter().filter_map(|line| match line {
            Self::Slice(slice) => Some(slices.digest(slice)),
            Self::Siblings(_) => None,
        });
        let of_siblings = lines.iter().filter_map(|line| match line {
            Self::Slice(_) => None,
            Self::Siblings(slice) => Some(slices.siblings(slice)),
        });
        let (mut of_slices, mut of_siblings) = (of_slices.peekable(), of_siblings.peekable());
        let mut written = 0;
        if of_slices.peek().is_some() {
            written += writer.digest(of_slices);
        }
        if of_siblings.peek().is_some() {
            written += writer.siblings(of_siblings);
        }
        written == lines.len()
    }
}

impl Peer {
    fn gives(&self) -> bool {
        self.is_live_member() || self.kind == Kind::Giver
    }

    /// What it writes, where it has told so.
    fn present_slice(&self) -> Option<SliceId> {
        let told = self.told.as_ref()?;
        Some(SliceId::of(self.node, told.writer))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn times(compared: &mut Compared, (theirs, ours): (u64, u64), lines: Option<bool>) -> Vec<i32> {
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
        let mut compared = Compared::new(8);
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
    fn what_is_compared_is_bounded() {
        let mut compared = Compared::new(3);
        for boot in 0..99 {
            assert!(compared.hear(Boot(boot), entry(1), entry(2)));
        }
        assert_eq!(compared.sums.len(), 3);
    }
}
