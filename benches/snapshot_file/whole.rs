//! A whole node of 4 x 2^20 cells in this process, with a folder of its own.

use std::path::{Path, PathBuf};

use rmbd::config::{ClusterChoice, ClusterConfig, HttpChoice, NodeConfig, WindowConfig};
use rmbd::engine::Admitted;
use rmbd::node::Node;
use rmbd_store::SketchIndex;

/// So many different keys leave hardly a cell at 0.
pub(crate) const FULL_KEYS: u32 = 4_000_000;

pub(crate) fn node(folder: &Path) -> Node {
    let minute = WindowConfig {
        span_ms: 60_000,
        step_ms: Some(5_000),
        width: Some(1 << 17),
    };
    Node::start(NodeConfig {
        threads: Some(1),
        http: HttpChoice::At("127.0.0.1:0".parse().unwrap()),
        windows: vec![minute],
        cluster: ClusterConfig {
            address: ClusterChoice::Off,
            data_dir: Some(folder.to_owned()),
            snapshot_interval_ms: 0,
            ..ClusterConfig::default()
        },
        ..NodeConfig::at("127.0.0.1:0")
    })
    .unwrap()
}

/// Adds each of so many keys once.
pub(crate) fn fill(node: &Node, keys: u32) {
    let mut session = node.session::<()>();
    let (weight, to) = (
        session.weigh(1).unwrap(),
        Admitted::to(SketchIndex::DEFAULT),
    );
    for key in 0..keys {
        while session
            .add(to, &key.to_be_bytes(), weight, &mut |(), _| {})
            .is_err()
        {
            session.finish(&mut |(), _| {});
            std::thread::yield_now();
        }
    }
    session.finish(&mut |(), _| {});
}

/// A folder that goes when it is dropped.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        let name = format!("rmbd-snapshot-file-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let _ = std::fs::remove_dir_all(&path);
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
