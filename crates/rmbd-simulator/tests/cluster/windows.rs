//! Small histories with windows, each with a name.

use std::cell::Cell;
use std::time::Duration;

use rmbd_simulator::machine::{Machine, SketchSpec, WindowSpec, Windows};
use rmbd_simulator::network::{Place, Weather};
use rmbd_simulator::random::Random;
use rmbd_simulator::world::{Identity, Terms, WindowLook};

use super::scenarios::{Nodes, are_equal, terms};

const SECOND: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);
/// One of ten seconds, which answers for shorter ones, too, and one of forty.
const WINDOWS: Windows = [
    Some(WindowSpec {
        span_ms: 10_000,
        step_ms: 1_000,
        fold: 1,
    }),
    Some(WindowSpec {
        span_ms: 40_000,
        step_ms: 5_000,
        fold: 2,
    }),
];
const SPANS_MS: [u64; 4] = [4_000, 10_000, 20_000, 40_000];

fn cluster(seed: u64, nodes: usize) -> Nodes {
    let terms = Terms {
        windows: WINDOWS,
        ..terms()
    };
    Nodes::cluster(seed, nodes, terms)
}

fn spec(world: &Nodes) -> SketchSpec {
    world.terms.sketches()[0]
}

/// Adds to half of the keys at these places for a time, with the first keys only now and then, and does `each` every
/// two seconds.
fn busy_for(
    world: &mut Nodes,
    places: &[Place],
    time: Duration,
    random: &mut Random,
    mut each: impl FnMut(&mut Nodes),
) {
    let end = world.now + time;
    let mut next = world.now + SECOND * 2;
    while world.now < end {
        world.run_for(random.time(MS * 5, MS * 50));
        for &place in places {
            let rare = random.chance(0.02).then(|| random.below(4));
            let key = rare.unwrap_or_else(|| 4 + random.below(8));
            world.add(place, key, random.between(1, 100) as u32);
        }
        if world.now >= next {
            next += SECOND * 2;
            each(world);
        }
    }
}

/// Asks for all windows and keys, and returns what was found.
fn look(world: &mut Nodes, places: &[Place]) -> Vec<WindowLook> {
    let spec = spec(world);
    world.window_looks.clear();
    for &place in places {
        for span_ms in SPANS_MS {
            for key in 0..world.keys.len() {
                world.look_at_window(place, &spec, span_ms, key);
            }
        }
    }
    assert_eq!(world.violations, Vec::<String>::new());
    let looks = std::mem::take(&mut world.window_looks);
    assert_eq!(
        looks.len(),
        places.len() * SPANS_MS.len() * world.keys.len()
    );
    looks
}

/// Checks that nothing counts that is older than a window, two steps, and a delivery.
fn assert_delivered(world: &mut Nodes, places: &[Place]) {
    let looks = look(world, places);
    let late = looks.iter().find(|look| !look.is_within);
    assert_eq!(late, None, "at {:?}", world.now);
}

fn most_steps(looks: &[WindowLook]) -> f64 {
    looks
        .iter()
        .map(|look| look.excess_steps)
        .fold(0.0, f64::max)
}

/// Checks that nothing counts that is older than a window and so many steps.
fn assert_within(world: &mut Nodes, places: &[Place], steps: f64) {
    let most = most_steps(&look(world, places));
    assert!(most <= steps, "{most} steps too many at {:?}", world.now);
}

fn bound(world: &Nodes, place: Place, span_ms: u64, key: usize) -> u64 {
    let (clock, number) = (world.clock(place), spec(world).number);
    let machine = world.machine(place);
    machine
        .bound_in(clock, number, span_ms, &world.keys[key])
        .unwrap()
        .count
}

#[test]
fn in_a_quiet_network_windows_are_right_to_two_steps() {
    let seed = 1;
    let mut world = cluster(seed, 3);
    let mut random = Random::new(seed);
    busy_for(&mut world, &[0, 1, 2], SECOND * 90, &mut random, |world| {
        assert_within(world, &[0, 1, 2], 2.0);
    });
    // Nothing is added any more, and all of it goes.
    world.run_for(SECOND * 52);
    for key in 0..16 {
        assert_eq!(
            SPANS_MS.map(|span_ms| bound(&world, 1, span_ms, key)),
            [0; 4]
        );
    }
}

#[test]
fn with_loss_windows_are_right_to_two_steps_and_a_delivery() {
    let seed = 1;
    let mut world = cluster(seed, 3);
    world.network.weather = Weather::lossy(0.3);
    let mut random = Random::new(seed);
    let (mut all, mut within) = (0, 0);
    busy_for(&mut world, &[0, 1, 2], SECOND * 90, &mut random, |world| {
        let looks = look(world, &[0, 1, 2]);
        all += looks.len();
        within += looks.iter().filter(|look| look.is_within).count();
    });
    assert!(within * 1_000 >= all * 981, "{within} of {all}");
}

#[test]
fn a_node_that_joins_a_busy_cluster_soon_has_its_windows() {
    for seed in 0..2 {
        let mut world = cluster(seed, 3);
        let mut random = Random::new(seed);
        busy_for(&mut world, &[0, 1, 2], SECOND * 100, &mut random, |_| {});
        // What a node that is gone has counted is learnt from its neighbours.
        if seed % 2 == 1 {
            world.leave(2);
            busy_for(&mut world, &[0, 1], SECOND * 5, &mut random, |_| {});
        }
        let there: Vec<Place> = world.running();
        let joiner = world.host();
        world.hosts[joiner].seeds = vec![0, 1];
        let old: u64 = (0..16).map(|key| world.estimate(0, key)).sum();
        world.start(joiner);
        let has_all = |world: &Nodes| {
            let has: u64 = (0..16).map(|key| world.estimate(joiner, key)).sum();
            has >= old
        };
        let mut waited = 0;
        while !has_all(&world) {
            busy_for(&mut world, &there, MS * 100, &mut random, |_| {});
            waited += 1;
            assert!(waited < 100, "seed {seed}: not all has come");
        }
        busy_for(&mut world, &there, SECOND * 2, &mut random, |_| {});
        busy_for(&mut world, &there, SECOND * 60, &mut random, |world| {
            let places: Vec<Place> = world.running();
            assert_delivered(world, &places);
        });
    }
}

#[test]
fn a_restarted_node_gets_its_windows_back() {
    let mut world = cluster(3, 3);
    let mut random = Random::new(3);
    let all = [0, 1, 2];
    busy_for(&mut world, &all, SECOND * 60, &mut random, |_| {});
    world.run_for(SECOND * 2);
    world.restart(1, Identity::Same);
    let back = world.run_until(MS * 100, SECOND * 10, |world| are_equal(world, &all));
    assert!(back.is_some());
    world.run_for(SECOND * 2);
    let (here, there) = (bound(&world, 1, 20_000, 5), bound(&world, 0, 20_000, 5));
    assert!(here > 0 && there > 0, "{here} and {there}");
    busy_for(&mut world, &all, SECOND * 60, &mut random, |world| {
        assert_delivered(world, &[0, 1, 2]);
    });
}

#[test]
fn a_partition_that_heals_floods_nobodys_window() {
    let seed = 1;
    let mut world = cluster(seed, 4);
    let mut random = Random::new(seed);
    let all = [0, 1, 2, 3];
    busy_for(&mut world, &all, SECOND * 20, &mut random, |_| {});
    for (a, b) in [(0, 2), (0, 3), (1, 2), (1, 3)] {
        world.network.cut(a, b);
    }
    busy_for(&mut world, &all, SECOND * 600, &mut random, |world| {
        if world.now.as_secs() % 50 == 0 {
            assert_delivered(world, &[0, 1, 2, 3]);
        }
    });
    world.network.heal_all();
    // What comes in has all ages; members that were down are asked again only after a while.
    busy_for(&mut world, &all, SECOND * 60, &mut random, |world| {
        assert_delivered(world, &[0, 1, 2, 3]);
    });
    world.run_for(SECOND * 5);
    assert!(are_equal(&world, &all));
}

#[test]
fn wall_clocks_and_stops_make_nothing_too_low() {
    let mut world = cluster(5, 3);
    let mut random = Random::new(5);
    let all = [0, 1, 2];
    busy_for(&mut world, &all, SECOND * 30, &mut random, |_| {});
    let day = SECOND * 86_400;
    world.jump_wall_clock(1, day);
    busy_for(&mut world, &all, SECOND * 50, &mut random, |world| {
        assert_within(world, &[0, 1, 2], 2.0);
    });
    // Meanwhile no snapshot is taken; the windows cover more, and not for long.
    world.pause(1, SECOND * 25);
    busy_for(&mut world, &all, SECOND * 26, &mut random, |world| {
        assert!(look(world, &[0, 2]).iter().all(|look| look.is_within));
    });
    look(&mut world, &all);
    busy_for(&mut world, &all, SECOND * 52, &mut random, |world| {
        look(world, &[0, 1, 2]);
    });
    busy_for(&mut world, &all, SECOND * 10, &mut random, |world| {
        assert_within(world, &[0, 1, 2], 2.0);
    });
}

#[test]
fn clocks_that_jump_make_only_windows_of_that_time_wrong() {
    for (ahead, behind) in [
        (SECOND * 100_000, Duration::ZERO),
        (Duration::ZERO, SECOND * 3),
    ] {
        let mut world = cluster(6, 3);
        let mut random = Random::new(6);
        let all = [0, 1, 2];
        busy_for(&mut world, &all, SECOND * 60, &mut random, |_| {});
        world.jump_clock(1, ahead, behind);
        busy_for(&mut world, &all, SECOND * 60, &mut random, |world| {
            look(world, &[0, 1, 2]);
        });
        busy_for(&mut world, &all, SECOND * 10, &mut random, |world| {
            assert_within(world, &[0, 1, 2], 2.0);
        });
    }
}

/// A data thread adds while the clock is read, and between the pieces of a snapshot.
#[test]
fn what_is_added_during_a_snapshot_is_seen() {
    for pieces in [1, 3, 16] {
        let mut world = cluster(7, 1);
        let key = world.keys[3].clone();
        let number = spec(&world).number;
        let cells = world.terms.geometry.cells() / pieces;
        let process = world.hosts[0].process.as_mut().unwrap();
        let node = &mut process.machine;
        let replica = std::sync::Arc::clone(&node.replica);
        // When each add was made; the clock goes on a little with each look at it.
        let now = Cell::new(Duration::from_secs(1_100));
        let added = std::cell::RefCell::new(Vec::new());
        let clock = || {
            let before = now.get();
            now.set(before + MS);
            added.borrow_mut().push(now.get());
            replica.add(&key, rmbd_sketch::Weight::ONE).unwrap();
            now.set(now.get() + MS);
            before
        };
        for _ in 0..pieces * 60 {
            node.snapshot(&clock, cells);
            now.set(now.get() + MS * 20);
        }
        let added = added.into_inner();
        // Each window that begins just before an add has it.
        let end = now.get();
        let mut looks = 0;
        for span_ms in [1_000, 4_000, 10_000] {
            let span = Duration::from_millis(span_ms);
            for &at in added.iter().filter(|&&at| at > end - SECOND) {
                let asked = at + span - Duration::from_nanos(1);
                if asked < end {
                    continue;
                }
                let least = added.iter().filter(|&&other| other >= at).count() as u64;
                let bound = node.bound_in(asked, number, span_ms, &key).unwrap();
                assert!(bound.count >= least, "{bound:?}, {least}, {pieces} pieces");
                looks += 1;
            }
        }
        assert!(looks > 10, "{looks}");
    }
}
