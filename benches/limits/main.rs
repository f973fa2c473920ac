//! A bench of how far a cluster passes a limit, in the simulator (`rmbd-simulator`), with real state machines and
//! virtual time.
//!
//! `cargo bench --bench limits` prints three tables; `cargo bench --bench limits -- limits.svg` draws what is admitted
//! over time, too. It takes some minutes. The figures are the same on every machine, since none is CPU time: a node
//! of the simulator tells others in the moment in which it is hit. The third table is of one node: how often a caller
//! who keeps below its limit is refused because other keys are counted in the same cells.

#![allow(missing_docs, clippy::unwrap_used)]
#![allow(clippy::print_stderr, clippy::print_stdout)]

use std::collections::VecDeque;
use std::path::PathBuf;
use std::time::Duration;

use plotters::prelude::SeriesLabelPosition;
use rmbd_cluster::ClusterLimits;
use rmbd_sketch::Geometry;
use rmbd_store::Reading;

use plot::{Chart, Points};
use rmbd_simulator::machine::WindowSpec;
use rmbd_simulator::network::Weather;
use rmbd_simulator::node::Node;
use rmbd_simulator::random::Random;
use rmbd_simulator::world::{Terms, World};
use support::command_line::{is_dry, words};

mod caller;
#[path = "../support/plot.rs"]
mod plot;
#[path = "../support/mod.rs"]
mod support;

/// The limit, and what is offered of one key to all members together.
const LIMIT: u64 = 100;
const WINDOW: Duration = Duration::from_secs(60);
const STEP: Duration = Duration::from_secs(5);
const OFFERED_PER_S: u32 = 3_000;
const TIME: Duration = Duration::from_secs(130);
/// Orders in which members are chosen.
const SEEDS: u64 = 5;

/// One-way delays; the first is a local network.
const LAGS: [Duration; 3] = [
    Duration::from_micros(50),
    Duration::from_millis(5),
    Duration::from_millis(20),
];
const MEMBERS: [usize; 2] = [3, 10];

/// Many keys that come to their limits in the same second, all at all members.
const KEYS: [usize; 3] = [100, 1_000, 10_000];
const LIMIT_OF_KEYS: u64 = 20;

/// A way to keep a limit.
#[derive(Debug, Clone, Copy)]
struct Way {
    name: &'static str,
    reading: Reading,
    is_urgent: bool,
}

const WAYS: [Way; 3] = [
    Way {
        name: "bound",
        reading: Reading::Bound,
        is_urgent: true,
    },
    Way {
        name: "smooth",
        reading: Reading::Smooth,
        is_urgent: true,
    },
    Way {
        name: "bound, nobody told ahead",
        reading: Reading::Bound,
        is_urgent: false,
    },
];

/// When one key was let in, and what that took.
struct Admitted {
    at: Vec<Duration>,
    urgent_bytes: u64,
}

fn main() {
    if is_dry() {
        return;
    }
    println!(
        "Takes of one key, {OFFERED_PER_S} a second at all members together for {} s, with a limit of {LIMIT} in {} s \
         (steps of {} s), in {SEEDS} orders of members:\n",
        TIME.as_secs(),
        WINDOW.as_secs(),
        STEP.as_secs()
    );
    println!(
        "| members | one-way delay, ms | way | most in any window (range) | urgent bytes a member |"
    );
    println!("|---|---|---|---|---|");
    let mut plotted = Vec::new();
    for members in MEMBERS {
        for lag in LAGS {
            for way in WAYS {
                let runs = (1..=SEEDS).map(|seed| one_key(members, lag, way, seed));
                let mut runs: Vec<Admitted> = runs.collect();
                runs.sort_by_key(|run| most_in_a_window(&run.at));
                let most: Vec<usize> = runs.iter().map(|run| most_in_a_window(&run.at)).collect();
                let middle = runs.swap_remove(runs.len() / 2);
                println!(
                    "| {members} | {} | {} | {} ({} to {}) | {} |",
                    ms(lag),
                    way.name,
                    most[most.len() / 2],
                    most[0],
                    most[most.len() - 1],
                    middle.urgent_bytes / members as u64
                );
                if (members, lag) == (MEMBERS[0], LAGS[1]) {
                    plotted.push((way.name, middle.at));
                }
            }
        }
    }
    many_keys();
    caller::near_its_limit();
    if let Some(plot) = words()
        .find(|word| word.ends_with(".svg"))
        .map(PathBuf::from)
    {
        draw(&plotted, &plot).expect("the plot can be drawn");
        println!("\n{}", plot.display());
    }
}

fn world(members: usize, lag: Duration, is_urgent: bool) -> World<Node> {
    let limits = ClusterLimits::default();
    let window = WindowSpec {
        span_ms: WINDOW.as_millis() as u64,
        step_ms: STEP.as_millis() as u64,
        fold: 1,
    };
    let terms = Terms {
        geometry: Geometry::new(1 << 14, 4).unwrap(),
        windows: [Some(window), None],
        limits: ClusterLimits {
            urgent_keys_a_round: limits.urgent_keys_a_round * usize::from(is_urgent),
            ..limits
        },
        ..Terms::default()
    };
    let mut world = World::<Node>::cluster(members as u64, members, terms);
    world.run_for(Duration::from_secs(10));
    world.network.weather = Weather {
        delay: (lag, lag),
        ..Weather::CLEAR
    };
    world.run_for(Duration::from_secs(2));
    world
}

fn one_key(members: usize, lag: Duration, way: Way, seed: u64) -> Admitted {
    let mut world = world(members, lag, way.is_urgent);
    let mut random = Random::new(seed);
    let mut at = Vec::new();
    let end = world.now + TIME;
    while world.now < end {
        world.run_for(Duration::from_secs(1) / OFFERED_PER_S);
        let place = random.below(members);
        if world.take_within(place, 0, LIMIT, way.reading) {
            at.push(world.now);
        }
    }
    Admitted {
        at,
        urgent_bytes: urgent_bytes(&world),
    }
}

fn urgent_bytes(world: &World<Node>) -> u64 {
    let running = world.running().into_iter();
    let sent = running.map(|place| world.machine(place).state(world.clock(place)).sent.urgent);
    sent.sum()
}

/// The most in any window of this length, to the instant.
fn most_in_a_window(times: &[Duration]) -> usize {
    let (mut inside, mut most) = (VecDeque::new(), 0);
    for &time in times {
        inside.push_back(time);
        while inside.front().is_some_and(|&first| time - first >= WINDOW) {
            inside.pop_front();
        }
        most = most.max(inside.len());
    }
    most
}

fn many_keys() {
    println!(
        "\nThree members, 5 ms of delay; all keys are taken at all members, each {} times in a second, with a limit of \
         {LIMIT_OF_KEYS} in {} s:\n",
        4 * LIMIT_OF_KEYS,
        WINDOW.as_secs()
    );
    println!("| keys | told ahead | a key on average | the most of any | urgent bytes a member |");
    println!("|---|---|---|---|---|");
    for keys in KEYS {
        for is_urgent in [true, false] {
            let (mean, most, bytes) = of_many(keys, is_urgent);
            let told = if is_urgent { "yes" } else { "no" };
            println!("| {keys} | {told} | {mean:.1} | {most} | {} |", bytes / 3);
        }
    }
}

fn of_many(keys: usize, is_urgent: bool) -> (f64, u64, u64) {
    let mut world = world(3, LAGS[1], is_urgent);
    world.keys = (0..keys)
        .map(|key| format!("key {key}").into_bytes())
        .collect();
    world
        .truth
        .values_mut()
        .for_each(|truth| truth.resize(keys, 0));
    let mut random = Random::new(1);
    let mut admitted = vec![0_u64; keys];
    const TICKS: u32 = 200;
    let takes = keys as u64 * 4 * LIMIT_OF_KEYS;
    for tick in 0..u64::from(TICKS) {
        world.run_for(Duration::from_secs(1) / TICKS);
        let share = takes * (tick + 1) / u64::from(TICKS) - takes * tick / u64::from(TICKS);
        for _ in 0..share {
            let (place, key) = (random.below(3), random.below(keys));
            admitted[key] +=
                u64::from(world.take_within(place, key, LIMIT_OF_KEYS, Reading::Bound));
        }
    }
    world.run_for(WINDOW / 12);
    let mean = admitted.iter().sum::<u64>() as f64 / keys as f64;
    let most = admitted.into_iter().max().unwrap_or_default();
    (mean, most, urgent_bytes(&world))
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}

/// What was admitted in the last window, over time.
fn draw(
    ways: &[(&'static str, Vec<Duration>)],
    path: &std::path::Path,
) -> Result<(), Box<dyn std::error::Error>> {
    let start = ways
        .iter()
        .filter_map(|(_, times)| times.first())
        .min()
        .copied();
    let start = start.unwrap_or_default();
    let title = format!(
        "admitted in the last {} s, of {LIMIT}: {} members, {} ms",
        WINDOW.as_secs(),
        MEMBERS[0],
        ms(LAGS[1])
    );
    let chart = Chart {
        title: &title,
        x: ("seconds", TIME.as_secs_f64()),
        y_end: 320.0,
        has_marks: false,
        names_at: SeriesLabelPosition::UpperRight,
        level: Some(LIMIT as f64),
    };
    let lines = ways
        .iter()
        .map(|(name, times)| (*name, over_time(times, start)));
    let lines: Vec<(&str, Points)> = lines.collect();
    plot::svg(path, (760, 320), |root| chart.draw(root, &lines))
}

fn over_time(times: &[Duration], start: Duration) -> Points {
    const TICK: Duration = Duration::from_millis(250);
    let ticks = (TIME.as_millis() / TICK.as_millis()) as u32;
    let points = (0..ticks).map(|tick| {
        let now = start + TICK * tick;
        let is_inside = |&&time: &&Duration| time <= now && now - time < WINDOW;
        let inside = times.iter().filter(is_inside).count();
        ((TICK * tick).as_secs_f64(), inside as f64)
    });
    points.collect()
}
