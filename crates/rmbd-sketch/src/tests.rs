//! Tests of the sketch as a whole, against a map that counts exactly.
#![allow(clippy::unwrap_used)]

use rmbd_testkit::random::random;
use std::collections::HashMap;

use proptest::prelude::*;

use super::atomic::Ordering::Relaxed;
use super::memory::try_zeroed;
use super::*;

const XXH3: HashFamily = HashFamily::Xxh3 { seed: 0x5EED };

fn sketch(width: u64, depth: u64, family: HashFamily) -> Sketch {
    Sketch::try_new(Geometry::new(width, depth).unwrap(), family).unwrap()
}

#[test]
fn answers_keep_the_promised_bounds() {
    let mut state = 0xC0FFEE;
    for (width, depth, family) in [
        (272, 1, XXH3),
        (272, 3, XXH3),
        (1009, 4, XXH3),
        (1024, 2, XXH3),
        (1009, 2, HashFamily::Fnv),
        (100, 3, HashFamily::Fnv),
    ] {
        let sketch = sketch(width, depth, family);
        let mut truth = HashMap::new();
        for _ in 0..200_000 {
            // The square of a uniform number: some keys are far more frequent than others.
            let rank = (random(&mut state) % 200).pow(2) + random(&mut state) % 37;
            let weight = (random(&mut state) % 4) as u32;
            sketch
                .add(&rank.to_le_bytes(), Weight::new(weight).unwrap())
                .unwrap();
            *truth.entry(rank).or_insert(0) += u64::from(weight);
        }
        assert_eq!(sketch.total_weight(), truth.values().sum::<u64>());
        // Keys that were never added count too: their truth is 0.
        for rank in 1_000_000..1_005_000 {
            truth.insert(rank, 0);
        }

        let geometry = sketch.geometry();
        let allowed = geometry.epsilon() * sketch.total_weight() as f64;
        let mut over = 0;
        for (rank, count) in &truth {
            let estimate = sketch.estimate(&rank.to_le_bytes());
            assert!(estimate >= *count, "{rank}: {estimate} < {count}");
            over += u32::from((estimate - count) as f64 > allowed);
        }
        let share = f64::from(over) / truth.len() as f64;
        let delta = 1.0 - geometry.confidence();
        // The limit is half as much again, and a little: the share is a sample.
        assert!(share <= delta * 1.5 + 0.005, "{geometry:?}: {share}");
    }
}

#[test]
fn the_least_and_the_largest_weight_count_as_they_are() {
    let sketch = sketch(64, 4, XXH3);
    sketch.add(b"a", Weight::ZERO).unwrap();
    assert_eq!(sketch.total_weight(), 0);
    assert!(sketch.own_cells().all(|cell| cell.load(Relaxed) == 0));
    assert_eq!(sketch.estimate(b"a"), 0);
    sketch.add(b"a", Weight::MAX).unwrap();
    assert_eq!(sketch.estimate(b"a"), u64::from(MAX_WEIGHT));
}

#[test]
fn memory_that_nobody_has_is_an_error() {
    // The largest sketch may or may not fit here. With cells this large (2^59 bytes in all) it never does.
    let result = try_zeroed::<[[u64; 4096]; 4096]>(Geometry::new(1 << 32, 1).unwrap());
    let bytes = 1 << 59;
    // The result is used through the box: an allocation that nobody looks at may be optimised away, and "succeed".
    assert_eq!(
        std::hint::black_box(result).err(),
        Some(SketchError::OutOfMemory { bytes })
    );
}

#[test]
fn rows_are_the_cells_in_order() {
    let geometry = Geometry::new(5, 3).unwrap();
    let alone = Sketch::try_new(geometry, XXH3).unwrap();
    let shared = Sketch::try_shared(geometry, XXH3).unwrap();
    for sketch in [alone, shared] {
        for (index, cell) in sketch.own_cells().enumerate() {
            cell.store(index as u32, Relaxed);
            sketch.add_of_others(geometry.cell(index as u32).unwrap(), 1000);
        }
        for row in 0..3 {
            assert!(sketch.own_row(row).eq(row as u64 * 5..row as u64 * 5 + 5));
        }
        assert_eq!(
            sketch.own_row(3).chain(sketch.own_row(usize::MAX)).count(),
            0
        );
        assert_eq!(sketch.own_cells().len(), 15);
    }
}

#[test]
fn what_others_counted_is_answered_and_not_ours() {
    let geometry = Geometry::new(64, 4).unwrap();
    let shared = Sketch::try_shared(geometry, XXH3).unwrap();
    let alone = sketch(64, 4, XXH3);
    assert_eq!(shared.table_bytes(), 2 * alone.table_bytes());
    let at = shared.cells_of(b"key");
    for sketch in [&shared, &alone] {
        sketch.add(b"key", 3.into()).unwrap();
        for (cell, growth) in at.iter().zip([9, 7, 8, 9]) {
            sketch.add_of_others(cell, growth);
        }
        assert_eq!(sketch.own_estimate_at(&at), 3);
        assert_eq!(geometry.cell(u32::MAX), None);
        assert_eq!(sketch.total_weight(), 3);
    }
    assert_eq!(shared.estimate(b"key"), 3 + 7);
    assert_eq!(alone.estimate(b"key"), 3);
}

/// The size of each growth, and whether a sum is near what a narrow cell holds, make no difference.
#[test]
fn what_others_counted_has_no_end() {
    for growth in [
        1,
        1_000_003,
        (1 << 31) - 1,
        1 << 31,
        1 << 32,
        1 << 40,
        u64::MAX / 3,
    ] {
        let shared = Sketch::try_shared(Geometry::new(8, 2).unwrap(), XXH3).unwrap();
        shared.add(b"key", 3.into()).unwrap();
        let at = shared.cells_of(b"key");
        let mut sum = 0_u64;
        for step in 0..6 {
            // One row is ahead for a while, and all other cells have something, too.
            for cell in shared.geometry().cells_between(0, usize::MAX) {
                let before = shared.estimate(b"key");
                shared.add_of_others(cell, growth);
                assert!(shared.estimate(b"key") >= before, "{growth} {step}");
            }
            sum = sum.saturating_add(growth);
            assert_eq!(shared.estimate(b"key"), sum.saturating_add(3));
            assert_eq!(shared.own_estimate_at(&at), 3);
        }
    }
}

proptest! {
    /// The answer is the sum of two least rows, as the documentation says. It is never below the truth of any way to
    /// share the weights, and never above the least row of the sums.
    #[test]
    fn pairs_answer_the_sum_of_their_least_rows(
        pairs in prop::collection::vec((0..1_000_u32, 0..1_000_u32), 1..=MAX_DEPTH),
    ) {
        let geometry = Geometry::new(1, pairs.len() as u64).unwrap();
        let shared = Sketch::try_shared(geometry, XXH3).unwrap();
        for (row, (cell, &(own, others))) in shared.own_cells().zip(&pairs).enumerate() {
            cell.store(own, Relaxed);
            shared.add_of_others(geometry.cell(row as u32).unwrap(), others.into());
        }
        let own = pairs.iter().map(|pair| pair.0).min().unwrap();
        let others = pairs.iter().map(|pair| pair.1).min().unwrap();
        let count = shared.estimate(b"any");
        prop_assert_eq!(count, u64::from(own + others));
        prop_assert!(count <= pairs.iter().map(|pair| u64::from(pair.0 + pair.1)).min().unwrap());
    }
}
