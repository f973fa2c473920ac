//! Frames that are about slices, and acks. Whether they may be taken was asked before.

use std::ops::RangeInclusive;
use std::time::Duration;

use rand::RngExt;

use super::Cluster;
use crate::gossip::ages::marks_of;
use crate::gossip::peers::{Peer, QueuedFrame};
use crate::gossip::repair::{Group, GroupHashes, Sections, differing_buckets};
use crate::gossip::sketches::OurSlice;
use crate::gossip::transport::Sender;
use rmbd_proto::Writer;
use rmbd_proto::cluster::{
    AgedGroup, AgedGroupsReader, CatalogueLine, Entries, Frame, GROUP_CELLS, GroupsReader, SliceId,
};
use rmbd_store::{GroupAges, SliceRefused};

impl Cluster {
    pub(super) fn take_slice_frame(&mut self, now: Duration, sender: Sender, frame: Frame<'_>) {
        match frame {
            Frame::Ack { channel, ranges } => self.take_ack(now, sender, channel, ranges),
            Frame::Cells { slice, cells } => self.merge(sender, &slice, cells),
            Frame::Groups {
                slice,
                version,
                groups,
            } => self.take_groups(now, sender, slice, version, groups),
            Frame::AgedGroups {
                slice,
                version,
                groups,
            } => self.take_aged_groups(now, sender, slice, version, groups),
            Frame::Complete {
                slice,
                base,
                version,
            } => {
                if !self.ourselves.writes(&slice) {
                    self.sketches.complete(&slice, base, version);
                }
            }
            Frame::SectionsAsked { slice, first } => {
                self.answer_of(now, sender, slice, QueuedFrame::Sections { slice, first });
            }
            Frame::GroupHashesAsked { slice, section } => {
                self.answer_of(
                    now,
                    sender,
                    slice,
                    QueuedFrame::GroupHashes { slice, section },
                );
            }
            Frame::Top { slice, list } => self.take_top(sender, slice, list),
            Frame::Pull { slice, groups } => {
                self.serve(now, sender, slice, groups.flatten());
            }
            Frame::Sections {
                slice,
                version,
                first,
                hashes,
            } => {
                let theirs = Sections {
                    version,
                    first,
                    hashes,
                };
                if self.ourselves.writes(&slice) {
                    return self.take_sections_of_ours(now, sender, &slice, theirs);
                }
                let (ourselves, sketches) = (&self.ourselves, &self.sketches);
                self.repair
                    .take_sections(now, ourselves, sketches, sender.boot, &slice, theirs);
            }
            Frame::GroupHashes {
                slice,
                version,
                section,
                hashes,
            } => {
                let theirs = GroupHashes {
                    version,
                    section,
                    hashes,
                };
                self.repair
                    .take_groups(now, &self.sketches, sender.boot, &slice, theirs);
            }
            Frame::CatalogueAsked { first } => {
                if self.may_take_any(now, sender) {
                    self.answer(now, sender, QueuedFrame::Catalogue { first });
                }
            }
            Frame::History { known_ms } => {
                if self.may_take_any(now, sender) {
                    self.readiness.take_history(now, sender.boot, known_ms);
                }
            }
            Frame::Catalogue {
                first,
                next,
                entries,
            } => {
                if self.may_take_any(now, sender) {
                    self.take_page(sender, first, next, entries);
                    self.take_digest(now, sender, entries);
                }
            }
            Frame::NotHeld { slice } => {
                if let Some((peer, ours)) = self.peer_of_ours(sender, &slice) {
                    peer.progress_mut().refuse(ours);
                }
            }
            Frame::Wanted { slice } => {
                if let Some((peer, ours)) = self.peer_of_ours(sender, &slice) {
                    peer.progress_mut().want(ours);
                }
            }
            Frame::BucketsAsked { slice } => {
                self.answer(now, sender, QueuedFrame::Buckets { slice });
            }
            Frame::Buckets { slice, sums } => {
                let buckets = differing_buckets(&self.sketches, &slice, sums);
                self.ask_for_lines(sender, slice, buckets);
            }
            Frame::LinesAsked {
                slice,
                buckets,
                first,
            } => self.tell_lines(sender, &slice, buckets, first),
            // Whoever takes frames has taken these.
            Frame::Membership { .. }
            | Frame::Digest { .. }
            | Frame::DigestAsked
            | Frame::Siblings { .. }
            | Frame::Contact { .. }
            | Frame::ContactAnswered { .. }
            | Frame::About { .. }
            | Frame::SketchSums { .. }
            | Frame::SketchAsked { .. }
            | Frame::Pardons { .. }
            | Frame::PardonSums { .. }
            | Frame::PardonsAsked { .. }
            | Frame::TopSum { .. }
            | Frame::TopOffered { .. }
            | Frame::TopAsked { .. }
            | Frame::UnknownSketch { .. } => {}
        }
    }

    fn take_groups(
        &mut self,
        now: Duration,
        sender: Sender,
        slice: SliceId,
        version: u64,
        mut groups: GroupsReader<'_>,
    ) {
        let mut cells = Vec::with_capacity(GROUP_CELLS);
        while let Some(number) = groups.next_group(&mut cells) {
            self.merge(sender, &slice, cells.iter().copied());
            let group = Group {
                version,
                number,
                cells: &cells,
            };
            self.repair.arrived(now, sender.boot, &slice, &group);
        }
    }

    /// Takes groups with their ages; `now` was read after they had been received.
    fn take_aged_groups(
        &mut self,
        now: Duration,
        sender: Sender,
        slice: SliceId,
        version: u64,
        mut groups: AgedGroupsReader<'_>,
    ) {
        let is_live = self.peers.is_its_own(sender.boot, &slice);
        let marks = marks_of(groups.ages(), now);
        let mut aged = AgedGroup::default();
        while let Some(number) = groups.next_group(&mut aged) {
            let ages = GroupAges {
                fold: groups.fold(),
                marks: &marks,
                increments: &aged.increments,
            };
            let given = aged.cells.iter().copied();
            let merged = (self.sketches).merge_aged(&slice, number, given, &ages, is_live);
            if let Err(why) = merged {
                self.note_refused(sender, &slice, why);
            }
            let group = Group {
                version,
                number,
                cells: &aged.cells,
            };
            self.repair.arrived(now, sender.boot, &slice, &group);
        }
    }

    /// Merges cells of a slice. Of what its writer sends itself more will come.
    fn merge(&mut self, sender: Sender, slice: &SliceId, cells: impl Iterator<Item = (u32, u64)>) {
        let merged = if self.peers.is_its_own(sender.boot, slice) {
            self.sketches.merge_live(slice, cells)
        } else {
            self.sketches.merge(slice, cells)
        };
        if let Err(why) = merged {
            self.note_refused(sender, slice, why);
        }
    }

    fn note_refused(&mut self, sender: Sender, slice: &SliceId, why: SliceRefused) {
        self.refusals.count(label(&why));
        if !self.sketches.is_refused(slice) {
            return;
        }
        let peer = self.peers.get_mut(sender.boot);
        if let Some(peer) = peer.filter(|peer| peer.writes(slice)) {
            // Whoever pushes it shall not take it for having arrived.
            peer.queue(QueuedFrame::NotHeld { slice: *slice });
        }
        self.events.slice_refused(*slice, why);
    }

    fn take_ack(
        &mut self,
        now: Duration,
        sender: Sender,
        channel: u64,
        ranges: impl Iterator<Item = RangeInclusive<u64>>,
    ) {
        let Some(peer) = self.peers.get(sender.boot) else {
            return;
        };
        if self.outbox.is_channel_of(peer.address(), channel) {
            self.peers
                .take_ack(now, sender.boot, ranges, &self.sketches);
            self.note_progress(now, sender.boot);
        }
    }

    /// A page of a catalogue has come. Of sketches that are not exchanged nothing is waited for.
    fn take_page(
        &mut self,
        sender: Sender,
        first: CatalogueLine,
        next: Option<CatalogueLine>,
        entries: Entries<'_>,
    ) {
        let Some(peer) = self.peers.get(sender.boot) else {
            return;
        };
        let lines = entries.map(|entry| {
            let is_awaited = peer.exchanges(entry.slice.sketch);
            (entry.slice, if is_awaited { entry.version } else { 0 })
        });
        self.readiness.take_page(sender.boot, first, next, lines);
    }

    fn answer(&mut self, now: Duration, sender: Sender, answer: QueuedFrame) {
        if let Some(peer) = self.peer(now, sender) {
            peer.queue(answer);
        }
    }

    /// Answers a question about a slice, if it is here; else says that it is not.
    fn answer_of(&mut self, now: Duration, sender: Sender, slice: SliceId, answer: QueuedFrame) {
        if self.sketches.has(&slice) {
            self.answer(now, sender, answer);
        } else {
            self.answer(now, sender, QueuedFrame::having(slice));
        }
    }

    /// Notes groups that are asked for, if the slice is here; else says that it is not. Of our own slice nothing goes
    /// out while its name is open.
    fn serve(
        &mut self,
        now: Duration,
        sender: Sender,
        slice: SliceId,
        groups: impl Iterator<Item = u32>,
    ) {
        if self.ourselves.writes(&slice) && self.naming.is_open(slice.sketch) {
            return;
        }
        if !self.sketches.has(&slice) {
            self.answer(now, sender, QueuedFrame::having(slice));
        } else if let Some(peer) = self.peer(now, sender) {
            peer.serve(slice, groups);
        }
    }

    /// Asks for lines of the buckets that differ: as many as fit a round, from any writer on.
    fn ask_for_lines(&mut self, sender: Sender, slice: SliceId, buckets: u64) {
        if buckets == 0 {
            return;
        }
        let first = Writer(self.random.random());
        if let Some(peer) = self.peers.get_mut(sender.boot) {
            peer.queue(QueuedFrame::LinesAsked {
                slice,
                buckets,
                first,
            });
        }
    }

    /// Somebody who is known, and speaks of the slice that we write.
    pub(super) fn peer_of_ours(
        &mut self,
        sender: Sender,
        slice: &SliceId,
    ) -> Option<(&mut Peer, OurSlice)> {
        let ours = self.sketches.our_slice(slice.sketch)?;
        let is_ours = self.ourselves.writes(slice);
        let peer = self.peers.get_mut(sender.boot).filter(|_| is_ours)?;
        Some((peer, ours))
    }
}

/// A label for counters.
fn label(refused: &SliceRefused) -> &'static str {
    match refused {
        SliceRefused::OwnSlice => "own_slice",
        SliceRefused::TooManyOrigins { .. } => "too_many_origins",
        SliceRefused::Memory { .. } => "memory_limit",
        SliceRefused::OutOfMemory(_) => "out_of_memory",
        SliceRefused::Unsupported => "unsupported_slice",
        SliceRefused::IndexRange { .. } => "cell_out_of_range",
    }
}
