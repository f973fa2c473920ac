//! Whether the name of our own slices is ours alone.
//!
//! ```text
//!   open -----> somebody has told what it has of ours, and it is no more than the earlier start wrote -----> ours
//!     |                                                                                                        |
//!     +-------> taken: somebody has more, or other cells, or writes it; or nobody tells anything <-------------+
//!                 |
//!                 +---> a new writer, once: what was added since the start is a slice of its own
//! ```
//!
//! A node that has ended in order goes on with the slices of its earlier start, under their name. But a disk may have
//! been copied, or a backup be brought back: then another node has gone on with them, or goes on now. What two write
//! under one name hides each other, since the larger value of each cell counts. So nothing goes out under a name that
//! an earlier start gave, before the first of those who get it has told what it has of it. And whenever it turns out
//! later that somebody else writes it, too, both take new writers, of which nobody has heard. Then nothing is hidden;
//! what had gone out under the common name may count twice.
//!
//! All sketches have one writer. Once somebody has told what it has in one of them, something may have gone out, and a
//! new writer would let that count twice. So it is only for want of any word in all of them that a name is given up
//! where nothing speaks against it; a sketch of which nobody tells then goes on under the name that the others have.
//!
//! A name that was drawn by this start is 64 random bits, and nobody else's. So a new writer is taken once in a start,
//! and only in place of a name that an earlier one gave. Whoever claims more after that is not believed: a member that
//! does so on purpose costs one slice, and not one after the other.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use crate::gossip::sketches::{OurSlice, Sketches};
use crate::gossip::state::{NameTaken, NewWriter};
use rmbd_proto::cluster::DigestEntry;
use rmbd_proto::{Boot, SketchNumber};
use rmbd_store::Slices;

/// Where others were asked what they have of our slices, and nobody has told for this long, the name is given up: that
/// hides nothing, and costs one slice more. It is longer than a small cluster needs to find that a member is dead, and
/// as long as a node that joins is not ready at most. A single member that does not tell gets everything after it.
pub const NAME_LIMIT: Duration = Duration::from_secs(10);
/// Another node that writes our slices is told so for this long before we are another start ourselves, ...
const FAREWELL: Duration = Duration::from_secs(1);
/// ... again and again, as any datagram may be lost.
const FAREWELL_PERIOD: Duration = Duration::from_millis(200);

/// What is known of the name of our own slices.
#[derive(Debug)]
pub(crate) struct Naming {
    /// The slices whose name an earlier start gave; empty where this one has drawn it.
    resumed: BTreeMap<SketchNumber, Resumed>,
    /// The name is taken, and a new writer is not yet there.
    taken: Option<Taken>,
    new_writer: Option<NewWriter>,
}

/// What we know of one slice that is older than this start.
#[derive(Debug)]
struct Resumed {
    /// The version that the earlier start had reached, ...
    version: u64,
    /// ... the hash of all cells at that time, ...
    root: u64,
    /// ... and those of its sections, as long as the name is open.
    sections: Box<[u64]>,
    /// The version that we had when the first one had told what it has. Nobody gets what was published between the
    /// two, since only the last version goes out.
    told_from: Option<u64>,
    /// Our version and its hash; `None` while a pass is under way, of which some cells may have gone out.
    settled: Option<(u64, u64)>,
    /// The version that we had when cells went out ahead of the next one.
    urgent_at: Option<u64>,
}

/// The name is not ours alone.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Taken {
    pub(crate) reason: NameTaken,
    /// The start that has shown it, and its address.
    pub(crate) by: Option<(Boot, SocketAddr)>,
    /// When a new writer is taken.
    at: Duration,
    /// When the other writer is told the next time.
    tell_at: Option<Duration>,
}

/// The meaning of what a peer has told of some sections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Told {
    /// That is all that there is to be known.
    Enough,
    /// The sections from this one on are wanted, too.
    More(u32),
    /// Another node has written it.
    Taken(NameTaken),
}

impl Naming {
    /// The name of these slices, of which nothing was published yet.
    pub(crate) fn new(sketches: &Sketches) -> Self {
        let all = sketches.iter().filter(|_| sketches.is_resumed());
        let resumed = all.map(|slices| (slices.own_slice().sketch, Resumed::new(slices)));
        Self {
            resumed: resumed.collect(),
            taken: None,
            new_writer: None,
        }
    }

    /// An earlier start gave the name, and it may turn out to be taken.
    pub(crate) fn is_resumed(&self) -> bool {
        !self.resumed.is_empty()
    }

    /// Nobody has told yet what it has of our slice in this sketch.
    pub(crate) fn is_open(&self, sketch: SketchNumber) -> bool {
        let resumed = self.resumed.get(&sketch);
        resumed.is_some_and(Resumed::is_open)
    }

    /// Nobody has told yet what it has of our slice in any sketch, so nothing of ours has gone out.
    pub(crate) fn is_untold(&self) -> bool {
        self.is_resumed() && self.resumed.values().all(Resumed::is_open)
    }

    /// Nobody has told yet what it has of our slice in some sketch.
    pub(crate) fn is_any_open(&self) -> bool {
        self.resumed.values().any(Resumed::is_open)
    }

    /// The new writer that was taken in this start.
    pub(crate) fn new_writer(&self) -> Option<NewWriter> {
        self.new_writer
    }

    /// What shows that another node has written our slice, if anything does in the line of somebody who gets it.
    pub(crate) fn judge_line(&self, theirs: &DigestEntry, ours: OurSlice) -> Option<NameTaken> {
        let resumed = self.resumed.get(&ours.sketch)?;
        let (sketch, version) = (ours.sketch, theirs.version);
        if resumed.is_beyond(version, ours.version) {
            return Some(NameTaken::LaterVersion { sketch, version });
        }
        let is_other = resumed.is_other(version, theirs.root);
        is_other.then_some(NameTaken::OtherCells { sketch, version })
    }

    /// The same of the hashes of its sections from number `first` on, where all until `version` is there.
    pub(crate) fn judge_sections(
        &self,
        ours: OurSlice,
        version: u64,
        first: u32,
        hashes: impl Iterator<Item = u64>,
    ) -> Told {
        let Some(resumed) = self.resumed.get(&ours.sketch) else {
            return Told::Enough;
        };
        let sketch = ours.sketch;
        if resumed.is_beyond(version, ours.version) {
            return Told::Taken(NameTaken::LaterVersion { sketch, version });
        }
        // Of an older version other cells tell nothing: parts of a later one may be among them.
        if !resumed.is_open() || version < resumed.version {
            return Told::Enough;
        }
        let ours = resumed.sections.get(first as usize..).unwrap_or_default();
        let mut told = 0;
        for (ours, theirs) in ours.iter().zip(hashes) {
            if *ours != theirs {
                return Told::Taken(NameTaken::OtherCells { sketch, version });
            }
            told += 1;
        }
        if told == ours.len() {
            Told::Enough
        } else {
            Told::More(first.saturating_add(told as u32))
        }
    }

    /// Somebody who gets our slice has told what it has of it, and it is nothing that we have not written.
    pub(crate) fn confirm(&mut self, ours: OurSlice) {
        let resumed = self.resumed.get_mut(&ours.sketch);
        if let Some(resumed) = resumed.filter(|resumed| resumed.is_open()) {
            resumed.told_from = Some(ours.version);
            resumed.sections = Box::default();
        }
    }

    /// A pass over our cells has ended, so that what goes out is of this version and has this hash; or one is under
    /// way.
    pub(crate) fn note_pass(&mut self, sketch: SketchNumber, settled: Option<(u64, u64)>) {
        if let Some(resumed) = self.resumed.get_mut(&sketch) {
            resumed.settled = settled;
        }
    }

    /// Cells have gone out ahead of the next version, in any of these sketches.
    pub(crate) fn note_urgent(&mut self, sketches: &Sketches) {
        for (&sketch, resumed) in &mut self.resumed {
            resumed.urgent_at = sketches.get(sketch).map(Slices::own_version);
        }
    }

    /// The name is taken, as somebody shows. False, and nothing done, where this start has drawn it, or it is known.
    pub(crate) fn lose(
        &mut self,
        now: Duration,
        reason: NameTaken,
        by: Option<(Boot, SocketAddr)>,
    ) -> bool {
        if !self.is_resumed() || self.taken.is_some() {
            return false;
        }
        // Who writes it, too, has to take a new writer as well.
        let is_to_be_told = reason == NameTaken::SameWriter;
        self.taken = Some(Taken {
            reason,
            by,
            at: if is_to_be_told { now + FAREWELL } else { now },
            tell_at: is_to_be_told.then_some(now),
        });
        true
    }

    /// Until when nothing of ours goes out, since its name is taken.
    pub(crate) fn shut_until(&self) -> Option<Duration> {
        self.taken.map(|taken| taken.at)
    }

    /// The other start that writes our slices, where it is to be told now that we do.
    pub(crate) fn take_twin(&mut self, now: Duration) -> Option<Boot> {
        let taken = self.taken.as_mut()?;
        taken.tell_at = Some(taken.tell_at.filter(|&at| at <= now)? + FAREWELL_PERIOD);
        taken.by.map(|(boot, _)| boot)
    }

    /// What has shown that the name is taken, where a new writer is to be taken now.
    pub(crate) fn due(&self, now: Duration) -> Option<Taken> {
        self.taken.filter(|taken| taken.at <= now)
    }

    /// The name is one that this start has drawn.
    pub(crate) fn note_new_writer(&mut self, new_writer: NewWriter) {
        *self = Self {
            resumed: BTreeMap::new(),
            taken: None,
            new_writer: Some(new_writer),
        };
    }

    /// When [`due`](Self::due) or [`take_twin`](Self::take_twin) has something to say.
    pub(crate) fn next_wake(&self) -> Option<Duration> {
        let taken = self.taken?;
        Some(taken.tell_at.map_or(taken.at, |at| at.min(taken.at)))
    }
}

impl Resumed {
    fn new(slices: &Slices) -> Self {
        let own = slices.own_slice();
        let (version, root) = (slices.own_version(), slices.root(&own));
        Self {
            version,
            root,
            sections: slices.section_hashes(&own).into(),
            told_from: None,
            settled: Some((version, root)),
            urgent_at: None,
        }
    }

    fn is_open(&self) -> bool {
        self.told_from.is_none()
    }

    /// Nobody can have this version from us, where ours is `latest`.
    fn is_beyond(&self, version: u64, latest: u64) -> bool {
        let is_later = version > self.version;
        match self.told_from {
            None => is_later,
            Some(told_from) => version > latest || (is_later && version < told_from),
        }
    }

    /// Nobody can have a copy with this hash in this version from us. Where something newer has gone out, or may have,
    /// that cannot be told.
    fn is_other(&self, version: u64, root: u64) -> bool {
        if self.is_open() {
            return version == self.version && root != self.root;
        }
        // What goes ahead of a version is of the next one, or of the one behind that where a pass is under way.
        let is_calm = self.urgent_at.is_none_or(|at| version > at + 1);
        let settled = self.settled.filter(|settled| settled.0 == version);
        is_calm && settled.is_some_and(|settled| settled.1 != root)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use rmbd_proto::Writer;
    use rmbd_proto::cluster::SliceId;
    use rmbd_sketch::{Geometry, HashFamily, Weight};
    use rmbd_store::{Fold, GROUP_CELLS, GroupAges, Replica, ReplicaLimits, SavedMarks};

    use super::*;

    const OWN: SliceId = SliceId::of(1, Writer(9));
    const SECOND: Duration = Duration::from_secs(1);
    /// The version that the earlier start had reached.
    const BEFORE: u64 = 10;

    /// A sketch of four sections, each of which an earlier start had written something in.
    fn resumed() -> (Arc<Replica>, Sketches) {
        let limits = ReplicaLimits {
            max_peers: 2,
            max_origins: 8,
            max_memory_bytes: u64::MAX,
        };
        let geometry = Geometry::new(1 << 15, 2).unwrap();
        let family = HashFamily::Xxh3 { seed: 7 };
        let replica = Replica::try_with(geometry, family, OWN, limits);
        let replica = Arc::new(replica.unwrap());
        let mut slices = Slices::try_new(Arc::clone(&replica)).unwrap();
        let marks = SavedMarks::default();
        let writer = slices.own_slice().writer;
        slices.begin_restore(&marks, SECOND, Some(writer)).unwrap();
        let ages = GroupAges {
            fold: Fold::NONE,
            marks: &[],
            increments: &[],
        };
        for cell in (0..4).map(|section| section << 14) {
            let group = cell / GROUP_CELLS as u32;
            let cells = [(cell, 5)].into_iter();
            slices.restore(&OWN, group, cells, &ages).unwrap();
        }
        slices.restore_complete(&OWN, BEFORE);
        slices.end_restore();
        (replica, Sketches::of([slices]))
    }

    fn ours(sketches: &Sketches) -> OurSlice {
        sketches.our_slice(SketchNumber::DEFAULT).unwrap()
    }

    fn line(version: u64, root: u64) -> DigestEntry {
        DigestEntry {
            slice: OWN,
            version,
            root,
        }
    }

    /// Something is added and published.
    fn publish(replica: &Replica, sketches: &mut Sketches, naming: &mut Naming) -> (u64, u64) {
        replica.add(b"key", Weight::ONE).unwrap();
        let slices = sketches.get_mut(SketchNumber::DEFAULT).unwrap();
        slices.publish(usize::MAX);
        let settled = (slices.own_version(), slices.root(&OWN));
        naming.note_pass(SketchNumber::DEFAULT, Some(settled));
        settled
    }

    #[test]
    fn sections_are_compared_in_parts_until_all_were() {
        let (_replica, sketches) = resumed();
        let naming = Naming::new(&sketches);
        let ours = ours(&sketches);
        let hashes = sketches.section_hashes(&OWN).to_vec();
        assert_eq!(hashes.len(), 4);
        let judged = |version, first: usize, hashes: &[u64]| {
            naming.judge_sections(ours, version, first as u32, hashes.iter().copied())
        };
        for first in 0..4 {
            for end in first..4 {
                let told = judged(BEFORE, first, &hashes[first..end]);
                assert_eq!(told, Told::More(end as u32));
            }
            assert_eq!(judged(BEFORE, first, &hashes[first..]), Told::Enough);
            let mut others = hashes.clone();
            others[3] ^= 1;
            let told = judged(BEFORE, first, &others[first..]);
            assert!(matches!(told, Told::Taken(NameTaken::OtherCells { .. })));
            // Of less than all a part may be missing, and of nothing too.
            assert_eq!(judged(BEFORE - 1, first, &others[first..]), Told::Enough);
            let told = judged(BEFORE + 1, first, &hashes[first..]);
            assert!(matches!(told, Told::Taken(NameTaken::LaterVersion { .. })));
        }
        // Who tells more than there is says nothing by it.
        assert_eq!(judged(BEFORE, 9, &hashes), Told::Enough);
    }

    #[test]
    fn while_the_name_is_open_nobody_has_more_than_the_earlier_start_wrote() {
        let (replica, mut sketches) = resumed();
        let mut naming = Naming::new(&sketches);
        let root = sketches.root(&OWN);
        publish(&replica, &mut sketches, &mut naming);
        let (version, latest) = publish(&replica, &mut sketches, &mut naming);
        assert_eq!(version, BEFORE + 2);
        let ours = ours(&sketches);
        let judged = |naming: &Naming, version, root| {
            let reason = naming.judge_line(&line(version, root), ours);
            reason.map(|reason| matches!(reason, NameTaken::LaterVersion { .. }))
        };
        for (version, root, taken) in [
            (0, 0, None),
            (0, 77, None),
            (BEFORE - 1, 77, None),
            (BEFORE, root, None),
            (BEFORE, 77, Some(false)),
            (BEFORE + 1, root, Some(true)),
            (BEFORE + 2, latest, Some(true)),
        ] {
            assert_eq!(judged(&naming, version, root), taken, "{version}");
        }
        // Only the last version goes out from here on.
        naming.confirm(ours);
        assert!(!naming.is_open(SketchNumber::DEFAULT));
        for (version, root, taken) in [
            (BEFORE - 1, 77, None),
            (BEFORE, 77, None),
            (BEFORE + 1, 77, Some(true)),
            (BEFORE + 2, latest, None),
            (BEFORE + 2, 77, Some(false)),
            (BEFORE + 3, latest, Some(true)),
        ] {
            assert_eq!(judged(&naming, version, root), taken, "{version}");
        }
    }

    #[test]
    fn other_cells_tell_nothing_where_newer_ones_may_have_gone_out() {
        let (replica, mut sketches) = resumed();
        let mut naming = Naming::new(&sketches);
        naming.confirm(ours(&sketches));
        let mut is_other = |naming: &mut Naming, publishes| {
            if publishes {
                publish(&replica, &mut sketches, naming);
            }
            let ours = ours(&sketches);
            let is_other = naming.judge_line(&line(ours.version, 77), ours).is_some();
            naming.note_urgent(&sketches);
            let is_other_then = naming.judge_line(&line(ours.version, 77), ours).is_some();
            assert!(!is_other_then, "cells have just gone ahead");
            is_other
        };
        assert!(is_other(&mut naming, true));
        // The pass of the next version may have begun before the cells were added.
        assert!(!is_other(&mut naming, true));
        let at = ours(&sketches).version;
        for behind in 1..4 {
            let (version, root) = publish(&replica, &mut sketches, &mut naming);
            assert_eq!(version, at + behind);
            let told = |root| naming.judge_line(&line(version, root), ours(&sketches));
            assert_eq!(told(77).is_some(), behind > 1);
            assert_eq!(told(root), None);
        }
        // A pass is under way: pieces of the next version go out with this one.
        naming.note_pass(SketchNumber::DEFAULT, None);
        let ours = ours(&sketches);
        assert_eq!(naming.judge_line(&line(ours.version, 77), ours), None);
    }

    #[test]
    fn a_name_is_lost_once_and_who_writes_it_too_is_told_first() {
        let (_replica, sketches) = resumed();
        let by = Some((Boot(7), ([127, 0, 0, 1], 7).into()));
        let mut naming = Naming::new(&sketches);
        assert!(naming.due(SECOND).is_none() && naming.next_wake().is_none());
        assert!(naming.lose(SECOND, NameTaken::SameWriter, by));
        assert!(!naming.lose(SECOND, NameTaken::Unanswered, None));
        let mut now = SECOND;
        let mut told = 0;
        while naming.due(now).is_none() {
            assert_eq!(naming.shut_until(), Some(SECOND + FAREWELL));
            told += u32::from(naming.take_twin(now) == Some(Boot(7)));
            now = naming.next_wake().unwrap();
        }
        assert_eq!((now, told), (SECOND + FAREWELL, 5));
        let new_writer = NewWriter {
            reason: NameTaken::SameWriter,
            by: None,
            before: OWN.writer,
            writer: Writer(10),
        };
        naming.note_new_writer(new_writer);
        assert!(!naming.lose(now, NameTaken::SameWriter, by));
        assert_eq!(naming.new_writer(), Some(new_writer));
        assert!(naming.shut_until().is_none() && naming.next_wake().is_none());
    }
}
