//! Tests of lists against exact counts of all keys.
#![allow(clippy::unwrap_used)]

mod names;
mod threads;
mod total;
mod windows;

use std::cell::Cell;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use rmbd_proto::Writer;
use rmbd_sketch::{Geometry, HashFamily, KeyHash, Weight};
use rmbd_testkit::random::Random;

use super::*;
use crate::{
    Batch, Reading, Replica, ReplicaLimits, ReplicaOptions, SliceId, Slices, Way, WindowPlan,
    WindowQuestion,
};

const XXH3: HashFamily = HashFamily::Xxh3 { seed: 0x5EED };
const STARTED: Duration = Duration::from_secs(10);
const OWN: SliceId = SliceId::of(1, Writer(9));

/// What a sketch is made of.
#[derive(Debug, Clone, Copy)]
struct Shape {
    width: u64,
    depth: u64,
    family: HashFamily,
    threads: usize,
    top: usize,
    /// Length and step of its window in milliseconds; 0 for none.
    window: (u64, u64),
}

const SHAPE: Shape = Shape {
    width: 1 << 12,
    depth: 4,
    family: XXH3,
    threads: 1,
    top: 10,
    window: (0, 0),
};

/// A replica with the control thread's side of it, and a clock that stands still until it is moved.
struct Node {
    replica: Arc<Replica>,
    slices: Slices,
    top: TopKeys,
    clock: Cell<Duration>,
}

impl Node {
    fn new(shape: Shape) -> Self {
        let geometry = Geometry::new(shape.width, shape.depth).unwrap();
        let limits = ReplicaLimits {
            max_peers: 1,
            max_origins: 8,
            max_memory_bytes: u64::MAX,
        };
        let (span_ms, step_ms) = shape.window;
        let window = || WindowPlan::new(span_ms, Some(step_ms), None, geometry, shape.family);
        let options = ReplicaOptions {
            threads: shape.threads,
            top: shape.top,
            windows: (span_ms > 0)
                .then(|| window().unwrap())
                .into_iter()
                .collect(),
            started: STARTED,
            ..ReplicaOptions::of(geometry, shape.family, OWN, limits)
        };
        let replica = Arc::new(Replica::try_open(options).unwrap());
        Self {
            slices: Slices::try_new(Arc::clone(&replica)).unwrap(),
            top: TopKeys::new(Arc::clone(&replica)),
            clock: Cell::new(STARTED),
            replica,
        }
    }

    /// One batch for each thread.
    fn batches(&self, threads: usize, way: Way) -> Vec<Batch<()>> {
        let batch = |_| Batch::with_way(Arc::clone(&self.replica), way);
        (0..threads).map(batch).collect()
    }

    fn hash(&self, key: &[u8]) -> KeyHash {
        self.replica.own.hash(key).unwrap()
    }

    fn wait_ms(&self, ms: u64) {
        self.clock.set(self.clock.get() + Duration::from_millis(ms));
    }

    /// Takes all snapshots that are due.
    fn snapshot_all(&mut self) {
        let clock = || self.clock.get();
        while self.slices.snapshot(&clock, usize::MAX).is_some() {}
    }

    fn question(&self, span_ms: u64, reading: Reading) -> WindowQuestion {
        WindowQuestion {
            window: self.replica.window(span_ms).unwrap(),
            reading,
            now: self.clock.get(),
        }
    }
}

/// How much was added to each key.
#[derive(Debug, Default)]
struct Truth(HashMap<Vec<u8>, u64>);

impl Truth {
    fn add(&mut self, key: &[u8], weight: u64) {
        *self.0.entry(key.to_vec()).or_default() += weight;
    }

    /// The list has every key that it should have, and what it says of each is true.
    fn check(&self, node: &Node, list: &TopList<'_>) {
        let listed: HashMap<KeyHash, &TopKey<'_>> =
            list.keys.iter().map(|key| (key.hash, key)).collect();
        assert_eq!(listed.len(), list.keys.len(), "each key stands there once");
        for (key, &count) in &self.0 {
            let Some(entry) = listed.get(&node.hash(key)) else {
                let above = list.complete_above;
                assert!(
                    count <= above,
                    "{key:?} has {count}, above {above}, and lacks"
                );
                continue;
            };
            assert!(
                entry.certain <= count && count <= entry.estimate.count,
                "{count} is not between the bounds of {entry:?}"
            );
            assert!(entry.name.is_none_or(|name| name == key));
        }
        let counts = list.keys.iter().map(|key| key.estimate.count);
        assert!(counts.is_sorted_by(|one, other| one >= other));
    }

    /// The keys with the largest counts, at most so many.
    fn largest(&self, most: usize) -> Vec<&[u8]> {
        let mut keys: Vec<(&u64, &[u8])> =
            self.0.iter().map(|(key, count)| (count, &**key)).collect();
        keys.sort_unstable_by(|one, other| other.cmp(one));
        keys.iter().take(most).map(|(_, key)| *key).collect()
    }

    /// The share of the largest keys that are in a list.
    fn recall(&self, node: &Node, list: &TopList<'_>, most: usize) -> f64 {
        let largest = self.largest(most);
        let is_listed = |key: &&&[u8]| {
            let hash = node.hash(key);
            list.keys.iter().any(|entry| entry.hash == hash)
        };
        let found = largest.iter().filter(is_listed).count();
        found as f64 / largest.len() as f64
    }
}

/// A stream of keys with a distribution.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Stream {
    /// By Zipf with this exponent.
    Zipf(f64),
    Uniform,
    /// All in turn.
    InTurn,
    /// Each comes once.
    Once,
}

/// Numbers of keys, of so many.
fn numbers(stream: Stream, keys: u64, seed: u64) -> impl Iterator<Item = u64> {
    let mut sum = 0.0;
    let (exponent, ranks) = match stream {
        Stream::Zipf(exponent) => (exponent, keys),
        _ => (0.0, 0),
    };
    let cumulative: Vec<f64> = (1..=ranks)
        .map(|rank| {
            sum += (rank as f64).powf(-exponent);
            sum
        })
        .collect();
    let mut random = Random(seed);
    (0..).map(move |number| match stream {
        Stream::InTurn => number % keys,
        Stream::Once => number,
        Stream::Uniform => random.below(keys),
        Stream::Zipf(_) => {
            let at = random.next() as f64 / 2_f64.powi(64) * sum;
            cumulative.partition_point(|&weight| weight < at) as u64
        }
    })
}

fn no_answer((): (), _: crate::Estimate) {}

/// What an add is part of.
fn add(batch: &mut Batch<()>, key: &[u8], weight: u32, how: u64) {
    let weight = Weight::new(weight).unwrap();
    let terms = crate::Terms {
        limit: u64::MAX,
        credit: 0,
        takes: true,
    };
    match how % 8 {
        0 => batch.hit(key, (weight, 9), (), &mut no_answer).unwrap(),
        1 => batch
            .take(key, (weight, &terms), None, (), &mut no_answer)
            .unwrap(),
        2 => {
            let looked = batch.look(key, &mut no_answer);
            batch.add_looked(&looked, weight).unwrap();
        }
        _ => batch.add(key, weight, &mut no_answer).unwrap(),
    }
}
