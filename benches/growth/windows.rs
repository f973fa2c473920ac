//! What windows add to the bytes of a cluster, and to the CPU time of its control threads.

use std::time::Duration;

use rmbd_simulator::machine::{WindowSpec, Windows};
use rmbd_simulator::network::Place;
use rmbd_simulator::random::Random;
use rmbd_simulator::world::{Terms, World};

use super::metered::Metered;
use super::{DEPTH, INTERVAL, SETTLE_ROUNDS, WIDTH, geometry};

/// The window that a sketch has where nothing is said.
const MINUTE: WindowSpec = WindowSpec {
    span_ms: 60_000,
    step_ms: STEP.as_millis() as u64,
    fold: 1,
};
const STEP: Duration = Duration::from_secs(5);
/// So many steps after the last add all snapshots hold the same.
const IDLE_STEPS: u32 = 16;
/// Parts of a step in which keys are added evenly.
const PARTS: u32 = 50;
/// So many keys that a row has a cell in ten thousand that none of them is in.
const EVERY_CELL: u64 = 9 * WIDTH;

/// What is added in a step, on each node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Adds {
    Nothing,
    /// So many distinct keys, evenly over the step.
    Evenly(u64),
    /// So many at once, at the beginning of the step.
    AtOnce(u64),
}

const ADDS: [(&str, Adds); 3] = [
    ("idle", Adds::Nothing),
    ("10 000 keys a step", Adds::Evenly(10_000)),
    ("every cell touched", Adds::AtOnce(EVERY_CELL)),
];

/// The costs of a node in a step, on average.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Costs {
    pub(crate) bytes: f64,
    pub(crate) cpu_us: f64,
}

/// What is added, and the costs without windows and with.
#[derive(Debug)]
pub(crate) struct Pair {
    adds: &'static str,
    pub(crate) off: Costs,
    pub(crate) on: Costs,
}

/// The pairs of one number of nodes.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) nodes: usize,
    pub(crate) pairs: Vec<Pair>,
}

pub(crate) fn measure(nodes: usize) -> Row {
    let [off, on] = [[None; 2], [Some(MINUTE), None]].map(|windows| costs(nodes, windows));
    let both = ADDS.iter().zip(off.into_iter().zip(on));
    let pairs = both.map(|(&(adds, _), (off, on))| Pair { adds, off, on });
    let row = Row {
        nodes,
        pairs: pairs.collect(),
    };
    eprintln!("{row:?}");
    row
}

/// The costs of all kinds of adds.
fn costs(nodes: usize, windows: Windows) -> Vec<Costs> {
    let terms = Terms {
        geometry: geometry(),
        interval: INTERVAL,
        windows,
        ..Terms::default()
    };
    let mut world = World::<Metered>::cluster(nodes as u64, nodes, terms);
    let (mut random, everybody) = (Random::new(1), 0..nodes);
    fill(&mut world, everybody.clone(), 100, &mut random);
    world.run_for(INTERVAL * SETTLE_ROUNDS + STEP * IDLE_STEPS);
    // A step with a hundred nodes takes as long as many with few, and goes without one before it.
    let steps = (100 / nodes as u32).clamp(1, 4);
    let cost = |&(_, adds): &(&str, Adds)| {
        if adds != Adds::Nothing && steps > 1 {
            step(&mut world, everybody.clone(), adds, &mut random);
        }
        let before = spent(&world, nodes);
        (0..steps).for_each(|_| step(&mut world, everybody.clone(), adds, &mut random));
        let after = spent(&world, nodes);
        let of_one = nodes as f64 * f64::from(steps);
        Costs {
            bytes: (after.0 - before.0) as f64 / of_one,
            cpu_us: (after.1 - before.1).as_secs_f64() * 1e6 / of_one,
        }
    };
    ADDS.iter().map(cost).collect()
}

fn step(
    world: &mut World<Metered>,
    places: std::ops::Range<Place>,
    adds: Adds,
    random: &mut Random,
) {
    match adds {
        Adds::Nothing => world.run_for(STEP),
        Adds::Evenly(keys) => {
            for _ in 0..PARTS {
                fill(world, places.clone(), keys / u64::from(PARTS), random);
                world.run_for(STEP / PARTS);
            }
        }
        Adds::AtOnce(keys) => {
            fill(world, places, keys, random);
            world.run_for(STEP);
        }
    }
}

fn fill(
    world: &mut World<Metered>,
    places: std::ops::Range<Place>,
    keys: u64,
    random: &mut Random,
) {
    for place in places {
        let keys: Vec<u64> = (0..keys).map(|_| random.next()).collect();
        world.fill(place, keys.into_iter());
    }
}

/// Bytes that have left all nodes, and CPU time of their turns.
fn spent(world: &World<Metered>, nodes: usize) -> (u64, Duration) {
    let of_each = (0..nodes).map(|at| world.process(at));
    of_each.fold((0, Duration::ZERO), |(bytes, cpu), process| {
        (bytes + process.bytes_out, cpu + process.machine.turns())
    })
}

pub(crate) fn print(rows: &[Row]) {
    println!(
        "\nThe same sketch without windows, and with one of {} s by {} s, not folded. A node in a step:\n",
        MINUTE.span_ms / 1_000,
        STEP.as_secs()
    );
    println!(
        "| nodes | adds on each node | bytes, off | bytes, on | on to off | control CPU us, off | on | on to off |"
    );
    println!("|---:|---|---:|---:|---:|---:|---:|---:|");
    for row in rows {
        for Pair { adds, off, on } in &row.pairs {
            println!(
                "| {} | {adds} | {:.0} | {:.0} | {:.3} | {:.0} | {:.0} | {:.2} |",
                row.nodes,
                off.bytes,
                on.bytes,
                on.bytes / off.bytes,
                off.cpu_us,
                on.cpu_us,
                on.cpu_us / off.cpu_us
            );
        }
    }
    println!("\nEvery cell of {DEPTH} x {WIDTH} is touched at once, at the beginning of a step.");
}
