//! Joining, leaving, failing, coming back.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use foca::Message;

use super::super::datagram::{Datagram, Update};
use super::super::{
    Member, MemberState, Membership, MembershipDatagram, MembershipEvent, MembershipOptions,
};
use super::net::{Net, address, datagram, member, secs};
use rmbd_proto::Boot;

const SEEDS: std::ops::Range<u64> = 0..5;

#[test]
fn joins_by_address_whatever_the_identity_and_the_way() {
    let mut net = Net::new(1);
    let service: SocketAddr = "192.0.2.1:9000".parse().unwrap();
    net.aliases.insert(service, address(0));
    net.start(member(0, 1), &[]);
    net.start(member(1, 1), &[service]);
    let took = net.run_until("joined", secs(1), Net::is_whole);
    assert!(took < Duration::from_millis(20), "one round trip: {took:?}");
    let up = |of: usize, by: usize| {
        net.count(|at, event| at == address(by) && *event == MembershipEvent::Up(member(of, 1)))
    };
    assert_eq!((up(0, 1), up(1, 0)), (1, 1));
    assert_eq!(
        net.nodes[&address(0)].find(member(1, 1).boot),
        Some(&member(1, 1))
    );
    assert_eq!(net.nodes[&address(0)].find(Boot(4)), None);
}

#[test]
fn two_that_join_each_other_and_themselves() {
    let mut net = Net::new(1);
    // As a headless service answers: with everybody's address, one's own included.
    let seeds = [address(0), address(1), address(2)];
    for index in 0..3 {
        net.start(member(index, 1), &seeds);
    }
    let took = net.run_until("joined", secs(1), Net::is_whole);
    assert!(took < Duration::from_millis(50), "{took:?}");
    net.run_for(secs(20));
    assert!(net.is_whole());
    assert_eq!(
        net.count(|_, event| !matches!(event, MembershipEvent::Up(_))),
        0
    );
}

#[test]
fn alone_at_ones_own_address_and_at_nobodys() {
    let mut net = Net::new(1);
    net.start(member(0, 1), &[address(0), address(9)]);
    // An alias leads back to us, so the announcement really arrives.
    let service: SocketAddr = "192.0.2.1:9000".parse().unwrap();
    net.aliases.insert(service, address(0));
    net.start(member(0, 1), &[service, address(9)]);
    net.run_for(secs(20));
    let node = &net.nodes[&address(0)];
    assert!(node.is_alone() && node.members().next().is_none());
    assert!(net.datagrams >= 40, "{}", net.datagrams);
    assert_eq!(*node.me(), member(0, 1));
    // And whoever comes later is found.
    net.start(member(9, 1), &[]);
    net.run_until("joined", secs(2), Net::is_whole);
}

#[test]
fn v6_v4_and_scopes() {
    let mut net = Net::new(1);
    let v6 = |text: &str, index| Member {
        address: text.parse().unwrap(),
        ..member(index, 1)
    };
    let (one, two) = (v6("[2001:db8::1]:8001", 1), v6("[2001:db8::2]:8001", 2));
    net.start(member(0, 1), &[]);
    net.start(one, &[address(0)]);
    net.start(two, &[one.address]);
    net.run_until("joined", secs(5), Net::is_whole);

    let scoped = v6("[fe80::1%3]:8001", 1);
    let mut node = Membership::new(scoped, 1, MembershipOptions::default());
    assert_eq!(node.me().address, "[fe80::1]:8001".parse().unwrap());
    node.join(secs(0), "[fe80::2%3]:8001".parse().unwrap());
    let to = node.poll_transmit().unwrap().to;
    assert_eq!(
        to,
        "[fe80::2%3]:8001".parse().unwrap(),
        "the way there keeps its scope"
    );
}

#[test]
fn who_moves_is_one_member_at_its_new_address() {
    for seed in SEEDS {
        let mut net = Net::whole(5, seed);
        net.loss = 0.2;
        for (from, to) in [(2, 9), (9, 10), (10, 2)] {
            let mut moved = net.kill(address(from));
            moved.move_to(net.now, address(to));
            assert_eq!(moved.me().address, address(to));
            net.nodes.insert(address(to), moved);
            net.run_until("told", secs(60), Net::is_whole);
            let at_old = |at: &SocketAddr| net.state(*at, address(from)).is_some();
            assert!(!net.nodes.keys().any(at_old), "seed {seed}: shown twice");
        }
    }
}

#[test]
fn who_begins_again_is_another_start_in_the_place_of_the_one_before() {
    for seed in SEEDS {
        let mut net = Net::whole(5, seed);
        net.loss = 0.2;
        let mut boots = Vec::new();
        for boot in [Boot(77), Boot(1), Boot(u64::MAX)] {
            boots.push(net.nodes[&address(2)].me().boot);
            let mut again = net.kill(address(2));
            again.begin_again(net.now, boot);
            assert_eq!((again.me().boot, again.me().address), (boot, address(2)));
            assert!(!again.is_alone(), "it knows whom it knew");
            net.nodes.insert(address(2), again);
            net.run_until("told", secs(60), Net::is_whole);
            let knows = |at: &&Membership| boots.iter().any(|&boot| at.find(boot).is_some());
            assert_eq!(net.nodes.values().filter(knows).count(), 0, "seed {seed}");
        }
    }
    // Of one that has no address nobody has heard.
    let nowhere = Member {
        address: "0.0.0.0:0".parse().unwrap(),
        ..member(1, 1)
    };
    let mut node = Membership::new(nowhere, 1, MembershipOptions::default());
    node.begin_again(secs(1), Boot(78));
    assert_eq!(node.me().boot, Boot(78));
    assert_eq!(node.poll_transmit(), None);
    node.leave(secs(2));
    node.begin_again(secs(3), Boot(79));
    assert_eq!(node.me().boot, Boot(78), "it has left");
}

#[test]
fn who_has_no_address_yet_joins_when_it_has_one() {
    let mut net = Net::new(1);
    net.start(member(0, 1), &[]);
    let nowhere = Member {
        address: "0.0.0.0:0".parse().unwrap(),
        ..member(1, 1)
    };
    let mut node = Membership::new(nowhere, 1, MembershipOptions::default());
    node.move_to(net.now, nowhere.address);
    node.move_to(net.now, address(1));
    node.join(net.now, address(0));
    net.nodes.insert(address(1), node);
    net.run_until("joined", secs(5), Net::is_whole);
}

#[test]
fn leaving_is_told_also_when_much_is_lost() {
    for seed in SEEDS {
        let mut net = Net::whole(5, seed);
        net.loss = 0.2;
        net.leave(address(2));
        net.run_until("left", secs(3), |net| net.is_down_everywhere(address(2)));
        let suspected =
            |_, event: &MembershipEvent| *event == MembershipEvent::Suspected(member(2, 1));
        assert_eq!(net.count(suspected), 0, "seed {seed}");
        let down = |_, event: &MembershipEvent| *event == MembershipEvent::Down(member(2, 1));
        assert_eq!(net.count(down), 4, "seed {seed}");
    }
}

#[test]
fn who_has_left_stays_away() {
    let mut net = Net::whole(5, 1);
    let mut left = net.kill(address(1));
    let (now, me) = (net.now, *left.me());
    left.leave(now);
    let said = |left: &mut Membership| {
        let sent = std::iter::from_fn(|| left.poll_transmit());
        let says =
            |sent: &MembershipDatagram| Datagram::read(&sent.message).unwrap().declares_down(&me);
        sent.filter(says).count()
    };
    assert_eq!(said(&mut left), 9, "three times, to three members");
    left.leave(now);
    assert!(said(&mut left) >= 6, "said again when asked to");
    // Others repeat it; that is no reason to come back.
    let told = datagram(member(2, 1), me, Message::Gossip, vec![Update::down(me)]);
    assert_eq!(left.handle(now, &told), Ok(()));
    left.join(now, address(2));
    assert_eq!((said(&mut left), left.poll_transmit()), (0, None));
    net.nodes.insert(address(1), left);
    net.run_for(secs(30));
    let left = &net.nodes[&address(1)];
    assert_eq!((*left.me(), left.next_wake()), (me, None));
}

#[test]
fn a_failure_is_found() {
    for seed in SEEDS {
        let mut net = Net::whole(5, seed);
        net.kill(address(4));
        let took = net.run_until("found", secs(20), |net| net.is_down_everywhere(address(4)));
        // Four probe from their own moment on: within 4 periods one of them, then 4 s of suspicion.
        assert!(took < secs(12) && took > secs(4), "seed {seed}: {took:?}");
        for by in 0..4 {
            let of = |wanted| net.count(|at, event| at == address(by) && *event == wanted);
            assert_eq!(
                of(MembershipEvent::Suspected(member(4, 1))),
                1,
                "seed {seed}"
            );
            assert_eq!(of(MembershipEvent::Down(member(4, 1))), 1, "seed {seed}");
        }
        assert_eq!(
            net.count(|_, event| matches!(event, MembershipEvent::Rejoined(_))),
            0
        );
    }
}

/// Restarts node 0, that nobody told whom to join, `after` it was killed; how long until all is well.
fn restart(again: Member, seeds: &[SocketAddr], after: Duration, seed: u64) -> (Net, Duration) {
    let mut net = Net::whole(4, seed);
    net.kill(address(0));
    net.run_for(after);
    net.start(again, seeds);
    let took = net.run_until("known again", secs(20), Net::is_whole);
    assert_eq!(net.nodes[&again.address].me().boot, again.boot);
    (net, took)
}

#[test]
fn a_restart_is_known_soon_joined_or_not() {
    for seed in SEEDS {
        // Before the others noticed, while they suspect, when it is down.
        for after in [0, 4, 20].map(secs) {
            let (net, took) = restart(member(0, 2), &[], after, seed);
            println!("restart after {after:?}, told nobody to join: known after {took:?}");
            assert!(
                took < secs(6),
                "seed {seed}, without a seed after {after:?}: {took:?}"
            );
            let renamed = MembershipEvent::Renamed {
                old: member(0, 1),
                new: member(0, 2),
            };
            assert_eq!(net.count(|_, event| *event == renamed), 3, "seed {seed}");
            let (_, took) = restart(member(0, 2), &[address(1)], after, seed);
            assert!(
                took < secs(1),
                "seed {seed}, with one after {after:?}: {took:?}"
            );
        }
    }
}

#[test]
fn a_restart_after_the_clock_jumped_back_is_let_in() {
    let again = Member {
        // Ten years earlier.
        started_ms: member(0, 1).started_ms - 10 * 365 * 86_400_000,
        ..member(0, 2)
    };
    for seed in SEEDS {
        for after in [0, 4, 20].map(secs) {
            let (net, took) = restart(again, &[], after, seed);
            println!(
                "restart after {after:?}, clock back, told nobody to join: known after {took:?}"
            );
            assert!(
                took < secs(6),
                "seed {seed}, without a seed after {after:?}: {took:?}"
            );
            let me = *net.nodes[&address(0)].me();
            assert_eq!(me.started_ms, member(0, 1).started_ms);
            assert!(me.renewals <= 2, "seed {seed}: {me:?}");
            assert!(
                net.count(|_, event| matches!(event, MembershipEvent::AddressClaimed { .. })) >= 1
            );
            let (_, took) = restart(again, &[address(1)], after, seed);
            assert!(
                took < secs(1),
                "seed {seed}, with one after {after:?}: {took:?}"
            );
        }
    }
}

#[test]
fn restarts_with_ever_earlier_clocks_and_loss() {
    for seed in SEEDS {
        let mut net = Net::whole(4, seed);
        net.loss = 0.2;
        for run in 2..8 {
            let started_ms = member(0, 1).started_ms - run * 3_600_000;
            let again = Member {
                started_ms,
                ..member(0, run)
            };
            net.start(again, &[address(1)]);
            net.run_until("known again", secs(30), Net::is_whole);
        }
    }
}

#[test]
fn who_was_declared_down_by_mistake_comes_back() {
    for seed in SEEDS {
        let mut net = Net::whole(5, seed);
        net.island = BTreeSet::from([address(3)]);
        net.run_until("declared down", secs(20), |net| {
            let others = net.nodes.keys().filter(|at| **at != address(3));
            others
                .into_iter()
                .all(|at| matches!(net.state(*at, address(3)), Some((_, MemberState::Down))))
        });
        net.island.clear();
        let took = net.run_until("back", secs(20), Net::is_whole);
        assert!(took < secs(8), "seed {seed}: {took:?}");
        let me = *net.nodes[&address(3)].me();
        assert!((1..=4).contains(&me.renewals), "{me:?}");
        assert_eq!(
            me,
            Member {
                renewals: me.renewals,
                ..member(3, 1)
            }
        );
        assert!(
            net.count(|at, event| at == address(3) && *event == MembershipEvent::Rejoined(me)) == 1
        );
    }
}

#[test]
fn who_stood_still_declares_nobody_down() {
    for seed in SEEDS {
        let mut net = Net::whole(5, seed);
        net.stopped.insert(address(2));
        net.run_for(secs(120));
        assert!(matches!(
            net.state(address(0), address(2)),
            Some((_, MemberState::Down))
        ));
        net.events.clear();
        net.stopped.clear();
        let took = net.run_until("back", secs(20), Net::is_whole);
        assert!(took < secs(5), "seed {seed}: {took:?}");
        let node = member(2, 1).node;
        let down = |_, event: &MembershipEvent| matches!(event, MembershipEvent::Down(of) if of.node != node);
        assert_eq!(net.count(down), 0, "seed {seed}: {:?}", net.events);
    }
}

#[test]
fn a_suspicion_is_withdrawn() {
    let mut net = Net::whole(4, 1);
    net.island = BTreeSet::from([address(3)]);
    let suspected = |_, event: &MembershipEvent| *event == MembershipEvent::Suspected(member(3, 1));
    net.run_until("suspected", secs(10), |net| net.count(suspected) == 3);
    net.island.clear();
    net.run_until("trusted", secs(10), Net::is_whole);
    net.run_for(secs(10));
    assert_eq!(
        net.count(|_, event| *event == MembershipEvent::Trusted(member(3, 1))),
        3
    );
    assert_eq!(
        net.count(|_, event| matches!(event, MembershipEvent::Down(_))),
        0
    );
    assert_eq!(net.nodes[&address(3)].me().renewals, 0);
}

#[test]
fn who_comes_back_while_nobody_is_left_notices() {
    let mut net = Net::whole(2, 1);
    let mut node = net.kill(address(0));
    let told = datagram(member(1, 1), *node.me(), Message::TurnUndead, vec![]);
    node.handle(net.now, &told).unwrap();
    assert_eq!(node.me().renewals, 1);
    // Its new identity is heard by nobody, and nobody speaks to it.
    net.kill(address(1));
    net.stop_joining();
    net.nodes.insert(address(0), node);
    net.run_for(secs(20));
    assert!(net.nodes[&address(0)].is_alone());
    net.start(member(1, 2), &[]);
    net.run_until("found again", secs(4), Net::is_whole);
}

#[test]
fn a_node_that_moved_is_down_where_it_was() {
    let mut net = Net::whole(4, 1);
    net.kill(address(1));
    let moved = Member {
        address: address(77),
        ..member(1, 2)
    };
    net.start(moved, &[address(0)]);
    net.run_until("down where it was", secs(20), |net| {
        net.is_down_everywhere(address(1))
    });
    net.run_until("up where it is", secs(1), Net::is_whole);
}

#[test]
fn time_that_leaps_and_goes_back_is_harmless() {
    let mut net = Net::whole(3, 1);
    let mut node = net.kill(address(1));
    for now in [1_000_000_000, 0, u64::MAX, 5, 1_000_000_000] {
        node.wake(secs(now));
        node.join(secs(now), address(0));
        assert!(node.next_wake().is_some());
        while node.poll_transmit().is_some() {}
    }
    assert_eq!(node.poll_event(), None, "nobody is suspected for that");
    node.wake(Duration::MAX);
    node.leave(Duration::MAX);
}

#[test]
fn the_same_seed_sends_the_same() {
    let run = |seed| {
        let mut net = Net::new(seed);
        net.recorded = Some(Vec::new());
        net.loss = 0.1;
        for index in 0..6 {
            net.start(member(index, 1), &[address(0)]);
        }
        net.run_for(secs(20));
        net.kill(address(5));
        net.run_for(secs(20));
        net.recorded.unwrap()
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}
