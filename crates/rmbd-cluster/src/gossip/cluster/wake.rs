//! Doing what time makes due: rounds, publishing, noticing silence.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use super::Cluster;
use crate::gossip::peers::{Peer, QueuedFrame};
use crate::gossip::push::Pass;
use crate::gossip::sketches::OurSlice;
use crate::gossip::state::ClusterEvent;
use rmbd_proto::cluster::SliceId;
use rmbd_proto::{Boot, SketchNumber};
use rmbd_store::Slices;

/// A member that was heard within so many rounds is probably still there.
const HEARD_LATELY_ROUNDS: u32 = 10;

/// Groups whose ages are looked through in a round, of one slice after the other: some milliseconds of work.
const AGED_GROUPS_A_ROUND: usize = 512;

impl Cluster {
    /// When [`wake`](Self::wake), and then [`transmit`](Self::transmit), want to be called next; not
    /// after `now` where it is at once.
    #[must_use]
    pub fn next_wake(&self, now: Duration) -> Duration {
        if self.publishing.is_due(&self.sketches) || self.has_urgent() {
            return now;
        }
        let times = [
            self.membership.next_wake(),
            self.repair.next_wake(),
            self.leaving.next_wake(self.peers.has_audience()),
            self.readiness.next_wake(),
            self.peers.next_wake(now, self.data_ready_at()),
            self.next_name_step(now),
        ];
        let earliest = times.into_iter().flatten().min();
        let round = self.rounds.next();
        earliest.map_or(round, |earliest| earliest.min(round))
    }

    /// When data may go out again.
    fn data_ready_at(&self) -> Duration {
        let shut_until = self.naming.shut_until();
        let ready_at = self.outbox.data_ready_at();
        shut_until.map_or(ready_at, |until| until.max(ready_at))
    }

    /// Does whatever is due.
    pub fn wake(&mut self, now: Duration) {
        self.membership.wake(now);
        self.follow_membership(now);
        self.name_step(now);
        // The last pass has ended before `now` was read.
        self.sketches.end_step(now);
        if self.rounds.begin(now) {
            self.round(now);
        }
        self.tell_given_pardons();
        self.publish_some(now);
        self.tell_urgent();
        self.peers.expire(now);
        self.repair_step(now);
        self.leave_step(now);
        self.ready_step(now);
    }

    fn round(&mut self, now: Duration) {
        self.forget_silent(now);
        // Whoever is up and has not told of itself is asked.
        for peer in self.peers.iter_mut().filter(|peer| peer.is_up()) {
            peer.ask_about(now, &self.ourselves);
        }
        self.look_for_seeds(now);
        self.look_for_shared_nodes();
        self.want_passes(now);
        self.urgent.begin_round();
        self.note_limit_members();
        self.retry_refused();
        self.repair.tour_mut().begin_round(&self.sketches);
        self.sketches.tidy_ages(AGED_GROUPS_A_ROUND);
        let lately = self.rounds.span(HEARD_LATELY_ROUNDS);
        let chosen = (self.peers).choose_member(now, lately, &mut self.random);
        let part = chosen.map(|boot| self.digest_part(boot));
        if let (Some(part), Some(peer)) = (&part, chosen.and_then(|boot| self.peers.get_mut(boot)))
        {
            peer.queue_digest(part);
        }
        self.begin_pardon_round(now);
        self.begin_top_round(now);
        self.tell_targets();
    }

    /// Wants a pass over each sketch of which somebody is to be told.
    /// Somebody listens; or a step is over, whose growth must not count as later than it is for who comes next.
    pub(super) fn want_passes(&mut self, now: Duration) {
        for slices in self.sketches.iter() {
            let sketch = slices.own_slice().sketch;
            if self.peers.has_audience_of(sketch) || slices.wants_mark(now) {
                self.publishing.want(sketch);
            }
        }
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
        for slices in self.sketches.iter_mut() {
            if slices.retry_refused() {
                self.repair.compare_all_siblings_again();
            }
            let wanted: BTreeSet<SliceId> = slices.wanted().collect();
            if wanted.is_empty() {
                continue;
            }
            // Whoever pushes to us: members, and those who do it one way.
            let pushing = self.peers.iter_mut().filter(|peer| peer.pushes_to_us());
            let sketch = slices.own_slice().sketch;
            for peer in pushing {
                let slice = peer.present_slice(sketch);
                if let Some(slice) = slice.filter(|slice| wanted.contains(slice)) {
                    peer.queue(QueuedFrame::Wanted { slice });
                }
            }
        }
    }

    pub(super) fn publish_some(&mut self, now: Duration) {
        for (sketch, pass) in self.publishing.step(now, &mut self.sketches) {
            if self.leaving.wants_pass_after(sketch, pass == Pass::Idle) {
                self.publishing.want(sketch);
            }
            self.note_pass(sketch);
            // Where nothing was ever added there is nothing to be told.
            let ours = self.sketches.our_slice(sketch);
            if let Some(ours) = ours.filter(|ours| ours.version > 0) {
                self.peers.begin_published(now, ours);
                self.note_converged(now, sketch);
            }
        }
        for sketch in self.publishing.wanted() {
            self.naming.note_pass(sketch, None);
        }
    }

    /// A pass is at its end.
    fn note_pass(&mut self, sketch: SketchNumber) {
        if let Some(slices) = self.sketches.get(sketch) {
            let ours = slices.digest(&slices.own_slice());
            let settled = Some((ours.version, ours.root));
            self.naming.note_pass(sketch, settled);
        }
    }

    fn has_urgent(&self) -> bool {
        self.sketches.iter().any(Slices::has_urgent)
    }

    /// Whatever would let others pass a limit goes to them now, as much as a round may tell.
    fn tell_urgent(&mut self) {
        for slices in self.sketches.iter() {
            let cells = self.urgent.take(slices);
            if !cells.is_empty() {
                let sketch = slices.own_slice().sketch;
                (self.peers.iter_mut()).for_each(|peer| peer.note_urgent(sketch, &cells));
            }
        }
        if !self.urgent.are_open() {
            // The others wait where they are, and find out in the next round whether they are still urgent.
            self.sketches
                .iter()
                .for_each(|slices| slices.set_limit_members(0));
        }
    }

    /// Tells each sketch how many members keep its limits.
    fn note_limit_members(&self) {
        for slices in self.sketches.iter() {
            let others = self
                .peers
                .live_audience_of(slices.own_slice().sketch)
                .count();
            slices.set_limit_members(1 + others as u32);
        }
    }

    /// A peer may have all that is published now, of sketches of which it has told more.
    pub(super) fn note_progress(&mut self, now: Duration, boot: Boot) {
        let Some(peer) = self.peers.get_mut(boot) else {
            return;
        };
        let moved = peer.progress_mut().take_moved();
        let moved = moved
            .into_iter()
            .filter_map(|sketch| self.sketches.our_slice(sketch));
        let progress = peer.progress_mut();
        let all: Vec<OurSlice> = moved.filter(|&ours| progress.has(ours)).collect();
        for ours in all {
            if let Some(peer) = self.peers.get_mut(boot) {
                peer.progress_mut().note_not_behind(ours.sketch);
            }
            self.publishing.note_told(ours.sketch, ours.version);
            self.note_converged(now, ours.sketch);
        }
    }

    /// All live members may have all that is published now, of one sketch.
    pub(super) fn note_converged(&mut self, now: Duration, sketch: SketchNumber) {
        let ours = self.sketches.our_slice(sketch);
        if ours.is_some_and(|ours| self.peers.have_converged(ours)) {
            self.publishing.note_converged(now, sketch);
        }
    }

    pub(super) fn repair_step(&mut self, now: Duration) {
        let peers = &mut self.peers;
        self.repair
            .ask(now, &mut self.sketches, |boot: Boot, question| {
                if let Some(peer) = peers.get_mut(boot) {
                    peer.queue(question);
                }
            });
    }

    fn ready_step(&mut self, now: Duration) {
        let peers = &mut self.peers;
        self.readiness.ask(now, |boot, first| {
            // Who has not told yet is asked when he has.
            let peer = peers.get_mut(boot);
            if let Some(peer) = peer.filter(|peer| peer.exchanges_any()) {
                peer.queue(QueuedFrame::CatalogueAsked { first });
            }
        });
        let event = (self.readiness).step(now, &self.ourselves, &self.sketches);
        if let Some(event) = event {
            if matches!(event, ClusterEvent::Synced { .. })
                && let Some(since) = self.readiness.known_since()
            {
                self.sketches.know_since(since);
            }
            self.events.push(event);
        }
    }
}
