//! One neighbour's word about one slice.

use std::time::Duration;

use crate::gossip::sketches::Sketches;
use rmbd_proto::Boot;
use rmbd_proto::cluster::{DigestEntry, SliceId};

/// A node that has been behind for so many times that long pulls although something keeps coming: cells may arrive
/// while the word that they are all does not.
pub(super) const PATIENCES_MAX: u32 = 8;

/// How the writer of a slice, and the neighbour that tells of it, stand to us.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Relation {
    /// The writer is a live member and was heard lately: what is missing is probably on its way.
    pub(crate) is_pushed: bool,
    /// The neighbour pulls nothing from us, so that what it has beyond an older version does not come back to us with
    /// a newer one.
    pub(crate) never_asks: bool,
    /// The neighbour writes the slice itself.
    pub(crate) is_its_own: bool,
}

/// A neighbour says that its copy of a slice is ahead of ours.
#[derive(Debug, Clone, Copy)]
pub(super) struct Claim {
    from: Boot,
    version: u64,
    root: u64,
    ahead: Ahead,
    is_pushed: bool,
    /// We have been behind since then.
    behind_since: Duration,
    /// Nothing has come since then.
    since: Duration,
    /// Our copy had changed last at this number, of those that [`changed_at`](rmbd_store::Slices::changed_at) gives.
    changed_at: u64,
}

/// The way in which a neighbour's copy may be ahead of ours; each is more certain than those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Ahead {
    /// It has an older version, and other cells: parts of a later one may be among them.
    OlderAndOther,
    /// It has the same version, and other cells.
    Other,
    /// It has a newer version.
    Newer,
}

impl Claim {
    /// The claim of a line that is `ahead` of our copy, which changed last at `changed_at`.
    pub(super) fn new(
        now: Duration,
        from: Boot,
        theirs: &DigestEntry,
        ahead: Ahead,
        is_pushed: bool,
        changed_at: u64,
    ) -> Self {
        Self {
            from,
            version: theirs.version,
            root: theirs.root,
            ahead,
            is_pushed,
            behind_since: now,
            since: now,
            changed_at,
        }
    }

    pub(super) fn from(&self) -> Boot {
        self.from
    }

    /// The version that the neighbour has complete.
    pub(super) fn version(&self) -> u64 {
        self.version
    }

    /// The hash of its copy.
    pub(super) fn root(&self) -> u64 {
        self.root
    }

    pub(super) fn ahead(&self) -> Ahead {
        self.ahead
    }

    /// When it is to be pulled: at once where nobody pushes it.
    pub(super) fn due(&self, patience: Duration) -> Duration {
        let waits = self.is_pushed || self.ahead == Ahead::OlderAndOther;
        if waits {
            let longest = self.behind_since + patience * PATIENCES_MAX;
            longest.min(self.since + patience)
        } else {
            self.behind_since
        }
    }

    /// Whether we have what it names.
    pub(super) fn is_met(&self, sketches: &Sketches, slice: &SliceId) -> bool {
        let ours = sketches.version(slice);
        match self.ahead {
            Ahead::Newer => ours >= self.version,
            Ahead::Other => ours > self.version || sketches.root(slice) == self.root,
            Ahead::OlderAndOther => sketches.root(slice) == self.root,
        }
    }

    /// Takes another claim's place, or is told by the same neighbour again.
    pub(super) fn hear(&mut self, other: Self) {
        let is_later_word = other.from == self.from && other.version >= self.version;
        let is_better = (other.ahead, other.version) > (self.ahead, self.version);
        if !is_later_word && !is_better {
            return;
        }
        let is_moving = other.ahead == Ahead::OlderAndOther && other.root != self.root;
        let before = *self;
        *self = Self {
            behind_since: before.behind_since,
            since: if is_moving { other.since } else { before.since },
            changed_at: before.changed_at,
            ..other
        };
        self.wait_for_more(other.since, other.changed_at);
    }

    /// Something has come since: more may be on its way.
    pub(super) fn wait_for_more(&mut self, now: Duration, changed_at: u64) {
        if self.is_pushed && self.changed_at != changed_at {
            self.since = now;
        }
        self.changed_at = changed_at;
    }
}
