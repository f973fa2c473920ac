//! Following membership: members come up, go down, and are met at addresses.

use std::collections::BTreeSet;
use std::time::Duration;

use super::Cluster;
use crate::gossip::peers::MemberChange;
use crate::gossip::state::ClusterEvent;
use crate::gossip::transport::Sender;
use crate::membership::{Member, MemberState};
use rmbd_proto::cluster::Purpose;
use rmbd_proto::{Boot, SketchNumber};

impl Cluster {
    pub(super) fn take_membership(&mut self, now: Duration, message: &[u8]) {
        if self.membership.handle(now, message).is_err() {
            self.refusals.count("membership");
        }
        self.follow_membership(now);
    }

    /// Somebody has answered a contact of ours.
    pub(super) fn take_contact_answered(
        &mut self,
        now: Duration,
        sender: Sender,
        purpose: Purpose,
    ) {
        match purpose {
            Purpose::Membership => {
                let peer = self.peers.get(sender.boot);
                if !peer.is_some_and(|peer| peer.is_live_member()) {
                    self.contacts.note_boot(sender.address, sender.boot);
                    self.membership.meet(now, sender.address);
                }
            }
            // Its boot is known since this datagram came.
            Purpose::OneWay if self.one_way.has_boot(sender.boot) => {
                let part = self.digest_part(sender.boot);
                self.tell_target(sender.boot, &part);
            }
            Purpose::OneWay => {}
        }
    }

    /// Takes over what membership has learnt.
    pub(super) fn follow_membership(&mut self, now: Duration) {
        let mut has_changed = false;
        while let Some(event) = self.membership.poll_event() {
            has_changed = true;
            self.events.push(ClusterEvent::Member(event));
        }
        if !has_changed {
            return;
        }
        let members: Vec<(Member, bool)> = self
            .membership
            .members()
            .map(|(member, state)| (*member, !matches!(state, MemberState::Down)))
            .collect();
        let known: BTreeSet<Boot> = members.iter().map(|(member, _)| member.boot).collect();
        for (member, is_live) in members {
            self.follow_member(now, &member, is_live);
        }
        // One that membership has forgotten, or whose place another start has taken.
        for boot in self.peers.keep_members(&known) {
            self.readiness.lost(boot);
        }
    }

    fn follow_member(&mut self, now: Duration, member: &Member, is_live: bool) {
        if member.boot == self.ourselves.boot() {
            return;
        }
        if is_live && self.one_way.has_address(member.address) {
            self.end_target(member.address, true);
        }
        match self.peers.follow_member(member, is_live) {
            Some(MemberChange::CameUp) => self.meet_member(now, member.boot),
            Some(MemberChange::WentDown) => self.lose_member(now, member.boot),
            None => {}
        }
    }

    fn meet_member(&mut self, now: Duration, boot: Boot) {
        let Some(peer) = self.peers.get_mut(boot) else {
            return;
        };
        peer.ask_about(now, &self.ourselves);
        self.readiness.met(now, boot);
        if peer.about().is_some() && !peer.exchanges_any() {
            self.readiness.excuse(boot);
        }
        self.want_passes(now);
        self.begin_exchange(boot);
        self.tell_pardon_sums(now, boot);
    }

    fn lose_member(&mut self, now: Duration, boot: Boot) {
        self.repair.forget(boot);
        self.repair.forget_siblings(boot);
        self.readiness.lost(boot);
        let sketches: Vec<SketchNumber> = self.sketches.numbers().collect();
        for sketch in sketches {
            let peer = self.peers.get(boot);
            if let Some(slice) = peer.and_then(|peer| peer.present_slice(sketch)) {
                self.sketches.rest(&slice);
            }
            self.note_converged(now, sketch);
        }
    }
}
