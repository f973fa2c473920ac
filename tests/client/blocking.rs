use rmbd::node::Node;
use rmbd_client::{AddsReport, ClientError, Fate, Hash};
use rmbd_client::{Client, ClientOptions};
use rmbd_proto::compact::Problem;
use std::net::UdpSocket;

use crate::{OPTIONS, config, impatient, key, node};
use rmbd_testkit::proxy::{Harm, Proxy};

const SEED: u64 = 0xC11E47;

#[test]
fn every_call() {
    let node = node();
    let mut client = Client::connect(node.udp_addr(), OPTIONS).unwrap();
    client.add("apple", 1).unwrap();
    let adds = [("apple", 2), ("pear", 1 << 20), ("plum", 0)];
    assert_eq!(client.add_many(adds).unwrap(), 3);
    let counts = client.count_many(&["pear", "apple", "plum", ""]).unwrap();
    let estimates: Vec<_> = counts.iter().map(|count| count.estimate).collect();
    assert_eq!(estimates, [1 << 20, 3, 0, 0]);
    assert!(!counts.iter().any(|count| count.incomplete));
    for (limit, allowed) in [(4, true), (4, false), (6, true)] {
        let hit = client.hit("apple", 1, limit).unwrap();
        assert_eq!(hit.allowed, allowed, "{hit:?}");
    }
    assert!(client.hit("apple", 0, 6).unwrap().allowed);
    assert!(!client.hit("apple", 0, 5).unwrap().allowed);
    let bounds = client.count_bounds("pear").unwrap();
    let total_weight = (1 << 20) + 6;
    assert_eq!(
        (bounds.estimate, bounds.total_weight),
        (1 << 20, total_weight)
    );
    // The bound is epsilon x N, with e / 2^16 of a million.
    assert!(bounds.certain_lower < 1 << 20 && bounds.certain_lower > (1 << 20) - 50);
    let info = client.info().unwrap();
    assert_eq!((info.width, info.depth), (1 << 16, 4));
    assert_eq!((info.hash, info.weight_max), (Hash::Xxh3, 1 << 20));
    assert_eq!(info.version, env!("CARGO_PKG_VERSION"));
    assert_eq!(client.count_many(&[""; 0]).unwrap(), []);
    assert_eq!(client.add_many([("", 1); 0]).unwrap(), 0);
    assert_eq!(client.server(), node.udp_addr());
    let status = node.stop().unwrap();
    assert_eq!(status.sketch.total_weight, total_weight);
}

#[test]
fn long_lists_of_long_and_short_keys_keep_their_order() {
    let node = node();
    let mut client = Client::connect(node.udp_addr(), OPTIONS).unwrap();
    let keys: Vec<Vec<u8>> = (0..6_000_usize)
        .map(|n| {
            let mut key = vec![n as u8; n % 1025];
            key.extend_from_slice(&n.to_le_bytes()[..(1024 - key.len()).min(2)]);
            key
        })
        .collect();
    let adds = keys.iter().enumerate().map(|(n, key)| (key, n as u64));
    assert_eq!(client.add_many(adds).unwrap(), 6_000);
    let mut truth = std::collections::HashMap::new();
    for (n, key) in keys.iter().enumerate() {
        *truth.entry(key.clone()).or_insert(0) += n as u64;
    }
    let counts = client.count_many(&keys).unwrap();
    for (key, count) in keys.iter().zip(counts) {
        assert_eq!(count.estimate, truth[key]);
    }
    node.stop().unwrap();
}

#[test]
fn a_million_weights_through_a_harmful_network_are_exactly_a_million() {
    const ADDS: u64 = 1_000_000;
    let node = node();
    let proxy = Proxy::both_ways(node.udp_addr(), Harm::A_TENTH_LOST, SEED);
    let mut client = Client::connect(proxy.address(), OPTIONS).unwrap();
    let adds = (0..ADDS).map(|n| (key(n % 997), 1));
    let mut adder = client.adder();
    for (key, weight) in adds {
        adder.push(key.as_bytes(), weight).unwrap();
    }
    assert_eq!(adder.flush().unwrap(), ADDS, "seed {SEED:#x}");
    assert!(adder.repeated() > 1_000, "{}", adder.repeated());
    drop(adder);
    assert!(proxy.counts().harmed() > 1_000);
    // Counts go through the same network.
    let keys: Vec<_> = (0..997).map(key).collect();
    let counts = client.count_many(&keys).unwrap();
    assert_eq!(counts.iter().map(|count| count.estimate).sum::<u64>(), ADDS);
    for _ in 0..50 {
        client.hit("hit", 1, 0).unwrap();
    }
    assert_eq!(client.count("hit").unwrap().estimate, 50);
    drop(proxy);
    let status = node.stop().unwrap();
    assert_eq!(status.sketch.total_weight, ADDS + 50, "seed {SEED:#x}");
    assert!(status.compact.repeats > 500, "{:?}", status.compact);
}

#[test]
fn a_restart_under_way_is_uncertain_and_nothing_is_doubled() {
    const ADDS: u64 = 400_000;
    let first = node();
    let proxy = Proxy::both_ways(first.udp_addr(), Harm::A_TENTH_LOST, SEED);
    let mut client = Client::connect(proxy.address(), OPTIONS).unwrap();
    let second = node();
    let mut adder = client.adder();
    let mut error = None;
    for n in 0..ADDS {
        if n == ADDS / 2 {
            proxy.lead_to(second.udp_addr());
        }
        if let Err(failed) = adder.push(key(n).as_bytes(), 1) {
            error = Some(failed);
            break;
        }
    }
    let error = match error {
        Some(error) => error,
        None => adder.flush().unwrap_err(),
    };
    drop(adder);
    assert_eq!(error.fate(), Fate::Uncertain);
    let ClientError::Adds { report, source } = &error else {
        panic!("{error}");
    };
    assert!(matches!(**source, ClientError::Restarted { .. }), "{error}");
    check(report);
    // The next call knows the new boot. So far only this call has added anything there.
    client.add("new", 7).unwrap();
    assert_eq!(client.count("new").unwrap().estimate, 7);
    drop(proxy);
    let total = first.stop().unwrap().sketch.total_weight;
    let most = report.confirmed + report.uncertain_adds();
    assert!((report.confirmed..=most).contains(&total), "{total}");
    // Adds behind the restart carried the first node's boot, or are confirmed by the second node.
    let new = second.stop().unwrap().sketch.total_weight;
    assert!(total + new <= most + 7, "{total} {new} {report:?}");
}

/// Checks that every position is named once.
fn check(report: &AddsReport) {
    let ranges = report.uncertain.iter().chain(&report.not_added);
    let named: u64 = ranges.map(|range| range.end - range.start).sum();
    assert_eq!(report.confirmed + named, report.taken, "{report:?}");
}

#[test]
fn a_server_that_falls_silent() {
    let node = node();
    let proxy = Proxy::both_ways(node.udp_addr(), Harm::A_TENTH_LOST, SEED);
    let mut client = Client::connect(proxy.address(), impatient()).unwrap();
    client.add("a", 1).unwrap();
    proxy.close();
    let error = client.add("a", 1).unwrap_err();
    assert!(
        matches!(
            error,
            ClientError::Timeout {
                timeout_ms: 300,
                fate: Fate::Uncertain,
                ..
            }
        ),
        "{error}"
    );
    let error = client.count("a").unwrap_err();
    assert_eq!(error.fate(), Fate::NotAdded);
    let error = client
        .add_many((0..100_000).map(|n| (key(n), 1)))
        .unwrap_err();
    let ClientError::Adds { report, .. } = &error else {
        panic!("{error}");
    };
    assert_eq!(report.confirmed, 0);
    check(report);
    let text = error.to_string();
    assert!(
        text.contains("no answer from") && text.contains("0 adds are confirmed"),
        "{text}"
    );
    proxy.open();
    client.add("a", 1).unwrap();
    drop(proxy);
    node.stop().unwrap();
}

#[test]
fn nobody_there_and_nobody_who_answers() {
    let held = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = held.local_addr().unwrap();
    let mut client = Client::connect(address, impatient()).unwrap();
    let error = client.add("a", 1).unwrap_err();
    // Only the question for the boot was sent.
    assert!(
        matches!(
            error,
            ClientError::Timeout {
                fate: Fate::NotAdded,
                ..
            }
        ),
        "{error}"
    );
    // The socket hears only itself, so the kernel refuses all senders.
    held.connect(address).unwrap();
    let mut client = Client::connect(address, OPTIONS).unwrap();
    let error = client.count("a").unwrap_err();
    assert!(matches!(error, ClientError::Refused { server } if server.address() == Some(address)));
    let error = client.add_many([("a", 1), ("b", 1)]).unwrap_err();
    let ClientError::Adds { report, source } = &error else {
        panic!("{error}");
    };
    assert!(matches!(**source, ClientError::Refused { .. }));
    assert_eq!((report.confirmed, report.uncertain_adds()), (0, 0));
    assert_eq!(error.fate(), Fate::NotAdded);
}

#[test]
fn the_first_address_that_answers_is_taken() {
    let nobody = UdpSocket::bind("127.0.0.1:0").unwrap();
    nobody.connect(nobody.local_addr().unwrap()).unwrap();
    let node = node();
    let addresses = [nobody.local_addr().unwrap(), node.udp_addr()];
    let client = Client::connect(&addresses[..], OPTIONS).unwrap();
    assert_eq!(client.server(), node.udp_addr());
    let other = UdpSocket::bind("127.0.0.1:0").unwrap();
    other.connect(other.local_addr().unwrap()).unwrap();
    let dead = [addresses[0], other.local_addr().unwrap()];
    let error = Client::connect(&dead[..], OPTIONS).unwrap_err();
    let ClientError::Unreached { causes, .. } = &error else {
        panic!("{error}");
    };
    let tried: Vec<_> = causes.iter().map(|(address, _)| *address).collect();
    assert_eq!(tried, dead);
    let none: [std::net::SocketAddr; 0] = [];
    let error = Client::connect(&none[..], OPTIONS).unwrap_err();
    assert!(matches!(error, ClientError::NoAddress));
    node.stop().unwrap();
}

#[test]
fn keys_and_weights_that_are_refused_say_what_holds() {
    let node = Node::start(rmbd::config::NodeConfig {
        max_weight: 100,
        ..config()
    })
    .unwrap();
    let mut client = Client::connect(node.udp_addr(), OPTIONS).unwrap();
    let long = vec![b'k'; 1025];
    let too_long = |error| matches!(error, ClientError::KeyTooLong { bytes: 1025 });
    assert!(too_long(client.add(&long, 1).unwrap_err()));
    assert!(too_long(client.count(&long).unwrap_err()));
    assert!(too_long(client.hit(&long, 1, 1).unwrap_err()));
    // The first time the node reports the error, and then the client knows.
    let error = client.hit("a", 101, 1).unwrap_err();
    assert!(
        matches!(
            error,
            ClientError::Problem {
                problem: Problem::WeightTooLarge,
                fate: Fate::NotAdded,
                ..
            }
        ),
        "{error}"
    );
    let error = client.add("a", 101).unwrap_err();
    assert!(matches!(
        error,
        ClientError::WeightTooLarge {
            weight: 101,
            weight_max: 100
        }
    ));
    let error = client
        .add_many([("a", 1), ("b", 101), ("c", 1)])
        .unwrap_err();
    let ClientError::Adds { report, source } = &error else {
        panic!("{error}");
    };
    assert!(matches!(**source, ClientError::WeightTooLarge { .. }));
    assert_eq!((report.confirmed, report.taken), (1, 1));
    assert_eq!(node.stop().unwrap().sketch.total_weight, 1);
}

#[test]
fn an_adder_sends_by_itself_after_the_linger() {
    let node = node();
    let mut client = Client::connect(node.udp_addr(), OPTIONS).unwrap();
    let mut adder = client.adder();
    let start = std::time::Instant::now();
    let mut pushed = 0_u64;
    // The adds come slowly, so that no datagram is ever full.
    while node.status().sketch.total_weight == 0 {
        adder.push(b"tick", 1).unwrap();
        pushed += 1;
        std::thread::sleep(std::time::Duration::from_micros(300));
        assert!(start.elapsed() < OPTIONS.timeout);
    }
    assert_eq!(adder.finish().unwrap(), pushed);
    assert_eq!(node.stop().unwrap().sketch.total_weight, pushed);
}

#[test]
fn a_dropped_adder_leaves_no_trace_in_the_next_call() {
    let node = node();
    let mut client = Client::connect(node.udp_addr(), OPTIONS).unwrap();
    let mut adder = client.adder();
    for n in 0..20_000 {
        adder.push(key(n).as_bytes(), 1).unwrap();
    }
    drop(adder);
    assert_eq!(client.add_many([("a", 1), ("b", 2)]).unwrap(), 2);
    let counts = client.count_many(&["a", "b"]).unwrap();
    assert_eq!((counts[0].estimate, counts[1].estimate), (1, 2));
    node.stop().unwrap();
}

#[test]
fn clients_may_move_between_threads() {
    fn is_send<T: Send>() {}
    is_send::<Client>();
    is_send::<ClientError>();
    let defaults = ClientOptions::default();
    assert!(defaults.timeout > std::time::Duration::from_secs(1));
}
