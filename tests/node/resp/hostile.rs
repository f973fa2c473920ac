//! Clients that are too many, silent, deaf, or send what is no command.

use std::io::Write;
use std::time::Duration;

use rmbd::config::{NodeConfig, RespConfig};
use rmbd::node::Node;

use super::{Connection, command, resp_config, start};
use crate::support::{BACKENDS, wait_for};

/// A pipeline of all kinds of replies, and what they are.
fn pipeline() -> (Vec<u8>, Vec<u8>) {
    let words =
        |line: &str| -> Vec<Vec<u8>> { line.split(' ').map(|it| it.as_bytes().to_vec()).collect() };
    let mut bytes = command(&words("CMS.INCRBY default a 2 b 3"));
    bytes.extend(b"PING\r\n");
    bytes.extend(command(&[
        b"CMS.QUERY".to_vec(),
        b"default".to_vec(),
        b"a\r\n\0\xff".to_vec(),
    ]));
    bytes.extend(command(&words("ECHO hello")));
    bytes.extend(b"NOPE\n");
    bytes.extend(command(&words("CMS.QUERY default a b")));
    let replies = b"*2\r\n:2\r\n:3\r\n+PONG\r\n*1\r\n:0\r\n$5\r\nhello\r\n\
        -ERR unknown command 'NOPE', with args beginning with: \r\n*2\r\n:2\r\n:3\r\n";
    (bytes, replies.to_vec())
}

#[test]
fn a_pipeline_cut_at_every_byte_is_answered_alike() {
    for io in BACKENDS {
        let (bytes, replies) = pipeline();
        for cut in (0..bytes.len()).step_by(7) {
            // Each cut has a node's counts of its own.
            let node = if cut == 0 { Some(start(io)) } else { None };
            let Some(node) = node else { continue };
            let mut connection = Connection::of(&node);
            connection.send(&bytes);
            assert_eq!(connection.take(replies.len()), replies, "{io}");
        }
        let node = start(io);
        for cut in 0..=bytes.len() {
            let mut connection = Connection::of(&node);
            let key = format!("k{cut:03}");
            let bytes = with_keys(&bytes, &key);
            let (first, rest) = bytes.split_at(cut.min(bytes.len()));
            connection.send(first);
            connection.send(rest);
            let expected = replies.len();
            assert_eq!(connection.take(expected), replies, "{io} {cut}");
        }
    }
}

/// The same with other keys.
fn with_keys(bytes: &[u8], key: &str) -> Vec<u8> {
    let text: String = bytes.iter().map(|&byte| char::from(byte)).collect();
    let text = text.replace("$1\r\na\r\n", &format!("$4\r\n{key}\r\n"));
    let text = text.replace("$1\r\nb\r\n", &format!("$5\r\n{key}b\r\n"));
    text.chars().map(|c| c as u8).collect()
}

#[test]
fn what_is_no_command_is_told_and_ends_the_connection() {
    for io in BACKENDS {
        let node = start(io);
        let inline = vec![b'x'; (64 << 10) + 1];
        for (bytes, error) in [
            (&b"*2147483648\r\n"[..], "invalid multibulk length"),
            (b"*1\r\n$2147483648\r\n", "invalid bulk length"),
            (
                b"*1\r\n$3\r\nPING\r\n",
                "a bulk does not end where its length says",
            ),
            (
                b"*1\r\n$5\r\nPING\r\n*1\r\n",
                "a bulk does not end where its length says",
            ),
            (b"GET / HTTP/1.1 \"\r\n", "unbalanced quotes in request"),
            (&inline, "too big inline request"),
        ] {
            let mut connection = Connection::of(&node);
            connection.send(bytes);
            let _ = connection.stream.write_all(b"PING\r\n");
            let expected = format!("-ERR Protocol error: {error}\r\n");
            assert_eq!(
                String::from_utf8_lossy(&connection.rest()),
                expected,
                "{io}"
            );
        }
        let status = wait_for(&node, "6 ended connections", |s| s.resp.closed_by_node == 6);
        assert_eq!(status.resp.protocol_errors, 6);
        assert_eq!(status.resp.connections, 0);
    }
}

#[test]
fn connections_beyond_the_limit_are_told_so_and_places_come_back() {
    for io in BACKENDS {
        let node = Node::start(NodeConfig {
            threads: Some(2),
            resp: RespConfig {
                connections: 20,
                ..RespConfig::at("127.0.0.1:0")
            },
            ..resp_config(io)
        })
        .unwrap();
        let mut silent: Vec<_> = (0..20).map(|_| Connection::of(&node)).collect();
        wait_for(&node, "20 connections", |s| s.resp.connections == 20);
        for _ in 0..50 {
            let said = Connection::of(&node).rest();
            assert_eq!(said, b"-ERR max number of clients reached\r\n");
        }
        assert_eq!(silent[7].ask_line("PING"), "+PONG\r\n");
        silent.truncate(10);
        wait_for(&node, "free places", |s| s.resp.connections == 10);
        assert_eq!(Connection::of(&node).ask_line("PING"), "+PONG\r\n");
        let status = wait_for(&node, "50 refusals", |s| {
            s.resp.connections_without_place == 50
        });
        assert_eq!(status.resp.connections_max, 20);
    }
}

/// A client sends until nothing more is taken from it, and reads nothing. All others are served, and it gets all its
/// replies when it reads.
#[test]
fn a_client_that_does_not_read_hinders_nobody() {
    for io in BACKENDS {
        let node = start(io);
        let mut deaf = Connection::of(&node);
        let text = vec![b'x'; 10_000];
        let echo = command(&[b"ECHO".to_vec(), text]);
        deaf.stream
            .set_write_timeout(Some(Duration::from_millis(100)))
            .unwrap();
        let mut sent = 0;
        // What is written in part is not counted, and is not answered.
        while deaf
            .stream
            .write(&echo)
            .is_ok_and(|bytes| bytes == echo.len())
        {
            sent += 1;
            assert!(sent < 10_000, "{io}: nothing holds it back");
        }
        let mut other = Connection::of(&node);
        for count in 1..=100 {
            let reply = other.ask_line("CMS.INCRBY default other 1");
            assert_eq!(reply, format!("*1\r\n:{count}\r\n"));
        }
        for _ in 0..sent {
            assert_eq!(deaf.reply().len(), 10_010);
        }
    }
}

#[test]
fn who_may_not_use_the_port_is_closed() {
    for io in BACKENDS {
        let node = Node::start(NodeConfig {
            allow: vec!["127.0.0.2/32".parse().unwrap()],
            ..resp_config(io)
        })
        .unwrap();
        assert_eq!(Connection::of(&node).rest(), b"");
        let status = wait_for(&node, "the refusal", |s| {
            s.resp.connections_not_allowed == 1
        });
        assert_eq!(status.resp.connections_accepted, 0);
    }
}

#[test]
fn a_command_of_a_million_bytes_is_one_and_larger_ones_are_none() {
    for io in BACKENDS {
        let node = start(io);
        let mut connection = Connection::of(&node);
        let keys = |count: usize| -> Vec<u8> {
            let keys = (0..count).map(|key| format!("{key:0>50}").into_bytes());
            let words: Vec<_> = [b"CMS.QUERY".to_vec(), b"default".to_vec()]
                .into_iter()
                .chain(keys)
                .collect();
            command(&words)
        };
        let large = keys(18_000);
        assert!(large.len() > 1_000_000);
        connection.send(&large);
        assert_eq!(
            connection.reply(),
            format!("*18000\r\n{}", ":0\r\n".repeat(18_000)).as_bytes()
        );
        let _ = connection.stream.write_all(&keys(19_000));
        let said = String::from_utf8(connection.rest()).unwrap();
        assert!(
            said.starts_with("-ERR Protocol error: too big a command"),
            "{io}: {said}"
        );
    }
}

/// What many clients add at once adds up, whichever thread serves them.
#[test]
fn many_clients_count_together() {
    for io in BACKENDS {
        let node = Node::start(NodeConfig {
            threads: Some(2),
            ..resp_config(io)
        })
        .unwrap();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let mut connection = Connection::of(&node);
                    let add = command(
                        &["CMS.INCRBY", "default", "together", "1"]
                            .map(|it| it.as_bytes().to_vec()),
                    );
                    connection.send(&add.repeat(500));
                    (0..500).for_each(|_| assert!(connection.reply().starts_with(b"*1\r\n:")));
                });
            }
        });
        assert_eq!(
            Connection::of(&node).ask_line("CMS.QUERY default together"),
            "*1\r\n:4000\r\n"
        );
        assert_eq!(node.estimate(b"together").count, 4_000);
        let status = wait_for(&node, "all commands", |s| s.resp.commands == 4_001);
        assert_eq!((status.messages.hit, status.messages.count), (4_000, 1));
    }
}
