//! Benches of the pass that finds changes, and of the adds beside it.
//!
//! `cargo bench --bench publish` prints Markdown, for 4 x 2^20 cells. First comes the time of a pass. Then comes the
//! CPU time of an add by one pinned thread through a [`Batch`], alone and while another thread publishes every 500
//! ms. The ways take turns, `RMBD_BENCH_ROUNDS` (default 7) times.

#![allow(missing_docs, clippy::unwrap_used)]
#![allow(clippy::print_stderr, clippy::print_stdout)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use rmbd_io::{cpu, huge_pages};
use rmbd_proto::Writer;
use rmbd_sketch::{Geometry, HashFamily, Weight};
use rmbd_store::{Batch, Published, Replica, ReplicaLimits, SliceId, Slices};

use support::command_line::{is_dry, rounds};
use support::cpu_time;
use support::figures::{median, median_max};
use support::keys::{self, Key};

mod support;

const GEOMETRY: Geometry = Geometry::DEFAULT;
const FAMILY: HashFamily = HashFamily::Xxh3 { seed: 1 };
const KEYS: usize = 1 << 19;
const BATCH: usize = 3500;
const ROUND: Duration = Duration::from_millis(500);
/// Time for which each way works in its turn: at least two rounds of publishing.
const SLICE: Duration = Duration::from_millis(1100);
/// Number of cells in a piece of a pass, as the control thread takes it.
const PIECE_CELLS: usize = 1 << 16;

fn main() {
    if is_dry() {
        return;
    }
    let rounds = rounds(7);
    passes(rounds);
    adds(rounds);
}

fn replica() -> (Arc<Replica>, Slices) {
    let limits = ReplicaLimits {
        max_peers: 0,
        max_origins: 0,
        max_memory_bytes: u64::MAX,
    };
    let replica = Replica::try_with(GEOMETRY, FAMILY, SliceId::of(1, Writer(1)), limits).unwrap();
    let replica = Arc::new(replica);
    huge_pages::advise(replica.own().memory());
    let slices = Slices::try_new(Arc::clone(&replica)).unwrap();
    (replica, slices)
}

/// Measures the time of passes that find different numbers of changes.
fn passes(rounds: usize) {
    println!("### A pass over 4 x 2^20 cells of which all are in use\n");
    println!("| changed since the last | cells found | ms, median [max] |\n|---|---|---|");
    let (replica, mut slices) = replica();
    change_all(&replica);
    pass(&mut slices);
    let mut keys = keys::uniform(3);
    type Change<'a> = (&'a str, Box<dyn FnMut() + 'a>);
    let changes: [Change<'_>; 4] = [
        ("nothing", Box::new(|| {})),
        ("1 key", Box::new(|| replica.add(b"key", 1.into()).unwrap())),
        (
            "10 000 keys",
            Box::new(|| {
                for key in keys.by_ref().take(10_000) {
                    replica.add(&key, 1.into()).unwrap();
                }
            }),
        ),
        ("every cell", Box::new(|| change_all(&replica))),
    ];
    for (name, mut change) in changes {
        let (mut times_ms, mut found) = (Vec::new(), 0);
        for _ in 0..rounds {
            change();
            let (cells, time) = pass(&mut slices);
            times_ms.push(time.as_secs_f64() * 1e3);
            found = cells;
        }
        println!("| {name} | {found} | {} |", median_max(&times_ms, 2));
    }
    println!();
}

fn change_all(replica: &Replica) {
    for cell in replica.own().own_cells() {
        cell.fetch_add(1, Relaxed);
    }
    replica.add(b"key", 1.into()).unwrap();
}

fn pass(slices: &mut Slices) -> (u64, Duration) {
    let began = Instant::now();
    loop {
        match slices.publish(PIECE_CELLS) {
            Published::Partly => {}
            Published::Done { changed_cells, .. } => return (changed_cells, began.elapsed()),
            Published::Idle => return (0, began.elapsed()),
        }
    }
}

/// Measures the CPU time of an add in each way.
fn adds(rounds: usize) {
    println!("### CPU of an add, one data thread, batches of {BATCH}\n");
    println!(
        "| keys | way | ns an add, median [max] | against without, median pair | CPU of a pass, ms |"
    );
    println!("|---|---|---|---|---|");
    let distributions: [(_, Vec<Key>); 2] = [
        ("Zipf 1.1", keys::zipf(1).take(KEYS).collect()),
        ("uniform", keys::uniform(1).take(KEYS).collect()),
    ];
    for (name, keys) in distributions {
        let (replica, mut slices) = replica();
        let (mut alone, mut beside) = (Vec::new(), Vec::new());
        let mut passes_ms = Vec::new();
        for _ in 0..rounds {
            let mut batch = Batch::<()>::new(Arc::clone(&replica));
            let mut add_all = |keys: &[Key]| {
                for key in keys {
                    batch.add(key, Weight::ONE, &mut |(), _| {}).unwrap();
                }
                batch.finish(&mut |(), _| {});
            };
            alone.push(add_ns(&keys, &mut add_all, |_| {}));
            let publish = |stop: &AtomicBool| {
                each_round(stop, || {
                    let began = cpu_time::of_this_thread();
                    pass(&mut slices);
                    let spent = cpu_time::of_this_thread() - began;
                    passes_ms.push(spent.as_secs_f64() * 1e3);
                });
            };
            beside.push(add_ns(&keys, &mut add_all, publish));
        }
        let pairs = beside.iter().zip(&alone);
        let ratios: Vec<f64> = pairs.map(|(beside, alone)| beside / alone).collect();
        let (ratio, pass_ms) = (median(&ratios), median_max(&passes_ms, 2));
        let (alone, beside) = (median_max(&alone, 1), median_max(&beside, 1));
        println!("| {name} | alone | {alone} | - | |");
        println!("| {name} | while another thread publishes | {beside} | {ratio:.3} | {pass_ms} |");
    }
}

/// CPU nanoseconds of an add on a pinned thread, while `beside` runs on another thread.
fn add_ns(
    keys: &[Key],
    mut add_all: impl FnMut(&[Key]) + Send,
    beside: impl FnOnce(&AtomicBool) + Send,
) -> f64 {
    let stop = AtomicBool::new(false);
    let cpus = cpu::allowed();
    std::thread::scope(|scope| {
        let adder = scope.spawn(|| {
            let _ = cpu::pin_to(cpus[0]);
            let (began, cpu_began) = (Instant::now(), cpu_time::of_this_thread());
            let mut adds = 0;
            for keys in keys.chunks(BATCH).cycle() {
                add_all(keys);
                adds += keys.len();
                if began.elapsed() > SLICE {
                    break;
                }
            }
            let spent = cpu_time::of_this_thread() - cpu_began;
            stop.store(true, Relaxed);
            spent.as_secs_f64() * 1e9 / adds as f64
        });
        scope.spawn(|| {
            let _ = cpu::pin_to(cpus[1 % cpus.len()]);
            beside(&stop);
        });
        adder.join().unwrap()
    })
}

fn each_round(stop: &AtomicBool, mut work: impl FnMut()) {
    let mut next = Instant::now() + ROUND / 2;
    while !stop.load(Relaxed) {
        std::thread::sleep(Duration::from_millis(5));
        if Instant::now() >= next {
            work();
            next += ROUND;
        }
    }
}
