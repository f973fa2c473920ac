//! Tests of the five messages, byte for byte, on both back ends.

use rmbd::config::NodeConfig;
use rmbd::node::Node;
use rmbd_proto::legacy::{Dialect, encode_add, encode_count, replies};

use crate::support::{BACKENDS, client_of, compat, config, hex, receive, vectors, wait_for};

#[test]
fn bytes_of_the_python_program_get_its_answers() {
    let vectors = vectors();
    for io in BACKENDS {
        for (dialect, name) in [(Dialect::Native, "native"), (Dialect::Network, "network")] {
            let node = Node::start(NodeConfig {
                dialect,
                ..compat(io)
            })
            .unwrap();
            let client = client_of(&node);
            for message in vectors["messages"].as_array().unwrap() {
                // These are counts 0, 1 and 2 of the vectors, with a fresh key each time. The vectors' keys may share
                // cells, so each answer is compared with the node's own estimate, and with the vector if that is its
                // count.
                for want in message["count_reply"].as_array().unwrap() {
                    let key = hex(&message["stored_key"]);
                    client.send(&hex(&message["count"])).unwrap();
                    let reply = receive(&client);
                    let estimate = node.estimate(&key).count;
                    if want["count"].as_u64() == Some(estimate) {
                        assert_eq!(reply, hex(&want[name]), "{io} {name}");
                    }
                    assert_eq!(replies(&reply).next(), Some((&key[..], estimate)));
                    client.send(&hex(&message["add"])).unwrap();
                }
            }
            let status = node.stop().unwrap();
            assert_eq!(status.messages.add, status.messages.count);
            assert_eq!(status.datagrams.malformed.values().sum::<u64>(), 0);
        }
    }
}

#[test]
fn one_key_counts_up_with_exactly_the_python_programs_bytes() {
    let vectors = vectors();
    let message = &vectors["messages"][1];
    for io in BACKENDS {
        let node = Node::start(compat(io)).unwrap();
        let client = client_of(&node);
        let mut seen = 0;
        for added in 0..=255u64 {
            for want in message["count_reply"].as_array().unwrap() {
                if want["count"].as_u64() == Some(added) {
                    client.send(&hex(&message["count"])).unwrap();
                    assert_eq!(receive(&client), hex(&want["native"]), "{io} {added}");
                    seen += 1;
                }
            }
            client.send(&hex(&message["add"])).unwrap();
        }
        assert_eq!(seen, 4, "counts 0, 1, 2 and 255");
    }
}

#[test]
fn messages_back_to_back_are_answered_in_order_and_split_at_whole_replies() {
    for io in BACKENDS {
        for (dialect, datagrams) in [(Dialect::Native, [9, 9, 2]), (Dialect::Network, [9, 9, 2])] {
            let node = Node::start(NodeConfig {
                dialect,
                ..config(io)
            })
            .unwrap();
            let client = client_of(&node);
            // The request is add k0, count k0, add k1, count k1, and so on. Each count sees its own add and no later
            // one.
            let mut request = Vec::new();
            for i in 0..20 {
                let key = format!("key {}", i / 2);
                request.extend_from_slice(&encode_add(key.as_bytes()));
                request.extend_from_slice(&encode_count(key.as_bytes()));
            }
            client.send(&request).unwrap();
            let mut answers = Vec::new();
            for expected in datagrams {
                let datagram = receive(&client);
                assert_eq!(
                    datagram.len(),
                    expected * dialect.reply_bytes(),
                    "{io} {dialect}"
                );
                answers.extend(replies(&datagram).map(|(key, count)| (key.to_vec(), count)));
            }
            let expected: Vec<_> = (0..20)
                .map(|i| (format!("key {}", i / 2).into_bytes(), i % 2 + 1))
                .collect();
            assert_eq!(answers, expected, "{io} {dialect}");
        }
    }
}

#[test]
fn a_broken_rest_is_counted_and_what_came_before_it_holds() {
    for io in BACKENDS {
        let node = Node::start(config(io)).unwrap();
        let client = client_of(&node);
        let rests: [(&[u8], &str); 4] = [
            (&[0; 140], "length"),
            (&[9; 141], "unknown_type"),
            (&[4], "not_alone"),
            (&[0], "length"),
        ];
        for (i, (rest, reason)) in rests.into_iter().enumerate() {
            let add = encode_add(b"kept");
            let count = encode_count(b"kept");
            client.send(&[&add[..], &count, rest].concat()).unwrap();
            let reply = receive(&client);
            assert_eq!(replies(&reply).next(), Some((&b"kept"[..], i as u64 + 1)));
            wait_for(&node, reason, |status| {
                status.datagrams.malformed.values().sum::<u64>() == i as u64 + 1
            });
            assert!(
                node.status().datagrams.malformed[reason] > 0,
                "{io} {reason}"
            );
        }
    }
}

#[test]
fn a_long_train_of_counts_is_answered_completely() {
    for io in BACKENDS {
        let node = Node::start(config(io)).unwrap();
        let client = client_of(&node);
        node.add(b"k", 7).unwrap();
        let train: Vec<u8> = encode_count(b"k").repeat(64);
        rmbd_udp::send_segments(&client, None, &train, 141).unwrap();
        for _ in 0..64 {
            assert_eq!(replies(&receive(&client)).next(), Some((&b"k"[..], 7)));
        }
        assert_eq!(node.stop().unwrap().replies.dropped, 0);
    }
}
