//! Tests that no node is misled by neighbours that are behind, by those that have no room, or by its own haste.
//!
//! Bounds are in rounds, for ten seeds each. `cargo test -p rmbd-simulator --test cluster misled -- --nocapture`
//! prints the results.

use std::time::Duration;

use rmbd_cluster::ReadyState;

use crate::scenarios::{INTERVAL, MINUTE, Nodes, are_equal, assert_sound, cluster, live_members};
use rmbd_simulator::machine::Machine;
use rmbd_simulator::network::{Place, Weather};
use rmbd_simulator::node::OWN_TABLES;
use rmbd_simulator::world::Identity;

const SEEDS: u64 = 10;
/// Sizes of clusters, with the rounds that the median and the worst seed may take. News goes from each node to one
/// random member a round, so its time grows with the logarithm of the cluster.
const SIZES: [(usize, f64, f64); 3] = [(5, 12.0, 25.0), (10, 14.0, 30.0), (30, 20.0, 40.0)];

/// Prints and checks the rounds of ten seeds.
fn judge(what: &str, nodes: usize, mut rounds: Vec<f64>, median_max: f64, worst_max: f64) {
    rounds.sort_by(f64::total_cmp);
    let (median, worst) = (rounds[rounds.len() / 2], rounds[rounds.len() - 1]);
    println!("{what}, {nodes} nodes: median {median:.1} rounds, worst {worst:.1}");
    assert!(median <= median_max, "{what}, {nodes} nodes: {rounds:?}");
    assert!(worst <= worst_max, "{what}, {nodes} nodes: {rounds:?}");
}

fn rounds_until(world: &mut Nodes, limit: u32, done: impl FnMut(&Nodes) -> bool) -> f64 {
    let took = world.run_until(INTERVAL / 10, INTERVAL * limit, done);
    let took = took.unwrap_or_else(|| panic!("not after {limit} rounds"));
    took.as_secs_f64() / INTERVAL.as_secs_f64()
}

/// Makes datagrams of `writer` arrive at `neighbour` only.
fn let_only_hear(world: &mut Nodes, writer: Place, neighbour: Place) {
    for place in world.running() {
        if place != writer && place != neighbour {
            world.network.cut_one_way(writer, place);
        }
    }
}

/// A cluster whose first node has just counted something that only its neighbour can hear of.
fn heard_by_one(seed: u64, nodes: usize) -> Nodes {
    let mut world = cluster(seed, nodes);
    world.add(0, 0, 1);
    rounds_until(&mut world, 10, |world| are_equal(world, &world.running()));
    let_only_hear(&mut world, 0, 1);
    world.add(0, 1, 1);
    world
}

fn has_all_of(world: &Nodes, place: Place, writer: Place) -> bool {
    let (slice, cells) = world.own_copy(writer).expect("something was written");
    world.machine(place).copies().get(&slice) == Some(&cells)
}

#[test]
fn a_writer_that_one_neighbour_hears_is_soon_known_to_all() {
    for (nodes, median, worst) in SIZES {
        let rounds = (0..SEEDS).map(|seed| {
            let mut world = heard_by_one(seed, nodes);
            let places = world.running();
            let took = rounds_until(&mut world, 1_000, |world| {
                places.iter().all(|&place| has_all_of(world, place, 0))
            });
            assert_sound(&mut world);
            took
        });
        judge("heard by one", nodes, rounds.collect(), median, worst);
    }
}

#[test]
fn what_a_dead_writer_told_one_neighbour_is_soon_known_to_all() {
    for (nodes, median, worst) in SIZES {
        let rounds = (0..SEEDS).map(|seed| {
            let mut world = heard_by_one(seed, nodes);
            rounds_until(&mut world, 10, |world| has_all_of(world, 1, 0));
            world.crash(0);
            world.network.heal_all();
            let places = world.running();
            let took = rounds_until(&mut world, 1_000, |world| are_equal(world, &places));
            assert_sound(&mut world);
            took
        });
        judge("told one and died", nodes, rounds.collect(), median, worst);
    }
}

/// A cluster in which some members have no room for the slices of dead nodes, which had counted in `starts` starts. A
/// new node then joins through such a member.
fn with_refusers(seed: u64, nodes: usize, starts: usize) -> (Nodes, Place) {
    let mut world = cluster(seed, nodes);
    let writer = world.host();
    world.hosts[writer].seeds = vec![0];
    for start in 0..starts {
        world.start(writer);
        world.add(writer, start % 16, 1);
        rounds_until(&mut world, 60, |world| {
            (0..nodes).all(|place| has_all_of(world, place, writer))
        });
        world.crash(writer);
    }
    // Every third node starts again with room only for its own table and its published copy.
    let bytes = world.terms.geometry.memory_bytes();
    for place in (1..nodes).step_by(3) {
        world.hosts[place].max_memory_bytes = bytes * OWN_TABLES;
        world.restart(place, Identity::Same);
    }
    world.run_for(MINUTE / 2);
    let new = world.host();
    world.hosts[new].seeds = vec![1];
    world.start(new);
    (world, new)
}

fn slices_at(world: &Nodes, place: Place) -> usize {
    world.machine(place).copies().len()
}

#[test]
fn who_has_no_room_vouches_for_nothing_and_a_joiner_asks_others() {
    for (nodes, median, worst) in [(5, 6.0, 12.0), (10, 6.0, 12.0), (30, 8.0, 16.0)] {
        let rounds = (0..SEEDS).map(|seed| {
            let (mut world, new) = with_refusers(seed, nodes, 10);
            let took = rounds_until(&mut world, 1_000, |world| {
                let has = slices_at(world, new) >= 10;
                assert!(
                    has || !world.machine(new).is_ready(),
                    "seed {seed}: ready without"
                );
                has && world.machine(new).is_ready()
            });
            let refuser = world.machine(1);
            let vouched = refuser.cluster.slices().digests();
            assert_eq!(vouched.filter(|line| line.version > 0).count(), 0);
            assert!(!refuser.state(world.clock(1)).slices_missing.is_empty());
            assert_sound(&mut world);
            took
        });
        judge(
            "joined by way of one without room",
            nodes,
            rounds.collect(),
            median,
            worst,
        );
    }
}

#[test]
fn a_writer_knows_who_has_no_room_for_it() {
    let mut world = cluster(3, 3);
    let bytes = world.terms.geometry.memory_bytes();
    world.hosts[2].max_memory_bytes = bytes * OWN_TABLES;
    world.restart(2, Identity::Same);
    world.run_for(INTERVAL * 10);
    world.add(0, 0, 1);
    rounds_until(&mut world, 10, |world| has_all_of(world, 1, 0));
    world.run_for(INTERVAL * 4);
    let state = world.machine(0).state(world.clock(0));
    let refuses = |place: Place| {
        let boot = world.process(place).setup.boot;
        let of = |member: &&rmbd_cluster::MemberView| member.member.boot == boot;
        state.members.iter().find(of).unwrap().refuses_ours
    };
    assert!(!refuses(1) && refuses(2));
    assert_ne!(state.converged_age, Some(Duration::ZERO), "not all have it");
    // Nothing is sent to this node again and again, and no node waits for it at the end.
    let before = world.process(0).bytes_out;
    world.run_for(MINUTE);
    assert!(world.process(0).bytes_out - before < 60 * 2_000 * 2);
    world.add(0, 1, 1);
    world.leave(0);
    let left = world.run_until(INTERVAL / 10, Duration::from_secs(2), |world| {
        world.hosts[0].process.is_none()
    });
    assert!(left.is_some(), "it waited for one that has no room");
}

/// Asks a joining node all the time whether it is ready. Returns what it holds when it says so.
fn ready_with(world: &mut Nodes, new: Place) -> usize {
    rounds_until(world, 40, |world| world.machine(new).is_ready());
    slices_at(world, new)
}

#[test]
fn ready_means_all_starts_that_ever_counted() {
    for seed in 0..SEEDS {
        let mut world = cluster(seed, 3);
        let writer = world.host();
        world.hosts[writer].seeds = vec![0];
        for start in 0..50 {
            world.start(writer);
            world.add(writer, start % 16, 1);
            rounds_until(&mut world, 60, |world| {
                (0..3).all(|place| has_all_of(world, place, writer))
            });
            world.crash(writer);
        }
        world.run_for(MINUTE);
        world.network.weather = Weather::lossy(seed as f64 * 0.015);
        let new = world.host();
        world.hosts[new].seeds = vec![1];
        world.start(new);
        assert_eq!(ready_with(&mut world, new), 50, "seed {seed}");
        let state = world.machine(new).state(world.clock(new));
        assert_eq!(state.readiness, ReadyState::Complete, "seed {seed}");
    }
}

#[test]
fn ready_is_complete_or_says_what_it_lacks_also_when_most_have_just_died() {
    for seed in 0..3 {
        let mut world = cluster(seed, 54);
        for place in 0..50 {
            world.add(place, place % 16, 1);
        }
        let all = world.running();
        rounds_until(&mut world, 60, |world| are_equal(world, &all));
        for place in 0..50 {
            world.crash(place);
        }
        let new = world.host();
        world.hosts[new].seeds = vec![50];
        world.start(new);
        let held = ready_with(&mut world, new);
        let state = world.machine(new).state(world.clock(new));
        println!(
            "seed {seed}: ready with {held} of 50, {:?}",
            state.readiness
        );
        assert_eq!(held, 50, "seed {seed}: {:?}", state.readiness);
        // A dead member is listed for a while: the node reports that not all members have told what they hold.
        rounds_until(&mut world, 200, |world| {
            let state = world.machine(new).state(world.clock(new));
            state.readiness == ReadyState::Complete
        });
    }
}

#[test]
fn who_ends_before_the_first_contact_has_told_what_it_counted() {
    for (seed, loss) in [(0, 0.0), (1, 0.0), (2, 0.1), (3, 0.2)] {
        let mut world = cluster(seed, 3);
        world.network.weather = Weather::lossy(loss);
        let short = world.host();
        world.hosts[short].seeds = vec![0, 1];
        let mut written = Vec::new();
        for life in 0..30 {
            world.start(short);
            world.add(short, life % 16, 1);
            written.extend(world.own_copy(short));
            world.run_for(Duration::from_millis(life as u64 * 7 % 60));
            world.leave(short);
            rounds_until(&mut world, 10, |world| world.hosts[short].process.is_none());
        }
        world.network.weather = Weather::CLEAR;
        rounds_until(&mut world, 40, |world| are_equal(world, &[0, 1, 2]));
        let held = world.machine(1).copies();
        let lost = written
            .iter()
            .filter(|(slice, cells)| held.get(slice) != Some(cells));
        assert_eq!(lost.count(), 0, "seed {seed}");
    }
}

#[test]
fn who_ends_and_meets_nobody_waits_no_longer_than_its_limit() {
    let mut world = Nodes::new(1, crate::scenarios::terms());
    let (silent, new) = (world.host(), world.host());
    world.hosts[new].seeds = vec![silent];
    for adds in [0, 1] {
        world.start(new);
        for key in 0..adds {
            world.add(new, key, 1);
        }
        world.leave(new);
        let took = rounds_until(&mut world, 10, |world| world.hosts[new].process.is_none());
        let waits = took * INTERVAL.as_secs_f64();
        assert!(
            if adds == 0 {
                waits < 0.5
            } else {
                (2.0..3.5).contains(&waits)
            },
            "{waits}"
        );
    }
}

#[test]
fn recorded_datagrams_show_a_node_that_started_again_nobody() {
    for seed in 0..SEEDS {
        let mut world = cluster(seed, 4);
        for place in 0..4 {
            world.add(place, place, 1);
        }
        // Starts and ends of members are recorded, too.
        world.leave(3);
        world.run_for(INTERVAL * 10);
        world.restart(2, Identity::Same);
        world.run_for(INTERVAL * 10);
        let tape = world.network.tape().to_vec();
        for place in world.running() {
            world.crash(place);
        }
        world.hosts[0].seeds = Vec::new();
        world.start(0);
        world.lose_what_cannot_be_under_way();
        world.run_for(INTERVAL * 4);
        let taken: usize = tape.iter().map(|datagram| datagram.bytes.len()).sum();
        for datagram in tape {
            world.forge(datagram.from, 0, datagram.bytes);
            world.run_for(Duration::from_millis(1));
            assert_eq!(live_members(&world, 0), 0, "seed {seed}");
        }
        world.run_for(MINUTE);
        let state = world.machine(0).state(world.clock(0));
        assert!(state.members.is_empty(), "seed {seed}: {:?}", state.members);
        assert_eq!(slices_at(&world, 0), 0, "seed {seed}");
        let sent = world.process(0).bytes_out as usize;
        assert!(
            sent <= taken,
            "seed {seed}: {sent} bytes in answer to {taken}"
        );
    }
}
