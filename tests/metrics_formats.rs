//! Tests of both formats of metrics with their own readers: `promtool`, and Python's `prometheus_client`.

#![allow(missing_docs, clippy::unwrap_used)]

use std::io::{Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

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
assert kinds == {"counter", "gauge", "info", "histogram"}, kinds
print(len(samples(new)))
"#;

const OPENMETRICS: &str = "application/openmetrics-text;version=1.0.0,*/*;q=0.1";
/// The longest time that anything may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// The content type and the text of the metrics.
fn metrics(node: &Node, accept: &str) -> (String, String) {
    let mut stream = TcpStream::connect(node.http_addr().unwrap()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let request = format!(
        "GET /metrics HTTP/1.1\r\nHost: any.name.at.all\r\nAccept: {accept}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, text) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    let header = |name| head.lines().find_map(|line| line.strip_prefix(name));
    let length = header("content-length: ").map(|length| length.parse().unwrap());
    assert_eq!(length, Some(text.len()), "{head}");
    (
        header("content-type: ").unwrap().to_owned(),
        text.to_owned(),
    )
}

/// Both formats of the same series, the older one first. A series begins when what it counts happens for the first
/// time, and any process on the machine may send something to a port that was free a moment ago. So the older format
/// is asked for before and after, until nothing has begun in between.
fn both(node: &Node) -> [(String, String); 2] {
    let start = Instant::now();
    loop {
        let older = metrics(node, "*/*");
        let newer = metrics(node, OPENMETRICS);
        let again = metrics(node, "*/*");
        if series(&older.1) == series(&again.1) {
            return [older, newer];
        }
        assert!(start.elapsed() < PATIENCE, "series begin all the time");
    }
}

/// Names and labels.
fn series(text: &str) -> Vec<&str> {
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    samples
        .filter_map(|line| Some(line.rsplit_once(' ')?.0))
        .collect()
}

/// Sends something that the cluster refuses, so that a series begins which a node does not have at its start.
fn send_stray(node: &Node) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let start = Instant::now();
    while node.status().cluster.refused.is_empty() {
        assert!(start.elapsed() < PATIENCE, "nothing is refused");
        socket
            .send_to(b"nothing that is known", node.cluster_addr().unwrap())
            .unwrap();
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Asks for a count by a datagram, so that there is something in the histograms.
fn count(node: &Node) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let question = rmbd_proto::legacy::encode_count(b"key");
    socket.send_to(&question, node.udp_addr()).unwrap();
    socket.recv(&mut [0; 256]).unwrap();
    // The reply may be here before its time is noted.
    let start = Instant::now();
    while node.status().latencies.is_empty() {
        assert!(start.elapsed() < PATIENCE, "no time is noted");
        std::thread::sleep(Duration::from_millis(1));
    }
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
    // One that has ended reads nothing; what it said tells why.
    let _ = child.stdin.take().unwrap().write_all(text.as_bytes());
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
    send_stray(&node);
    count(&node);
    let [(kind, text), (new_kind, openmetrics)] = both(&node);
    assert_eq!(kind, "text/plain; version=0.0.4; charset=utf-8");
    assert_eq!(
        new_kind,
        "application/openmetrics-text; version=1.0.0; charset=utf-8"
    );
    let refused = series(&text)
        .into_iter()
        .find(|it| it.starts_with("rmbd_cluster_refused_total"));
    assert!(refused.is_some(), "{text}");
    let said = judge(
        Command::new("promtool").args(["check", "metrics"]),
        &text,
        PROMTOOL,
    );
    assert_eq!(said, "", "promtool finds nothing to say");
    let both = format!("{openmetrics}\u{c}{text}");
    let samples = judge(Command::new("python3").args(["-c", COMPARE]), &both, PARSER);
    assert!(samples.trim().parse::<usize>().unwrap() > 50, "{samples}");
}
