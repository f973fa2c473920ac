//! What must hold once it is quiet.

use std::collections::BTreeMap;

use rmbd::sketch::MAX_DEPTH;
use rmbd::wire::cluster::SliceId;

use super::machine::{Copies, Machine, estimate};
use super::network::Place;
use super::world::World;

/// What a group of nodes that can reach each other must come to hold.
#[derive(Debug)]
pub(crate) struct Expected {
    pub(crate) places: Vec<Place>,
    pub(crate) copies: Copies,
    /// Something may come in from other groups, over links that work one way: then what is expected is
    /// the least, and the same for all.
    pub(crate) is_open: bool,
}

/// Groups of `members` joined by paths of links that work both ways, and the best copies in each.
pub(crate) fn expected<M: Machine>(world: &World<M>, members: &[Place]) -> Vec<Expected> {
    let is_cut = |from, to| world.network.is_cut(from, to);
    let groups = groups(members, |a, b| !is_cut(a, b) && !is_cut(b, a));
    let expected = groups.into_iter().map(|places| {
        let reaches = |from: &Place| places.iter().any(|&to| !is_cut(*from, to));
        let mut others = members.iter().filter(|place| !places.contains(place));
        Expected {
            is_open: others.any(reaches),
            copies: world.best_copies(&places),
            places,
        }
    });
    expected.collect()
}

fn groups(members: &[Place], linked: impl Fn(Place, Place) -> bool) -> Vec<Vec<Place>> {
    let mut left = members.to_vec();
    let mut groups = Vec::new();
    while let Some(first) = left.pop() {
        let mut group = vec![first];
        let mut at = 0;
        while at < group.len() {
            let near = group[at];
            left.retain(|&other| {
                let joins = linked(near, other);
                if joins {
                    group.push(other);
                }
                !joins
            });
            at += 1;
        }
        group.sort_unstable();
        groups.push(group);
    }
    groups.sort();
    groups
}

/// Whether everybody of the group holds what is expected, and says so in its hashes.
pub(crate) fn is_equal<M: Machine>(world: &World<M>, expected: &Expected) -> bool {
    let [first, others @ ..] = &*expected.places else {
        return true;
    };
    let roots = world.machine(*first).roots();
    let same = |&other: &Place| world.machine(other).roots() == roots;
    others.iter().all(same) && difference(world, expected).is_none()
}

/// Cell for cell: everybody of the group holds what is expected, and nothing else.
pub(crate) fn difference<M: Machine>(world: &World<M>, expected: &Expected) -> Option<String> {
    let first = copies_in(world, expected, expected.places[0]);
    let right = if expected.is_open {
        &first
    } else {
        &expected.copies
    };
    expected.places.iter().find_map(|&place| {
        let copies = copies_in(world, expected, place);
        let what = copies_differ(&copies, right).or_else(|| falls_short(&copies, &expected.copies));
        what.map(|what| format!("{place}: {what}"))
    })
}

/// What a node holds; also what it has not published, where there is nobody to publish to.
fn copies_in<M: Machine>(world: &World<M>, group: &Expected, place: Place) -> Copies {
    let mut copies = world.machine(place).copies();
    if group.places.len() == 1 {
        copies.extend(world.own_copy(place));
    }
    copies
}

fn copies_differ(copies: &Copies, expected: &Copies) -> Option<String> {
    for (slice, cells) in expected {
        let Some(held) = copies.get(slice) else {
            return Some(format!("lacks {}", name(slice)));
        };
        let wrong = |at: &usize| held[*at] != cells[*at];
        if let Some(at) = (0..cells.len()).find(wrong) {
            let times = (0..cells.len()).filter(wrong).count();
            return Some(format!(
                "{} has {times} wrong cells, the first is {at}: {} instead of {}",
                name(slice),
                held[at],
                cells[at]
            ));
        }
    }
    let more = copies.keys().find(|slice| !expected.contains_key(slice))?;
    Some(format!("holds {}, which nobody had", name(more)))
}

/// Everybody holds at least this.
pub(crate) fn lacks<M: Machine>(world: &World<M>, place: Place, least: &Copies) -> Option<String> {
    let what = falls_short(&world.machine(place).copies(), least)?;
    Some(format!("{place}: {what}"))
}

fn falls_short(copies: &Copies, least: &Copies) -> Option<String> {
    least.iter().find_map(|(slice, cells)| {
        let Some(held) = copies.get(slice) else {
            return Some(format!("lacks {}", name(slice)));
        };
        let is_less = held.iter().zip(cells).any(|(held, cell)| held < cell);
        is_less.then(|| format!("has too little of {}", name(slice)))
    })
}

/// Nobody holds more than was written, at any time.
pub(crate) fn excess<M: Machine>(world: &World<M>) -> Option<String> {
    let written = world.all_written();
    world.running().into_iter().find_map(|place| {
        let copies = world.machine(place).copies();
        copies.iter().find_map(|(slice, cells)| {
            let Some(most) = written.get(slice) else {
                return Some(format!("{place}: {} was written by nobody", name(slice)));
            };
            let more = |at: &usize| cells.get(*at) > most.get(*at);
            let at = (0..cells.len().max(most.len())).find(more)?;
            Some(format!(
                "{place}: cell {at} of {} is {}, and {} was written",
                name(slice),
                cells[at],
                most.get(at).copied().unwrap_or_default()
            ))
        })
    })
}

/// Every answer of the group is what the rule makes of the expected cells, no less than what its living
/// writers and the best copies hold, and no more than what was added anywhere.
pub(crate) fn wrong_count<M: Machine>(world: &World<M>, expected: &Expected) -> Option<String> {
    let (geometry, family) = (world.terms.geometry, world.terms.family);
    let alone = keys_alone_in_a_row(world);
    let held = copies_in(world, expected, expected.places[0]);
    for (number, key) in world.keys.iter().enumerate() {
        let right = estimate(held.iter(), geometry, family, key);
        let added: u64 = world.truth.values().map(|truth| truth[number]).sum();
        let living = |place: &Place| world.truth[&world.process(*place).slice()][number];
        let least: u64 = expected.places.iter().map(living).sum();
        if right.count < least && !right.saturated {
            return Some(format!("key {number}: {} of {least} are held", right.count));
        }
        if right.count > added && alone[number] {
            return Some(format!("key {number}: {} of {added} are held", right.count));
        }
        for &place in &expected.places {
            let answer = world.machine(place).estimate(key);
            if answer != right {
                return Some(format!(
                    "{place}: key {number} counts {answer:?} instead of {right:?}"
                ));
            }
        }
    }
    None
}

/// Keys that share no cell with another one in some row: their answers are exact.
fn keys_alone_in_a_row<M: Machine>(world: &World<M>) -> Vec<bool> {
    let (geometry, family) = (world.terms.geometry, world.terms.family);
    let mut users = BTreeMap::<u32, usize>::new();
    let cells = |key: &[u8]| {
        let mut buffer = [0; MAX_DEPTH];
        family.cells(key, geometry, &mut buffer).to_vec()
    };
    for key in &world.keys {
        for cell in cells(key) {
            *users.entry(cell).or_default() += 1;
        }
    }
    let is_exact =
        |key: &Vec<u8>| !world.is_filled && cells(key).iter().any(|cell| users[cell] == 1);
    world.keys.iter().map(is_exact).collect()
}

pub(crate) fn name(slice: &SliceId) -> String {
    format!("slice {:x}/{:x}", slice.node, slice.boot)
}

#[test]
fn groups_are_joined_by_paths() {
    let links = [(0, 2), (2, 1), (4, 5)];
    let linked = |a, b| links.contains(&(a, b)) || links.contains(&(b, a));
    assert_eq!(
        groups(&[0, 1, 2, 3, 4, 5], linked),
        [vec![0, 1, 2], vec![3], vec![4, 5]]
    );
}
