//! The cluster's part of a configuration ([`ClusterConfig`]), and the options that it comes from.

use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;
use clap::builder::BoolishValueParser;
use thiserror::Error;

use super::span::{self, SpanError};
use super::{AddressError, ConfigError, HostPort, number};

/// Default milliseconds between rounds, which are the Python program's.
pub const DEFAULT_GOSSIP_INTERVAL_MS: u32 = 500;
/// Default bytes a second to all members together: a quarter of what a link of 1 Gbit/s carries.
pub const DEFAULT_GOSSIP_RATE_BYTES_PER_S: u64 = 32 << 20;
/// Default number of learnt slices to keep: a year of restarts of a large cluster. Each costs memory for what was
/// counted in it.
pub const DEFAULT_MAX_ORIGINS: usize = 65_536;

/// Default milliseconds between snapshot files: what a node alone loses at most where its machine falls.
pub const DEFAULT_SNAPSHOT_INTERVAL_MS: u64 = 60_000;

/// Milliseconds between snapshot files. More than one a second only wear the disk, and one a month is as good as none.
const SNAPSHOT_INTERVAL_MS: std::ops::RangeInclusive<u64> = 1_000..=30 * 86_400_000;
/// Milliseconds between rounds. More than 20 rounds a second only cost time, and one a minute is as good as none.
const GOSSIP_INTERVAL_MS: std::ops::RangeInclusive<u64> = 50..=60_000;
/// Bytes a second. With fewer than some 50 datagrams a second, nodes would never be equal.
const GOSSIP_RATE_BYTES_PER_S: std::ops::RangeInclusive<u64> = 65_536..=1 << 40;
/// Largest number of learnt slices. The names and versions of so many take some hundred MiB.
const MAX_MAX_ORIGINS: u64 = 1 << 20;

/// The configuration of a node for its cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterConfig {
    /// The address on which other nodes reach this one.
    pub address: ClusterChoice,
    /// Cluster addresses of some members; names are looked up again and again.
    pub join: Vec<HostPort>,
    /// The cluster address as others reach it; `None` is the bound address, and port 0 is the bound port. A name is
    /// looked up again and again, and other nodes are told the address that it leads to.
    pub advertise: Option<HostPort>,
    /// File with the keys of the cluster.
    pub key_file: Option<PathBuf>,
    /// Whether to take part without a key on an address that is not loopback.
    pub insecure: bool,
    /// The folder that keeps the node's id, and what it counted, from one start to the next.
    pub data_dir: Option<PathBuf>,
    /// Milliseconds between two snapshot files in [`data_dir`](Self::data_dir), 1000 to 2 592 000 000 (30 days); 0
    /// writes one only when the node ends.
    pub snapshot_interval_ms: u64,
    /// Milliseconds between rounds, 50 to 60 000.
    pub gossip_interval_ms: u32,
    /// Bytes a second to all members together, at least 65 536.
    pub gossip_rate_bytes_per_s: u64,
    /// Largest number of learnt slices, at least 1.
    pub max_origins: usize,
    /// Most bytes of all cells. `None` is seven eighths of what the machine and the control group let the process use.
    pub max_memory_bytes: Option<u64>,
}

impl Default for ClusterConfig {
    fn default() -> Self {
        Self {
            address: ClusterChoice::default(),
            join: Vec::new(),
            advertise: None,
            key_file: None,
            insecure: false,
            data_dir: None,
            snapshot_interval_ms: DEFAULT_SNAPSHOT_INTERVAL_MS,
            gossip_interval_ms: DEFAULT_GOSSIP_INTERVAL_MS,
            gossip_rate_bytes_per_s: DEFAULT_GOSSIP_RATE_BYTES_PER_S,
            max_origins: DEFAULT_MAX_ORIGINS,
            max_memory_bytes: None,
        }
    }
}

impl ClusterConfig {
    /// The configuration of a member of the cluster that `seeds` belong to.
    #[must_use]
    pub fn joining(seeds: impl IntoIterator<Item = HostPort>) -> Self {
        Self {
            join: seeds.into_iter().collect(),
            ..Self::default()
        }
    }

    /// Whether the node holds slices beside its own: those of others, or those of its earlier starts.
    #[must_use]
    pub fn learns_slices(&self) -> bool {
        self.address != ClusterChoice::Off || self.data_dir.is_some()
    }

    pub(super) fn from_options(options: ClusterOptions) -> Result<Self, ConfigError> {
        let address = options.cluster.unwrap_or_default();
        if address == ClusterChoice::Off {
            let contradicts = [
                ("--join (RMBD_JOIN)", !options.join.is_empty()),
                ("--advertise (RMBD_ADVERTISE)", options.advertise.is_some()),
                (
                    "--cluster-key-file (RMBD_CLUSTER_KEY_FILE)",
                    options.cluster_key_file.is_some(),
                ),
                (
                    "--insecure-cluster (RMBD_INSECURE_CLUSTER)",
                    options.insecure_cluster,
                ),
            ];
            if let Some((option, _)) = contradicts.into_iter().find(|(_, given)| *given) {
                return Err(ConfigError::ClusterOff { option });
            }
        }
        if options.snapshot_interval_ms.is_some() && options.data_dir.is_none() {
            return Err(ConfigError::IntervalWithoutFolder);
        }
        Ok(Self {
            address,
            join: options.join,
            advertise: options.advertise,
            key_file: options.cluster_key_file,
            insecure: options.insecure_cluster,
            data_dir: options.data_dir,
            snapshot_interval_ms: options
                .snapshot_interval_ms
                .unwrap_or(DEFAULT_SNAPSHOT_INTERVAL_MS),
            gossip_interval_ms: options.gossip_interval_ms,
            gossip_rate_bytes_per_s: options.gossip_rate_bytes_per_s,
            max_origins: options.max_origins,
            max_memory_bytes: options.max_memory_bytes,
        })
    }
}

/// The address on which a node listens for other nodes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum ClusterChoice {
    /// The host of the client port, and the port above it, or any free port if that is taken.
    #[default]
    NextPort,
    /// No address: the node is alone.
    Off,
    /// This `HOST:PORT`; port 0 takes a free one.
    At(String),
}

impl FromStr for ClusterChoice {
    type Err = AddressError;

    fn from_str(word: &str) -> Result<Self, AddressError> {
        match word {
            "off" => Ok(Self::Off),
            address => HostPort::from_str(address).map(|_| Self::At(address.to_owned())),
        }
    }
}

/// The cluster's options as they stand on the command line and in the environment.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct ClusterOptions {
    /// Cluster address of a member to join, or a name of several, looked up again and again; repeat it or use commas
    #[arg(
        long, value_name = "HOST:PORT", env = "RMBD_JOIN", value_delimiter = ',',
        value_parser = HostPort::target
    )]
    pub join: Vec<HostPort>,

    /// Where to hear other nodes, over UDP [default: the client host and the port above its own, or a
    /// free one if that is taken]
    #[arg(
        long, value_name = "HOST:PORT|off", env = "RMBD_CLUSTER",
        value_parser = ClusterChoice::from_str
    )]
    pub cluster: Option<ClusterChoice>,

    /// The cluster address as others reach it, where it is not the bound one; port 0 is the bound one
    #[arg(long, value_name = "HOST:PORT", env = "RMBD_ADVERTISE", value_parser = HostPort::from_str)]
    pub advertise: Option<HostPort>,

    /// File with the cluster's keys, one a line: the first seals, all open (rmbd keygen makes one)
    #[arg(long, value_name = "FILE", env = "RMBD_CLUSTER_KEY_FILE")]
    pub cluster_key_file: Option<PathBuf>,

    /// Take part without a key on an address that is not loopback: whoever reaches it can forge
    #[arg(long, env = "RMBD_INSECURE_CLUSTER", value_parser = BoolishValueParser::new())]
    pub insecure_cluster: bool,

    /// Folder that keeps the node's id, and what it counted, from one start to the next; made if missing
    #[arg(long, value_name = "DIR", env = "RMBD_DATA_DIR")]
    pub data_dir: Option<PathBuf>,

    /// How often all that was counted is written to --data-dir, such as 60s; 0 only at the end [default: 60s]
    #[arg(
        long = "snapshot-interval", value_name = "TIME", env = "RMBD_SNAPSHOT_INTERVAL",
        value_parser = snapshot_interval
    )]
    pub snapshot_interval_ms: Option<u64>,

    /// Time between rounds: less is sooner equal
    #[arg(
        long = "gossip-interval", value_name = "MILLISECONDS", env = "RMBD_GOSSIP_INTERVAL",
        default_value_t = DEFAULT_GOSSIP_INTERVAL_MS,
        value_parser = number::whole::<u32>(GOSSIP_INTERVAL_MS)
    )]
    pub gossip_interval_ms: u32,

    /// Bytes a second to send to all members together
    #[arg(
        long = "gossip-rate", value_name = "BYTES", env = "RMBD_GOSSIP_RATE",
        default_value_t = DEFAULT_GOSSIP_RATE_BYTES_PER_S,
        value_parser = number::whole::<u64>(GOSSIP_RATE_BYTES_PER_S)
    )]
    pub gossip_rate_bytes_per_s: u64,

    /// Slices of other nodes' starts that are kept; each costs what was counted in it
    #[arg(
        long, value_name = "N", env = "RMBD_MAX_ORIGINS", default_value_t = DEFAULT_MAX_ORIGINS,
        value_parser = number::whole::<usize>(1..=MAX_MAX_ORIGINS)
    )]
    pub max_origins: usize,

    /// Bytes of all cells, this node's and others' [default: 7/8 of what the process may use]
    #[arg(
        long = "max-memory", value_name = "BYTES", env = "RMBD_MAX_MEMORY",
        value_parser = number::whole::<u64>(1..)
    )]
    pub max_memory_bytes: Option<u64>,
}

/// Parses a time between snapshot files to milliseconds.
fn snapshot_interval(text: &str) -> Result<u64, SnapshotIntervalError> {
    let ms = match text {
        "0" => 0,
        text => span::parse(text)?,
    };
    let is_possible = ms == 0 || SNAPSHOT_INTERVAL_MS.contains(&ms);
    is_possible
        .then_some(ms)
        .ok_or(SnapshotIntervalError::Range)
}

#[derive(Debug, Error)]
enum SnapshotIntervalError {
    #[error(transparent)]
    Span(#[from] SpanError),
    #[error("snapshot files are 1s to 30d apart, or only at the end with 0")]
    Range,
}
