use std::sync::Arc;

use super::*;
use crate::gossip::repair::claim::PATIENCES_MAX;
use rmbd_proto::Writer;
use rmbd_sketch::{Geometry, HashFamily};
use rmbd_store::{Replica, ReplicaLimits, Slices};

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
fn holder() -> Sketches {
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
    Sketches::of([slices])
}

fn line(version: u64, root: u64) -> DigestEntry {
    DigestEntry {
        slice: S,
        version,
        root,
    }
}

fn due(claims: &mut Claims, slices: &Sketches, now: Duration) -> Vec<(u64, u64)> {
    let due = claims.take_due(now, slices, 9, NOT_PULLED, |_| 0);
    due.iter()
        .map(|(_, claim)| (claim.from().0, claim.version()))
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
fn two_sources_that_differ_do_not_keep_each_other_from_being_asked() {
    let slices = holder();
    let source = Relation {
        never_asks: true,
        ..DEAD
    };
    let mut claims = Claims::new(ROUND, 9);
    let mut asked = Vec::new();
    for round in 0..12 {
        let now = ROUND * round;
        for (from, root) in [(2, 22), (3, 33)] {
            claims.note(now, &slices, Boot(from), line(3, root), source, NOT_PULLED);
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
        let due = claims.take_due(now, &slices, 1, NOT_PULLED, |_| 0);
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

/// A line about a slice of another sketch, of which nothing is here.
fn line_in(sketch: u32, writer: u64) -> DigestEntry {
    let mut line = line_of(writer);
    line.slice.sketch = SketchNumber(sketch);
    line
}

#[test]
fn a_sketch_with_many_claims_leaves_places_and_turns_to_the_others() {
    let slices = holder();
    let mut claims = Claims::new(ROUND, 40);
    for writer in 0..400 {
        claims.note(ROUND, &slices, Boot(2), line_of(writer), DEAD, NOT_PULLED);
    }
    for (sketch, writer) in (1..4).flat_map(|sketch| [(sketch, 1), (sketch, 2)]) {
        let theirs = line_in(sketch, writer);
        claims.note(ROUND * 2, &slices, Boot(2), theirs, DEAD, NOT_PULLED);
        assert!(claims.has(&theirs.slice));
    }
    assert_eq!(claims.claims.len(), 40);
    let pulls = |sketch: SketchNumber| usize::from(sketch == SketchNumber::DEFAULT);
    let due = claims.take_due(ROUND * 3, &slices, 5, NOT_PULLED, pulls);
    let sketches: Vec<u32> = due.iter().map(|(slice, _)| slice.sketch.0).collect();
    assert_eq!(
        sketches,
        [1, 2, 3, 0, 1],
        "the first that came where as few are pulled"
    );
    assert_eq!(
        claims.of_sketches.values().sum::<usize>(),
        claims.claims.len()
    );
    claims.forget(Boot(2));
    assert!(claims.of_sketches.is_empty());
}
