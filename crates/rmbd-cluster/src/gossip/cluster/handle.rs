//! Taking a datagram that came in. Each of its frames goes to the part that it is for.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::Cluster;
use crate::gossip::peers::{AboutPart, Peer, PeerKind};
use crate::gossip::state::Agreement;
use crate::gossip::transport::{Incoming, NotTaken, Sender};
use crate::seal::OpenError;
use rmbd_proto::SketchNumber;
use rmbd_proto::cluster::{Frame, SliceId, frames};

impl Cluster {
    /// Takes a datagram; it is decrypted in place. Nothing in it can panic, and what does not come from
    /// the cluster changes nothing but counters.
    pub fn handle(&mut self, now: Duration, from: SocketAddr, datagram: &mut [u8]) {
        match self.inbox.open(now, datagram) {
            Ok(incoming) => self.take_datagram(now, &incoming),
            Err(why) => self.note_not_taken(from, why),
        }
    }

    fn take_datagram(&mut self, now: Duration, incoming: &Incoming<'_>) {
        let &Incoming {
            sender,
            to_boot,
            frames,
            ..
        } = incoming;
        let is_for_us = to_boot == self.ourselves.boot();
        if !is_for_us && !self.contacts.take(now, sender, to_boot, frames) {
            return self.refusals.count("other_boot");
        }
        self.inbox.count(incoming);
        if !is_for_us {
            return;
        }
        if let Some(peer) = self.peers.get_mut(sender.boot) {
            peer.note_datagram(now, sender.address, incoming.bytes);
        }
        self.hear_target(now, sender);
        if self.take_frames(now, sender, frames)
            && let Some(peer) = self.peer(now, sender)
        {
            peer.note_received(now, incoming.channel, incoming.number);
        }
        self.repair_step(now);
        self.leave_step(now);
    }

    /// Takes all frames; says whether an ack is due: they ask for it, and everything of them has arrived.
    fn take_frames(&mut self, now: Duration, sender: Sender, payload: &[u8]) -> bool {
        let mut asks_for_ack = false;
        let mut is_all_taken = true;
        let ourselves = Arc::clone(&self.ourselves);
        let mut all = frames(payload, |sketch| ourselves.cells(sketch));
        let mut unread = payload.len();
        while let Some(frame) = all.next() {
            let bytes = unread - all.unread();
            unread = all.unread();
            let Ok(frame) = frame else {
                self.refusals.count("malformed");
                break;
            };
            self.inbox.count_frame(&frame, bytes);
            asks_for_ack |= asks_for_an_ack(&frame);
            let carried = carried_slice(&frame);
            is_all_taken &= self.take_frame(now, sender, frame);
            // What was not taken, or there is no room for, has not arrived.
            is_all_taken &= carried.is_none_or(|slice| !self.sketches.is_refused(&slice));
        }
        asks_for_ack && is_all_taken
    }

    /// Takes a frame; false where it may not be taken from its sender. What concerns no slice may always be.
    fn take_frame(&mut self, now: Duration, sender: Sender, frame: Frame<'_>) -> bool {
        match frame {
            Frame::Membership { message } => self.take_membership(now, message),
            Frame::Digest { entries } => self.take_digest(now, sender, entries),
            Frame::DigestAsked => self.answer_digest_asked(now, sender),
            Frame::Siblings { entries } => self.take_siblings(now, sender, entries),
            Frame::ContactAnswered { purpose } => self.take_contact_answered(now, sender, purpose),
            Frame::SketchSums { sums } => self.take_sketch_sums(now, sender, sums),
            Frame::SketchAsked { sketch } => self.answer_sketch_asked(now, sender, sketch),
            Frame::Pardons { entries } => self.take_pardons(now, sender, entries),
            Frame::PardonSums { sums } => self.take_pardon_sums(now, sender, sums),
            Frame::PardonsAsked { buckets } => self.answer_pardons_asked(now, sender, buckets),
            Frame::TopSum { sum } => self.take_top_sum(sender, sum),
            Frame::TopOffered { lists } => self.take_top_offered(sender, lists),
            Frame::TopAsked { lists } => self.answer_top_asked(sender, lists),
            Frame::About {
                asks,
                writer,
                total,
                first,
                sketches,
            } => {
                let part = AboutPart {
                    writer,
                    total,
                    first,
                    sketches,
                };
                self.take_about(now, sender, asks, part);
            }
            frame if self.may_take_frame(now, sender, &frame) => {
                self.take_slice_frame(now, sender, frame);
            }
            _ => return false,
        }
        true
    }

    /// Whether a frame is of a sketch that both have, and what only a slice's writer says comes from there.
    fn may_take_frame(&mut self, now: Duration, sender: Sender, frame: &Frame<'_>) -> bool {
        let Some(slice) = frame.slice() else {
            return true;
        };
        if !self.may_take(now, sender, slice.sketch) {
            return false;
        }
        let is_writers = matches!(frame, Frame::Cells { .. } | Frame::Complete { .. });
        if is_writers && !self.peers.is_its_own(sender.boot, &slice) {
            self.refusals.count("not_its_slice");
            return false;
        }
        true
    }

    /// Whether something of a sketch may be taken from its sender: both must have the same one. Who has not told is
    /// asked.
    pub(super) fn may_take(&mut self, now: Duration, sender: Sender, sketch: SketchNumber) -> bool {
        if self.ourselves.cells(sketch).is_none() {
            self.refusals.count("unknown_sketch");
            return false;
        }
        let peer = self.peers.get(sender.boot);
        let reason = match peer.map_or(Agreement::Untold, |peer| peer.agreement(sketch)) {
            Agreement::Same => return true,
            Agreement::Untold => "untold_sketch",
            Agreement::Other { .. } | Agreement::Lacks => "other_sketch",
        };
        self.refusals.count(reason);
        self.ask_about(now, sender);
        false
    }

    /// Whether something may be taken that is of no single sketch: both must have one in common. Who has not told is
    /// asked.
    pub(super) fn may_take_any(&mut self, now: Duration, sender: Sender) -> bool {
        let peer = self.peers.get(sender.boot);
        if peer.is_some_and(Peer::exchanges_any) {
            return true;
        }
        let has_told = peer.is_some_and(|peer| peer.about().is_some());
        let reason = if has_told {
            "other_sketch"
        } else {
            "untold_sketch"
        };
        self.refusals.count(reason);
        self.ask_about(now, sender);
        false
    }

    pub(super) fn ask_about(&mut self, now: Duration, sender: Sender) {
        let ourselves = Arc::clone(&self.ourselves);
        if let Some(peer) = self.peer(now, sender) {
            peer.ask_about(now, &ourselves);
        }
    }

    /// The peer that a datagram came from; made, where there is room, for one that is no member.
    pub(super) fn peer(&mut self, now: Duration, sender: Sender) -> Option<&mut Peer> {
        let kind = if self.one_way.has_boot(sender.boot) {
            PeerKind::Target
        } else {
            PeerKind::Source
        };
        let peer = self.peers.of_sender(now, sender, kind);
        if peer.is_none() {
            self.refusals.count("too_many_peers");
        }
        peer
    }

    fn note_not_taken(&mut self, from: SocketAddr, why: NotTaken) {
        self.refusals.count(why.name());
        // One that the network has damaged is no reason to name a member a stranger.
        let is_forged = why == NotTaken::NotOpened(OpenError::Forged);
        if is_forged && !self.peers.is_live_address(from) {
            self.events.no_key_opens(from);
        }
    }
}

fn asks_for_an_ack(frame: &Frame<'_>) -> bool {
    matches!(
        frame,
        Frame::Cells { .. }
            | Frame::Groups { .. }
            | Frame::AgedGroups { .. }
            | Frame::Complete { .. }
    )
}

/// The slice of which a frame carries cells.
fn carried_slice(frame: &Frame<'_>) -> Option<SliceId> {
    match *frame {
        Frame::Cells { slice, .. }
        | Frame::Groups { slice, .. }
        | Frame::AgedGroups { slice, .. } => Some(slice),
        _ => None,
    }
}
