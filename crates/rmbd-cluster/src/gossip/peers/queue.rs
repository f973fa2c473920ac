//! The queue of what is to go to one peer: questions, answers, and groups that it asked for.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use super::about::Ourselves;
use super::digest_line::DigestLine;
use crate::gossip::ages::AgedGroupsOf;
use crate::gossip::limits::ClusterLimits;
use crate::gossip::state::Traffic;
use rmbd_proto::Writer;
use rmbd_proto::cluster::{DIGEST_LINE_BYTES_MAX, FrameWriter, Listed, SIBLING_BUCKETS, SliceId};
use rmbd_store::Slices;

/// Hashes of sections are worth a frame from here on: 32 of them.
const SECTIONS_ROOM_MIN: usize = 300;
/// The sums of all buckets need so much: they are not worked out where they do not fit.
const BUCKETS_ROOM_MIN: usize = 8 * SIBLING_BUCKETS + 32;

/// A question or an answer. What it tells of slices is read when it is written, so that it is never old.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum QueuedFrame {
    /// Tells what we are; where it `asks`, the peer is to tell the same.
    About { asks: bool },
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
    /// Asks for a page of its catalogue.
    CatalogueAsked { first: u32 },
    /// Tells a page of our catalogue.
    Catalogue { first: u32 },
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
    /// Asks for groups.
    Pull { slice: SliceId, groups: Vec<u32> },
}

/// Frames and groups that wait for one peer.
#[derive(Debug)]
pub(super) struct Queue {
    limits: ClusterLimits,
    frames: VecDeque<QueuedFrame>,
    served: BTreeSet<(SliceId, u32)>,
}

impl Queue {
    pub(super) fn new(limits: ClusterLimits) -> Self {
        Self {
            limits,
            frames: VecDeque::new(),
            served: BTreeSet::new(),
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

    /// Writes as many frames as fit behind what is `written` in the same datagram already.
    pub(super) fn write_frames(
        &mut self,
        ourselves: &Ourselves,
        slices: &Slices,
        writer: &mut FrameWriter<'_>,
        written: &mut Traffic,
    ) {
        while let Some(frame) = self.frames.front() {
            let before = writer.room();
            if !frame.write(ourselves, slices, self.limits.digest_lines, writer) {
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
                _ => written.digests += bytes,
            }
            self.frames.pop_front();
        }
    }

    /// Writes groups of one slice, as many as fit.
    pub(super) fn write_groups(
        &mut self,
        now: Duration,
        slices: &Slices,
        writer: &mut FrameWriter<'_>,
        written: &mut Traffic,
    ) {
        let Some(&(slice, _)) = self.served.first() else {
            return;
        };
        let Some(cells) = slices.cells(&slice) else {
            self.served.retain(|(other, _)| *other != slice);
            return;
        };
        let before = writer.room();
        if let Some(aged) = AgedGroupsOf::since(slices, &slice, 0, now) {
            self.write_aged_groups(&slice, aged, writer);
            written.pulls += (before - writer.room()) as u64;
            return;
        }
        let served = &mut self.served;
        let mut packed = Vec::new();
        // Groups that it does not ask for are still there for the next datagram.
        let _ = writer.groups(&slice, slices.version(&slice), |writer| {
            while let Some(&(next, group)) = served.first() {
                if next != slice {
                    break;
                }
                // One that does not exist is not answered.
                if cells.pack_group(group, &mut packed) && !writer.push_packed(group, &packed) {
                    break;
                }
                served.pop_first();
            }
        });
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
        ourselves: &Ourselves,
        slices: &Slices,
        page_lines: usize,
        writer: &mut FrameWriter<'_>,
    ) -> bool {
        match self {
            Self::About { asks } => ourselves.write(*asks, writer),
            Self::Digest { lines } => DigestLine::write_all(lines, slices, writer),
            Self::BucketsAsked { slice } => writer.buckets_asked(slice),
            Self::Buckets { slice } => {
                writer.room() >= BUCKETS_ROOM_MIN
                    && writer.buckets(slice, &slices.sibling_buckets(slice))
            }
            Self::LinesAsked {
                slice,
                buckets,
                first,
            } => writer.lines_asked(slice, *buckets, *first),
            Self::DigestAsked => writer.digest_asked(),
            Self::CatalogueAsked { first } => writer.catalogue_asked(*first),
            Self::Catalogue { first } => write_catalogue(slices, *first, page_lines, writer),
            Self::NotHeld { slice } => writer.not_held(slice),
            Self::Wanted { slice } => writer.wanted(slice),
            Self::SectionsAsked { slice, first } => writer.sections_asked(slice, *first),
            Self::Sections { slice, first } => write_sections(slices, slice, *first, writer),
            Self::GroupHashesAsked { slice, section } => writer.group_hashes_asked(slice, *section),
            Self::GroupHashes { slice, section } => {
                let hashes = slices.group_hashes(slice, *section);
                let version = slices.version(slice);
                hashes.is_empty() || writer.group_hashes(slice, version, *section, &hashes)
            }
            Self::Pull { slice, groups } => writer.pull(slice, groups.iter().copied()) > 0,
        }
    }
}

fn write_catalogue(
    slices: &Slices,
    first: u32,
    page_lines: usize,
    writer: &mut FrameWriter<'_>,
) -> bool {
    let fits = writer.room() >= page_lines * DIGEST_LINE_BYTES_MAX;
    if fits {
        let total = u32::try_from(slices.digest_lines()).unwrap_or(u32::MAX);
        let lines = slices.digests_from(first as usize).take(page_lines);
        writer.catalogue(first, total, lines);
    }
    fits
}

fn write_sections(
    slices: &Slices,
    slice: &SliceId,
    first: u32,
    writer: &mut FrameWriter<'_>,
) -> bool {
    let hashes = slices.section_hashes(slice).get(first as usize..);
    let version = slices.version(slice);
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
        queue.push(QueuedFrame::CatalogueAsked { first: 0 });
        let having = QueuedFrame::having(SLICE);
        assert_eq!(queue.frames, [QueuedFrame::DigestAsked, having]);
        queue.serve(SLICE, [5, 5, 4, 3, 2].into_iter());
        assert_eq!(queue.served.len(), 3);
        queue.clear();
        assert!(!queue.has_frames() && !queue.has_groups());
    }
}
