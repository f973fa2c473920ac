//! Lists of all time.

use super::*;
use crate::{LegacyRows, NoMemory};

const FAMILIES: [HashFamily; 2] = [XXH3, HashFamily::Fnv];
const WAYS: [Way; 2] = [Way::Direct, Way::Pipelined];
const STREAMS: [Stream; 5] = [
    Stream::Zipf(1.1),
    Stream::Zipf(0.8),
    Stream::Uniform,
    Stream::InTurn,
    Stream::Once,
];

/// Adds a stream by several batches in turn, and checks the list four times, whenever all of them are finished.
fn run(shape: Shape, way: Way, stream: Stream, keys: u64, adds: usize) -> (Node, Truth) {
    let mut node = Node::new(shape);
    let mut batches = node.batches(shape.threads, way);
    let (mut truth, mut random) = (Truth::default(), Random(adds as u64));
    for (number, key) in numbers(stream, keys, 7).take(adds).enumerate() {
        let (key, weight) = (key.to_le_bytes(), random.below(4) as u32);
        let batch = random.below(batches.len() as u64) as usize;
        add(&mut batches[batch], &key, weight, random.next());
        truth.add(&key, weight.into());
        if number % 500 == 499 {
            batches
                .iter_mut()
                .for_each(|batch| batch.finish(&mut no_answer));
            node.top.update();
        }
        if number % (adds / 4) == adds / 4 - 1 {
            batches
                .iter_mut()
                .for_each(|batch| batch.finish(&mut no_answer));
            truth.check(&node, &node.top.list(usize::MAX));
        }
    }
    (node, truth)
}

/// In small sketches most keys share cells, in large ones few do; threads have lanes, or share cells.
#[test]
fn every_key_above_the_threshold_is_listed_and_the_bounds_hold() {
    for width in [1, 64, 1 << 12] {
        for stream in STREAMS {
            for family in FAMILIES {
                for (threads, way) in [1, 3].into_iter().flat_map(|it| WAYS.map(|way| (it, way))) {
                    for top in [1, 30] {
                        let shape = Shape {
                            width,
                            family,
                            threads,
                            top,
                            ..SHAPE
                        };
                        run(shape, way, stream, 300, 4_000);
                    }
                }
            }
        }
    }
}

#[test]
fn the_largest_keys_are_found() {
    for (exponent, least) in [(0.8, 0.99), (1.0, 0.99), (1.1, 1.0)] {
        for threads in [1, 2] {
            let shape = Shape {
                width: 1 << 16,
                threads,
                top: 100,
                ..SHAPE
            };
            let stream = Stream::Zipf(exponent);
            let (node, truth) = run(shape, Way::Pipelined, stream, 30_000, 400_000);
            let list = node.top.list(100);
            let recall = truth.recall(&node, &list, 100);
            assert!(recall >= least, "{exponent}, {threads}: {recall}");
            // This is more than what one of 128 keys has.
            assert!(list.complete_above <= 600_000 / 128);
        }
    }
}

/// A list of few keys is as good as one of many.
#[test]
fn a_list_of_one_and_one_of_a_thousand() {
    for (top, places) in [(1, 16), (1_000, 2_048)] {
        let shape = Shape {
            width: 1 << 16,
            top,
            ..SHAPE
        };
        let (node, truth) = run(shape, Way::Pipelined, Stream::Zipf(1.0), 10_000, 100_000);
        let lists = node.replica.lists.as_ref().unwrap();
        assert_eq!((lists.top(), lists.candidates), (top, places));
        assert!(truth.recall(&node, &node.top.list(top), top) > 0.98);
    }
}

#[test]
fn without_lists_nothing_is_known_and_nothing_is_kept() {
    let deep = Shape {
        depth: 5,
        family: HashFamily::Fnv,
        ..SHAPE
    };
    let without = Shape { top: 0, ..SHAPE };
    for shape in [without, deep] {
        let mut node = Node::new(shape);
        let mut batch = node.batches(1, Way::Direct).remove(0);
        add(&mut batch, b"key", 3, 3);
        batch.finish(&mut no_answer);
        node.top.update();
        let list = node.top.list(10);
        assert_eq!((list.keys.len(), list.complete_above), (0, u64::MAX));
        assert_eq!(node.replica.top(), 0);
    }
    let mut plan = TopPlan {
        top: 0,
        geometry: Geometry::DEFAULT,
        family: XXH3,
        threads: 2,
        windows: &[],
    };
    assert_eq!(plan.memory_bytes(), 0);
    plan.top = 1;
    assert!(plan.memory_bytes() > 0);
}

#[test]
fn more_than_a_thousand_keys_are_refused() {
    let options = |top| ReplicaOptions {
        top,
        ..ReplicaOptions::new(Geometry::new(16, 2).unwrap(), XXH3)
    };
    let refused = Replica::try_open(options(1_001)).map(drop);
    let top = NoMemory::TopTooLarge {
        top: 1_001,
        max: 1_000,
    };
    assert_eq!(refused, Err(top));
    assert_eq!(Replica::try_open(options(1_000)).unwrap().top(), 1_000);
}

/// All memory of lists is in the account from the start, and nothing more comes to it.
#[test]
fn all_memory_is_accounted_at_the_start() {
    let geometry = Geometry::new(1 << 12, 4).unwrap();
    let window = WindowPlan::new(1_000, None, None, geometry, XXH3).unwrap();
    for threads in [1, 2] {
        let windows = [window];
        let open = |top| {
            let options = ReplicaOptions {
                top,
                threads,
                windows: windows.to_vec(),
                ..ReplicaOptions::new(geometry, XXH3)
            };
            Replica::try_open(options).unwrap()
        };
        let (without, with) = (open(0), open(10));
        let plan = TopPlan {
            top: 10,
            geometry,
            family: XXH3,
            threads,
            windows: &windows,
        };
        let more = with.memory_bytes() - without.memory_bytes();
        assert_eq!(more, plan.memory_bytes());
        let replica = Arc::new(with);
        let mut batch = Batch::<()>::new(Arc::clone(&replica));
        for key in 0..10_000_u32 {
            add(&mut batch, &key.to_le_bytes(), 1, key.into());
        }
        batch.finish(&mut no_answer);
        TopKeys::new(Arc::clone(&replica)).update();
        assert_eq!(replica.memory_bytes() - without.memory_bytes(), more);
    }
}

/// What others counted is in the estimate, and does not make a key a candidate.
#[test]
fn what_others_counted_is_in_the_estimate_alone() {
    let mut node = Node::new(SHAPE);
    let mut batch = node.batches(1, Way::Direct).remove(0);
    let cells = node.replica.own.cells_of(b"elsewhere");
    for cell in cells.iter() {
        node.slices.copier.raise(&node.replica, cell, 1_000);
    }
    add(&mut batch, b"here", 5, 3);
    batch.finish(&mut no_answer);
    let list = node.top.list(10);
    assert_eq!((list.keys.len(), list.complete_above), (1, 0));
    add(&mut batch, b"elsewhere", 1, 3);
    batch.finish(&mut no_answer);
    let mut rows = LegacyRows::new(Arc::clone(&node.replica), 1);
    for row in 0..SHAPE.depth as usize {
        let all = std::iter::repeat_n(7, SHAPE.width as usize);
        let peer = ([127, 0, 0, 1], 9).into();
        rows.merge(peer, row, all).unwrap();
    }
    let list = node.top.list(10);
    let counts = list
        .keys
        .iter()
        .map(|key| (key.estimate.count, key.certain));
    assert_eq!(counts.collect::<Vec<_>>(), [(1_008, 1), (12, 5)]);
}

/// Totals beyond 32 bits are compared as a whole.
#[test]
fn counts_above_32_bits_are_listed() {
    for threads in [1, 2] {
        let shape = Shape {
            width: 256,
            depth: 2,
            top: 4,
            threads,
            ..SHAPE
        };
        let mut node = Node::new(shape);
        let mut batches = node.batches(threads, Way::Pipelined);
        let (mut truth, mut random) = (Truth::default(), Random(3));
        for number in 0..60_000_u64 {
            // Four keys have nearly all weight, five times 2^32 together; it comes to all other keys in between.
            let key = match number % 3 {
                0 => 1_000 + random.below(100),
                _ => random.below(4),
            };
            let weight = if key < 4 { 1 << 19 } else { 1 + key as u32 };
            let at = number as usize % threads;
            let weighed = Weight::new(weight).unwrap();
            let key = key.to_le_bytes();
            while batches[at].add(&key, weighed, &mut no_answer).is_err() {
                batches
                    .iter_mut()
                    .for_each(|batch| batch.finish(&mut no_answer));
                node.slices.publish(usize::MAX);
            }
            truth.add(&key, weight.into());
            if number % 5_000 == 0 {
                batches
                    .iter_mut()
                    .for_each(|batch| batch.finish(&mut no_answer));
                node.slices.publish(usize::MAX);
                truth.check(&node, &node.top.list(usize::MAX));
            }
        }
        let list = node.top.list(4);
        assert!(list.keys.iter().all(|key| key.certain > 1 << 32));
        assert_eq!(truth.recall(&node, &list, 4), 1.0);
    }
}

/// Who adds without a table is part of the threshold.
#[test]
fn what_is_added_without_a_table_counts_as_unlisted() {
    let mut node = Node::new(SHAPE);
    let seats = node.replica.lists.as_ref().unwrap().tables.len();
    let mut batches = node.batches(seats + 1, Way::Direct);
    let mut truth = Truth::default();
    let mut late = batches.pop().unwrap();
    for _ in 0..10 {
        add(&mut late, b"unlisted", 3, 3);
        truth.add(b"unlisted", 3);
    }
    late.finish(&mut no_answer);
    node.replica.add(b"single", Weight::from(4)).unwrap();
    truth.add(b"single", 4);
    let list = node.top.list(10);
    assert_eq!((list.keys.len(), list.complete_above), (0, 34));
    truth.check(&node, &list);
    // A seat that is given back is taken again, with what is in it.
    let mut first = batches.remove(0);
    add(&mut first, b"key", 5, 3);
    truth.add(b"key", 5);
    drop(first);
    let mut again = node.batches(1, Way::Direct).remove(0);
    add(&mut again, b"key", 6, 3);
    truth.add(b"key", 6);
    again.finish(&mut no_answer);
    node.top.update();
    let list = node.top.list(10);
    assert_eq!((list.keys.len(), list.keys[0].certain), (1, 11));
    truth.check(&node, &list);
}

/// Keys that alternate at the threshold do not drive each other out with every add.
#[test]
fn few_candidates_change_at_the_threshold() {
    for keys in [17, 40, 1_000] {
        let shape = Shape {
            width: 1 << 14,
            top: 8,
            ..SHAPE
        };
        let adds = 100_000;
        let (node, truth) = run(shape, Way::Direct, Stream::InTurn, keys, adds);
        let entered = node.replica.lists.as_ref().unwrap().entered();
        // A quarter of the places becomes free whenever the threshold rises, which it does with each round at most.
        let rounds = adds as u64 / keys;
        let (most, least) = (2 * rounds * 16, 12);
        assert!(entered <= most, "{keys}: {entered} of {most}");
        let list = node.top.list(usize::MAX);
        assert!(list.keys.len() >= least, "ties fill the list: {list:?}");
        truth.check(&node, &list);
    }
}

/// Where nothing is hot, hardly anything becomes a candidate.
#[test]
fn uniform_keys_make_few_candidates() {
    let shape = Shape {
        width: 1 << 10,
        top: 100,
        ..SHAPE
    };
    let adds = 400_000;
    let (node, _) = run(shape, Way::Pipelined, Stream::Uniform, 1 << 40, adds);
    let entered = node.replica.lists.as_ref().unwrap().entered();
    assert!(entered < 2_000, "{entered}");
}
