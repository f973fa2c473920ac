//! Tests of both formats of metrics with their own readers: `promtool`, and Python's `prometheus_client`.

#![allow(missing_docs, clippy::unwrap_used)]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};

use rmbd::config::NodeConfig;
use rmbd::node::Node;

const PROMTOOL: &str = "promtool: apt-get install prometheus";
const PARSER: &str = "Python's prometheus_client: pip install prometheus_client";

/// A Python script that reads both texts and compares their content.
const COMPARE: &str = r#"
import sys
from prometheus_client import parser
from prometheus_client.openmetrics import parser as openmetrics
both = sys.stdin.read().split("\f")
def samples(families):
    return {(s.name, tuple(sorted(s.labels.items()))) for f in families for s in f.samples}
new = list(openmetrics.text_string_to_metric_families(both[0]))
old = list(parser.text_string_to_metric_families(both[1]))
assert samples(new) == samples(old), samples(new) ^ samples(old)
kinds = {f.type for f in new}
assert kinds == {"counter", "gauge", "info"}, kinds
print(len(samples(new)))
"#;

/// The content type and the text of the metrics.
fn metrics(node: &Node, accept: &str) -> (String, String) {
    let mut stream = TcpStream::connect(node.http_addr().unwrap()).unwrap();
    let request = format!(
        "GET /metrics HTTP/1.1\r\nHost: any.name.at.all\r\nAccept: {accept}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, text) = answer.split_once("\r\n\r\n").unwrap();
    let kind = head
        .lines()
        .find_map(|line| line.strip_prefix("content-type: "));
    (kind.unwrap().to_owned(), text.to_owned())
}

/// What a program says about a text.
fn judge(command: &mut Command, text: &str, missing: &str) -> String {
    let command = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command
        .spawn()
        .unwrap_or_else(|error| panic!("{error}; {missing}"));
    child
        .stdin
        .take()
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8(said).unwrap();
    assert!(!said.contains("No module named"), "{missing}");
    assert!(output.status.success(), "{said}\n{text}");
    said
}

#[test]
fn both_formats_please_their_readers_and_say_the_same() {
    let node = Node::start(NodeConfig {
        threads: Some(2),
        ..NodeConfig::at("127.0.0.1:0")
    })
    .unwrap();
    node.add(b"key", 3).unwrap();
    let (kind, text) = metrics(&node, "*/*");
    assert_eq!(kind, "text/plain; version=0.0.4; charset=utf-8");
    let said = judge(
        Command::new("promtool").args(["check", "metrics"]),
        &text,
        PROMTOOL,
    );
    assert_eq!(said, "", "promtool finds nothing to say");
    let (kind, openmetrics) = metrics(
        &node,
        "application/openmetrics-text;version=1.0.0,*/*;q=0.1",
    );
    assert_eq!(
        kind,
        "application/openmetrics-text; version=1.0.0; charset=utf-8"
    );
    let both = format!("{openmetrics}\u{c}{text}");
    let samples = judge(Command::new("python3").args(["-c", COMPARE]), &both, PARSER);
    assert!(samples.trim().parse::<usize>().unwrap() > 50, "{samples}");
}
