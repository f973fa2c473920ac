//! What lists of the largest keys cost and find: adds with lists beside adds without, by one thread and by two, and
//! how many of the hundred largest keys are listed. And what it costs to count some keys exactly (*audited*).
//!
//! `cargo bench --bench names` prints Markdown. Keys have 16 bytes, by Zipf out of a million or uniform out of a
//! hundred million; the sketch is 4 x 2^20, or as small as the table says, and a list tells 100 keys. `total` has the
//! list of all time, `60 s` has that of the window of 60 s by 5 s too, and `often` that of one of 1 s by 50 ms, the
//! shortest step. Two processors are needed: a thread adds on the first (or two on both), and what a control thread
//! does is done on the last. `RMBD_BENCH_ROUNDS` (default 61) sets the number of rounds, in each of which every way
//! has its turn, on one sketch for each way. Words behind `--` choose the tables that have them in their names.

#![allow(missing_docs, clippy::unwrap_used)]
#![allow(clippy::print_stderr, clippy::print_stdout)]

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use rmbd_io::{cpu, huge_pages};
use rmbd_sketch::{Geometry, HashFamily, Weight};
use rmbd_store::{
    Batch, Reading, Replica, ReplicaOptions, Slices, TopKeys, TopList, WindowPlan, WindowQuestion,
};

use support::command_line::{is_chosen, is_dry, rounds};
use support::cpu_time;
use support::figures::median_min_max;
use support::keys::{Key, uniform, zipf_of};

mod support;

const FAMILY: HashFamily = HashFamily::Xxh3 { seed: 0x5EED };
/// Keys of a stream, which are added again and again.
const KEYS: usize = 1 << 20;
/// Adds of a batch: what a data thread takes between two pauses.
const BATCH: usize = 1 << 13;
/// Keys of a message.
const MESSAGE: usize = 64;
/// Time for which each way has its turn. Where the machine is slower for a while, all ways of a round are.
const TURN: Duration = Duration::from_millis(50);
/// Time between two looks of the control thread at names.
const ROUND: Duration = Duration::from_millis(25);
/// Keys that a list tells.
const TOP: usize = 100;
/// Adds of a stream of which the largest keys are to be found.
const ADDS: usize = 10_000_000;

/// Which lists a sketch has.
#[derive(Clone, Copy, PartialEq)]
enum Lists {
    Off,
    /// No lists, but the audit.
    Audited,
    Total,
    Minute,
    Often,
}

impl Lists {
    const ALL: [Self; 5] = [
        Self::Off,
        Self::Audited,
        Self::Total,
        Self::Minute,
        Self::Often,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Audited => "off, audited",
            Self::Total => "total",
            Self::Minute => "60 s",
            Self::Often => "often",
        }
    }

    /// Length and step of the window.
    fn window_ms(self) -> Option<(u64, u64)> {
        match self {
            Self::Off | Self::Audited | Self::Total => None,
            Self::Minute => Some((60_000, 5_000)),
            Self::Often => Some((1_000, 50)),
        }
    }
}

/// A sketch, and what a control thread has of it.
struct Node {
    replica: Arc<Replica>,
    slices: Slices,
    top: TopKeys,
    start: Instant,
}

impl Node {
    fn new(log_width: u32, lists: Lists, threads: usize) -> Self {
        let geometry = Geometry::new(1 << log_width, 4).unwrap();
        let plan = |(span_ms, step_ms)| {
            WindowPlan::new(span_ms, Some(step_ms), None, geometry, FAMILY).unwrap()
        };
        let options = ReplicaOptions {
            max_origins: 1,
            threads,
            top: match lists {
                Lists::Off | Lists::Audited => 0,
                _ => TOP,
            },
            audit: lists == Lists::Audited,
            windows: lists.window_ms().map(plan).into_iter().collect(),
            ..ReplicaOptions::new(geometry, FAMILY)
        };
        let replica = Arc::new(Replica::try_open(options).unwrap());
        replica.own().memory_parts().for_each(|part| {
            huge_pages::advise(part);
        });
        Self {
            slices: Slices::try_new(Arc::clone(&replica)).unwrap(),
            top: TopKeys::new(Arc::clone(&replica)),
            start: Instant::now(),
            replica,
        }
    }

    /// Does what a control thread does, until it is told to end.
    fn control(&mut self, is_over: &AtomicBool) {
        let _ = cpu::pin_to(*cpu::allowed().last().unwrap());
        let (start, mut updated) = (self.start, Instant::now());
        while !is_over.load(Relaxed) {
            if self.slices.wants_pass() {
                self.slices.publish(usize::MAX);
            }
            while self.slices.snapshot(&|| start.elapsed(), 1 << 18).is_some() {}
            if updated.elapsed() > ROUND {
                self.top.update();
                updated = Instant::now();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        // The budget of the next turn.
        self.slices.publish(usize::MAX);
    }

    /// CPU nanoseconds of an add, with a thread for each stream.
    fn cost_ns(&mut self, streams: &[Vec<Key>], first: usize) -> f64 {
        let (replica, is_over) = (Arc::clone(&self.replica), AtomicBool::new(false));
        let start = Barrier::new(streams.len());
        std::thread::scope(|scope| {
            let is_over = &is_over;
            let control = scope.spawn(|| self.control(is_over));
            let adders: Vec<_> = (streams.iter().enumerate())
                .map(|(thread, keys)| {
                    let (replica, start) = (Arc::clone(&replica), &start);
                    scope.spawn(move || add_for_a_turn(replica, keys, (thread, first), start))
                })
                .collect();
            let costs: Vec<f64> = (adders.into_iter())
                .map(|adder| adder.join().unwrap())
                .collect();
            is_over.store(true, Relaxed);
            control.join().unwrap();
            costs.iter().sum::<f64>() / costs.len() as f64
        })
    }

    fn list(&self, lists: Lists) -> TopList<'_> {
        let Some((span_ms, _)) = lists.window_ms() else {
            return self.top.list(TOP);
        };
        let question = WindowQuestion {
            window: self.replica.window(span_ms).unwrap(),
            reading: Reading::Bound,
            now: self.start.elapsed(),
        };
        self.top.list_in(&question, TOP)
    }
}

fn add_for_a_turn(
    replica: Arc<Replica>,
    keys: &[Key],
    (thread, first): (usize, usize),
    start: &Barrier,
) -> f64 {
    let cpus = cpu::allowed();
    let _ = cpu::pin_to(cpus[thread % cpus.len()]);
    let mut batch = Batch::<()>::new(replica);
    start.wait();
    let (cpu, began, mut adds) = (cpu_time::of_this_thread(), Instant::now(), 0);
    for keys in keys.chunks(BATCH).cycle().skip(first) {
        add_all(&mut batch, keys);
        adds += keys.len();
        if began.elapsed() > TURN {
            break;
        }
    }
    let cpu = cpu_time::of_this_thread() - cpu;
    cpu.as_nanos() as f64 / adds as f64
}

fn add_all(batch: &mut Batch<()>, keys: &[Key]) {
    // A node reads keys from messages that have just come, and so are near.
    let mut message = [Key::default(); MESSAGE];
    for keys in keys.chunks(MESSAGE) {
        let message = &mut message[..keys.len()];
        message.copy_from_slice(keys);
        for key in message {
            while batch.add(key, Weight::ONE, &mut |(), _| {}).is_err() {
                // The next pass lets more in.
                batch.finish(&mut |(), _| {});
                std::thread::yield_now();
            }
        }
    }
    batch.finish(&mut |(), _| {});
}

fn main() {
    if is_dry() {
        return;
    }
    let streams: [(&str, [Vec<Key>; 2]); 3] = [
        ("Zipf 1.1", [1, 2].map(|seed| first(zipf_of(1.1, seed)))),
        ("Zipf 0.8", [1, 2].map(|seed| first(zipf_of(0.8, seed)))),
        ("uniform", [1, 2].map(|seed| first(uniform(seed)))),
    ];
    for (log_width, threads) in [(20, 1), (20, 2), (16, 1), (16, 2)] {
        for (name, streams) in &streams {
            adds(log_width, name, &streams[..threads]);
        }
    }
    if is_chosen("recall") {
        recall();
    }
}

fn first(keys: impl Iterator<Item = Key>) -> Vec<Key> {
    keys.take(KEYS).collect()
}

/// Prints a table of what adds cost in each way, and how many adds are made in the time of one without lists.
fn adds(log_width: u32, stream: &str, streams: &[Vec<Key>]) {
    let threads = streams.len();
    let name = format!("adds, 4 x 2^{log_width}, {stream}, {threads} threads");
    if !is_chosen(&name) {
        return;
    }
    let mut nodes = Lists::ALL.map(|lists| Node::new(log_width, lists, threads));
    let mut figures = Lists::ALL.map(|_| Vec::new());
    let rounds = rounds(61);
    // The first round brings the sketch's pages.
    for round in 0..=rounds {
        let mut turn = |(node, figures): (&mut Node, &mut Vec<f64>)| {
            let cost = node.cost_ns(streams, round * 31);
            if round > 0 {
                figures.push(cost);
            }
        };
        let ways = nodes.iter_mut().zip(&mut figures);
        match round % 2 {
            0 => ways.for_each(&mut turn),
            _ => ways.rev().for_each(&mut turn),
        }
    }
    println!("### {name}\n");
    println!("| lists | CPU ns an add, median [min-max] of {rounds} | adds, as multiple of off |");
    println!("|---|---|---|");
    for (lists, row) in Lists::ALL.iter().zip(&figures) {
        let ratios = figures[0].iter().zip(row).map(|(off, on)| off / on);
        let ratios: Vec<f64> = ratios.collect();
        let (cost, ratio) = (median_min_max(row, 1), median_min_max(&ratios, 3));
        println!("| {} | {cost} | {ratio} |", lists.name());
    }
    println!();
}

/// Prints how many of the largest keys are listed, and what is said of them.
fn recall() {
    println!("### recall: {ADDS} adds, 4 x 2^20, the {TOP} largest\n");
    println!(
        "| keys | list | listed | named | complete above | the {TOP}th has | largest error | certain, of the counts |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    for exponent in [0.8, 1.0, 1.1] {
        for lists in [Lists::Total, Lists::Minute] {
            let mut node = Node::new(20, lists, 1);
            let mut batch = Batch::new(Arc::clone(&node.replica));
            let (mut counts, mut keys) = (HashMap::new(), zipf_of(exponent, 7).take(ADDS));
            loop {
                let some: Vec<Key> = keys.by_ref().take(BATCH).collect();
                if some.is_empty() {
                    break;
                }
                add_all(&mut batch, &some);
                node.slices.publish(usize::MAX);
                node.top.update();
                for key in some {
                    *counts.entry(key).or_insert(0_u64) += 1;
                }
            }
            report(
                &node.list(lists),
                &format!("Zipf {exponent}"),
                lists,
                &counts,
            );
        }
    }
}

fn report(list: &TopList<'_>, stream: &str, lists: Lists, counts: &HashMap<Key, u64>) {
    let mut largest: Vec<u64> = counts.values().copied().collect();
    largest.sort_unstable_by(|one, other| other.cmp(one));
    let least = largest[TOP - 1];
    let truth = |name: &[u8]| <&Key>::try_from(name).ok().and_then(|key| counts.get(key));
    let named: Vec<_> = (list.keys.iter())
        .filter_map(|key| Some((key, *truth(key.name?)?)))
        .collect();
    // Several keys may have as much as the last one.
    let listed = named.iter().filter(|(_, count)| *count >= least).count();
    let errors = named.iter().map(|(key, count)| key.estimate.count - count);
    let certain: u64 = named.iter().map(|(key, _)| key.certain).sum();
    let all: u64 = named.iter().map(|(_, count)| count).sum();
    println!(
        "| {stream} | {} | {listed} | {} | {} | {least} | {} | {:.1} % |",
        lists.name(),
        named.len(),
        list.complete_above,
        errors.max().unwrap_or_default(),
        100.0 * certain as f64 / all.max(1) as f64,
    );
}
