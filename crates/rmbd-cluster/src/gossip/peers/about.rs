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
//! stands. Who has many sketches tells them in parts; a peer is known when all of them have come.
//! With a peer that has another sketch, or none of this number, nothing of it is exchanged, either way. It is a member
//! all the same, and all other sketches are exchanged.

use std::collections::BTreeMap;

use crate::gossip::sketches::OurSketch;
use crate::gossip::state::Agreement;
use rmbd_proto::cluster::{
    FrameWriter, SKETCHES_MAX, SKETCHES_TOLD_MAX, SketchEntries, SketchEntry, SliceId,
};
use rmbd_proto::{Boot, SketchNumber, Writer};

/// This node, and what it tells of itself.
#[derive(Debug)]
pub(crate) struct Ourselves {
    boot: Boot,
    /// The slice that it writes in the first sketch.
    own: SliceId,
    /// In the order in which they are told.
    entries: Vec<SketchEntry>,
    sketches: BTreeMap<SketchNumber, OurSketch>,
}

impl Ourselves {
    /// A node with these sketches, of which there is at least one.
    pub(crate) fn new(boot: Boot, sketches: &[OurSketch]) -> Self {
        let by_number = sketches.iter().map(|ours| (ours.entry.number, *ours));
        Self {
            boot,
            own: sketches
                .first()
                .map_or_else(SliceId::default, |first| first.own),
            entries: sketches.iter().map(|ours| ours.entry).collect(),
            sketches: by_number.collect(),
        }
    }

    /// The same node as another start, whose slices have another writer.
    pub(crate) fn begin_again(&self, boot: Boot, writer: Writer) -> Self {
        let sketches = self.sketches.iter();
        let sketches = sketches.map(|(&number, ours)| {
            let own = SliceId { writer, ..ours.own };
            (number, OurSketch { own, ..*ours })
        });
        Self {
            boot,
            own: SliceId { writer, ..self.own },
            entries: self.entries.clone(),
            sketches: sketches.collect(),
        }
    }

    pub(crate) fn boot(&self) -> Boot {
        self.boot
    }

    /// Whether this node writes a slice.
    pub(crate) fn writes(&self, slice: &SliceId) -> bool {
        let is_ours = self.is(slice.node, slice.writer);
        is_ours && self.sketches.contains_key(&slice.sketch)
    }

    /// Whether this node has this number, and its slices this writer.
    pub(crate) fn is(&self, node: u64, writer: Writer) -> bool {
        (node, writer) == (self.own.node, self.own.writer)
    }

    /// Cells of a sketch, where it is here.
    pub(crate) fn cells(&self, sketch: SketchNumber) -> Option<u32> {
        self.sketches.get(&sketch).map(|ours| ours.cells)
    }

    /// The fingerprint of a sketch, where it is here.
    pub(crate) fn fingerprint(&self, sketch: SketchNumber) -> Option<u64> {
        let ours = self.sketches.get(&sketch);
        ours.map(|ours| ours.entry.fingerprint)
    }

    /// The first sketch of each part in which our sketches are told.
    pub(super) fn parts(&self) -> impl Iterator<Item = u32> + use<> {
        (0..self.entries.len() as u32).step_by(SKETCHES_TOLD_MAX)
    }

    pub(super) fn write(&self, asks: bool, first: u32, writer: &mut FrameWriter<'_>) -> bool {
        writer.about(asks, self.own.writer, &self.entries, first)
    }

    /// How one of our sketches stands to one of theirs; `None` where we have none of its number.
    fn compare(&self, theirs: SketchEntry) -> Option<Agreement> {
        let ours = self.sketches.get(&theirs.number)?;
        let is_same = theirs.fingerprint == ours.entry.fingerprint;
        let other = Agreement::Other {
            theirs: theirs.fingerprint,
        };
        Some(if is_same { Agreement::Same } else { other })
    }
}

/// A part of what a peer tells of itself.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AboutPart<'a> {
    /// The writer of its slices.
    pub(crate) writer: Writer,
    /// How many sketches it has.
    pub(crate) total: u32,
    /// The number of the first one here, of its list.
    pub(crate) first: u32,
    pub(crate) sketches: SketchEntries<'a>,
}

/// A peer has told this of itself, as far as it concerns us.
#[derive(Debug)]
pub(crate) struct AboutPeer {
    writer: Writer,
    total: u32,
    /// Which of its sketches have been told: a bit for each.
    told: [u64; SKETCHES_MAX / 64],
    /// How our sketches stand to its own, as far as it has told.
    agreements: BTreeMap<SketchNumber, Agreement>,
    /// How many of them are the same.
    same: usize,
}

impl AboutPeer {
    /// A peer of whose sketches nothing has come yet. Of more than [`SKETCHES_MAX`] the rest is not heard.
    pub(crate) fn new(writer: Writer, total: u32) -> Self {
        Self {
            writer,
            total: total.min(SKETCHES_MAX as u32),
            told: [0; SKETCHES_MAX / 64],
            agreements: BTreeMap::new(),
            same: 0,
        }
    }

    /// Takes a part. One that is told by another writer, or of another list, is not taken: what came first stands.
    pub(crate) fn hear(&mut self, ourselves: &Ourselves, part: AboutPart<'_>) {
        let is_of_this_list = Self::new(part.writer, part.total).is_like(self);
        if !is_of_this_list || self.is_whole() {
            return;
        }
        for (at, theirs) in (part.first..self.total).zip(part.sketches) {
            self.told[at as usize / 64] |= 1 << (at % 64);
            if let Some(agreement) = ourselves.compare(theirs) {
                self.agreements.entry(theirs.number).or_insert(agreement);
            }
        }
        if self.is_whole() {
            for &number in ourselves.sketches.keys() {
                self.agreements.entry(number).or_insert(Agreement::Lacks);
            }
            let all = self.agreements.values();
            self.same = all.filter(|it| **it == Agreement::Same).count();
        }
    }

    fn is_like(&self, other: &Self) -> bool {
        (self.writer, self.total) == (other.writer, other.total)
    }

    /// All parts have come.
    pub(super) fn is_whole(&self) -> bool {
        let told = self.told.iter().map(|bits| bits.count_ones());
        told.sum::<u32>() == self.total
    }

    pub(crate) fn writer(&self) -> Writer {
        self.writer
    }

    /// How its sketch of this number stands to ours.
    pub(super) fn agreement(&self, sketch: SketchNumber) -> Agreement {
        let found = self.agreements.get(&sketch);
        found.copied().unwrap_or(Agreement::Lacks)
    }

    /// How many of our sketches it has, too.
    pub(super) fn same(&self) -> usize {
        self.same
    }

    /// Our sketches that it has, too.
    pub(super) fn same_sketches(&self) -> impl Iterator<Item = SketchNumber> + '_ {
        let all = self.agreements.iter();
        let same = all.filter(|(_, agreement)| **agreement == Agreement::Same);
        same.map(|(&sketch, _)| sketch)
    }

    /// Our sketches of which it has none, or others.
    pub(super) fn apart(&self) -> impl Iterator<Item = (SketchNumber, Agreement)> {
        let agreements = self.agreements.iter().map(|(&number, &it)| (number, it));
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

    const WRITER: Writer = Writer(5);

    fn entry((number, fingerprint): (u32, u64)) -> SketchEntry {
        SketchEntry {
            number: SketchNumber(number),
            fingerprint,
        }
    }

    /// A node with sketches of these numbers, each with its number plus 7 as its fingerprint.
    fn ourselves(numbers: impl Iterator<Item = u32>) -> Ourselves {
        let sketches = numbers.map(|number| OurSketch {
            entry: entry((number, u64::from(number) + 7)),
            own: SliceId::of(1, Writer(10)),
            cells: 64,
        });
        Ourselves::new(Boot(1), &sketches.collect::<Vec<_>>())
    }

    fn hear(peer: &mut AboutPeer, ours: &Ourselves, theirs: &[SketchEntry], first: u32) {
        let mut bytes = Vec::new();
        assert!(FrameWriter::new(&mut bytes, 1_150).about(true, WRITER, theirs, first));
        let frame = frames(&bytes, |_| None).next().unwrap().unwrap();
        let Frame::About {
            writer,
            total,
            first,
            sketches,
            ..
        } = frame
        else {
            panic!("{frame:?}");
        };
        let part = AboutPart {
            writer,
            total,
            first,
            sketches,
        };
        peer.hear(ours, part);
    }

    fn compared(theirs: &[(u32, u64)]) -> Agreement {
        let ours = ourselves(0..1);
        let theirs: Vec<SketchEntry> = theirs.iter().copied().map(entry).collect();
        let mut peer = AboutPeer::new(WRITER, theirs.len() as u32);
        hear(&mut peer, &ours, &theirs, 0);
        assert!(peer.is_whole());
        peer.hear(&ours, part_without_sketches());
        assert_eq!(peer.compared(), usize::from(!theirs.is_empty()));
        peer.agreement(SketchNumber::DEFAULT)
    }

    /// An about of somebody else.
    fn part_without_sketches() -> AboutPart<'static> {
        let frame = frames(&[18, 12, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], |_| None).next();
        let Some(Ok(Frame::About { sketches, .. })) = frame else {
            panic!("{frame:?}");
        };
        AboutPart {
            writer: Writer(6),
            total: 0,
            first: 0,
            sketches,
        }
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

    /// In any order, and again; before the last one nothing is known of any.
    #[test]
    fn many_sketches_come_in_parts() {
        let ours = ourselves((0..SKETCHES_MAX as u32).rev());
        let theirs = (0..SKETCHES_MAX as u32).filter(|number| number % 10 != 0);
        let fingerprint = |number: u32| u64::from(number) + 7 + u64::from(number % 10 == 1);
        let theirs: Vec<_> = theirs
            .map(|number| entry((number, fingerprint(number))))
            .collect();
        let mut peer = AboutPeer::new(WRITER, theirs.len() as u32);
        for first in [192, 0, 192, 128, 0] {
            hear(&mut peer, &ours, &theirs, first);
            assert!(!peer.is_whole());
        }
        hear(&mut peer, &ours, &theirs, 64);
        assert!(peer.is_whole());
        assert_eq!((peer.compared(), peer.same()), (256, 256 - 26 * 2));
        for number in 0..SKETCHES_MAX as u32 {
            let agreement = match number % 10 {
                0 => Agreement::Lacks,
                1 => Agreement::Other {
                    theirs: u64::from(number) + 8,
                },
                _ => Agreement::Same,
            };
            assert_eq!(peer.agreement(SketchNumber(number)), agreement);
        }
    }

    #[test]
    fn who_says_to_have_more_than_there_can_be_is_bounded() {
        let ours = ourselves(0..1);
        let theirs: Vec<_> = (0..1_000).map(|number| entry((number, 7))).collect();
        let mut peer = AboutPeer::new(WRITER, theirs.len() as u32);
        for first in (0..1_000).step_by(SKETCHES_TOLD_MAX) {
            hear(&mut peer, &ours, &theirs, first);
        }
        assert!(peer.is_whole());
        assert_eq!(peer.compared(), 1);
    }
}
