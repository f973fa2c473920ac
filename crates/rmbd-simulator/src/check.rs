//! Checks of what must hold once it is quiet.

use std::collections::BTreeMap;

use rmbd_client::Fate;
use rmbd_proto::cluster::SliceId;

use super::machine::{Cells, Copies, Machine, SketchSpec, Top, estimate};
use super::network::Place;
use super::world::{World, best};

/// What a group of nodes that can reach each other must come to hold.
#[derive(Debug)]
pub struct Expected {
    /// The sketch, which all of them have, and have alike.
    pub sketch: SketchSpec,
    pub places: Vec<Place>,
    pub copies: Copies,
    /// Parts of slices that a node had refused by then. If it gets room later, all may get them from it.
    pub parts: Copies,
    /// Whether cells may come in from other groups, over links that work one way. Then the expected copies are the
    /// least, and all nodes must have the same.
    pub is_open: bool,
}

/// For each sketch the groups of those `members` that have it alike and are joined by paths of links that work both
/// ways, and the best copies in each.
pub fn expected<M: Machine>(world: &World<M>, members: &[Place]) -> Vec<Expected> {
    let mut sketches: Vec<SketchSpec> = Vec::new();
    for spec in members
        .iter()
        .flat_map(|&place| &world.process(place).setup.sketches)
    {
        if !sketches.contains(spec) {
            sketches.push(*spec);
        }
    }
    let all = sketches.into_iter().flat_map(|spec| {
        let mut having = members.to_vec();
        having.retain(|&place| world.process(place).setup.sketches.contains(&spec));
        expected_of(world, spec, &having)
    });
    all.collect()
}

fn of_sketch(mut copies: Copies, sketch: SketchSpec) -> Copies {
    copies.retain(|slice, _| slice.sketch == sketch.number);
    copies
}

fn expected_of<M: Machine>(
    world: &World<M>,
    sketch: SketchSpec,
    members: &[Place],
) -> Vec<Expected> {
    let is_cut = |from, to| world.network.is_cut(from, to);
    let groups = groups(members, |a, b| !is_cut(a, b) && !is_cut(b, a));
    let expected = groups.into_iter().map(|places| {
        let reaches = |from: &Place| places.iter().any(|&to| !is_cut(*from, to));
        let mut others = members.iter().filter(|place| !places.contains(place));
        Expected {
            is_open: others.any(reaches),
            copies: of_sketch(world.best_copies(&places), sketch),
            parts: of_sketch(world.refused_parts(&places), sketch),
            places,
            sketch,
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

/// Whether all nodes of the group hold what is expected, and their hashes say so.
pub fn is_equal<M: Machine>(world: &World<M>, expected: &Expected) -> bool {
    let mut free = unlimited(world, expected);
    let Some(first) = free.next() else {
        return difference(world, expected).is_none();
    };
    let roots_of = |place| {
        let mut roots = world.machine(place).roots();
        roots.retain(|slice, _| slice.sketch == expected.sketch.number);
        roots
    };
    let roots = roots_of(first);
    let is_same = |other| roots_of(other) == roots;
    // Cheap checks come first. A node without room may hold a part.
    free.all(is_same) && difference(world, expected).is_none()
}

/// Places of nodes that must not refuse anything.
fn unlimited<'a, M: Machine>(
    world: &'a World<M>,
    expected: &'a Expected,
) -> impl Iterator<Item = Place> + 'a {
    let places = expected.places.iter().copied();
    places.filter(|&place| !world.hosts[place].is_limited())
}

/// Compares cell for cell: all nodes of the group hold what is expected, and nothing else. A node without room for
/// everything holds what it has room for, and reports that this is not all.
pub fn difference<M: Machine>(world: &World<M>, expected: &Expected) -> Option<String> {
    let first = unlimited(world, expected).next();
    let first = first.map(|first| copies_in(world, expected, first));
    // If a node has only a part of a slice for want of room, others may have got the rest or not, but all the same.
    let right = first.as_ref().unwrap_or(&expected.copies);
    // What an unlimited node holds is exact, and includes what came of a part.
    let no_parts = Copies::new();
    let parts = first.as_ref().map_or(&expected.parts, |_| &no_parts);
    expected.places.iter().find_map(|&place| {
        let copies = copies_in(world, expected, place);
        let what = if world.hosts[place].is_limited() {
            limited_differ(
                world,
                (place, expected.sketch),
                &copies,
                (right, parts),
                expected.is_open && first.is_none(),
            )
        } else {
            copies_differ(&copies, right, parts).or_else(|| falls_short(&copies, &expected.copies))
        };
        what.map(|what| format!("{place}: {what}"))
    })
}

fn limited_differ<M: Machine>(
    world: &World<M>,
    (place, sketch): (Place, SketchSpec),
    copies: &Copies,
    (right, refused_parts): (&Copies, &Copies),
    is_least: bool,
) -> Option<String> {
    let process = world.process(place);
    // A node may have any part of a slice for which it has no room.
    let mut copies = copies.clone();
    copies.retain(|slice, _| !process.machine.refuses(slice));
    let of = |slice: &&SliceId| copies.contains_key(*slice);
    let (held, lacked): (Vec<&SliceId>, Vec<&SliceId>) = right.keys().partition(of);
    // If memory ended in the middle of a slice, a part of it is held.
    let (parts, held): (Vec<&SliceId>, Vec<&SliceId>) = held
        .into_iter()
        .partition(|slice| is_part(&copies[slice], &right[slice]));
    let mut lacking = lacked.iter().chain(&parts).peekable();
    if let Some(slice) = lacking.peek() {
        if process
            .machine
            .has_room(&process.setup, sketch.number, right.len())
        {
            return Some(format!("lacks of {}, and has room for it", name(slice)));
        }
        let missing = process.machine.missing(world.clock(place));
        if let Some(slice) = lacking.find(|slice| !missing.contains(slice)) {
            return Some(format!("lacks of {}, and does not say so", name(slice)));
        }
    }
    let right: Copies = held
        .into_iter()
        .map(|slice| (*slice, right[slice].clone()))
        .collect();
    copies.retain(|slice, _| !parts.contains(&slice));
    if is_least {
        return falls_short(&copies, &right);
    }
    copies_differ(&copies, &right, refused_parts)
}

/// Whether no cell is above its expected value, and some are below.
fn is_part(held: &[u64], whole: &[u64]) -> bool {
    held != whole && held.iter().zip(whole).all(|(held, whole)| held <= whole)
}

/// Whether all nodes of the group take each other for live, and no other node.
pub fn has_met<M: Machine>(world: &World<M>, expected: &Expected) -> bool {
    unmet(world, expected).is_none()
}

/// Describes a node that does not know the others.
pub fn unmet<M: Machine>(world: &World<M>, expected: &Expected) -> Option<String> {
    expected.places.iter().find_map(|&place| {
        let Some(live) = world.live_places(place) else {
            let live = world.machine(place).live(world.clock(place));
            let dead = live
                .iter()
                .filter(|&&(boot, _)| world.place_of(boot).is_none());
            let dead: Vec<_> = dead.collect();
            return Some(format!("{place} takes {dead:x?} for up"));
        };
        let mut others = expected.places.iter().filter(|&&other| other != place);
        let unknown = others.find(|other| !live.contains(other))?;
        Some(format!("{place} does not know {unknown}"))
    })
}

/// The slices that a node holds, including what it has not published because there is no other node.
fn copies_in<M: Machine>(world: &World<M>, group: &Expected, place: Place) -> Copies {
    let mut copies = world.machine(place).copies();
    if group.places.len() == 1 {
        copies.extend(world.own_copies(place));
    }
    of_sketch(copies, group.sketch)
}

/// Compares copies with what is expected. A cell may be above that as far as one of the `parts` has it.
fn copies_differ(copies: &Copies, expected: &Copies, parts: &Copies) -> Option<String> {
    let in_part = |slice: &SliceId, at: usize, held: u64| {
        parts.get(slice).is_some_and(|cells| held <= cells[at])
    };
    for (slice, cells) in expected {
        let Some(held) = copies.get(slice) else {
            return Some(format!("lacks {}", name(slice)));
        };
        let wrong = |at: &usize| {
            let (held, expected) = (held[*at], cells[*at]);
            held < expected || (held > expected && !in_part(slice, *at, held))
        };
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
    let is_more = |(slice, held): &(&SliceId, &Cells)| {
        !expected.contains_key(slice) && !(0..held.len()).all(|at| in_part(slice, at, held[at]))
    };
    let (more, _) = copies.iter().find(is_more)?;
    Some(format!("holds {}, which nobody had", name(more)))
}

/// Describes what a node lacks of these copies, if anything.
pub fn lacks<M: Machine>(world: &World<M>, place: Place, least: &Copies) -> Option<String> {
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

/// Describes a node that holds more than was written at any time, if there is one.
pub fn excess<M: Machine>(world: &World<M>) -> Option<String> {
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

/// Describes a wrong answer, if there is one. Each answer must be what the rule makes of the expected cells, no less
/// than what live writers and the best copies hold, and no more than what was added anywhere.
pub fn wrong_count<M: Machine>(world: &World<M>, expected: &Expected) -> Option<String> {
    let sketch = expected.sketch;
    let (geometry, family) = (sketch.geometry, sketch.family);
    let alone = keys_alone_in_a_row(world, sketch);
    let full = unlimited(world, expected).next();
    let held = full.map_or_else(
        || {
            // Parts that have been taken since are held, too; `difference` allows no others.
            let now = of_sketch(world.best_copies(&expected.places), sketch);
            best(expected.copies.clone().into_iter().chain(now))
        },
        |full| copies_in(world, expected, full),
    );
    let as_answered = |&place: &Place| (place, world.as_answered(place, held.clone()));
    let places: Vec<(Place, Copies)> = expected.places.iter().map(as_answered).collect();
    for (number, key) in world.keys.iter().enumerate() {
        let added = world.most_of(sketch.number, number);
        let own = |place: Place| world.process(place).setup.slice_of(sketch.number);
        let least = living(world, expected, number);
        for (place, held) in &places {
            let place = *place;
            let right = estimate(held.iter(), &own(place), geometry, family, key);
            if right.count < least {
                return Some(format!("key {number}: {} of {least} are held", right.count));
            }
            if right.count > added && alone[number] {
                let more = more_than_added(world, held, sketch, number);
                let count = right.count;
                return Some(format!("key {number}: {count} of {added} are held: {more}"));
            }
            let answer = world.machine(place).estimate(sketch.number, key);
            let is_right = if world.hosts[place].is_limited() {
                let lacks_nothing = answer.count == right.count;
                let says_so = answer.incomplete || lacks_nothing;
                let has_parts =
                    (world.machine(place)).says_incomplete(world.clock(place), sketch.number);
                let is_no_more = answer.count <= right.count || has_parts;
                expected.is_open || is_no_more && says_so
            } else {
                answer == right
            };
            if !is_right {
                return Some(format!(
                    "{place}: key {number} counts {answer:?} instead of {right:?}"
                ));
            }
        }
    }
    None
}

/// Describes a list of the largest keys that is wrong, if there is one: it lacks a key of which more was added to live
/// writers than it says, or takes more for certain than was added anywhere.
pub fn wrong_top<M: Machine>(world: &World<M>, expected: &Expected) -> Option<String> {
    let sketch = expected.sketch;
    // Who has no room for some slices lacks what is in them, and says so.
    let unlimited = expected.places.iter();
    let unlimited = unlimited.filter(|&&place| !world.hosts[place].is_limited());
    let lists = unlimited.filter_map(|&place| {
        let top = world.machine(place).top(sketch.number)?;
        Some((place, top))
    });
    let lists: Vec<(Place, Top)> = lists.collect();
    let hashed = |key: &Vec<u8>| sketch.family.hash(key, sketch.geometry);
    for (number, key) in world.keys.iter().enumerate() {
        let (Some(hash), added) = (hashed(key), world.most_of(sketch.number, number)) else {
            continue;
        };
        let least = living(world, expected, number);
        for (place, top) in &lists {
            let above = top.complete_above;
            match top.keys.get(&hash) {
                None if least > above => {
                    return Some(format!(
                        "{place}: key {number} has {least}, and the list is complete above {above}"
                    ));
                }
                Some((name, _)) if name.as_ref().is_some_and(|name| name != key) => {
                    return Some(format!("{place}: key {number} is named {name:?}"));
                }
                Some(&(_, certain)) if certain > added => {
                    return Some(format!(
                        "{place}: key {number} certainly has {certain}, of {added}"
                    ));
                }
                _ => {}
            }
        }
    }
    None
}

/// What was added to a key at the live writers of a group.
fn living<M: Machine>(world: &World<M>, expected: &Expected, number: usize) -> u64 {
    let of = |&place: &Place| {
        let truth = world.process(place).truth.get(&expected.sketch.number);
        truth.map_or(0, |truth| truth[number])
    };
    expected.places.iter().map(of).sum()
}

/// Names slices whose every row has more of a key than was added to them.
fn more_than_added<M: Machine>(
    world: &World<M>,
    copies: &Copies,
    sketch: SketchSpec,
    number: usize,
) -> String {
    let indexes = cells(sketch, &world.keys[number]);
    let more = copies.iter().filter_map(|(slice, cells)| {
        let held = indexes.iter().map(|&index| cells[index as usize]).min();
        let added = world.truth.get(slice).map_or(0, |truth| truth[number]);
        let held = held.filter(|&held| held > added)?;
        Some(format!("{} has {held} of {added}; ", name(slice)))
    });
    more.collect()
}

/// Describes a wrong report to a client, if there is one. Confirmed adds must be counted exactly once, uncertain ones
/// once or not at all, and adds that are reported as not added never.
pub fn wrong_adds<M: Machine>(world: &World<M>) -> Option<String> {
    let (geometry, family) = (world.terms.geometry, world.terms.family);
    if world.clients().is_empty() {
        return None;
    }
    let first = world.terms.sketches()[0];
    let users = users_of_cells(world, first);
    // Each process is one; strangers have sketches of their own.
    let all = world.all_counted(first.fingerprint());
    let written = Copies::from([(SliceId::default(), all)]);
    let adds = world.clients().iter().flat_map(|client| &client.adds);
    for add in adds {
        let counted = estimate(
            written.iter(),
            &SliceId::default(),
            geometry,
            family,
            &add.key,
        )
        .count;
        let is_exact = !world.is_filled && is_alone_in_a_row(first, &users, &add.key);
        let weight = u64::from(add.weight);
        let is_right = match add.told {
            Some(Ok(())) => counted == weight || (counted > weight && !is_exact),
            Some(Err(Fate::Uncertain)) => counted == 0 || counted == weight || !is_exact,
            Some(Err(Fate::NotAdded)) => counted == 0 || !is_exact,
            None => return Some(format!("nobody told the client of {add:?}")),
        };
        if !is_right {
            return Some(format!("{add:?} was counted as {counted}"));
        }
    }
    None
}

/// For each key, whether it shares no cell with another key in some row, so that its answers are exact.
fn keys_alone_in_a_row<M: Machine>(world: &World<M>, sketch: SketchSpec) -> Vec<bool> {
    let users = users_of_cells(world, sketch);
    let is_exact = |key: &Vec<u8>| !world.is_filled && is_alone_in_a_row(sketch, &users, key);
    world.keys.iter().map(is_exact).collect()
}

fn is_alone_in_a_row(sketch: SketchSpec, users: &BTreeMap<u32, usize>, key: &[u8]) -> bool {
    cells(sketch, key).iter().any(|cell| users[cell] == 1)
}

/// Number of keys in each cell.
fn users_of_cells<M: Machine>(world: &World<M>, sketch: SketchSpec) -> BTreeMap<u32, usize> {
    let mut users = BTreeMap::<u32, usize>::new();
    let adds = world.clients().iter().flat_map(|client| &client.adds);
    let keys = world.keys.iter().chain(adds.map(|add| &add.key));
    for key in keys {
        for cell in cells(sketch, key) {
            *users.entry(cell).or_default() += 1;
        }
    }
    users
}

fn cells(sketch: SketchSpec, key: &[u8]) -> Vec<u32> {
    sketch
        .family
        .cells(key, sketch.geometry)
        .as_slice()
        .to_vec()
}

pub fn name(slice: &SliceId) -> String {
    format!("slice {}:{:x}/{}", slice.sketch.0, slice.node, slice.writer)
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
