#![allow(clippy::unwrap_used)]

mod restart;

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use proptest::prelude::*;

use super::*;

const SECRET: [u8; 32] = [7; 32];

const fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// An address in a network that this client has for itself.
fn home(client: u64) -> IpAddr {
    Ipv4Addr::from_bits(0x0a00_0007 + ((client as u32 & 0xffff) << 8)).into()
}

/// Asks for a client that has a cookie of its address.
fn admit_from(
    table: &OnceTable,
    ip: IpAddr,
    client: u64,
    sequence: u64,
    now: Duration,
) -> Admission {
    let cookie = table.cookie(ip, now);
    let caller = Caller {
        client,
        ip,
        cookie: Some(&cookie),
    };
    table.admit(caller, sequence, now)
}

fn admit(table: &OnceTable, client: u64, sequence: u64, now: Duration) -> Admission {
    admit_from(table, home(client), client, sequence, now)
}

#[test]
fn a_window_tells_new_from_repeated_from_too_old() {
    let table = OnceTable::new(1, &SECRET);
    let admit = |sequence| admit(&table, 1, sequence, at(0));
    assert_eq!(admit(5000), Admission::New);
    for sequence in [4999, 5000 - 1023, 4500] {
        assert_eq!(admit(sequence), Admission::New);
        assert_eq!(admit(sequence), Admission::Repeat);
    }
    assert_eq!(admit(5000 - 1024), Admission::TooOld);
    assert_eq!(admit(0), Admission::TooOld);
    // The window moves by one: exactly one sequence leaves it.
    assert_eq!(admit(5001), Admission::New);
    assert_eq!(admit(5000 - 1023), Admission::TooOld);
    assert_eq!(admit(5000 - 1022), Admission::New);
    assert_eq!(admit(5000), Admission::Repeat);
    // A leap forgets all sequences before it.
    assert_eq!(admit(u64::MAX), Admission::New);
    assert_eq!(admit(u64::MAX - 1023), Admission::New);
    assert_eq!(admit(u64::MAX), Admission::Repeat);
    assert_eq!(admit(5001), Admission::TooOld);
}

/// The attack that this defends against: as many first contacts as the table has places, each from another address.
#[test]
fn who_shows_no_cookie_of_its_address_costs_nothing_and_keeps_nobody_out() {
    let table = OnceTable::new(CLIENTS_MAX, &SECRET);
    // The attacker can receive at one address of its own, so it has a cookie.
    let own = table.cookie([203, 0, 113, 9].into(), at(0));
    for n in 0..CLIENTS_MAX as u32 {
        let caller = Caller {
            client: n.into(),
            ip: Ipv4Addr::from_bits(n.wrapping_mul(0x9e37_79b9)).into(),
            cookie: (n % 2 == 0).then_some(&own[..]),
        };
        assert_eq!(table.admit(caller, 1, at(0)), Admission::Unproven, "{n}");
    }
    assert_eq!(table.clients(), 0);
    assert_eq!(admit(&table, 77, 1, at(0)), Admission::New);
    assert_eq!(table.clients(), 1);
}

#[test]
fn who_is_known_is_never_asked() {
    let table = OnceTable::new(10, &SECRET);
    assert_eq!(admit(&table, 1, 1, at(0)), Admission::New);
    let later = at(1000 * IDLE_LIMIT.as_secs());
    for (n, now) in [at(0), at(120), at(IDLE_LIMIT.as_secs()), later]
        .into_iter()
        .enumerate()
    {
        table.lapse(now);
        let moved = Caller {
            client: 1,
            ip: home(n as u64 + 2),
            cookie: [None, Some(&[1; 16][..])][n % 2],
        };
        assert_eq!(table.admit(moved, 1, now), Admission::Repeat);
        assert_eq!(table.admit(moved, 2 + n as u64, now), Admission::New);
    }
    // A known client is known by its number.
    let other = Caller {
        client: 2,
        ip: home(1),
        cookie: None,
    };
    assert_eq!(table.admit(other, 1, at(0)), Admission::Unproven);
}

#[test]
fn a_full_table_refuses_strangers_and_keeps_the_live() {
    let table = OnceTable::with_shards(100, &SECRET, 1);
    let admit = |client, now| admit(&table, client, 1, now);
    for client in 0..100 {
        assert_eq!(admit(client, at(client)), Admission::New);
    }
    assert_eq!(table.clients(), 100);
    assert_eq!(admit(100, at(100)), Admission::Full);
    // The oldest client is live until the limit has passed, and each request keeps it live.
    assert_eq!(admit(0, at(200)), Admission::Repeat);
    let limit = IDLE_LIMIT.as_secs();
    assert_eq!(admit(100, at(1 + limit)), Admission::Full);
    assert_eq!(admit(100, at(2 + limit)), Admission::New);
    // Client 1 lost its place; all others have theirs.
    assert_eq!(admit(101, at(2 + limit)), Admission::Full);
    assert_eq!(admit(1, at(2 + limit)), Admission::Full);
    for client in (2..101).chain([0]) {
        assert_eq!(admit(client, at(2 + limit)), Admission::Repeat);
    }
    assert_eq!(table.clients(), 100);
}

/// A machine that slept does not know for how long. A client whose memory nobody needed is still remembered.
#[test]
fn who_lost_its_place_is_remembered_while_its_memory_is_not_needed() {
    let table = OnceTable::with_shards(10, &SECRET, 1);
    for client in 0..10 {
        assert_eq!(admit(&table, client, 1, at(0)), Admission::New);
    }
    let later = at(10 * IDLE_LIMIT.as_secs());
    table.lapse(later);
    assert_eq!(table.clients(), 0);
    assert_eq!(admit(&table, 3, 1, later), Admission::Repeat);
    assert_eq!(table.clients(), 1);
    // Nine clients come and take the memory of those that are not live; then no memory is left.
    for client in 10..19 {
        assert_eq!(admit(&table, client, 1, later), Admission::New);
    }
    assert_eq!(admit(&table, 19, 1, later), Admission::Full);
    assert_eq!(admit(&table, 3, 1, later), Admission::Repeat);
    // Clients whose memory was taken are new ones.
    assert_eq!(admit(&table, 0, 1, later), Admission::Full);
}

#[test]
fn a_network_leaves_places_to_others_and_its_idle_clients_do_not_count() {
    let table = OnceTable::new(CLIENTS_MAX, &SECRET);
    let neighbour = |n: u64| IpAddr::from([203, 0, 113, n as u8]);
    let fill = |first: u64, now| {
        let mut taken = 0;
        while admit_from(&table, neighbour(taken), first + taken, 1, now) == Admission::New {
            taken += 1;
        }
        let last = admit_from(&table, neighbour(7), first + taken, 1, now);
        assert_eq!(last, Admission::NetworkFull);
        taken
    };
    let taken = fill(0, at(0));
    assert_eq!(taken, CLIENTS_MAX as u64 / 5 + 1);
    assert_eq!(table.refused_last(), Some(Network::of(neighbour(0))));
    // Known clients of the network go on, and clients of all other networks come in.
    for client in 0..taken {
        assert_eq!(
            admit_from(&table, neighbour(1), client, 2, at(0)),
            Admission::New
        );
    }
    for client in 1_000_000..1_010_000 {
        assert_eq!(admit(&table, client, 1, at(0)), Admission::New);
    }
    // All clients lapse after a while, and the network can have as many places as before.
    let later = at(IDLE_LIMIT.as_secs() + 1);
    table.lapse(later);
    assert_eq!(table.clients(), 0);
    assert_eq!(fill(5_000_000, later), taken);
}

/// No part is full before the table is, whatever numbers clients choose. (With as many networks as places, some
/// networks count for a few more than they hold, which matters for the very last places only.)
#[test]
fn parts_fill_evenly_and_nobody_is_refused_before_the_table_is_full() {
    let numbers: [fn(u64) -> u64; 4] = [
        |n| n,
        |n| n << 32,
        |n| n.rotate_right(16),
        |n| n.wrapping_mul(64),
    ];
    for (kind, number) in numbers.into_iter().enumerate() {
        let table = OnceTable::new(CLIENTS_MAX, &SECRET);
        let mut taken = 0;
        for n in 0..CLIENTS_MAX as u64 {
            match admit_from(&table, home(n), number(n), 1, at(0)) {
                Admission::New => taken += 1,
                refused => assert_eq!(refused, Admission::NetworkFull, "{kind}: {n}"),
            }
            assert!(
                taken + 64 > n,
                "{kind}: refused when {taken} places were taken"
            );
        }
        assert_eq!(table.clients() as u64, taken);
        let sizes: Vec<_> = (table.shards.iter())
            .map(|shard| lock(shard).len())
            .collect();
        let share = CLIENTS_MAX / SHARDS;
        // The limit is six standard deviations, the room that a part has.
        for size in sizes {
            assert!(size.abs_diff(share) <= 6 * share.isqrt(), "{kind}: {size}");
        }
    }
}

#[test]
fn a_clock_that_is_read_late_does_not_make_a_client_older() {
    let table = OnceTable::with_shards(1, &SECRET, 1);
    let admit = |client, sequence, now| admit(&table, client, sequence, now);
    assert_eq!(admit(1, 1, at(1000)), Admission::New);
    assert_eq!(admit(1, 2, at(10)), Admission::New);
    let limit = IDLE_LIMIT.as_secs();
    assert_eq!(admit(2, 1, at(1000 + limit)), Admission::Full);
    assert_eq!(admit(2, 1, at(0)), Admission::Full);
    assert_eq!(admit(2, 1, at(1001 + limit)), Admission::New);
}

#[test]
fn threads_that_ask_at_once_apply_each_request_once() {
    const SEQUENCES: u64 = 20_000;
    let table = OnceTable::new(100, &SECRET);
    let applied: u64 = std::thread::scope(|scope| {
        let ask = |_| {
            scope.spawn(|| {
                let asks = (0..SEQUENCES).flat_map(|n| (0..3).map(move |client| (client, n)));
                let new = asks.filter(|&(client, sequence)| {
                    admit(&table, client, sequence, at(0)) == Admission::New
                });
                new.count() as u64
            })
        };
        let threads: Vec<_> = (0..4).map(ask).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .sum()
    });
    // The first request for a sequence is never too late: nobody went past it before.
    assert_eq!(applied, 3 * SEQUENCES);
    assert_eq!(table.clients(), 3);
    let repeats = (SEQUENCES - WINDOW..SEQUENCES)
        .filter(|&sequence| admit(&table, 0, sequence, at(0)) == Admission::Repeat);
    assert_eq!(repeats.count() as u64, WINDOW);
}

/// The table as the documentation describes it. The client that was heard of longest ago stands first.
struct Naive {
    max: usize,
    clients: Vec<NaiveClient>,
}

struct NaiveClient {
    id: u64,
    network: u8,
    heard: Duration,
    applied: BTreeSet<u64>,
    highest: u64,
    verdicts: BTreeMap<u64, bool>,
}

impl Naive {
    fn live(&self, now: Duration) -> usize {
        let live = self.clients.iter().filter(|c| now - c.heard <= IDLE_LIMIT);
        live.count()
    }

    fn place(&self, network: u8, now: Duration) -> Option<Admission> {
        let live = |c: &&NaiveClient| now - c.heard <= IDLE_LIMIT;
        let of_network = self
            .clients
            .iter()
            .filter(live)
            .filter(|c| c.network == network);
        let free = self.max - self.live(now);
        if free == 0 {
            return Some(Admission::Full);
        }
        (of_network.count() * 4 >= free).then_some(Admission::NetworkFull)
    }

    fn admit(
        &mut self,
        id: u64,
        network: u8,
        proven: bool,
        sequence: u64,
        now: Duration,
    ) -> Admission {
        let known = self.clients.iter().position(|client| client.id == id);
        let mut client = match known {
            Some(at) if now - self.clients[at].heard <= IDLE_LIMIT => self.clients.remove(at),
            Some(at) => match self.place(self.clients[at].network, now) {
                Some(refused) => return refused,
                None => self.clients.remove(at),
            },
            None if !proven => return Admission::Unproven,
            None => {
                if let Some(refused) = self.place(network, now) {
                    return refused;
                }
                if self.clients.len() == self.max {
                    self.clients.remove(0);
                }
                NaiveClient {
                    id,
                    network,
                    heard: now,
                    applied: BTreeSet::new(),
                    highest: sequence,
                    verdicts: BTreeMap::new(),
                }
            }
        };
        client.heard = now;
        client.highest = client.highest.max(sequence);
        let admission = if client.highest - sequence >= WINDOW {
            Admission::TooOld
        } else if client.applied.insert(sequence) {
            Admission::New
        } else {
            Admission::Repeat
        };
        self.clients.push(client);
        admission
    }

    fn client(&mut self, id: u64) -> Option<&mut NaiveClient> {
        self.clients.iter_mut().find(|client| client.id == id)
    }

    fn verdict(&mut self, id: u64, sequence: u64) -> Option<bool> {
        let client = self.client(id)?;
        let is_within = sequence <= client.highest && client.highest - sequence < WINDOW;
        let verdict = client.verdicts.get(&sequence).copied();
        verdict.filter(|_| is_within)
    }
}

/// The cookie that a caller shows.
#[derive(Debug, Clone, Copy)]
enum Shown {
    Nothing,
    Fresh,
    /// A good cookie, made this many seconds ago, at most 59.
    Before(u64),
    /// A cookie of an epoch that is over, made this many seconds ago, at least 120.
    Stale(u64),
    /// A cookie of the next address.
    Neighbours,
    /// A cookie of the same address in the form of the other family, if it has one.
    OtherForm,
    Garbage([u8; 16], usize),
}

fn shown() -> impl Strategy<Value = Shown> {
    prop_oneof![
        1 => Just(Shown::Nothing),
        3 => Just(Shown::Fresh),
        2 => (0..60_u64).prop_map(Shown::Before),
        1 => (120..1000_u64).prop_map(Shown::Stale),
        1 => Just(Shown::Neighbours),
        2 => Just(Shown::OtherForm),
        1 => (any::<[u8; 16]>(), 0..=16_usize).prop_map(|(bytes, len)| Shown::Garbage(bytes, len)),
    ]
}

/// An address in one of four networks: two of IPv4, one of them sometimes in its mapped form, and two of IPv6.
fn address(network: u8, host: u8, mapped: bool) -> IpAddr {
    let v4 = Ipv4Addr::new(203, 0, network, host);
    match network {
        0 | 1 if mapped => v4.to_ipv6_mapped().into(),
        0 | 1 => v4.into(),
        _ => [0x2001, 0xdb8, network.into(), host.into(), 0, 0, 0, 1].into(),
    }
}

proptest! {
    #[test]
    fn same_as_the_naive_table(
        max in 1..12_usize,
        asks in prop::collection::vec(
            (
                // Client, network, host, and whether the address is mapped.
                (0..16_u64, 0..4_u8, 0..3_u8, any::<bool>()),
                shown(),
                prop_oneof![0..20_u64, 0..3000_u64, any::<u64>()],
                // Milliseconds since the request before, never 0, so that ages differ.
                prop_oneof![8 => 1..50_u64, 1 => 1..400_000_u64],
            ),
            1..300,
        ),
    ) {
        let table = OnceTable::with_shards(max, &SECRET, 1);
        let mut naive = Naive { max, clients: Vec::new() };
        // All earlier epochs have passed.
        let mut now = at(10_000);
        let mut applied = BTreeMap::new();
        for ((client, network, host, mapped), shown, sequence, later_ms) in asks {
            now += Duration::from_millis(later_ms);
            let ip = address(network, host, mapped);
            let (bytes, proven) = match shown {
                Shown::Nothing => (None, false),
                Shown::Fresh => (Some(table.cookie(ip, now).to_vec()), true),
                Shown::Before(seconds) => (Some(table.cookie(ip, now - at(seconds)).to_vec()), true),
                Shown::Stale(seconds) => (Some(table.cookie(ip, now - at(seconds)).to_vec()), false),
                Shown::Neighbours => {
                    (Some(table.cookie(address(network, host + 1, mapped), now).to_vec()), false)
                }
                Shown::OtherForm => {
                    (Some(table.cookie(address(network, host, !mapped), now).to_vec()), true)
                }
                Shown::Garbage(bytes, len) => (Some(bytes[..len].to_vec()), false),
            };
            table.lapse(now);
            let caller = Caller { client, ip, cookie: bytes.as_deref() };
            let admission = table.admit(caller, sequence, now);
            prop_assert_eq!(admission, naive.admit(client, network, proven, sequence, now));
            prop_assert_eq!(table.clients(), naive.live(now));
            if admission == Admission::New {
                // A request that may still come is never applied twice.
                let before = applied.insert((client, sequence), now);
                prop_assert!(before.is_none_or(|then| now - then > IDLE_LIMIT));
            }
        }
    }
}

#[test]
fn a_verdict_is_remembered_as_long_as_its_sequence() {
    let table = OnceTable::new(10, &[7; COOKIE_SECRET_BYTES]);
    let ip: IpAddr = [192, 0, 2, 7].into();
    let cookie = table.cookie(ip, Duration::ZERO);
    let caller = Caller {
        client: 7,
        ip,
        cookie: Some(&cookie),
    };
    let admit = |sequence| table.admit(caller, sequence, Duration::ZERO);
    assert_eq!(table.verdict(7, 1), None, "nobody knows the client");
    for sequence in [1, 2, 3] {
        assert_eq!(admit(sequence), Admission::New);
        assert_eq!(table.verdict(7, sequence), None, "not decided yet");
    }
    table.decide(7, 1, true);
    table.decide(7, 2, false);
    assert_eq!(
        (table.verdict(7, 1), table.verdict(7, 2)),
        (Some(true), Some(false))
    );
    assert_eq!(table.verdict(7, 3), None);
    // One that comes into the window does not get the verdict of the one that leaves it.
    assert_eq!(admit(WINDOW + 1), Admission::New);
    assert_eq!(
        (table.verdict(7, 1), table.verdict(7, WINDOW + 1)),
        (None, None)
    );
    assert_eq!(table.verdict(7, 2), Some(false));
    assert_eq!(admit(5 * WINDOW), Admission::New);
    for sequence in 0..6 * WINDOW {
        table.decide(8, sequence, true);
        assert_eq!(table.verdict(7, sequence), None, "{sequence}");
    }
}
