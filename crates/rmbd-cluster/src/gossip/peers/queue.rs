//! The queue of what is to go to one peer: questions, answers, and groups that it asked for.

use std::collections::{BTreeSet, VecDeque};
use std::ops::Bound::{Excluded, Unbounded};
use std::time::Duration;

use super::about::{AboutPeer, Ourselves};
use super::digest_line::DigestLine;
use crate::gossip::ages::AgedGroupsOf;
use crate::gossip::limits::ClusterLimits;
use crate::gossip::sketches::Sketches;
use crate::gossip::state::{Agreement, Traffic};
use crate::gossip::top::versions;
use rmbd_proto::cluster::{
    CatalogueLine, DIGEST_LINE_BYTES_MAX, DigestEntry, FrameWriter, Listed, PARDON_BUCKETS,
    SIBLING_BUCKETS, SliceId,
};
use rmbd_proto::{SketchNumber, Writer};

/// Hashes of sections are worth a frame from here on: 32 of them.
const SECTIONS_ROOM_MIN: usize = 300;
/// The sums of all buckets need so much: they are not worked out where they do not fit.
const BUCKETS_ROOM_MIN: usize = 8 * SIBLING_BUCKETS + 32;
/// Bytes of a page of a catalogue beside its lines, at most.
const PAGE_HEAD_BYTES_MAX: usize = 3 + 4 * 5 + 1;
/// Bytes of the history that stands before it at most: kind, length, milliseconds.
const HISTORY_BYTES_MAX: usize = 3 + 10;

/// A question or an answer. What it tells of slices is read when it is written, so that it is never old.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum QueuedFrame {
    /// Tells what we are, with our sketches from number `first` on; where it `asks`, the peer is to tell the same.
    About { asks: bool, first: u32 },
    /// Tells lines of our digest, also where we have nothing of a slice.
    Digest { lines: Vec<DigestLine> },
    /// Asks for the buckets of its siblings.
    BucketsAsked { slice: SliceId },
    /// Tells the buckets of our siblings.
    Buckets { slice: SliceId },
    /// Asks for lines of its siblings.
    LinesAsked {
        slice: SliceId,
        buckets: u64,
        first: Writer,
    },
    /// Asks for its digest.
    DigestAsked,
    /// Asks for its digest of one sketch.
    SketchAsked { sketch: SketchNumber },
    /// Asks for a page of its catalogue.
    CatalogueAsked { first: CatalogueLine },
    /// Tells a page of our catalogue.
    Catalogue { first: CatalogueLine },
    /// Says that we have no room for this slice.
    NotHeld { slice: SliceId },
    /// Says that we had no room for this slice, and have some now.
    Wanted { slice: SliceId },
    /// Asks for hashes of sections.
    SectionsAsked { slice: SliceId, first: u32 },
    /// Tells hashes of our sections.
    Sections { slice: SliceId, first: u32 },
    /// Asks for the hashes of a section's groups.
    GroupHashesAsked { slice: SliceId, section: u32 },
    /// Tells the hashes of a section's groups.
    GroupHashes { slice: SliceId, section: u32 },
    /// Tells the sums of our pardons.
    PardonSums { sums: Box<[u64; PARDON_BUCKETS]> },
    /// Asks for pardons.
    PardonsAsked { buckets: u32 },
    /// Tells the sum over our lists of largest keys.
    TopSum { sum: u64 },
    /// Tells our versions of lists.
    TopOffered { lists: Vec<SliceId> },
    /// Asks for what is later of lists than our versions.
    TopAsked { lists: Vec<SliceId> },
    /// Asks for groups.
    Pull { slice: SliceId, groups: Vec<u32> },
}

/// Frames and groups that wait for one peer.
#[derive(Debug)]
pub(super) struct Queue {
    limits: ClusterLimits,
    frames: VecDeque<QueuedFrame>,
    served: BTreeSet<(SliceId, u32)>,
    /// The slice of which groups went out last; the next one's turn is after it.
    turn: SliceId,
}

/// What frames are written from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Telling<'a> {
    pub(super) now: Duration,
    pub(super) ourselves: &'a Ourselves,
    pub(super) sketches: &'a Sketches,
    /// The receiver, where it has told all of itself.
    pub(super) about: Option<&'a AboutPeer>,
}

impl Queue {
    pub(super) fn new(limits: ClusterLimits) -> Self {
        Self {
            limits,
            frames: VecDeque::new(),
            served: BTreeSet::new(),
            turn: SliceId::default(),
        }
    }

    /// Adds a frame. One that waits already is not added again, nor is one for which there is no room: whoever wants
    /// it asks again.
    pub(super) fn push(&mut self, frame: QueuedFrame) {
        if self.frames.len() < self.limits.questions && !self.frames.contains(&frame) {
            self.frames.push_back(frame);
        }
    }

    /// Adds lines of our digest, in as many frames as they take.
    pub(super) fn push_digest(&mut self, lines: &[DigestLine]) {
        for lines in lines.chunks(self.limits.digest_lines) {
            let lines = lines.to_vec();
            self.push(QueuedFrame::Digest { lines });
        }
    }

    /// Adds groups that were asked for, as far as there is room.
    pub(super) fn serve(&mut self, slice: SliceId, groups: impl Iterator<Item = u32>) {
        for group in groups {
            if self.served.len() >= self.limits.groups_served {
                return;
            }
            self.served.insert((slice, group));
        }
    }

    pub(super) fn has_frames(&self) -> bool {
        !self.frames.is_empty()
    }

    pub(super) fn has_groups(&self) -> bool {
        !self.served.is_empty()
    }

    pub(super) fn clear(&mut self) {
        self.frames.clear();
        self.served.clear();
    }

    #[cfg(test)]
    pub(super) fn keep_abouts(&mut self) {
        let is_about = |frame: &QueuedFrame| matches!(frame, QueuedFrame::About { .. });
        self.frames.retain(is_about);
    }

    /// Writes as many frames as fit behind what is `written` in the same datagram already.
    pub(super) fn write_frames(
        &mut self,
        telling: &Telling<'_>,
        writer: &mut FrameWriter<'_>,
        written: &mut Traffic,
    ) {
        while let Some(frame) = self.frames.front() {
            let before = writer.room();
            if !frame.write(telling, self.limits.digest_lines, writer) {
                // One that does not fit an otherwise empty datagram never will.
                if written.is_empty() {
                    self.frames.pop_front();
                }
                break;
            }
            let bytes = (before - writer.room()) as u64;
            match frame {
                QueuedFrame::Pull { .. } => written.pulls += bytes,
                QueuedFrame::About { .. } => written.membership += bytes,
                QueuedFrame::PardonSums { .. } | QueuedFrame::PardonsAsked { .. } => {
                    written.pardons += bytes;
                }
                QueuedFrame::TopSum { .. }
                | QueuedFrame::TopOffered { .. }
                | QueuedFrame::TopAsked { .. } => written.top += bytes,
                _ => written.digests += bytes,
            }
            self.frames.pop_front();
        }
    }

    /// Writes groups of one slice, as many as fit. Slices take turns.
    pub(super) fn write_groups(
        &mut self,
        now: Duration,
        sketches: &Sketches,
        writer: &mut FrameWriter<'_>,
        written: &mut Traffic,
    ) {
        let behind = (Excluded((self.turn, u32::MAX)), Unbounded);
        let next = self.served.range(behind).next();
        let Some(&(slice, _)) = next.or_else(|| self.served.first()) else {
            return;
        };
        let Some(cells) = sketches.cells(&slice) else {
            self.served.retain(|(other, _)| *other != slice);
            return;
        };
        let before = writer.room();
        if let Some(aged) = sketches
            .get(slice.sketch)
            .and_then(|slices| AgedGroupsOf::since(slices, &slice, 0, now))
        {
            self.write_aged_groups(&slice, aged, writer);
            written.pulls += (before - writer.room()) as u64;
            return;
        }
        let served = &mut self.served;
        let mut packed = Vec::new();
        // Groups that it does not ask for are still there for the next datagram.
        let _ = writer.groups(&slice, sketches.version(&slice), |writer| {
            while let Some(&next) = served.range((slice, 0)..=(slice, u32::MAX)).next() {
                let (_, group) = next;
                // One that does not exist is not answered.
                if cells.pack_group(group, &mut packed) && !writer.push_packed(group, &packed) {
                    break;
                }
                served.remove(&next);
            }
        });
        if writer.room() < before {
            self.turn = slice;
        }
        written.pulls += (before - writer.room()) as u64;
    }

    fn write_aged_groups(
        &mut self,
        slice: &SliceId,
        mut aged: AgedGroupsOf<'_>,
        writer: &mut FrameWriter<'_>,
    ) {
        // One that does not exist is not answered.
        (self.served).retain(|(other, group)| other != slice || aged.has(*group));
        let served = self.served.range((*slice, 0)..=(*slice, u32::MAX));
        let written = aged.write(writer, served.map(|&(_, group)| group));
        if written.listed != Listed::Some {
            return;
        }
        let rest_from = written.rest_from;
        (self.served).retain(|(other, group)| {
            other != slice || rest_from.is_some_and(|rest_from| *group >= rest_from)
        });
    }
}

impl QueuedFrame {
    /// The line of our digest that tells of one slice.
    pub(crate) fn having(slice: SliceId) -> Self {
        let lines = vec![DigestLine::Slice(slice)];
        Self::Digest { lines }
    }

    /// False, and nothing done, where it does not fit. What we do not have is not answered.
    fn write(
        &self,
        telling: &Telling<'_>,
        page_lines: usize,
        writer: &mut FrameWriter<'_>,
    ) -> bool {
        let sketches = telling.sketches;
        match self {
            Self::About { asks, first } => telling.ourselves.write(*asks, *first, writer),
            Self::Digest { lines } => DigestLine::write_all(lines, sketches, writer),
            Self::BucketsAsked { slice } => writer.buckets_asked(slice),
            Self::Buckets { slice } => {
                writer.room() >= BUCKETS_ROOM_MIN
                    && writer.buckets(slice, &sketches.sibling_buckets(slice))
            }
            Self::LinesAsked {
                slice,
                buckets,
                first,
            } => writer.lines_asked(slice, *buckets, *first),
            Self::DigestAsked => writer.digest_asked(),
            Self::SketchAsked { sketch } => writer.sketch_asked(*sketch),
            Self::CatalogueAsked { first } => writer.catalogue_asked(*first),
            Self::Catalogue { first } => write_catalogue(telling, *first, page_lines, writer),
            Self::NotHeld { slice } => writer.not_held(slice),
            Self::Wanted { slice } => writer.wanted(slice),
            Self::SectionsAsked { slice, first } => writer.sections_asked(slice, *first),
            Self::Sections { slice, first } => write_sections(sketches, slice, *first, writer),
            Self::GroupHashesAsked { slice, section } => writer.group_hashes_asked(slice, *section),
            Self::GroupHashes { slice, section } => {
                let hashes = sketches.group_hashes(slice, *section);
                let version = sketches.version(slice);
                hashes.is_empty() || writer.group_hashes(slice, version, *section, &hashes)
            }
            Self::PardonSums { sums } => writer.pardon_sums(sums),
            Self::PardonsAsked { buckets } => writer.pardons_asked(*buckets),
            Self::TopSum { sum } => writer.top_sum(*sum),
            Self::TopOffered { lists } => writer.top_offered(&versions(sketches, lists)),
            Self::TopAsked { lists } => writer.top_asked(&versions(sketches, lists)),
            Self::Pull { slice, groups } => writer.pull(slice, groups.iter().copied()) > 0,
        }
    }
}

fn write_catalogue(
    telling: &Telling<'_>,
    first: CatalogueLine,
    page_lines: usize,
    writer: &mut FrameWriter<'_>,
) -> bool {
    if writer.room() < HISTORY_BYTES_MAX + PAGE_HEAD_BYTES_MAX + page_lines * DIGEST_LINE_BYTES_MAX
    {
        return false;
    }
    let mut lines = catalogue_from(telling, first);
    let page: Vec<DigestEntry> = lines
        .by_ref()
        .take(page_lines)
        .map(|(_, line)| line)
        .collect();
    let next = lines.next().map(|(place, _)| place);
    // In the same datagram, so that nobody gets the page alone.
    let known_ms = telling.sketches.known_ms(telling.now);
    writer.history(known_ms) && writer.catalogue(first, next, &page)
}

/// The lines of our catalogue from one on: of sketches that both have, and of slices that are not empty.
fn catalogue_from<'a>(
    telling: &Telling<'a>,
    first: CatalogueLine,
) -> impl Iterator<Item = (CatalogueLine, DigestEntry)> + 'a {
    let about = telling.about;
    let is_same =
        move |sketch| about.is_some_and(|about| about.agreement(sketch) == Agreement::Same);
    let sketches = telling.sketches.iter();
    let told = sketches.filter(move |slices| {
        let sketch = slices.own_slice().sketch;
        sketch >= first.sketch && is_same(sketch)
    });
    told.flat_map(move |slices| {
        let sketch = slices.own_slice().sketch;
        let from = if sketch == first.sketch {
            first.line
        } else {
            0
        };
        let numbered = (from..).zip(slices.digests_from(from as usize));
        let written = numbered.filter(|(_, line)| line.version > 0 || line.root != 0);
        written.map(move |(line, entry)| (CatalogueLine { sketch, line }, entry))
    })
}

fn write_sections(
    sketches: &Sketches,
    slice: &SliceId,
    first: u32,
    writer: &mut FrameWriter<'_>,
) -> bool {
    let hashes = sketches.section_hashes(slice).get(first as usize..);
    let version = sketches.version(slice);
    match hashes {
        None | Some([]) => true,
        Some(hashes) => {
            writer.room() >= SECTIONS_ROOM_MIN && writer.sections(slice, version, first, hashes)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLICE: SliceId = SliceId::of(1, Writer(2));

    #[test]
    fn what_waits_is_bounded_and_waits_once() {
        let limits = ClusterLimits {
            questions: 2,
            groups_served: 3,
            digest_lines: 1,
            ..ClusterLimits::default()
        };
        let mut queue = Queue::new(limits);
        queue.push(QueuedFrame::DigestAsked);
        queue.push(QueuedFrame::DigestAsked);
        assert_eq!(queue.frames.len(), 1);
        queue.push_digest(&[DigestLine::Slice(SLICE); 9]);
        let first = CatalogueLine::default();
        queue.push(QueuedFrame::CatalogueAsked { first });
        let having = QueuedFrame::having(SLICE);
        assert_eq!(queue.frames, [QueuedFrame::DigestAsked, having]);
        queue.serve(SLICE, [5, 5, 4, 3, 2].into_iter());
        assert_eq!(queue.served.len(), 3);
        queue.clear();
        assert!(!queue.has_frames() && !queue.has_groups());
    }
}
