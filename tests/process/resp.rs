//! Tests of Redis's protocol at the bounds of a process: as many connections as it may have, and pipelines without an
//! end.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;

use rmbd_testkit::redis::command;
use rmbd_testkit::required::skip;
use rmbd_testkit::streams::PATIENCE;
use rustix::process::{Resource, getrlimit};

use crate::nodes::{Node, wait_until};

/// Connections that say nothing.
const SILENT: usize = 10_000;
/// Commands of a pipeline.
const COMMANDS: u64 = 1_000_000;
/// Bytes of memory that a connection may cost beyond what the node took at its start.
const CONNECTION_BYTES_MAX: u64 = 32 << 10;

fn start(words: &[&str]) -> (Node, SocketAddr) {
    let node = Node::start_resp(words);
    let resp = SocketAddr::new(node.udp.ip(), 6_380);
    (node, resp)
}

fn connect(to: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn memory_bytes(node: &Node) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", node.running.child.id()));
    let status = status.unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib: u64 = line
        .unwrap()
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .unwrap();
    kib << 10
}

/// They cost little memory, hinder nobody, and give their places back.
#[test]
fn ten_thousand_connections_that_say_nothing() {
    let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    if files < SILENT as u64 + 500 {
        return skip(format_args!(
            "{SILENT} connections: a process may have {files} files open"
        ));
    }
    let (node, resp) = start(&["--resp-connections", "10000"]);
    let before = memory_bytes(&node);
    let silent: Vec<_> = (0..SILENT).map(|_| connect(resp)).collect();
    wait_until("all connections", || {
        node.status().resp.connections == SILENT as u64
    });
    let costs = memory_bytes(&node).saturating_sub(before);
    let most = SILENT as u64 * CONNECTION_BYTES_MAX;
    assert!(costs < most, "{costs} bytes, at most {most} are expected");
    let mut said = String::new();
    BufReader::new(connect(resp)).read_line(&mut said).unwrap();
    assert_eq!(said, "-ERR max number of clients reached\r\n");
    // Datagrams are served, and so is any of them that says something.
    node.add(7);
    assert_eq!(node.count(), 7);
    let mut last = silent.last().unwrap();
    last.write_all(&command(&["CMS.QUERY", "default", "k"]))
        .unwrap();
    let lines: Vec<_> = BufReader::new(last)
        .lines()
        .take(2)
        .map(Result::unwrap)
        .collect();
    assert_eq!(lines, ["*1", ":7"]);
    drop(silent);
    wait_until("free places", || node.status().resp.connections == 0);
    let mut next = connect(resp);
    next.write_all(b"PING\r\n").unwrap();
    said.clear();
    BufReader::new(next).read_line(&mut said).unwrap();
    assert_eq!(said, "+PONG\r\n");
}

/// A client sends a million commands as fast as they are taken, and reads meanwhile: each has its reply, in order, and
/// counts once.
#[test]
fn a_pipeline_of_a_million_commands() {
    let (node, resp) = start(&[]);
    let before = memory_bytes(&node);
    let reading = connect(resp);
    let mut writing = reading.try_clone().unwrap();
    let writer = thread::spawn(move || {
        let some = command(&["CMS.INCRBY", "default", "k", "1"]).repeat(1_000);
        (0..COMMANDS / 1_000).for_each(|_| writing.write_all(&some).unwrap());
    });
    let mut lines = BufReader::new(reading).lines();
    let mut line = || lines.next().unwrap().unwrap();
    for count in 1..=COMMANDS {
        assert_eq!((line(), line()), ("*1".to_owned(), format!(":{count}")));
    }
    writer.join().unwrap();
    assert_eq!(node.count(), COMMANDS);
    let costs = memory_bytes(&node).saturating_sub(before);
    assert!(costs < 16 << 20, "{costs} bytes");
}
