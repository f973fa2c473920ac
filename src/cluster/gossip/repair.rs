//! Pulling what others have and we lack: slices whose writer is gone, or does not reach us.
//!
//! ```text
//!   us                                   a neighbour
//!    <-- digest: (slice, version, root) --     one live member, each round
//!    -- sections asked ------------------>     its root differs, and goes on doing so
//!    <-- a hash for each section ---------
//!    -- group hashes asked -------------->     of the sections that differ
//!    <-- a hash for each group -----------
//!    -- pull ---------------------------->     the groups that differ
//!    <-- groups --------------------------     merged; then what it had complete, we have, too
//! ```

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::limits::ClusterLimits;
use super::peer::Question;
use crate::replica::Slices;
use crate::wire::cluster::{DigestEntry, SECTION_GROUPS, SliceId};

/// What is not answered within this time is asked again, then after twice as long, ...
const ANSWER_TIME: Duration = Duration::from_millis(250);
/// ... up to this often; then the neighbour is given up, and another one's digest begins anew.
const SILENCES_MAX: u32 = 5;
/// Whoever is behind for this many rounds, and not being served by the writer, pulls.
const PATIENCE_ROUNDS: u32 = 2;

/// All pulls, and what may become one.
#[derive(Debug)]
pub(super) struct Repair {
    patience: Duration,
    limits: ClusterLimits,
    suspects: BTreeMap<SliceId, Suspect>,
    pulls: BTreeMap<SliceId, Pull>,
    /// Roots that differ from ours, of older versions, in which there was nothing for us.
    fruitless: BTreeMap<SliceId, u64>,
}

/// A neighbour's hashes of sections.
#[derive(Debug)]
pub(super) struct Sections<H> {
    /// What it had complete when it read them.
    pub(super) version: u64,
    /// The section that the first one is of.
    pub(super) first: u32,
    pub(super) hashes: H,
    /// How many sections the sketch has.
    pub(super) sections: u32,
}

/// A slice of which a neighbour has more, or other, than we.
#[derive(Debug, Clone, Copy)]
struct Suspect {
    since: Duration,
    changed_at: u64,
    root: u64,
}

impl Repair {
    pub(super) fn new(gossip_interval: Duration, limits: ClusterLimits) -> Self {
        Self {
            patience: gossip_interval * PATIENCE_ROUNDS,
            limits,
            suspects: BTreeMap::new(),
            pulls: BTreeMap::new(),
            fruitless: BTreeMap::new(),
        }
    }

    pub(super) fn pulls(&self) -> usize {
        self.pulls.len()
    }

    /// Takes a line of a neighbour's digest. `is_pushed`: its writer is a live member, so that what is
    /// missing is probably on its way. `never_asks`: it pulls nothing from us, so that what it has beyond
    /// an older version does not come back to us with a newer one.
    pub(super) fn compare(
        &mut self,
        now: Duration,
        slices: &mut Slices,
        from: u64,
        theirs: DigestEntry,
        (is_pushed, never_asks): (bool, bool),
    ) {
        let slice = theirs.slice;
        let ours = slices.version(&slice);
        if slice.boot == from && theirs.version != ours {
            // It pushes this one itself, and knows better than we what of it is missing here.
            return;
        }
        let is_same = slices.root(&slice) == theirs.root;
        let is_older = theirs.version < ours;
        let has_more = never_asks && self.fruitless.get(&slice) != Some(&theirs.root);
        let is_behind = theirs.version > ours || (!is_same && (!is_older || has_more));
        if !is_behind || slices.is_refused(&slice) {
            self.suspects.remove(&slice);
            return;
        }
        if is_same && slices.complete(&slice, 0, theirs.version) {
            self.suspects.remove(&slice);
            return;
        }
        if self.pulls.contains_key(&slice) {
            return;
        }
        let changed_at = slices.changed_at(&slice);
        if self.suspects.len() >= self.limits.suspects && !self.suspects.contains_key(&slice) {
            return;
        }
        let fresh = Suspect {
            since: now,
            changed_at,
            root: theirs.root,
        };
        let suspect = self.suspects.entry(slice).or_insert(fresh);
        let is_on_its_way = is_pushed && suspect.changed_at != changed_at;
        if is_on_its_way || (is_older && suspect.root != theirs.root) {
            *suspect = fresh;
        }
        // Of whom nobody else can tell us, we know nothing yet: no reason to wait.
        let is_new = !is_pushed && !slices.has(&slice);
        let is_due = is_new || now.saturating_sub(suspect.since) >= self.patience;
        if is_due && self.pulls.len() < self.limits.pulls {
            self.suspects.remove(&slice);
            self.pulls.insert(slice, Pull::new(now, from, fresh));
        }
    }

    /// Hashes of sections have come.
    pub(super) fn take_sections(
        &mut self,
        now: Duration,
        slices: &Slices,
        from: u64,
        slice: &SliceId,
        theirs: Sections<impl Iterator<Item = u64>>,
    ) {
        if let Some(pull) = self.pull_from(from, slice) {
            pull.take_sections(now, slices.section_hashes(slice), theirs);
        }
    }

    /// Hashes of a section's groups have come.
    pub(super) fn take_groups(
        &mut self,
        now: Duration,
        slices: &Slices,
        from: u64,
        slice: &SliceId,
        section: u32,
        hashes: impl Iterator<Item = u64>,
    ) {
        if let Some(pull) = self.pull_from(from, slice) {
            let ours = slices.group_hashes(slice, section);
            pull.take_groups(now, ours, section, hashes);
        }
    }

    /// A group has come and was merged.
    pub(super) fn arrived(&mut self, now: Duration, from: u64, slice: &SliceId, group: u32) {
        if let Some(pull) = self.pull_from(from, slice) {
            // What is pushed beside is no answer: the other one may not hear us at all.
            if pull.groups_asked.remove(&group) {
                pull.heard(now);
            }
        }
    }

    /// What is to be asked now, of whom. Pulls that are done, refused or given up end here.
    pub(super) fn ask(
        &mut self,
        now: Duration,
        slices: &mut Slices,
        mut ask: impl FnMut(u64, Question),
    ) {
        let limits = self.limits;
        self.pulls.retain(|slice, pull| {
            if slices.is_refused(slice) || pull.silences > SILENCES_MAX {
                return false;
            }
            if pull.is_done() {
                slices.complete(slice, 0, pull.version.unwrap_or(0));
                if self.fruitless.len() < limits.suspects || self.fruitless.contains_key(slice) {
                    note_fruitless(&mut self.fruitless, slice, pull, slices);
                }
                return false;
            }
            pull.ask(now, slice, &limits, &mut ask);
            true
        });
    }

    pub(super) fn next_wake(&self) -> Option<Duration> {
        self.pulls.values().map(Pull::deadline).min()
    }

    /// Gives up what is pulled from somebody who is gone.
    pub(super) fn forget(&mut self, boot: u64) {
        self.pulls.retain(|_, pull| pull.from != boot);
    }

    fn pull_from(&mut self, from: u64, slice: &SliceId) -> Option<&mut Pull> {
        self.pulls.get_mut(slice).filter(|pull| pull.from == from)
    }
}

/// Remembers a pull that changed nothing, so that it is not made again and again.
fn note_fruitless(
    fruitless: &mut BTreeMap<SliceId, u64>,
    slice: &SliceId,
    pull: &Pull,
    slices: &Slices,
) {
    if slices.changed_at(slice) == pull.began.changed_at {
        fruitless.insert(*slice, pull.began.root);
    }
}

/// One slice, pulled from one neighbour.
#[derive(Debug)]
struct Pull {
    from: u64,
    /// What we, and the neighbour, had when it began.
    began: Suspect,
    /// What the neighbour had complete when it was asked for the first hashes.
    version: Option<u64>,
    /// The first section whose hash has not come; `None` when all have.
    sections_from: Option<u32>,
    has_asked_sections: bool,
    sections_wanted: VecDeque<u32>,
    sections_asked: BTreeSet<u32>,
    groups_wanted: VecDeque<u32>,
    groups_asked: BTreeSet<u32>,
    /// When something was last heard, or asked again for want of an answer.
    since: Duration,
    silences: u32,
}

impl Pull {
    fn new(now: Duration, from: u64, began: Suspect) -> Self {
        Self {
            from,
            began,
            version: None,
            sections_from: Some(0),
            has_asked_sections: false,
            sections_wanted: VecDeque::new(),
            sections_asked: BTreeSet::new(),
            groups_wanted: VecDeque::new(),
            groups_asked: BTreeSet::new(),
            since: now,
            silences: 0,
        }
    }

    fn is_done(&self) -> bool {
        self.sections_from.is_none()
            && self.sections_wanted.is_empty()
            && self.sections_asked.is_empty()
            && self.groups_wanted.is_empty()
            && self.groups_asked.is_empty()
    }

    fn deadline(&self) -> Duration {
        self.since + ANSWER_TIME * (1 << self.silences.min(SILENCES_MAX))
    }

    fn heard(&mut self, now: Duration) {
        self.since = now;
        self.silences = 0;
    }

    fn take_sections(
        &mut self,
        now: Duration,
        ours: &[u64],
        theirs: Sections<impl Iterator<Item = u64>>,
    ) {
        let Sections {
            version,
            first,
            hashes,
            sections,
        } = theirs;
        if self.sections_from != Some(first) {
            return;
        }
        // The least that any of the answers vouches for.
        self.version = Some(self.version.map_or(version, |before| before.min(version)));
        let mut next = first;
        for hash in hashes.take((sections - first.min(sections)) as usize) {
            if ours.get(next as usize).copied().unwrap_or(0) != hash {
                self.sections_wanted.push_back(next);
            }
            next += 1;
        }
        if next == first {
            return;
        }
        self.sections_from = (next < sections).then_some(next);
        self.has_asked_sections = false;
        self.heard(now);
    }

    fn take_groups(
        &mut self,
        now: Duration,
        ours: &[u64],
        section: u32,
        hashes: impl Iterator<Item = u64>,
    ) {
        let mut hashes = hashes.peekable();
        if hashes.peek().is_none() || !self.sections_asked.remove(&section) {
            return;
        }
        let first = section * SECTION_GROUPS as u32;
        for (at, hash) in hashes.take(SECTION_GROUPS).enumerate() {
            if ours.get(at).copied().unwrap_or(0) != hash {
                self.groups_wanted.push_back(first + at as u32);
            }
        }
        self.heard(now);
    }

    fn ask(
        &mut self,
        now: Duration,
        slice: &SliceId,
        limits: &ClusterLimits,
        ask: &mut impl FnMut(u64, Question),
    ) {
        if self.deadline() <= now {
            self.silences += 1;
            self.since = now;
            self.ask_again();
        }
        let slice = *slice;
        if let Some(first) = self.sections_from.filter(|_| !self.has_asked_sections) {
            self.has_asked_sections = true;
            ask(self.from, Question::Sections { slice, first });
        }
        while self.sections_asked.len() < limits.sections_asked
            && self.groups_wanted.len() < limits.groups_wanted
            && let Some(section) = self.sections_wanted.pop_front()
        {
            self.sections_asked.insert(section);
            ask(self.from, Question::Groups { slice, section });
        }
        // In large portions: a question costs a datagram, too.
        let room = limits.groups_asked.saturating_sub(self.groups_asked.len());
        if room >= limits.groups_asked.div_ceil(2) && !self.groups_wanted.is_empty() {
            let portion = room.min(self.groups_wanted.len());
            let groups: BTreeSet<u32> = self.groups_wanted.drain(..portion).collect();
            self.groups_asked.extend(&groups);
            let groups = groups.into_iter().collect();
            ask(self.from, Question::Pull { slice, groups });
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
