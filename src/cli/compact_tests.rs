//! Tests of commands against whole nodes, in the compact format.
#![allow(clippy::unwrap_used)]

use std::collections::HashMap;
use std::os::unix::ffi::OsStringExt;

use super::tests::run_compact;
use super::*;
use crate::config::{IoChoice, NodeConfig};
use crate::node::Node;
use crate::status::JsonKey;
use rmbd_sketch::Geometry;
use rmbd_testkit::legacy_server::Fake;

fn node(max_weight: u32) -> Node {
    Node::start(NodeConfig {
        geometry: Geometry::new(1 << 16, 4).unwrap(),
        threads: Some(1),
        io: IoChoice::Mmsg,
        max_weight,
        ..NodeConfig::at("127.0.0.1:0")
    })
    .unwrap()
}

fn done(words: &[&str], node: &Node, input: &[u8]) -> (Done, String, String) {
    let (result, output, notes) = run_compact(words, node.udp_addr(), input);
    (result.unwrap(), output, notes)
}

#[test]
fn weights_are_weights_and_large_ones_are_split() {
    let node = node(1_000);
    let words = ["add", "a", "b", "-n", "300"];
    let silence = (Done::AsAsked, String::new(), String::new());
    assert_eq!(done(&words, &node, b""), silence);
    assert_eq!(node.status().messages.add, 2);
    assert_eq!(done(&["add", "c", "-n", "1000000"], &node, b""), silence);
    let words = ["count", "b", "-", "a", "c"];
    let (_, output, notes) = done(&words, &node, b"x y\n");
    assert_eq!(output, "300\tb\n0\tx y\n300\ta\n1000000\tc\n");
    assert_eq!(notes, "");
    assert_eq!(node.stop().unwrap().sketch.total_weight, 1_000_600);
}

#[test]
fn a_log_is_counted_from_standard_input() {
    let node = node(1_000);
    let lines: String = (0..200_000)
        .map(|n| format!("10.0.{}.{}\n", n % 3, n % 251))
        .collect();
    let (_, output, notes) = done(&["add", "-"], &node, lines.as_bytes());
    assert_eq!(output, "");
    assert!(
        notes.starts_with("200000 adds were acknowledged in "),
        "{notes}"
    );
    assert_eq!(node.status().sketch.total_weight, 200_000);
    let asked: String = lines
        .lines()
        .take(20_000)
        .map(|l| format!("{l}\n"))
        .collect();
    let (_, output, _) = done(&["count", "-"], &node, asked.as_bytes());
    let mut truth: HashMap<&str, u64> = HashMap::new();
    lines
        .lines()
        .for_each(|line| *truth.entry(line).or_default() += 1);
    let expected: String = asked
        .lines()
        .map(|line| format!("{}\t{line}\n", truth[line]))
        .collect();
    assert!(output == expected);
    node.stop().unwrap();
}

#[test]
fn keys_of_1024_bytes_are_possible_and_longer_ones_are_reported() {
    let node = node(1_000);
    let input = format!("{}\n{}\nb\n", "x".repeat(1_024), "y".repeat(1_025));
    let (result, ..) = run_compact(&["add", "-"], node.udp_addr(), input.as_bytes());
    assert_eq!(
        result.unwrap_err().to_string(),
        "1 keys of more than 1024 bytes were skipped, the protocol cannot carry them; 2 adds were done"
    );
    let key = "x".repeat(1_024);
    let (_, output, _) = done(&["count", &key], &node, b"");
    assert_eq!(output, format!("1\t{key}\n"));
    node.stop().unwrap();
}

#[test]
fn bounds_and_json() {
    let node = node(1_000_000);
    done(&["add", "a", "-n", "1000000"], &node, b"");
    let (_, output, _) = done(&["count", "--bounds", "a", "b"], &node, b"");
    let lines: Vec<Vec<&str>> = output.lines().map(|l| l.split('\t').collect()).collect();
    assert_eq!(lines[0][0], "1000000");
    let numbers = lines[0][1..4].iter().map(|number| number.parse().unwrap());
    let [likely_estimate, likely_lower, certain_lower] = numbers.collect::<Vec<u64>>()[..] else {
        panic!("{lines:?}");
    };
    // The certain error is e / 2^16 of a million. No sampled key meets the only one that there is, but there may be no
    // sample yet.
    assert!(
        (999_950..1_000_000).contains(&certain_lower),
        "{certain_lower}"
    );
    assert_eq!(likely_estimate, 1_000_000);
    assert!([certain_lower, likely_estimate].contains(&likely_lower));
    assert_eq!(lines[0][4..], ["1000000", "a"]);
    assert_eq!(lines[1], ["0", "0", "0", "0", "1000000", "b"]);
    let (_, output, _) = done(&["count", "--bounds", "--json", "a"], &node, b"");
    let mut array: serde_json::Value = serde_json::from_str(&output).unwrap();
    let likely_lower = array[0]["likely_lower"].take().as_u64().unwrap();
    assert!([certain_lower, likely_estimate].contains(&likely_lower));
    let expected = serde_json::json!([{
        "key": "a", "count": 1_000_000, "likely_estimate": likely_estimate, "likely_lower": null,
        "certain_lower": certain_lower, "total_weight": 1_000_000, "incomplete": false
    }]);
    assert_eq!(array, expected);
    node.stop().unwrap();
}

#[test]
fn hits_say_within_and_over() {
    let node = node(1_000);
    let hit = |words: &[&str]| {
        let words = [&["hit", "10.0.0.7"], words].concat();
        let (done, output, _) = done(&words, &node, b"");
        (done, output)
    };
    let limit = ["--limit", "2"];
    let line = |line: &str| format!("10.0.0.7: {line}\n");
    let within = |text| (Done::AsAsked, line(text));
    let over = |text| (Done::OverLimit, line(text));
    assert_eq!(hit(&limit), within("1 of 2 in all, within, 1 left"));
    assert_eq!(hit(&limit), within("2 of 2 in all, within, 0 left"));
    assert_eq!(
        hit(&limit),
        over("3 of 2 in all, over, and no waiting helps")
    );
    let look = ["--limit", "3", "-n", "0"];
    assert_eq!(hit(&look), within("3 of 3 in all, within, 0 left"));
    assert_eq!(
        hit(&["--limit", "3", "-n", "7"]).1,
        line("10 of 3 in all, over, and no waiting helps")
    );
    let (done, output) = hit(&["--limit", "100", "--json"]);
    assert_eq!(done, Done::AsAsked);
    let object: serde_json::Value = serde_json::from_str(&output).unwrap();
    let expected = serde_json::json!({
        "key": "10.0.0.7", "limit": 100, "window_ms": 0, "estimate": 11, "verdict": "within",
        "remaining": 89, "retry_after_ms": 0, "covered_ms": 0, "incomplete": false,
        "unsure": false, "overflowed": false, "shadow": false, "part": 0,
    });
    assert_eq!(object, expected);
    node.stop().unwrap();
}

#[test]
fn what_32_bits_do_not_hold_is_counted() {
    let node = node(1 << 20);
    // This is more than a node takes over at once. It asks for the rest again.
    for _ in 0..4 {
        let many = "a\n".repeat(1_024);
        let words = ["add", "-", "-n", "1048576"];
        let (result, ..) = run_compact(&words, node.udp_addr(), many.as_bytes());
        result.unwrap();
    }
    let (_, output, notes) = done(&["count", "a", "b"], &node, b"");
    assert_eq!(
        (output.as_str(), notes.as_str()),
        ("4294967296\ta\n0\tb\n", "")
    );
    let words = ["hit", "a", "--limit", "4294967297"];
    assert_eq!(done(&words, &node, b"").0, Done::AsAsked);
    assert_eq!(done(&words, &node, b"").0, Done::OverLimit);
    node.stop().unwrap();
}

#[test]
fn a_server_of_the_python_programs_protocol_is_noticed() {
    let server = Fake::reliable();
    let words = ["add", "a", "a"];
    let (result, _, notes) = run_compact(&words, server.address, io::empty());
    result.unwrap();
    let expected = format!(
        "note: {} speaks the Python program's protocol only: an add that the network loses is lost (--legacy saves the wait)\n",
        server.address
    );
    assert_eq!(notes, expected);
    let words = ["count", "a"];
    let (_, output, _) = run_compact(&words, server.address, io::empty());
    assert_eq!(output, "2\ta\n");
    let words = ["count", "a", "--bounds", "--legacy"];
    let error = run_compact(&words, server.address, io::empty())
        .0
        .unwrap_err();
    assert!(matches!(error, CliError::NeedsCompact { .. }), "{error}");
    server.stop();
}

/// An object about a key in a document.
#[derive(serde::Deserialize)]
struct OfKey {
    #[serde(flatten)]
    key: JsonKey<'static>,
    #[serde(alias = "estimate")]
    count: u64,
}

#[test]
fn every_document_names_a_key_so_that_it_can_be_told_from_all_others() {
    let node = node(1_000);
    // These keys had the same text in an earlier form of the documents.
    let keys = [
        &b"\xff"[..],
        b"\xfe",
        b"\xef\xbf\xbd",
        b"a\xc3",
        b"a\xe2\x82",
        "a\u{20ac}".as_bytes(),
        b"\"\\\x7f\x01",
    ];
    for (key, count) in keys.iter().zip(1..) {
        node.add(key, count).unwrap();
    }
    let lines = keys.join(&b'\n');
    let check = |of_keys: &[OfKey], about: &str| {
        let found = of_keys.iter().map(|of| (of.key.bytes(), of.count));
        assert!(found.eq(keys.into_iter().zip(1..)), "{about}");
    };
    for words in [&["--bounds"][..], &["--detail"], &[]] {
        let words = [&["count", "--json", "-"], words].concat();
        let (_, output, _) = done(&words, &node, &lines);
        check(&serde_json::from_str::<Vec<_>>(&output).unwrap(), &output);
    }
    let hits = keys.map(|key| {
        let server = format!("--server={}", node.udp_addr());
        let words = ["rmbd", "hit", &server, "--json", "--limit=9", "-n=0", "--"];
        let words = words.map(OsString::from).into_iter();
        let words = words.chain([OsString::from_vec(key.to_vec())]);
        let (mut output, command) = (Vec::new(), Cli::try_parse_from(words).unwrap());
        let streams = Streams::to(&mut output);
        run(&command.command.unwrap(), streams).unwrap();
        serde_json::from_slice(&output).unwrap()
    });
    check(&hits, "hit");
    node.stop().unwrap();
}

/// A file from another system counts keys that are asked for by name.
#[test]
fn lines_may_end_with_cr_lf_or_keep_the_cr() {
    let node = node(1_000);
    let log = b"a\r\nb\r\n\r\na\r\nb\na\r";
    done(&["add", "-"], &node, log);
    let (_, output, _) = done(&["count", "a", "b", "a\r"], &node, b"");
    assert_eq!(output, "3\ta\n2\tb\n0\ta\r\n");
    let (_, output, _) = done(&["count", "-"], &node, b"a\r\nb\r");
    assert_eq!(output, "3\ta\n2\tb\n");
    done(&["add", "-", "--keep-cr"], &node, log);
    for words in [
        &["count", "-", "--keep-cr"][..],
        &["count", "--keep-cr", "--detail", "-"],
    ] {
        let (_, output, _) = done(words, &node, b"a\nb\na\r\nb\r\n\r\n");
        let counts = output.lines().filter(|line| !line.starts_with(' '));
        let counts: Vec<_> = counts
            .map(|line| line.split('\t').next().unwrap())
            .collect();
        assert_eq!(counts, ["3", "3", "3", "1", "1"], "{output:?}");
    }
    node.stop().unwrap();
}
