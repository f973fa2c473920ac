//! What is known, complete, and refused.

use super::*;
use crate::sketch::SketchError;

const A: SliceId = SliceId::of(2, Writer(1));
const B: SliceId = SliceId::of(2, Writer(2));
const C: SliceId = SliceId::of(3, Writer(1));

fn one_cell(value: u32) -> std::array::IntoIter<(u32, u32), 1> {
    [(0, value)].into_iter()
}

#[test]
fn versions_are_raised_without_gaps_only() {
    let (replica, mut slices) = replica(4, 2, NO_LIMITS);
    slices.merge(&replica, &A, one_cell(5)).unwrap();
    // (base, version, is taken, version that stands then)
    for (base, version, is_taken, stands) in [
        (1, 3, false, 0),
        (0, 3, true, 3),
        (4, 9, false, 3),
        (3, 7, true, 7),
        (2, 5, true, 7),
        (7, 7, true, 7),
    ] {
        assert_eq!(slices.complete(&A, base, version), is_taken);
        assert_eq!(slices.version(&A), stands);
    }
    assert!(!slices.complete(&OWN, 0, 9));
    assert_eq!(slices.version(&OWN), 0);
    assert!(!slices.complete(&B, 1, 9) && !slices.has(&B));
    assert_eq!(slices.refused(), 0);
}

#[test]
fn a_slice_without_cells_costs_none() {
    let (replica, mut slices) = replica(100, 4, NO_LIMITS);
    let bytes = replica.memory_bytes();
    // The live cells, and the published ones.
    assert_eq!(bytes, 2 * 1600);
    assert_eq!(slices.merge(&replica, &A, one_cell(0)), Ok(0));
    assert!(!slices.has(&A) && slices.cells(&replica, &A).is_none());
    assert!(slices.complete(&A, 0, 4));
    assert!(slices.has(&A));
    assert_eq!((slices.version(&A), slices.root(&A)), (4, 0));
    assert_eq!(slices.merge(&replica, &A, one_cell(0)), Ok(0));
    assert_eq!(replica.memory_bytes(), bytes);
    let learnt = |memory_bytes, weight| LearntSlice {
        slice: A,
        version: 4,
        weight,
        memory_bytes,
    };
    assert!(slices.learnt().eq([learnt(0, 0)]));
    assert_eq!(slices.merge(&replica, &A, one_cell(3)), Ok(1));
    assert!(slices.learnt().eq([learnt(1600, 3)]));
    assert_eq!(replica.memory_bytes(), bytes + 1600);
    let digests: Vec<_> = slices
        .digests()
        .map(|digest| (digest.slice, digest.version))
        .collect();
    assert_eq!(digests, [(OWN, 0), (A, 4)]);
}

#[test]
fn origins_are_limited_and_the_known_are_served() {
    let limits = ReplicaLimits {
        max_origins: 2,
        ..NO_LIMITS
    };
    let (replica, mut slices) = replica(4, 1, limits);
    assert!(slices.complete(&A, 0, 1));
    assert_eq!(slices.merge(&replica, &B, one_cell(5)), Ok(1));
    let bytes = replica.memory_bytes();
    let refused = Err(SliceRefused::TooManyOrigins { max: 2 });
    assert_eq!(slices.merge(&replica, &C, one_cell(5)), refused);
    assert!(!slices.has(&C) && slices.is_refused(&C) && !slices.is_refused(&A));
    assert!(!slices.complete(&SliceId::of(9, Writer(9)), 0, 1));
    assert_eq!(slices.refused(), 2);
    assert_eq!(slices.merge(&replica, &C, one_cell(5)), refused);
    assert_eq!((slices.refused(), replica.memory_bytes()), (2, bytes));
    // The place of the empty one is its own.
    assert_eq!(slices.merge(&replica, &A, one_cell(7)), Ok(1));
    assert_eq!(slices.merge(&replica, &B, one_cell(6)), Ok(1));
    assert_eq!(replica.total_weight(), 13);
}

#[test]
fn memory_is_limited_for_slices_and_legacy_peers_together() {
    // Of 16 bytes each: live, published, one learnt, one legacy peer's two; not one more.
    let limits = ReplicaLimits {
        max_memory_bytes: 5 * 16 + 15,
        ..NO_LIMITS
    };
    let (replica, mut slices) = replica(4, 1, limits);
    let mut legacy = crate::replica::LegacyRows::new(2);
    let mut send = |port, replica| {
        let counters = [1; 4].into_iter();
        legacy.merge(replica, ([127, 0, 0, 1], port).into(), 0, counters)
    };
    send(1, &replica).unwrap();
    assert_eq!(slices.merge(&replica, &A, one_cell(5)), Ok(1));
    assert_eq!(replica.memory_bytes(), 80);
    let refused = Err(SliceRefused::Memory {
        needed_bytes: 96,
        max_bytes: 95,
    });
    assert_eq!(slices.merge(&replica, &B, one_cell(5)), refused);
    assert!(slices.is_refused(&B) && !slices.has(&B));
    // Its cells went by: nobody may be told that it is here.
    assert!(!slices.complete(&B, 0, 1) && slices.is_refused(&B) && !slices.has(&B));
    assert!(slices.digests().all(|line| line.slice != B));
    assert_eq!(slices.merge(&replica, &B, one_cell(5)), refused);
    let no_memory = SketchError::OutOfMemory { bytes: 32 };
    assert_eq!(send(2, &replica), Err(no_memory.into()));
    assert_eq!(replica.legacy_peers().count(), 1);
    assert_eq!(replica.memory_bytes(), 80);
    send(1, &replica).unwrap();
    assert_eq!(slices.merge(&replica, &A, one_cell(6)), Ok(1));
}

#[test]
fn a_replica_above_its_limit_is_not_made() {
    let geometry = Geometry::new(4, 1).unwrap();
    let made = |max_memory_bytes| {
        let limits = ReplicaLimits {
            max_memory_bytes,
            ..NO_LIMITS
        };
        Replica::try_with(geometry, FAMILY, OWN, limits)
    };
    let too_large = SketchError::OutOfMemory { bytes: 16 };
    assert_eq!(made(15).err(), Some(too_large));
    let replica = made(31).unwrap();
    assert_eq!(Slices::try_new(&replica).err(), Some(too_large));
    assert_eq!(replica.memory_bytes(), 16);
    assert!(Slices::try_new(&made(32).unwrap()).is_ok());
}

#[test]
fn refused_slices_are_remembered_up_to_a_bound() {
    let limits = ReplicaLimits {
        max_origins: 1,
        ..NO_LIMITS
    };
    let (replica, mut slices) = replica(4, 1, limits);
    slices.merge(&replica, &A, one_cell(1)).unwrap();
    let stranger = |writer| SliceId::of(77, Writer(writer));
    for writer in 0..REFUSED_MAX as u64 + 10 {
        assert!(slices.refused() < REFUSED_MAX || slices.is_refused(&stranger(writer)));
        assert!(
            slices
                .merge(&replica, &stranger(writer), one_cell(1))
                .is_err()
        );
        assert!(slices.is_refused(&stranger(writer)));
    }
    assert_eq!(slices.refused(), REFUSED_MAX);
    assert!(!slices.is_refused(&A) && !slices.is_refused(&OWN));
}

#[test]
fn what_is_not_ours_to_take_is_refused() {
    let (replica, mut slices) = replica(4, 1, NO_LIMITS);
    let before = (replica.memory_bytes(), replica.total_weight());
    let own = slices.merge(&replica, &OWN, one_cell(5));
    assert_eq!(own, Err(SliceRefused::OwnSlice));
    for sketch in [1, 1 << 20, u32::MAX].map(SketchNumber) {
        let later = SliceId { sketch, ..A };
        let refused = slices.merge(&replica, &later, one_cell(5));
        assert_eq!(refused, Err(SliceRefused::Unsupported));
        assert!(slices.is_refused(&later));
    }
    assert!(!slices.is_refused(&OWN) && slices.refused() == 3);
    // Nothing that fits: nothing is taken.
    let outside = |cell| {
        Err(SliceRefused::IndexRange {
            index: cell,
            cells: 4,
        })
    };
    assert_eq!(slices.merge(&replica, &A, [(4, 5)].into_iter()), outside(4));
    assert!(!slices.has(&A));
    assert_eq!((replica.memory_bytes(), replica.total_weight()), before);
    // Those that fit are merged, wherever they stand.
    let some = [(u32::MAX, 5), (1, 7), (9, 1), (3, 8)];
    assert_eq!(
        slices.merge(&replica, &A, some.into_iter()),
        outside(u32::MAX)
    );
    assert_eq!(all_cells(&replica, &slices, &A), [0, 7, 0, 8]);
    assert!(!slices.is_refused(&A));
}
