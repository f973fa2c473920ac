//! Following membership: members come up, go down, and are met at addresses.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use super::Cluster;
use crate::gossip::peers::{MemberChange, Peer};
use crate::gossip::state::{ClusterEvent, SharedNode};
use crate::gossip::transport::Sender;
use crate::membership::{Member, MemberState};
use rmbd_proto::cluster::Purpose;
use rmbd_proto::{Boot, SketchNumber};

/// Two members of one node number are two nodes where both were heard so long after the later one had come up. Until
/// then one of them may be a start that has ended, and of which this is not known yet.
const BOTH_HEARD_AFTER: Duration = Duration::from_secs(5);

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
        if has_changed {
            self.follow_members(now);
        }
    }

    /// Takes over whom membership knows.
    pub(super) fn follow_members(&mut self, now: Duration) {
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

    /// Node numbers that several live members have, this one included.
    pub(super) fn shared_nodes(&self) -> Vec<SharedNode> {
        let mut nodes: BTreeMap<u64, Vec<&Peer>> = BTreeMap::new();
        for peer in self.peers.live_members() {
            nodes.entry(peer.node()).or_default().push(peer);
        }
        let me = self.membership.me();
        let shared = nodes.into_iter().filter_map(|(node, peers)| {
            let last_up_at = peers.iter().filter_map(|peer| peer.up_at()).max()?;
            let heard_from = Some(last_up_at + BOTH_HEARD_AFTER);
            let heard = peers.iter().filter(|peer| peer.heard_at() >= heard_from);
            let ours = (node == me.node).then_some(me.address);
            let mut addresses: Vec<SocketAddr> =
                heard.map(|peer| peer.address()).chain(ours).collect();
            addresses.sort_unstable();
            (addresses.len() > 1).then_some(SharedNode { node, addresses })
        });
        shared.collect()
    }

    pub(super) fn look_for_shared_nodes(&mut self) {
        for shared in self.shared_nodes() {
            self.events.shared_node(shared);
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
        peer.note_up(now);
        peer.ask_about(now, &self.ourselves);
        self.readiness.met(now, boot);
        if peer.about().is_some() && !peer.exchanges_any() {
            self.readiness.excuse(boot);
        }
        self.want_passes(now);
        self.begin_exchange(now, boot);
        self.tell_pardon_sums(now, boot);
    }

    fn lose_member(&mut self, now: Duration, boot: Boot) {
        self.repair.forget(boot);
        self.repair.forget_siblings(boot);
        self.readiness.lost(boot);
        let sketches: Vec<SketchNumber> = self.sketches.numbers().collect();
        for sketch in sketches {
            let peer = self.peers.get(boot);
            let slice = peer.and_then(|peer| peer.present_slice(sketch));
            // Another start may have gone on with it.
            let slice = slice.filter(|slice| !self.peers.is_live_writer(slice));
            if let Some(slice) = slice {
                self.sketches.rest(&slice);
            }
            self.note_converged(now, sketch);
        }
    }
}
