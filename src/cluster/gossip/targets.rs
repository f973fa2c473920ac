//! Targets that are pushed to one way.

use std::net::SocketAddr;
use std::time::Duration;

use super::peer::{Kind, Peer, Question};
use super::siblings::Line;
use super::state::ClusterEvent;
use super::{Cluster, From, Target};
use crate::cluster::membership::MemberState;
use crate::wire::Boot;
use crate::wire::cluster::Purpose;

impl Cluster {
    /// Pushes everything that is known here to the node at `target`, its cluster address, and takes
    /// nothing from it. A member is left alone; a target that becomes one is no target any more. One
    /// that does not answer for half a minute is given up.
    pub fn push_to(&mut self, now: Duration, target: SocketAddr) {
        let is_member = self
            .membership
            .members()
            .any(|(member, state)| member.address == target && !matches!(state, MemberState::Down));
        let is_full = self.targets.len() >= self.limits.targets;
        if is_member || is_full || target == self.membership.me().address {
            return;
        }
        let heard_at = now;
        let fresh = Target {
            boot: None,
            heard_at,
        };
        self.targets.entry(target).or_insert(fresh).heard_at = heard_at;
        self.greet(target);
    }

    pub(super) fn is_target(&self, boot: Boot) -> bool {
        self.targets
            .values()
            .any(|target| target.boot == Some(boot))
    }

    /// Somebody has answered; it may be a target, whose boot is known from now on.
    pub(super) fn hear_target(&mut self, now: Duration, from: From) {
        let Some(target) = self.targets.get_mut(&from.address) else {
            return;
        };
        target.heard_at = now;
        if target.boot == Some(from.boot) {
            return;
        }
        if self.peers.get(&from.boot).is_some_and(Peer::is_live_member) {
            self.end_target(from.address, true);
            return;
        }
        let before = target.boot.replace(from.boot);
        if let Some(before) = before {
            self.peers.remove(&before);
        }
        if let Some(peer) = self.peer(now, from) {
            peer.kind = Kind::Target;
            peer.ask_about(now);
            self.begin_exchange(from.boot);
        }
    }

    pub(super) fn end_target(&mut self, target: SocketAddr, is_member: bool) {
        if let Some(Target {
            boot: Some(boot), ..
        }) = self.targets.remove(&target)
            && let Some(peer) = self.peers.get_mut(&boot)
            && peer.kind == Kind::Target
        {
            peer.kind = Kind::Giver;
            peer.rest();
        }
        self.report(ClusterEvent::OneWayEnded { target, is_member });
    }

    /// Asks who is there.
    pub(super) fn greet(&mut self, address: SocketAddr) {
        self.contacts.ask(address, Purpose::OneWay);
    }

    /// What we have; and the target is to tell what it has. One with another sketch only says that it is there.
    pub(super) fn tell_target(&mut self, boot: Boot, part: &[Line]) {
        let sketch = self.own.sketch;
        let Some(peer) = self.peers.get_mut(&boot) else {
            return;
        };
        if peer.exchanges(sketch) {
            peer.ask(Question::DigestAsked);
            self.tell_part(boot, part);
        }
    }
}
