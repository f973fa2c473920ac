//! Tests of the end of a node whose disk makes trouble, or a part of which has failed.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config::{ClusterChoice, IoChoice, NodeConfig};
use crate::node::crew::{Crew, Fault, How, Part};
use crate::node::{Node, NodeError};
use crate::shared::LimitsInForce;
use crate::snapshots::testing::{Point, Trouble, What};
use rmbd_sketch::Geometry;
use rmbd_snapshot::CleanMark;

/// The longest that an end may take, as the documentation says it.
const END_LIMIT: Duration = Duration::from_secs(8);

/// A folder that is removed after the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let name = format!("rmbd-keeping-{}-{name}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let _ = fs::remove_dir_all(&path);
        Self(path)
    }

    /// Whether a start may go on from here.
    fn has_mark(&self) -> bool {
        let mark = fs::read(self.0.join("clean_end"));
        let mark = mark.ok().map(|bytes| CleanMark::decode(&bytes).unwrap());
        mark.is_some_and(|mark| mark.renamed.is_none())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn config(folder: &Path, cluster: ClusterChoice) -> NodeConfig {
    let mut config = NodeConfig {
        geometry: Geometry::new(1 << 10, 4).unwrap(),
        threads: Some(1),
        io: IoChoice::Auto,
        ..NodeConfig::at("127.0.0.1:0")
    };
    config.cluster.address = cluster;
    config.cluster.data_dir = Some(folder.to_owned());
    config.cluster.snapshot_interval_ms = 0;
    config
}

fn start_troubled(config: &NodeConfig) -> (Node, Arc<Trouble>) {
    let trouble = Arc::new(Trouble::default());
    let crew = Crew::with_trouble(Arc::clone(&trouble)).unwrap();
    let limits = Arc::new(LimitsInForce::new(&config.limits));
    let node = Node::start_with(config, crew, None, limits).unwrap();
    (node, trouble)
}

#[test]
fn a_node_goes_on_where_it_ended_with_a_cluster_and_without() {
    for cluster in [ClusterChoice::NextPort, ClusterChoice::Off] {
        let scratch = Scratch::new("on");
        let config = config(&scratch.0, cluster);
        let mut writer = None;
        for start in 0..4 {
            let node = Node::start(config.clone()).unwrap();
            assert!(!scratch.has_mark());
            assert_eq!(node.estimate(b"key").count, 3 * start);
            let status = node.status();
            let loaded = status.snapshot_files.loaded;
            assert_eq!(loaded.is_some_and(|it| it.is_resumed), start > 0);
            let own = status.cluster.writer;
            // Nobody has heard of it, so that each start gives it another name.
            assert_ne!(writer.replace(own.clone()), Some(own));
            node.add(b"key", 3).unwrap();
            node.stop().unwrap();
            assert!(scratch.has_mark());
        }
    }
}

#[test]
fn a_disk_that_hangs_or_fails_at_the_end_does_not_hold_it_up() {
    std::thread::scope(|scope| {
        for (name, point, what) in [
            ("hangs", Point::SyncAll, What::Hangs),
            ("hangs-at-mark", Point::Mark, What::Hangs),
            ("full", Point::Write, What::Fails(libc::ENOSPC)),
        ] {
            scope.spawn(move || end_in_trouble(name, point, what));
        }
    });
}

fn end_in_trouble(name: &str, point: Point, what: What) {
    let scratch = Scratch::new(name);
    let config = config(&scratch.0, ClusterChoice::Off);
    let first = Node::start(config.clone()).unwrap();
    first.add(b"key", 3).unwrap();
    first.stop().unwrap();
    let before = fs::read(scratch.0.join("snapshot")).unwrap();
    let (node, trouble) = start_troubled(&config);
    node.add(b"key", 4).unwrap();
    trouble.begin(point, what);
    let began = Instant::now();
    let error = node.stop().unwrap_err();
    assert!(began.elapsed() < END_LIMIT, "{:?}", began.elapsed());
    assert!(matches!(error, NodeError::LastSnapshotFile(_)), "{error}");
    assert!(!scratch.has_mark(), "{name}");
    trouble.end();
    if point != Point::Mark {
        let file = fs::read(scratch.0.join("snapshot")).unwrap();
        assert_eq!(file, before, "the one before stands");
    }
}

#[test]
fn a_mark_that_cannot_be_written_is_missing_and_no_more() {
    let scratch = Scratch::new("no-mark");
    let config = config(&scratch.0, ClusterChoice::Off);
    let (node, trouble) = start_troubled(&config);
    node.add(b"key", 4).unwrap();
    trouble.begin(Point::Mark, What::Fails(libc::EIO));
    node.stop().unwrap();
    assert!(!scratch.has_mark());
    let node = Node::start(config).unwrap();
    let loaded = node.status().snapshot_files.loaded.unwrap();
    assert!(!loaded.is_resumed && node.estimate(b"key").count == 4);
}

/// Whatever has failed, the last file is written, and the next start does not go on as the same writer.
#[test]
fn a_failure_leaves_a_file_and_no_mark() {
    for part in [Part::Data, Part::Control, Part::Rounds, Part::Passes] {
        for how in [How::Return, How::Panic] {
            let case = format!("{part} {how:?}");
            let scratch = Scratch::new("failed");
            let config = config(&scratch.0, ClusterChoice::Off);
            let fault = Fault::new(part, how);
            let crew = Crew::with(fault.clone()).unwrap();
            let limits = Arc::new(LimitsInForce::new(&config.limits));
            let node = Node::start_with(&config, crew, None, limits).unwrap();
            node.add(b"key", 4).unwrap();
            fault.strike();
            let error = node.wait().unwrap_err();
            assert!(matches!(error, NodeError::Ended { .. }), "{case}: {error}");
            assert!(!scratch.has_mark(), "{case}");
            let node = Node::start(config).unwrap();
            assert_eq!(node.estimate(b"key").count, 4, "{case}");
        }
    }
}

/// A node that has not served writes nothing.
#[test]
fn a_start_that_fails_leaves_what_it_found() {
    let scratch = Scratch::new("failed-start");
    let mut config = config(&scratch.0, ClusterChoice::Off);
    let first = Node::start(config.clone()).unwrap();
    first.add(b"key", 3).unwrap();
    first.stop().unwrap();
    let before = fs::read(scratch.0.join("snapshot")).unwrap();
    let taken = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let free = std::mem::replace(&mut config.address, taken.local_addr().unwrap().to_string());
    assert!(Node::start(config.clone()).is_err());
    assert_eq!(fs::read(scratch.0.join("snapshot")).unwrap(), before);
    assert!(scratch.has_mark(), "nobody has gone on from there");
    config.address = free;
    let node = Node::start(config).unwrap();
    assert!(node.status().snapshot_files.loaded.unwrap().is_resumed);
}
