//! What two nodes tell each other of themselves before anything else: who writes their slices, and which sketches
//! they have.
//!
//! ```text
//!   we                                           a peer that we know nothing of yet
//!    -- about us, and what about you? --------->     it may push to us from here on
//!    <----------------------- about it ---------     and we to it, of the sketches that are the same
//!    -- digest, cells, questions ... ---------->
//! ```
//!
//! Who does not know the other one's asks again, each round and when something comes that cannot be taken for want of
//! it; so nothing depends on a single datagram. A start of a node says the same each time: what came first stands.
//! With a peer that has another sketch, or none of this number, nothing of it is exchanged, either way. It is a member
//! all the same.

use std::net::SocketAddr;
use std::time::Duration;

use super::peer::{Kind, Peer, Question};
use super::state::{Agreement, ClusterEvent};
use super::{Cluster, From, STRANGERS_MAX};
use crate::wire::cluster::{FrameWriter, SketchEntries, SketchEntry, SliceId};
use crate::wire::{Boot, SketchNumber, Writer};

/// Who was asked is not asked again before.
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// What this node tells of itself.
#[derive(Debug)]
pub(super) struct Ourselves {
    writer: Writer,
    sketches: Vec<OurSketch>,
}

#[derive(Debug)]
struct OurSketch {
    entry: SketchEntry,
    cells: u32,
}

impl Ourselves {
    /// A node with one sketch.
    pub(super) fn new(own: &SliceId, fingerprint: u64, cells: u32) -> Self {
        let number = own.sketch;
        let entry = SketchEntry {
            number,
            fingerprint,
        };
        Self {
            writer: own.writer,
            sketches: vec![OurSketch { entry, cells }],
        }
    }

    /// Cells of a sketch, where it is here.
    pub(super) fn cells(&self, sketch: SketchNumber) -> Option<u32> {
        let mut sketches = self.sketches.iter();
        let found = sketches.find(|ours| ours.entry.number == sketch);
        found.map(|ours| ours.cells)
    }

    pub(super) fn write(&self, asks: bool, writer: &mut FrameWriter<'_>) -> bool {
        let entries: Vec<SketchEntry> = self.sketches.iter().map(|ours| ours.entry).collect();
        writer.about(asks, self.writer, &entries)
    }

    /// How each of our sketches stands to theirs. What they have beside is of no concern.
    fn compare(&self, theirs: SketchEntries<'_>) -> Vec<(SketchNumber, Agreement)> {
        let agreement = |ours: &OurSketch| {
            let mut theirs = theirs;
            let same_number = theirs.find(|theirs| theirs.number == ours.entry.number);
            let agreement = match same_number.map(|theirs| theirs.fingerprint) {
                None => Agreement::Lacks,
                Some(theirs) if theirs == ours.entry.fingerprint => Agreement::Same,
                Some(theirs) => Agreement::Other { theirs },
            };
            (ours.entry.number, agreement)
        };
        self.sketches.iter().map(agreement).collect()
    }
}

/// What a peer has told of itself, as far as it concerns us.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) writer: Writer,
    /// Of each of our sketches.
    pub(super) agreements: Vec<(SketchNumber, Agreement)>,
}

impl Cluster {
    /// Takes what a peer tells of itself.
    pub(super) fn take_about(
        &mut self,
        now: Duration,
        from: From,
        asks: bool,
        writer: Writer,
        sketches: SketchEntries<'_>,
    ) {
        if (from.node, writer) == (self.own.node, self.own.writer) {
            return self.refuse("our_writer");
        }
        let agreements = self.ourselves.compare(sketches);
        let Some(peer) = self.peer(now, from) else {
            return;
        };
        if peer.node != from.node || writer == Writer(0) {
            return self.refuse("other_node");
        }
        if asks {
            peer.ask(Question::About { asks: false });
        }
        if peer.told.is_none() {
            peer.told = Some(Told { writer, agreements });
            self.note_told(now, from.boot);
        }
    }

    /// A peer has told of itself.
    fn note_told(&mut self, now: Duration, boot: Boot) {
        let Some(peer) = self.peers.get_mut(&boot) else {
            return;
        };
        let apart: Vec<_> = peer.apart().collect();
        let (address, exchanges) = (peer.address, peer.exchanges(self.own.sketch));
        if !exchanges {
            // It is behind in nothing.
            peer.behind_since = None;
        }
        for (sketch, agreement) in apart {
            self.report_apart(address, sketch, agreement);
        }
        if exchanges {
            self.readiness.told(boot);
            self.begin_exchange(boot);
        } else {
            self.readiness.excuse(boot);
            self.note_converged(now);
        }
    }

    fn report_apart(&mut self, from: SocketAddr, sketch: SketchNumber, agreement: Agreement) {
        let theirs = match agreement {
            Agreement::Other { theirs } => Some(theirs),
            _ => None,
        };
        if self.apart.len() < STRANGERS_MAX && self.apart.insert((from, sketch)) {
            self.report(ClusterEvent::OtherSketch {
                from,
                sketch,
                theirs,
            });
        }
    }

    /// Both know that they have the same sketch, or we knew it before and it is up again: each learns at once what
    /// the other one has.
    pub(super) fn begin_exchange(&mut self, boot: Boot) {
        let (version, cells) = (self.slices.own_version(), self.cells);
        let is_complete = self.readiness.is_complete();
        let sketch = self.own.sketch;
        let Some(peer) = self.peers.get_mut(&boot) else {
            return;
        };
        if !peer.exchanges(sketch) {
            return;
        }
        match peer.kind {
            Kind::Member { is_live: true } => {
                peer.push.begin(version, cells);
                if is_complete {
                    peer.ask(Question::DigestAsked);
                }
                self.is_publishing = true;
                self.tell_digest(boot);
            }
            Kind::Target => {
                peer.push.begin(version, cells);
                let part = self.digest_part();
                self.tell_target(boot, &part);
            }
            Kind::Member { is_live: false } | Kind::Giver => {}
        }
    }

    /// Whoever is up and has not told of itself is asked.
    pub(super) fn ask_those_untold(&mut self, now: Duration) {
        for peer in self.peers.values_mut().filter(|peer| peer.is_up()) {
            peer.ask_about(now);
        }
    }

    /// Whether something of a sketch may be taken from whoever sent it.
    pub(super) fn may_take(&mut self, now: Duration, from: From, sketch: SketchNumber) -> bool {
        if self.ourselves.cells(sketch).is_none() {
            self.refuse("unknown_sketch");
            return false;
        }
        let peer = self.peers.get(&from.boot);
        let reason = match peer.map_or(Agreement::Untold, |peer| peer.agreement(sketch)) {
            Agreement::Same => return true,
            Agreement::Untold => "untold_sketch",
            Agreement::Other { .. } | Agreement::Lacks => "other_sketch",
        };
        self.refuse(reason);
        if let Some(peer) = self.peer(now, from) {
            peer.ask_about(now);
        }
        false
    }

    /// Whether whoever sent it writes a slice itself.
    pub(super) fn is_its_own(&self, from: Boot, slice: &SliceId) -> bool {
        let peer = self.peers.get(&from);
        peer.is_some_and(|peer| peer.writes(slice))
    }

    /// Whether a live member that was heard lately writes a slice: what is missing of it is probably on its way.
    pub(super) fn is_pushed_by_live(
        &self,
        now: Duration,
        lately: Duration,
        slice: &SliceId,
    ) -> bool {
        let mut live = self.peers.values().filter(|peer| peer.is_live_member());
        live.any(|peer| peer.writes(slice) && peer.was_heard(now, lately))
    }
}

impl Peer {
    /// Whether it has the same sketch of this number as we.
    pub(super) fn agreement(&self, sketch: SketchNumber) -> Agreement {
        let Some(told) = &self.told else {
            return Agreement::Untold;
        };
        let mut agreements = told.agreements.iter();
        let found = agreements.find(|(number, _)| *number == sketch);
        found.map_or(Agreement::Lacks, |&(_, agreement)| agreement)
    }

    pub(super) fn exchanges(&self, sketch: SketchNumber) -> bool {
        self.agreement(sketch) == Agreement::Same
    }

    /// Our sketches of which it has none, or others.
    pub(super) fn apart(&self) -> impl Iterator<Item = (SketchNumber, Agreement)> {
        let agreements = self.told.iter().flat_map(|told| &told.agreements);
        agreements
            .filter(|(_, agreement)| *agreement != Agreement::Same)
            .copied()
    }

    pub(super) fn writes(&self, slice: &SliceId) -> bool {
        let told = self.told.as_ref();
        self.node == slice.node && told.is_some_and(|told| told.writer == slice.writer)
    }

    /// Asks it what it is, where that is not known, and tells it what we are.
    pub(super) fn ask_about(&mut self, now: Duration) {
        let is_early =
            |asked_at: Duration| now >= asked_at && now.saturating_sub(asked_at) < ASK_AGAIN;
        if self.told.is_none() && !self.about_asked_at.is_some_and(is_early) {
            self.about_asked_at = Some(now);
            self.ask(Question::About { asks: true });
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::wire::cluster::{Frame, frames};

    fn compared(theirs: &[(u32, u64)]) -> Agreement {
        let ours = Ourselves::new(&SliceId::of(1, Writer(10)), 7, 64);
        let entries: Vec<SketchEntry> = theirs
            .iter()
            .map(|&(number, fingerprint)| SketchEntry {
                number: SketchNumber(number),
                fingerprint,
            })
            .collect();
        let mut bytes = Vec::new();
        assert!(FrameWriter::new(&mut bytes, 1_000).about(true, Writer(5), &entries));
        let frame = frames(&bytes, |_| None).next().unwrap().unwrap();
        let Frame::About { sketches, .. } = frame else {
            panic!("{frame:?}");
        };
        let compared = ours.compare(sketches);
        assert_eq!(compared.len(), 1);
        assert_eq!(compared[0].0, SketchNumber::DEFAULT);
        compared[0].1
    }

    #[test]
    fn sketches_are_the_same_others_or_lacking() {
        assert_eq!(compared(&[(0, 7)]), Agreement::Same);
        assert_eq!(compared(&[(9, 1), (0, 7), (1 << 31, 2)]), Agreement::Same);
        assert_eq!(compared(&[(0, 8)]), Agreement::Other { theirs: 8 });
        assert_eq!(
            compared(&[(0, 8), (0, 7)]),
            Agreement::Other { theirs: 8 },
            "what is said first stands"
        );
        assert_eq!(compared(&[]), Agreement::Lacks);
        assert_eq!(compared(&[(1, 7)]), Agreement::Lacks);
    }
}
