//! What snapshot files cost: bytes and time of a file, how long others wait for a piece of it, and the time of a start
//! that loads it; how long a whole node takes to end and to start again; and what adds and counts through a node cost
//! while files are written, beside a node that writes none.
//!
//! `cargo bench --bench snapshot_file` prints Markdown, for 4 x 2^20 cells with a window of 60 s by 5 s folded to 2^17.
//! The first table is made in memory; a disk comes on top. For the others a node has a folder below `TMPDIR`; for the
//! last one it is full, and is told again and again to write a file. `RMBD_BENCH_ROUNDS` (default 5) sets the number of
//! rounds, words behind `--` choose `size`, `restart` or `beside`.

#![allow(missing_docs, clippy::unwrap_used)]
#![allow(clippy::print_stderr, clippy::print_stdout)]

use std::cell::RefCell;
use std::iter::empty;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rmbd_proto::{Boot, SketchNumber, Writer};
use rmbd_sketch::{Geometry, HashFamily, Weight};
use rmbd_snapshot::{
    ClockReading, LoadOptions, Saving, SavingOptions, SavingStep, SlicesSource, ThisStart, check,
    load,
};
use rmbd_store::{
    Batch, Published, Replica, ReplicaLimits, ReplicaOptions, SliceId, Slices, WindowPlan,
};

use support::command_line::{is_chosen, is_dry, rounds};
use support::figures::median;

mod beside;
mod restart;
#[path = "../support/mod.rs"]
mod support;
mod whole;

const GEOMETRY: Geometry = Geometry::DEFAULT;
const FAMILY: HashFamily = HashFamily::Xxh3 { seed: 1 };
const NODE: u64 = 1;
const STEP: Duration = Duration::from_secs(5);
const STEPS: u32 = 12;

fn main() {
    if is_dry() {
        return;
    }
    if is_chosen("restart") {
        restart::table(rounds(5));
    }
    if is_chosen("beside") {
        beside::table(rounds(5));
    }
    if !is_chosen("size") {
        return;
    }
    println!(
        "| different keys | adds | file, MiB | written in ms | longest wait, us | checked in ms | loaded in ms | gone \
         on from in ms |\n|---|---|---|---|---|---|---|---|"
    );
    for (keys, adds) in [
        (0, 0),
        (10_000, 1_000_000),
        (1_000_000, 4_000_000),
        (8_000_000, 16_000_000),
    ] {
        line(keys, adds, rounds(5));
    }
}

/// Slices with the ages that a minute of adds gives them.
struct Node(RefCell<Vec<Slices>>);

impl SlicesSource for Node {
    fn with(&self, read: &mut dyn FnMut(&[&Slices])) {
        let slices = self.0.borrow();
        read(&slices.iter().collect::<Vec<_>>());
    }
}

fn start(writer: u64, now: Duration) -> (Arc<Replica>, Slices) {
    let minute = WindowPlan::new(60_000, Some(5_000), Some(1 << 17), GEOMETRY, FAMILY).unwrap();
    let limits = ReplicaLimits {
        max_peers: 0,
        max_origins: 64,
        max_memory_bytes: u64::MAX,
    };
    let own = SliceId::of(NODE, Writer(writer));
    let options = ReplicaOptions {
        windows: vec![minute],
        started: now,
        ..ReplicaOptions::of(GEOMETRY, FAMILY, own, limits)
    };
    let replica = Arc::new(Replica::try_open(options).unwrap());
    let mut slices = Slices::try_new(Arc::clone(&replica)).unwrap();
    slices.keep_ages(&[minute], now).unwrap();
    (replica, slices)
}

fn counted(keys: u64, adds: u64) -> (Node, Duration) {
    let (replica, mut slices) = start(1, Duration::ZERO);
    let mut batch: Batch<()> = Batch::sharing(replica);
    let mut now = Duration::ZERO;
    for step in 0..u64::from(STEPS) {
        for add in 0..adds / u64::from(STEPS) {
            let key = (step * (adds / u64::from(STEPS)) + add).wrapping_mul(0x9e37_79b9) % keys;
            batch
                .add(&key.to_le_bytes(), Weight::ONE, &mut |(), _| {})
                .unwrap();
            if add % 1_000_000 == 0 {
                while slices.publish(usize::MAX) != Published::Idle {}
            }
        }
        batch.finish(&mut |(), _| {});
        now += STEP;
        while slices.publish(usize::MAX) != Published::Idle {}
        slices.end_step(now);
        while slices.snapshot(&|| now, usize::MAX).is_some() {}
    }
    (Node(RefCell::new(vec![slices])), now)
}

fn reading(time: Duration) -> ClockReading {
    ClockReading {
        time,
        wall: time,
        since_boot: time,
        machine_boot: 1,
    }
}

/// A file, and how long its longest piece took.
fn save(node: &Node, now: Duration) -> (Vec<u8>, Duration) {
    let options = SavingOptions {
        file: 1,
        boot: Boot(1),
        now: reading(now),
        program: String::new(),
        names: vec![(SketchNumber::DEFAULT, "default".to_owned())],
    };
    let mut saving = Saving::new(options, Box::new(empty()));
    let (mut file, mut longest) = (Vec::with_capacity(64 << 20), Duration::ZERO);
    loop {
        let began = Instant::now();
        let step = saving.next(node, &|| now);
        longest = longest.max(began.elapsed());
        match step {
            SavingStep::Write(bytes) => file.extend_from_slice(bytes),
            SavingStep::Done(_) => return (file, longest),
            _ => {}
        }
    }
}

fn load_as(writer: u64, file: &[u8], now: Duration) -> Duration {
    let (_replica, slices) = start(writer, now);
    let checked = check(&mut &*file).unwrap();
    let options = LoadOptions {
        checked: &checked,
        node: NODE,
        now: reading(now),
        resumes: writer == 1,
        renamed: None,
        this_start: ThisStart {
            is_in_cluster: true,
            drawn: Writer(writer),
            spare: Writer(!writer),
        },
    };
    let mut slices = [slices];
    let began = Instant::now();
    load(&mut &*file, &mut slices, &options, &mut |_, _, _| ()).unwrap();
    began.elapsed()
}

fn line(keys: u64, adds: u64, rounds: usize) {
    let (node, now) = counted(keys, adds);
    let mut file = Vec::new();
    let mut times: [Vec<f64>; 5] = Default::default();
    for _ in 0..rounds {
        let began = Instant::now();
        let (written, longest) = save(&node, now);
        let saved = began.elapsed();
        file = written;
        let began = Instant::now();
        check(&mut &*file).unwrap();
        let checked = began.elapsed();
        let later = now + STEP;
        let taken = [
            saved,
            longest * 1_000,
            checked,
            load_as(2, &file, later),
            load_as(1, &file, later),
        ];
        for (times, taken) in times.iter_mut().zip(taken) {
            times.push(taken.as_secs_f64() * 1e3);
        }
    }
    let [saved, longest, checked, loaded, resumed] = times.map(|times| median(&times));
    println!(
        "| {keys} | {adds} | {:.2} | {saved:.0} | {longest:.0} | {checked:.0} | {loaded:.0} | {resumed:.0} |",
        file.len() as f64 / f64::from(1 << 20)
    );
}
