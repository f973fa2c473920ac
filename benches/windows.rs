//! What windows cost: adds with windows beside adds without, counts in windows beside counts of all time, takes beside
//! hits, the control thread that takes the snapshots, and how long counts take meanwhile.
//!
//! `cargo bench --bench windows` prints Markdown. Keys have 16 bytes; where nothing else is said the sketch is
//! 4 x 2^20 and has the window of 60 s by 5 s that a node has where nothing is said. `often` is a window of 1 s by
//! 50 ms, the shortest step. Two processors are needed: what serves is pinned to the first, the sender to the last.
//! `RMBD_BENCH_ROUNDS` (default 5) sets the number of rounds, in each of which every way has its turn. Words behind
//! `--` choose the ways that have them in their names.

#![allow(missing_docs, clippy::unwrap_used)]
#![allow(clippy::print_stderr, clippy::print_stdout)]

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use rmbd::config::{ClusterChoice, ClusterConfig, HttpChoice, NodeConfig, WindowConfig};
use rmbd::node::Node;
use rmbd_client::{AsyncClient, ClientOptions, Window};
use rmbd_io::cpu;
use rmbd_sketch::{Geometry, HashFamily, Weight};
use rmbd_store::{
    Batch, Estimate, Reading, Replica, ReplicaOptions, Slices, WindowPlan, WindowQuestion,
};
use tokio::task::JoinSet;

use support::adds::datagrams;
use support::command_line::{is_chosen, is_dry, rounds};
use support::cpu_time;
use support::figures::median_min_max;
use support::flood::flood;
use support::keys::{Key, traffic, uniform};

#[path = "windows/latency.rs"]
mod latency;
mod support;

/// Time for which each way is measured.
const MEASURE: Duration = Duration::from_millis(1_000);
const FAMILY: HashFamily = HashFamily::Xxh3 { seed: 0x5EED };
/// Number of keys, more than the second-level cache holds.
const KEYS: usize = 1 << 18;
/// Most bytes of one send.
const TRAIN_BYTES: usize = 65_507;
/// Requests of a client that are under way.
const OUTSTANDING: usize = 256;
/// A control thread is measured over so many steps of this length.
const STEPS: u32 = 4;
const STEP: Duration = Duration::from_millis(250);
/// So many steps after the last add all snapshots hold the same: the window has twelve.
const STILL_STEPS: u32 = 16;
/// Columns of the sketch whose cells are all touched in each step.
const SMALL_WIDTH: u64 = 1 << 16;

/// Which windows a sketch keeps.
#[derive(Clone, Copy, PartialEq)]
enum Kept {
    Nothing,
    /// 60 s by 5 s.
    Minute,
    /// 1 s by 50 ms.
    Often,
}

impl Kept {
    fn configs(self) -> Vec<WindowConfig> {
        let window = |span_ms, step_ms| WindowConfig {
            span_ms,
            step_ms: Some(step_ms),
            width: None,
        };
        match self {
            Self::Nothing => Vec::new(),
            Self::Minute => vec![window(60_000, 5_000)],
            Self::Often => vec![window(1_000, 50)],
        }
    }

    fn plans(self, geometry: Geometry) -> Vec<WindowPlan> {
        let plan = |window: &WindowConfig| {
            let (span_ms, step_ms) = (window.span_ms, window.step_ms);
            WindowPlan::new(span_ms, step_ms, None, geometry, FAMILY).unwrap()
        };
        self.configs().iter().map(plan).collect()
    }

    fn span_ms(self) -> u64 {
        self.configs().first().map_or(0, |window| window.span_ms)
    }
}

/// What is asked.
#[derive(Clone, Copy, PartialEq)]
enum Ask {
    AllTime,
    Bound,
    Smooth,
    Hit,
    Take,
}

/// A way: its name, and a function that measures one figure.
type Way<'a> = (&'a str, Box<dyn Fn() -> f64 + 'a>);

fn figure<'a>(measure: impl Fn() -> f64 + 'a) -> Box<dyn Fn() -> f64 + 'a> {
    Box::new(measure)
}

fn main() {
    if is_dry() {
        return;
    }
    let keys: Vec<Key> = traffic().take(KEYS).collect();
    let (often, minute, off) = (Kept::Often, Kept::Minute, Kept::Nothing);
    table(
        "Adds, CPU ns each",
        vec![
            ("add, store, off", Box::new(|| store_adds(off, &keys))),
            ("add, store, 60 s", Box::new(|| store_adds(minute, &keys))),
            ("add, store, often", Box::new(|| store_adds(often, &keys))),
            ("add, node, off", Box::new(|| node_adds(off, &keys))),
            ("add, node, 60 s", Box::new(|| node_adds(minute, &keys))),
            ("add, node, often", Box::new(|| node_adds(often, &keys))),
        ],
    );
    let in_store = |kept, ask| {
        figure({
            let keys = &keys;
            move || store_counts(kept, ask, keys)
        })
    };
    let in_node = |kept, ask| figure(move || node_asks(kept, ask));
    table(
        "Counts, CPU ns each; in a node a datagram each",
        vec![
            ("count, store, all time", in_store(minute, Ask::AllTime)),
            ("count, store, bound", in_store(minute, Ask::Bound)),
            ("count, store, smooth", in_store(minute, Ask::Smooth)),
            ("count, store, bound, often", in_store(often, Ask::Bound)),
            ("count, node, all time", in_node(minute, Ask::AllTime)),
            ("count, node, bound", in_node(minute, Ask::Bound)),
            ("count, node, smooth", in_node(minute, Ask::Smooth)),
            ("count, node, bound, often", in_node(often, Ask::Bound)),
            ("count, node, smooth, often", in_node(often, Ask::Smooth)),
            ("limit, node, a hit of all time", in_node(minute, Ask::Hit)),
            ("limit, node, a take of 60 s", in_node(minute, Ask::Take)),
        ],
    );
    let control =
        |has_windows, keys, is_member| figure(move || control_thread(has_windows, keys, is_member));
    table(
        "The control thread, CPU us a step of 250 ms, sketch 4 x 2^16",
        vec![
            ("control, alone, off, idle", control(false, 0, false)),
            ("control, alone, on, idle", control(true, 0, false)),
            (
                "control, alone, off, 10 000 keys",
                control(false, MANY, false),
            ),
            (
                "control, alone, on, 10 000 keys",
                control(true, MANY, false),
            ),
            (
                "control, alone, off, every cell",
                control(false, EVERY_CELL, false),
            ),
            (
                "control, alone, on, every cell",
                control(true, EVERY_CELL, false),
            ),
            ("control, member, off, idle", control(false, 0, true)),
            ("control, member, on, idle", control(true, 0, true)),
            (
                "control, member, off, 10 000 keys",
                control(false, MANY, true),
            ),
            (
                "control, member, on, 10 000 keys",
                control(true, MANY, true),
            ),
            (
                "control, member, off, every cell",
                control(false, EVERY_CELL, true),
            ),
            (
                "control, member, on, every cell",
                control(true, EVERY_CELL, true),
            ),
        ],
    );
    latency::table();
}

/// Distinct keys of a step.
const MANY: usize = 10_000;
/// So many keys that a row has a cell in ten thousand that none of them is in.
const EVERY_CELL: usize = 9 * SMALL_WIDTH as usize;

/// Prints a table of the chosen ways, and each of them beside the first of its kind in its place.
fn table(head: &str, mut ways: Vec<Way<'_>>) {
    ways.retain(|(name, _)| is_chosen(name));
    if ways.is_empty() {
        return;
    }
    let rounds = rounds(5);
    let mut figures = vec![Vec::new(); ways.len()];
    for _ in 0..rounds {
        for ((_, way), figures) in ways.iter().zip(&mut figures) {
            figures.push(way());
        }
    }
    println!("### {head}\n");
    println!(
        "| way | median [min-max] of {rounds} | to the first of its kind, of the same round |"
    );
    println!("|---|---|---|");
    for ((name, _), row) in ways.iter().zip(&figures) {
        let first = ways.iter().position(|way| kind(way.0).eq(kind(name)));
        let pairs = row.iter().zip(&figures[first.unwrap_or(0)]);
        let ratios: Vec<f64> = pairs.map(|(one, first)| one / first).collect();
        let (figure, ratio) = (median_min_max(row, 1), median_min_max(&ratios, 2));
        println!("| {name} | {figure} | {ratio} |");
    }
    println!();
}

/// The first two parts of a name: what is done, and where.
fn kind(name: &str) -> impl Iterator<Item = &str> {
    name.split(", ").take(2)
}

// --- In the store ---

/// A sketch, and a thread that takes its snapshots as long as `measure` runs.
fn with_snapshots(kept: Kept, measure: impl FnOnce(Arc<Replica>, Instant) -> f64 + Send) -> f64 {
    let options = ReplicaOptions {
        max_origins: 1,
        windows: kept.plans(Geometry::DEFAULT),
        ..ReplicaOptions::new(Geometry::DEFAULT, FAMILY)
    };
    let replica = Arc::new(Replica::try_open(options).unwrap());
    rmbd_io::huge_pages::advise(replica.own().memory());
    let mut slices = Slices::try_new(Arc::clone(&replica)).unwrap();
    let (done, start) = (AtomicBool::new(false), Instant::now());
    std::thread::scope(|scope| {
        let done = &done;
        scope.spawn(move || {
            let _ = cpu::pin_to(*cpu::allowed().last().unwrap());
            while !done.load(Relaxed) {
                slices.publish(usize::MAX);
                while slices.snapshot(&|| start.elapsed(), 1 << 18).is_some() {}
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        let measured = scope.spawn(|| {
            let _ = cpu::pin_to(cpu::allowed()[0]);
            measure(replica, start)
        });
        let figure = measured.join();
        done.store(true, Relaxed);
        figure.unwrap()
    })
}

/// CPU nanoseconds of one of the operations that `pass` does `KEYS` of.
fn cost_of(mut pass: impl FnMut()) -> f64 {
    // This runs until the sketch's pages are there.
    (0..4).for_each(|_| pass());
    let (cpu, start, mut passes) = (cpu_time::of_this_thread(), Instant::now(), 0);
    while start.elapsed() < MEASURE {
        pass();
        passes += 1;
    }
    let cpu = cpu_time::of_this_thread() - cpu;
    cpu.as_nanos() as f64 / (passes * KEYS) as f64
}

fn add_all(batch: &mut Batch<()>, keys: &[Key]) {
    // So much at once as a data thread takes between two pauses.
    for keys in keys.chunks(1 << 14) {
        for key in keys {
            while batch.add(key, Weight::ONE, &mut |(), _| {}).is_err() {
                // The next pass lets more in.
                batch.finish(&mut |(), _| {});
                std::thread::yield_now();
            }
        }
        batch.finish(&mut |(), _| {});
    }
}

fn store_adds(kept: Kept, keys: &[Key]) -> f64 {
    with_snapshots(kept, |replica, _| {
        let mut batch = Batch::new(replica);
        cost_of(|| add_all(&mut batch, keys))
    })
}

fn store_counts(kept: Kept, ask: Ask, keys: &[Key]) -> f64 {
    let reading = match ask {
        Ask::Smooth => Reading::Smooth,
        _ => Reading::Bound,
    };
    with_snapshots(kept, |replica, start| {
        let window = replica.find_window(kept.span_ms()).unwrap();
        let mut batch = Batch::new(replica);
        add_all(&mut batch, keys);
        cost_of(|| {
            let mut sum = 0;
            let mut answer = |(), estimate: Estimate| sum += estimate.count;
            // A train's questions have one time.
            for keys in keys.chunks(64) {
                let now = start.elapsed();
                let question = WindowQuestion {
                    window,
                    reading,
                    now,
                };
                for key in keys {
                    match ask {
                        Ask::AllTime => batch.count(key, (), &mut answer),
                        _ => batch.count_in(key, question, (), &mut answer),
                    }
                }
            }
            batch.finish(&mut answer);
            black_box(sum);
        })
    })
}

// --- In a node ---

fn node(kept: Kept) -> Node {
    Node::start(NodeConfig {
        threads: Some(1),
        http: HttpChoice::Off,
        windows: kept.configs(),
        cluster: ClusterConfig {
            address: ClusterChoice::Off,
            ..ClusterConfig::default()
        },
        ..NodeConfig::at("127.0.0.1:0")
    })
    .unwrap()
}

fn data_thread_ns() -> f64 {
    cpu_time::of_threads(std::process::id(), "rmbd-data-0")
}

/// The data thread's cost of an add under a flood.
fn node_adds(kept: Kept, keys: &[Key]) -> f64 {
    let (bytes, datagram_bytes) = datagrams(keys);
    let segments = (TRAIN_BYTES / datagram_bytes).min(64);
    let (node, done) = (node(kept), AtomicBool::new(false));
    let cost = std::thread::scope(|scope| {
        let trains = bytes.chunks_exact(segments * datagram_bytes);
        let trains = trains.map(move |train| (train, datagram_bytes as u16));
        scope.spawn(|| flood(node.udp_addr(), trains, &done));
        // This waits until the sketch's pages are there and the flow is steady.
        while node.status().messages.add < 4_000_000 {
            std::thread::sleep(Duration::from_millis(5));
        }
        let before = (node.status().messages.add, data_thread_ns());
        std::thread::sleep(MEASURE);
        let after = (node.status().messages.add, data_thread_ns());
        done.store(true, Relaxed);
        (after.1 - before.1) / (after.0 - before.0) as f64
    });
    node.stop().unwrap();
    cost
}

/// The data thread's cost of a request that asks one thing, of a client that keeps many under way.
fn node_asks(kept: Kept, ask: Ask) -> f64 {
    let node = node(kept);
    let (address, span) = (node.udp_addr(), Duration::from_millis(kept.span_ms()));
    let before = data_thread_ns();
    let client = std::thread::spawn(move || {
        let _ = cpu::pin_to(*cpu::allowed().last().unwrap());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async move {
            let connected = AsyncClient::connect(address, ClientOptions::default());
            let client = connected.await.unwrap();
            let (start, mut tasks) = (Instant::now(), JoinSet::new());
            for task in 0..OUTSTANDING as u64 {
                tasks.spawn(one_after_the_other(client.clone(), ask, span, task, start));
            }
            tasks.join_all().await.iter().sum::<u64>()
        })
    });
    let asked = client.join().unwrap();
    let cost = (data_thread_ns() - before) / asked as f64;
    node.stop().unwrap();
    cost
}

/// Asks until the time is over; how often.
async fn one_after_the_other(
    client: AsyncClient,
    ask: Ask,
    span: Duration,
    task: u64,
    start: Instant,
) -> u64 {
    let (sketch, mut keys, mut asked) = (client.default_sketch(), uniform(task), 0);
    while start.elapsed() < MEASURE {
        let Some(key) = keys.next() else {
            break;
        };
        match ask {
            Ask::AllTime => drop(sketch.count(key).await.unwrap()),
            Ask::Bound => drop(sketch.count_in(key, Window::bound(span)).await.unwrap()),
            Ask::Smooth => drop(sketch.count_in(key, Window::smooth(span)).await.unwrap()),
            Ask::Hit => drop(sketch.hit(key, 1, 100).await.unwrap()),
            Ask::Take => {
                let taken = sketch.take(key, 1, 100, Window::smooth(span));
                taken.await.unwrap();
            }
        }
        asked += 1;
    }
    asked
}

/// Microseconds of the control thread in a step, in which so many distinct keys are added.
fn control_thread(has_windows: bool, keys: usize, is_member: bool) -> f64 {
    let window = WindowConfig {
        span_ms: 12 * STEP.as_millis() as u64,
        step_ms: Some(STEP.as_millis() as u64),
        width: None,
    };
    let cluster = if is_member {
        let address = ClusterChoice::At("127.0.0.1:0".to_owned());
        ClusterConfig {
            address,
            ..ClusterConfig::default()
        }
    } else {
        ClusterConfig {
            address: ClusterChoice::Off,
            ..ClusterConfig::default()
        }
    };
    let config = NodeConfig {
        geometry: Geometry::new(SMALL_WIDTH, 4).unwrap(),
        windows: if has_windows {
            vec![window]
        } else {
            Vec::new()
        },
        threads: Some(1),
        http: HttpChoice::Off,
        ..NodeConfig::at("127.0.0.1:0")
    };
    // A member without others keeps the ages of what it counts, as they are told to whoever joins.
    let node = Node::start(NodeConfig { cluster, ..config }).unwrap();
    let (mut session, mut random) = (node.session::<()>(), uniform(0x5EED + keys as u64));
    let weight = session.weigh(1).unwrap();
    let mut step = |keys: usize| {
        let start = Instant::now();
        for key in random.by_ref().take(keys) {
            let to = rmbd::engine::Admitted::to(rmbd_store::SketchIndex::DEFAULT);
            session.add(to, &key, weight, &mut |(), _| {}).unwrap();
        }
        session.finish(&mut |(), _| {});
        std::thread::sleep(STEP.saturating_sub(start.elapsed()));
    };
    let control_thread_ns = || cpu_time::of_threads(std::process::id(), "rmbd-control");
    // A sketch that stands still has counted something before.
    step(keys.max(MANY));
    if keys == 0 {
        (0..STILL_STEPS).for_each(|_| step(0));
    }
    let before = control_thread_ns();
    (0..STEPS).for_each(|_| step(keys));
    let cost = (control_thread_ns() - before) / f64::from(STEPS) / 1e3;
    node.stop().unwrap();
    cost
}
