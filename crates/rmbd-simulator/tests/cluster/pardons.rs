//! Pardons in clusters that lose datagrams, fall apart, and grow.

use std::time::Duration;

use rmbd_proto::LimitNumber;
use rmbd_simulator::network::{Place, Weather};
use rmbd_simulator::random::Random;
use rmbd_simulator::world::Identity;
use rmbd_store::PardonView;

use super::scenarios::{INTERVAL, MINUTE, Nodes, assert_sound, cluster, refused};

const SECOND: Duration = Duration::from_secs(1);
const API: LimitNumber = LimitNumber(77);

fn give(world: &Nodes, place: Place, key: &[u8], credit: u64, time: Duration) {
    let book = &world.machine(place).pardons;
    let given = book.give((API, key), [credit; 8], time, world.clock(place));
    given.unwrap();
}

fn credit(world: &Nodes, place: Place, key: &[u8]) -> u64 {
    let (book, now) = (&world.machine(place).pardons, world.clock(place));
    PardonView::default().credits(book, (API, key), now)[0]
}

fn hold_everywhere(world: &Nodes, pardons: &[(Vec<u8>, u64)]) -> bool {
    let mut places = world.running().into_iter();
    places.all(|place| {
        let mut all = pardons.iter();
        all.all(|(key, given)| credit(world, place, key) == *given)
    })
}

/// The number of rounds until these hold on all nodes that run.
fn rounds_until_they_hold(world: &mut Nodes, pardons: &[(Vec<u8>, u64)], limit: u32) -> f64 {
    let took = world.run_until(INTERVAL / 20, INTERVAL * limit, |world| {
        hold_everywhere(world, pardons)
    });
    let took = took.unwrap_or_else(|| panic!("they do not hold after {limit} rounds"));
    took.as_secs_f64() / INTERVAL.as_secs_f64()
}

/// Some pardons, each at one of these places.
fn give_some(world: &Nodes, places: &[Place], random: &mut Random) -> Vec<(Vec<u8>, u64)> {
    let all: Vec<_> = (0..12)
        .map(|n: u64| (n.to_le_bytes().to_vec(), n + 1))
        .collect();
    for (key, credit) in &all {
        let place = places[random.below(places.len())];
        give(world, place, key, *credit, MINUTE * 10);
    }
    all
}

fn bytes_of_pardons(world: &Nodes) -> u64 {
    let places = world.running().into_iter();
    let sent = places.map(|place| world.machine(place).state(world.clock(place)).sent.pardons);
    sent.sum()
}

#[test]
fn a_pardon_holds_everywhere_with_the_next_round_and_ends_everywhere() {
    for seed in 0..10 {
        let mut world = cluster(seed, 3);
        world.run_for(SECOND * 10);
        assert_eq!(bytes_of_pardons(&world), 0, "nobody has any");
        give(&world, 1, b"alice", 7, SECOND * 20);
        let rounds = rounds_until_they_hold(&mut world, &[(b"alice".to_vec(), 7)], 2);
        assert!(rounds <= 1.1, "seed {seed}: {rounds}");
        world.run_for(SECOND * 19 - INTERVAL * 2);
        assert!(
            hold_everywhere(&world, &[(b"alice".to_vec(), 7)]),
            "seed {seed}"
        );
        world.run_for(INTERVAL * 2 + SECOND * 2);
        assert!(
            hold_everywhere(&world, &[(b"alice".to_vec(), 0)]),
            "seed {seed}"
        );
        // A while later nobody speaks of it any more.
        world.run_for(MINUTE);
        let before = bytes_of_pardons(&world);
        world.run_for(MINUTE);
        assert_eq!(bytes_of_pardons(&world), before, "seed {seed}");
        assert_sound(&mut world);
    }
}

#[test]
fn loss_doubles_and_reordering_cost_some_rounds() {
    for seed in 0..20 {
        let mut world = cluster(seed, 3);
        world.network.weather = Weather {
            doubling: 0.2,
            reordering: 0.3,
            replaying: 0.1,
            corruption: 0.05,
            held_back: SECOND * 3,
            ..Weather::lossy(0.4)
        };
        let mut random = Random::new(seed);
        let mut all = give_some(&world, &[0, 1, 2], &mut random);
        rounds_until_they_hold(&mut world, &all, 40);
        // Others take the place of some of them.
        for (key, credit) in all.iter_mut().take(6) {
            *credit += 100;
            give(&world, random.below(3), key, *credit, MINUTE * 10);
        }
        rounds_until_they_hold(&mut world, &all, 40);
        assert_sound(&mut world);
    }
}

#[test]
fn when_a_cluster_that_fell_apart_heals_the_same_pardons_hold_everywhere() {
    for (seed, time) in [(1, SECOND * 5), (2, MINUTE * 2)] {
        let mut world = cluster(seed, 3);
        let mut random = Random::new(seed);
        let before = give_some(&world, &[0, 1, 2], &mut random);
        rounds_until_they_hold(&mut world, &before, 4);
        world.network.cut(0, 2);
        world.network.cut(1, 2);
        // Of two pardons of one key the one holds that counts on from more.
        give(&world, 0, b"both", 1, MINUTE * 10);
        give(&world, 2, b"other", 3, MINUTE * 10);
        give(&world, 2, b"both", 2, MINUTE * 10);
        // What is taken back on one side stays so, although the other side tells of it again.
        give(&world, 0, &before[0].0, 0, SECOND);
        world.run_for(time);
        assert_eq!(credit(&world, 1, b"both"), 1);
        assert_eq!(credit(&world, 2, b"both"), 2);
        world.network.heal_all();
        let mut all = before.clone();
        all[0].1 = 0;
        all.extend([(b"both".to_vec(), 2), (b"other".to_vec(), 3)]);
        world.run_for(SECOND * 30);
        rounds_until_they_hold(&mut world, &all, 200);
        assert_sound(&mut world);
    }
}

#[test]
fn who_joins_while_a_pardon_lasts_learns_of_it_whoever_gave_it() {
    for seed in 0..5 {
        let mut world = cluster(seed, 3);
        let all = give_some(&world, &[1], &mut Random::new(seed));
        rounds_until_they_hold(&mut world, &all, 4);
        // The giver is gone.
        world.crash(1);
        world.run_for(SECOND * 30);
        let new = world.host();
        world.hosts[new].seeds = vec![0];
        world.start(new);
        rounds_until_they_hold(&mut world, &all, 6);
        world.restart(1, Identity::Same);
        rounds_until_they_hold(&mut world, &all, 20);
        assert!(
            world
                .running()
                .iter()
                .all(|&place| refused(&world, place, "pardon_not_taken") == 0)
        );
        assert_sound(&mut world);
    }
}

/// As many as there may be, and what they cost.
#[test]
fn a_thousand_pardons_come_within_some_rounds_and_then_cost_little() {
    let mut world = cluster(1, 3);
    let keys = (0..1_000).map(|n: u64| format!("customer-{n}").into_bytes());
    let all: Vec<_> = keys.map(|key| (key, 60)).collect();
    for (at, (key, credit)) in all.iter().enumerate() {
        give(&world, at % 3, key, *credit, MINUTE * 10);
    }
    let rounds = rounds_until_they_hold(&mut world, &all, 4);
    let told = bytes_of_pardons(&world);
    println!(
        "{rounds} rounds, {} bytes a pardon and member",
        told / 2_000
    );
    let new = world.host();
    world.hosts[new].seeds = vec![0];
    world.start(new);
    let rounds = rounds_until_they_hold(&mut world, &all, 8);
    println!("{rounds} rounds until who joins has them");
    world.run_for(SECOND * 10);
    let before = bytes_of_pardons(&world);
    world.run_for(MINUTE);
    let a_round = (bytes_of_pardons(&world) - before) / 4 / 120;
    println!("{a_round} bytes a round and node");
    assert!(a_round <= 270, "{a_round}");
}
