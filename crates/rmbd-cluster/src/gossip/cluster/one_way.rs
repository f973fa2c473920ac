//! Pushing one way, to targets that are no members.

use std::net::SocketAddr;
use std::time::Duration;

use super::Cluster;
use crate::gossip::contact::TargetAnswer;
use crate::gossip::peers::{DigestLine, Peer, QueuedFrame};
use crate::gossip::state::ClusterEvent;
use crate::gossip::transport::Sender;
use crate::membership::MemberState;
use rmbd_proto::Boot;
use rmbd_proto::cluster::Purpose;

/// A target that has been silent for so many rounds is asked again who is there.
const QUIET_ROUNDS: u32 = 6;

impl Cluster {
    /// Pushes everything that is known here to the node at `target`, its cluster address, and takes
    /// nothing from it. A member is left alone; a target that becomes one is no target any more. One
    /// that does not answer for half a minute is given up.
    pub fn push_to(&mut self, now: Duration, target: SocketAddr) {
        let is_member = self
            .membership
            .members()
            .any(|(member, state)| member.address == target && !matches!(state, MemberState::Down));
        let is_ours = target == self.membership.me().address;
        if !is_member && !is_ours && self.one_way.add(now, target) {
            self.greet(target);
        }
    }

    /// A datagram has come; it may be from a target, whose start is known from now on.
    pub(super) fn hear_target(&mut self, now: Duration, sender: Sender) {
        if self.one_way.hear(now, sender) != TargetAnswer::New {
            return;
        }
        let peer = self.peers.get(sender.boot);
        if peer.is_some_and(|peer| peer.is_live_member()) {
            return self.end_target(sender.address, true);
        }
        if let Some(before) = self.one_way.set_boot(sender.address, sender.boot) {
            self.peers.remove(before);
        }
        if let Some(peer) = self.peer(now, sender) {
            peer.become_target();
            self.ask_about(now, sender);
            self.begin_exchange(now, sender.boot);
        }
    }

    pub(super) fn end_target(&mut self, target: SocketAddr, is_member: bool) {
        if let Some(Some(boot)) = self.one_way.remove(target)
            && let Some(peer) = self.peers.get_mut(boot)
            && peer.is_target()
        {
            peer.become_source();
        }
        self.events
            .push(ClusterEvent::OneWayEnded { target, is_member });
    }

    /// Gives up targets that have been silent for long; those that have been for less are asked again who they are.
    pub(super) fn end_silent_targets(&mut self, now: Duration) {
        for target in self.one_way.silent(now) {
            self.end_target(target, false);
        }
        for boot in (self.one_way).forget_boots(now, self.rounds.span(QUIET_ROUNDS)) {
            if let Some(peer) = self.peers.get_mut(boot) {
                peer.become_source();
            }
        }
    }

    /// Tells each target the lines of this round; those of which no start is known are asked who is there.
    pub(super) fn tell_targets(&mut self) {
        let targets: Vec<(SocketAddr, Option<Boot>)> = self.one_way.all().collect();
        for (address, boot) in targets {
            let exchanges = |&boot: &Boot| self.peers.get(boot).is_some_and(Peer::exchanges_any);
            if let Some(boot) = boot.filter(exchanges) {
                let part = self.digest_part(boot);
                self.tell_target(boot, &part);
            } else {
                self.greet(address);
            }
        }
    }

    /// Tells a target what we have; it is to tell what it has. One without a sketch of ours only says that it is there.
    pub(super) fn tell_target(&mut self, boot: Boot, lines: &[DigestLine]) {
        let peer = self.peers.get_mut(boot);
        if let Some(peer) = peer.filter(|peer| peer.exchanges_any()) {
            peer.queue(QueuedFrame::DigestAsked);
            peer.queue_digest(lines);
        }
    }

    /// Asks who is there.
    pub(super) fn greet(&mut self, address: SocketAddr) {
        self.contacts.ask(address, Purpose::OneWay);
    }
}
