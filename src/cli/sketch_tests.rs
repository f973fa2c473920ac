//! Tests of sketches, windows and limits on the command line, against whole nodes.
#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};

use super::tests::run_compact;
use super::*;
use crate::config::{
    IoChoice, KeyPattern, LimitConfig, LimitVerdict, NodeConfig, SketchWish, WindowConfig,
};
use crate::node::Node;
use rmbd_sketch::Geometry;

fn limit(name: &str, keys: &str, amounts: &[&str]) -> LimitConfig {
    let amounts = amounts.iter().map(|text| text.parse().unwrap());
    LimitConfig {
        name: name.parse().unwrap(),
        sketch: "logins".parse().unwrap(),
        keys: keys.parse::<KeyPattern>().unwrap(),
        amounts: amounts.collect(),
        cost: 1,
        verdict: LimitVerdict::Take,
        overrides: vec![],
        exempt: vec![],
        shadow: false,
    }
}

/// A node with a sketch `logins` that keeps two windows, one without any, and some limits.
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
        ..NodeConfig::at("127.0.0.1:0")
    };
    let plan = |wish: &str| {
        let wish: SketchWish = wish.parse().unwrap();
        wish.plan(config.family).unwrap()
    };
    Node::start(NodeConfig {
        sketches: vec![
            plan("name=logins,width=65536,depth=4,windows=60s/5s+1h/5m@16384"),
            plan("name=plain,width=4096,depth=4,windows=none"),
        ],
        limits: vec![
            limit("five", "*", &["5/60s", "100/1h"]),
            limit("some", "a*", &["5/60s"]),
            LimitConfig {
                shadow: true,
                ..limit("watched", "*", &["1/60s"])
            },
        ],
        ..config
    })
    .unwrap()
}

fn told(words: &[&str], node: &Node, input: &[u8]) -> (Done, String, String) {
    let (result, output, notes) = run_compact(words, node.udp_addr(), input);
    (result.unwrap(), output, notes)
}

fn output(words: &[&str], node: &Node) -> String {
    told(words, node, b"").1
}

fn error(words: &[&str], node: &Node) -> String {
    let (result, ..) = run_compact(words, node.udp_addr(), &b""[..]);
    result.unwrap_err().to_string()
}

fn objects(output: &str) -> Vec<Value> {
    let lines = output.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn every_sketch_is_added_to_and_counted_for_itself() {
    let node = node();
    told(&["add", "a", "-n", "3"], &node, b"");
    told(&["add", "--sketch", "logins", "a", "-"], &node, b"b\na\n");
    let words = ["count", "a", "b"];
    assert_eq!(output(&words, &node), "3\ta\n0\tb\n");
    let words = ["count", "a", "b", "--sketch", "logins"];
    assert_eq!(output(&words, &node), "2\ta\n1\tb\n");
    let words = ["count", "a", "--sketch", "logins", "--bounds"];
    assert!(output(&words, &node).ends_with("\t3\ta\n"));
    node.stop().unwrap();
}

#[test]
fn a_sketch_that_is_not_there_is_told_with_those_that_are() {
    let node = node();
    for (words, done) in [
        (&["count", "a"][..], "nothing was added by this call"),
        (
            &["count", "a", "--window", "60s"],
            "nothing was added by this call",
        ),
        (
            &["hit", "a", "--limit", "5"],
            "nothing was added by this call",
        ),
        (
            &["add", "a"],
            "0 adds are confirmed, 0 uncertain (adding them again may count them twice), 1 were not added",
        ),
    ] {
        let words = [words, &["--sketch", "login"]].concat();
        let expected =
            format!("the server has no sketch login, it has default, logins, plain; {done}");
        assert_eq!(error(&words, &node), expected);
    }
    node.stop().unwrap();
}

#[test]
fn counts_in_windows() {
    let node = node();
    told(&["add", "--sketch", "logins", "a", "b", "a"], &node, b"");
    for window in ["60s", "5s", "1m", "1h", "10m"] {
        for how in [&[][..], &["--smooth"]] {
            let words = ["count", "a", "c", "--sketch=logins", "--window", window];
            let (_, output, notes) = told(&[&words, how].concat(), &node, b"");
            assert_eq!(output, "2\ta\n0\tc\n");
            // It has not been there for so long.
            assert_eq!(
                notes,
                "note: 2 of these counts are incomplete: the node lacks something that others counted, or was started within the window\n"
            );
        }
    }
    let words = ["count", "a", "--sketch=logins", "--window=60s", "--json"];
    let array: Value = serde_json::from_str(&output(&words, &node)).unwrap();
    let covered_ms = array[0]["covered_ms"].as_u64().unwrap();
    let expected = json!([{
        "key": "a", "count": 2, "covered_ms": covered_ms, "overflowed": false, "incomplete": true
    }]);
    assert_eq!(array, expected);
    assert!(covered_ms <= 65_000, "{covered_ms}");
    node.stop().unwrap();
}

#[test]
fn a_count_in_detail_is_of_a_sketch_and_a_window() {
    let node = node();
    told(&["add", "--sketch", "logins", "a", "-n", "3"], &node, b"");
    let detail = ["count", "a", "--detail", "--sketch"];
    let words = [&detail[..], &["logins", "--window=60s"]].concat();
    let own = format!("node {}, the one that answers", node.status().cluster.node);
    let expected =
        format!("3\ta\n  3\tin the last 60 s, at most 0 too high, incomplete\n  3\t{own}\n");
    assert_eq!(output(&words, &node), expected);
    let words = [&detail[..], &["default"]].concat();
    assert_eq!(output(&words, &node), format!("0\ta\n  0\t{own}\n"));
    let words = [&detail[..], &["logins", "--window=60s", "--json"]].concat();
    let array: Value = serde_json::from_str(&output(&words, &node)).unwrap();
    let of_window = &array[0]["window"];
    assert_eq!(
        (&of_window["span_ms"], &of_window["bound"]),
        (&json!(60_000), &json!(3))
    );
    let words = [&detail[..], &["login"]].concat();
    let text = error(&words, &node);
    assert!(text.contains("refuses: there is no sketch login"), "{text}");
    let words = [&detail[..], &["logins", "--window=7s"]].concat();
    let text = error(&words, &node);
    assert!(
        text.contains("refuses: there is no window of 7000 ms"),
        "{text}"
    );
    node.stop().unwrap();
}

#[test]
fn a_window_that_is_not_kept_is_told_with_those_that_are() {
    let node = node();
    let logins = "60 s in steps of 5 s, 1 h in steps of 5 min";
    for (words, sketch, asked, kept) in [
        (
            &["count", "a", "--window", "7s"][..],
            "logins",
            "7 s",
            logins,
        ),
        (&["count", "a", "--window", "2h"], "logins", "2 h", logins),
        (&["hit", "a", "--limit", "5/61s"], "logins", "61 s", logins),
        (
            &["hit", "a", "--limit", "5/5s,9/500ms"],
            "logins",
            "500 ms",
            logins,
        ),
        (&["count", "a", "--window", "60s"], "plain", "60 s", "none"),
        (
            &["count", "a", "--window", "1s"],
            "default",
            "1 s",
            "60 s in steps of 5 s",
        ),
    ] {
        let words = [words, &["--sketch", sketch]].concat();
        let expected = format!(
            "the sketch {sketch} keeps no window for {asked}, it keeps {kept}: ask for a multiple of a step up to its window; nothing was added by this call"
        );
        assert_eq!(error(&words, &node), expected);
    }
    node.stop().unwrap();
}

#[test]
fn hits_within_and_over_limits_of_windows() {
    let node = node();
    let hit = |words: &[&str]| {
        let words = [&["hit", "--sketch", "logins"], words].concat();
        let (done, output, _) = told(&words, &node, b"");
        (done, output)
    };
    let asked = [
        &["a", "--limit", "2", "--window", "60s"][..],
        &["a", "--limit=2/60s"],
    ];
    for (words, left) in asked.into_iter().zip([1, 0]) {
        let (done, output) = hit(words);
        let start = format!("a: {} of 2 in 60 s, within, {left} left", 2 - left);
        assert_eq!(done, Done::AsAsked);
        assert!(output.starts_with(&start), "{output}");
    }
    let (done, output) = hit(asked[0]);
    assert_eq!(done, Done::OverLimit);
    assert!(
        output.starts_with("a: 3 of 2 in 60 s, over, try again in "),
        "{output}"
    );
    // What takes adds nothing.
    for _ in 0..2 {
        let (done, output) = hit(&["a", "--limit=2/60s", "--take", "--bound"]);
        assert_eq!(done, Done::OverLimit);
        assert!(output.starts_with("a: 3 of 2 in 60 s, over"), "{output}");
    }
    node.stop().unwrap();
}

#[test]
fn several_limits_and_several_keys_in_one_command() {
    let node = node();
    let words = [
        "hit",
        "--sketch=logins",
        "--limit=10/5s",
        "--limit",
        "2/1h",
        "--json",
        "--take",
        "a",
        "-",
    ];
    let (done, output, _) = told(&words, &node, b"a\nb\na\n");
    assert_eq!(done, Done::OverLimit);
    let objects = objects(&output);
    let of = |field: &str| {
        objects
            .iter()
            .map(|it| it[field].clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(of("key"), ["a", "a", "b", "a"]);
    assert_eq!(of("verdict"), ["within", "within", "within", "over"]);
    assert_eq!(of("estimate"), [1, 2, 1, 2]);
    assert_eq!(of("remaining"), [1, 0, 1, 0]);
    assert_eq!(of("part"), [1, 1, 1, 1]);
    assert_eq!(of("limit"), [2, 2, 2, 2]);
    assert_eq!(of("window_ms"), [3_600_000; 4]);
    let waits: Vec<_> = of("retry_after_ms")
        .iter()
        .map(|it| it.as_u64().unwrap())
        .collect();
    assert_eq!(waits[..3], [0, 0, 0]);
    assert!(waits[3] > 0 && waits[3] <= 3_900_000, "{waits:?}");
    assert!(
        objects
            .iter()
            .all(|it| it["overflowed"] == false && it["shadow"] == false)
    );
    node.stop().unwrap();
}

#[test]
fn long_keys_are_skipped_and_those_before_are_hit() {
    let node = node();
    let input = format!("a\n{}\n", "x".repeat(1_025));
    let (result, output, _) = run_compact(
        &["hit", "-", "--limit", "5"],
        node.udp_addr(),
        input.as_bytes(),
    );
    assert_eq!(
        result.unwrap_err().to_string(),
        "1 keys of more than 1024 bytes were skipped, the protocol cannot carry them; 1 keys were hit"
    );
    assert_eq!(output, "a: 1 of 5 in all, within, 4 left\n");
    node.stop().unwrap();
}

#[test]
fn hits_by_the_name_of_a_limit() {
    let node = node();
    let hit = |words: &[&str]| {
        let words = [&["hit"], words].concat();
        let (done, output, _) = told(&words, &node, b"");
        (done, output)
    };
    let (done, output) = hit(&["a", "--limit-name", "five", "-n", "5"]);
    assert_eq!(done, Done::AsAsked);
    assert!(
        output.starts_with("a: 5 of 5 by five, within, 0 left"),
        "{output}"
    );
    let (done, output) = hit(&["a", "--limit-name", "five"]);
    assert_eq!(done, Done::OverLimit);
    assert!(
        output.starts_with("a: 5 by five, over, try again in "),
        "{output}"
    );
    let (done, output) = hit(&["b", "--limit-name", "some"]);
    assert_eq!(
        (done, &*output),
        (Done::AsAsked, "b: not limited by some, within\n")
    );
    let (_, output) = hit(&["b", "--limit-name", "some", "--json"]);
    assert_eq!(objects(&output)[0]["remaining"], json!(null));
    hit(&["w", "--limit-name", "watched"]);
    let (done, output) = hit(&["w", "--limit-name", "watched"]);
    assert_eq!(done, Done::AsAsked);
    assert!(
        output.starts_with("w: 2 by watched, over, and admitted in shadow mode"),
        "{output}"
    );
    let (done, output) = hit(&["w", "--limit-name", "watched", "--json"]);
    assert_eq!(done, Done::AsAsked);
    let object = &objects(&output)[0];
    assert_eq!(object["limit_name"], "watched");
    assert_eq!(
        (&object["verdict"], &object["shadow"]),
        (&json!("over"), &json!(true))
    );
    assert_eq!(object.get("limit"), None);
    let unknown =
        "the server has no limit none, nothing was added: `rmbd status` shows those that it has";
    assert_eq!(error(&["hit", "a", "--limit-name", "none"], &node), unknown);
    node.stop().unwrap();
}

#[test]
fn limits_that_contradict_are_wrong_usage() {
    let check = |words: &[&str]| tests::command(words, "localhost:1").check();
    let words = ["hit", "a", "--limit", "5/1s", "--window", "1m"];
    assert!(check(&words).unwrap_err().contains("leave --window out"));
    let words = ["hit", "a", "--limit=5,7"];
    assert!(check(&words).unwrap_err().contains("for the same time"));
    let words = ["hit", "a", "--limit=5/1s,7/1m,100"];
    assert_eq!(check(&words), Ok(()));
}

#[test]
fn sketches_are_listed() {
    let node = node();
    assert_eq!(
        output(&["sketches"], &node),
        "\
SKETCH   NUMBER      SIZE     HASH  WINDOW  STEP   WIDTH
default  0           4x4096   xxh3  60 s    5 s    4096
logins   2568000937  4x65536  xxh3  60 s    5 s    65536
                                    1 h     5 min  16384
plain    1805013972  4x4096   xxh3  none
"
    );
    let list: Value = serde_json::from_str(&output(&["sketches", "--json"], &node)).unwrap();
    let fingerprint = list[1]["fingerprint"].as_str().unwrap();
    assert!(u64::from_str_radix(fingerprint, 16).is_ok() && fingerprint.len() == 16);
    let logins = json!({
        "name": "logins", "number": 0x9910_95a9_u32, "fingerprint": fingerprint, "width": 65_536,
        "depth": 4, "hash": "xxh3",
        "windows": [
            {"span_ms": 60_000, "step_ms": 5_000, "width": 65_536},
            {"span_ms": 3_600_000, "step_ms": 300_000, "width": 16_384},
        ],
    });
    assert_eq!(list[1], logins);
    assert_eq!(list[2]["windows"], json!([]));
    node.stop().unwrap();
}

#[test]
fn a_long_list_of_sketches_comes_in_parts() {
    let family = NodeConfig::default().family;
    let sketches = (0..100).map(|n| {
        let wish = format!("name=sketch-number-{n},width=64,depth=2,windows=10s/1s+60s/5s");
        wish.parse::<SketchWish>().unwrap().plan(family).unwrap()
    });
    let node = Node::start(NodeConfig {
        geometry: Geometry::new(64, 4).unwrap(),
        threads: Some(1),
        io: IoChoice::Mmsg,
        sketches: sketches.collect(),
        ..NodeConfig::at("127.0.0.1:0")
    })
    .unwrap();
    let list: Value = serde_json::from_str(&output(&["sketches", "--json"], &node)).unwrap();
    assert_eq!(list.as_array().unwrap().len(), 101);
    node.stop().unwrap();
}

#[test]
fn status_shows_sketches_windows_and_limits() {
    let node = node();
    told(&["hit", "a", "--limit-name", "some", "-n", "6"], &node, b"");
    told(&["add", "a", "-n", "9", "--sketch", "logins"], &node, b"");
    let text = output(&["status"], &node);
    for part in [
        "\nsketch     4x4096 xxh3, ",
        "\nsketch     logins 4x65536 xxh3, ",
        ", N 9, at most ",
        "\nwindow     logins 1h by 5m, 4x16384, ",
        "\nlimit      five of logins: 5/1m, 100/1h, take, asked 0, over 0, near 0, unsure 0\n",
        "\nlimit      some of logins: 5/1m, take, asked 1, over 1, near 0, unsure 0\n",
        "shadow mode admitted 0\n",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    node.stop().unwrap();
}

/// A node answers, or refuses in words; a client takes both.
#[test]
fn a_pardon_is_asked_for() {
    let node = node();
    let words = ["pardon", "a", "--limit-name", "five", "--for", "60s"];
    told(&["hit", "a", "--limit-name", "five", "-n", "5"], &node, b"");
    let (done, output, _) = run_compact(&words, node.udp_addr(), &b""[..]);
    assert_eq!(done.unwrap(), Done::AsAsked);
    assert_eq!(output, "a: 5 forgiven by five for 60 s\n");
    node.stop().unwrap();
}
