//! Tests of merging, and of the answers over what was merged.

use proptest::prelude::*;

use super::*;
use crate::{Batch, OriginEstimate, OriginName, Way};
use rmbd_proto::cluster::CELL_MAX;
use rmbd_sketch::Weight;

/// Slices of two writers of one node, of one writer of another, and of two earlier writers of our own.
const OTHERS: [SliceId; 5] = [
    SliceId::of(2, Writer(1)),
    SliceId::of(3, Writer(1)),
    SliceId::of(2, Writer(7)),
    SliceId::of(1, Writer(3)),
    SliceId::of(1, Writer(10)),
];

/// The content of one datagram: the number of the slice, and its cells.
type Delta = (usize, Vec<(u32, u64)>);

fn values() -> impl Strategy<Value = u64> {
    prop_oneof![
        8 => 0..50_u64,
        1 => any::<u64>(),
        1 => (1_u64 << 31) - 1..=(1 << 31) + 1,
        1 => (1_u64 << 32) - 1..=(1 << 32) + 1,
        1 => Just(u64::MAX),
    ]
}

fn deltas(cells: u32) -> impl Strategy<Value = Vec<Delta>> {
    let delta = prop::collection::vec((0..cells, values()), 0..40);
    prop::collection::vec((0..OTHERS.len(), delta), 0..30)
}

const WIDTH: u32 = 150;
const DEPTH: u32 = 4;
const CELLS: u32 = WIDTH * DEPTH;

fn merged(deltas: &[Delta]) -> (Arc<Replica>, Slices) {
    let (replica, mut slices) = replica(WIDTH.into(), DEPTH.into(), NO_LIMITS);
    for (number, (slice, cells)) in deltas.iter().enumerate() {
        let (slice, cells) = (&OTHERS[*slice], cells.iter().copied());
        // Whether cells are kept flat or packed is not visible from outside.
        if number % 2 == 0 {
            slices.merge_live(slice, cells).unwrap();
        } else {
            slices.merge(slice, cells).unwrap();
        }
    }
    OTHERS.iter().for_each(|slice| slices.rest(slice));
    (replica, slices)
}

/// The largest value of each cell, none above what a cell may have.
fn naive_cells(deltas: &[Delta], slice: usize) -> Vec<u64> {
    let mut cells = vec![0; CELLS as usize];
    for (_, delta) in deltas.iter().filter(|delta| delta.0 == slice) {
        for &(index, value) in delta {
            cells[index as usize] = value.min(CELL_MAX).max(cells[index as usize]);
        }
    }
    cells
}

/// The expected sums beside our own cells: the sum of all slices.
fn sum_of(slices: &[Vec<u64>]) -> Vec<u64> {
    let sum = |at: usize| {
        slices
            .iter()
            .map(|cells| cells[at])
            .fold(0, u64::saturating_add)
    };
    (0..CELLS as usize).map(sum).collect()
}

fn weight_of(cells: &[u64]) -> u64 {
    let rows = cells.chunks(WIDTH as usize);
    let weights = rows.map(|row| row.iter().copied().fold(0, u64::saturating_add));
    weights.max().unwrap()
}

proptest! {
    /// The same deltas in any order, some of them several times, lead to the same cells.
    #[test]
    fn merging_is_commutative_associative_and_idempotent(
        (deltas, shuffled) in deltas(CELLS).prop_flat_map(|deltas| {
            let doubled = [deltas.clone(), deltas.clone()].concat();
            (Just(deltas), Just(doubled).prop_shuffle())
        }),
    ) {
        let (one, of_one) = merged(&deltas);
        let (other, of_other) = merged(&shuffled);
        for (number, slice) in OTHERS.iter().enumerate() {
            let naive = naive_cells(&deltas, number);
            let is_empty = naive.iter().all(|&value| value == 0);
            prop_assert_eq!(of_one.has(slice), !is_empty);
            prop_assert_eq!(of_other.has(slice), !is_empty);
            if is_empty {
                continue;
            }
            prop_assert_eq!(&all_cells(&of_one, slice), &naive);
            prop_assert_eq!(&all_cells(&of_other, slice), &naive);
            prop_assert_eq!(hashes(&of_one, slice), naive_hashes(&naive));
            prop_assert_eq!(hashes(&of_other, slice), naive_hashes(&naive));
            let learnt = of_one.learnt().find(|learnt| learnt.slice == *slice).unwrap();
            prop_assert_eq!(learnt.weight, weight_of(&naive));
            let other = of_other.learnt().find(|learnt| learnt.slice == *slice).unwrap();
            prop_assert_eq!(learnt.memory_bytes, other.memory_bytes);
        }
        let held = of_one.learnt().map(|learnt| learnt.memory_bytes).sum::<u64>();
        // Own cells, those of others beside them and wide, the published copy, and the half turns.
        prop_assert_eq!(one.memory_bytes(), held + 6 * 4 * u64::from(CELLS));
        prop_assert_eq!(other.memory_bytes(), one.memory_bytes());
        let naive = (0..OTHERS.len()).map(|number| weight_of(&naive_cells(&deltas, number)));
        prop_assert_eq!(one.total_weight(), naive.fold(0, u64::saturating_add));
        prop_assert_eq!(other.total_weight(), one.total_weight());
        // The same deltas once more: no cell rises, and the result says so.
        let mut of_one = of_one;
        for (slice, cells) in &deltas {
            let moved = of_one.changed_at(&OTHERS[*slice]);
            let raised = of_one.merge(&OTHERS[*slice], cells.iter().copied());
            prop_assert_eq!(raised, Ok(0));
            prop_assert_eq!(of_one.changed_at(&OTHERS[*slice]), moved);
        }
    }

    /// Answers of single counts, of both ways of a batch, and by origin.
    #[test]
    fn answers_follow_the_rule(
        deltas in deltas(CELLS),
        adds in prop::collection::vec((0..30_u8, 1..100_u16), 0..60),
    ) {
        let (replica, mut slices) = merged(&deltas);
        for &(key, weight) in &adds {
            replica.add(&[key], weight.into()).unwrap();
        }
        publish_all(&mut slices);
        let mut nodes = BTreeMap::from([(OWN.node, vec![all_cells(&slices, &OWN)])]);
        for (number, slice) in OTHERS.iter().enumerate() {
            let of_node = nodes.entry(slice.node).or_default();
            of_node.push(naive_cells(&deltas, number));
        }
        // The rule: our own count, plus the sum of what all others counted, earlier starts of ours among them.
        let own = nodes[&OWN.node][..1].to_vec();
        let others: Vec<_> = (0..OTHERS.len()).map(|number| naive_cells(&deltas, number)).collect();
        let by_rule = BTreeMap::from([(0, own), (1, vec![sum_of(&others)])]);
        for key in 0..30 {
            let estimate = replica.estimate(&[key]);
            prop_assert_eq!(estimate.count, naive_estimate(&replica, &by_rule, &[key]));
            for way in [Way::Direct, Way::Pipelined] {
                let mut batch = Batch::with_way(Arc::clone(&replica), way);
                let mut answers = Vec::new();
                let mut answer = |(), answer| answers.push(answer);
                batch.count(&[key], (), &mut answer);
                batch.hit(&[key], (Weight::ZERO, 1), (), &mut answer).unwrap();
                batch.finish(&mut answer);
                prop_assert_eq!(answers, [estimate; 2]);
            }
            let origins = slices.estimate_by_origin(&[key]);
            let sum = origins.iter().map(|origin| origin.count).fold(0, u64::saturating_add);
            prop_assert!(sum <= estimate.count);
            for origin in &origins {
                let OriginName::Node(node) = origin.origin else {
                    panic!("{origin:?}");
                };
                // Counts of our own node before it started again are a part of its own.
                let mut only = BTreeMap::from([(0, nodes[&node].clone())]);
                if node == OWN.node {
                    let earlier = only.get_mut(&0).unwrap().split_off(1);
                    only.insert(1, earlier);
                }
                let naive = naive_estimate(&replica, &only, &[key]);
                prop_assert_eq!(origin.count, naive);
            }
        }
        let mut row = Vec::new();
        for number in 0..DEPTH as usize {
            slices.read_own_row(number, &mut row);
            for (column, &sum) in row.iter().enumerate() {
                let at = number * WIDTH as usize + column;
                let naive = nodes[&OWN.node].iter().fold(0, |sum: u64, cells| sum.saturating_add(cells[at]));
                prop_assert_eq!(sum, naive);
            }
        }
    }
}

#[test]
fn origins_are_ourselves_then_nodes_then_legacy_peers() {
    let (replica, mut slices) = replica(1, 1, NO_LIMITS);
    replica.add(b"key", 100.into()).unwrap();
    for (slice, weight) in OTHERS.iter().zip([1, 2, 4, 8, 16]) {
        let cells = [(0, weight)].into_iter();
        assert_eq!(slices.merge(slice, cells), Ok(1));
    }
    let address = ([127, 0, 0, 1], 8000).into();
    let mut legacy = crate::LegacyRows::new(Arc::clone(&replica), 1);
    legacy.merge(address, 0, [32].into_iter()).unwrap();
    let origin = |origin, slices, count| OriginEstimate {
        origin,
        slices,
        count,
        is_own: origin == OriginName::Node(1),
    };
    let expected = [
        origin(OriginName::Node(1), 3, 124),
        origin(OriginName::Node(2), 2, 5),
        origin(OriginName::Node(3), 1, 2),
        origin(OriginName::Legacy(address), 1, 32),
    ];
    assert_eq!(slices.estimate_by_origin(b"key"), expected);
    assert_eq!(replica.estimate(b"key").count, 163);
    assert_eq!(replica.total_weight(), 163);
}

#[test]
fn readers_see_slices_come_while_they_read() {
    const SLICES: u64 = 200;
    let limits = ReplicaLimits {
        max_origins: SLICES as usize,
        ..NO_LIMITS
    };
    let (replica, mut slices) = replica(1, 1, limits);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut least = 0;
            while least < 2 * SLICES {
                let now = replica.estimate(b"key").count;
                assert!(now >= least && now <= 2 * SLICES, "{now} after {least}");
                least = now;
            }
        });
        for value in [1, 2] {
            for writer in 0..SLICES {
                let slice = SliceId::of(writer % 7, Writer(100 + writer));
                let raised = slices.merge(&slice, [(0, value)].into_iter());
                assert_eq!(raised, Ok(1));
            }
        }
        reader.join().unwrap();
    });
    // One of the seven is our own node.
    assert_eq!(slices.estimate_by_origin(b"key").len(), 7);
}
