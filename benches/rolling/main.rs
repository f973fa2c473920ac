//! A bench of a rolling update: three node processes are restarted one after the other a hundred times, under load by
//! exactly-once clients. It checks whether every node ends at the truth, and measures the cost of nodes and counts on
//! the way.
//!
//! `cargo bench --bench rolling -- --restarts 100 FILE.svg` prints Markdown, and draws a plot. Sketches have 4 x 2^20
//! cells, and rounds take 200 ms. Each node is ended by SIGTERM and started again with its id. The next node follows
//! when it is ready and lacks nothing. A client for each node adds to 2 000 keys all the time. An add that the client
//! reports as *uncertain* (the node was ended in the middle of it) may have been counted or not. Every ten restarts
//! the load rests, all nodes are compared with the acknowledged adds, key by key, and counts are asked for.

#![allow(missing_docs, clippy::unwrap_used)]
#![allow(clippy::print_stderr, clippy::print_stdout)]

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use plotters::prelude::*;
use rmbd_client::{Client, ClientOptions};
use rmbd_client::{ClientError, Fate};
use rmbd_cluster::seal::generate_key_text;
use rustix::process::Signal;

use node::{PATIENCE, Place};
use rmbd_testkit::proxy::Harm;
use rmbd_testkit::random::Random;
use support::command_line::is_dry;
use support::cpu_time;
use support::fates::fate;
use support::figures::median;

// Only parts of these modules are used here.
#[allow(dead_code)]
#[path = "../soak/node.rs"]
mod node;
#[path = "../support/mod.rs"]
mod support;

const NODES: usize = 3;
const KEYS: usize = 2_000;
const OPTIONS: [&str; 4] = [
    "--threads=1",
    "--gossip-interval=200",
    "--log=warn",
    "--http=127.0.0.1:0",
];
const CLIENT_TIMEOUT: Duration = Duration::from_secs(30);
/// Number of restarts between two checks.
const STEP: usize = 10;
/// Number of counts that each node is asked for in a check.
const COUNTS: usize = 200_000;
const COUNTS_ROUNDS: usize = 3;

/// The acknowledged weight of each key, and the weight that may have been added beside it.
struct Truth {
    least: Vec<u64>,
    most: Vec<u64>,
}

struct Load {
    truth: Mutex<Truth>,
    rests: AtomicBool,
    resting: AtomicU64,
    is_over: AtomicBool,
}

#[derive(Debug)]
struct Row {
    restarts: usize,
    acknowledged: u64,
    uncertain: u64,
    slices: usize,
    resident_mib: f64,
    count_ns: f64,
}

impl Load {
    fn run(&self, server: SocketAddr, mut random: Random) {
        let options = ClientOptions {
            timeout: CLIENT_TIMEOUT,
            ..ClientOptions::default()
        };
        let mut client = None;
        while !self.is_over.load(SeqCst) {
            if self.rests.load(SeqCst) {
                self.rest();
                continue;
            }
            let Some(connected) = &mut client else {
                client = Client::connect(server, options).ok();
                continue;
            };
            let keys: Vec<usize> = (0..1 + random.below(300))
                .map(|_| random.below(KEYS as u64) as usize)
                .collect();
            let outcome = connected.add_many(keys.iter().map(|&key| (name(key), 1)));
            if outcome.is_err() {
                client = None;
                std::thread::sleep(Duration::from_millis(20));
            }
            self.note(&keys, &outcome);
        }
    }

    fn note(&self, keys: &[usize], outcome: &Result<u64, ClientError>) {
        let mut truth = self.truth.lock().unwrap();
        for (position, &key) in (0..).zip(keys) {
            let fate = fate(outcome, position);
            truth.least[key] += u64::from(fate.is_none());
            truth.most[key] += u64::from(fate != Some(Fate::NotAdded));
        }
    }

    fn rest(&self) {
        self.resting.fetch_add(1, SeqCst);
        while self.rests.load(SeqCst) && !self.is_over.load(SeqCst) {
            std::thread::sleep(Duration::from_millis(2));
        }
        self.resting.fetch_sub(1, SeqCst);
    }
}

fn name(key: usize) -> String {
    format!("key {key}")
}

fn main() {
    if is_dry() {
        return;
    }
    let mut words: Vec<String> = std::env::args()
        .skip(1)
        .filter(|word| word != "--bench")
        .collect();
    let restarts = words
        .iter()
        .position(|word| word == "--restarts")
        .map_or(100, |at| {
            let number = words.drain(at..at + 2).nth(1).unwrap();
            number.parse().unwrap()
        });
    let folder = std::env::temp_dir().join(format!("rmbd-rolling-{}", std::process::id()));
    std::fs::create_dir(&folder).unwrap();
    let mut places = start_all(&folder);
    let load = Load {
        truth: Mutex::new(Truth {
            least: vec![0; KEYS],
            most: vec![0; KEYS],
        }),
        rests: AtomicBool::new(false),
        resting: AtomicU64::new(0),
        is_over: AtomicBool::new(false),
    };
    let began = Instant::now();
    let rows = std::thread::scope(|scope| {
        // Whatever happens, clients end.
        let over = Over(&load);
        for (at, place) in places.iter().enumerate() {
            let (load, server) = (&load, place.for_clients());
            scope.spawn(move || load.run(server, Random(at as u64 + 1)));
        }
        let rows = roll(&mut places, &load, restarts);
        drop(over);
        rows
    });
    let _ = std::fs::remove_dir_all(&folder);
    println!(
        "{restarts} rolling restarts in {:.0} s, {NODES} nodes, 4 x 2^20.\n",
        began.elapsed().as_secs_f64()
    );
    print(&rows);
    if let Some(file) = words.first().map(PathBuf::from) {
        draw(&rows, &file).expect("the plot can be drawn");
        println!("\n{}", file.display());
    }
}

struct Over<'l>(&'l Load);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.is_over.store(true, SeqCst);
    }
}

fn start_all(folder: &std::path::Path) -> Vec<Place> {
    let keys = folder.join("keys");
    std::fs::write(&keys, generate_key_text(std::array::from_fn(|at| at as u8))).unwrap();
    std::fs::set_permissions(&keys, std::fs::Permissions::from_mode(0o600)).unwrap();
    let mut places: Vec<Place> = (0..NODES as u8)
        .map(|number| Place::new(number, Harm::NONE, 1))
        .collect();
    let gates: Vec<SocketAddr> = places.iter().map(Place::gate).collect();
    for (number, place) in places.iter_mut().enumerate() {
        let others: Vec<SocketAddr> = (0..NODES)
            .filter(|&other| other != number)
            .map(|other| gates[other])
            .collect();
        place.is_to(folder, keys.to_str().unwrap(), &others, &OPTIONS);
        place.start();
    }
    places
}

fn roll(places: &mut [Place], load: &Load, restarts: usize) -> Vec<Row> {
    let mut rows = vec![look(places, load, 0)];
    for restart in 0..restarts {
        let place = &mut places[restart % NODES];
        let (code, _) = place.end(Signal::TERM);
        assert_eq!(code, Some(0), "{}", place.log.lock().unwrap());
        place.start();
        wait_for("a node that lacks nothing", || {
            let readiness = place.status().unwrap().readiness;
            readiness.waits_for.is_empty() && readiness.lacks.is_empty()
        });
        if (restart + 1) % STEP == 0 || restart + 1 == restarts {
            rows.push(look(places, load, restart + 1));
        }
    }
    rows
}

fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < PATIENCE, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Checks that all nodes hold the same, and exactly what was acknowledged. Returns their costs.
fn look(places: &mut [Place], load: &Load, restarts: usize) -> Row {
    load.rests.store(true, SeqCst);
    wait_for("clients that rest", || {
        load.resting.load(SeqCst) == NODES as u64
    });
    wait_for("equal nodes", || {
        let held: Vec<_> = places.iter().map(Place::contents).collect();
        held.iter().all(|one| *one == held[0])
    });
    let counts: Vec<Vec<u64>> = places.iter().map(counts).collect();
    let truth = load.truth.lock().unwrap();
    for key in 0..KEYS {
        let range = truth.least[key]..=truth.most[key];
        for (at, counts) in counts.iter().enumerate() {
            let count = counts[key];
            assert!(
                range.contains(&count),
                "node {at} counts {count} of key {key}, not {range:?}"
            );
        }
        let first = counts[0][key];
        assert!(
            counts.iter().all(|counts| counts[key] == first),
            "key {key}"
        );
    }
    let row = Row {
        restarts,
        acknowledged: truth.least.iter().sum(),
        uncertain: truth.most.iter().sum::<u64>() - truth.least.iter().sum::<u64>(),
        slices: places.iter().map(|place| place.held().len()).max().unwrap(),
        resident_mib: most(
            places
                .iter_mut()
                .map(|place| place.usage().unwrap().0.resident_bytes as f64),
        ) / f64::from(1 << 20),
        count_ns: most(places.iter().map(count_ns)),
    };
    load.rests.store(false, SeqCst);
    eprintln!("{row:?}");
    row
}

fn most(all: impl Iterator<Item = f64>) -> f64 {
    all.fold(0.0, f64::max)
}

fn client(place: &Place) -> Client {
    Client::connect(place.udp(), ClientOptions::default()).unwrap()
}

fn counts(place: &Place) -> Vec<u64> {
    let names: Vec<String> = (0..KEYS).map(name).collect();
    let counts = client(place).count_many(&names).unwrap();
    counts.into_iter().map(|count| count.estimate).collect()
}

/// Nanoseconds of the data thread for a count.
fn count_ns(place: &Place) -> f64 {
    let mut client = client(place);
    let names: Vec<String> = (0..COUNTS).map(name).collect();
    let data_thread_ns = || cpu_time::of_threads(place.process_id(), "rmbd-data-0");
    let costs: Vec<f64> = (0..COUNTS_ROUNDS)
        .map(|_| {
            let before = data_thread_ns();
            client.count_many(&names).unwrap();
            (data_thread_ns() - before) / COUNTS as f64
        })
        .collect();
    median(&costs)
}

fn print(rows: &[Row]) {
    println!(
        "| restarts | adds acknowledged | uncertain | slices | resident, the largest node | CPU a count, the slowest |"
    );
    println!("|---:|---:|---:|---:|---:|---:|");
    for row in rows {
        println!(
            "| {} | {} | {} | {} | {:.1} MiB | {:.0} ns |",
            row.restarts,
            row.acknowledged,
            row.uncertain,
            row.slices,
            row.resident_mib,
            row.count_ns
        );
    }
}

fn draw(rows: &[Row], path: &std::path::Path) -> Result<(), Box<dyn std::error::Error>> {
    let root = SVGBackend::new(path, (640, 300)).into_drawing_area();
    root.fill(&WHITE)?;
    let panels = root.split_evenly((1, 2));
    let of = |value: fn(&Row) -> f64| -> Vec<(f64, f64)> {
        rows.iter()
            .map(|row| (row.restarts as f64, value(row)))
            .collect()
    };
    panel(
        &panels[0],
        "resident MiB, the largest node",
        &of(|row| row.resident_mib),
    )?;
    panel(&panels[1], "ns of CPU a count", &of(|row| row.count_ns))?;
    root.present()?;
    Ok(())
}

fn panel(
    area: &DrawingArea<SVGBackend<'_>, plotters::coord::Shift>,
    title: &str,
    points: &[(f64, f64)],
) -> Result<(), Box<dyn std::error::Error>> {
    const INK: RGBColor = RGBColor(0x0d, 0x94, 0x88);
    let last = points.iter().map(|point| point.0).fold(1.0, f64::max);
    let highest = points.iter().map(|point| point.1).fold(0.0, f64::max) * 1.4;
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 16))
        .margin(10)
        .x_label_area_size(32)
        .y_label_area_size(48)
        .build_cartesian_2d(0.0..last * 1.05, 0.0..highest)?;
    chart
        .configure_mesh()
        .x_desc("restarts")
        .x_label_formatter(&|restarts| format!("{restarts:.0}"))
        .light_line_style(TRANSPARENT)
        .draw()?;
    chart.draw_series(LineSeries::new(points.to_vec(), INK.stroke_width(2)))?;
    chart.draw_series(
        points
            .iter()
            .map(|&point| Circle::new(point, 3, INK.filled())),
    )?;
    Ok(())
}
