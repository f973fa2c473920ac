//! The longest time until all nodes are equal, by what the faults allow.

use std::time::Duration;

use super::check::Expected;
use super::machine::Machine;
use super::network::{Place, Weather};
use super::plan::Plan;
use super::world::World;

/// Rounds for slices that go the direct way, and for a first digest.
const ROUNDS: f64 = 12.0;
/// Rounds of one step from neighbour to neighbour, if any neighbour serves: a node that has the slice names it to a
/// random member, which waits for its patience, and pulls.
const ROUNDS_A_STEP: f64 = 8.0;
/// Factor where only one neighbour serves: it names the slice to the node in need once in as many rounds as it has
/// neighbours. With this many times as many rounds it is missed once in a hundred thousand times.
const MISSES: f64 = 12.0;
/// Round trips that a pull needs beside those for groups, and that it may have to make again.
const TRIPS: f64 = 40.0;

/// Seconds until a question without an answer is asked again.
const SILENCE: f64 = 0.25;

/// The longest time in quiet, counted while all nodes know each other.
pub fn until_equal<M: Machine>(world: &World<M>, plan: &Plan, groups: &[Expected]) -> Duration {
    let all = groups.iter().map(|group| of_group(world, plan, group));
    all.max().unwrap_or_default()
}

fn of_group<M: Machine>(world: &World<M>, plan: &Plan, group: &Expected) -> Duration {
    let weather = plan.quiet_weather;
    let slowest = plan
        .drifts
        .iter()
        .map(|&(_, rate)| rate)
        .fold(1.0, f64::min);
    let round = plan.terms.interval.as_secs_f64() / slowest;
    let nodes = group.places.len() as f64;
    let lines = world.truth.len() as f64;
    let cycle = (lines / plan.terms.limits.digest_lines_a_round as f64).ceil() + sums(plan);
    // A single node may still have to send to a node that it pushes to.
    let steps = f64::from(steps(world, group).max(1));
    let arrives = (1.0 - weather.loss) * (1.0 - weather.corruption);
    let rounds = if steps > 1.0 {
        ROUNDS + steps * MISSES * nodes * cycle / arrives
    } else {
        ROUNDS + (1.0 + nodes.log2()) * ROUNDS_A_STEP * cycle / arrives
    };
    let transfers = steps * transfer(plan, weather, group) / arrives.powi(2);
    Duration::from_secs_f64(rounds * round + transfers)
}

/// Rounds until each sketch at rest has been told by its sum.
fn sums(plan: &Plan) -> f64 {
    let others = plan.terms.others.len();
    others.div_ceil(plan.terms.limits.sketch_sums_a_round) as f64
}

/// Seconds for the bytes and the round trips of everything that may be missing.
fn transfer(plan: &Plan, weather: Weather, group: &Expected) -> f64 {
    let limits = &plan.terms.limits;
    // Slices of all sketches may be missing, and are pulled in turns.
    let sketches = plan.terms.sketches();
    let cells = sketches.iter().map(|spec| spec.geometry.cells()).max();
    let cells = cells.unwrap_or_default() as f64;
    let slices = (group.copies.len() * sketches.len()) as f64;
    let nodes = group.places.len() as f64;
    let groups = (cells / 256.0).ceil();
    let portions = (groups / limits.groups_asked.min(limits.groups_served) as f64).ceil();
    let sections = (groups / 128.0 / limits.sections_asked as f64).ceil();
    let waves = (slices / limits.pulls as f64).ceil();
    let late = weather.held_back.as_secs_f64() * weather.reordering;
    let trip = 2.0 * (weather.delay.1.as_secs_f64() + late) + 0.02;
    // The dropped part of a request is asked for again after a silence.
    let is_dropped = limits.groups_served < limits.groups_asked * limits.pulls;
    let silence = if is_dropped { SILENCE } else { 0.0 };
    let trips = waves * ((TRIPS + 2.0 * sections) * trip + 2.0 * portions * (trip + silence));
    // One node may have to serve all others.
    let bytes = slices * nodes * cells * 6.0 + nodes * 4_000.0;
    trips + 4.0 * bytes / plan.terms.rate_bytes_per_s as f64
}

/// The length of the longest shortest path between two nodes of the group.
fn steps<M: Machine>(world: &World<M>, group: &Expected) -> u32 {
    let linked = |a: Place, b: Place| !world.network.is_cut(a, b) && !world.network.is_cut(b, a);
    let from_each = group.places.iter().map(|&from| {
        let mut reached = vec![from];
        let mut steps = 0;
        while reached.len() < group.places.len() {
            let before = reached.len();
            for at in 0..before {
                for &to in &group.places {
                    if !reached.contains(&to) && linked(reached[at], to) {
                        reached.push(to);
                    }
                }
            }
            steps += 1;
            if reached.len() == before {
                break;
            }
        }
        steps
    });
    from_each.max().unwrap_or(0)
}

/// The longest time until `nodes` nodes have what one of them has, without any faults.
pub fn until_all_have_it(plan: &Plan, lines: usize, nodes: usize) -> Duration {
    let slowest = plan
        .drifts
        .iter()
        .map(|&(_, rate)| rate)
        .fold(1.0, f64::min);
    let round = plan.terms.interval.as_secs_f64() / slowest;
    let cycle = lines.div_ceil(plan.terms.limits.digest_lines_a_round) as f64 + sums(plan);
    let rounds = ROUNDS + ROUNDS_A_STEP * (nodes as f64).log2() * cycle;
    Duration::from_secs_f64(rounds * round + 1.0)
}
