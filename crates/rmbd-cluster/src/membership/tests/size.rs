//! What depends on how many there are.

use std::time::Duration;

use super::super::MembershipEvent;
use super::net::{Net, address, member, secs};

/// Seal, frame and number, UDP and IPv4 headers of a datagram around a message, about.
const AROUND_BYTES: u64 = 60 + 28;

#[test]
fn all_start_at_once() {
    for (count, loss, limit) in [(3, 0.2, 30), (30, 0.0, 10), (30, 0.2, 60), (100, 0.0, 10)] {
        let mut net = Net::new(7);
        net.loss = loss;
        for index in 0..count {
            net.start(member(index, 1), &[address(0)]);
        }
        let took = net.run_until("all know each other", secs(limit), Net::is_whole);
        println!("{count} nodes, {loss} lost: all know each other after {took:?}");
    }
}

#[test]
fn two_halves_heal_without_help() {
    for (count, seeds, limit) in [
        (2, 10, 10),
        (3, 10, 10),
        (10, 5, 15),
        (30, 3, 15),
        (100, 1, 30),
    ] {
        let mut longest = Duration::ZERO;
        for seed in 0..seeds {
            let mut net = Net::whole(count, seed);
            net.stop_joining();
            net.island = (0..count / 2).map(address).collect();
            // So that it ends at any moment of a period.
            net.run_for(secs(120) + Duration::from_millis(701) * seed as u32);
            let up = |at: usize| {
                let down = |net: &Net, of: usize| {
                    use super::super::MemberState::Down;
                    matches!(net.state(address(at), address(of)), Some((_, Down)))
                };
                (0..count)
                    .filter(|of| *of != at && !down(&net, *of))
                    .count()
                    + 1
            };
            assert_eq!(up(0), count / 2, "the cut was complete");
            assert_eq!(up(count - 1), count - count / 2);
            net.island.clear();
            longest = longest.max(net.run_until("healed", secs(limit), Net::is_whole));
        }
        println!("{count} nodes, two halves: healed after {longest:?} at most");
    }
}

#[test]
fn idle_costs_little() {
    for count in [2, 3, 30, 100] {
        let mut net = Net::whole(count, 1);
        net.run_for(secs(60));
        (net.bytes, net.datagrams) = (0, 0);
        net.run_for(secs(60));
        let per_s = |total: u64| total / 60 / count as u64;
        let bytes = per_s(net.bytes);
        let wire = per_s(net.bytes + net.datagrams * AROUND_BYTES);
        println!("{count} nodes, idle: each sends {bytes} B/s of messages, {wire} B/s on the wire");
        assert!(wire < 700);
        assert!(net.events.is_empty());
        // With one that is gone for good.
        net.kill(address(1));
        net.run_for(secs(60));
        (net.bytes, net.datagrams) = (0, 0);
        net.run_for(secs(60));
        let wire = per_s(net.bytes + net.datagrams * AROUND_BYTES);
        println!("{count} nodes, one of them gone: {wire} B/s on the wire");
        assert!(wire < 900);
    }
}

#[test]
fn a_fifth_is_lost_for_ten_minutes() {
    for count in [3, 10, 30] {
        let mut net = Net::whole(count, 3);
        net.loss = 0.2;
        net.run_for(secs(600));
        let of = |is: fn(&MembershipEvent) -> bool| net.count(|_, event| is(event));
        let suspected = of(|event| matches!(event, MembershipEvent::Suspected(_)));
        let down = of(|event| matches!(event, MembershipEvent::Down(_)));
        println!("{count} nodes, 20 % lost, 600 s: {suspected} suspicions, {down} times down");
        assert!(suspected > 0, "the loss was felt");
        net.loss = 0.0;
        net.run_until("all know each other", secs(20), Net::is_whole);
    }
}
