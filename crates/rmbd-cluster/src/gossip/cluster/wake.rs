//! Doing what time makes due: rounds, publishing, noticing silence.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use super::Cluster;
use crate::gossip::peers::{Peer, QueuedFrame};
use crate::gossip::push::Pass;
use rmbd_proto::Boot;
use rmbd_proto::cluster::SliceId;

/// A member that was heard within so many rounds is probably still there.
const HEARD_LATELY_ROUNDS: u32 = 10;

/// Groups whose ages are looked through in a round, of one slice after the other: some milliseconds of work.
const AGED_GROUPS_A_ROUND: usize = 512;

impl Cluster {
    /// When [`wake`](Self::wake), and then [`transmit`](Self::transmit), want to be called next; not
    /// after `now` where it is at once.
    #[must_use]
    pub fn next_wake(&self, now: Duration) -> Duration {
        if self.publishing.is_due(&self.slices) {
            return now;
        }
        let times = [
            self.membership.next_wake(),
            self.repair.next_wake(),
            self.leaving.next_wake(self.peers.has_audience()),
            self.readiness.next_wake(),
            self.peers.next_wake(now, self.outbox.data_ready_at()),
        ];
        let earliest = times.into_iter().flatten().min();
        let round = self.rounds.next();
        earliest.map_or(round, |earliest| earliest.min(round))
    }

    /// Does whatever is due.
    pub fn wake(&mut self, now: Duration) {
        self.membership.wake(now);
        self.follow_membership(now);
        // The last pass has ended before `now` was read.
        self.slices.end_step(now);
        if self.rounds.begin(now) {
            self.round(now);
        }
        self.publish_some(now);
        self.peers.expire(now);
        self.repair_step(now);
        self.leave_step(now);
        self.ready_step(now);
    }

    fn round(&mut self, now: Duration) {
        self.forget_silent(now);
        // Whoever is up and has not told of itself is asked.
        for peer in self.peers.iter_mut().filter(|peer| peer.is_up()) {
            peer.ask_about(now);
        }
        self.look_for_seeds(now);
        if self.peers.has_audience() {
            self.publishing.set_wanted(true);
        }
        self.retry_refused();
        self.slices.tidy_ages(AGED_GROUPS_A_ROUND);
        let part = self.digest_part();
        let lately = self.rounds.span(HEARD_LATELY_ROUNDS);
        let sketch = self.ourselves.sketch();
        let chosen = (self.peers).choose_member(now, lately, sketch, &mut self.random);
        if let Some(peer) = chosen.and_then(|boot| self.peers.get_mut(boot)) {
            peer.queue_digest(&part);
        }
        self.tell_targets(&part);
        self.move_on(&part);
    }

    fn forget_silent(&mut self, now: Duration) {
        self.end_silent_targets(now);
        for boot in self.peers.forget_silent(now) {
            self.repair.forget(boot);
        }
        self.outbox.drop_idle(now);
    }

    fn look_for_seeds(&mut self, now: Duration) {
        let me = self.membership.me().address;
        let live = self.peers.live_members().map(Peer::address);
        let known: BTreeSet<SocketAddr> = live.chain([me]).collect();
        let is_alone = known.len() == 1;
        for seed in (self.seeds).due(now, is_alone, |seed| known.contains(&seed)) {
            self.membership.join(now, seed);
        }
    }

    /// Asks for slices again that were refused for want of room, when there is some.
    fn retry_refused(&mut self) {
        if self.slices.retry_refused() {
            self.repair.compare_all_siblings_again();
        }
        let wanted: BTreeSet<SliceId> = self.slices.wanted().collect();
        if wanted.is_empty() {
            return;
        }
        // Whoever pushes to us: members, and those who do it one way.
        let pushing = self.peers.iter_mut().filter(|peer| peer.pushes_to_us());
        for peer in pushing {
            let slice = peer.present_slice().filter(|slice| wanted.contains(slice));
            if let Some(slice) = slice {
                peer.queue(QueuedFrame::Wanted { slice });
            }
        }
    }

    fn publish_some(&mut self, now: Duration) {
        let Some(pass) = self.publishing.step(now, &mut self.slices) else {
            return;
        };
        if self.leaving.wants_pass_after(pass == Pass::Idle) {
            self.publishing.set_wanted(true);
        }
        let version = self.slices.own_version();
        self.peers.begin_published(now, version);
        self.note_converged(now);
    }

    /// A peer may have all that is published now.
    pub(super) fn note_progress(&mut self, now: Duration, boot: Boot) {
        let version = self.slices.own_version();
        if let Some(peer) = self.peers.get_mut(boot)
            && peer.progress().has(version)
        {
            peer.progress_mut().note_not_behind();
            self.publishing.note_told(version);
            self.note_converged(now);
        }
    }

    /// All live members may have all that is published now.
    pub(super) fn note_converged(&mut self, now: Duration) {
        if self.peers.have_converged(self.slices.own_version()) {
            self.publishing.note_converged(now);
        }
    }

    pub(super) fn repair_step(&mut self, now: Duration) {
        let peers = &mut self.peers;
        self.repair
            .ask(now, &mut self.slices, |boot: Boot, question| {
                if let Some(peer) = peers.get_mut(boot) {
                    peer.queue(question);
                }
            });
    }

    fn ready_step(&mut self, now: Duration) {
        let (peers, sketch) = (&mut self.peers, self.ourselves.sketch());
        self.readiness.ask(now, |boot, first| {
            // Who has not told yet is asked when he has.
            let peer = peers.get_mut(boot);
            if let Some(peer) = peer.filter(|peer| peer.exchanges(sketch)) {
                peer.queue(QueuedFrame::CatalogueAsked { first });
            }
        });
        let own = self.ourselves.own_slice();
        if let Some(event) = self.readiness.step(now, own, &self.slices) {
            self.events.push(event);
        }
    }
}
