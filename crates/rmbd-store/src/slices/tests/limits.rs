//! Tests of which slices are known, complete and refused.

use super::*;
use crate::MemoryLimit;

const A: SliceId = SliceId::of(2, Writer(1));
const B: SliceId = SliceId::of(2, Writer(2));
const C: SliceId = SliceId::of(3, Writer(1));

fn one_cell(value: u64) -> std::array::IntoIter<(u32, u64), 1> {
    [(0, value)].into_iter()
}

#[test]
fn versions_are_raised_without_gaps_only() {
    let (_, mut slices) = replica(4, 2, NO_LIMITS);
    slices.merge(&A, one_cell(5)).unwrap();
    // (base, version, whether it is taken, version that stands then)
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
    assert_eq!(slices.lacking(), 0);
}

#[test]
fn a_slice_without_cells_costs_none() {
    let (replica, mut slices) = replica(100, 4, NO_LIMITS);
    let bytes = replica.memory_bytes();
    // The live cells, those of others beside them and wide, the half turns, and the published ones.
    assert_eq!(bytes, 6 * 1600);
    assert_eq!(slices.merge(&A, one_cell(0)), Ok(0));
    assert!(!slices.has(&A) && slices.cells(&A).is_none());
    assert!(slices.complete(&A, 0, 4));
    assert!(slices.has(&A));
    assert_eq!((slices.version(&A), slices.root(&A)), (4, 0));
    assert_eq!(slices.merge(&A, one_cell(0)), Ok(0));
    assert_eq!(replica.memory_bytes(), bytes);
    let learnt = |memory_bytes, weight| LearntSlice {
        slice: A,
        version: 4,
        weight,
        memory_bytes,
    };
    assert!(slices.learnt().eq([learnt(0, 0)]));
    assert_eq!(slices.merge(&A, one_cell(3)), Ok(1));
    let taken = replica.memory_bytes() - bytes;
    assert!((1..500).contains(&taken), "{taken}");
    assert!(slices.learnt().eq([learnt(taken, 3)]));
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
    assert_eq!(slices.merge(&B, one_cell(5)), Ok(1));
    let bytes = replica.memory_bytes();
    let refused = Err(SliceRefused::TooManyOrigins { max: 2 });
    assert_eq!(slices.merge(&C, one_cell(5)), refused);
    assert!(!slices.has(&C) && slices.is_refused(&C) && !slices.is_refused(&A));
    assert!(!slices.complete(&SliceId::of(9, Writer(9)), 0, 1));
    assert_eq!(slices.lacking(), 2);
    assert_eq!(slices.merge(&C, one_cell(5)), refused);
    assert_eq!((slices.lacking(), replica.memory_bytes()), (2, bytes));
    assert!(slices.missing().eq([C, SliceId::of(9, Writer(9))]));
    // The empty slice keeps its place.
    assert_eq!(slices.merge(&A, one_cell(7)), Ok(1));
    assert_eq!(slices.merge(&B, one_cell(6)), Ok(1));
    assert_eq!(replica.total_weight(), 13);
}

#[test]
fn memory_is_limited_for_slices_and_legacy_peers_together() {
    // Tables of 16 bytes each: live cells in pairs, wide sums of others, half turns, the published copy, and two wide
    // tables of one legacy peer. One slice fits beside them, but not two.
    let (unlimited, mut free) = replica(4, 1, NO_LIMITS);
    free.merge(&A, one_cell(5)).unwrap();
    let slice_bytes = unlimited.memory_bytes() - 6 * 16;
    let limits = ReplicaLimits {
        max_memory_bytes: 10 * 16 + slice_bytes + 15,
        ..NO_LIMITS
    };
    let (replica, mut slices) = replica(4, 1, limits);
    let mut legacy = crate::LegacyRows::new(Arc::clone(&replica), 2);
    let mut send = |port| {
        let counters = [1; 4].into_iter();
        legacy.merge(([127, 0, 0, 1], port).into(), 0, counters)
    };
    send(1).unwrap();
    assert_eq!(slices.merge(&A, one_cell(5)), Ok(1));
    let taken = replica.memory_bytes();
    assert_eq!(taken, 160 + slice_bytes);
    let is_refused = |merged| match merged {
        Err(SliceRefused::Memory {
            needed_bytes,
            max_bytes,
        }) => needed_bytes > max_bytes && max_bytes == taken + 15,
        _ => false,
    };
    assert!(is_refused(slices.merge(&B, one_cell(5))));
    assert!(slices.is_refused(&B) && !slices.has(&B));
    // Cells of the slice went by, so nobody may be told that it is here.
    assert!(!slices.complete(&B, 0, 1) && slices.is_refused(&B) && !slices.has(&B));
    assert!(slices.digests().all(|line| line.slice != B));
    assert!(is_refused(slices.merge(&B, one_cell(5))));
    let no_memory = NoMemory::from(MemoryLimit {
        needed_bytes: taken + 64,
        max_bytes: taken + 15,
    });
    assert_eq!(send(2), Err(no_memory.into()));
    assert_eq!(replica.legacy_peers().count(), 1);
    assert_eq!(replica.memory_bytes(), taken);
    send(1).unwrap();
    assert_eq!(slices.merge(&A, one_cell(6)), Ok(1));
}

/// Memory ends in the middle of a slice. Cells that were there stay, groups that do not fit change nothing, the slice
/// is named, and it is not complete.
#[test]
fn a_group_without_room_changes_nothing() {
    const CELLS: u32 = 4 * 300;
    for room in (0..40_000).step_by(2_503) {
        let limits = ReplicaLimits {
            max_memory_bytes: u64::from(CELLS) * 4 * 6 + room,
            ..NO_LIMITS
        };
        let (replica, mut slices) = replica(300, 4, limits);
        let mut naive = vec![0; CELLS as usize];
        let mut is_refused = false;
        for round in 1..=4_u64 {
            for first in (0..CELLS).step_by(100) {
                let cells = (first..first + 100).filter(|&cell| u64::from(cell) % round == 0);
                let cells = cells.map(|cell| (cell, round << (cell % 20)));
                let before = all_or_none(&slices, &A);
                let merged = if round % 2 == 0 {
                    slices.merge_live(&A, cells.clone())
                } else {
                    slices.merge(&A, cells.clone())
                };
                is_refused |= merged.is_err();
                let after = all_or_none(&slices, &A);
                for (cell, value) in cells {
                    let at = cell as usize;
                    // A group is taken whole or not at all, and this span holds one or two groups.
                    let taken = after.get(at).copied().unwrap_or(0);
                    let old = before.get(at).copied().unwrap_or(0);
                    assert!(taken == value.max(old) || (merged.is_err() && taken == old));
                    naive[at] = taken;
                }
                assert!(replica.memory_bytes() <= limits.max_memory_bytes);
            }
        }
        assert_eq!(slices.is_refused(&A), is_refused);
        assert_eq!(slices.complete(&A, 0, 1), !is_refused);
        if slices.has(&A) {
            assert_eq!(all_cells(&slices, &A), naive);
            assert_eq!(hashes(&slices, &A), naive_hashes(&naive));
        }
        // The sums of what others counted equal the cells that are held.
        let cells = replica.own().geometry().cells_between(0, usize::MAX);
        for (cell, &value) in cells.zip(&naive) {
            assert_eq!(replica.own().others_total(cell), value);
        }
    }
}

/// The cells of a slice; empty if the slice is not known.
fn all_or_none(slices: &Slices, slice: &SliceId) -> Vec<u64> {
    slices.cells(slice).map_or(Vec::new(), CellsRef::to_vec)
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
    let too_large = |needed_bytes, max_bytes| {
        Some(NoMemory::from(MemoryLimit {
            needed_bytes,
            max_bytes,
        }))
    };
    // Four cells take 20 bytes each, and 4 for each published cell.
    assert_eq!(made(79).err(), too_large(80, 79));
    let replica = Arc::new(made(95).unwrap());
    assert_eq!(
        Slices::try_new(Arc::clone(&replica)).err(),
        too_large(96, 95)
    );
    assert_eq!(replica.memory_bytes(), 80);
    assert!(Slices::try_new(Arc::new(made(96).unwrap())).is_ok());
}

#[test]
fn refused_slices_are_remembered_up_to_a_bound() {
    let limits = ReplicaLimits {
        max_origins: 1,
        ..NO_LIMITS
    };
    let (_, mut slices) = replica(4, 1, limits);
    slices.merge(&A, one_cell(1)).unwrap();
    let stranger = |writer| SliceId::of(77, Writer(writer));
    for writer in 0..REFUSED_MAX as u64 + 10 {
        assert!(slices.lacking() < REFUSED_MAX || slices.is_refused(&stranger(writer)));
        assert!(slices.merge(&stranger(writer), one_cell(1)).is_err());
        assert!(slices.is_refused(&stranger(writer)));
    }
    assert_eq!(slices.lacking(), REFUSED_MAX);
    assert!(!slices.is_refused(&A) && !slices.is_refused(&OWN));
}

#[test]
fn what_is_not_ours_to_take_is_refused() {
    let (replica, mut slices) = replica(4, 1, NO_LIMITS);
    let before = (replica.memory_bytes(), replica.total_weight());
    let own = slices.merge(&OWN, one_cell(5));
    assert_eq!(own, Err(SliceRefused::OwnSlice));
    for sketch in [1, 1 << 20, u32::MAX].map(SketchNumber) {
        let later = SliceId { sketch, ..A };
        let refused = slices.merge(&later, one_cell(5));
        assert_eq!(refused, Err(SliceRefused::Unsupported));
        assert!(slices.is_refused(&later));
    }
    assert!(!slices.is_refused(&OWN) && slices.lacking() == 3);
    // No cell fits, so nothing is taken.
    let outside = |cell| {
        Err(SliceRefused::IndexRange {
            index: cell,
            cells: 4,
        })
    };
    assert_eq!(slices.merge(&A, [(4, 5)].into_iter()), outside(4));
    assert!(!slices.has(&A));
    assert_eq!((replica.memory_bytes(), replica.total_weight()), before);
    // The cells that fit are merged, wherever they stand.
    let some = [(u32::MAX, 5), (1, 7), (9, 1), (3, 8)];
    assert_eq!(slices.merge(&A, some.into_iter()), outside(u32::MAX));
    assert_eq!(all_cells(&slices, &A), [0, 7, 0, 8]);
    assert!(!slices.is_refused(&A));
}

/// Flat groups of a writer that is gone are packed. The room that this makes is used for refused slices, and nobody
/// is told that such a slice is here before it is.
#[test]
fn what_was_refused_is_wanted_when_there_is_room_and_lacks_until_it_is_here() {
    const CELLS: u64 = 4 * 4096;
    let cells = || (0..CELLS as u32).map(|cell| (cell, 100));
    let (free, mut unlimited) = replica(4096, 4, NO_LIMITS);
    unlimited.merge_live(&A, cells()).unwrap();
    let limits = ReplicaLimits {
        max_memory_bytes: free.memory_bytes() + 100,
        ..NO_LIMITS
    };
    let (replica, mut slices) = replica(4096, 4, limits);
    slices.merge_live(&A, cells()).unwrap();
    assert!(slices.merge(&B, cells()).is_err());
    assert!(slices.is_refused(&B) && slices.lacks(&B) && replica.is_incomplete());
    assert!(!slices.retry_refused(), "nothing has changed");
    assert_eq!(slices.wanted().count(), 0);

    slices.rest(&A);
    assert!(slices.retry_refused());
    assert!(!slices.retry_refused(), "once");
    assert!(slices.wanted().eq([B]));
    assert!(!slices.is_refused(&B) && slices.lacks(&B) && replica.is_incomplete());
    assert!(slices.missing().eq([B]));
    let half = || cells().take(CELLS as usize / 2);
    slices.merge(&B, half()).unwrap();
    assert!(
        slices.lacks(&B) && replica.is_incomplete(),
        "a half is here"
    );
    slices.merge(&B, cells()).unwrap();
    assert!(slices.complete(&B, 0, 3));
    assert!(!slices.lacks(&B) && !replica.is_incomplete());
    assert_eq!((slices.lacking(), slices.wanted().count()), (0, 0));
    assert_eq!(slices.missing().next(), None);
}

/// Whatever comes, the bound holds, and slices for which there is no room make wanted ones give way.
#[test]
fn the_wanted_give_way_to_the_refused() {
    let large = |value: u64| (0..4 * 4096).map(move |cell| (cell, value));
    let unlimited = ReplicaLimits {
        max_origins: 10_000,
        ..NO_LIMITS
    };
    let (free, mut slices) = replica(4096, 4, unlimited);
    slices.merge_live(&A, large(100)).unwrap();
    let limits = ReplicaLimits {
        max_memory_bytes: free.memory_bytes() + 100,
        ..unlimited
    };
    let (_, mut slices) = replica(4096, 4, limits);
    slices.merge_live(&A, large(100)).unwrap();
    for writer in 1..=REFUSED_MAX as u64 + 10 {
        let stranger = SliceId::of(77, Writer(writer));
        assert!(slices.merge(&stranger, one_cell(1)).is_err());
    }
    assert_eq!(slices.lacking(), REFUSED_MAX);
    let unknown = SliceId::of(99, Writer(1));
    assert!(slices.is_refused(&unknown) && slices.lacks(&unknown));

    slices.rest(&A);
    assert!(slices.retry_refused());
    assert_eq!(slices.wanted().count(), REFUSED_MAX);
    assert!(!slices.is_refused(&unknown));
    // Of these two slices, one at most has room.
    let merged = [B, C].map(|slice| slices.merge_live(&slice, large(u64::MAX >> 2)).is_err());
    assert!(merged.contains(&true));
    assert!(slices.is_refused(&C) && slices.lacks(&C));
    assert_eq!(slices.lacking(), REFUSED_MAX);
    assert!(slices.wanted().count() < REFUSED_MAX);
}
