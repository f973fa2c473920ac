//! Small histories with limits, each with a name.

use std::time::Duration;

use rmbd_cluster::ClusterLimits;
use rmbd_simulator::machine::WindowSpec;
use rmbd_simulator::network::Weather;
use rmbd_simulator::random::Random;
use rmbd_simulator::world::Terms;
use rmbd_store::Reading;

use super::scenarios::{INTERVAL, Nodes, are_equal, assert_sound, live_members, terms};

const LIMIT: u64 = 100;
const SPAN: Duration = Duration::from_secs(10);
const MS: Duration = Duration::from_millis(1);

/// Members that know each other, so far apart.
fn cluster(nodes: usize, lag: Duration, limits: ClusterLimits) -> Nodes {
    let window = WindowSpec {
        span_ms: SPAN.as_millis() as u64,
        step_ms: 1_000,
        fold: 1,
    };
    let terms = Terms {
        windows: [Some(window), None],
        limits,
        ..terms()
    };
    let mut world = Nodes::cluster(5, nodes, terms);
    world.network.weather = Weather {
        delay: (lag, lag),
        ..Weather::CLEAR
    };
    world.run_for(INTERVAL * 20);
    assert!((0..nodes).all(|place| live_members(&world, place) == nodes - 1));
    world
}

/// Takes the first key at all members in turn, thrice in a millisecond; returns how often it was let in.
fn take_for(world: &mut Nodes, time: Duration) -> u64 {
    let mut random = Random::new(3);
    let (nodes, end) = (world.running().len(), world.now + time);
    let mut taken = 0;
    while world.now < end {
        world.run_for(MS / 3);
        taken += u64::from(world.take_within(random.below(nodes), 0, LIMIT, Reading::Bound));
    }
    taken
}

fn urgent_bytes(world: &Nodes) -> u64 {
    let running = world.running().into_iter();
    let states = running.map(|place| world.machine(place).state(world.clock(place)));
    states.map(|state| state.sent.urgent).sum()
}

#[test]
fn members_pass_a_limit_by_what_is_under_way_and_no_more() {
    for (lag, under_way) in [(MS / 10, 1), (MS * 5, 11), (MS * 20, 50)] {
        let mut world = cluster(3, lag, ClusterLimits::default());
        let taken = take_for(&mut world, SPAN / 2);
        assert!(
            (LIMIT..=LIMIT + under_way).contains(&taken),
            "{taken}, {lag:?}"
        );
        world.run_for(INTERVAL * 4);
        assert!(
            are_equal(&world, &[0, 1, 2]),
            "what was told ahead is told for good"
        );
        assert_sound(&mut world);
    }
}

#[test]
fn what_is_told_ahead_may_be_lost_and_is_bounded() {
    let mut lossy = cluster(3, MS, ClusterLimits::default());
    lossy.network.weather.loss = 0.5;
    let taken = take_for(&mut lossy, SPAN / 2);
    assert!((LIMIT..=LIMIT * 2).contains(&taken), "{taken}");
    let none = ClusterLimits {
        urgent_keys_a_round: 0,
        ..ClusterLimits::default()
    };
    let mut mute = cluster(3, MS, none);
    assert!(
        take_for(&mut mute, SPAN / 2) > LIMIT * 2,
        "until the next round"
    );
    assert_eq!(urgent_bytes(&mute), 0);
    let few = ClusterLimits {
        urgent_keys_a_round: 2,
        ..ClusterLimits::default()
    };
    let mut scanty = cluster(3, MS, few);
    take_for(&mut scanty, SPAN / 2);
    let state = scanty.machine(0).state(scanty.clock(0));
    assert!(state.urgent_full_rounds > 0 && state.urgent_full_rounds <= state.rounds + 1);
    // Two keys a round, each with four cells, to two others.
    assert!(
        state.sent.urgent <= (state.rounds + 1) * 2 * 2 * 80,
        "{}",
        state.sent.urgent
    );
}
