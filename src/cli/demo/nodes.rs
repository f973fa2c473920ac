//! The three nodes of the demonstration.

use std::net::SocketAddr;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::super::CliError;
use super::{LIMIT, LIMIT_COUNT, PAGES};
use crate::config::{
    Amount, ClusterConfig, HostPort, LimitConfig, LimitVerdict, NodeConfig, SketchWish,
};
use crate::node::{Node, NodeError};
use rmbd_proto::SketchName;
use rmbd_sketch::Geometry;

/// Columns of its sketches: a quarter of a mebibyte of cells, which is plenty for a thousand keys.
const WIDTH: u64 = 16_384;
const DEPTH: u64 = 4;
/// How many of the largest keys are listed.
const TOP: usize = 50;
/// Nobody sends bursts here.
const RECEIVE_BUFFER_BYTES: usize = 256 << 10;
/// Time between rounds: short, so that what one node counts is soon seen at the others.
const GOSSIP_INTERVAL_MS: u32 = 200;
/// How long the nodes may take to find each other, on a machine that is busy.
const PATIENCE_S: u64 = 30;
const LOOK_EVERY: Duration = Duration::from_millis(20);

pub(super) struct Nodes([Node; 3]);

impl Nodes {
    /// Starts them, on free ports of loopback.
    pub(super) fn start() -> Result<Self, CliError> {
        let first = Node::start(config(None)?)?;
        let seed = first.cluster_addr();
        let second = Node::start(config(seed)?)?;
        let third = Node::start(config(seed)?)?;
        Ok(Self([first, second, third]))
    }

    /// The addresses at which they serve datagrams and HTTP.
    pub(super) fn addresses(&self) -> [SocketAddr; 3] {
        self.0.each_ref().map(Node::udp_addr)
    }

    /// Waits until all are members of one cluster. Returns whether they are: `is_over` ends it before.
    pub(super) fn wait_for_each_other(&self, is_over: impl Fn() -> bool) -> Result<bool, CliError> {
        let start = Instant::now();
        while !is_over() {
            if self.0.iter().all(|node| alive(node) + 1 == self.0.len()) {
                return Ok(true);
            }
            if start.elapsed() > Duration::from_secs(PATIENCE_S) {
                return Err(CliError::DemoAlone(PATIENCE_S));
            }
            sleep(LOOK_EVERY);
        }
        Ok(false)
    }

    /// Fails as soon as one of them has failed.
    pub(super) fn check(&self) -> Result<(), CliError> {
        match self.0.iter().find_map(Node::failure) {
            Some(failure) => Err(CliError::Config(format!("a node has failed: {failure}"))),
            None => Ok(()),
        }
    }

    /// Ends all of them at once, so that none waits for one that has ended.
    pub(super) fn stop(self) -> Result<(), CliError> {
        let stopped = std::thread::scope(|scope| {
            let ends = self
                .0
                .map(|node| scope.spawn(move || node.stop().map(drop)));
            // A thread that panics has told so.
            ends.map(|end| end.join().unwrap_or(Ok(())))
        });
        let stopped: Result<Vec<()>, NodeError> = stopped.into_iter().collect();
        Ok(stopped.map(drop)?)
    }
}

fn alive(node: &Node) -> usize {
    let members = node.status().cluster.members;
    members
        .iter()
        .filter(|member| member.state == "alive")
        .count()
}

fn config(join: Option<SocketAddr>) -> Result<NodeConfig, CliError> {
    let wrong = |error: &dyn std::fmt::Display| CliError::Config(error.to_string());
    let default = NodeConfig::at("127.0.0.1:0");
    let pages: SketchWish = format!("name={PAGES},width={WIDTH},depth={DEPTH},top={TOP}")
        .parse()
        .map_err(|error| wrong(&error))?;
    let limit = LimitConfig {
        name: LIMIT.parse().map_err(|error| wrong(&error))?,
        sketch: SketchName::default(),
        keys: "*".parse().map_err(|error| wrong(&error))?,
        amounts: vec![Amount {
            count: LIMIT_COUNT,
            window_ms: 60_000,
        }],
        cost: 1,
        // So that the largest keys show who floods, whom the limit refuses.
        verdict: LimitVerdict::Count,
        overrides: Vec::new(),
        exempt: Vec::new(),
        shadow: false,
    };
    Ok(NodeConfig {
        geometry: Geometry::new(WIDTH, DEPTH).map_err(|error| wrong(&error))?,
        sketches: vec![pages.plan(default.family).map_err(|error| wrong(&error))?],
        limits: vec![limit],
        top: Some(TOP),
        threads: Some(1),
        receive_buffer_bytes: RECEIVE_BUFFER_BYTES,
        cluster: ClusterConfig {
            join: join.into_iter().map(host_and_port).collect(),
            gossip_interval_ms: GOSSIP_INTERVAL_MS,
            ..ClusterConfig::default()
        },
        ..default
    })
}

fn host_and_port(address: SocketAddr) -> HostPort {
    HostPort {
        host: address.ip().to_string(),
        port: address.port(),
    }
}
