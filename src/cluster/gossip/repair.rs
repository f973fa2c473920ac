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
//!
//! Answers of an earlier pull may come late, and look like those of this one. So all of them carry a version: one
//! that is of less than this pull's hashes of sections is merged, and answers nothing. Within a version the hashes
//! tell, since those of a level are the sum of what is below.
//!
//! What a neighbour said stays known ([`Claims`]) until we have it, whatever others say meanwhile: who is
//! behind, too, has nothing to say against it.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::claims::{Claims, Relation};
use super::limits::ClusterLimits;
use super::peer::Question;
use crate::replica::{Slices, cell_hash};
use crate::wire::Boot;
use crate::wire::cluster::{DigestEntry, SECTION_GROUPS, SliceId};

/// What is not answered within this time is asked again, then after twice as long, ...
const ANSWER_TIME: Duration = Duration::from_millis(250);
/// ... up to this often; then the neighbour is given up, and another one's claim begins anew.
const SILENCES_MAX: u32 = 5;
/// From so many on, the neighbour is given up where another one could be asked, or another slice.
const SILENCES_OF_PATIENCE: u32 = 2;

/// All pulls, and what may become one.
#[derive(Debug)]
pub(super) struct Repair {
    limits: ClusterLimits,
    claims: Claims,
    pulls: BTreeMap<SliceId, Pull>,
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

/// Its hashes of a section's groups.
#[derive(Debug)]
pub(super) struct GroupHashes<H> {
    pub(super) version: u64,
    pub(super) section: u32,
    pub(super) hashes: H,
}

/// A group of its copy.
#[derive(Debug)]
pub(super) struct Group<'a> {
    pub(super) version: u64,
    pub(super) number: u32,
    /// Those that are not 0.
    pub(super) cells: &'a [(u32, u64)],
}

impl Group<'_> {
    fn hash(&self) -> u64 {
        let cells = self.cells.iter();
        cells.fold(0, |sum, &(index, value)| {
            sum.wrapping_add(cell_hash(index, value))
        })
    }
}

impl Repair {
    pub(super) fn new(gossip_interval: Duration, limits: ClusterLimits) -> Self {
        Self {
            limits,
            claims: Claims::new(gossip_interval, limits.claims),
            pulls: BTreeMap::new(),
        }
    }

    /// How long a writer may be silent and still count as heard.
    pub(super) fn patience(&self) -> Duration {
        self.claims.patience()
    }

    pub(super) fn pulls(&self) -> usize {
        self.pulls.len()
    }

    /// Takes a line of a neighbour's digest; whether it tells of something that is not here.
    pub(super) fn compare(
        &mut self,
        now: Duration,
        slices: &mut Slices,
        from: Boot,
        theirs: DigestEntry,
        relation: Relation,
    ) -> bool {
        if theirs.root == 0 {
            // It has nothing of this slice, so there is nothing to wait for.
            self.claims.withdraw(&theirs.slice, from);
            if self.pull_from(from, &theirs.slice).is_some() {
                self.pulls.remove(&theirs.slice);
                self.claims.note_due(&theirs.slice);
            }
            return false;
        }
        if slices.root(&theirs.slice) == theirs.root {
            // Its copy is ours, cell for cell: what it has complete, we have, too.
            slices.complete(&theirs.slice, 0, theirs.version);
        }
        let is_pulled = |slice: &SliceId| self.pulls.contains_key(slice);
        self.claims
            .note(now, slices, from, theirs, relation, is_pulled)
    }

    /// Hashes of sections have come.
    pub(super) fn take_sections(
        &mut self,
        now: Duration,
        slices: &Slices,
        from: Boot,
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
        from: Boot,
        slice: &SliceId,
        theirs: GroupHashes<impl Iterator<Item = u64>>,
    ) {
        if let Some(pull) = self.pull_from(from, slice) {
            let ours = slices.group_hashes(slice, theirs.section);
            pull.take_groups(now, &ours, theirs);
        }
    }

    /// A group has come and was merged.
    pub(super) fn arrived(
        &mut self,
        now: Duration,
        from: Boot,
        slice: &SliceId,
        group: &Group<'_>,
    ) {
        if let Some(pull) = self.pull_from(from, slice) {
            pull.arrived(now, group);
        }
    }

    /// What is to be asked now, of whom. Pulls that are done, refused or given up end here, and others
    /// begin in their places.
    pub(super) fn ask(
        &mut self,
        now: Duration,
        slices: &mut Slices,
        mut ask: impl FnMut(Boot, Question),
    ) {
        self.end_pulls(slices);
        let room = self.limits.pulls.saturating_sub(self.pulls.len());
        let pulls = &self.pulls;
        let is_pulled = |slice: &SliceId| pulls.contains_key(slice);
        for (slice, claim) in self.claims.take_due(now, slices, room, is_pulled) {
            let pull = Pull::new(now, claim.from, claim.root, slices.changed_at(&slice));
            self.pulls.insert(slice, pull);
        }
        for (slice, pull) in &mut self.pulls {
            pull.ask(now, slice, &self.limits, &mut ask);
        }
    }

    pub(super) fn next_wake(&self) -> Option<Duration> {
        let has_room = self.pulls.len() < self.limits.pulls;
        let begins = self.claims.next_due().filter(|_| has_room);
        let pulls = self.pulls.values().map(Pull::deadline);
        pulls.chain(begins).min()
    }

    /// Gives up what is pulled from somebody who is gone.
    pub(super) fn forget(&mut self, boot: Boot) {
        self.claims.forget(boot);
        let claims = &mut self.claims;
        self.pulls.retain(|slice, pull| {
            let is_kept = pull.from != boot;
            if !is_kept {
                claims.note_due(slice);
            }
            is_kept
        });
    }

    fn end_pulls(&mut self, slices: &mut Slices) {
        let claims = &mut self.claims;
        let is_full = self.pulls.len() >= self.limits.pulls;
        self.pulls.retain(|slice, pull| {
            let is_awaited = claims.has(slice) || (is_full && !claims.is_empty());
            let is_given_up = pull.silences > SILENCES_MAX
                || (pull.silences >= SILENCES_OF_PATIENCE && is_awaited);
            let is_done = pull.is_done();
            if is_done {
                slices.complete(slice, 0, pull.version.unwrap_or(0));
                if pull.is_exact && slices.changed_at(slice) == pull.changed_at {
                    claims.note_fruitless(*slice, pull.from, pull.root);
                }
            }
            let is_over = is_done || is_given_up || slices.is_refused(slice);
            if is_over {
                claims.note_due(slice);
            }
            !is_over
        });
    }

    fn pull_from(&mut self, from: Boot, slice: &SliceId) -> Option<&mut Pull> {
        self.pulls.get_mut(slice).filter(|pull| pull.from == from)
    }
}

/// One slice, pulled from one neighbour.
#[derive(Debug)]
struct Pull {
    from: Boot,
    /// The neighbour's root, and what we had, when it began.
    root: u64,
    changed_at: u64,
    /// What the neighbour had complete when it was asked for the first hashes.
    version: Option<u64>,
    /// All that came was of the copy that `root` is of, and not of an earlier or later one.
    is_exact: bool,
    /// The first section whose hash has not come; `None` when all have.
    sections_from: Option<u32>,
    /// Of those whose hashes have come.
    sections_sum: u64,
    has_asked_sections: bool,
    /// By number, with the neighbour's hash, as are groups.
    sections_wanted: VecDeque<(u32, u64)>,
    sections_asked: BTreeMap<u32, u64>,
    groups_wanted: VecDeque<(u32, u64)>,
    groups_asked: BTreeMap<u32, u64>,
    /// When something was last heard, or asked again for want of an answer.
    since: Duration,
    silences: u32,
}

impl Pull {
    fn new(now: Duration, from: Boot, root: u64, changed_at: u64) -> Self {
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

    fn take_groups(
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

    fn arrived(&mut self, now: Duration, group: &Group<'_>) {
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

    fn ask(
        &mut self,
        now: Duration,
        slice: &SliceId,
        limits: &ClusterLimits,
        ask: &mut impl FnMut(Boot, Question),
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
            && let Some((section, hash)) = self.sections_wanted.pop_front()
        {
            self.sections_asked.insert(section, hash);
            ask(self.from, Question::Groups { slice, section });
        }
        // In large portions: a question costs a datagram, too.
        let room = limits.groups_asked.saturating_sub(self.groups_asked.len());
        if room >= limits.groups_asked.div_ceil(2) && !self.groups_wanted.is_empty() {
            let portion = room.min(self.groups_wanted.len());
            let groups: BTreeMap<u32, u64> = self.groups_wanted.drain(..portion).collect();
            self.groups_asked.extend(&groups);
            let groups = groups.into_keys().collect();
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
