//! Tests of the JSON of all commands and pages.

use std::fs;

use rmbd_testkit::streams::{self, Which};
use serde_json::Value;

use crate::kept::{Scratch, said};
use crate::nodes::{Node, PROGRAM, wait_until};

/// The largest number up to which all whole numbers have a place among those of JavaScript, and of many other readers.
const KEPT_MAX: f64 = (1_u64 << 53) as f64;

/// A limit that holds for nobody who asks here.
const CONFIG: &str = "[[limit]]\nname = 'api'\namounts = ['100/60s']\nexempt = ['127.0.0.0/8']\n";

/// Nodes, their starts, their writers and what tells sketches apart have random numbers of 64 bits.
#[test]
fn no_document_has_a_number_that_a_reader_may_round() {
    let scratch = Scratch::new("documents");
    let config = scratch.path("rmbd.toml");
    fs::write(&config, CONFIG).unwrap();
    let words = [
        &scratch.words("0")[..],
        &["--config", config.to_str().unwrap()],
    ]
    .concat();
    let node = Node::start_by(&[PROGRAM], Which::Out, streams::Kind::Read, &words);
    wait_until("a node that serves", || node.get("/readyz").is_some());
    let other = Node::start(Which::Out, streams::Kind::Read, Some(&node));
    node.wait_for_members(1);
    node.add(5);
    other.add(5);
    node.wait_for_count(10);
    let documents = [
        ("/status", node.get("/status").unwrap()),
        ("/detail", node.get("/detail?key=k&window=60s").unwrap()),
        ("/top", node.get("/top?detail=1").unwrap()),
        ("/denied", node.get("/denied").unwrap()),
    ];
    let commands = [
        "snapshot now --json",
        "status --json",
        "members --json",
        "sketches --json",
        "top --json",
        "top --window 60s --json",
        "count k --json",
        "count k --bounds --json",
        "count k --detail --json",
        "count k --window 60s --json",
        "hit k --limit 100/60s --json",
        "hit 127.0.0.1 --limit-name api --json",
        "limits denied --json",
    ];
    let commands = commands.map(|words| {
        let list: Vec<&str> = words.split(' ').collect();
        (words, said(&node, &list))
    });
    let file = scratch.path("snapshot");
    let shown = rmbd(&["snapshot", "show", file.to_str().unwrap()]);
    let offline = [
        ("snapshot show", shown.clone()),
        (
            "config show",
            rmbd(&["config", "show", "--seed", "18446744073709551615", "--json"]),
        ),
        (
            "limits show",
            rmbd(&[
                "limits",
                "show",
                "--config",
                config.to_str().unwrap(),
                "--json",
            ]),
        ),
    ];
    for (what, text) in documents.iter().chain(&commands).chain(&offline) {
        let document = serde_json::from_str(text).unwrap();
        let rounded = rounded(&document);
        assert_eq!(rounded, Vec::<String>::new(), "{what}: {text}");
    }
    // The same number is the same text everywhere.
    let (shown, status): (Value, _) = (serde_json::from_str(&shown).unwrap(), node.status());
    assert_eq!(shown["node"], *status.cluster.node);
    assert_eq!(shown["writer"], *status.cluster.writer);
    assert_eq!(shown["boot"], *status.compact.boot);
    let sketch = &shown["sketches"][0];
    assert_eq!(sketch["fingerprint"], *status.compact.fingerprint);
    let slices = sketch["slices"].as_array().unwrap().iter();
    let slices = slices.map(|it| (it["node"].as_str().unwrap(), it["writer"].as_str().unwrap()));
    let known = status
        .cluster
        .slices
        .iter()
        .map(|it| (&*it.node, &*it.writer));
    assert_eq!(slices.collect::<Vec<_>>(), known.collect::<Vec<_>>());
}

/// The output of a command that asks no node.
fn rmbd(words: &[&str]) -> String {
    let output = std::process::Command::new(PROGRAM)
        .args(words)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{words:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The numbers of a document that are too large.
fn rounded(document: &Value) -> Vec<String> {
    match document {
        Value::Number(number) => {
            let is_kept = number.as_f64().unwrap().abs() <= KEPT_MAX;
            (!is_kept).then(|| number.to_string()).into_iter().collect()
        }
        Value::Array(list) => list.iter().flat_map(rounded).collect(),
        Value::Object(members) => members.values().flat_map(rounded).collect(),
        Value::Null | Value::Bool(_) | Value::String(_) => Vec::new(),
    }
}
