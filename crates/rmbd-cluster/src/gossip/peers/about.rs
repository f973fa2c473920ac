//! Before anything else two nodes tell each other who writes their slices, and which sketches they have.
//!
//! ```text
//!   we                                           a peer that we know nothing of yet
//!    -- about us, and what about you? --------->     it may push to us from here on
//!    <----------------------- about it ---------     and we to it, of the sketches that are the same
//!    -- digest, cells, questions ... ---------->
//! ```
//!
//! A node that does not know this of a peer asks again, each round and when something comes that it cannot take for
//! want of it; so nothing depends on a single datagram. A start of a node says the same each time: what came first
//! stands.
//! With a peer that has another sketch, or none of this number, nothing of it is exchanged, either way. It is a member
//! all the same.

use crate::gossip::state::Agreement;
use rmbd_proto::cluster::{FrameWriter, SketchEntries, SketchEntry, SliceId};
use rmbd_proto::{Boot, SketchNumber, Writer};

/// This node, and what it tells of itself.
#[derive(Debug)]
pub(crate) struct Ourselves {
    boot: Boot,
    own: SliceId,
    sketches: Vec<OurSketch>,
}

#[derive(Debug)]
struct OurSketch {
    entry: SketchEntry,
    cells: u32,
}

impl Ourselves {
    /// A node with one sketch of so many cells, in which it writes slice `own`.
    pub(crate) fn new(boot: Boot, own: SliceId, fingerprint: u64, cells: u32) -> Self {
        let number = own.sketch;
        let entry = SketchEntry {
            number,
            fingerprint,
        };
        Self {
            boot,
            own,
            sketches: vec![OurSketch { entry, cells }],
        }
    }

    pub(crate) fn boot(&self) -> Boot {
        self.boot
    }

    /// The slice that this node writes.
    pub(crate) fn own_slice(&self) -> &SliceId {
        &self.own
    }

    pub(crate) fn sketch(&self) -> SketchNumber {
        self.own.sketch
    }

    /// Cells of a sketch, where it is here.
    pub(crate) fn cells(&self, sketch: SketchNumber) -> Option<u32> {
        let mut sketches = self.sketches.iter();
        let found = sketches.find(|ours| ours.entry.number == sketch);
        found.map(|ours| ours.cells)
    }

    pub(super) fn write(&self, asks: bool, writer: &mut FrameWriter<'_>) -> bool {
        let entries: Vec<SketchEntry> = self.sketches.iter().map(|ours| ours.entry).collect();
        writer.about(asks, self.own.writer, &entries)
    }

    /// Tells how each of our sketches stands to theirs. Further ones of theirs are of no concern.
    pub(crate) fn compare(&self, theirs: SketchEntries<'_>) -> Vec<(SketchNumber, Agreement)> {
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

/// A peer has told this of itself, as far as it concerns us.
#[derive(Debug)]
pub(crate) struct AboutPeer {
    writer: Writer,
    /// How each of our sketches stands to its own.
    agreements: Vec<(SketchNumber, Agreement)>,
}

impl AboutPeer {
    /// The peer has told who writes its slices; `agreements` says how each of our sketches stands to its own.
    pub(crate) fn new(writer: Writer, agreements: Vec<(SketchNumber, Agreement)>) -> Self {
        Self { writer, agreements }
    }

    pub(crate) fn writer(&self) -> Writer {
        self.writer
    }

    /// How its sketch of this number stands to ours.
    pub(super) fn agreement(&self, sketch: SketchNumber) -> Agreement {
        let mut agreements = self.agreements.iter();
        let found = agreements.find(|(number, _)| *number == sketch);
        found.map_or(Agreement::Lacks, |&(_, agreement)| agreement)
    }

    /// Our sketches of which it has none, or others.
    pub(super) fn apart(&self) -> impl Iterator<Item = (SketchNumber, Agreement)> {
        let agreements = self.agreements.iter().copied();
        agreements.filter(|(_, agreement)| *agreement != Agreement::Same)
    }

    /// How many of our sketches it was compared with.
    #[cfg(test)]
    pub(crate) fn compared(&self) -> usize {
        self.agreements.len()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use rmbd_proto::cluster::{Frame, frames};

    fn compared(theirs: &[(u32, u64)]) -> Agreement {
        let ours = Ourselves::new(Boot(1), SliceId::of(1, Writer(10)), 7, 64);
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
