//! Whatever comes in: from the network's noise, and from a member that is out of its mind.

use std::time::Duration;

use foca::{Message, State};
use proptest::prelude::*;

use super::super::datagram::Update;
use super::super::{
    Member, MemberState, Membership, MembershipDatagram, MembershipError, MembershipEvent,
    MembershipOptions,
};
use super::net::{Net, address, datagram, member, secs};
use rmbd_proto::Boot;
use rmbd_proto::cluster::MemberEntry;

/// A node that knows one other, and its messages so far.
fn pair() -> (Membership, Vec<Vec<u8>>) {
    let mut net = Net::new(1);
    net.recorded = Some(Vec::new());
    net.start(member(0, 1), &[]);
    net.start(member(1, 1), &[address(0)]);
    net.run_for(secs(5));
    net.start(member(2, 1), &[address(0)]);
    net.run_for(secs(5));
    let recorded = net.recorded.take().unwrap();
    (net.kill(address(0)), recorded)
}

proptest! {
    #[test]
    fn noise_is_refused(bytes in proptest::collection::vec(any::<u8>(), 0..1_200)) {
        let mut node = Membership::new(member(0, 1), 1, MembershipOptions::default());
        // A header of 70 bytes that makes sense does not come up by chance.
        prop_assert!(node.handle(secs(1), &bytes).is_err());
        prop_assert!(node.poll_transmit().is_none() && node.members().next().is_none());
    }

    #[test]
    fn noise_after_a_header_is_refused_or_bounded(tail in proptest::collection::vec(any::<u8>(), 0..900)) {
        let (mut node, _) = pair();
        let me = *node.me();
        for message in [Message::Gossip, Message::Feed, Message::Ping(1), Message::Announce, Message::TurnUndead] {
            let mut bytes = datagram(member(1, 1), me, message, Vec::new());
            bytes.extend_from_slice(&tail);
            let _ = node.handle(secs(20), &bytes);
            node.wake(secs(20));
        }
        prop_assert!(node.members().count() < 100);
    }
}

#[test]
fn cut_and_flipped_messages_are_harmless() {
    let (_, recorded) = pair();
    assert!(recorded.len() > 40);
    for bytes in recorded.iter().take(60) {
        let (mut node, _) = pair();
        let now = secs(20);
        for end in 0..bytes.len() {
            // A header without updates is complete.
            let _ = node.handle(now, &bytes[..end]);
        }
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let _ = node.handle(now, &flipped);
            node.wake(now);
            while node.poll_transmit().is_some() {}
        }
        // Each flip can name one more that does not exist.
        assert!(node.members().count() < bytes.len() * 8);
        assert_eq!(node.me().address, address(0));
    }
}

#[test]
fn messages_that_make_no_sense() {
    let (mut node, _) = pair();
    let (me, src) = (*node.me(), member(1, 1));
    let mut refused = |bytes: &[u8]| node.handle(secs(20), bytes).unwrap_err();
    assert_eq!(refused(&[]), MembershipError::Malformed);
    let long = refused(&[0; 1_051]);
    assert_eq!(
        long,
        MembershipError::TooLong {
            bytes: 1_051,
            max_bytes: 1_050
        }
    );
    let nobody = Member {
        boot: Boot(0),
        ..src
    };
    let update = |id| vec![Update::alive(id)];
    let ping = Message::Ping(1);
    let forged = [
        datagram(nobody, me, ping.clone(), vec![]),
        datagram(src, nobody, ping.clone(), vec![]),
        datagram(src, me, ping.clone(), update(nobody)),
        datagram(src, me, Message::Broadcast, vec![]),
        datagram(src, me, Message::Announce, update(member(3, 1))),
        datagram(src, me, Message::TurnUndead, update(member(3, 1))),
        datagram(
            src,
            me,
            Message::PingReq {
                target: nobody,
                probe_number: 1,
            },
            vec![],
        ),
    ];
    for bytes in forged {
        assert_eq!(refused(&bytes), MembershipError::Malformed);
    }
    let elsewhere = datagram(src, member(7, 1), ping, vec![]);
    assert_eq!(refused(&elsewhere), MembershipError::NotForUs);
    // A probe of ourselves by way of ourselves.
    let around = Message::PingReq {
        target: me,
        probe_number: 1,
    };
    assert_eq!(
        refused(&datagram(src, me, around, vec![])),
        MembershipError::Malformed
    );
}

/// What a later release adds behind a message, or to members in it, is read over.
#[test]
fn messages_may_grow() {
    let (mut node, _) = pair();
    let (me, src, new) = (*node.me(), member(1, 1), member(5, 1));
    let told = datagram(src, me, Message::Gossip, vec![Update::alive(new)]);
    let grown = [&told[..], b"more"].concat();
    node.handle(secs(20), &grown).unwrap();
    assert_eq!(node.find(new.boot), Some(&new));
    let announced = datagram(member(6, 1), me, Message::Announce, vec![]);
    // No members, and more.
    let grown = [&announced[..], &[0, 0], b"more"].concat();
    node.handle(secs(20), &grown).unwrap();
    assert_eq!(
        node.find(member(6, 1).boot).map(|member| member.node),
        Some(1_006)
    );
    // Each member stands in it with its length.
    let new = member(7, 1);
    let told = datagram(src, me, Message::Gossip, vec![Update::alive(new)]);
    let entry = entry_of(&new);
    let at = told.windows(entry.len()).rposition(|part| part == entry);
    let at = at.unwrap();
    let mut grown = told[..at].to_vec();
    grown.push(entry[0] + 3);
    grown.extend(&entry[1..]);
    grown.extend(b"new");
    grown.extend(&told[at + entry.len()..]);
    node.handle(secs(20), &grown).unwrap();
    assert_eq!(node.find(new.boot), Some(&new));
}

/// As it stands in messages.
fn entry_of(member: &Member) -> Vec<u8> {
    let mut bytes = vec![0];
    MemberEntry {
        node: member.node,
        boot: member.boot,
        started_ms: member.started_ms,
        renewals: member.renewals,
        address: member.address,
        client_port: member.client_port,
    }
    .write(&mut bytes);
    bytes[0] = bytes.len() as u8 - 1;
    bytes
}

fn drain(node: &mut Membership) -> usize {
    std::iter::from_fn(|| node.poll_transmit()).count()
}

#[test]
fn a_flood_of_inventions_stays_in_its_bounds() {
    use State::{Alive, Down, Suspect};
    // The last: each is up, then down, and makes room for the next.
    for states in [&[Alive][..], &[Suspect], &[Down], &[Alive, Down]] {
        let (mut node, _) = pair();
        let me = *node.me();
        let mut now = secs(20);
        for round in 0..2_000_usize {
            for state in states {
                let made_up = (0..20).map(|index| {
                    let index = 10 + (round * 20 + index) % 60_000;
                    Update::new(member(index, 1 + round as u64 % 7), round as u16, *state)
                });
                let bytes = datagram(member(1, 1), me, Message::Gossip, made_up.collect());
                node.handle(now, &bytes).unwrap();
            }
            now += Duration::from_millis(5);
            node.wake(now);
            assert!(node.members().count() <= 1_024);
            assert!(node.effects.timers.len() <= 7 + 2 * 1_024);
            assert!(node.foca.updates_backlog() <= 2 * 1_024 + 20);
            assert!(node.effects.events.len() <= 1_024 && node.effects.transmits.len() <= 1_024);
        }
        assert!(node.members().count() > 100, "{states:?}");
    }
}

#[test]
fn the_living_take_the_place_of_the_dead() {
    let options = MembershipOptions {
        max_members: 5,
        ..MembershipOptions::default()
    };
    let mut node = Membership::new(member(0, 1), 1, options);
    let me = *node.me();
    let mut tell = |now: u64, src: usize, updates: Vec<Update>| {
        let bytes = datagram(member(src, 1), me, Message::Gossip, updates);
        let result = node.handle(secs(now), &bytes);
        let mut known: Vec<_> = node
            .members()
            .map(|(member, _)| member.node - 1_000)
            .collect();
        known.sort_unstable();
        (result, known)
    };
    let down = |index: usize| Update::down(member(index, 1));
    tell(1, 1, vec![down(2)]).0.unwrap();
    tell(2, 1, vec![down(3), down(4), down(5)]).0.unwrap();
    // Full: news of one more dead is no news; a living one pushes out who is dead for longest.
    assert_eq!(tell(3, 1, vec![down(6)]), (Ok(()), vec![1, 2, 3, 4, 5]));
    // But not who is named beside it, and would come back.
    let living = Update::alive(member(6, 1));
    let all = vec![down(2), down(3), down(4), down(5), living];
    assert_eq!(tell(3, 1, all), (Ok(()), vec![1, 2, 3, 4, 5]));
    assert_eq!(tell(4, 7, vec![]), (Ok(()), vec![1, 3, 4, 5, 7]));
    for (index, now) in (8..11).zip(5..) {
        tell(now, index, vec![]).0.unwrap();
    }
    let full = Err(MembershipError::TooManyMembers { max_members: 5 });
    assert_eq!(tell(9, 11, vec![]), (full, vec![1, 7, 8, 9, 10]));
    assert_eq!(
        tell(9, 7, vec![Update::alive(member(12, 1))]).1,
        vec![1, 7, 8, 9, 10]
    );
}

#[test]
fn who_declares_us_down_all_the_time_is_answered_now_and_then() {
    let (mut node, _) = pair();
    drain(&mut node);
    let mut sent = 0;
    for ms in 0..10_000 {
        let me = *node.me();
        let now = secs(20) + Duration::from_millis(ms);
        let told = datagram(member(1, 1), me, Message::TurnUndead, vec![]);
        node.handle(now, &told).unwrap();
        let claim = me.outbidding(&me);
        let claimed = vec![Update::alive(Member {
            boot: Boot(1),
            ..claim
        })];
        let told = datagram(member(2, 1), me, Message::Gossip, claimed);
        node.handle(now, &told).unwrap();
        sent += drain(&mut node);
    }
    let renewals = node.me().renewals;
    // Eight at once, one a second; a claim outbid takes two.
    assert!((10..=2 * 19).contains(&renewals), "{renewals}");
    // Each time to both members, and what is a reply.
    assert!(sent < 400, "{sent}");
}

#[test]
fn flapping_leaves_nothing_behind() {
    let (mut node, _) = pair();
    let me = *node.me();
    let gone = vec![Update::down(member(1, 1)), Update::down(member(2, 1))];
    let bytes = datagram(member(3, 1), me, Message::Gossip, gone);
    node.handle(secs(20), &bytes).unwrap();
    for round in 0..3_000_u32 {
        let by = Member {
            renewals: round,
            ..member(3, 1)
        };
        let bytes = datagram(by, me, Message::Gossip, vec![]);
        node.handle(secs(20), &bytes).unwrap();
        assert!(!node.is_alone());
        let bytes = datagram(by, me, Message::Gossip, vec![Update::down(by)]);
        node.handle(secs(20), &bytes).unwrap();
        assert!(node.is_alone());
        assert!(
            node.effects.timers.len() <= 7 + 3,
            "{}",
            node.effects.timers.len()
        );
    }
}

#[test]
fn two_that_advertise_one_address_do_not_storm() {
    let mut net = Net::whole(3, 1);
    // Reached at address 9 in truth; it says that it is at address 0.
    let pretender = Member {
        address: address(0),
        ..member(9, 2)
    };
    let mut second = Membership::new(pretender, 1, MembershipOptions::default());
    (net.bytes, net.datagrams) = (0, 0);
    let mut own = 0;
    for _ in 0..60 {
        second.join(net.now, address(1));
        while let Some(MembershipDatagram { to, message, .. }) = second.poll_transmit() {
            own += 1;
            let node = net.nodes.get_mut(&to).unwrap();
            node.handle(net.now, &message).unwrap();
        }
        net.run_for(secs(1));
    }
    assert_eq!(own, 60);
    assert!(net.datagrams < 60 * 3 * 10, "{}", net.datagrams);
    // The one that is really there has outbid it, once, and says so.
    assert_eq!(net.nodes[&address(0)].me().boot, member(0, 1).boot);
    assert_eq!(
        net.state(address(1), address(0)).unwrap(),
        (*net.nodes[&address(0)].me(), MemberState::Alive)
    );
    let claimed = MembershipEvent::AddressClaimed { by: pretender };
    assert_eq!(net.count(|_, event| *event == claimed), 1);
}

#[test]
fn events_that_nobody_polls_are_bounded() {
    let (mut node, _) = pair();
    let me = *node.me();
    for round in 1..2_000 {
        let by = Member {
            renewals: round,
            ..member(1, 1)
        };
        node.handle(secs(20), &datagram(by, me, Message::Gossip, vec![]))
            .unwrap();
    }
    let events: Vec<_> = std::iter::from_fn(|| node.poll_event()).collect();
    assert_eq!(events.len(), 1_024);
    let new = Member {
        renewals: 1_999,
        ..member(1, 1)
    };
    let old = Member {
        renewals: 1_998,
        ..new
    };
    assert_eq!(events.last(), Some(&MembershipEvent::Renamed { old, new }));
}
