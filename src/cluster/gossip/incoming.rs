//! What comes in: datagrams, frame by frame.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::claims::Relation;
use super::peer::{Kind, Peer, Question};
use super::repair::{Group, GroupHashes, Sections};
use super::state::ClusterEvent;
use super::{Cluster, EVENTS_MAX, From, STRANGERS_MAX};
use crate::cluster::seal::Refused;
use crate::replica::SliceRefused;
use crate::wire::cluster::{
    DATAGRAM_BYTES_MAX, Entries, Frame, SECTION_GROUPS, SliceId, frames, head,
};

impl Cluster {
    /// Takes a datagram; it is decrypted in place. Nothing in it can panic, and what does not come from
    /// the cluster changes nothing but counters.
    pub fn handle(&mut self, now: Duration, from: SocketAddr, datagram: &mut [u8]) {
        let bytes = datagram.len();
        if bytes > DATAGRAM_BYTES_MAX {
            return self.refuse("too_long");
        }
        let opened = match self.openers.open(now, datagram) {
            Ok(opened) => opened,
            Err(refused) => return self.note_refused(from, refused),
        };
        let (channel, number) = (opened.channel, opened.number);
        let Some((head, rest)) = head(opened.payload) else {
            return self.refuse("malformed");
        };
        if channel.boot == self.boot {
            return self.refuse("own_datagram");
        }
        let from = From {
            boot: channel.boot,
            node: head.node,
            address: head.address,
        };
        if head.to_boot != self.boot && !self.take_contact(now, from, head.to_boot, rest) {
            return self.refuse("other_boot");
        }
        self.received.datagrams += 1;
        self.received.bytes += bytes as u64;
        self.received.overhead += (bytes - rest.len()) as u64;
        if head.to_boot != self.boot {
            return;
        }
        if let Some(peer) = self.peers.get_mut(&from.boot) {
            peer.heard_at = Some(now);
            peer.address = from.address;
            peer.bytes_received += bytes as u64;
        }
        self.hear_target(now, from);
        if self.take_frames(now, from, rest)
            && let Some(peer) = self.peer(now, from)
        {
            peer.received.note(now, channel.id, number);
        }
        self.repair_step(now);
        self.leave_step(now);
    }

    /// Takes all frames; says whether they ask for an ack.
    fn take_frames(&mut self, now: Duration, from: From, rest: &[u8]) -> bool {
        let mut asks_for_ack = false;
        let mut carried = None;
        let mut is_all_taken = true;
        let ourselves = Arc::clone(&self.ourselves);
        let mut all = frames(rest, |sketch| ourselves.cells(sketch));
        let mut unread = rest.len();
        while let Some(frame) = all.next() {
            let length = (unread - all.unread()) as u64;
            unread = all.unread();
            let Ok(frame) = frame else {
                self.refuse("malformed");
                break;
            };
            let kind = match frame {
                Frame::Membership { .. }
                | Frame::Contact { .. }
                | Frame::ContactAnswered { .. }
                | Frame::About { .. } => &mut self.received.membership,
                Frame::Ack { .. } => &mut self.received.acks,
                Frame::Cells { .. } | Frame::Complete { .. } => &mut self.received.pushes,
                Frame::Groups { .. } | Frame::Pull { .. } => &mut self.received.pulls,
                _ => &mut self.received.digests,
            };
            *kind += length;
            asks_for_ack |= matches!(
                frame,
                Frame::Cells { .. } | Frame::Groups { .. } | Frame::Complete { .. }
            );
            if let Frame::Cells { slice, .. } | Frame::Groups { slice, .. } = frame {
                carried = Some(slice);
            }
            match frame {
                Frame::Membership { message } => self.take_membership(now, message),
                Frame::Digest { entries } => self.take_digest(now, from, entries),
                Frame::DigestAsked => self.send_digest(now, from),
                Frame::Siblings { entries } => self.take_siblings(now, from, entries),
                Frame::ContactAnswered { purpose } => {
                    self.take_contact_answered(now, from, purpose);
                }
                Frame::About {
                    asks,
                    writer,
                    sketches,
                } => self.take_about(now, from, asks, writer, sketches),
                frame if self.may_take_frame(now, from, &frame) => {
                    self.take_data(now, from, frame);
                }
                _ => is_all_taken = false,
            }
        }
        // What was not taken, or there is no room for, has not arrived.
        let has_room = carried.is_none_or(|slice| !self.slices.is_refused(&slice));
        asks_for_ack && is_all_taken && has_room
    }

    /// Whether a frame is of a sketch that both have, and what only a slice's writer says comes from there.
    fn may_take_frame(&mut self, now: Duration, from: From, frame: &Frame<'_>) -> bool {
        let Some(slice) = frame.slice() else {
            return true;
        };
        if !self.may_take(now, from, slice.sketch) {
            return false;
        }
        let is_writers = matches!(frame, Frame::Cells { .. } | Frame::Complete { .. });
        if is_writers && !self.is_its_own(from.boot, &slice) {
            self.refuse("not_its_slice");
            return false;
        }
        true
    }

    /// Of what its writer sends itself more will come.
    fn merge(
        &mut self,
        from: From,
        slice: &SliceId,
        cells: impl Iterator<Item = (u32, u64)>,
    ) -> Result<u64, SliceRefused> {
        if self.is_its_own(from.boot, slice) {
            self.slices.merge_live(slice, cells)
        } else {
            self.slices.merge(slice, cells)
        }
    }

    fn take_membership(&mut self, now: Duration, message: &[u8]) {
        if self.membership.handle(now, message).is_err() {
            self.refuse("membership");
        }
        self.follow_membership(now);
    }

    fn take_data(&mut self, now: Duration, from: From, frame: Frame<'_>) {
        match frame {
            Frame::Ack { channel, ranges } => self.take_ack(now, from, channel, ranges),
            Frame::Cells { slice, cells } => {
                let merged = self.merge(from, &slice, cells);
                self.note_merged(from, &slice, merged);
            }
            Frame::Groups {
                slice,
                version,
                mut groups,
            } => {
                let mut cells = std::mem::take(&mut self.group);
                while let Some(number) = groups.next_group(&mut cells) {
                    let merged = self.merge(from, &slice, cells.iter().copied());
                    self.note_merged(from, &slice, merged);
                    let group = Group {
                        version,
                        number,
                        cells: &cells,
                    };
                    self.repair.arrived(now, from.boot, &slice, &group);
                }
                self.group = cells;
            }
            Frame::Complete {
                slice,
                base,
                version,
            } => {
                if slice != self.own {
                    self.slices.complete(&slice, base, version);
                }
            }
            Frame::SectionsAsked { slice, first } => {
                self.answer_of(now, from, slice, Question::SectionsAnswer { slice, first });
            }
            Frame::GroupHashesAsked { slice, section } => {
                self.answer_of(now, from, slice, Question::GroupsAnswer { slice, section });
            }
            Frame::Pull { slice, groups } => {
                if !self.slices.has(&slice) {
                    self.answer(now, from, Question::having(slice));
                } else if let Some(peer) = self.peer(now, from) {
                    peer.serve(slice, groups.flatten());
                }
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
                    sections: self.sections(),
                };
                self.repair
                    .take_sections(now, &self.slices, from.boot, &slice, theirs);
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
                    .take_groups(now, &self.slices, from.boot, &slice, theirs);
            }
            Frame::CatalogueAsked { first } => {
                if self.may_take(now, from, self.own.sketch) {
                    self.answer(now, from, Question::Catalogue { first });
                }
            }
            Frame::Catalogue {
                first,
                total,
                entries,
            } => {
                if self.may_take(now, from, self.own.sketch) {
                    self.take_page(from, first, total, entries);
                    self.take_digest(now, from, entries);
                }
            }
            Frame::NotHeld { slice } => {
                if slice == self.own
                    && let Some(peer) = self.peers.get_mut(&from.boot)
                {
                    peer.push.refuse();
                }
            }
            Frame::Wanted { slice } => {
                if slice == self.own
                    && let Some(peer) = self.peers.get_mut(&from.boot)
                {
                    peer.push.want();
                    peer.push.begin(self.slices.own_version(), self.cells);
                }
            }
            Frame::BucketsAsked { slice } => self.answer(now, from, Question::Buckets { slice }),
            Frame::Buckets { slice, sums } => self.take_buckets(from, slice, sums),
            Frame::LinesAsked {
                slice,
                buckets,
                first,
            } => self.tell_lines(from, &slice, buckets, first),
            Frame::Membership { .. }
            | Frame::Digest { .. }
            | Frame::DigestAsked
            | Frame::Siblings { .. }
            | Frame::Contact { .. }
            | Frame::ContactAnswered { .. }
            | Frame::About { .. }
            | Frame::UnknownSketch { .. } => {}
        }
    }

    fn take_page(&mut self, from: From, first: u32, total: u32, entries: Entries<'_>) {
        let Some(peer) = self.peers.get(&from.boot) else {
            return;
        };
        let lines = entries.map(|entry| {
            let is_awaited = peer.exchanges(entry.slice.sketch);
            (entry.slice, if is_awaited { entry.version } else { 0 })
        });
        self.readiness.take_page(from.boot, first, total, lines);
    }

    fn take_ack(
        &mut self,
        now: Duration,
        from: From,
        channel: u64,
        ranges: impl Iterator<Item = std::ops::RangeInclusive<u64>>,
    ) {
        let Some(peer) = self.peers.get_mut(&from.boot) else {
            return;
        };
        let ours = self.channels.get(&peer.address);
        if ours.is_none_or(|ours| ours.sealer.channel().id != channel) {
            return;
        }
        let outcome = peer.flight.ack(now, ranges);
        self.resends += peer.settle(outcome);
        peer.push.begin(self.slices.own_version(), self.cells);
        self.note_progress(now, from.boot);
    }

    fn take_digest(
        &mut self,
        now: Duration,
        from: From,
        entries: impl Iterator<Item = crate::wire::cluster::DigestEntry>,
    ) {
        let own_version = self.slices.own_version();
        if self.is_target(from.boot) {
            // It is pushed to one way: what it has is its own business, but for our slice.
            if !self.may_take(now, from, self.own.sketch) {
                return;
            }
            let ours = entries.filter(|entry| entry.slice == self.own);
            let heard = ours.map(|entry| entry.version).max();
            if let (Some(heard), Some(peer)) = (heard, self.peers.get_mut(&from.boot)) {
                peer.push.heard(heard, own_version);
            }
            return;
        }
        // Somebody who is no member pushes one way: it will have to be asked.
        if self.peer(now, from).is_none() {
            return;
        }
        for entry in entries {
            if !self.may_take(now, from, entry.slice.sketch) {
                continue;
            }
            if entry.slice == self.own {
                if let Some(peer) = self.peers.get_mut(&from.boot) {
                    peer.push.heard(entry.version, own_version);
                }
                continue;
            }
            let patience = self.repair.patience();
            let sender = self.peers.get(&from.boot);
            let relation = Relation {
                is_pushed: self.is_pushed_by_live(now, patience, &entry.slice),
                never_asks: sender.is_some_and(|sender| sender.kind == Kind::Giver),
                is_its_own: sender.is_some_and(|sender| sender.writes(&entry.slice)),
            };
            let is_ahead = (self.repair).compare(now, &mut self.slices, from.boot, entry, relation);
            (self.compared).note_line(from.boot, &entry.slice, is_ahead);
        }
        self.note_progress(now, from.boot);
    }

    fn note_merged(&mut self, from: From, slice: &SliceId, merged: Result<u64, SliceRefused>) {
        let Err(refused) = merged else {
            return;
        };
        self.refuse(reason(&refused));
        if self.slices.is_refused(slice)
            && let Some(peer) = self.peers.get_mut(&from.boot)
            && peer.writes(slice)
        {
            // Whoever pushes it shall not take it for having arrived.
            peer.ask(Question::NotHeld { slice: *slice });
        }
        if self.slices.is_refused(slice) && self.missing.len() < STRANGERS_MAX {
            let is_first = self.missing.insert(*slice);
            if is_first {
                self.report(ClusterEvent::SliceRefused {
                    slice: *slice,
                    reason: refused,
                });
            }
        }
    }

    fn note_refused(&mut self, from: SocketAddr, refused: Refused) {
        self.refuse(refused.name());
        // One that the network has damaged is no reason to name a member a stranger.
        let is_strangers = refused == Refused::Forged && !self.is_members_address(from);
        if is_strangers && self.strangers.len() < STRANGERS_MAX && self.strangers.insert(from) {
            self.report(ClusterEvent::NoKeyOpens { from });
        }
    }

    fn is_members_address(&self, address: SocketAddr) -> bool {
        let mut live = self.peers.values().filter(|peer| peer.is_live_member());
        live.any(|peer| peer.address == address)
    }

    pub(super) fn refuse(&mut self, reason: &'static str) {
        *self.refused.entry(reason).or_default() += 1;
    }

    pub(super) fn report(&mut self, event: ClusterEvent) {
        if self.events.len() < EVENTS_MAX {
            self.events.push_back(event);
        }
    }

    fn answer(&mut self, now: Duration, from: From, answer: Question) {
        if let Some(peer) = self.peer(now, from) {
            peer.ask(answer);
        }
    }

    /// Answers a question about a slice, if it is here; else says that it is not.
    fn answer_of(&mut self, now: Duration, from: From, slice: SliceId, answer: Question) {
        if self.slices.has(&slice) {
            self.answer(now, from, answer);
        } else {
            self.answer(now, from, Question::having(slice));
        }
    }

    /// The peer that a datagram came from; made, where there is room, for one that is no member.
    pub(super) fn peer(&mut self, now: Duration, from: From) -> Option<&mut Peer> {
        if !self.peers.contains_key(&from.boot) {
            if self.peers.len() >= self.limits.peers {
                self.refuse("too_many_peers");
                return None;
            }
            let kind = if self.is_target(from.boot) {
                Kind::Target
            } else {
                Kind::Giver
            };
            let mut peer = Peer::new(from.node, from.boot, from.address, kind, self.limits);
            peer.heard_at = Some(now);
            self.peers.insert(from.boot, peer);
        }
        self.peers.get_mut(&from.boot)
    }

    fn sections(&self) -> u32 {
        let groups = self
            .cells
            .div_ceil(crate::wire::cluster::GROUP_CELLS as u32);
        groups.div_ceil(SECTION_GROUPS as u32)
    }
}

/// The label of a refused slice.
fn reason(refused: &SliceRefused) -> &'static str {
    match refused {
        SliceRefused::OwnSlice => "own_slice",
        SliceRefused::TooManyOrigins { .. } => "too_many_origins",
        SliceRefused::Memory { .. } => "memory_limit",
        SliceRefused::OutOfMemory(_) => "out_of_memory",
        SliceRefused::Unsupported => "unsupported_slice",
        SliceRefused::IndexRange { .. } => "cell_out_of_range",
    }
}
