//! Tests of every signal, sent to a node process that others rely on.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::thread::sleep;
use std::time::Duration;

use crate::nodes::Node;
use rmbd_testkit::streams::{Kind, Which};

/// Signals that end the node in order.
const ENDING: [i32; 5] = [
    libc::SIGTERM,
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGPWR,
    libc::SIGXCPU,
];
/// Signals that stand for faults of the process, or that no process can handle.
const OTHERS: [i32; 11] = [
    libc::SIGILL,
    libc::SIGTRAP,
    libc::SIGABRT,
    libc::SIGBUS,
    libc::SIGFPE,
    libc::SIGSEGV,
    libc::SIGSYS,
    libc::SIGKILL,
    libc::SIGSTOP,
    // These belong to the C library.
    32,
    33,
];

fn start(join: Option<&Node>) -> Node {
    Node::start(Which::Out, Kind::Read, join)
}

/// Each signal comes right after an acknowledged add. The node either lives on and answers, or has ended in order,
/// and its peer has the add.
#[test]
fn no_signal_loses_what_was_acknowledged() {
    let peer = start(None);
    let mut node = start(Some(&peer));
    peer.wait_for_members(1);
    let mut total = 0;
    for signal in (1..=libc::SIGRTMAX()).filter(|signal| !OTHERS.contains(signal)) {
        total += 1;
        node.add(1);
        node.signal(signal);
        if ENDING.contains(&signal) {
            let status = node.running.wait(&format!("signal {signal}"));
            assert_eq!(status.code(), Some(0), "signal {signal}: {status}");
            // The add was handed over before the node ended.
            assert_eq!(peer.count(), total, "signal {signal}");
            node = start(Some(&peer));
            peer.wait_for_members(1);
            node.wait_for_count(total);
        } else {
            // Some signals make it stand still until this one.
            node.signal(libc::SIGCONT);
            assert_eq!(node.count(), total, "signal {signal}");
            let ended = node.running.ended();
            assert!(ended.is_none(), "signal {signal}: {ended:?}");
        }
    }
    node.signal(libc::SIGHUP);
    node.terminate();
    assert_eq!(node.running.wait("the last").code(), Some(0));
    let log = node.running.error();
    assert!(
        log.contains("SIGHUP: there is nothing to reload without --config"),
        "{log}"
    );
    assert!(log.contains("SIGTERM: the node ends"), "{log}");
}

/// A signal comes at any moment of the start, and the exit code tells which moment. Before the program has begun to
/// run no process can handle signals; from the ready line on the end is always in order.
#[test]
fn a_signal_during_the_start_ends_it() {
    for step in 0..40 {
        let mut node = Node::start_unready(Which::Out, Kind::Read, None);
        sleep(Duration::from_micros(step * step * 40));
        node.terminate();
        let status = node.running.wait("a start");
        let (output, log) = (node.running.output(), node.running.error());
        let is_in_order = status.code() == Some(0);
        let is_before_all =
            status.signal() == Some(libc::SIGTERM) && output.is_empty() && log.is_empty();
        assert!(is_in_order || is_before_all, "{status}: {output}{log}");
    }
    let mut node = Node::start_unready(Which::Out, Kind::Read, None);
    let mut output = BufReader::new(node.running.child.stdout.take().unwrap());
    let mut ready = String::new();
    output.read_line(&mut ready).unwrap();
    node.terminate();
    assert_eq!(node.running.wait("ready").code(), Some(0), "{ready}");
    output.read_to_string(&mut ready).unwrap();
    assert_eq!(ready.lines().count(), 1, "{ready}");
}

/// A node waits 3 s for a member that stands still; a second signal ends it at once. The same signal twice within a
/// moment counts as one.
#[test]
fn a_second_signal_ends_the_process_at_once() {
    for (pause, code) in [
        (Duration::ZERO, 0),
        (Duration::from_millis(700), 128 + libc::SIGINT),
    ] {
        let peer = start(None);
        let mut node = start(Some(&peer));
        node.wait_for_members(1);
        peer.signal(libc::SIGSTOP);
        node.add(1);
        let mut log = BufReader::new(node.running.child.stderr.take().unwrap());
        node.terminate();
        let mut line = String::new();
        while !line.contains("SIGTERM: the node ends") {
            line.clear();
            assert!(log.read_line(&mut line).unwrap() > 0, "it says so");
        }
        sleep(pause);
        node.signal(libc::SIGINT);
        let status = node.running.wait("twice");
        assert_eq!(status.code(), Some(code), "{status}");
        let mut rest = String::new();
        log.read_to_string(&mut rest).unwrap();
        assert_eq!(rest.contains("SIGINT once more"), code != 0, "{rest}");
        peer.signal(libc::SIGCONT);
    }
}
