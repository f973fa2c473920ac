//! Tests of totals beyond 32 bits against exact ones: with weights, several threads, several nodes and restarts.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};

use super::*;
use crate::{Batch, Estimate, ReplicaOptions};
use rmbd_sketch::{PASS_WEIGHT_MAX, Weight};
use rmbd_testkit::random::random;

/// Totals that every hot key crosses.
const BOUNDARIES: [u64; 3] = [1 << 31, 1 << 32, 1 << 33];

struct Node {
    replica: Arc<Replica>,
    slices: Slices,
}

impl Node {
    /// Of two nodes, one has cells for each thread alone.
    fn start(node: u64, writer: u64) -> Self {
        Self::start_with(node, writer, 1 + node as usize % 2)
    }

    fn start_with(node: u64, writer: u64, threads: usize) -> Self {
        let geometry = Geometry::new(64, 3).unwrap();
        let own = SliceId::of(node, Writer(writer));
        let limits = ReplicaLimits {
            max_origins: 100,
            ..NO_LIMITS
        };
        let options = ReplicaOptions {
            threads,
            ..ReplicaOptions::of(geometry, FAMILY, own, limits)
        };
        let replica = Replica::try_open(options).unwrap();
        let replica = Arc::new(replica);
        let slices = Slices::try_new(Arc::clone(&replica)).unwrap();
        Self { replica, slices }
    }

    /// Adds a weight in pieces, so that adds come in the middle of passes, and makes passes where it has to.
    fn add(&mut self, key: u8, weight: u64) {
        let mut left = weight;
        let mut batch = Batch::new(Arc::clone(&self.replica));
        while left > 0 {
            let weight = Weight::new(left.min(Weight::MAX.into()) as u32).unwrap();
            match batch.add(&[key], weight, &mut |(), _| {}) {
                Ok(()) => left -= u64::from(weight),
                Err(_) => {
                    batch.finish(&mut |_, _| {});
                    self.slices.publish(64);
                }
            }
        }
        batch.finish(&mut |_, _| {});
    }

    /// Learns all that another node has, of all writers.
    fn learn_from(&mut self, other: &Self) {
        let own = self.replica.own_slice();
        let digests = other.slices.digests().filter(|digest| digest.slice != own);
        for digest in digests.collect::<Vec<_>>() {
            let cells = other.slices.cells(&digest.slice).unwrap().to_vec();
            let cells = (0..).zip(cells).filter(|&(_, value)| value > 0);
            self.slices.merge(&digest.slice, cells).unwrap();
        }
    }

    /// Checks answers against the rule over all cells that are here: own ones live, those of others as they were
    /// learnt.
    fn check_rule(&self, keys: u8) {
        for key in 0..keys {
            let at = self.replica.own().cells_of(&[key]);
            let rows = at.iter();
            let own = rows.clone().map(|cell| self.replica.own().own_total(cell));
            let others = rows.map(|cell| {
                let learnt = self
                    .slices
                    .known
                    .iter()
                    .filter_map(|known| known.held.as_ref());
                learnt.map(|held| held.cell(cell.get())).sum::<u64>()
            });
            let count = own.min().unwrap() + others.min().unwrap();
            let expected = Estimate {
                count,
                ..Estimate::default()
            };
            assert_eq!(self.replica.estimate(&[key]), expected);
        }
    }
}

/// A weight that brings a total near one of the boundaries, across it, or far beyond.
fn weight(random: &mut impl FnMut() -> u64) -> u64 {
    match random() % 4 {
        0 => random() % 1_000,
        1 => (1 << 31) - random() % 3,
        2 => random() % (1 << 30),
        _ => (1 << 20) * (random() % 3_000),
    }
}

#[test]
fn counts_are_never_below_exact_ones_whatever_was_crossed() {
    const KEYS: u8 = 6;
    for seed in 0..12 {
        let mut state = seed;
        let mut random = || random(&mut state);
        let mut nodes: Vec<Node> = (0..3).map(|node| Node::start(node, 1)).collect();
        // Truth by writer and key. A node knows of a writer what that writer had when the node learnt from it.
        let mut truth: HashMap<(SliceId, u8), u64> = HashMap::new();
        for step in 0..60_u64 {
            let at = (random() % 3) as usize;
            match random() % 8 {
                0..4 => {
                    let (key, weight) = ((random() % u64::from(KEYS)) as u8, weight(&mut random));
                    nodes[at].add(key, weight);
                    let own = nodes[at].replica.own_slice();
                    *truth.entry((own, key)).or_default() += weight;
                }
                4 => {
                    nodes[at].slices.publish(usize::MAX);
                }
                5 | 6 => {
                    let other = (at + 1 + (random() % 2) as usize) % 3;
                    publish_all(&mut nodes[other].slices);
                    let [one, other] = nodes.get_disjoint_mut([at, other]).unwrap();
                    one.learn_from(other);
                }
                _ => {
                    // The others learn all that the node had before it starts anew, with another name.
                    publish_all(&mut nodes[at].slices);
                    let fresh = Node::start(at as u64, 100 + step);
                    let old = std::mem::replace(&mut nodes[at], fresh);
                    for node in &mut nodes {
                        node.learn_from(&old);
                    }
                }
            }
            let node = &nodes[at];
            node.check_rule(KEYS);
            // Its own counts, and all those of former writers, which all nodes know.
            for key in 0..KEYS {
                let live: Vec<SliceId> =
                    nodes.iter().map(|node| node.replica.own_slice()).collect();
                let known = truth.iter().filter(|((slice, of), _)| {
                    *of == key && (*slice == node.replica.own_slice() || !live.contains(slice))
                });
                let known: u64 = known.map(|(_, weight)| weight).sum();
                let count = node.replica.estimate(&[key]).count;
                assert!(
                    count >= known,
                    "seed {seed}, step {step}: {count} below {known}"
                );
            }
        }
        for node in &mut nodes {
            publish_all(&mut node.slices);
        }
        for at in [0, 1, 2, 0, 1] {
            let [one, other] = nodes.get_disjoint_mut([at, (at + 1) % 3]).unwrap();
            one.learn_from(other);
        }
        let [one, other] = nodes.get_disjoint_mut([2, 0]).unwrap();
        one.learn_from(other);
        for node in &nodes {
            node.check_rule(KEYS);
            for key in 0..KEYS {
                let all: u64 = truth
                    .iter()
                    .filter(|((_, of), _)| *of == key)
                    .map(|(_, weight)| weight)
                    .sum();
                let count = node.replica.estimate(&[key]).count;
                assert!(count >= all, "seed {seed}: {count} below {all}");
            }
        }
    }
}

/// Four threads add, one passes, one reads, and another node learns. Totals are exact at the end, and at no moment
/// below what was there before or above what anybody has begun to add.
#[test]
fn threads_cross_all_boundaries_and_lose_nothing() {
    // All, some or none of the threads have cells of their own.
    for threads in [1, 2, 4] {
        cross_all_boundaries(threads);
    }
}

fn cross_all_boundaries(threads: usize) {
    const THREADS: u64 = 4;
    const ADDS: u64 = 3_000;
    const ALL: u64 = THREADS * ADDS * (1 << 20);
    const { assert!(ALL > BOUNDARIES[2]) };
    let Node {
        replica,
        mut slices,
    } = Node::start_with(1, 1, threads);
    let mut heir = Node::start(2, 1);
    let (begun, is_over) = (AtomicU64::new(0), AtomicBool::new(false));
    // A lower bound of what the heir has learnt.
    let learnt = Mutex::new((Arc::clone(&heir.replica), 0));
    std::thread::scope(|scope| {
        let adders: Vec<_> = (0..THREADS)
            .map(|_| scope.spawn(|| add_all(&replica, ADDS, &begun)))
            .collect();
        scope.spawn(|| {
            while !is_over.load(SeqCst) {
                slices.publish(GROUP_CELLS);
                if replica.own().wants_pass() {
                    continue;
                }
                let cells = slices.cells(&replica.own_slice()).unwrap().to_vec();
                let least = *cells.iter().filter(|&&cell| cell > 0).min().unwrap_or(&0);
                let own = replica.own_slice();
                heir.slices.merge(&own, (0..).zip(cells)).unwrap();
                learnt.lock().unwrap().1 = least;
            }
        });
        scope.spawn(|| {
            let mut last = 0;
            while !is_over.load(SeqCst) {
                let least = replica.own().total_weight().max(last);
                let count = replica.estimate(b"key").count;
                let most = begun.load(SeqCst);
                assert!(
                    (least..=most).contains(&count),
                    "{count:#x} not in {least:#x}..={most:#x}"
                );
                last = count;
                let (heir, least) = &*learnt.lock().unwrap();
                let count = heir.estimate(b"key").count;
                let most = begun.load(SeqCst);
                assert!(
                    (*least..=most).contains(&count),
                    "{count:#x} not in {least:#x}..={most:#x}"
                );
            }
        });
        for adder in adders {
            adder.join().unwrap();
        }
        is_over.store(true, SeqCst);
    });
    publish_all(&mut slices);
    assert_eq!(replica.estimate(b"key").count, ALL);
    assert_eq!(replica.total_weight(), ALL);
    let cells = all_cells(&slices, &replica.own_slice());
    assert_eq!(cells.iter().sum::<u64>(), 3 * ALL);
    assert_eq!(hashes(&slices, &replica.own_slice()), naive_hashes(&cells));
}

fn add_all(replica: &Arc<Replica>, adds: u64, begun: &AtomicU64) {
    let mut batch = Batch::new(Arc::clone(replica));
    for at in 0..adds {
        begun.fetch_add(1 << 20, SeqCst);
        while batch.add(b"key", Weight::MAX, &mut |(), _| {}).is_err() {
            batch.finish(&mut |_, _| {});
            std::thread::yield_now();
        }
        if at % 16 == 0 {
            batch.finish(&mut |_, _| {});
        }
    }
    batch.finish(&mut |_, _| {});
}

#[test]
fn no_more_is_added_than_may_be_until_a_pass() {
    let (replica, mut slices) = replica(64, 2, NO_LIMITS);
    let mut batch = Batch::new(Arc::clone(&replica));
    let mut added = 0;
    while batch.add(b"key", Weight::MAX, &mut |(), _| {}).is_ok() {
        added += u64::from(Weight::MAX);
    }
    assert_eq!(added, PASS_WEIGHT_MAX);
    // A weight of 0 adds nothing, and questions are answered.
    assert_eq!(batch.add(b"key", Weight::ZERO, &mut |(), _| {}), Ok(()));
    assert_eq!(
        replica.add(b"other", Weight::ONE),
        Err(rmbd_sketch::Exhausted)
    );
    // A pass gives back what is in the cells when it begins. Weight that waits in a batch is not in them.
    assert!(replica.own().wants_pass());
    slices.publish(usize::MAX);
    assert_eq!(
        replica.add(b"other", Weight::ONE),
        Err(rmbd_sketch::Exhausted)
    );
    batch.finish(&mut |(), _| {});
    // Weight that comes while a pass goes on is not given back by that pass.
    while slices.publish(usize::MAX) != Published::Idle {}
    assert!(!replica.own().wants_pass());
    assert_eq!(replica.estimate(b"key").count, added);
    replica.add(b"other", Weight::ONE).unwrap();
    // Weight that a batch had taken and not added is free for others when the batch is done.
    batch.provide(1 << 30).unwrap();
    assert_eq!(
        batch.provide(PASS_WEIGHT_MAX + 1),
        Err(rmbd_sketch::Exhausted)
    );
    assert!(!batch.provide_of_plenty(PASS_WEIGHT_MAX));
    drop(batch);
    let mut other = Batch::<()>::new(Arc::clone(&replica));
    other.provide(PASS_WEIGHT_MAX - 1).unwrap();
    assert_eq!(replica.total_weight(), added + 1);
}
