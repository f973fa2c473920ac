//! Two threads on one sketch: how much more than one thread they add together.
//!
//! `cargo bench --bench threads` prints Markdown. Keys of 16 bytes, Zipf 1.1 over a million and
//! uniform over a hundred million; batches of as many adds as a train of compact datagrams holds;
//! depth 4. Each thread is pinned to a processor of its own and has keys of its own. One
//! and two threads take turns, `RMBD_BENCH_ROUNDS` (default 15) times.

#![allow(missing_docs, clippy::unwrap_used)]

use std::sync::Barrier;
use std::time::{Duration, Instant};

use rmbd::io::{cpu, huge_pages};
use rmbd::replica::{Batch, Replica};
use rmbd::sketch::{Geometry, HashFamily};

const KEYS: usize = 1 << 19;
const BATCH: usize = 3500;
const SLICE: Duration = Duration::from_millis(150);

type Keys = Vec<[u8; 16]>;

fn main() {
    if std::env::args().any(|arg| arg == "--list" || arg == "--test") {
        return;
    }
    let rounds: usize = std::env::var("RMBD_BENCH_ROUNDS").map_or(15, |text| text.parse().unwrap());
    println!("### Adds by one and by two threads into one sketch, depth 4, in process\n");
    println!(
        "| width | keys | one thread, M adds/s, median [max] | two threads | ratio, median pair |"
    );
    println!("|---|---|---|---|---|");
    let distributions = [
        ("Zipf 1.1", [zipf(1), zipf(2)]),
        ("uniform", [uniform(1), uniform(2)]),
    ];
    for log_width in [12, 16, 20] {
        for (name, keys) in &distributions {
            let geometry = Geometry::new(1 << log_width, 4).unwrap();
            let replica = Replica::try_new(geometry, HashFamily::Xxh3 { seed: 1 }, 8).unwrap();
            huge_pages::advise(replica.own().cells());
            rate(&replica, keys);
            let (mut one, mut two, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
            for _ in 0..rounds {
                one.push(rate(&replica, &keys[..1]));
                two.push(rate(&replica, keys));
                ratios.push(two[two.len() - 1] / one[one.len() - 1]);
            }
            let (one, two, ratio) = (spread(&mut one), spread(&mut two), median(&mut ratios));
            println!("| 2^{log_width} | {name} | {one} | {two} | {ratio:.2} |");
        }
    }
}

/// Million adds a second of as many threads as there are key streams.
fn rate(replica: &Replica, keys: &[Keys]) -> f64 {
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
                    let mut batch = Batch::<()>::new();
                    start.wait();
                    let (began, mut adds) = (Instant::now(), 0);
                    for keys in keys.chunks(BATCH).cycle() {
                        for key in keys {
                            batch.add(replica, key, 1, &mut |(), _| {}).unwrap();
                        }
                        batch.finish(replica, &mut |(), _| {});
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

/// The finalizer of splitmix64: a seeded stream, the same in every run.
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

fn key(rank: u64) -> [u8; 16] {
    let mut key = [0; 16];
    key.copy_from_slice(format!("user:{rank:011}").as_bytes());
    key
}

fn uniform(seed: u64) -> Keys {
    let mut state = seed;
    (0..KEYS)
        .map(|_| key(random(&mut state) % 100_000_000))
        .collect()
}

/// Exponent 1.1 over a million keys, by inverting the cumulative distribution.
fn zipf(seed: u64) -> Keys {
    let mut sum = 0.0;
    let cumulative: Vec<f64> = (1..=1_000_000)
        .map(|rank| {
            sum += f64::from(rank).powf(-1.1);
            sum
        })
        .collect();
    let mut state = seed;
    (0..KEYS)
        .map(|_| {
            let at = random(&mut state) as f64 / u64::MAX as f64 * sum;
            key(cumulative.partition_point(|&c| c < at) as u64)
        })
        .collect()
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn spread(values: &mut [f64]) -> String {
    format!("{:.0} [{:.0}]", median(values), values[values.len() - 1])
}
