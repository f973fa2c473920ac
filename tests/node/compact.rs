//! Tests of the compact format: every operation, every refusal, the limits of replies, and exactly once.

use std::net::UdpSocket;

use rmbd::config::{IoChoice, NodeConfig};
use rmbd::node::{AddError, Node};
use rmbd::status::{Datagrams, Status};
use rmbd_proto::compact::{
    Answer, BoundsAnswer, HASH_FNV, HASH_XXH3, Header, Once, Problem, ReplyHead, RequestWriter,
    WriteError, reply, reply_bytes_max,
};
use rmbd_proto::legacy::{self, encode_add, encode_count};
use rmbd_proto::{Boot, SketchNumber};
use rmbd_sketch::{HashFamily, MAX_WEIGHT};
use rmbd_store::{fingerprint, once};
use rmbd_udp::send_segments;

use crate::support::{BACKENDS, client_of, compat, config, hex, introduce, receive, wait_for};

/// A request with this header, filled by `fill`.
fn request(
    header: Header<'_>,
    fill: impl FnOnce(&mut RequestWriter) -> Result<(), WriteError>,
) -> Vec<u8> {
    let mut writer = RequestWriter::new(60_000);
    writer.start(&header).unwrap();
    fill(&mut writer).unwrap();
    writer.finish().to_vec()
}

fn of_id(id: u32) -> Header<'static> {
    Header {
        id,
        ..Header::default()
    }
}

fn acknowledged(id: u32) -> Header<'static> {
    Header {
        acknowledge: true,
        ..of_id(id)
    }
}

/// Receives one reply, and returns its head.
fn head(client: &UdpSocket) -> ReplyHead {
    reply(&receive(client)).unwrap().head
}

fn ask(client: &UdpSocket, datagram: &[u8]) -> ReplyHead {
    client.send(datagram).unwrap();
    let received = receive(client);
    assert!(received.len() <= reply_bytes_max(datagram.len()));
    reply(&received).unwrap().head
}

fn done(id: u32, done: u16) -> ReplyHead {
    ReplyHead {
        id,
        done,
        ..ReplyHead::default()
    }
}

fn stopped(id: u32, done: u16, problem: Problem) -> ReplyHead {
    ReplyHead {
        id,
        done,
        code: problem.code(),
        ..ReplyHead::default()
    }
}

/// Checks that nothing sent before has made a reply: the next reply is to the request sent here.
fn assert_silence(client: &UdpSocket) {
    let sentinel = request(of_id(0xdead), |writer| writer.count(b"anything else?"));
    assert_eq!(ask(client, &sentinel), done(0xdead, 1));
}

fn boot_of(node: &Node) -> Boot {
    Boot(u64::from_str_radix(&node.status().compact.boot, 16).unwrap())
}

fn malformed_and_refused(node: &Node) -> u64 {
    let datagrams = node.status().datagrams;
    datagrams.malformed.values().sum::<u64>() + datagrams.refused.values().sum::<u64>()
}

#[test]
fn every_operation_is_answered_in_order_in_one_reply() {
    for io in BACKENDS {
        let node = Node::start(config(io)).unwrap();
        let client = client_of(&node);
        let datagram = request(of_id(7), |writer| {
            writer.add(b"a", 1)?;
            writer.count(b"a")?;
            writer.add(b"a", 99)?;
            writer.hit(b"a", 5, 105, 0)?;
            writer.hit(b"a", 5, 105, 0)?;
            writer.hit(b"a", 0, 110, 0)?;
            writer.bounds(b"a")?;
            writer.add(b"", MAX_WEIGHT.into())?;
            writer.add(&[b'k'; 1024], 0)?;
            writer.count(b"")
        });
        client.send(&datagram).unwrap();
        let received = receive(&client);
        let reply = reply(&received).unwrap();
        assert_eq!(reply.head, done(7, 10), "{io}");
        let answers: Vec<_> = reply.answers().map(Result::unwrap).collect();
        let incomplete = false;
        let hit = |estimate, within| Answer::Hit {
            estimate,
            incomplete,
            within,
        };
        let count = |estimate| Answer::Count {
            estimate,
            incomplete,
        };
        // With 4 096 columns epsilon x 110 is below 1, and is rounded up. Of what came just now there is no sample.
        let bounds = Answer::Bounds(BoundsAnswer {
            estimate: 110,
            incomplete,
            likely_estimate: 110,
            likely_lower: 109,
            certain_lower: 109,
            total_weight: 110,
        });
        assert_eq!(
            answers,
            [
                count(1),
                hit(105, true),
                hit(110, false),
                hit(110, true),
                bounds,
                count(MAX_WEIGHT.into()),
            ]
        );
        let status = node.stop().unwrap();
        let messages = &status.messages;
        assert_eq!((messages.add, messages.count), (4, 2), "{io}");
        assert_eq!((messages.hit, messages.bounds), (3, 1), "{io}");
        assert_eq!(status.sketch.total_weight, 110 + u64::from(MAX_WEIGHT));
    }
}

#[test]
fn adds_are_answered_only_if_that_is_asked_for() {
    for io in BACKENDS {
        let node = Node::start(config(io)).unwrap();
        let client = client_of(&node);
        client
            .send(&request(of_id(1), |writer| writer.add(b"a", 1)))
            .unwrap();
        client.send(&request(of_id(2), |_| Ok(()))).unwrap();
        assert_silence(&client);
        let adds = |writer: &mut RequestWriter| (0..77).try_for_each(|_| writer.add(b"a", 2));
        assert_eq!(ask(&client, &request(acknowledged(3), adds)), done(3, 77));
        assert_eq!(
            ask(&client, &request(acknowledged(4), |_| Ok(()))),
            done(4, 0)
        );
        assert_eq!(node.estimate(b"a").count, 155, "{io}");
    }
}

#[test]
fn ten_thousand_operations_are_done() {
    for io in BACKENDS {
        let node = Node::start(config(io)).unwrap();
        let client = client_of(&node);
        let adds = |writer: &mut RequestWriter| {
            (0..10_000_u32).try_for_each(|n| writer.add(&n.to_le_bytes()[..2], 1))
        };
        let head = ask(&client, &request(acknowledged(1), adds));
        assert_eq!(head, done(1, 10_000), "{io}");
        assert_eq!(node.stop().unwrap().sketch.total_weight, 10_000);
    }
}

/// How many datagrams were not applied for this reason.
fn times(status: &Status, reason: &str) -> u64 {
    let Datagrams {
        malformed, refused, ..
    } = &status.datagrams;
    let times = malformed.get(reason).or_else(|| refused.get(reason));
    *times.unwrap()
}

#[test]
fn every_malformed_request_is_told_and_counted() {
    let text = include_str!("../data/compact_vectors.json");
    let vectors: serde_json::Value = serde_json::from_str(text).unwrap();
    for io in BACKENDS {
        let node = Node::start(config(io)).unwrap();
        let client = client_of(&node);
        let mut added = 0;
        for vector in vectors["malformed"].as_array().unwrap() {
            let mut datagram = hex(&vector["bytes"]);
            let name = vector["problem"].as_str().unwrap();
            let by_name = Problem::ALL.iter().find(|problem| problem.name() == name);
            let problem = *by_name.unwrap();
            let counted = times(&node.status(), name);
            client.send(&datagram).unwrap();
            match (vector["done"].as_u64(), vector["id"].as_u64()) {
                (Some(before), _) => {
                    let told = stopped(42, before as u16, problem);
                    if vector["asks"].as_bool().unwrap() {
                        assert_eq!(head(&client), told, "{io}: {}", vector["name"]);
                    } else {
                        assert_silence(&client);
                    }
                    datagram[1] |= 1;
                    assert_eq!(ask(&client, &datagram), told, "{io}: {}", vector["name"]);
                    added += 2 * before;
                }
                (None, Some(id)) => {
                    let told = stopped(id as u32, 0, problem);
                    assert_eq!(head(&client), told, "{io}: {}", vector["name"]);
                }
                (None, None) => assert_silence(&client),
            }
            wait_for(&node, name, |status| times(status, name) > counted);
        }
        // Operations before the fault count, and none after it does.
        assert_eq!(node.estimate(b"a").count, added, "{io}");
        assert_eq!(node.stop().unwrap().sketch.total_weight, added);
    }
}

#[test]
fn what_is_understood_and_refused_is_told_and_counted() {
    for io in BACKENDS {
        let node = Node::start(NodeConfig {
            max_weight: 1000,
            ..config(io)
        })
        .unwrap();
        let client = client_of(&node);
        let limit = Problem::WeightTooLarge;
        for (weight, problem) in [
            (0, None),
            (1000, None),
            (1001, Some(limit)),
            (1 << 32, Some(limit)),
            (u64::MAX, Some(limit)),
        ] {
            let told = |before| match problem {
                None => done(5, before + 1),
                Some(why) => stopped(5, before, why),
            };
            let datagram = request(acknowledged(5), |writer| {
                writer.add(b"a", 1)?;
                writer.add(b"b", weight)
            });
            assert_eq!(ask(&client, &datagram), told(1), "{io}: {weight}");
            let datagram = request(of_id(5), |writer| writer.hit(b"b", weight, 1, 0));
            assert_eq!(ask(&client, &datagram), told(0), "{io}: {weight}");
        }
        assert_eq!(node.estimate(b"b").count, 2000);
        assert_eq!(node.estimate(b"a").count, 5);
        assert!(node.add(b"b", 1001).is_err());

        let window = request(of_id(6), |writer| writer.hit(b"b", 1, 1, 60_001));
        assert_eq!(ask(&client, &window), stopped(6, 0, Problem::UnknownWindow));
        let other = Header {
            sketch: SketchNumber(1),
            ..of_id(7)
        };
        let other = request(other, |writer| writer.add(b"b", 1));
        assert_eq!(ask(&client, &other), stopped(7, 0, Problem::UnknownSketch));
        assert_eq!(node.estimate(b"b").count, 2000);
        let refused = node.stop().unwrap().datagrams.refused;
        assert_eq!(refused["weight_too_large"], 6, "{io}");
        assert_eq!(refused["unknown_window"], 1, "{io}");
        assert_eq!(refused["unknown_sketch"], 1, "{io}");
    }
}

/// The requests have no padding, as an attacker would forge them.
#[test]
fn no_reply_is_longer_than_three_requests_or_a_datagram() {
    for io in BACKENDS {
        let node = Node::start(config(io)).unwrap();
        let client = client_of(&node);
        // (operation with its key, bytes of its answer)
        for (operation, answer_bytes) in [
            (&b"\x03\0"[..], 9),
            (b"\x03\x01k", 9),
            (b"\x04\0\0\0\0", 9),
            (b"\x05\0", 41),
            (b"\x05\x0512345", 41),
            (
                b"\x06",
                2 + 31 + env!("CARGO_PKG_VERSION").len() + 2 + 17 + 8,
            ),
        ] {
            for operations in [1, 2, 3, 10, 77, 100, 160, 1000] {
                let mut datagram = b"\xc1\0\x2a\0\0\0\0".to_vec();
                datagram.extend(operation.repeat(operations));
                let room = reply_bytes_max(datagram.len()) - 9;
                let fit = operations.min(room / answer_bytes);
                client.send(&datagram).unwrap();
                let received = receive(&client);
                assert_eq!(received.len(), 9 + fit * answer_bytes);
                let told = match fit == operations {
                    true => done(42, fit as u16),
                    false => stopped(42, fit as u16, Problem::ReplyTooLarge),
                };
                let reply = reply(&received).unwrap();
                assert_eq!(reply.head, told, "{io}: {operation:x?} x {operations}");
                assert_eq!(reply.answers().filter(Result::is_ok).count(), fit);
            }
        }
    }
}

#[test]
fn a_hit_whose_answer_does_not_fit_is_not_added() {
    let node = Node::start(config(IoChoice::Auto)).unwrap();
    let client = client_of(&node);
    let mut datagram = b"\xc1\0\x2a\0\0\0\0".to_vec();
    datagram.extend(b"\x04\x01k\x01\x01\0".repeat(400));
    let head = ask(&client, &datagram);
    assert_eq!(head, stopped(42, 154, Problem::ReplyTooLarge));
    assert_eq!(node.stop().unwrap().sketch.total_weight, 154);
}

#[test]
fn info_says_what_the_node_is() {
    for io in BACKENDS {
        for (config, hash) in [(config(io), HASH_XXH3), (compat(io), HASH_FNV)] {
            let config = NodeConfig {
                max_weight: 77,
                ..config
            };
            let node = Node::start(config.clone()).unwrap();
            let client = client_of(&node);
            client
                .send(&request(of_id(1), RequestWriter::info))
                .unwrap();
            let received = receive(&client);
            let reply = reply(&received).unwrap();
            let answers: Vec<_> = reply.answers().collect();
            let [Ok(Answer::Info(info))] = answers[..] else {
                panic!("{answers:?}");
            };
            assert_eq!(info.width, config.geometry.width() as u64);
            assert_eq!(usize::from(info.depth), config.geometry.depth());
            assert_eq!((info.hash, info.max_weight), (hash, 77));
            assert_eq!(info.version, env!("CARGO_PKG_VERSION").as_bytes());
            let expected = fingerprint(config.geometry, config.family);
            assert_eq!(info.fingerprint, expected);
            let status = node.status();
            assert_eq!(status.compact.boot, info.boot.to_string());
            assert_eq!(status.cluster.writer, info.writer.to_string());
            assert_ne!(info.writer.0, info.boot.0, "drawn by itself");
            assert_eq!(status.compact.fingerprint, format!("{expected:016x}"));
            let again = Node::start(config).unwrap();
            assert_ne!(boot_of(&again), info.boot, "each start is another");
        }
    }
}

/// Totals go far beyond 32 bits, through a node whose passes keep up.
#[test]
fn totals_have_no_end() {
    for io in BACKENDS {
        let node = Node::start(NodeConfig {
            family: HashFamily::Xxh3 { seed: 1 },
            ..config(io)
        })
        .unwrap();
        let mut added = 0;
        while added < 1 << 34 {
            match node.add(b"k", MAX_WEIGHT) {
                Ok(()) => added += u64::from(MAX_WEIGHT),
                Err(AddError::Exhausted(_)) => std::thread::yield_now(),
                Err(error) => panic!("{error}"),
            }
        }
        let client = client_of(&node);
        let datagram = request(of_id(1), |writer| {
            writer.count(b"k")?;
            writer.hit(b"k", 1, 1 << 34, 0)?;
            writer.count(b"another")
        });
        client.send(&datagram).unwrap();
        let received = receive(&client);
        let answers: Vec<_> = reply(&received)
            .unwrap()
            .answers()
            .map(Result::unwrap)
            .collect();
        let count = |estimate| Answer::Count {
            estimate,
            incomplete: false,
        };
        let hit = Answer::Hit {
            estimate: added + 1,
            incomplete: false,
            within: false,
        };
        assert_eq!(answers, [count(added), hit, count(0)], "{io}");
        assert_eq!(node.status().sketch.total_weight, added + 1);
    }
}

#[test]
fn a_train_is_answered_in_order_and_so_are_both_formats_in_turn() {
    for io in BACKENDS {
        let node = Node::start(config(io)).unwrap();
        let client = client_of(&node);
        let train: Vec<u8> = (0..60_u32)
            .flat_map(|id| {
                request(of_id(id), |writer| {
                    writer.hit(b"the same key for all", 1, 30, 0)
                })
            })
            .collect();
        send_segments(&client, None, &train, (train.len() / 60) as u16).unwrap();
        for id in 0..60_u32 {
            let received = receive(&client);
            let reply = reply(&received).unwrap();
            let expected = Answer::Hit {
                estimate: u64::from(id) + 1,
                incomplete: false,
                within: id < 30,
            };
            assert_eq!(reply.head, done(id, 1), "{io}");
            assert_eq!(reply.answers().next(), Some(Ok(expected)), "{io}");
        }
        // A train of datagrams of 141 bytes has adds and counts in both formats in turn.
        let legacy_add = encode_add(b"k");
        let mut ours = request(acknowledged(9), |writer| {
            writer.add(b"k", 1)?;
            writer.count(b"k")
        });
        ours.resize(141, 0);
        let train = [&legacy_add[..], &ours, &encode_count(b"k"), &ours].concat();
        send_segments(&client, None, &train, 141).unwrap();
        let count_of = |datagram: &[u8]| match reply(datagram).unwrap().answers().next() {
            Some(Ok(Answer::Count { estimate, .. })) => estimate,
            other => panic!("{other:?}"),
        };
        assert_eq!(count_of(&receive(&client)), 2, "{io}");
        let legacy_reply = receive(&client);
        assert_eq!(legacy::replies(&legacy_reply).next(), Some((&b"k"[..], 2)));
        assert_eq!(count_of(&receive(&client)), 3, "{io}");
        assert_eq!(malformed_and_refused(&node), 0);
    }
}

#[test]
fn a_wide_reply_to_every_datagram_of_the_longest_train_arrives() {
    for io in BACKENDS {
        let node = Node::start(config(io)).unwrap();
        let client = client_of(&node);
        let counts = |writer: &mut RequestWriter| (0..154).try_for_each(|_| writer.count(b"k"));
        let mut datagram = request(of_id(1), counts);
        datagram.resize(1000, 0);
        send_segments(&client, None, &datagram.repeat(60), 1000).unwrap();
        for _ in 0..60 {
            assert_eq!(receive(&client).len(), 9 + 154 * 9, "{io}");
        }
    }
}

// --- Exactly once ---

fn once_header(boot: Boot, client: u64, sequence: u64) -> Header<'static> {
    Header {
        id: sequence as u32,
        once: Some(Once {
            boot,
            client,
            sequence,
        }),
        ..Header::default()
    }
}

#[test]
fn a_repeat_is_acknowledged_and_answered_but_not_added() {
    for io in BACKENDS {
        let node = Node::start(NodeConfig {
            threads: Some(2),
            ..config(io)
        })
        .unwrap();
        let boot = boot_of(&node);
        introduce(&client_of(&node), boot, 99);
        let datagram = request(once_header(boot, 99, 1), |writer| {
            writer.add(b"a", 10)?;
            writer.hit(b"b", 20, 20, 0)?;
            writer.count(b"a")
        });
        let estimates = |client: &UdpSocket| {
            client.send(&datagram).unwrap();
            let received = receive(client);
            let reply = reply(&received).unwrap();
            let estimates = reply.answers().map(|answer| match answer {
                Ok(Answer::Hit { estimate, .. } | Answer::Count { estimate, .. }) => estimate,
                other => panic!("{other:?}"),
            });
            assert_eq!((reply.head.done, reply.head.code), (3, 0));
            (reply.head.repeated, estimates.collect::<Vec<_>>())
        };
        assert_eq!(estimates(&client_of(&node)), (false, vec![20, 10]), "{io}");
        node.add(b"a", 1).unwrap();
        // The requests come from other ports, some of which reach the other thread.
        for _ in 0..16 {
            assert_eq!(estimates(&client_of(&node)), (true, vec![20, 11]), "{io}");
        }
        let status = node.stop().unwrap();
        assert_eq!(status.sketch.total_weight, 31, "{io}");
        assert_eq!((status.messages.add, status.messages.hit), (1, 17), "{io}");
        assert_eq!(
            (status.compact.repeats, status.compact.once_clients),
            (16, 1)
        );
    }
}

#[test]
fn another_boot_and_what_left_the_window_are_refused() {
    for io in BACKENDS {
        let node = Node::start(config(io)).unwrap();
        let (client, boot) = (client_of(&node), boot_of(&node));
        introduce(&client, boot, 99);
        let add = |boot, sequence| {
            request(once_header(boot, 99, sequence), |writer| {
                writer.add(b"a", 1)
            })
        };
        let told = ask(&client, &add(Boot(boot.0 ^ 1), 1));
        assert_eq!(told, stopped(1, 0, Problem::WrongBoot), "{io}");
        assert_eq!(node.estimate(b"a").count, 0, "{io}");
        let newest = once::WINDOW + 7;
        assert_eq!(ask(&client, &add(boot, newest)), done(newest as u32, 1));
        let told = ask(&client, &add(boot, 7));
        assert_eq!(told, stopped(7, 0, Problem::SequenceTooOld), "{io}");
        assert_eq!(ask(&client, &add(boot, 8)), done(8, 1), "{io}");
        assert_eq!(node.estimate(b"a").count, 2, "{io}");
        let refused = node.stop().unwrap().datagrams.refused;
        assert_eq!((refused["wrong_boot"], refused["sequence_too_old"]), (1, 1));
    }
}

#[test]
fn a_request_that_was_stopped_counts_once_too() {
    for io in BACKENDS {
        let node = Node::start(config(io)).unwrap();
        let (client, boot) = (client_of(&node), boot_of(&node));
        introduce(&client, boot, 99);
        let datagram = request(once_header(boot, 99, 1), |writer| {
            writer.add(b"a", 3)?;
            writer.add(b"a", u64::from(MAX_WEIGHT) + 1)
        });
        let told = stopped(1, 1, Problem::WeightTooLarge);
        assert_eq!(ask(&client, &datagram), told, "{io}");
        let told = ReplyHead {
            repeated: true,
            ..told
        };
        assert_eq!(ask(&client, &datagram), told, "{io}");
        assert_eq!(node.estimate(b"a").count, 3, "{io}");
    }
}

/// A socket in another network of this host.
fn client_at(node: &Node, ip: [u8; 4]) -> UdpSocket {
    let client = UdpSocket::bind((std::net::Ipv4Addr::from(ip), 0)).unwrap();
    client.connect(node.udp_addr()).unwrap();
    client
        .set_read_timeout(Some(crate::support::PATIENCE))
        .unwrap();
    client
}

#[test]
fn a_network_that_has_its_share_of_clients_leaves_room_for_others_and_its_known_ones_are_served() {
    let node = Node::start(config(IoChoice::Auto)).unwrap();
    let boot = boot_of(&node);
    let (socket, other) = (client_of(&node), client_at(&node, [127, 0, 1, 1]));
    let cookie = introduce(&socket, boot, u64::MAX);
    let add = |socket: &UdpSocket, client, sequence| {
        let header = Header {
            cookie: Some(&cookie),
            ..once_header(boot, client, sequence)
        };
        ask(socket, &request(header, |writer| writer.add(b"a", 1)))
    };
    let mut served = 0;
    let refused = loop {
        match add(&socket, served, 1) {
            told if told == done(1, 1) => served += 1,
            told => break told,
        }
    };
    assert_eq!(refused, stopped(1, 0, Problem::OnceNetworkFull));
    assert_eq!(
        served as usize,
        once::CLIENTS_MAX / 5,
        "and the one that was introduced"
    );
    for client in (0..served).step_by(97) {
        assert_eq!(add(&socket, client, 2), done(2, 1));
        // This client has moved, too.
        assert!(add(&other, client, 1).repeated);
    }
    // A cookie is good for one address, and each network has places of its own.
    let unproven = stopped(1, 0, Problem::AddressUnproven);
    assert_eq!(ask_head(&other, &boot, &cookie), unproven);
    introduce(&other, boot, 1 << 40);
    let refused = wait_for(&node, "the counters", |status| {
        status.datagrams.refused["once_network_full"] == 1
    });
    assert_eq!(refused.compact.once_clients, served + 2);
    assert_eq!(refused.datagrams.refused["address_unproven"], 3);
    assert_eq!(
        node.stop().unwrap().sketch.total_weight,
        served + served.div_ceil(97)
    );
}

fn ask_head(socket: &UdpSocket, boot: &Boot, cookie: &[u8]) -> ReplyHead {
    let header = Header {
        cookie: Some(cookie),
        ..once_header(*boot, 1 << 41, 1)
    };
    ask(socket, &request(header, |writer| writer.add(b"a", 1)))
}
