//! Tests that the proxy of other tests does the harm that they ask for, and no other.

#![allow(missing_docs, clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use rmbd_testkit::proxy::{Counts, Harm, Proxy};

/// The longest time that anything may take on a busy machine. Nothing waits this long when all is well.
const PATIENCE: Duration = Duration::from_secs(30);
const SEED: u64 = 0x9042;
const DATAGRAMS: u32 = 2_000;
/// Number of datagrams under way at once, fewer than a receive buffer takes.
const BURST: u64 = 50;

fn bind(address: &str) -> UdpSocket {
    let socket = UdpSocket::bind(address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

fn address(socket: &UdpSocket) -> SocketAddr {
    socket.local_addr().unwrap()
}

fn send(from: &UdpSocket, proxy: &Proxy, number: u32) {
    from.send_to(&number.to_le_bytes(), proxy.address())
        .unwrap();
}

fn receive(socket: &UdpSocket) -> u32 {
    let mut bytes = [0; 4];
    assert_eq!(socket.recv(&mut bytes).unwrap(), bytes.len());
    u32::from_le_bytes(bytes)
}

fn wait_for_counts(proxy: &Proxy, is_so: impl Fn(Counts) -> bool) -> Counts {
    let start = Instant::now();
    while !is_so(proxy.counts()) {
        assert!(start.elapsed() < PATIENCE, "waited in vain");
        std::thread::sleep(Duration::from_millis(1));
    }
    proxy.counts()
}

/// The numbers that came through, in order.
fn through(harm: Harm, seed: u64) -> (Vec<u32>, Counts) {
    let (client, server) = (bind("127.0.0.1:0"), bind("127.0.0.1:0"));
    let proxy = Proxy::both_ways(address(&server), harm, seed);
    let mut came = Vec::new();
    for sent in 1..=DATAGRAMS {
        send(&client, &proxy, sent);
        if u64::from(sent).is_multiple_of(BURST) {
            let counts = wait_for_counts(&proxy, |counts| counts.taken() == u64::from(sent));
            let due = counts.passed + 2 * counts.doubled + counts.late;
            came.resize_with(due as usize, || receive(&server));
        }
    }
    (came, proxy.stop())
}

/// Whether a count is within a quarter of the rate that was asked for.
fn is_about(count: u64, per_thousand: u64) -> bool {
    (count * 1000 / u64::from(DATAGRAMS)).abs_diff(per_thousand) <= per_thousand / 4
}

#[test]
fn a_seed_loses_the_same_twice() {
    let harm = Harm {
        lost: 200,
        ..Harm::NONE
    };
    let (came, counts) = through(harm, SEED);
    assert!(came.is_sorted() && is_about(counts.lost, 200), "{counts:?}");
    assert_eq!(counts.lost, u64::from(DATAGRAMS) - came.len() as u64);
    assert_eq!(through(harm, SEED), (came.clone(), counts));
    assert_ne!(through(harm, SEED + 1).0, came);
}

#[test]
fn all_harms_at_once_are_the_same_twice() {
    let sorted = |(mut came, counts): (Vec<u32>, Counts)| {
        came.sort_unstable();
        (came, counts)
    };
    let (came, counts) = sorted(through(Harm::A_FIFTH_LOST, SEED));
    assert_eq!(counts.taken(), u64::from(DATAGRAMS));
    assert!(
        is_about(counts.lost, 200) && is_about(counts.doubled, 50),
        "{counts:?}"
    );
    assert!(is_about(counts.late, 100) && counts.cut == 0, "{counts:?}");
    assert_eq!(sorted(through(Harm::A_FIFTH_LOST, SEED)), (came, counts));
}

#[test]
fn without_harm_all_comes_in_order() {
    let (came, counts) = through(Harm::NONE, SEED);
    assert_eq!(came, Vec::from_iter(1..=DATAGRAMS));
    assert_eq!((counts.passed, counts.harmed()), (2_000, 0));
}

#[test]
fn doubled_comes_twice_and_nothing_is_missing() {
    let harm = Harm {
        doubled: 50,
        ..Harm::NONE
    };
    let (came, counts) = through(harm, SEED);
    let mut times = BTreeMap::new();
    came.iter()
        .for_each(|number| *times.entry(*number).or_insert(0) += 1);
    let twice = times.values().filter(|&&times| times == 2).count();
    assert_eq!(times.len(), DATAGRAMS as usize);
    assert_eq!(
        (twice as u64, came.len() - twice),
        (counts.doubled, times.len())
    );
}

#[test]
fn late_is_overtaken_by_some_and_nothing_is_missing() {
    let harm = Harm {
        late: 100,
        ..Harm::NONE
    };
    let (mut came, counts) = through(harm, SEED);
    let overtakers = came.iter().enumerate().map(|(place, number)| {
        let before = came[..place].iter();
        before.filter(|&before| before > number).count()
    });
    let overtakers: Vec<_> = overtakers.filter(|&count| count > 0).collect();
    // Late datagrams at the end of a burst find nothing that could overtake them.
    let overtaken = overtakers.len() as u64;
    assert!(
        (counts.late / 2..=counts.late).contains(&overtaken),
        "{overtaken} {counts:?}"
    );
    assert!(
        overtakers.iter().all(|&count| count <= 20),
        "{overtakers:?}"
    );
    came.sort_unstable();
    assert_eq!(came, Vec::from_iter(1..=DATAGRAMS));
}

#[test]
fn a_closed_gate_passes_nothing_either_way() {
    let (client, server) = (bind("127.0.0.1:0"), bind("127.0.0.1:0"));
    let proxy = Proxy::both_ways(address(&server), Harm::NONE, SEED);
    send(&client, &proxy, 1);
    let mut bytes = [0; 4];
    let (_, far) = server.recv_from(&mut bytes).unwrap();
    proxy.close();
    for number in 2..10 {
        send(&client, &proxy, number);
        server.send_to(&[0; 4], far).unwrap();
    }
    wait_for_counts(&proxy, |counts| counts.cut == 16);
    proxy.open();
    // The first datagram that comes to each is not one of these.
    send(&client, &proxy, 10);
    assert_eq!(receive(&server), 10);
    server.send_to(&11_u32.to_le_bytes(), far).unwrap();
    assert_eq!(receive(&client), 11);
    assert_eq!(proxy.counts().passed, 3);
}

#[test]
fn what_is_held_back_does_not_pass_a_gate_that_has_closed() {
    let all_late = Harm {
        late: 1000,
        ..Harm::NONE
    };
    let client = bind("127.0.0.1:0");
    let start = Instant::now();
    let mut cut = 0;
    // This is repeated if the machine was so slow that all datagrams were released before.
    while cut == 0 {
        assert!(start.elapsed() < PATIENCE, "nothing was held");
        let server = bind("127.0.0.1:0");
        let proxy = Proxy::both_ways(address(&server), all_late, SEED);
        (0..40).for_each(|number| send(&client, &proxy, number));
        wait_for_counts(&proxy, |counts| counts.late == 40);
        proxy.close();
        server.set_nonblocking(true).unwrap();
        let before = std::iter::from_fn(|| server.recv(&mut [0; 4]).ok()).count();
        cut = 40 - before as u64;
        wait_for_counts(&proxy, |counts| counts.cut == cut);
        assert!(server.recv(&mut [0; 4]).is_err(), "passed a closed gate");
    }
}

#[test]
fn a_gate_is_closed_to_one_sender_only() {
    let (one, other) = (bind("127.0.0.1:0"), bind("127.0.0.2:0"));
    let server = bind("127.0.0.1:0");
    let proxy = Proxy::one_way(Harm::NONE, SEED);
    proxy.lead_to(address(&server));
    proxy.close_to(address(&other).ip());
    send(&other, &proxy, 1);
    send(&one, &proxy, 2);
    assert_eq!(receive(&server), 2);
    proxy.open();
    send(&other, &proxy, 3);
    assert_eq!(receive(&server), 3);
    assert_eq!((proxy.counts().passed, proxy.counts().cut), (2, 1));
}

#[test]
fn it_leads_to_another_server_and_keeps_records() {
    let (client, first, second) = (
        bind("127.0.0.1:0"),
        bind("127.0.0.1:0"),
        bind("127.0.0.1:0"),
    );
    let proxy = Proxy::one_way(Harm::NONE, SEED);
    proxy.record(1);
    for (server, number) in [(&first, 1), (&second, 2), (&first, 3)] {
        proxy.lead_to(address(server));
        send(&client, &proxy, number);
        assert_eq!(receive(server), number);
    }
    assert_eq!(proxy.recorded(), [1_u32.to_le_bytes()]);
}

#[test]
fn a_proxy_that_was_stopped_leaves_its_port() {
    let proxy = Proxy::one_way(Harm::NONE, SEED);
    let address = proxy.address();
    assert!(UdpSocket::bind(address).is_err());
    proxy.stop();
    UdpSocket::bind(address).unwrap();
}
