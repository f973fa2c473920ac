//! A bench of how a cluster grows, in the simulator (`rmbd-simulator`), with real state machines and virtual time.
//!
//! `cargo bench --bench growth` prints tables; `cargo bench --bench growth -- growth.svg` draws them, too. It takes
//! some minutes; numbers behind `--` choose the numbers of nodes. Bytes and rounds are the same on every machine. CPU
//! time is that of what a node's control thread would do.

#![allow(missing_docs, clippy::unwrap_used)]
#![allow(clippy::print_stderr, clippy::print_stdout)]

use std::path::PathBuf;
use std::time::Duration;

use plotters::prelude::SeriesLabelPosition;
use rmbd_sketch::Geometry;

use plot::{Area, Chart, Points};
use rmbd_simulator::check::{self, Expected};
use rmbd_simulator::network::{Place, Weather};
use rmbd_simulator::node::Node;
use rmbd_simulator::random::Random;
use rmbd_simulator::world::{Terms, World};
use support::command_line::{is_dry, words};

mod metered;
#[path = "../support/plot.rs"]
mod plot;
#[path = "../support/mod.rs"]
mod support;
mod windows;

const NODES: [usize; 4] = [3, 10, 30, 100];
/// Width of the sketches: a slice has 128 KiB. A hundred nodes fit a machine's memory, and the traffic for a key does
/// not depend on the width as long as deltas are sparse.
const WIDTH: u64 = 8192;
const DEPTH: u64 = 4;
/// Number of distinct keys that each node adds in a round.
const KEYS: u64 = 100;
const INTERVAL: Duration = Duration::from_millis(500);
const SETTLE_ROUNDS: u32 = 40;
const MEASURED_ROUNDS: u32 = 20;
const LIMIT_ROUNDS: u32 = 400;

/// The figures for one number of nodes.
#[derive(Debug)]
struct Row {
    nodes: usize,
    idle_bytes: f64,
    busy_bytes: f64,
    rounds: f64,
    rounds_lossy: f64,
    rounds_new: f64,
    memory_bytes: u64,
}

fn main() {
    if is_dry() {
        return;
    }
    let plot = words().find(|word| word.ends_with(".svg"));
    let chosen: Vec<usize> = words().filter_map(|word| word.parse().ok()).collect();
    let nodes = NODES.into_iter();
    let nodes: Vec<usize> = nodes
        .filter(|it| chosen.is_empty() || chosen.contains(it))
        .collect();
    let rows: Vec<Row> = nodes.iter().map(|&nodes| measure(nodes)).collect();
    let with_windows: Vec<_> = nodes.iter().map(|&nodes| windows::measure(nodes)).collect();
    print(&rows);
    windows::print(&with_windows);
    if let Some(plot) = plot.map(PathBuf::from) {
        draw(&rows, &with_windows, &plot).expect("the plot can be drawn");
        println!("\n{}", plot.display());
    }
}

fn geometry() -> Geometry {
    Geometry::new(WIDTH, DEPTH).unwrap()
}

fn measure(nodes: usize) -> Row {
    let terms = Terms {
        geometry: geometry(),
        interval: INTERVAL,
        ..Terms::default()
    };
    let mut world = World::<Node>::cluster(nodes as u64, nodes, terms);
    let mut keys = 0;
    let everybody: Vec<Place> = (0..nodes).collect();
    let mut random = Random::new(1);
    // All nodes have written something, and all have it.
    add_rounds(&mut world, &everybody, 2, &mut keys, &mut random);
    world.run_for(INTERVAL * SETTLE_ROUNDS);
    rounds_to_equal(&mut world, &everybody);
    let idle_bytes = bytes_a_round(&mut world, nodes, |world| {
        world.run_for(INTERVAL * MEASURED_ROUNDS);
    });
    let busy_bytes = bytes_a_round(&mut world, nodes, |world| {
        add_rounds(world, &everybody, MEASURED_ROUNDS, &mut keys, &mut random);
    });
    let rounds = rounds_to_equal(&mut world, &everybody);
    world.network.weather = Weather::lossy(0.2);
    add_rounds(&mut world, &everybody, 4, &mut keys, &mut random);
    let rounds_lossy = rounds_to_equal(&mut world, &everybody);
    world.network.weather = Weather::CLEAR;
    world.run_for(INTERVAL * SETTLE_ROUNDS);
    let memory_bytes = world.machine(0).replica.memory_bytes();
    let new = world.host();
    world.hosts[new].seeds = vec![0];
    world.start(new);
    let rounds_new = rounds_to_equal(&mut world, &[everybody, vec![new]].concat());
    let row = Row {
        nodes,
        idle_bytes,
        busy_bytes,
        rounds,
        rounds_lossy,
        rounds_new,
        memory_bytes,
    };
    eprintln!("{row:?}");
    row
}

/// Makes each node add its keys evenly over each round.
fn add_rounds(
    world: &mut World<Node>,
    places: &[Place],
    rounds: u32,
    keys: &mut u64,
    random: &mut Random,
) {
    const STEPS: u64 = 10;
    for _ in 0..u64::from(rounds) * STEPS {
        for &place in places {
            let from = *keys;
            *keys += KEYS / STEPS;
            world.fill(place, (from..*keys).map(|key| key ^ (random.next() << 32)));
        }
        world.run_for(INTERVAL / STEPS as u32);
    }
}

/// Bytes that leave a node in a round, on average.
fn bytes_a_round(world: &mut World<Node>, nodes: usize, act: impl FnOnce(&mut World<Node>)) -> f64 {
    let sent = |world: &World<Node>| {
        (0..nodes)
            .map(|at| world.process(at).bytes_out)
            .sum::<u64>()
    };
    let before = sent(world);
    act(world);
    (sent(world) - before) as f64 / nodes as f64 / f64::from(MEASURED_ROUNDS)
}

/// Number of rounds until all nodes are equal, cell for cell.
fn rounds_to_equal(world: &mut World<Node>, places: &[Place]) -> f64 {
    let groups: Vec<Expected> = check::expected(world, places);
    let took = world.run_until(INTERVAL / 10, INTERVAL * LIMIT_ROUNDS, |world| {
        groups.iter().all(|group| check::is_equal(world, group))
    });
    let took = took.expect("they become equal");
    took.as_secs_f64() / INTERVAL.as_secs_f64()
}

fn print(rows: &[Row]) {
    println!(
        "{DEPTH} x {WIDTH} cells, a round every {} ms; busy: {KEYS} distinct keys a round on each node.\n",
        INTERVAL.as_millis()
    );
    println!(
        "| nodes | idle, bytes a round: a node | to each peer | busy: a node | to each peer | rounds until equal | with 20 % loss | until a new node has all | cells a node |"
    );
    println!("|---:|---:|---:|---:|---:|---:|---:|---:|---:|");
    for row in rows {
        let peers = (row.nodes - 1) as f64;
        println!(
            "| {} | {:.0} | {:.0} | {:.0} | {:.0} | {:.1} | {:.1} | {:.1} | {:.2} MiB |",
            row.nodes,
            row.idle_bytes,
            row.idle_bytes / peers,
            row.busy_bytes,
            row.busy_bytes / peers,
            row.rounds,
            row.rounds_lossy,
            row.rounds_new,
            row.memory_bytes as f64 / f64::from(1 << 20)
        );
    }
}

fn draw(
    rows: &[Row],
    with_windows: &[windows::Row],
    path: &std::path::Path,
) -> Result<(), Box<dyn std::error::Error>> {
    plot::svg(path, (960, 600), |root| panels(rows, with_windows, root))
}

fn panels(
    rows: &[Row],
    with_windows: &[windows::Row],
    root: &Area<'_>,
) -> Result<(), Box<dyn std::error::Error>> {
    let of = |value: fn(&Row) -> f64| -> Points {
        rows.iter()
            .map(|row| (row.nodes as f64, value(row)))
            .collect()
    };
    let panels = root.split_evenly((2, 3));
    let busy = format!("{KEYS} keys a round");
    let bytes = [
        (busy.as_str(), of(|row| row.busy_bytes / 1024.0)),
        ("idle", of(|row| row.idle_bytes / 1024.0)),
    ];
    panel(&panels[0], "KiB a round out of a node", &bytes)?;
    let rounds = [
        ("20 % loss", of(|row| row.rounds_lossy)),
        ("no loss", of(|row| row.rounds)),
        ("a new node", of(|row| row.rounds_new)),
    ];
    panel(&panels[1], "rounds until equal", &rounds)?;
    let memory = [(
        "cells",
        of(|row| row.memory_bytes as f64 / f64::from(1 << 20)),
    )];
    panel(&panels[2], "MiB a node, of 128 KiB slices", &memory)?;
    let of = |adds: usize, value: fn(&windows::Pair) -> f64| -> Points {
        let points = with_windows.iter();
        points
            .map(|row| (row.nodes as f64, value(&row.pairs[adds])))
            .collect()
    };
    let (bytes, cpu) = (
        "MiB out of a node in 5 s, 10 000 keys",
        "control thread, ms in 5 s, 10 000 keys",
    );
    const MIB: f64 = (1 << 20) as f64;
    let lines = [
        ("windows", of(1, |pair| pair.on.bytes / MIB)),
        ("none", of(1, |pair| pair.off.bytes / MIB)),
    ];
    panel(&panels[3], bytes, &lines)?;
    let lines = [
        ("windows", of(1, |pair| pair.on.cpu_us / 1e3)),
        ("none", of(1, |pair| pair.off.cpu_us / 1e3)),
    ];
    panel(&panels[4], cpu, &lines)?;
    let lines = [
        ("windows", of(0, |pair| pair.on.cpu_us / 1e3)),
        ("none", of(0, |pair| pair.off.cpu_us / 1e3)),
    ];
    panel(&panels[5], "control thread, ms in 5 s, idle", &lines)
}

fn panel(
    area: &Area<'_>,
    title: &str,
    lines: &[(&str, Points)],
) -> Result<(), Box<dyn std::error::Error>> {
    let values = lines
        .iter()
        .flat_map(|(_, points)| points)
        .map(|point| point.1);
    let chart = Chart {
        title,
        x: ("nodes", 105.0),
        y_end: values.fold(0.0, f64::max) * 1.4,
        has_marks: true,
        names_at: SeriesLabelPosition::UpperLeft,
        level: None,
    };
    chart.draw(area, lines)
}
