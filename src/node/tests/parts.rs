//! Tests that make every part of a node end by itself.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::config::{ClusterChoice, HostPort, IoChoice, NodeConfig};
use crate::node::Node;
use crate::node::crew::{Crew, Fault, How, Part};
use crate::node::signals::Signals;
use crate::node::supervisor::testing::noting;
use crate::shared::LimitsInForce;
use rmbd_proto::legacy::{Dialect, encode_peer};
use rmbd_sketch::Geometry;

/// A time longer than anything takes. No test passes by waiting for its end.
const PATIENCE: Duration = Duration::from_secs(30);
const LOOK_AGAIN: Duration = Duration::from_millis(2);

fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "waited in vain for {what}");
        sleep(LOOK_AGAIN);
    }
}

/// A node in which every part runs or has run, and one of them is about to fail.
fn start(fault: &Fault, io: IoChoice) -> Node {
    let mut config = NodeConfig {
        geometry: Geometry::new(1 << 10, 4).unwrap(),
        threads: Some(1),
        io,
        ..NodeConfig::at("127.0.0.1:0")
    };
    if fault.part() == Part::Snapshots {
        config.cluster.data_dir = Some(folder());
    }
    if fault.part() == Part::Passes {
        config.cluster.address = ClusterChoice::Off;
    } else {
        // A name at which nobody is, so that it is looked up again and again.
        config.cluster.join = vec!["localhost:9".parse::<HostPort>().unwrap()];
    }
    let (crew, endings) = Crew::with(fault.clone()).unwrap();
    let (supervisor, _) = noting(PATIENCE);
    let signals = Signals::none(&crew, supervisor).unwrap();
    let limits = Arc::new(LimitsInForce::new(&config.limits));
    Node::start_with(&config, (crew, endings), Some(signals), limits).unwrap()
}

/// A new folder for each node, since one may end before its thread does.
fn folder() -> PathBuf {
    static NUMBERS: AtomicU32 = AtomicU32::new(0);
    let number = NUMBERS.fetch_add(1, Relaxed);
    let name = format!("rmbd-parts-{}-{number}", std::process::id());
    std::env::temp_dir().join(name)
}

/// The code of an answer, or 0 if there is none.
fn ask(node: &Node, path: &str) -> (u16, String) {
    let Ok(mut stream) = TcpStream::connect(node.http_addr().unwrap()) else {
        return (0, String::new());
    };
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    let mut answer = String::new();
    let _ = stream.write_all(request.as_bytes());
    let _ = stream.read_to_string(&mut answer);
    let code = answer.split(' ').nth(1).and_then(|code| code.parse().ok());
    (code.unwrap_or_default(), answer)
}

/// Causes what makes a passing part start.
fn provoke(node: &Node, part: Part) {
    match part {
        Part::Connection => drop(ask(node, "/detail?key=k")),
        Part::PeerLookup => {
            let order = encode_peer("localhost", 9, Dialect::default()).unwrap();
            let client = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
            client.send_to(&order, node.udp_addr()).unwrap();
        }
        _ => {}
    }
}

fn faults() -> impl Iterator<Item = (Part, How)> {
    let of = |&part: &Part| {
        let ways: &[How] = match part.stands() {
            true => &[How::Return, How::Panic],
            // Passing parts return when they are done.
            false => &[How::Panic],
        };
        ways.iter().map(move |&how| (part, how))
    };
    Part::ALL.iter().flat_map(of)
}

/// For all parts, both ways of ending and both back ends: health is red at once, and the node ends with an error that
/// names the part.
#[test]
fn a_part_that_ends_by_itself_ends_the_node_and_is_named() {
    for io in [IoChoice::Uring, IoChoice::Mmsg] {
        for (part, how) in faults() {
            let case = format!("{part}, {how:?}, {io}");
            let fault = Fault::new(part, how);
            let node = start(&fault, io);
            assert_eq!(node.failure(), None, "{case}");
            if part != Part::Connection {
                assert_eq!(ask(&node, "/healthz").0, 200, "{case}");
            }
            fault.strike();
            provoke(&node, part);
            wait_for(&case, || node.failure().is_some());
            let failure = node.failure().unwrap();
            assert!(failure.starts_with(part.name()), "{case}: {failure}");
            // Health is red, or the node is gone already; the data threads do not serve any more.
            assert_ne!(ask(&node, "/healthz").0, 200, "{case}");
            assert_eq!(node.status().failure, Some(failure.clone()), "{case}");
            if part == Part::Connection {
                let (code, text) = ask(&node, "/healthz");
                assert!(code == 503 && text.contains(part.name()), "{case}: {text}");
                assert!(node.stop().is_ok(), "{case}: it serves on");
                continue;
            }
            wait_for("its end", || !node.status().ready);
            let error = node.wait().unwrap_err();
            assert_eq!(error.to_string(), failure, "{case}");
            let expected = if how == How::Panic {
                "by a panic"
            } else {
                "by itself"
            };
            assert!(failure.contains(expected), "{case}: {failure}");
        }
    }
}

/// If a part fails while the node ends in order, its failure is reported.
#[test]
fn a_panic_during_the_end_is_not_lost() {
    for part in [Part::Rounds, Part::Cluster, Part::Http] {
        let (crew, _endings) = Crew::new().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let tasks = tokio::task::LocalSet::new();
        tasks.block_on(&runtime, async {
            let task = crew.task(part, |leave| async move {
                leave.await;
                panic!("a test makes the end of {part} fail");
            });
            crew.begin_end();
            task.end().await;
        });
        let error = crew.take_error().unwrap().to_string();
        assert!(error.starts_with(part.name()), "{error}");
    }
}

/// A part that is told to end may return.
#[test]
fn an_end_that_was_asked_for_is_no_failure() {
    for io in [IoChoice::Uring, IoChoice::Mmsg] {
        for &part in Part::ALL {
            let node = start(&Fault::new(part, How::Return), io);
            assert!(node.stop().is_ok(), "{part}");
        }
    }
}

/// A data thread with a fault that is not due stands still before it serves. All others go on.
#[test]
fn a_watchdog_is_not_fed_while_a_data_thread_is_held() {
    for io in [IoChoice::Uring, IoChoice::Mmsg] {
        for holds in [true, false] {
            // Another part's fault holds nothing.
            let part = if holds { Part::Data } else { Part::Sampling };
            let fault = Fault::new(part, How::Return);
            let (crew, endings) = Crew::with(fault.clone()).unwrap();
            let (supervisor, notes) = noting(Duration::from_millis(400));
            let signals = Signals::none(&crew, supervisor).unwrap();
            let config = NodeConfig {
                threads: Some(2),
                io,
                ..NodeConfig::at("127.0.0.1:0")
            };
            let limits = Arc::new(LimitsInForce::new(&[]));
            let node = Node::start_with(&config, (crew, endings), Some(signals), limits).unwrap();
            let told = |text: &str| {
                let notes = notes.lock().unwrap();
                notes.iter().filter(|note| note.contains(text)).count()
            };
            if holds {
                let silent = "STATUS=rmbd-data-0, rmbd-data-1 did not answer";
                wait_for("a watchdog that starves", || told(silent) > 1);
                assert_eq!(told("WATCHDOG=1"), 0, "{io}: {notes:?}");
            } else {
                wait_for("food", || told("WATCHDOG=1") > 5);
            }
            let _ = node.stop();
            assert_eq!(told("STOPPING=1"), 1, "{io}");
        }
    }
}
