//! Two nodes tell each other what they are, and what they have.

use std::sync::Arc;
use std::time::Duration;

use super::Cluster;
use crate::gossip::peers::{AboutPart, DigestLine, Peer, PeerKind, QueuedFrame};
use crate::gossip::repair::Relation;
use crate::gossip::transport::Sender;
use rmbd_proto::cluster::{DigestEntry, SiblingsEntries, SketchSums, SliceId};
use rmbd_proto::{Boot, SketchNumber, Writer};

impl Cluster {
    /// Takes a part of what a peer tells of itself.
    pub(super) fn take_about(
        &mut self,
        now: Duration,
        sender: Sender,
        asks: bool,
        part: AboutPart<'_>,
    ) {
        if self.ourselves.is(sender.node, part.writer) {
            return self.meet_same_writer(now, sender, asks);
        }
        let ourselves = Arc::clone(&self.ourselves);
        let Some(peer) = self.peer(now, sender) else {
            return;
        };
        if peer.node() != sender.node || part.writer == Writer(0) {
            return self.refusals.count("other_node");
        }
        if asks {
            peer.tell_about(&ourselves, false);
        }
        if peer.take_about(&ourselves, part) {
            self.note_told(now, sender.boot);
        }
    }

    /// A peer has told all of itself for the first time.
    fn note_told(&mut self, now: Duration, boot: Boot) {
        let Some(peer) = self.peers.get_mut(boot) else {
            return;
        };
        let apart: Vec<_> = peer.apart().collect();
        for &(sketch, agreement) in &apart {
            // It is behind in nothing of it.
            peer.leave_out(sketch);
            let ours = self.ourselves.fingerprint(sketch).unwrap_or_default();
            self.events
                .other_sketch(peer.address(), sketch, ours, agreement);
        }
        if peer.exchanges_any() {
            self.readiness.told(boot);
            self.begin_exchange(now, boot);
        } else {
            self.readiness.excuse(boot);
        }
        for (sketch, _) in apart {
            self.note_converged(now, sketch);
        }
        self.tell_pardon_sums(now, boot);
    }

    /// Both know which sketches they have in common, or we knew it before and it is up again: each learns at once what
    /// the other one has. Where our slices are older than this start, it is asked what it has of them.
    pub(super) fn begin_exchange(&mut self, now: Duration, boot: Boot) {
        let peer = self.peers.get_mut(boot);
        let Some(peer) = peer.filter(|peer| peer.exchanges_any()) else {
            return;
        };
        if !peer.is_up() {
            return;
        }
        self.has_met_anybody = true;
        let same: Vec<SketchNumber> = peer.same_sketches().collect();
        for ours in same
            .iter()
            .filter_map(|&sketch| self.sketches.our_slice(sketch))
        {
            if ours.is_resumed {
                peer.progress_mut().questions_mut().put(now, ours.sketch);
            }
            peer.progress_mut().begin(ours);
        }
        if peer.kind() == PeerKind::Target {
            let part = self.digest_part(boot);
            return self.tell_target(boot, &part);
        }
        if self.readiness.is_complete() {
            peer.queue(QueuedFrame::DigestAsked);
        }
        same.into_iter()
            .for_each(|sketch| self.publishing.want(sketch));
        self.tell_digest(boot);
    }

    /// The next lines of the digest for a peer.
    pub(super) fn digest_part(&mut self, boot: Boot) -> Vec<DigestLine> {
        let writers = self.peers.present_writers();
        let peer = self.peers.get(boot);
        let exchanges = |sketch| peer.is_some_and(|peer| peer.exchanges(sketch));
        (self.repair.tour_mut()).part(boot, &self.sketches, &writers, exchanges)
    }

    /// Tells a peer the lines of this round, and sums of all sketches at rest.
    fn tell_digest(&mut self, boot: Boot) {
        let writers = self.peers.present_writers();
        let Some(peer) = self.peers.get_mut(boot) else {
            return;
        };
        let exchanges = |sketch| peer.exchanges(sketch);
        let part = (self.repair.tour_mut()).greeting(boot, &self.sketches, &writers, exchanges);
        peer.queue_digest(&part);
    }

    /// Tells a peer lines of one sketch.
    fn tell_sketch(&mut self, boot: Boot, sketch: SketchNumber) {
        let writers = self.peers.present_writers();
        let slices = self.sketches.get(sketch);
        if let (Some(peer), Some(slices)) = (self.peers.get_mut(boot), slices) {
            peer.queue_digest(&(self.repair.tour_mut()).lines_of(boot, slices, &writers));
        }
    }

    /// Somebody asks what we have. Who pushes to us one way learns what of it has arrived, and that we are there; no
    /// more.
    pub(super) fn answer_digest_asked(&mut self, now: Duration, sender: Sender) {
        let ourselves = Arc::clone(&self.ourselves);
        let Some(peer) = self.peer(now, sender) else {
            return;
        };
        if peer.about().is_none() {
            return peer.ask_about(now, &ourselves);
        }
        if peer.is_live_member() {
            return self.tell_digest(sender.boot);
        }
        let (tour, boot) = (self.repair.tour_mut(), sender.boot);
        let Some(peer) = self.peers.get_mut(boot) else {
            return;
        };
        let told = tour.next_sketches(boot, &self.sketches, |sketch| peer.exchanges(sketch));
        let theirs = told
            .into_iter()
            .filter_map(|sketch| peer.present_slice(sketch));
        let lines: Vec<DigestLine> = theirs.map(DigestLine::Slice).collect();
        peer.queue_digest(&lines);
    }

    /// Somebody asks for our lines of one sketch, because our sum of it is another one.
    pub(super) fn answer_sketch_asked(
        &mut self,
        now: Duration,
        sender: Sender,
        sketch: SketchNumber,
    ) {
        if !self.may_take(now, sender, sketch) {
            return;
        }
        // Members and targets; who pushes to us one way learns no more than what of it is here.
        if (self.peers.get(sender.boot)).is_some_and(Peer::is_up) {
            self.repair.tour_mut().wake(sketch);
            self.tell_sketch(sender.boot, sketch);
        }
    }

    /// Takes a neighbour's sums over whole sketches.
    pub(super) fn take_sketch_sums(&mut self, now: Duration, sender: Sender, sums: SketchSums<'_>) {
        // What a target has is its own business.
        if self.one_way.has_boot(sender.boot) || self.peer(now, sender).is_none() {
            return;
        }
        for theirs in sums {
            let sketch = theirs.sketch;
            if !self.may_take(now, sender, sketch) {
                continue;
            }
            let ours = self.sketches.get(sketch).map_or(0, |slices| slices.sum());
            if (self.repair).compare_sketch(sender.boot, sketch, theirs.sum, ours)
                && let Some(peer) = self.peers.get_mut(sender.boot)
            {
                peer.queue(QueuedFrame::SketchAsked { sketch });
                if peer.is_live_member() {
                    self.tell_sketch(sender.boot, sketch);
                }
            }
        }
    }

    /// Takes lines of a neighbour's digest.
    pub(super) fn take_digest(
        &mut self,
        now: Duration,
        sender: Sender,
        entries: impl Iterator<Item = DigestEntry>,
    ) {
        let is_target = self.one_way.has_boot(sender.boot);
        // Somebody who is no member pushes one way: it will have to be asked.
        if self.peer(now, sender).is_none() {
            return;
        }
        for entry in entries {
            // What a target has beside our slice is its own business.
            let is_taken = !is_target || self.ourselves.writes(&entry.slice);
            if is_taken && self.may_take(now, sender, entry.slice.sketch) {
                self.take_digest_line(now, sender.boot, entry);
            }
        }
        self.note_progress(now, sender.boot);
    }

    fn take_digest_line(&mut self, now: Duration, from: Boot, theirs: DigestEntry) {
        if self.ourselves.writes(&theirs.slice) {
            return self.note_has_of_ours(now, from, &theirs);
        }
        let patience = self.repair.patience();
        let neighbour = self.peers.get(from);
        let relation = Relation {
            is_pushed: (self.peers).is_pushed_by_live(now, patience, &theirs.slice),
            never_asks: neighbour.is_some_and(Peer::is_source),
            is_its_own: neighbour.is_some_and(|peer| peer.writes(&theirs.slice)),
        };
        self.repair
            .compare(now, &mut self.sketches, from, theirs, relation);
    }

    /// Takes a neighbour's lines about siblings.
    pub(super) fn take_siblings(
        &mut self,
        now: Duration,
        sender: Sender,
        entries: SiblingsEntries<'_>,
    ) {
        // What a target has is its own business.
        if self.one_way.has_boot(sender.boot) || self.peer(now, sender).is_none() {
            return;
        }
        for theirs in entries {
            let slice = theirs.slice;
            if self.may_take(now, sender, slice.sketch)
                && (self.repair).compare_siblings(&self.sketches, sender.boot, theirs)
                && let Some(peer) = self.peers.get_mut(sender.boot)
            {
                peer.queue(QueuedFrame::BucketsAsked { slice });
            }
        }
    }

    /// Tells the lines that somebody asks for, as far as they fit a round.
    pub(super) fn tell_lines(
        &mut self,
        sender: Sender,
        slice: &SliceId,
        buckets: u64,
        first: Writer,
    ) {
        let lines = self.sketches.sibling_lines(slice, buckets, first);
        let lines = lines.take(self.repair.lines_a_round());
        let lines: Vec<DigestLine> = lines.map(|line| DigestLine::Slice(line.slice)).collect();
        if let Some(peer) = self.peers.get_mut(sender.boot) {
            peer.queue_digest(&lines);
        }
    }
}
