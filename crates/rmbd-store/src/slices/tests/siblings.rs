//! Tests of a node's slices but one, against plain loops over the lines of all slices.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use rmbd_proto::cluster::{SIBLING_BUCKETS, SiblingsEntry, sibling_bucket, sibling_hash};
use rmbd_sketch::Weight;

fn naive(slices: &Slices, left_out: &SliceId) -> (SiblingsEntry, [u64; SIBLING_BUCKETS]) {
    let (mut count, mut sums) = (0, [0_u64; SIBLING_BUCKETS]);
    for line in slices.digests() {
        let is_sibling = (line.slice.sketch, line.slice.node) == (left_out.sketch, left_out.node)
            && line.slice.writer != left_out.writer;
        if is_sibling && line.root != 0 {
            let sum = &mut sums[sibling_bucket(line.slice.writer)];
            let hash = sibling_hash(line.slice.writer, line.version, line.root);
            *sum = sum.wrapping_add(hash);
            count += 1;
        }
    }
    let entry = SiblingsEntry {
        slice: *left_out,
        count,
        sum: sums.iter().fold(0, |sum, bucket| sum.wrapping_add(*bucket)),
    };
    (entry, sums)
}

fn check(slices: &Slices, left_out: &SliceId) {
    let (entry, sums) = naive(slices, left_out);
    assert_eq!(slices.siblings(left_out), entry);
    assert_eq!(slices.sibling_buckets(left_out), sums);
    let lines: Vec<SliceDigest> = slices
        .sibling_lines(left_out, u64::MAX, Writer(0))
        .collect();
    assert_eq!(lines.len() as u64, entry.count);
}

#[derive(Debug, Clone)]
enum Step {
    Merge(SliceId, u32, u64),
    Complete(SliceId, u64),
    AddAndPublish,
}

/// Any slice; our node and our writer are among the choices.
fn slice() -> impl Strategy<Value = SliceId> {
    (0..3_u64, 0..20_u64).prop_map(|(node, writer)| SliceId::of(node, Writer(writer)))
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (slice(), 0..128_u32, 0..9_u64).prop_map(|(of, cell, value)| Step::Merge(of, cell, value)),
        2 => (slice(), 0..9_u64).prop_map(|(of, version)| Step::Complete(of, version)),
        1 => Just(Step::AddAndPublish),
    ]
}

proptest! {
    #[test]
    fn sums_follow_whatever_happens(steps in prop::collection::vec(step(), 0..80)) {
        // Some slices find no place.
        let limits = ReplicaLimits { max_origins: 30, ..NO_LIMITS };
        let (replica, mut slices) = replica(64, 2, limits);
        for step in steps {
            match step {
                Step::Merge(slice, cell, value) => {
                    let _ = slices.merge(&slice, [(cell, value)].into_iter());
                }
                Step::Complete(slice, version) => {
                    let _ = slices.complete(&slice, 0, version);
                }
                Step::AddAndPublish => {
                    replica.add(b"key", Weight::ONE).unwrap();
                    publish_all(&mut slices);
                }
            }
            for node in 0..3 {
                for writer in [0, 3, OWN.writer.0] {
                    check(&slices, &SliceId::of(node, Writer(writer)));
                }
            }
        }
        let with_cells = slices.learnt().filter(|learnt| slices.root(&learnt.slice) != 0);
        let nodes = with_cells.map(|learnt| learnt.slice.node);
        let nodes: BTreeSet<u64> = nodes.chain([OWN.node]).collect();
        for first in 0..4 {
            let told = slices.nodes(OWN.sketch, first);
            prop_assert!(told.eq(nodes.range(first..).copied()));
        }
        prop_assert_eq!(slices.nodes(SketchNumber(1), 0).count(), 0);
    }
}

#[test]
fn lines_go_round_from_the_first_writer_and_are_of_the_buckets_asked_for() {
    let limits = ReplicaLimits {
        max_origins: 1_000,
        ..NO_LIMITS
    };
    let (_, mut slices) = replica(4, 1, limits);
    for writer in 0..200 {
        let slice = SliceId::of(7, Writer(writer));
        slices.merge(&slice, [(0, 1)].into_iter()).unwrap();
    }
    slices
        .merge(&SliceId::of(8, Writer(1)), [(0, 1)].into_iter())
        .unwrap();
    let left_out = SliceId::of(7, Writer(60));
    for first in [0, 1, 60, 61, 199, 200, u64::MAX] {
        let lines = slices.sibling_lines(&left_out, u64::MAX, Writer(first));
        let writers: Vec<u64> = lines.map(|line| line.slice.writer.0).collect();
        let round = (first..200).chain(0..first.min(200));
        let expected: Vec<u64> = round.filter(|&writer| writer != 60).collect();
        assert_eq!(writers, expected, "from {first}");
    }
    for buckets in [0, 1, 1 << 63, 0x00ff_0000_0000_00f0] {
        let lines = slices.sibling_lines(&left_out, buckets, Writer(0));
        let expected = (0..200)
            .map(Writer)
            .filter(|&writer| writer != Writer(60) && buckets >> sibling_bucket(writer) & 1 == 1);
        assert!(lines.map(|line| line.slice.writer).eq(expected));
    }
}
