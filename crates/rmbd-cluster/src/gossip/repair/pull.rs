//! Pulling one slice from one neighbour.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::gossip::limits::ClusterLimits;
use crate::gossip::peers::QueuedFrame;
use rmbd_proto::Boot;
use rmbd_proto::cluster::{SECTION_GROUPS, SliceId};
use rmbd_store::cell_hash;

/// An answer that does not come within this time is asked for again, the next time after twice as long.
const ANSWER_TIME: Duration = Duration::from_millis(250);
/// The time is doubled so often at most.
const DOUBLINGS_MAX: u32 = 5;

/// A neighbour's hashes of sections.
#[derive(Debug)]
pub(crate) struct Sections<H> {
    /// The version that it had complete when it read them.
    pub(crate) version: u64,
    /// The section that the first one is of.
    pub(crate) first: u32,
    pub(crate) hashes: H,
}

/// Its hashes of a section's groups.
#[derive(Debug)]
pub(crate) struct GroupHashes<H> {
    pub(crate) version: u64,
    pub(crate) section: u32,
    pub(crate) hashes: H,
}

/// A group of its copy.
#[derive(Debug)]
pub(crate) struct Group<'a> {
    pub(crate) version: u64,
    pub(crate) number: u32,
    /// Index and value of the cells that are not 0.
    pub(crate) cells: &'a [(u32, u64)],
}

impl Group<'_> {
    fn hash(&self) -> u64 {
        let cells = self.cells.iter();
        cells.fold(0, |sum, &(index, value)| {
            sum.wrapping_add(cell_hash(index, value))
        })
    }
}

/// One slice, pulled from one neighbour.
#[derive(Debug)]
pub(super) struct Pull {
    from: Boot,
    /// The neighbour's root when it began.
    root: u64,
    /// Our copy had changed last at this number when it began.
    changed_at: u64,
    /// The version that the neighbour had complete when it was asked for the first hashes.
    version: Option<u64>,
    /// All that came was of the copy that `root` is of, and not of an earlier or later one.
    is_exact: bool,
    /// The first section whose hash has not come; `None` when all have.
    sections_from: Option<u32>,
    /// The sum of the hashes that have come.
    sections_sum: u64,
    has_asked_sections: bool,
    /// Number and hash of sections that differ; of groups likewise.
    sections_wanted: VecDeque<(u32, u64)>,
    sections_asked: BTreeMap<u32, u64>,
    groups_wanted: VecDeque<(u32, u64)>,
    groups_asked: BTreeMap<u32, u64>,
    /// When something was last heard, or asked again for want of an answer.
    since: Duration,
    silences: u32,
}

impl Pull {
    pub(super) fn new(now: Duration, from: Boot, root: u64, changed_at: u64) -> Self {
        Self {
            from,
            root,
            changed_at,
            version: None,
            is_exact: true,
            sections_from: Some(0),
            sections_sum: 0,
            has_asked_sections: false,
            sections_wanted: VecDeque::new(),
            sections_asked: BTreeMap::new(),
            groups_wanted: VecDeque::new(),
            groups_asked: BTreeMap::new(),
            since: now,
            silences: 0,
        }
    }

    pub(super) fn from(&self) -> Boot {
        self.from
    }

    /// How often in a row an answer did not come.
    pub(super) fn silences(&self) -> u32 {
        self.silences
    }

    /// The version that is here completely when it is done.
    pub(super) fn version(&self) -> u64 {
        self.version.unwrap_or(0)
    }

    /// The root of the neighbour's copy, if all of that came and there was nothing in it for us, whose copy changed
    /// last at `changed_at`.
    pub(super) fn fruitless_root(&self, changed_at: u64) -> Option<u64> {
        (self.is_exact && changed_at == self.changed_at).then_some(self.root)
    }

    pub(super) fn is_done(&self) -> bool {
        self.sections_from.is_none()
            && self.sections_wanted.is_empty()
            && self.sections_asked.is_empty()
            && self.groups_wanted.is_empty()
            && self.groups_asked.is_empty()
    }

    pub(super) fn deadline(&self) -> Duration {
        self.since + ANSWER_TIME * (1 << self.silences.min(DOUBLINGS_MAX))
    }

    fn heard(&mut self, now: Duration) {
        self.since = now;
        self.silences = 0;
    }

    pub(super) fn take_sections(
        &mut self,
        now: Duration,
        ours: &[u64],
        theirs: Sections<impl Iterator<Item = u64>>,
        sections: u32,
    ) {
        let Sections {
            version,
            first,
            hashes,
        } = theirs;
        if self.sections_from != Some(first) {
            return;
        }
        // The least that any of the answers vouches for.
        self.version = Some(self.version.map_or(version, |before| before.min(version)));
        let mut next = first;
        for hash in hashes.take((sections - first.min(sections)) as usize) {
            if ours.get(next as usize).copied().unwrap_or(0) != hash {
                self.sections_wanted.push_back((next, hash));
            }
            self.sections_sum = self.sections_sum.wrapping_add(hash);
            next += 1;
        }
        if next == first {
            return;
        }
        self.sections_from = (next < sections).then_some(next);
        self.is_exact &= self.sections_from.is_some() || self.sections_sum == self.root;
        self.has_asked_sections = false;
        self.heard(now);
    }

    pub(super) fn take_groups(
        &mut self,
        now: Duration,
        ours: &[u64],
        theirs: GroupHashes<impl Iterator<Item = u64>>,
    ) {
        let GroupHashes {
            version,
            section,
            hashes,
        } = theirs;
        let mut hashes = hashes.peekable();
        if hashes.peek().is_none() || self.is_late(version) {
            return;
        }
        let Some(all) = self.sections_asked.remove(&section) else {
            return;
        };
        let first = section * SECTION_GROUPS as u32;
        let mut sum = 0_u64;
        for (at, hash) in hashes.take(SECTION_GROUPS).enumerate() {
            if ours.get(at).copied().unwrap_or(0) != hash {
                self.groups_wanted.push_back((first + at as u32, hash));
            }
            sum = sum.wrapping_add(hash);
        }
        self.is_exact &= sum == all;
        self.heard(now);
    }

    pub(super) fn arrived(&mut self, now: Duration, group: &Group<'_>) {
        if self.is_late(group.version) {
            return;
        }
        // What is pushed beside is no answer: the other one may not hear us at all.
        if let Some(hash) = self.groups_asked.remove(&group.number) {
            self.is_exact &= group.hash() == hash;
            self.heard(now);
        }
    }

    /// An answer with this version is one of an earlier pull.
    fn is_late(&self, version: u64) -> bool {
        self.version.is_none_or(|ours| version < ours)
    }

    pub(super) fn ask(
        &mut self,
        now: Duration,
        slice: &SliceId,
        limits: &ClusterLimits,
        ask: &mut impl FnMut(Boot, QueuedFrame),
    ) {
        if self.deadline() <= now {
            self.silences += 1;
            self.since = now;
            self.ask_again();
        }
        let slice = *slice;
        if let Some(first) = self.sections_from.filter(|_| !self.has_asked_sections) {
            self.has_asked_sections = true;
            ask(self.from, QueuedFrame::SectionsAsked { slice, first });
        }
        while self.sections_asked.len() < limits.sections_asked
            && self.groups_wanted.len() < limits.groups_wanted
            && let Some((section, hash)) = self.sections_wanted.pop_front()
        {
            self.sections_asked.insert(section, hash);
            ask(self.from, QueuedFrame::GroupHashesAsked { slice, section });
        }
        // In large portions: a question costs a datagram, too.
        let room = limits.groups_asked.saturating_sub(self.groups_asked.len());
        if room >= limits.groups_asked.div_ceil(2) && !self.groups_wanted.is_empty() {
            let portion = room.min(self.groups_wanted.len());
            let groups: BTreeMap<u32, u64> = self.groups_wanted.drain(..portion).collect();
            self.groups_asked.extend(&groups);
            let groups = groups.into_keys().collect();
            ask(self.from, QueuedFrame::Pull { slice, groups });
        }
    }

    /// Whatever was asked for and has not come counts as not asked for.
    fn ask_again(&mut self) {
        self.has_asked_sections = false;
        for section in std::mem::take(&mut self.sections_asked) {
            self.sections_wanted.push_front(section);
        }
        for group in std::mem::take(&mut self.groups_asked).into_iter().rev() {
            self.groups_wanted.push_front(group);
        }
    }
}
