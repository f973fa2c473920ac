//! Tests that nodes do all that they promise when their standard output or standard error fails or blocks.

use std::thread;

use crate::nodes::Node;
use rmbd_testkit::streams::{BOTH, BROKEN, Kind, Which};

/// Two nodes with the same kind of stream count for each other, answer over HTTP, hand over when they are told to
/// end, and end well.
fn count_together(which: Which, kind: Kind) {
    let case = format!("{which:?} {kind:?}");
    let mut first = Node::start(which, kind, None);
    let mut second = Node::start(which, kind, Some(&first));
    first.wait_for_members(1);
    first.add(7);
    second.add(5);
    for node in [&first, &second] {
        node.wait_for_count(12);
        assert_eq!(node.get("/healthz").as_deref(), Some("ok\n"), "{case}");
        let log = node.status().log;
        let is_refused = which == Which::Err && matches!(kind, Kind::Full | Kind::Gone);
        assert_eq!(log.lines_refused > 0, is_refused, "{case}: {log:?}");
        assert_eq!(log.lines_dropped, 0, "{case}: all that it says has room");
    }
    first.add(3);
    first.terminate();
    assert_eq!(first.running.wait(&case).code(), Some(0), "{case}");
    second.wait_for_count(15);
    second.terminate();
    assert_eq!(second.running.wait(&case).code(), Some(0), "{case}");
    for mut node in [first, second] {
        if which == Which::Err && kind == Kind::Stuck {
            // The end did not wait for the stream, so lines that were never written are lost.
            assert!(!node.running.read_stuck().contains("panicked"));
        }
        says_what_it_should(&case, which, kind, &node.running.error());
    }
}

fn says_what_it_should(case: &str, which: Which, kind: Kind, log: &str) {
    assert!(!log.contains("panicked"), "{case}: {log}");
    let words = match (which, kind) {
        (Which::Out, Kind::Full) => {
            "ready line is not read: standard output does not take it: No space"
        }
        (Which::Out, Kind::Gone) => {
            "ready line is not read: standard output does not take it: Broken pipe"
        }
        (Which::Out, Kind::Stuck) => "ready line is not read: it waits for room in standard output",
        _ => "",
    };
    assert!(log.contains(words), "{case}: {log}");
    assert_eq!(
        log.contains("ready line"),
        !words.is_empty(),
        "{case}: {log}"
    );
    if which == Which::Out {
        assert!(log.contains("rmbd stopped after"), "{case}: {log}");
    }
}

#[test]
fn nodes_whose_streams_fail_or_block_replicate_answer_and_end_well() {
    thread::scope(|scope| {
        for which in BOTH {
            for kind in BROKEN {
                scope.spawn(move || count_together(which, kind));
            }
        }
    });
}

/// A reader that comes late to a full pipe finds the line there.
#[test]
fn a_ready_line_that_had_to_wait_is_read_later() {
    let mut node = Node::start(Which::Out, Kind::Stuck, None);
    let line = node.running.read_line_stuck();
    assert!(
        line.starts_with(&format!("rmbd ready udp={}", node.udp)),
        "{line}"
    );
    node.terminate();
    assert_eq!(node.running.wait("late").code(), Some(0));
}
