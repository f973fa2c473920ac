//! Slices of which some neighbour says that it has more than we.
//!
//! A [`Claim`] is one neighbour's word about one slice: the version that it has complete, and the hash of its copy. The
//! best claim of each slice is kept until we have what it names. A neighbour that knows less has no say in it: with
//! many neighbours that are behind and one that is not, theirs are most of the lines that come.
//!
//! Places are for all sketches together. Where they are taken, the sketch with the most claims gives way, and the next
//! to be pulled is of the sketch of which the fewest are.

use std::collections::BTreeMap;
use std::time::Duration;

use super::claim::{Ahead, Claim, Relation};
use crate::gossip::sketches::Sketches;
use rmbd_proto::cluster::{DigestEntry, SliceId};
use rmbd_proto::{Boot, SketchNumber};

/// A node that is behind for this many rounds, while the writer is heard, pulls.
const PATIENCE_ROUNDS: u32 = 2;

/// The best claims, one for each slice.
#[derive(Debug)]
pub(super) struct Claims {
    patience: Duration,
    max: usize,
    claims: BTreeMap<SliceId, Claim>,
    /// How many claims there are of each sketch.
    of_sketches: BTreeMap<SketchNumber, usize>,
    /// Copies, by slice and neighbour, in which there was nothing for us. That stays true, since our cells
    /// only grow.
    fruitless: BTreeMap<(SliceId, Boot), u64>,
    /// No claim is due before.
    next_due: Option<Duration>,
}

impl Claims {
    pub(super) fn new(gossip_interval: Duration, max: usize) -> Self {
        Self {
            patience: gossip_interval * PATIENCE_ROUNDS,
            max,
            claims: BTreeMap::new(),
            of_sketches: BTreeMap::new(),
            fruitless: BTreeMap::new(),
            next_due: None,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.claims.is_empty()
    }

    pub(super) fn has(&self, slice: &SliceId) -> bool {
        self.claims.contains_key(slice)
    }

    /// How long a writer may be silent and still count as heard.
    pub(super) fn patience(&self) -> Duration {
        self.patience
    }

    /// Takes a line of a neighbour's digest, and says whether it is ahead of what is here. Where there is no room,
    /// what `is_pulled` already and the less certain make it: nothing that is asked for again and again in vain keeps
    /// the rest from being asked for.
    pub(super) fn note(
        &mut self,
        now: Duration,
        sketches: &Sketches,
        from: Boot,
        theirs: DigestEntry,
        relation: Relation,
        is_pulled: impl Fn(&SliceId) -> bool,
    ) -> bool {
        let slice = theirs.slice;
        self.drop_if_met(&slice, sketches);
        if relation.is_its_own && theirs.version != sketches.version(&slice) {
            // It pushes this one itself, and knows better than we what of it is missing here.
            return false;
        }
        let Some(ahead) = self.ahead(sketches, from, &theirs, relation) else {
            self.take_back(&slice, from, theirs.version);
            return false;
        };
        let changed_at = sketches.changed_at(&slice);
        let fresh = Claim::new(now, from, &theirs, ahead, relation.is_pushed, changed_at);
        if let Some(known) = self.claims.get_mut(&slice) {
            known.hear(fresh);
        } else if self.make_room(slice.sketch, ahead, is_pulled) {
            self.insert(slice, fresh);
        }
        self.note_due(&slice);
        true
    }

    /// The claims whose time came first, at most `max`, of slices that are not pulled already: they are to be
    /// pulled, and no longer claims. `pulls` says how many slices of a sketch are: those of which the fewest are come
    /// first.
    pub(super) fn take_due(
        &mut self,
        now: Duration,
        sketches: &Sketches,
        max: usize,
        is_pulled: impl Fn(&SliceId) -> bool,
        pulls: impl Fn(SketchNumber) -> usize,
    ) -> Vec<(SliceId, Claim)> {
        if max == 0 || self.next_due.is_none_or(|due| now < due) {
            return Vec::new();
        }
        let patience = self.patience;
        self.retain(|slice, claim| {
            claim.wait_for_more(now, sketches.changed_at(slice));
            !sketches.is_refused(slice) && !claim.is_met(sketches, slice)
        });
        let is_due =
            |&(slice, claim): &(&SliceId, &Claim)| claim.due(patience) <= now && !is_pulled(slice);
        let due = self.claims.iter().filter(is_due);
        let mut due: Vec<(SliceId, Claim)> = due.map(|(&slice, &claim)| (slice, claim)).collect();
        due.sort_by_key(|(_, claim)| claim.due(patience));
        let due = in_turns(due, pulls, max);
        for (slice, _) in &due {
            self.remove(slice);
        }
        let left = self.claims.iter().filter(|(slice, _)| !is_pulled(slice));
        self.next_due = left.map(|(_, claim)| claim.due(patience)).min();
        due
    }

    pub(super) fn next_due(&self) -> Option<Duration> {
        self.next_due
    }

    /// A pull of this copy changed nothing here. Beyond the bound another copy is forgotten, and pulled again
    /// where it still differs.
    pub(super) fn note_fruitless(&mut self, slice: SliceId, from: Boot, root: u64) {
        let key = (slice, from);
        if self.fruitless.len() >= self.max && !self.fruitless.contains_key(&key) {
            // Any one: it is pulled once more than it need be.
            let next = self.fruitless.range(key..).next().map(|(&next, _)| next);
            match next {
                Some(next) => self.fruitless.remove(&next),
                None => self.fruitless.pop_first().map(|(_, root)| root),
            };
        }
        self.fruitless.insert(key, root);
    }

    /// A pull has ended: what was claimed of its slice meanwhile has its turn.
    pub(super) fn note_due(&mut self, slice: &SliceId) {
        if let Some(claim) = self.claims.get(slice) {
            let due = claim.due(self.patience);
            self.next_due = Some(self.next_due.map_or(due, |next| next.min(due)));
        }
    }

    /// `from` says that it has nothing of this slice.
    pub(super) fn withdraw(&mut self, slice: &SliceId, from: Boot) {
        self.take_back(slice, from, u64::MAX);
    }

    /// Forgets what somebody said who is gone.
    pub(super) fn forget(&mut self, boot: Boot) {
        self.retain(|_, claim| claim.from() != boot);
        self.fruitless.retain(|&(_, from), _| from != boot);
    }

    /// In what a line is ahead of what we have, if it is.
    fn ahead(
        &self,
        sketches: &Sketches,
        from: Boot,
        theirs: &DigestEntry,
        relation: Relation,
    ) -> Option<Ahead> {
        let slice = &theirs.slice;
        let ours = sketches.version(slice);
        if sketches.is_refused(slice) {
            return None;
        }
        if theirs.version > ours {
            return Some(Ahead::Newer);
        }
        let is_same = sketches.root(slice) == theirs.root;
        let has_nothing = self.fruitless.get(&(*slice, from)) == Some(&theirs.root);
        if is_same || has_nothing {
            return None;
        }
        if theirs.version == ours {
            return Some(Ahead::Other);
        }
        relation.never_asks.then_some(Ahead::OlderAndOther)
    }

    /// Whether there is room for one more claim of a sketch: one that matters less goes, or one of a sketch that has
    /// more claims than this one would have.
    fn make_room(
        &mut self,
        sketch: SketchNumber,
        ahead: Ahead,
        is_pulled: impl Fn(&SliceId) -> bool,
    ) -> bool {
        if self.claims.len() < self.max {
            return true;
        }
        let largest = self.of_sketches.iter().max_by_key(|&(_, count)| count);
        let largest = largest.filter(|&(_, count)| *count > self.count_of(sketch) + 1);
        let largest = largest.map(|(&largest, _)| largest);
        let rank = |(slice, claim): (&SliceId, &Claim)| (!is_pulled(slice), claim.ahead(), *slice);
        let all = self.claims.iter();
        let gives_way = all.filter(|(slice, _)| largest.is_none_or(|it| it == slice.sketch));
        let least = gives_way.map(rank).min();
        let matters_less = |least: &(bool, Ahead, _)| (least.0, least.1) < (true, ahead);
        let least = least.filter(|least| largest.is_some() || matters_less(least));
        if let Some((_, _, slice)) = &least {
            self.remove(slice);
        }
        least.is_some()
    }

    fn count_of(&self, sketch: SketchNumber) -> usize {
        self.of_sketches.get(&sketch).copied().unwrap_or(0)
    }

    fn insert(&mut self, slice: SliceId, claim: Claim) {
        if self.claims.insert(slice, claim).is_none() {
            *self.of_sketches.entry(slice.sketch).or_default() += 1;
        }
    }

    fn remove(&mut self, slice: &SliceId) {
        if self.claims.remove(slice).is_some() {
            note_gone(&mut self.of_sketches, slice.sketch);
        }
    }

    fn retain(&mut self, mut keep: impl FnMut(&SliceId, &mut Claim) -> bool) {
        let of_sketches = &mut self.of_sketches;
        self.claims.retain(|slice, claim| {
            let is_kept = keep(slice, claim);
            if !is_kept {
                note_gone(of_sketches, slice.sketch);
            }
            is_kept
        });
    }

    /// The neighbour that made a claim says at a later version that it is not ahead of us any more.
    fn take_back(&mut self, slice: &SliceId, from: Boot, version: u64) {
        let known = self.claims.get(slice);
        if known.is_some_and(|known| known.from() == from && known.version() <= version) {
            self.remove(slice);
        }
    }

    fn drop_if_met(&mut self, slice: &SliceId, sketches: &Sketches) {
        let known = self.claims.get(slice);
        if known.is_some_and(|known| known.is_met(sketches, slice)) {
            self.remove(slice);
        }
    }
}

/// At most `max` of these, which are in the order in which they came; always the first of a sketch of which the fewest
/// are pulled.
fn in_turns(
    mut due: Vec<(SliceId, Claim)>,
    pulls: impl Fn(SketchNumber) -> usize,
    max: usize,
) -> Vec<(SliceId, Claim)> {
    let mut taken: Vec<(SliceId, Claim)> = Vec::new();
    while taken.len() < max && !due.is_empty() {
        let of = |sketch| {
            taken
                .iter()
                .filter(|(slice, _)| slice.sketch == sketch)
                .count()
        };
        let places = due.iter().enumerate();
        let next = places.min_by_key(|(_, (slice, _))| pulls(slice.sketch) + of(slice.sketch));
        let at = next.map_or(0, |(at, _)| at);
        taken.push(due.remove(at));
    }
    taken
}

fn note_gone(of_sketches: &mut BTreeMap<SketchNumber, usize>, sketch: SketchNumber) {
    if let Some(count) = of_sketches.get_mut(&sketch) {
        *count -= 1;
        if *count == 0 {
            of_sketches.remove(&sketch);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
