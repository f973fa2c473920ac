//! Two nodes tell each other what they are, and what they have.

use std::time::Duration;

use super::Cluster;
use crate::gossip::peers::{AboutPeer, DigestLine, Peer, PeerKind, QueuedFrame};
use crate::gossip::repair::Relation;
use crate::gossip::transport::Sender;
use rmbd_proto::cluster::{DigestEntry, SiblingsEntries, SketchEntries, SliceId};
use rmbd_proto::{Boot, Writer};

impl Cluster {
    /// Takes what a peer tells of itself.
    pub(super) fn take_about(
        &mut self,
        now: Duration,
        sender: Sender,
        asks: bool,
        writer: Writer,
        sketches: SketchEntries<'_>,
    ) {
        let own = self.ourselves.own_slice();
        if (sender.node, writer) == (own.node, own.writer) {
            return self.refusals.count("our_writer");
        }
        let about = AboutPeer::new(writer, self.ourselves.compare(sketches));
        let Some(peer) = self.peer(now, sender) else {
            return;
        };
        if peer.node() != sender.node || writer == Writer(0) {
            return self.refusals.count("other_node");
        }
        if asks {
            peer.queue(QueuedFrame::About { asks: false });
        }
        if peer.take_about(about) {
            self.note_told(now, sender.boot);
        }
    }

    /// A peer has told of itself for the first time.
    fn note_told(&mut self, now: Duration, boot: Boot) {
        let Some(peer) = self.peers.get_mut(boot) else {
            return;
        };
        let exchanges = peer.exchanges(self.ourselves.sketch());
        if !exchanges {
            // It is behind in nothing.
            peer.progress_mut().note_not_behind();
        }
        for (sketch, agreement) in peer.apart() {
            self.events.other_sketch(peer.address(), sketch, agreement);
        }
        if exchanges {
            self.readiness.told(boot);
            self.begin_exchange(boot);
        } else {
            self.readiness.excuse(boot);
            self.note_converged(now);
        }
    }

    /// Both know that they have the same sketch, or we knew it before and it is up again: each learns at once what
    /// the other one has.
    pub(super) fn begin_exchange(&mut self, boot: Boot) {
        let version = self.slices.own_version();
        let sketch = self.ourselves.sketch();
        let peer = self.peers.get_mut(boot);
        let Some(peer) = peer.filter(|peer| peer.exchanges(sketch)) else {
            return;
        };
        match peer.kind() {
            PeerKind::Member { is_live: true } => {
                peer.progress_mut().begin(version);
                if self.readiness.is_complete() {
                    peer.queue(QueuedFrame::DigestAsked);
                }
                self.publishing.set_wanted(true);
                self.tell_digest(boot);
            }
            PeerKind::Target => {
                peer.progress_mut().begin(version);
                let part = self.digest_part();
                self.tell_target(boot, &part);
            }
            PeerKind::Member { is_live: false } | PeerKind::Source => {}
        }
    }

    /// The lines of this round's digest.
    pub(super) fn digest_part(&self) -> Vec<DigestLine> {
        self.repair
            .digest_part(&self.slices, &self.peers.present_writers())
    }

    /// The next round's digest goes on where this one has ended.
    pub(super) fn move_on(&mut self, told: &[DigestLine]) {
        let writers = self.peers.present_writers();
        self.repair.move_on(told, &self.slices, &writers);
    }

    /// Tells a peer the lines of this round.
    fn tell_digest(&mut self, boot: Boot) {
        let part = self.digest_part();
        if let Some(peer) = self.peers.get_mut(boot) {
            peer.queue_digest(&part);
        }
    }

    /// Somebody asks what we have. Who pushes to us one way learns what of it has arrived, and that we are there; no
    /// more.
    pub(super) fn answer_digest_asked(&mut self, now: Duration, sender: Sender) {
        let sketch = self.ourselves.sketch();
        let Some(peer) = self.peer(now, sender) else {
            return;
        };
        let Some(writer) = peer.about().map(AboutPeer::writer) else {
            return peer.ask_about(now);
        };
        if !peer.exchanges(sketch) {
            return;
        }
        if peer.is_live_member() {
            self.tell_digest(sender.boot);
        } else {
            peer.queue(QueuedFrame::having(SliceId {
                sketch,
                node: sender.node,
                writer,
            }));
        }
    }

    /// Takes lines of a neighbour's digest.
    pub(super) fn take_digest(
        &mut self,
        now: Duration,
        sender: Sender,
        entries: impl Iterator<Item = DigestEntry>,
    ) {
        if self.one_way.has_boot(sender.boot) {
            return self.take_targets_digest(now, sender, entries);
        }
        // Somebody who is no member pushes one way: it will have to be asked.
        if self.peer(now, sender).is_none() {
            return;
        }
        for entry in entries {
            if self.may_take(now, sender, entry.slice.sketch) {
                self.take_digest_line(now, sender.boot, entry);
            }
        }
        self.note_progress(now, sender.boot);
    }

    /// Takes a target's digest: what it has beside our slice is its own business.
    fn take_targets_digest(
        &mut self,
        now: Duration,
        sender: Sender,
        entries: impl Iterator<Item = DigestEntry>,
    ) {
        if self.may_take(now, sender, self.ourselves.sketch()) {
            let own = self.ourselves.own_slice();
            let ours = entries.filter(|entry| entry.slice == *own);
            if let Some(version) = ours.map(|entry| entry.version).max() {
                self.note_has_of_ours(sender.boot, version);
            }
        }
    }

    fn take_digest_line(&mut self, now: Duration, from: Boot, theirs: DigestEntry) {
        if theirs.slice == *self.ourselves.own_slice() {
            return self.note_has_of_ours(from, theirs.version);
        }
        let patience = self.repair.patience();
        let neighbour = self.peers.get(from);
        let relation = Relation {
            is_pushed: (self.peers).is_pushed_by_live(now, patience, &theirs.slice),
            never_asks: neighbour.is_some_and(Peer::is_source),
            is_its_own: neighbour.is_some_and(|peer| peer.writes(&theirs.slice)),
        };
        self.repair
            .compare(now, &mut self.slices, from, theirs, relation);
    }

    /// A peer says up to which version it has our slice.
    fn note_has_of_ours(&mut self, from: Boot, version: u64) {
        let published = self.slices.own_version();
        if let Some(peer) = self.peers.get_mut(from) {
            peer.progress_mut().heard(version, published);
        }
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
                && (self.repair).compare_siblings(&self.slices, sender.boot, theirs)
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
        let lines = self.slices.sibling_lines(slice, buckets, first);
        let lines = lines.take(self.repair.lines_a_round());
        let lines: Vec<DigestLine> = lines.map(|line| DigestLine::Slice(line.slice)).collect();
        if let Some(peer) = self.peers.get_mut(sender.boot) {
            peer.queue_digest(&lines);
        }
    }
}
