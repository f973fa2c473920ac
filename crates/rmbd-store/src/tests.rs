//! Tests of the replica against naive ones, and of legacy peers that restart.
#![allow(clippy::unwrap_used)]

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use proptest::prelude::*;

use super::*;
use rmbd_sketch::{Geometry, HashFamily, MAX_DEPTH, Weight};
use rmbd_testkit::random::random;

const FAMILIES: [HashFamily; 2] = [HashFamily::Xxh3 { seed: 0x5EED }, HashFamily::Fnv];

fn replica(width: u64, depth: u64, family: HashFamily, max_peers: usize) -> Arc<Replica> {
    Arc::new(Replica::try_new(Geometry::new(width, depth).unwrap(), family, max_peers).unwrap())
}

fn peer(number: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 8000 + number).into()
}

/// The cells of a peer as readers see them.
fn slice(replica: &Replica, address: SocketAddr) -> Vec<u64> {
    let origin = replica.origins.iter().find(|o| o.address == address);
    let cells = &origin.unwrap().cells;
    cells.iter().map(|cell| cell.load(Relaxed)).collect()
}

#[derive(Debug, Clone)]
enum Step {
    Add(u8, Weight),
    Count(u8),
    Hit(u8, Weight),
    Finish,
}

/// Both ways, into cells that all threads share and into those of one thread alone.
fn ways() -> [(Way, usize); 4] {
    [Way::Direct, Way::Pipelined]
        .map(|way| [(way, 1), (way, 2)])
        .concat()
        .try_into()
        .unwrap()
}

fn replica_of_threads(width: u64, depth: u64, family: HashFamily, threads: usize) -> Arc<Replica> {
    let limits = ReplicaLimits {
        max_peers: 0,
        max_origins: 0,
        max_memory_bytes: u64::MAX,
    };
    let (geometry, own) = (Geometry::new(width, depth).unwrap(), SliceId::default());
    let options = ReplicaOptions {
        threads,
        ..ReplicaOptions::of(geometry, family, own, limits)
    };
    let replica = Replica::try_open(options).unwrap();
    assert_eq!(replica.own.has_lanes(), threads > 1);
    Arc::new(replica)
}

/// The sum of what all threads added to each cell.
fn values(replica: &Replica) -> impl Iterator<Item = u32> + '_ {
    let cells = replica.own.geometry().cells_between(0, usize::MAX);
    cells.map(|cell| replica.own.own_value(cell))
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let weights = prop_oneof![(0..4_u16).prop_map(Weight::from), Just(Weight::MAX)];
    let step = prop_oneof![
        8 => (0..20_u8, weights.clone()).prop_map(|(key, weight)| Step::Add(key, weight)),
        8 => (0..20_u8).prop_map(Step::Count),
        4 => (0..20_u8, weights).prop_map(|(key, weight)| Step::Hit(key, weight)),
        1 => Just(Step::Finish),
    ];
    prop::collection::vec(step, 0..150)
}

proptest! {
    /// In both ways and for all geometries a batch leads to the same cells and total as single adds. Its answers are
    /// never below the key's own truth, never above those of single adds, and in the order of the counts.
    #[test]
    fn a_batch_does_what_one_by_one_does(
        steps in steps(),
        width in 1..70_u64,
        depth in 1..=MAX_DEPTH as u64,
        start in prop_oneof![Just(0), Just((1_u32 << 31) - 2)],
    ) {
        for family in FAMILIES {
            for (way, threads) in ways() {
                let naive = replica(width, depth, family, 0);
                let batched = replica_of_threads(width, depth, family, threads);
                for cell in naive.own.own_cells().chain(batched.own.own_cells()) {
                    cell.store(start, Relaxed);
                }
                let mut truth = [u64::from(start); 256];
                let (mut expected, mut answers) = (Vec::new(), Vec::new());
                let mut answer = |token, estimate| answers.push((token, estimate));
                let mut batch = Batch::with_way(Arc::clone(&batched), way);
                for (token, step) in steps.iter().enumerate() {
                    match *step {
                        Step::Add(key, weight) => {
                            naive.add(&[key], weight).unwrap();
                            batch.add(&[key], weight, &mut answer).unwrap();
                            truth[usize::from(key)] += u64::from(weight);
                        }
                        Step::Count(key) => {
                            expected.push((token, naive.estimate(&[key]), truth[usize::from(key)]));
                            batch.count(&[key], token, &mut answer);
                        }
                        Step::Hit(key, weight) => {
                            naive.add(&[key], weight).unwrap();
                            let truth = &mut truth[usize::from(key)];
                            *truth += u64::from(weight);
                            expected.push((token, naive.estimate(&[key]), *truth));
                            batch.hit(&[key], (weight, 9), token, &mut answer).unwrap();
                        }
                        Step::Finish => batch.finish(&mut answer),
                    }
                }
                let waiting = batch.weight(&mut answer);
                prop_assert_eq!(naive.own.total_weight(), batched.own.total_weight() + waiting);
                batch.finish(&mut answer);
                prop_assert_eq!(answers.len(), expected.len());
                for ((token, answer), (expected_token, naive, truth)) in answers.iter().zip(&expected) {
                    prop_assert_eq!(token, expected_token);
                    prop_assert!(answer.count <= naive.count, "{:?} above {:?}", answer, naive);
                    prop_assert!(answer.count >= *truth, "{:?} below {}", answer, truth);
                }
                prop_assert_eq!(naive.own.total_weight(), batched.own.total_weight());
                prop_assert!(values(&naive).eq(values(&batched)));
            }
        }
    }

    /// The second rule as the documentation says it, with the columns of single keys looked up in single sketches.
    #[test]
    fn the_answer_is_the_sum_over_nodes_of_their_minima(
        adds in prop::collection::vec((0..4_usize, 0..30_u8, 1..1000_u16), 0..200),
        width in 1..40_u64,
        depth in 1..6_u64,
    ) {
        for family in FAMILIES {
            let here = replica(width, depth, family, 3);
            let mut rows = LegacyRows::new(Arc::clone(&here), 3);
            let peers: Vec<_> = (0..3).map(|_| replica(width, depth, family, 0)).collect();
            for &(node, key, weight) in &adds {
                let node = peers.get(node).unwrap_or(&here);
                node.add(&[key], weight.into()).unwrap();
            }
            for (number, sender) in peers.iter().enumerate() {
                for row in 0..depth as usize {
                    let mut cells = Vec::new();
                    sender.read_own_row(row, &mut cells);
                    rows.merge(peer(number as u16), row, cells.into_iter()).unwrap();
                }
            }
            let all = adds.iter().map(|&(_, _, weight)| u64::from(weight)).sum::<u64>();
            prop_assert_eq!(here.total_weight(), all);
            for key in 0..30 {
                let nodes = peers.iter().chain([&here]);
                let expected: u64 = nodes.map(|node| node.own.estimate(&[key])).sum();
                let expected = Estimate { count: expected, ..Estimate::default() };
                prop_assert_eq!(here.estimate(&[key]), expected);
                let mut answers = Vec::new();
                for way in [Way::Direct, Way::Pipelined] {
                    let mut batch = Batch::with_way(Arc::clone(&here), way);
                    batch.count(&[key], (), &mut |(), answer| answers.push(answer));
                    batch.finish(&mut |(), answer| answers.push(answer));
                }
                prop_assert_eq!(answers, [expected; 2]);
            }
        }
    }

    /// Readers never see a cell fall, whatever a peer sends.
    #[test]
    fn readers_never_see_a_cell_fall(
        receipts in prop::collection::vec((0..2_usize, prop::collection::vec(counter(), 3)), 0..40),
    ) {
        let replica = replica(3, 2, HashFamily::Fnv, 1);
        let mut rows = LegacyRows::new(Arc::clone(&replica), 1);
        let mut before = vec![0; 6];
        for (row, counters) in receipts {
            rows.merge(peer(0), row, counters.iter().copied()).unwrap();
            let now = slice(&replica, peer(0));
            prop_assert!(before.iter().zip(&now).all(|(old, new)| old <= new));
            before = now;
        }
    }
}

fn counter() -> impl Strategy<Value = u64> {
    prop_oneof![
        0..10_u64,
        u64::from(u32::MAX) - 2..=u64::from(u32::MAX) + 2,
        any::<u64>()
    ]
}

#[test]
fn the_way_follows_the_memory_and_the_threads() {
    let way = |log_width: u32, threads| {
        let geometry = Geometry::new(1 << log_width, 4).unwrap();
        Way::of(geometry.memory_bytes(), threads)
    };
    assert_eq!((way(12, 1), way(16, 1)), (Way::Direct, Way::Direct));
    assert_eq!((way(20, 1), way(22, 1)), (Way::Pipelined, Way::Pipelined));
    assert_eq!((way(12, 2), way(16, 2)), (Way::Direct, Way::Pipelined));
    assert_eq!((way(20, 2), way(22, 9)), (Way::Pipelined, Way::Pipelined));
}

/// A batch changes its way only when nothing is under way, so nothing is lost or answered out of order.
#[test]
fn batches_that_come_and_go_change_the_way_and_nothing_else() {
    // The size is one at which the way depends on the number of batches.
    let replica = replica(1 << 15, 4, FAMILIES[0], 0);
    let mut state = 0xBA7C;
    let mut batches: Vec<Batch<u64>> = Vec::new();
    let mut added = 0;
    for step in 0..20_000 {
        match random(&mut state) % 8 {
            0 if batches.len() < 4 => batches.push(Batch::new(Arc::clone(&replica))),
            1 if batches.len() > 1 => {
                let mut gone = batches.swap_remove(0);
                gone.finish(&mut |_, _| {});
            }
            what => {
                let Some(batch) = batches.last_mut() else {
                    continue;
                };
                let mut answers = Vec::new();
                let mut answer = |token, estimate: Estimate| answers.push((token, estimate.count));
                batch.add(b"key", Weight::ONE, &mut answer).unwrap();
                batch.count(b"key", step, &mut answer);
                batch.count(b"key", step + 1, &mut answer);
                added += 1;
                if what < 5 {
                    batch.finish(&mut answer);
                    let newest = &answers[answers.len() - 2..];
                    assert_eq!([newest[0].0, newest[1].0], [step, step + 1]);
                    assert!(newest[0].1 <= newest[1].1 && newest[1].1 <= added);
                }
            }
        }
    }
    batches
        .iter_mut()
        .for_each(|batch| batch.finish(&mut |_, _| {}));
    assert_eq!(replica.estimate(b"key").count, added);
    assert_eq!(replica.batches.load(Relaxed), batches.len());
    drop(batches);
    assert_eq!(replica.batches.load(Relaxed), 0);
}

/// There are more keys than places in the absorber, hot and cold ones, so that everything that the absorber does
/// happens often.
#[test]
fn many_keys_in_long_batches_are_counted_as_one_by_one() {
    const STEPS: u64 = 200_000;
    for (family, depth) in [
        (FAMILIES[0], 4),
        (FAMILIES[0], 9),
        (FAMILIES[1], 4),
        (FAMILIES[1], 5),
    ] {
        for (way, threads) in ways() {
            let naive = replica(1 << 14, depth, family, 0);
            let batched = replica_of_threads(1 << 14, depth, family, threads);
            let mut truth = vec![0; 1 << 14];
            let mut batch = Batch::with_way(Arc::clone(&batched), way);
            let mut seen = 0;
            let mut answer = |truth: u64, estimate: Estimate| {
                assert!(estimate.count >= truth, "{estimate:?} below {truth}");
                seen += 1;
            };
            let mut state = 0x5EED;
            for step in 0..STEPS {
                let (random, weight) = (random(&mut state), Weight::from(step as u16 % 5));
                // The smaller one of two random numbers: some keys come thousands of times.
                let key = (random % (1 << 14)).min(random >> 48 & 0x3FFF) >> (random >> 62);
                let (bytes, truth) = (key.to_le_bytes(), &mut truth[key as usize]);
                let asks = random >> 32 & 0xF;
                if asks > 0 {
                    *truth += u64::from(weight);
                    naive.add(&bytes, weight).unwrap();
                }
                match asks {
                    0 => batch.count(&bytes, *truth, &mut answer),
                    1 => batch.hit(&bytes, (weight, 9), *truth, &mut answer).unwrap(),
                    _ => batch.add(&bytes, weight, &mut answer).unwrap(),
                }
                if step % 60_000 == 0 {
                    batch.finish(&mut answer);
                }
            }
            batch.finish(&mut answer);
            assert!(seen > STEPS / 16);
            assert_eq!(batched.own.total_weight(), naive.own.total_weight());
            assert!(values(&naive).eq(values(&batched)));
        }
    }
}

#[test]
fn threads_with_batches_lose_nothing() {
    const THREADS: u64 = 4;
    const ADDS: u64 = 30_000;
    for (way, threads) in ways() {
        // One thread more adds than threads have cells of their own.
        let lanes = threads * (THREADS as usize - 1) / 2;
        let replica = replica_of_threads(97, 4, FAMILIES[0], lanes);
        std::thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    let mut batch = Batch::<()>::with_way(Arc::clone(&replica), way);
                    for i in 0..ADDS {
                        let key = (i % 1000).to_le_bytes();
                        batch.add(&key, 3.into(), &mut |_, _| {}).unwrap();
                        if i % 100 == 99 {
                            batch.finish(&mut |_, _| {});
                        }
                    }
                });
            }
        });
        assert_eq!(replica.own().total_weight(), THREADS * ADDS * 3);
        for row in 0..4 {
            let mut cells = Vec::new();
            replica.read_own_row(row, &mut cells);
            let sum: u64 = cells.into_iter().sum();
            assert_eq!(sum, THREADS * ADDS * 3);
        }
    }
}

/// Sends rows of two cells of one peer. Each receipt has its expected outcome, and the cells that readers see after
/// it.
fn receive(receipts: &[([u64; 2], RowMerged, [u64; 2])]) {
    let replica = replica(2, 1, HashFamily::Fnv, 1);
    let mut rows = LegacyRows::new(Arc::clone(&replica), 1);
    for (counters, outcome, seen) in receipts {
        let merged = rows.merge(peer(0), 0, counters.iter().copied());
        assert_eq!(merged, Ok(*outcome), "{counters:?}");
        assert_eq!(slice(&replica, peer(0)), seen, "{counters:?}");
    }
}

#[test]
fn a_late_datagram_changes_nothing() {
    receive(&[
        ([5, 1], RowMerged::Merged, [5, 1]),
        ([9, 1], RowMerged::Merged, [9, 1]),
        ([9, 1], RowMerged::Merged, [9, 1]),
        ([7, 1], RowMerged::HeldBack, [9, 1]),
        ([9, 3], RowMerged::Merged, [9, 3]),
        // The earlier fall is forgotten: this is a first fall again.
        ([9, 1], RowMerged::HeldBack, [9, 3]),
        ([10, 3], RowMerged::Merged, [10, 3]),
    ]);
}

#[test]
fn a_restart_is_added_to_what_was_there() {
    receive(&[
        ([12, 4], RowMerged::Merged, [12, 4]),
        // One cell rises and one falls: nothing of a row with a fall is taken.
        ([13, 0], RowMerged::HeldBack, [12, 4]),
        ([14, 1], RowMerged::Restarted, [26, 5]),
        ([15, 1], RowMerged::Merged, [27, 5]),
        ([2, 0], RowMerged::HeldBack, [27, 5]),
        ([3, 0], RowMerged::Restarted, [30, 5]),
        ([3, 2], RowMerged::Merged, [30, 7]),
    ]);
}

#[test]
fn the_weight_of_a_peer_is_that_of_its_fullest_row() {
    let replica = replica(2, 2, HashFamily::Fnv, 2);
    let mut rows = LegacyRows::new(Arc::clone(&replica), 2);
    replica.add(b"key", 5.into()).unwrap();
    // (peer, row, counters, N of all); a row that was held back adds nothing, and a restart adds.
    for (from, row, counters, weight) in [
        (0, 0, [3, 4], 12),
        (0, 1, [0, 8], 13),
        (0, 0, [3, 9], 17),
        (0, 0, [1, 0], 17),
        (0, 0, [1, 1], 19),
        (1, 1, [1 << 40, 1], 20 + (1 << 40)),
        (1, 1, [u64::MAX, 1], u64::MAX),
    ] {
        rows.merge(peer(from), row, counters.into_iter()).unwrap();
        assert_eq!(replica.total_weight(), weight);
    }
}

#[test]
fn a_restart_in_one_row_is_a_restart_of_all() {
    let replica = replica(1, 3, HashFamily::Fnv, 1);
    let mut rows = LegacyRows::new(Arc::clone(&replica), 1);
    let mut merge = |row, counter| rows.merge(peer(0), row, [counter].into_iter());
    for row in 0..3 {
        assert_eq!(merge(row, 100), Ok(RowMerged::Merged));
    }
    assert_eq!(merge(0, 1), Ok(RowMerged::HeldBack));
    assert_eq!(merge(1, 1), Ok(RowMerged::HeldBack));
    assert_eq!(merge(0, 2), Ok(RowMerged::Restarted));
    assert_eq!(merge(1, 2), Ok(RowMerged::Merged));
    assert_eq!(merge(2, 2), Ok(RowMerged::Merged));
    // The second row was held back once before the restart, which explains that fall.
    assert_eq!(merge(1, 1), Ok(RowMerged::HeldBack));
    assert_eq!(slice(&replica, peer(0)), [102, 102, 102]);
}

#[test]
fn counters_of_any_size_are_counted() {
    const MAX: u64 = u64::MAX;
    receive(&[
        ([1 << 40, 7], RowMerged::Merged, [1 << 40, 7]),
        ([MAX, 7], RowMerged::Merged, [MAX, 7]),
        ([3, 7], RowMerged::HeldBack, [MAX, 7]),
        ([3, 1 << 33], RowMerged::Restarted, [MAX, (1 << 33) + 7]),
        ([4, MAX], RowMerged::Merged, [MAX, MAX]),
    ]);
    let replica = replica(1, 2, HashFamily::Fnv, 1);
    let mut rows = LegacyRows::new(Arc::clone(&replica), 1);
    replica.add(b"key", 5.into()).unwrap();
    for (row, counter, count) in [(0, 1 << 32, 5), (1, MAX, (1 << 32) + 5), (0, MAX, MAX)] {
        rows.merge(peer(0), row, [counter].into_iter()).unwrap();
        assert_eq!(replica.estimate(b"key").count, count);
    }
}

/// A peer for which there is no room makes counts too low, and answers say so.
#[test]
fn answers_say_that_they_lack_a_peer() {
    let replica = replica(1, 1, HashFamily::Fnv, 1);
    let mut rows = LegacyRows::new(Arc::clone(&replica), 1);
    rows.merge(peer(0), 0, [1].into_iter()).unwrap();
    assert!(!replica.estimate(b"key").incomplete);
    assert!(rows.merge(peer(1), 0, [1].into_iter()).is_err());
    assert!(replica.estimate(b"key").incomplete);
}

#[test]
fn a_full_table_takes_no_new_peer_and_serves_the_known() {
    for (places, max_peers) in [(2, 5), (5, 2)] {
        let replica = replica(2, 1, HashFamily::Fnv, places);
        let mut rows = LegacyRows::new(Arc::clone(&replica), max_peers);
        let empty_bytes = replica.memory_bytes();
        // Two cells of 4 bytes, and for each a number of 4 bytes with its half turns.
        assert_eq!(empty_bytes, 16);
        let mut merge = |from, counters: [u64; 2]| {
            let merged = rows.merge(peer(from), 0, counters.into_iter());
            (merged, replica.memory_bytes())
        };
        assert_eq!(merge(0, [1, 0]), (Ok(RowMerged::Merged), 48));
        assert_eq!(merge(1, [1, 0]), (Ok(RowMerged::Merged), 80));
        let full = MergeError::PeerTableFull { max_peers: 2 };
        assert_eq!(merge(2, [1, 0]), (Err(full), 80));
        assert_eq!(merge(1, [2, 0]), (Ok(RowMerged::Merged), 80));
        assert!(replica.legacy_peers().eq([peer(0), peer(1)]));
    }
}

#[test]
fn rows_that_do_not_fit_cost_nothing() {
    let replica = replica(3, 2, HashFamily::Fnv, 1);
    let mut rows = LegacyRows::new(Arc::clone(&replica), 1);
    let no_row = Err(MergeError::NoSuchRow { row: 2, depth: 2 });
    assert_eq!(rows.merge(peer(0), 2, [1; 3].into_iter()), no_row);
    for (sent, counters) in [(0, 0), (2, 2), (4, 4), (1_000_000_000, 4)] {
        let merged = rows.merge(peer(0), 0, (0..sent).map(|_| 1));
        let length = MergeError::Length { counters, width: 3 };
        assert_eq!(merged, Err(length));
    }
    assert_eq!(replica.legacy_peers().count(), 0);
    assert_eq!(replica.memory_bytes(), 48);
}

#[test]
fn readers_see_peers_come_while_they_read() {
    const PEERS: u16 = 200;
    let replica = replica(1, 1, HashFamily::Fnv, usize::from(PEERS));
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut least = 0;
            while least < u64::from(PEERS) {
                let now = replica.estimate(b"key").count;
                assert!(now >= least, "{now} after {least}");
                least = now;
            }
        });
        let mut rows = LegacyRows::new(Arc::clone(&replica), usize::from(PEERS));
        for number in 0..PEERS {
            rows.merge(peer(number), 0, [1].into_iter()).unwrap();
        }
        reader.join().unwrap();
    });
}

#[test]
fn own_rows_are_copied_whole() {
    let replica = replica(50, 2, FAMILIES[0], 0);
    replica.add(b"key", 4.into()).unwrap();
    let mut row = vec![9; 3];
    for number in 0..2 {
        replica.read_own_row(number, &mut row);
        assert_eq!((row.len(), row.iter().sum::<u64>()), (50, 4));
    }
    replica.read_own_row(2, &mut row);
    assert!(row.is_empty());
}

#[test]
fn a_forgotten_peer_is_not_counted_and_starts_from_zero() {
    let replica = replica(1, 2, HashFamily::Fnv, 2);
    let mut rows = LegacyRows::new(Arc::clone(&replica), 2);
    replica.add(b"key", 1.into()).unwrap();
    assert!(!rows.forget(peer(0)));
    for row in 0..2 {
        rows.merge(peer(0), row, [50].into_iter()).unwrap();
        rows.merge(peer(1), row, [4].into_iter()).unwrap();
    }
    // One fall is under way; it is forgotten, too.
    let fall = rows.merge(peer(0), 0, [40].into_iter());
    assert_eq!(fall, Ok(RowMerged::HeldBack));
    let bytes = replica.memory_bytes();
    assert_eq!(replica.estimate(b"key").count, 55);
    assert!(rows.forget(peer(0)));
    assert!(!rows.forget(peer(0)));
    assert_eq!(
        (replica.estimate(b"key").count, replica.total_weight()),
        (5, 5)
    );
    assert!(replica.legacy_peers().eq([peer(1)]));
    assert_eq!(replica.estimate_by_origin(b"key").len(), 2);
    // A forgotten peer keeps its place, which no other peer gets, and needs no new memory.
    let full = MergeError::PeerTableFull { max_peers: 2 };
    assert_eq!(rows.merge(peer(2), 0, [1].into_iter()), Err(full));
    for row in 0..2 {
        assert_eq!(
            rows.merge(peer(0), row, [7].into_iter()),
            Ok(RowMerged::Merged)
        );
    }
    assert_eq!(slice(&replica, peer(0)), [7, 7]);
    assert_eq!(
        (replica.estimate(b"key").count, replica.total_weight()),
        (12, 12)
    );
    assert_eq!(replica.memory_bytes(), bytes);
    assert!(rows.forget(peer(0)));
    assert_eq!(replica.estimate(b"key").count, 5);
}

#[test]
fn who_adds_seldom_leaves_cells_of_their_own_to_those_who_add_all_the_time() {
    let replica = replica_of_threads(97, 4, FAMILIES[0], 2);
    let seldom = Batch::<()>::sharing(Arc::clone(&replica));
    let threads = [(); 3].map(|()| Batch::<()>::new(Arc::clone(&replica)));
    assert_eq!(threads.each_ref().map(Batch::has_lane), [true, true, false]);
    assert!(!seldom.has_lane());
    drop(threads);
    assert!(Batch::<()>::new(replica).has_lane());
}
