//! Adds in the compact format through a node with one data thread, beside the same bytes parsed from
//! memory into the same sketch, and beside the legacy format.
//!
//! `cargo bench --bench compact` prints Markdown. Keys have 16 bytes and come by Zipf 1.1 out of 2^20;
//! the sketch is 4 x 2^20; datagrams have at most 1 400 bytes and are sent with GSO over loopback. Two
//! processors are needed: the receiver is pinned to the first, the sender to the second. What takes CPU
//! is measured as the receiving thread's CPU time. `RMBD_BENCH_ROUNDS` (default 7) sets the number of
//! alternating rounds. Words behind `--` choose the ways that have them in their names.

#![allow(missing_docs, clippy::unwrap_used)]
#![allow(clippy::print_stderr, clippy::print_stdout)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use rmbd::config::{HttpChoice, IoChoice, NodeConfig};
use rmbd::node::Node;
use rmbd_io::cpu;
use rmbd_proto::compact::{Header, Operation, RequestWriter, WriteError, request};
use rmbd_proto::legacy::encode_add;
use rmbd_sketch::{Geometry, HashFamily, Weight};
use rmbd_store::{Batch, Estimate, Replica};

use support::command_line::{is_chosen, is_dry, rounds};
use support::cpu_time;
use support::figures::median_min_max;
use support::flood::flood;
use support::keys::{Key, traffic};

mod support;

/// Time for which each measurement receives.
const MEASURE: Duration = Duration::from_millis(1000);
const DATAGRAM_BYTES_MAX: usize = 1400;
/// Most bytes of one send.
const TRAIN_BYTES: usize = 65_507;
/// Number of trains in a batch, as many as both back ends take at once.
const TRAINS_TO_A_BATCH: usize = 32;
/// Number of adds in the sender's store.
const ADDS: usize = 1 << 20;

fn main() {
    if is_dry() {
        return;
    }
    let rounds = rounds(7);
    let keys: Vec<Key> = traffic().take(ADDS).collect();
    let (compact, legacy) = (Store::compact(&keys), Store::legacy(&keys));
    let mut ways: Vec<Way<'_>> = vec![
        ("compact, from memory", Box::new(|| from_memory(&compact))),
        (
            "compact, node, uring",
            Box::new(|| through_node(&compact, IoChoice::Uring)),
        ),
        (
            "compact, node, mmsg",
            Box::new(|| through_node(&compact, IoChoice::Mmsg)),
        ),
        (
            "legacy, node, uring",
            Box::new(|| through_node(&legacy, IoChoice::Uring)),
        ),
        (
            "legacy, node, mmsg",
            Box::new(|| through_node(&legacy, IoChoice::Mmsg)),
        ),
    ];
    ways.retain(|(name, _)| is_chosen(name));
    assert!(!ways.is_empty(), "no way has these words in its name");
    let mut figures = vec![(Vec::new(), Vec::new()); ways.len()];
    for _ in 0..rounds {
        for ((_, way), figures) in ways.iter().zip(&mut figures) {
            let (rate, cost) = way();
            figures.0.push(rate);
            figures.1.push(cost);
        }
    }
    println!("### Adds, one core, sketch 4 x 2^20, 16-byte keys, Zipf 1.1\n");
    println!(
        "| way | million adds/s, median [min-max] of {rounds} | CPU ns an add, median [min-max] |"
    );
    println!("|---|---|---|");
    for ((name, _), figures) in ways.iter().zip(&figures) {
        let (rates, costs) = (median_min_max(&figures.0, 1), median_min_max(&figures.1, 1));
        println!("| {name} | {rates} | {costs} |");
    }
    let of = |name| {
        ways.iter()
            .position(|way| way.0 == name)
            .map(|way| &figures[way])
    };
    println!("\n| of the same round | adds/s, median [min-max] | adds a CPU second |");
    println!("|---|---|---|");
    for [one, other] in [
        ["compact, node, uring", "compact, from memory"],
        ["compact, node, mmsg", "compact, from memory"],
        ["compact, node, uring", "legacy, node, uring"],
        ["compact, node, mmsg", "legacy, node, mmsg"],
    ] {
        if let (Some(one_s), Some(other_s)) = (of(one), of(other)) {
            let rates = ratios(&one_s.0, &other_s.0);
            let costs = ratios(&other_s.1, &one_s.1);
            println!("| {one}, to {other} | {rates} | {costs} |");
        }
    }
}

/// The ratios of figures to others that were measured in the same rounds.
fn ratios(figures: &[f64], others: &[f64]) -> String {
    let pairs = figures.iter().zip(others);
    let ratios: Vec<f64> = pairs.map(|(one, other)| one / other).collect();
    median_min_max(&ratios, 2)
}

/// A way: its name, and a function that measures its million adds a second and its nanoseconds per add.
type Way<'a> = (&'a str, Box<dyn Fn() -> (f64, f64) + 'a>);

/// Datagrams of one size, back to back.
struct Store {
    bytes: Vec<u8>,
    datagram_bytes: usize,
    adds_in_datagram: usize,
}

impl Store {
    fn compact(keys: &[Key]) -> Self {
        let mut writer = RequestWriter::new(DATAGRAM_BYTES_MAX);
        let mut bytes = Vec::new();
        let (mut datagram_bytes, mut adds_in_datagram) = (0, 0);
        let mut keys = keys.iter().peekable();
        while keys.peek().is_some() {
            writer.start(&Header::default()).unwrap();
            while let Some(key) = keys.peek() {
                match writer.add(*key, 1) {
                    Ok(()) => keys.next(),
                    Err(WriteError::Full) => break,
                    Err(error) => panic!("{error}"),
                };
            }
            // The last datagram is left out, since it may be shorter.
            let adds = writer.operations();
            let datagram = writer.finish();
            if adds >= adds_in_datagram {
                (datagram_bytes, adds_in_datagram) = (datagram.len(), adds);
                bytes.extend_from_slice(datagram);
            }
        }
        Self {
            bytes,
            datagram_bytes,
            adds_in_datagram,
        }
    }

    fn legacy(keys: &[Key]) -> Self {
        let adds_in_datagram = DATAGRAM_BYTES_MAX / 141;
        let bytes = keys.iter().flat_map(|key| encode_add(key)).collect();
        Self {
            bytes,
            datagram_bytes: adds_in_datagram * 141,
            adds_in_datagram,
        }
    }

    fn trains(&self) -> impl Iterator<Item = &[u8]> + Clone {
        let segments = (TRAIN_BYTES / self.datagram_bytes).min(64);
        self.bytes.chunks_exact(segments * self.datagram_bytes)
    }
}

/// Rate and cost of parsing the store's trains into a sketch. A batch has as many as a data thread takes between two
/// pauses under load.
fn from_memory(store: &Store) -> (f64, f64) {
    let run = || {
        let _ = cpu::pin_to(cpu::allowed()[0]);
        let NodeConfig { family, .. } = NodeConfig::default();
        let trains: Vec<&[u8]> = store.trains().collect();
        let mut batch = Batch::<()>::new(replica(family));
        let mut pass = || {
            for trains in trains.chunks(TRAINS_TO_A_BATCH) {
                for train in trains {
                    add_all(train, store.datagram_bytes, &mut batch);
                }
                batch.finish(&mut |(), _| {});
            }
        };
        // This runs until the sketch's pages are there.
        (0..4).for_each(|_| pass());
        let (cpu, start, mut passes) = (cpu_time::of_this_thread(), Instant::now(), 0);
        while start.elapsed() < MEASURE {
            pass();
            passes += 1;
        }
        let (cpu, seconds) = (
            cpu_time::of_this_thread() - cpu,
            start.elapsed().as_secs_f64(),
        );
        let datagrams = trains
            .iter()
            .map(|train| train.len() / store.datagram_bytes);
        let adds = (passes * datagrams.sum::<usize>() * store.adds_in_datagram) as f64;
        (adds / seconds / 1e6, cpu.as_nanos() as f64 / adds)
    };
    std::thread::scope(|scope| scope.spawn(run).join().unwrap())
}

fn replica(family: HashFamily) -> Arc<Replica> {
    let replica = Replica::try_new(Geometry::DEFAULT, family, 1).unwrap();
    rmbd_io::huge_pages::advise(replica.own().memory());
    Arc::new(replica)
}

fn add_all(train: &[u8], datagram_bytes: usize, batch: &mut Batch<()>) {
    let mut nobody = |(), _: Estimate| {};
    for datagram in train.chunks_exact(datagram_bytes) {
        for operation in request(datagram).unwrap().operations() {
            if let Ok(Operation::Add { key, weight }) = operation {
                let weight = Weight::new(weight as u32).unwrap();
                batch.add(key, weight, &mut nobody).unwrap();
            }
        }
    }
}

/// Rate of adds through a node, and the cost of its data thread.
fn through_node(store: &Store, io: IoChoice) -> (f64, f64) {
    let node = Node::start(NodeConfig {
        threads: Some(1),
        io,
        http: HttpChoice::Off,
        ..NodeConfig::at("127.0.0.1:0")
    })
    .unwrap();
    let done = AtomicBool::new(false);
    let figures = std::thread::scope(|scope| {
        let segment_bytes = store.datagram_bytes as u16;
        let trains = store.trains().map(move |train| (train, segment_bytes));
        scope.spawn(|| flood(node.udp_addr(), trains, &done));
        // This waits until the sketch's pages are there and the flow is steady.
        while node.status().messages.add < 4_000_000 {
            std::thread::sleep(Duration::from_millis(5));
        }
        let data_thread_ns = || cpu_time::of_threads(std::process::id(), "rmbd-data-0");
        let measured = || (node.status().messages.add, data_thread_ns());
        let (before, start) = (measured(), Instant::now());
        std::thread::sleep(MEASURE);
        let (after, seconds) = (measured(), start.elapsed().as_secs_f64());
        done.store(true, Relaxed);
        let adds = (after.0 - before.0) as f64;
        (adds / seconds / 1e6, (after.1 - before.1) / adds)
    });
    node.stop().unwrap();
    figures
}
