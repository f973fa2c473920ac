//! Finding out whether the name of our own slices is ours alone, and going on under another one where it is not.

use std::sync::Arc;
use std::time::Duration;

use rand::RngExt;

use super::Cluster;
use crate::gossip::lifecycle::{NAME_LIMIT, Taken, Told};
use crate::gossip::peers::{Peer, QueuedFrame};
use crate::gossip::push::Publishing;
use crate::gossip::repair::{Repair, Sections};
use crate::gossip::sketches::OurSlice;
use crate::gossip::state::{ClusterEvent, NameTaken, NewWriter};
use crate::gossip::transport::Sender;
use rmbd_proto::cluster::{DigestEntry, SliceId};
use rmbd_proto::{Boot, SketchNumber, Writer};

impl Cluster {
    /// A peer says in a line what it has of our slice.
    pub(super) fn note_has_of_ours(&mut self, now: Duration, from: Boot, theirs: &DigestEntry) {
        let Some(ours) = self.sketches.our_slice(theirs.slice.sketch) else {
            return;
        };
        match self.naming.judge_line(theirs, ours) {
            // Nothing goes to whoever is neither a member nor a target, so that it has nothing to say here.
            _ if ours.is_resumed && !self.is_up(from) => {}
            Some(reason) => self.lose_name(now, from, reason),
            None => self.hear_of_ours(from, theirs.version, ours),
        }
    }

    /// A peer tells hashes of sections of our slice: it was asked what it has.
    pub(super) fn take_sections_of_ours(
        &mut self,
        now: Duration,
        sender: Sender,
        slice: &SliceId,
        theirs: Sections<impl Iterator<Item = u64>>,
    ) {
        let Some((peer, ours)) = self.peer_of_ours(sender, slice) else {
            return;
        };
        if peer.progress().questions().section(slice.sketch) != Some(theirs.first) {
            return;
        }
        let version = theirs.version;
        let told = (self.naming).judge_sections(ours, version, theirs.first, theirs.hashes);
        match told {
            Told::Taken(reason) => self.lose_name(now, sender.boot, reason),
            Told::Enough => self.hear_of_ours(sender.boot, version, ours),
            Told::More(section) => {
                if let Some(peer) = self.peers.get_mut(sender.boot) {
                    (peer.progress_mut().questions_mut()).go_on(slice.sketch, section);
                }
            }
        }
    }

    /// Somebody tells that it is our node, and writes our slices.
    pub(super) fn meet_same_writer(&mut self, now: Duration, sender: Sender, asks: bool) {
        self.refusals.count("our_writer");
        // Whoever is neither a member nor a target may say what it likes.
        let ourselves = Arc::clone(&self.ourselves);
        let peer = self.peers.get_mut(sender.boot);
        if let Some(peer) = peer.filter(|peer| peer.is_up()) {
            if asks {
                peer.tell_about(&ourselves, false);
            }
            self.lose_name(now, sender.boot, NameTaken::SameWriter);
        }
    }

    /// Asks what others have of our slices, gives up waiting for it, and takes a new writer where the name is taken.
    pub(super) fn name_step(&mut self, now: Duration) {
        if self.leaving.is_over() {
            return;
        }
        self.ask_of_ours(now);
        self.end_patience(now);
        if let Some(twin) = self.naming.take_twin(now)
            && let Some(peer) = self.peers.get_mut(twin)
        {
            peer.tell_about(&self.ourselves, false);
        }
        if let Some(taken) = self.naming.due(now) {
            self.take_new_writer(now, taken);
        }
    }

    /// When [`name_step`](Self::name_step) has something to do.
    pub(super) fn next_name_step(&self, now: Duration) -> Option<Duration> {
        let questions = self.peers.iter().map(|peer| peer.progress().questions());
        let asks = questions.clone().filter_map(|of| of.next_wake(now));
        let limits = questions.flat_map(|of| of.open().map(|(_, since)| since + NAME_LIMIT));
        let all = asks.chain(limits).chain(self.naming.next_wake());
        all.min().filter(|_| !self.leaving.is_over())
    }

    fn is_up(&self, boot: Boot) -> bool {
        self.peers.get(boot).is_some_and(Peer::is_up)
    }

    /// A peer has all of our slice until this version, and nothing that is not ours.
    fn hear_of_ours(&mut self, from: Boot, version: u64, ours: OurSlice) {
        if version > ours.version && !self.naming.is_resumed() {
            // Nobody can have drawn the same name; it is said on purpose.
            self.refusals.count("later_version_of_ours");
        }
        self.naming.confirm(ours);
        if let Some(peer) = self.peers.get_mut(from) {
            peer.progress_mut().heard(version, ours);
        }
    }

    fn lose_name(&mut self, now: Duration, from: Boot, reason: NameTaken) {
        let by = self.peers.get(from).map(|peer| (from, peer.address()));
        self.naming.lose(now, reason, by);
    }

    fn ask_of_ours(&mut self, now: Duration) {
        let sketches = &self.sketches;
        for peer in self.peers.iter_mut() {
            let mut asked = Vec::new();
            let questions = peer.progress_mut().questions_mut();
            questions.ask(now, |sketch, first| asked.push((sketch, first)));
            for (sketch, first) in asked {
                if let Some(slices) = sketches.get(sketch) {
                    let slice = slices.own_slice();
                    peer.queue(QueuedFrame::SectionsAsked { slice, first });
                }
            }
        }
    }

    fn end_patience(&mut self, now: Duration) {
        let late = self.peers.iter().flat_map(|peer| {
            let open = peer.progress().questions().open();
            let late = open.filter(|&(_, since)| since + NAME_LIMIT <= now);
            late.map(|(sketch, _)| (peer.boot(), sketch))
        });
        let late: Vec<(Boot, SketchNumber)> = late.collect();
        for (boot, sketch) in late {
            if self.naming.is_untold() {
                self.naming.lose(now, NameTaken::Unanswered, None);
            } else if let Some(ours) = self.sketches.our_slice(sketch) {
                // Others have told: it gets everything.
                self.hear_of_ours(boot, 0, ours);
            }
        }
    }

    pub(super) fn take_new_writer(&mut self, now: Duration, taken: Taken) {
        let before = self.sketches.first().own_slice().writer;
        let writer = Writer(self.draw_other_than(before.0));
        self.sketches.take_new_writer(writer);
        let new_writer = NewWriter {
            reason: taken.reason,
            by: taken.by.map(|(_, address)| address),
            before,
            writer,
        };
        self.naming.note_new_writer(new_writer);
        self.events.push(ClusterEvent::NewWriter(new_writer));
        self.begin_again(now, writer);
    }

    /// To all others we are another start from now on: what a start has told of itself stands. What is held, whom we
    /// know, and what we were told to do, stays.
    fn begin_again(&mut self, now: Duration, writer: Writer) {
        let boot = Boot(self.draw_other_than(self.ourselves.boot().0));
        self.has_met_anybody = false;
        self.ourselves = Arc::new(self.ourselves.begin_again(boot, writer));
        self.inbox.begin_again(boot);
        self.outbox.begin_again(boot);
        self.membership.begin_again(now, boot);
        self.peers.begin_again();
        self.repair = Repair::new(self.rounds.span(1), self.limits);
        self.readiness.begin_again();
        self.publishing = Publishing::new(now);
        let sketches = self.sketches.numbers();
        sketches.for_each(|sketch| self.publishing.want(sketch));
        for target in self.one_way.forget_all_boots() {
            self.greet(target);
        }
        self.follow_members(now);
    }

    /// A random number that is not 0.
    fn draw_other_than(&mut self, before: u64) -> u64 {
        loop {
            let drawn = self.random.random();
            if drawn != 0 && drawn != before {
                return drawn;
            }
        }
    }
}
