//! A bench of two threads on one sketch: how much more they add together than one thread.
//!
//! `cargo bench --bench threads` prints Markdown. Keys have 16 bytes, by Zipf 1.1 over a million or uniform over a
//! hundred million. A batch has as many adds as a train of compact datagrams, and the depth is 4. Each thread is
//! pinned to a processor of its own and has keys of its own. One and two threads take turns, `RMBD_BENCH_ROUNDS`
//! (default 15) times, with a sketch like that of a node with one data thread, and with two.

#![allow(missing_docs, clippy::unwrap_used)]
#![allow(clippy::print_stderr, clippy::print_stdout)]

use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use rmbd_io::{cpu, huge_pages};
use rmbd_sketch::{Geometry, HashFamily, Weight, lanes_of};
use rmbd_store::{Batch, Replica, ReplicaLimits, ReplicaOptions, SliceId, Slices};

use support::command_line::{is_dry, rounds};
use support::figures::{median, median_max};
use support::keys::{self, Key};

mod support;

const KEYS: usize = 1 << 19;
const BATCH: usize = 3500;
const SLICE: Duration = Duration::from_millis(150);

type Keys = Vec<Key>;

fn main() {
    if is_dry() {
        return;
    }
    let rounds = rounds(15);
    println!("### Adds by one and by two threads into one sketch, depth 4, in process\n");
    println!(
        "| width | keys | one thread, M adds/s, median [max] | two threads | ratio, median pair |"
    );
    println!("|---|---|---|---|---|");
    let distributions = [
        ("Zipf 1.1", [first(keys::zipf(1)), first(keys::zipf(2))]),
        (
            "uniform",
            [first(keys::uniform(1)), first(keys::uniform(2))],
        ),
    ];
    for log_width in [12, 16, 20] {
        for (name, keys) in &distributions {
            let geometry = Geometry::new(1 << log_width, 4).unwrap();
            let mut all = vec![replica_of(geometry, 1)];
            if lanes_of(geometry, 2) > 0 {
                all.push(replica_of(geometry, 2));
            }
            let alone = Arc::clone(&all[0].0);
            let together = Arc::clone(&all[all.len() - 1].0);
            rate(&alone, &keys[..1]);
            rate(&together, keys);
            let (mut one, mut two, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
            for _ in 0..rounds {
                one.push(rate(&alone, &keys[..1]));
                two.push(rate(&together, keys));
                ratios.push(two[two.len() - 1] / one[one.len() - 1]);
                // A pass is made, so that more may be added.
                for (_, slices) in &mut all {
                    slices.publish(usize::MAX);
                }
            }
            let (one, two) = (median_max(&one, 0), median_max(&two, 0));
            let ratio = median(&ratios);
            println!("| 2^{log_width} | {name} | {one} | {two} | {ratio:.2} |");
        }
    }
}

/// A replica like that of a node with this many data threads.
fn replica_of(geometry: Geometry, threads: usize) -> (Arc<Replica>, Slices) {
    let limits = ReplicaLimits {
        max_peers: 8,
        max_origins: 65_536,
        max_memory_bytes: u64::MAX,
    };
    let (family, own) = (HashFamily::Xxh3 { seed: 1 }, SliceId::default());
    let options = ReplicaOptions {
        threads,
        ..ReplicaOptions::of(geometry, family, own, limits)
    };
    let replica = Replica::try_open(options).unwrap();
    replica.own().memory_parts().for_each(|part| {
        huge_pages::advise(part);
    });
    let replica = Arc::new(replica);
    let slices = Slices::try_new(Arc::clone(&replica)).unwrap();
    (replica, slices)
}

fn first(keys: impl Iterator<Item = Key>) -> Keys {
    keys.take(KEYS).collect()
}

/// Million adds a second, with a thread for each stream of keys.
fn rate(replica: &Arc<Replica>, keys: &[Keys]) -> f64 {
    let start = Barrier::new(keys.len());
    let adds_and_seconds: Vec<(u64, f64)> = std::thread::scope(|scope| {
        let threads: Vec<_> = keys
            .iter()
            .enumerate()
            .map(|(thread, keys)| {
                let start = &start;
                scope.spawn(move || {
                    let cpus = cpu::allowed();
                    let _ = cpu::pin_to(cpus[thread % cpus.len()]);
                    let mut batch = Batch::<()>::new(Arc::clone(replica));
                    start.wait();
                    let (began, mut adds) = (Instant::now(), 0);
                    for keys in keys.chunks(BATCH).cycle() {
                        for key in keys {
                            batch.add(key, Weight::ONE, &mut |(), _| {}).unwrap();
                        }
                        batch.finish(&mut |(), _| {});
                        adds += keys.len() as u64;
                        if began.elapsed() > SLICE {
                            break;
                        }
                    }
                    (adds, began.elapsed().as_secs_f64())
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    adds_and_seconds
        .iter()
        .map(|(adds, seconds)| *adds as f64 / seconds / 1e6)
        .sum()
}
