//! The sketch as a whole, against a map that counts exactly.
#![allow(clippy::unwrap_used)]

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

const XXH3: HashFamily = HashFamily::Xxh3 { seed: 0x5EED };

fn sketch(width: u64, depth: u64, family: HashFamily) -> Sketch {
    Sketch::try_new(Geometry::new(width, depth).unwrap(), family).unwrap()
}

/// A seeded stream (splitmix64), so that a failure comes again.
pub(crate) fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
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
            sketch.add(&rank.to_le_bytes(), Weight::new(weight).unwrap());
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
            assert!(!estimate.saturated);
            assert!(estimate.count >= *count, "{rank}: {estimate:?} < {count}");
            over += u32::from((estimate.count - count) as f64 > allowed);
        }
        let share = f64::from(over) / truth.len() as f64;
        let delta = 1.0 - geometry.confidence();
        // Half as much again and a little: the share is a sample.
        assert!(share <= delta * 1.5 + 0.005, "{geometry:?}: {share}");
    }
}

#[test]
fn the_least_and_the_largest_weight_count_as_they_are() {
    let sketch = sketch(64, 4, XXH3);
    sketch.add(b"a", Weight::ZERO);
    assert_eq!(sketch.total_weight(), 0);
    assert!(sketch.cells().iter().all(|cell| cell.load(Relaxed) == 0));
    assert_eq!(sketch.estimate(b"a"), Estimate::default());
    sketch.add(b"a", Weight::MAX);
    assert_eq!(sketch.estimate(b"a").count, u64::from(MAX_WEIGHT));
}

#[test]
fn memory_that_nobody_has_is_an_error() {
    // The largest sketch may or may not fit here; of cells this large (2^59 bytes) it never does.
    let result = try_zeroed::<[[u64; 4096]; 4096]>(Geometry::new(1 << 32, 1).unwrap());
    let bytes = 1 << 34;
    // Through the box: an allocation that nobody looks at may be optimised away, and "succeed".
    assert_eq!(
        std::hint::black_box(result).err(),
        Some(SketchError::OutOfMemory { bytes })
    );
}

#[test]
fn an_answer_is_flagged_only_where_no_row_is_whole() {
    let sketch = sketch(1 << 16, 3, XXH3);
    let cells = sketch.cells_of(b"key");
    let cells = cells.as_slice();
    for &cell in cells {
        sketch.cells()[cell as usize].store(SATURATES_AT - 10, Relaxed);
    }
    sketch.cells()[cells[0] as usize].store(u32::MAX, Relaxed);
    let whole = Estimate {
        count: u64::from(SATURATES_AT - 10),
        saturated: false,
    };
    assert_eq!(sketch.estimate(b"key"), whole);
    assert_eq!(sketch.saturated_cells(), 0);

    let weight = Weight::new(9).unwrap();
    sketch.add(b"key", weight);
    assert!(!sketch.estimate(b"key").saturated);
    for _ in 0..3 {
        sketch.add(b"key", weight);
        let flagged = Estimate {
            count: u64::from(u32::MAX),
            saturated: true,
        };
        assert_eq!(sketch.estimate(b"key"), flagged);
        // The third cell was at its end before any add.
        assert_eq!(sketch.saturated_cells(), 2);
    }
}

#[test]
fn threads_saturate_each_cell_once_and_lose_no_weight() {
    const THREADS: u32 = 4;
    const ADDS: u32 = 4_000;
    let sketch = sketch(8, 4, XXH3);
    for cell in sketch.cells() {
        cell.store(SATURATES_AT - ADDS, Relaxed);
    }
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (sketch, weight) = (&sketch, Weight::new(8).unwrap());
            scope.spawn(move || {
                for i in 0..ADDS {
                    sketch.add(&(thread * ADDS + i).to_le_bytes(), weight);
                }
            });
        }
    });
    // Each of the 8 columns of a row gets some 16 000 of the weight, four times what it had left.
    assert!(sketch.cells().iter().all(|c| value(c) == u32::MAX));
    assert_eq!(sketch.saturated_cells(), 32);
    assert_eq!(sketch.total_weight(), u64::from(THREADS * ADDS * 8));
}

#[test]
fn rows_are_the_cells_in_order() {
    let sketch = sketch(5, 3, XXH3);
    for (index, cell) in sketch.cells().iter().enumerate() {
        cell.store(index as u32, Relaxed);
    }
    for row in 0..3 {
        let cells = sketch.row(row).iter().map(|cell| cell.load(Relaxed));
        assert!(cells.eq(row as u32 * 5..row as u32 * 5 + 5));
    }
    assert!(sketch.row(3).is_empty() && sketch.row(usize::MAX).is_empty());
}

proptest! {
    /// Rule 2 for one node, as the words say it.
    #[test]
    fn the_least_row_is_that_of_the_definition(
        rows in prop::collection::vec(prop::collection::vec(cell_values(), 3), 1..=MAX_DEPTH),
        slices in 1_usize..=3,
    ) {
        let slice = |at: usize| -> Vec<AtomicU32> {
            rows.iter().map(|row| AtomicU32::new(row[at])).collect()
        };
        let memory: Vec<_> = (0..slices).map(slice).collect();
        let cells: Vec<u32> = (0..rows.len() as u32).collect();
        let cells = CellIndexes::of(&cells);
        let answer = least_row(memory.iter().map(Vec::as_slice), &cells);

        let full = |&count: &u32| count >= SATURATES_AT;
        let count = |cell: &u32| u64::from(if full(cell) { u32::MAX } else { *cell });
        let sum = |row: &Vec<u32>| row[..slices].iter().map(count).sum::<u64>();
        let is_whole = |row: &&Vec<u32>| !row[..slices].iter().any(full);
        let of_whole = rows.iter().filter(is_whole).map(sum).min();
        let of_all = rows.iter().map(sum).min();
        prop_assert_eq!(answer, Estimate {
            count: of_whole.or(of_all).unwrap(),
            saturated: of_whole.is_none(),
        });
    }
}

fn cell_values() -> impl Strategy<Value = u32> {
    prop_oneof![
        0..10_u32,
        Just(u32::MAX),
        SATURATES_AT - 3..=SATURATES_AT + 3,
        any::<u32>()
    ]
}
