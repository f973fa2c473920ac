//! What time brings: rounds, publishing, silence, and what membership has learnt.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use rand::RngExt;

use super::peer::{Kind, Peer, Question};
use super::state::ClusterEvent;
use super::{Cluster, From, HEARD_LATELY_ROUNDS, PUBLISH_CELLS, PUBLISHED_MAX, SILENT_MAX};
use crate::cluster::membership::{Member, MemberState};
use crate::replica::Published;
use crate::wire::Boot;
use crate::wire::cluster::SliceId;

impl Cluster {
    /// When [`wake`](Self::wake), and then [`transmit`](Self::transmit), want to be called next; not
    /// after `now` where it is at once.
    #[must_use]
    pub fn next_wake(&self, now: Duration) -> Duration {
        if self.is_publishing || self.slices.wants_pass() {
            return now;
        }
        let mut next = self.next_round;
        let mut at = |time: Option<Duration>| next = next.min(time.unwrap_or(next));
        at(self.membership.next_wake());
        at(self.repair.next_wake());
        at(self.leave_wake());
        at(self.readiness.next_wake());
        for peer in self.peers.values() {
            at(peer.next_wake());
            if peer.has_data() {
                at(Some(self.pacer.ready_at().max(now)));
            }
            if peer.has_words(now) {
                at(Some(now));
            }
        }
        next
    }

    /// Does whatever is due.
    pub fn wake(&mut self, now: Duration) {
        self.membership.wake(now);
        self.follow_membership(now);
        if now >= self.next_round {
            self.round(now);
        }
        self.publish_some(now);
        for peer in self.peers.values_mut() {
            let outcome = peer.flight.expire(now);
            self.resends += peer.settle(outcome);
        }
        self.repair_step(now);
        self.leave_step(now);
        self.ready_step(now);
    }

    fn round(&mut self, now: Duration) {
        self.rounds += 1;
        // From now on, not from when it was due: a process that was stopped does not hurry after.
        self.next_round = now + self.gossip_interval;
        self.forget_silent(now);
        self.ask_those_untold(now);
        self.look_for_seeds(now);
        if self.has_audience() {
            self.is_publishing = true;
        }
        self.retry_refused();
        let part = self.digest_part();
        if let Some(chosen) = self.choose_for_digest(now) {
            self.tell_part(chosen, &part);
        }
        let targets: Vec<(SocketAddr, Option<Boot>)> = self
            .targets
            .iter()
            .map(|(&address, target)| (address, target.boot))
            .collect();
        for (address, boot) in targets {
            match boot {
                Some(boot) if self.is_exchanging(boot) => self.tell_target(boot, &part),
                _ => self.greet(address),
            }
        }
        self.move_on(&part);
    }

    /// A live member at random; every other time one that was heard lately, if there is any: of those who
    /// have just died many may still pass for alive.
    fn choose_for_digest(&mut self, now: Duration) -> Option<Boot> {
        let lately = self.gossip_interval * HEARD_LATELY_ROUNDS;
        let sketch = self.own.sketch;
        let live = self
            .peers
            .values()
            .filter(|peer| peer.is_live_member() && peer.exchanges(sketch));
        let is_heard = |peer: &&Peer| peer.was_heard(now, lately);
        let heard: Vec<Boot> = live
            .clone()
            .filter(is_heard)
            .map(|peer| peer.boot)
            .collect();
        let all: Vec<Boot> = live.map(|peer| peer.boot).collect();
        let prefers_heard = self.random.random_bool(0.5) && !heard.is_empty();
        let choice = if prefers_heard { heard } else { all };
        (!choice.is_empty()).then(|| choice[self.random.random_range(0..choice.len())])
    }

    fn look_for_seeds(&mut self, now: Duration) {
        let me = self.membership.me().address;
        let live = self.peers.values().filter(|peer| peer.is_live_member());
        let known: BTreeSet<SocketAddr> = live.map(|peer| peer.address).chain([me]).collect();
        let is_alone = known.len() == 1;
        for seed in self.seeds.due(now, is_alone, |seed| known.contains(&seed)) {
            self.membership.join(now, seed);
        }
    }

    fn forget_silent(&mut self, now: Duration) {
        let silent: Vec<SocketAddr> = self
            .targets
            .iter()
            .filter(|(_, target)| now.saturating_sub(target.heard_at) > SILENT_MAX)
            .map(|(&address, _)| address)
            .collect();
        for target in silent {
            self.end_target(target, false);
        }
        // A target that restarted has another boot; so ask who is there when it falls silent.
        let patience = self.gossip_interval * 6;
        for target in self.targets.values_mut() {
            if now.saturating_sub(target.heard_at) > patience
                && let Some(boot) = target.boot.take()
                && let Some(peer) = self.peers.get_mut(&boot)
            {
                peer.kind = Kind::Giver;
                peer.rest();
            }
        }
        let is_kept = |peer: &Peer| {
            let heard_ago = now.saturating_sub(peer.heard_at.unwrap_or_default());
            peer.kind != Kind::Giver || heard_ago <= SILENT_MAX
        };
        let repair = &mut self.repair;
        self.peers.retain(|&boot, peer| {
            let keep = is_kept(peer);
            if !keep {
                repair.forget(boot);
            }
            keep
        });
        self.channels
            .retain(|_, channel| now.saturating_sub(channel.used_at) <= SILENT_MAX * 4);
    }

    fn publish_some(&mut self, now: Duration) {
        // Also where nobody listens: what may be added until the next pass is bounded.
        self.is_publishing |= self.slices.wants_pass();
        if !self.is_publishing {
            return;
        }
        let mut is_all = false;
        match self.slices.publish(PUBLISH_CELLS) {
            Published::Partly => return,
            Published::Idle => is_all = true,
            Published::Done { version, .. } => self.note_published(now, version),
        }
        self.is_publishing = false;
        if let Some(leaving) = &mut self.leaving {
            // The pass that is done may have begun before the last adds were made; one that finds
            // nothing to do has not.
            leaving.has_published |= is_all;
            self.is_publishing = !leaving.has_published;
        }
        let version = self.slices.own_version();
        for peer in self.peers.values_mut().filter(|peer| peer.is_audience()) {
            peer.push.begin(version, self.cells);
            if !peer.push.is_done(version) {
                peer.behind_since.get_or_insert(now);
            }
        }
        self.note_converged(now);
    }

    fn note_published(&mut self, now: Duration, version: u64) {
        let last = self.published.back();
        if last.is_none_or(|&(last, _)| last < version) {
            self.published.push_back((version, now));
            if self.published.len() > PUBLISHED_MAX {
                self.published.pop_front();
            }
        }
    }

    pub(super) fn note_progress(&mut self, now: Duration, boot: Boot) {
        let version = self.slices.own_version();
        if let Some(peer) = self.peers.get_mut(&boot)
            && peer.push.is_done(version)
        {
            peer.behind_since = None;
            self.told_max = self.told_max.max(version);
            self.note_converged(now);
        }
    }

    pub(super) fn note_converged(&mut self, now: Duration) {
        let version = self.slices.own_version();
        let is_converged = (self.live_audience()).all(|peer| peer.push.is_done(version));
        if is_converged {
            self.converged_at = Some(now);
        }
    }

    pub(super) fn repair_step(&mut self, now: Duration) {
        let peers = &mut self.peers;
        self.repair.ask(now, &mut self.slices, |boot, question| {
            if let Some(peer) = peers.get_mut(&boot) {
                peer.ask(question);
            }
        });
    }

    fn ready_step(&mut self, now: Duration) {
        let (peers, sketch) = (&mut self.peers, self.own.sketch);
        self.readiness.ask(now, |boot, first| {
            // Who has not told yet is asked when he has.
            if let Some(peer) = peers.get_mut(&boot)
                && peer.exchanges(sketch)
            {
                peer.ask(Question::CatalogueAsked { first });
            }
        });
        let was_ready = self.readiness.is_ready();
        let synced = self.readiness.step(now, &self.own, &self.slices);
        if let Some(after) = synced {
            self.report(ClusterEvent::Synced { after });
        } else if self.readiness.is_ready() && !was_ready && !self.readiness.is_complete() {
            let state = self.readiness.state();
            self.report(ClusterEvent::NotSynced { state });
        }
    }

    /// Takes over what membership has learnt.
    pub(super) fn follow_membership(&mut self, now: Duration) {
        let mut has_changed = false;
        while let Some(event) = self.membership.poll_event() {
            has_changed = true;
            self.report(ClusterEvent::Member(event));
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
        for (boot, peer) in &mut self.peers {
            if matches!(peer.kind, Kind::Member { .. }) && !known.contains(boot) {
                peer.kind = Kind::Giver;
                peer.rest();
                self.readiness.lost(*boot);
            }
        }
    }

    fn follow_member(&mut self, now: Duration, member: &Member, is_live: bool) {
        if member.boot == self.boot {
            return;
        }
        if is_live && self.targets.contains_key(&member.address) {
            self.end_target(member.address, true);
        }
        let is_full = self.peers.len() >= self.limits.peers;
        let limits = self.limits;
        let peer = match self.peers.get_mut(&member.boot) {
            Some(peer) => peer,
            None if !is_live || is_full => return,
            None => {
                let kind = Kind::Member { is_live: false };
                let peer = Peer::new(member.node, member.boot, member.address, kind, limits);
                self.peers.entry(member.boot).or_insert(peer)
            }
        };
        let was_live = peer.is_live_member();
        peer.kind = Kind::Member { is_live };
        peer.address = member.address;
        if peer.node != member.node {
            // What was told was told in another one's name.
            peer.node = member.node;
            peer.told = None;
        }
        if is_live && !was_live {
            let is_apart = peer.apart().next().is_some();
            peer.ask_about(now);
            self.readiness.met(now, member.boot);
            if is_apart {
                self.readiness.excuse(member.boot);
            }
            self.is_publishing = true;
            self.begin_exchange(member.boot);
        } else if !is_live && was_live {
            peer.rest();
            peer.behind_since = None;
            self.repair.forget(member.boot);
            self.compared.forget(member.boot);
            self.readiness.lost(member.boot);
            if let Some(told) = &peer.told {
                let slice = SliceId::of(member.node, told.writer);
                self.slices.rest(&slice);
            }
            self.note_converged(now);
        }
    }

    pub(super) fn has_audience(&self) -> bool {
        self.peers.values().any(Peer::is_audience)
    }

    /// Live members that get our slice, or may yet say that they want it.
    pub(super) fn live_audience(&self) -> impl Iterator<Item = &Peer> {
        let live = self.peers.values().filter(|peer| peer.is_live_member());
        live.filter(|peer| peer.is_audience())
    }

    fn is_exchanging(&self, boot: Boot) -> bool {
        let peer = self.peers.get(&boot);
        peer.is_some_and(|peer| peer.exchanges(self.own.sketch))
    }

    pub(super) fn send_digest(&mut self, now: Duration, from: From) {
        let sketch = self.own.sketch;
        let Some(peer) = self.peer(now, from) else {
            return;
        };
        let Some(writer) = peer.told.as_ref().map(|told| told.writer) else {
            return peer.ask_about(now);
        };
        if !peer.exchanges(sketch) {
            return;
        }
        let asker = SliceId {
            sketch,
            node: from.node,
            writer,
        };
        if peer.is_live_member() {
            self.tell_digest(from.boot);
        } else {
            // Who pushes to us one way learns what has arrived, and that we are there; no more.
            peer.ask(Question::having(asker));
        }
    }
}
