//! Benches of updates and queries by one thread: by size, by distribution of keys, by hash, and by way.
//!
//! `cargo bench --bench sketch` takes about two minutes. Ratios within one run are meaningful; absolute figures
//! depend on the machine and its load.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use rmbd_io::huge_pages;
use rmbd_sketch::{Geometry, HashFamily, Weight};
use rmbd_store::{
    Batch, Estimate, Reading, Replica, ReplicaLimits, ReplicaOptions, SliceId, Slices, Way, Window,
    WindowPlan, WindowQuestion,
};

use support::keys::{self, Key};

mod support;

const XXH3: HashFamily = HashFamily::Xxh3 { seed: 0x5EED };
const DEPTH: u64 = 4;
/// Number of keys, more than the second-level cache holds, so that keys come from a place like in a server: a buffer
/// that is read once, in order.
const KEYS: usize = 1 << 18;

type Keys = Vec<Key>;

fn uniform() -> Keys {
    keys::uniform(1).take(KEYS).collect()
}

fn zipf() -> Keys {
    keys::zipf(2).take(KEYS).collect()
}

fn replica(width: u64, family: HashFamily) -> Arc<Replica> {
    let geometry = Geometry::new(width, DEPTH).expect("within the limits");
    Arc::new(Replica::try_new(geometry, family, 8).expect("small enough"))
}

fn add_all(batch: &mut Batch<u32>, keys: &Keys) {
    for key in keys {
        let added = batch.add(key, Weight::ONE, &mut |_, _| {});
        added.expect("some hundred millions for each replica");
    }
    batch.finish(&mut |_, _| {});
}

fn count_all(batch: &mut Batch<u32>, keys: &Keys) -> u64 {
    let mut sum = 0;
    let mut answer = |_, estimate: Estimate| sum += estimate.count;
    for key in keys {
        batch.count(key, 0, &mut answer);
    }
    batch.finish(&mut answer);
    sum
}

/// The grid from which `PIPELINE_ABOVE_BYTES` was chosen.
fn by_size(c: &mut Criterion) {
    let distributions = [("uniform", uniform()), ("zipf", zipf())];
    for (family, family_name) in [(XXH3, "xxh3"), (HashFamily::Fnv, "fnv")] {
        for (distribution, keys) in &distributions {
            for (what, is_add) in [("update", true), ("query", false)] {
                let mut group = c.benchmark_group(format!("{what}/{family_name}/{distribution}"));
                group.throughput(Throughput::Elements(KEYS as u64));
                for log_width in [12, 16, 17, 18, 20, 22] {
                    let replica = replica(1 << log_width, family);
                    add_all(&mut Batch::new(Arc::clone(&replica)), keys);
                    for way in [Way::Direct, Way::Pipelined] {
                        let id = BenchmarkId::new(format!("{way:?}"), format!("2^{log_width}"));
                        let mut batch = Batch::with_way(Arc::clone(&replica), way);
                        group.bench_function(id, |b| {
                            if is_add {
                                b.iter(|| add_all(&mut batch, keys));
                            } else {
                                b.iter(|| black_box(count_all(&mut batch, keys)));
                            }
                        });
                    }
                }
            }
        }
    }
}

/// The cost for a count of the others' sums beside our own cells, in a cluster: the same adds and counts run in one
/// table, and in pairs.
fn pairs(c: &mut Criterion) {
    let limits = ReplicaLimits {
        max_peers: 8,
        max_origins: 1,
        max_memory_bytes: u64::MAX,
    };
    for (distribution, keys) in [("uniform", uniform()), ("zipf", zipf())] {
        let mut group = c.benchmark_group(format!("one-table-or-pairs/query/{distribution}"));
        group.throughput(Throughput::Elements(KEYS as u64));
        for log_width in [12, 16, 20] {
            let geometry = Geometry::new(1 << log_width, DEPTH).expect("within the limits");
            let own = SliceId::default();
            let paired = Replica::try_with(geometry, XXH3, own, limits).expect("small enough");
            let replicas = [
                ("table", replica(1 << log_width, XXH3)),
                ("pairs", Arc::new(paired)),
            ];
            for (name, replica) in replicas {
                add_all(&mut Batch::new(Arc::clone(&replica)), &keys);
                // This comes after the first use: memory that an earlier bench left is in small pages.
                huge_pages::advise(replica.own().memory());
                let mut batch = Batch::new(replica);
                let id = BenchmarkId::new(name, format!("2^{log_width}"));
                group.bench_function(id, |b| b.iter(|| black_box(count_all(&mut batch, &keys))));
            }
        }
    }
}

/// The cost of a window for a count, by how far its snapshots fold, beside a count of all time.
fn windows(c: &mut Criterion) {
    const FOLDS: [(u64, u64); 2] = [(1, 30_000), (8, 60_000)];
    for (distribution, keys) in [("uniform", uniform()), ("zipf", zipf())] {
        let mut group = c.benchmark_group(format!("windows/query/{distribution}"));
        group.throughput(Throughput::Elements(KEYS as u64));
        for log_width in [12, 16, 20] {
            let geometry = Geometry::new(1 << log_width, DEPTH).expect("within the limits");
            let plan = |(fold, span_ms): (u64, u64)| {
                let width = Some((1 << log_width) / fold);
                WindowPlan::new(span_ms, Some(5_000), width, geometry, XXH3).expect("it divides")
            };
            let options = ReplicaOptions {
                max_origins: 1,
                windows: FOLDS.map(plan).to_vec(),
                ..ReplicaOptions::new(geometry, XXH3)
            };
            let replica = Arc::new(Replica::try_open(options).expect("small enough"));
            let mut slices = Slices::try_new(Arc::clone(&replica)).expect("small enough");
            let mut batch = Batch::new(Arc::clone(&replica));
            for step in 1..16 {
                add_all(&mut batch, &keys);
                let now = Duration::from_millis(step * 5_000);
                while slices.snapshot(&|| now, usize::MAX).is_some() {}
            }
            let size = format!("2^{log_width}");
            group.bench_function(BenchmarkId::new("all-time", &size), |b| {
                b.iter(|| black_box(count_all(&mut batch, &keys)));
            });
            for (fold, span_ms) in FOLDS {
                let window = replica.window(span_ms).expect("it is kept");
                for reading in [Reading::Bound, Reading::Smooth] {
                    let id = BenchmarkId::new(format!("{reading:?}-{fold}"), &size);
                    group.bench_function(id, |b| {
                        b.iter(|| black_box(count_all_in(&mut batch, &keys, window, reading)));
                    });
                }
            }
        }
    }
}

fn count_all_in(batch: &mut Batch<u32>, keys: &Keys, window: Window, reading: Reading) -> u64 {
    let question = WindowQuestion {
        window,
        reading,
        now: Duration::from_millis(77_500),
    };
    let mut sum = 0;
    let mut answer = |_, estimate: Estimate| sum += estimate.count;
    for key in keys {
        batch.count_in(key, question, 0, &mut answer);
    }
    batch.finish(&mut answer);
    sum
}

/// The match on the hash family: columns of one key, once with a family that the optimizer knows, so that it resolves
/// the match before the loop, and once with a hidden one. The seed is hidden in both.
fn seam(c: &mut Criterion) {
    let keys = uniform();
    let mut group = c.benchmark_group("seam");
    group.throughput(Throughput::Elements(KEYS as u64));
    let geometry = Geometry::new(1 << 20, DEPTH).expect("within the limits");
    let geometry = black_box(geometry);
    let hidden = black_box(XXH3);
    group.bench_function("hidden", |b| b.iter(|| hash_all(&keys, geometry, hidden)));
    let known = HashFamily::Xxh3 {
        seed: black_box(0x5EED),
    };
    group.bench_function("known", |b| b.iter(|| hash_all(&keys, geometry, known)));
}

#[inline(always)]
fn hash_all(keys: &Keys, geometry: Geometry, family: HashFamily) {
    for key in keys {
        black_box(family.cells(key, geometry));
    }
}

/// The cost of sharing: two threads add to one sketch. The figure is for the adds of both.
fn two_threads(c: &mut Criterion) {
    let keys = zipf();
    let mut group = c.benchmark_group("update-by-two-threads/xxh3/zipf");
    group.throughput(Throughput::Elements(2 * KEYS as u64));
    for log_width in [16, 20] {
        let replica = replica(1 << log_width, XXH3);
        group.bench_function(BenchmarkId::from_parameter(format!("2^{log_width}")), |b| {
            b.iter_custom(|rounds| {
                let start = Instant::now();
                std::thread::scope(|scope| {
                    for _ in 0..2 {
                        scope.spawn(|| {
                            let mut batch = Batch::new(Arc::clone(&replica));
                            for _ in 0..rounds {
                                add_all(&mut batch, &keys);
                            }
                        });
                    }
                });
                start.elapsed()
            });
        });
    }
}

fn configuration() -> Criterion {
    Criterion::default()
        .warm_up_time(Duration::from_millis(100))
        .measurement_time(Duration::from_millis(500))
        .sample_size(10)
        .without_plots()
}

criterion_group! {
    name = benches;
    config = configuration();
    targets = seam, two_threads, pairs, windows, by_size
}
criterion_main!(benches);
