//! What neighbours say that they have more of than we.
//!
//! A claim is one neighbour's word about one slice: the version that it has complete, and the hash of its
//! copy. The best claim of each slice is kept until we have what it names. A neighbour that knows less has no
//! say in it: with many neighbours that are behind and one that is not, theirs are most of the lines that come.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::replica::Slices;
use crate::wire::Boot;
use crate::wire::cluster::{DigestEntry, SliceId};

/// Whoever is behind for this many rounds, while the writer is heard, pulls.
const PATIENCE_ROUNDS: u32 = 2;
/// Whoever has been behind for so many times that long pulls, although something keeps coming: cells may
/// arrive while the word that they are all does not.
const PATIENCES_MAX: u32 = 8;

/// How the writer, and whoever told of a slice, stand to us.
#[derive(Debug, Clone, Copy)]
pub(super) struct Relation {
    /// The writer is a live member and was heard lately: what is missing is probably on its way.
    pub(super) is_pushed: bool,
    /// Who told pulls nothing from us, so that what it has beyond an older version does not come back to
    /// us with a newer one.
    pub(super) never_asks: bool,
    /// Who told writes the slice itself.
    pub(super) is_its_own: bool,
}

/// A neighbour's word.
#[derive(Debug, Clone, Copy)]
pub(super) struct Claim {
    pub(super) from: Boot,
    pub(super) version: u64,
    pub(super) root: u64,
    ahead: Ahead,
    is_pushed: bool,
    /// Since when we have been behind ...
    behind_since: Duration,
    /// ... and nothing has come.
    since: Duration,
    /// What we had then.
    changed_at: u64,
}

/// In what a neighbour's copy may be ahead of ours; the later, the more certain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Ahead {
    /// It has an older version, and other cells: parts of a later one may be among them.
    OlderAndOther,
    /// It has the same version, and other cells.
    Other,
    /// It has a newer version.
    Newer,
}

/// The best claims, one for each slice.
#[derive(Debug)]
pub(super) struct Claims {
    patience: Duration,
    max: usize,
    claims: BTreeMap<SliceId, Claim>,
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
        slices: &Slices,
        from: Boot,
        theirs: DigestEntry,
        relation: Relation,
        is_pulled: impl Fn(&SliceId) -> bool,
    ) -> bool {
        let slice = theirs.slice;
        self.drop_if_met(&slice, slices);
        if relation.is_its_own && theirs.version != slices.version(&slice) {
            // It pushes this one itself, and knows better than we what of it is missing here.
            return false;
        }
        let Some(ahead) = self.ahead(slices, from, &theirs, relation) else {
            self.take_back(&slice, from, theirs.version);
            return false;
        };
        let changed_at = slices.changed_at(&slice);
        let fresh = Claim {
            from,
            version: theirs.version,
            root: theirs.root,
            ahead,
            is_pushed: relation.is_pushed,
            behind_since: now,
            since: now,
            changed_at,
        };
        if let Some(known) = self.claims.get_mut(&slice) {
            known.hear(fresh);
        } else if self.make_room(ahead, is_pulled) {
            self.claims.insert(slice, fresh);
        }
        self.note_due(&slice);
        true
    }

    /// The claims whose time came first, at most `max`, of slices that are not pulled already: they are to be
    /// pulled, and no longer claims.
    pub(super) fn take_due(
        &mut self,
        now: Duration,
        slices: &Slices,
        max: usize,
        is_pulled: impl Fn(&SliceId) -> bool,
    ) -> Vec<(SliceId, Claim)> {
        if max == 0 || self.next_due.is_none_or(|due| now < due) {
            return Vec::new();
        }
        let patience = self.patience;
        self.claims.retain(|slice, claim| {
            claim.wait_for_more(now, slices.changed_at(slice));
            !slices.is_refused(slice) && !claim.is_met(slices, slice)
        });
        let is_due =
            |&(slice, claim): &(&SliceId, &Claim)| claim.due(patience) <= now && !is_pulled(slice);
        let due = self.claims.iter().filter(is_due);
        let mut due: Vec<(SliceId, Claim)> = due.map(|(&slice, &claim)| (slice, claim)).collect();
        due.sort_by_key(|(_, claim)| claim.due(patience));
        due.truncate(max);
        for (slice, _) in &due {
            self.claims.remove(slice);
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
            self.fruitless.pop_first();
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
        self.claims.retain(|_, claim| claim.from != boot);
        self.fruitless.retain(|&(_, from), _| from != boot);
    }

    /// In what a line is ahead of what we have, if it is.
    fn ahead(
        &self,
        slices: &Slices,
        from: Boot,
        theirs: &DigestEntry,
        relation: Relation,
    ) -> Option<Ahead> {
        let slice = &theirs.slice;
        let ours = slices.version(slice);
        if slices.is_refused(slice) {
            return None;
        }
        if theirs.version > ours {
            return Some(Ahead::Newer);
        }
        let is_same = slices.root(slice) == theirs.root;
        let has_nothing = self.fruitless.get(&(*slice, from)) == Some(&theirs.root);
        if is_same || has_nothing {
            return None;
        }
        if theirs.version == ours {
            return Some(Ahead::Other);
        }
        relation.never_asks.then_some(Ahead::OlderAndOther)
    }

    /// Whether there is room for one more claim: one that matters less goes.
    fn make_room(&mut self, ahead: Ahead, is_pulled: impl Fn(&SliceId) -> bool) -> bool {
        if self.claims.len() < self.max {
            return true;
        }
        let rank = |(slice, claim): (&SliceId, &Claim)| (!is_pulled(slice), claim.ahead, *slice);
        let least = self.claims.iter().map(rank).min();
        let Some((_, _, slice)) = least.filter(|least| (least.0, least.1) < (true, ahead)) else {
            return false;
        };
        self.claims.remove(&slice);
        true
    }

    /// Who made a claim says at a later version that it is not ahead of us any more.
    fn take_back(&mut self, slice: &SliceId, from: Boot, version: u64) {
        let known = self.claims.get(slice);
        if known.is_some_and(|known| known.from == from && known.version <= version) {
            self.claims.remove(slice);
        }
    }

    fn drop_if_met(&mut self, slice: &SliceId, slices: &Slices) {
        let known = self.claims.get(slice);
        if known.is_some_and(|known| known.is_met(slices, slice)) {
            self.claims.remove(slice);
        }
    }
}

impl Claim {
    /// When it is to be pulled: at once where nobody pushes it.
    fn due(&self, patience: Duration) -> Duration {
        let waits = self.is_pushed || self.ahead == Ahead::OlderAndOther;
        if waits {
            let longest = self.behind_since + patience * PATIENCES_MAX;
            longest.min(self.since + patience)
        } else {
            self.behind_since
        }
    }

    /// Whether we have what it names.
    fn is_met(&self, slices: &Slices, slice: &SliceId) -> bool {
        let ours = slices.version(slice);
        match self.ahead {
            Ahead::Newer => ours >= self.version,
            Ahead::Other => ours > self.version || slices.root(slice) == self.root,
            Ahead::OlderAndOther => slices.root(slice) == self.root,
        }
    }

    /// Takes another claim's place, or is told by the same neighbour again.
    fn hear(&mut self, other: Self) {
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
    fn wait_for_more(&mut self, now: Duration, changed_at: u64) {
        if self.is_pushed && self.changed_at != changed_at {
            self.since = now;
        }
        self.changed_at = changed_at;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::replica::{Replica, ReplicaLimits};
    use crate::sketch::{Geometry, HashFamily};
    use crate::wire::Writer;

    const ROUND: Duration = Duration::from_millis(500);
    const S: SliceId = SliceId::of(7, Writer(70));
    const DEAD: Relation = Relation {
        is_pushed: false,
        never_asks: false,
        is_its_own: false,
    };
    const PUSHED: Relation = Relation {
        is_pushed: true,
        never_asks: false,
        is_its_own: false,
    };
    const NOT_PULLED: fn(&SliceId) -> bool = |_| false;

    /// A node that has `S` at version 4, one cell of it at 4.
    fn holder() -> Slices {
        let limits = ReplicaLimits {
            max_peers: 1,
            max_origins: 9,
            max_memory_bytes: u64::MAX,
        };
        let family = HashFamily::Xxh3 { seed: 1 };
        let geometry = Geometry::new(64, 1).unwrap();
        let own = SliceId::of(1, Writer(10));
        let replica = Replica::try_with(geometry, family, own, limits).unwrap();
        let mut slices = Slices::try_new(Arc::new(replica)).unwrap();
        slices.merge(&S, [(0, 4)].into_iter()).unwrap();
        assert!(slices.complete(&S, 0, 4));
        slices
    }

    fn line(version: u64, root: u64) -> DigestEntry {
        DigestEntry {
            slice: S,
            version,
            root,
        }
    }

    fn due(claims: &mut Claims, slices: &Slices, now: Duration) -> Vec<(u64, u64)> {
        let due = claims.take_due(now, slices, 9, |_| false);
        due.iter()
            .map(|(_, claim)| (claim.from.0, claim.version))
            .collect()
    }

    #[test]
    fn who_is_behind_says_nothing_against_a_claim() {
        let slices = holder();
        let same = line(4, slices.root(&S));
        let mut claims = Claims::new(ROUND, 9);
        claims.note(ROUND, &slices, Boot(2), line(9, 99), PUSHED, NOT_PULLED);
        // Older, equal, and other copies, of many neighbours, before and after.
        for other in 3..40 {
            for theirs in [same, line(3, 33), line(4, 44), line(8, 88)] {
                claims.note(ROUND, &slices, Boot(other), theirs, PUSHED, NOT_PULLED);
            }
        }
        assert_eq!(due(&mut claims, &slices, ROUND * 2), []);
        assert_eq!(due(&mut claims, &slices, ROUND * 3), [(2, 9)]);
        assert!(claims.is_empty());
    }

    #[test]
    fn a_better_claim_takes_the_place_and_not_the_time() {
        let slices = holder();
        let mut claims = Claims::new(ROUND, 9);
        claims.note(ROUND, &slices, Boot(2), line(4, 44), PUSHED, NOT_PULLED);
        claims.note(ROUND * 2, &slices, Boot(3), line(5, 55), PUSHED, NOT_PULLED);
        claims.note(ROUND * 2, &slices, Boot(4), line(7, 77), PUSHED, NOT_PULLED);
        assert_eq!(due(&mut claims, &slices, ROUND * 3), [(4, 7)]);
    }

    #[test]
    fn what_nobody_pushes_is_due_at_once() {
        let slices = holder();
        for theirs in [line(4, 44), line(9, 99)] {
            let mut claims = Claims::new(ROUND, 9);
            claims.note(ROUND, &slices, Boot(2), theirs, DEAD, NOT_PULLED);
            assert_eq!(claims.next_due(), Some(ROUND));
            assert_eq!(due(&mut claims, &slices, ROUND), [(2, theirs.version)]);
        }
    }

    #[test]
    fn having_it_ends_a_claim_and_so_does_its_maker() {
        let mut slices = holder();
        let mut claims = Claims::new(ROUND, 9);
        claims.note(ROUND, &slices, Boot(2), line(9, 99), PUSHED, NOT_PULLED);
        slices.merge(&S, [(1, 9)].into_iter()).unwrap();
        slices.complete(&S, 4, 9);
        claims.note(ROUND, &slices, Boot(3), line(2, 22), PUSHED, NOT_PULLED);
        assert!(claims.is_empty());
        claims.note(ROUND, &slices, Boot(2), line(9, 99), DEAD, NOT_PULLED);
        let same = line(9, slices.root(&S));
        claims.note(ROUND, &slices, Boot(3), same, DEAD, NOT_PULLED);
        assert!(claims.has(&S), "another one has no say");
        claims.note(ROUND, &slices, Boot(2), same, DEAD, NOT_PULLED);
        assert!(claims.is_empty());
    }

    #[test]
    fn two_givers_that_differ_do_not_keep_each_other_from_being_asked() {
        let slices = holder();
        let giver = Relation {
            never_asks: true,
            ..DEAD
        };
        let mut claims = Claims::new(ROUND, 9);
        let mut asked = Vec::new();
        for round in 0..12 {
            let now = ROUND * round;
            for (from, root) in [(2, 22), (3, 33)] {
                claims.note(now, &slices, Boot(from), line(3, root), giver, NOT_PULLED);
            }
            for (from, _) in due(&mut claims, &slices, now) {
                // There was nothing for us in it.
                claims.note_fruitless(S, Boot(from), if from == 2 { 22 } else { 33 });
                asked.push(from);
            }
        }
        asked.sort_unstable();
        assert_eq!(asked, [2, 3], "each once, since neither has changed");
    }

    #[test]
    fn what_keeps_coming_is_waited_for_but_not_for_ever() {
        let mut slices = holder();
        let mut claims = Claims::new(ROUND, 9);
        let mut round = 0;
        let asked = loop {
            let now = ROUND * round;
            let more = [(2, u64::from(round) + 1)].into_iter();
            slices.merge(&S, more).unwrap();
            claims.note(now, &slices, Boot(2), line(9, 99), PUSHED, NOT_PULLED);
            if !due(&mut claims, &slices, now).is_empty() {
                break round;
            }
            round += 1;
            assert!(round < 1_000, "for ever");
        };
        assert_eq!(asked, PATIENCE_ROUNDS * PATIENCES_MAX);
    }

    /// A line about another slice of which nothing is here.
    fn line_of(writer: u64) -> DigestEntry {
        DigestEntry {
            slice: SliceId::of(5, Writer(50 + writer)),
            version: 1,
            root: 1,
        }
    }

    #[test]
    fn what_is_asked_for_in_vain_keeps_nothing_from_being_asked_for() {
        let slices = holder();
        let mut claims = Claims::new(ROUND, 9);
        let mut asked = std::collections::BTreeSet::new();
        // One is pulled at a time, nothing ever comes of it, and all are told of in each round.
        for round in 0..20 {
            let now = ROUND * round;
            for boot in 0..5 {
                claims.note(now, &slices, Boot(2), line_of(boot), DEAD, NOT_PULLED);
            }
            let due = claims.take_due(now, &slices, 1, NOT_PULLED);
            asked.extend(due.iter().map(|(slice, _)| slice.writer));
        }
        assert_eq!(asked.len(), 5);
    }

    #[test]
    fn in_a_full_house_what_is_pulled_and_what_is_less_certain_gives_way() {
        let slices = holder();
        let mut claims = Claims::new(ROUND, 1);
        claims.note(ROUND, &slices, Boot(2), line(4, 44), DEAD, NOT_PULLED);
        assert!(claims.has(&S));
        claims.note(ROUND, &slices, Boot(2), line_of(1), DEAD, NOT_PULLED);
        assert!(claims.has(&line_of(1).slice), "newer is more certain");
        claims.note(ROUND, &slices, Boot(2), line(4, 44), DEAD, NOT_PULLED);
        claims.note(ROUND, &slices, Boot(2), line_of(2), DEAD, NOT_PULLED);
        assert!(claims.has(&line_of(1).slice), "as certain, and first");
        let pulled = line_of(1).slice;
        claims.note(ROUND, &slices, Boot(2), line_of(2), DEAD, |slice| {
            *slice == pulled
        });
        assert!(claims.has(&line_of(2).slice));
    }

    #[test]
    fn a_copy_without_anything_for_us_is_remembered_whatever_was_before() {
        let slices = holder();
        let mut claims = Claims::new(ROUND, 1);
        for from in (2..9).chain((2..9).rev()) {
            claims.note_fruitless(S, Boot(from), 44);
            claims.note(ROUND, &slices, Boot(from), line(4, 44), DEAD, NOT_PULLED);
            assert!(claims.is_empty());
        }
    }

    #[test]
    fn claims_are_bounded() {
        let slices = holder();
        let mut claims = Claims::new(ROUND, 3);
        for boot in 0..99 {
            let theirs = line_of(boot);
            claims.note(ROUND, &slices, Boot(2), theirs, PUSHED, NOT_PULLED);
            claims.note_fruitless(theirs.slice, Boot(2), 1);
        }
        assert_eq!((claims.claims.len(), claims.fruitless.len()), (3, 3));
        claims.forget(Boot(2));
        assert_eq!((claims.claims.len(), claims.fruitless.len()), (0, 0));
    }
}
