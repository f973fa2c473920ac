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
//! A neighbour's word stays known ([`Claims`]) until we have what it names, whatever others say meanwhile: one that is
//! behind, too, has nothing to say against it.

mod claim;
mod claims;
mod pull;
mod siblings;
mod tour;

use std::collections::BTreeMap;
use std::time::Duration;

pub(crate) use self::claim::Relation;
use self::claims::Claims;
use self::pull::Pull;
pub(crate) use self::pull::{Group, GroupHashes, Sections};
use self::siblings::ComparedSums;
pub(crate) use self::tour::DigestTour;
use super::limits::ClusterLimits;
use super::peers::{Ourselves, QueuedFrame};
use super::sketches::Sketches;
use rmbd_proto::cluster::{
    DigestEntry, GROUP_CELLS, Hashes, SECTION_GROUPS, SiblingsEntry, SliceId,
};
use rmbd_proto::{Boot, SketchNumber};

/// A neighbour is given up after so many silences; then another one's claim begins anew.
const SILENCES_MAX: u32 = 5;
/// From so many on, the neighbour is given up where another one could be asked, or another slice.
const SILENCES_OF_PATIENCE: u32 = 2;

/// The digest that we tell of our copies, claims of neighbours about theirs, and all pulls.
#[derive(Debug)]
pub(crate) struct Repair {
    limits: ClusterLimits,
    tour: DigestTour,
    compared: ComparedSums,
    claims: Claims,
    pulls: BTreeMap<SliceId, Pull>,
}

impl Repair {
    /// Nothing was claimed yet.
    pub(crate) fn new(gossip_interval: Duration, limits: ClusterLimits) -> Self {
        Self {
            limits,
            tour: DigestTour::new(limits),
            compared: ComparedSums::new(limits.claims),
            claims: Claims::new(gossip_interval, limits.claims),
            pulls: BTreeMap::new(),
        }
    }

    /// The tours of peers through what we tell of our copies.
    pub(crate) fn tour_mut(&mut self) -> &mut DigestTour {
        &mut self.tour
    }

    /// Lines that are told in one round.
    pub(crate) fn lines_a_round(&self) -> usize {
        self.limits.digest_lines_a_round
    }

    /// Takes a neighbour's line about siblings; whether their buckets are to be compared now.
    pub(crate) fn compare_siblings(
        &mut self,
        sketches: &Sketches,
        from: Boot,
        theirs: SiblingsEntry,
    ) -> bool {
        let ours = sketches.siblings(&theirs.slice);
        ours != theirs && self.compared.hear(from, theirs, ours)
    }

    /// Takes a neighbour's sum over a whole sketch; whether the lines are to be compared now.
    pub(crate) fn compare_sketch(
        &mut self,
        from: Boot,
        sketch: SketchNumber,
        theirs: u64,
        ours: u64,
    ) -> bool {
        let is_due = ours != theirs && self.compared.hear_sketch(from, sketch, theirs, ours);
        if is_due {
            self.tour.wake(sketch);
        }
        is_due
    }

    /// Memory has become free: what led to nothing may lead to something now.
    pub(crate) fn compare_all_siblings_again(&mut self) {
        self.compared.forget_all();
    }

    /// How long a writer may be silent and still count as heard.
    pub(crate) fn patience(&self) -> Duration {
        self.claims.patience()
    }

    pub(crate) fn pulls(&self) -> usize {
        self.pulls.len()
    }

    /// Takes a line of a neighbour's digest.
    pub(crate) fn compare(
        &mut self,
        now: Duration,
        sketches: &mut Sketches,
        from: Boot,
        theirs: DigestEntry,
        relation: Relation,
    ) {
        let is_ahead = self.note_line(now, sketches, from, theirs, relation);
        self.compared.note_line(from, &theirs.slice, is_ahead);
    }

    /// Whether a line tells of something that is not here; then that is claimed.
    fn note_line(
        &mut self,
        now: Duration,
        sketches: &mut Sketches,
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
        if sketches.root(&theirs.slice) == theirs.root {
            // Its copy is ours, cell for cell: what it has complete, we have, too.
            sketches.complete(&theirs.slice, 0, theirs.version);
        }
        let is_pulled = |slice: &SliceId| self.pulls.contains_key(slice);
        self.claims
            .note(now, sketches, from, theirs, relation, is_pulled)
    }

    /// Hashes of sections have come.
    pub(crate) fn take_sections(
        &mut self,
        now: Duration,
        ourselves: &Ourselves,
        sketches: &Sketches,
        from: Boot,
        slice: &SliceId,
        theirs: Sections<impl Iterator<Item = u64>>,
    ) {
        let cells = ourselves.cells(slice.sketch).unwrap_or(0);
        let sections = cells.div_ceil((GROUP_CELLS * SECTION_GROUPS) as u32);
        let ours = sketches.section_hashes(slice);
        if let Some(pull) = self.pull_from(from, slice) {
            pull.take_sections(now, ours, theirs, sections);
        }
    }

    /// Hashes of a section's groups have come.
    pub(crate) fn take_groups(
        &mut self,
        now: Duration,
        sketches: &Sketches,
        from: Boot,
        slice: &SliceId,
        theirs: GroupHashes<impl Iterator<Item = u64>>,
    ) {
        if let Some(pull) = self.pull_from(from, slice) {
            let ours = sketches.group_hashes(slice, theirs.section);
            pull.take_groups(now, &ours, theirs);
        }
    }

    /// A group has come and was merged.
    pub(crate) fn arrived(
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

    /// Calls `ask` for each question that is to be asked now. Pulls that are done, refused or given up end here, and
    /// others begin in their places.
    pub(crate) fn ask(
        &mut self,
        now: Duration,
        sketches: &mut Sketches,
        mut ask: impl FnMut(Boot, QueuedFrame),
    ) {
        self.end_pulls(sketches);
        let room = self.limits.pulls.saturating_sub(self.pulls.len());
        let pulls = &self.pulls;
        let is_pulled = |slice: &SliceId| pulls.contains_key(slice);
        let of_sketch = |sketch| pulls.keys().filter(|slice| slice.sketch == sketch).count();
        let due = (self.claims).take_due(now, sketches, room, is_pulled, of_sketch);
        for (slice, claim) in due {
            let pull = Pull::new(now, claim.from(), claim.root(), sketches.changed_at(&slice));
            self.pulls.insert(slice, pull);
        }
        for (slice, pull) in &mut self.pulls {
            pull.ask(now, slice, &self.limits, &mut ask);
        }
    }

    pub(crate) fn next_wake(&self) -> Option<Duration> {
        let has_room = self.pulls.len() < self.limits.pulls;
        let begins = self.claims.next_due().filter(|_| has_room);
        let pulls = self.pulls.values().map(Pull::deadline);
        pulls.chain(begins).min()
    }

    /// Forgets what was compared with a member that is gone.
    pub(crate) fn forget_siblings(&mut self, boot: Boot) {
        self.compared.forget(boot);
    }

    /// Gives up what is pulled from somebody who is gone, and how far it was told our digest.
    pub(crate) fn forget(&mut self, boot: Boot) {
        self.tour.forget(boot);
        self.claims.forget(boot);
        let claims = &mut self.claims;
        self.pulls.retain(|slice, pull| {
            let is_kept = pull.from() != boot;
            if !is_kept {
                claims.note_due(slice);
            }
            is_kept
        });
    }

    fn end_pulls(&mut self, sketches: &mut Sketches) {
        let claims = &mut self.claims;
        let is_full = self.pulls.len() >= self.limits.pulls;
        self.pulls.retain(|slice, pull| {
            let is_awaited = claims.has(slice) || (is_full && !claims.is_empty());
            let is_given_up = pull.silences() > SILENCES_MAX
                || (pull.silences() >= SILENCES_OF_PATIENCE && is_awaited);
            let is_done = pull.is_done();
            if is_done {
                sketches.complete(slice, 0, pull.version());
                if let Some(root) = pull.fruitless_root(sketches.changed_at(slice)) {
                    claims.note_fruitless(*slice, pull.from(), root);
                }
            }
            let is_over = is_done || is_given_up || sketches.is_refused(slice);
            if is_over {
                claims.note_due(slice);
            }
            !is_over
        });
    }

    fn pull_from(&mut self, from: Boot, slice: &SliceId) -> Option<&mut Pull> {
        self.pulls.get_mut(slice).filter(|pull| pull.from() == from)
    }
}

/// The buckets in which a neighbour's sums of a slice's siblings differ from ours, a bit for each.
pub(crate) fn differing_buckets(sketches: &Sketches, slice: &SliceId, theirs: Hashes<'_>) -> u64 {
    let ours = sketches.sibling_buckets(slice);
    let pairs = ours.iter().zip(theirs).enumerate();
    let differing = pairs.filter(|(_, (ours, theirs))| **ours != *theirs);
    differing.fold(0, |buckets, (bucket, _)| buckets | 1_u64 << bucket)
}
