//! Tests of `rmbd top`, against whole nodes and one that is older.
#![allow(clippy::unwrap_used)]

use std::net::UdpSocket;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::tests::{command, run_compact};
use super::*;
use crate::config::{IoChoice, NodeConfig, SketchWish, WindowConfig};
use crate::node::Node;
use rmbd_proto::compact::{self, Problem, REPLY_HEAD_BYTES, ReplyHead};
use rmbd_sketch::Geometry;

/// The longest time that anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// A node that lists two keys of `default`, and none of `plain`.
fn node() -> Node {
    let config = NodeConfig {
        geometry: Geometry::new(1 << 12, 4).unwrap(),
        windows: vec![WindowConfig {
            span_ms: 60_000,
            step_ms: Some(5_000),
            width: None,
        }],
        threads: Some(1),
        io: IoChoice::Mmsg,
        top: Some(3),
        ..NodeConfig::at("127.0.0.1:0")
    };
    let plain: SketchWish = "name=plain,width=4096,depth=4,top=0".parse().unwrap();
    Node::start(NodeConfig {
        sketches: vec![plain.plan(config.family).unwrap()],
        ..config
    })
    .unwrap()
}

fn output(words: &[&str], node: &Node) -> String {
    let (result, output, _) = run_compact(words, node.udp_addr(), &b""[..]);
    assert_eq!(result.unwrap(), Done::AsAsked);
    output
}

fn error(words: &[&str], server: impl fmt::Display) -> String {
    let (result, ..) = run_compact(words, server, &b""[..]);
    result.unwrap_err().to_string()
}

/// Adds keys, with more and more weight, until they are listed with their names.
fn listed(words: &[&str], node: &Node, keys: &[u8]) -> Value {
    let start = Instant::now();
    let words = [&["top", "--json"], words].concat();
    loop {
        for weight in ["5", "3", "1"] {
            let lines = match weight {
                "1" => keys.to_vec(),
                "3" => keys
                    .split_inclusive(|&b| b == b'\n')
                    .take(2)
                    .flatten()
                    .copied()
                    .collect(),
                _ => keys
                    .split_inclusive(|&b| b == b'\n')
                    .take(1)
                    .flatten()
                    .copied()
                    .collect(),
            };
            let add = ["add", "-n", weight, "-"];
            run_compact(&add, node.udp_addr(), &lines[..]).0.unwrap();
        }
        let told: Value = serde_json::from_str(&output(&words, node)).unwrap();
        let keys = told["keys"].as_array().unwrap();
        let is_named = |key: &Value| key.get("key").or_else(|| key.get("key_base64")).is_some();
        if keys.len() == 3 && keys.iter().all(is_named) {
            return told;
        }
        assert!(start.elapsed() < PATIENCE, "{told:#}");
        sleep(Duration::from_millis(100));
    }
}

#[test]
fn the_largest_keys_are_listed_with_their_names_whatever_bytes_they_have() {
    let node = node();
    let told = listed(&[], &node, b"apple\n\xff\x1b\n\xc3\xa9 \\\n");
    let keys = told["keys"].as_array().unwrap();
    let names: Vec<_> = keys
        .iter()
        .map(|key| {
            key.get("key")
                .or_else(|| key.get("key_base64"))
                .unwrap()
                .clone()
        })
        .collect();
    assert_eq!(names, [json!("apple"), json!("/xs="), json!("é \\")]);
    assert!(keys.iter().zip(1..).all(|(key, rank)| key["rank"] == rank));
    assert!(
        keys.iter()
            .all(|key| key["certain"].as_u64() <= key["count"].as_u64())
    );
    for (member, expected) in [
        ("sketch", json!("default")),
        ("window_ms", json!(0)),
        ("redacted", json!(false)),
        ("mixed", json!(false)),
        ("listed", json!(3)),
    ] {
        assert_eq!(told[member], expected, "{member}");
    }
    assert!(told["age_s"].is_f64());
    // The list is as long as it may be, so others may have as much as its last one.
    assert_eq!(told["complete_above"], keys[2]["count"]);
    let minute = listed(&["--window", "60s"], &node, b"apple\n\xff\x1b\nb\n");
    assert_eq!(minute["window_ms"], 60_000);
    assert_eq!(minute["keys"][0]["key"], "apple");
    let table = output(&["top", "-k", "2"], &node);
    let lines: Vec<_> = table.lines().collect();
    assert!(lines[0].starts_with("RANK") && lines[1].ends_with("%  apple"));
    assert!(lines[2].ends_with("%  \\xff\\u{1b}"), "{table}");
    assert!(lines[3].starts_with("N ") && lines[3].ends_with(" of all time"));
    assert!(lines[4].starts_with("complete above "), "{table}");
    assert_eq!(lines.len(), 5, "{table}");
    node.stop().unwrap();
}

#[test]
fn what_cannot_be_listed_is_told_with_the_cure() {
    let node = node();
    for (words, expected) in [
        (
            &["--sketch", "plain"][..],
            "the sketch plain lists no keys: start the server with --top 100, or give the sketch top=100 (it needs \
             --hash xxh3, or at most 4 rows)",
        ),
        (
            &["--window", "5s"],
            "the sketch default lists its largest keys of all time, in 60 s, and not in 5 s: ask for one of these, or \
             give the sketch a window of 5 s",
        ),
        (
            &["--sketch", "login"],
            "the server has no sketch login, it has default, plain; nothing was added by this call",
        ),
    ] {
        let words = [&["top"], words].concat();
        assert_eq!(error(&words, node.udp_addr()), expected);
    }
    node.stop().unwrap();
}

#[test]
fn a_server_that_does_not_know_the_question_is_older() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let refuse = move || {
        let mut datagram = [0; 2048];
        let (len, from) = socket.recv_from(&mut datagram).unwrap();
        let head = ReplyHead {
            id: compact::request(&datagram[..len]).unwrap().id,
            code: Problem::UnknownOperation.code(),
            ..ReplyHead::default()
        };
        let mut reply = [0; REPLY_HEAD_BYTES];
        compact::write_reply_head(head, &mut reply);
        socket.send_to(&reply, from).unwrap();
    };
    let refusing = std::thread::spawn(refuse);
    let error = error(&["top"], address);
    assert!(
        error.starts_with("the server does not list its largest keys"),
        "{error}"
    );
    refusing.join().unwrap();
}

/// An output that somebody reads for so many lists.
struct ReadFor(usize, Vec<u8>);

impl Write for ReadFor {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0 == 0 {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        self.1.extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0 = self.0.saturating_sub(1);
        Ok(())
    }
}

#[test]
fn a_watch_ends_when_nobody_reads_it() {
    let node = node();
    for (is_terminal, words, clears) in [
        (true, &["top", "--watch"][..], 2),
        (false, &["top", "--watch", "1", "--json"], 0),
    ] {
        let mut output = ReadFor(2, Vec::new());
        let streams = Streams {
            input: BufReader::new(Box::new(io::empty())),
            input_waits: Box::new(|| true),
            output: Box::new(&mut output),
            notes: Box::new(io::sink()),
            shows_progress: false,
            is_terminal,
            is_screen: false,
        };
        let done = run(&command(words, node.udp_addr()), streams).unwrap();
        assert_eq!(done, Done::ReaderGone);
        let text = String::from_utf8(output.1).unwrap();
        assert_eq!(text.matches("\x1b[2J").count(), clears, "{text}");
        if !is_terminal {
            let lines = text.lines().map(serde_json::from_str::<Value>);
            assert_eq!(lines.map(Result::unwrap).count(), 2);
        }
    }
    node.stop().unwrap();
}

#[test]
fn there_are_one_to_a_thousand_keys() {
    for (words, is_fine) in [
        (&["-k", "1"][..], true),
        (&["-k", "1000"], true),
        (&["-k", "0"], false),
        (&["-k", "1001"], false),
        (&["--watch", "0"], false),
        (&["--watch"], true),
        (&["--window", "0s"], false),
    ] {
        let line = [&["rmbd", "top"], words].concat();
        assert_eq!(Cli::try_parse_from(line).is_ok(), is_fine, "{words:?}");
    }
}
