//! A node's options as they stand on the command line and in the environment.

use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;
use clap::builder::{BoolishValueParser, PossibleValuesParser, TypedValueParser};
use ipnet::IpNet;
use thiserror::Error;

use super::{
    AddressError, ClusterOptions, DEFAULT_ADDRESS, DEFAULT_MAX_PEERS, DEFAULT_PEER_GRACE_ROUNDS,
    DEFAULT_RECEIVE_BUFFER_BYTES, EnvoyOptions, HashChoice, HostPort, HttpChoice, IoChoice,
    MAX_THREADS, Origins, RespOptions, SketchWish, SpoeOptions, number,
};
use rmbd_proto::legacy::Dialect;
use rmbd_sketch::MAX_WEIGHT;
use rmbd_store::TOP_MAX;

/// Longest busy polling in microseconds. A second of it is as good as never sleeping.
const MAX_BUSY_POLL_US: u64 = 1_000_000;
/// Largest receive buffer in bytes. The kernel doubles the number, in a signed 32-bit one.
const MAX_RECEIVE_BUFFER_BYTES: u64 = i32::MAX as u64 / 2;
/// Smallest receive buffer in bytes: one datagram of a page. A smaller one does not receive.
const MIN_RECEIVE_BUFFER_BYTES: u64 = 4_096;
/// Largest table of peers, which is allocated when the node starts.
const MAX_MAX_PEERS: u64 = 65_536;

/// A node's options. [`NodeConfig::from_options`](super::NodeConfig::from_options) checks them.
#[derive(Debug, Clone, PartialEq, Args)]
pub struct NodeOptions {
    /// TOML file with options by their long names, sketches and limits; flags and variables take precedence, and
    /// SIGHUP reads limits, rules, the cluster's keys, --allow, --trust, --show-keys and the log filter again
    #[arg(long = "config", value_name = "FILE", env = "RMBD_CONFIG")]
    pub config_file: Option<PathBuf>,

    /// Where to listen; port 0 takes a free one
    #[arg(
        value_name = "HOST:PORT", env = "RMBD_ADDRESS", default_value = DEFAULT_ADDRESS,
        value_parser = listen_address
    )]
    pub address: String,

    /// Columns a row: more make the error smaller [default: 1048576]
    #[arg(
        short = 'x',
        long,
        value_name = "WIDTH",
        env = "RMBD_WIDTH",
        allow_negative_numbers = true,
        value_parser = number::any_whole::<u64>
    )]
    pub width: Option<u64>,

    /// Rows: more make a large error rarer [default: 4]
    #[arg(
        short = 'y',
        long,
        value_name = "DEPTH",
        env = "RMBD_DEPTH",
        allow_negative_numbers = true,
        value_parser = number::any_whole::<u64>
    )]
    pub depth: Option<u64>,

    /// Instead of -x and -y: an answer is too large by at most E of all that was added ...
    #[arg(
        long,
        value_name = "E",
        env = "RMBD_EPSILON",
        allow_negative_numbers = true,
        value_parser = number::with_point
    )]
    pub epsilon: Option<f64>,

    /// ... with this probability
    #[arg(
        long,
        value_name = "C",
        env = "RMBD_CONFIDENCE",
        allow_negative_numbers = true,
        value_parser = number::with_point
    )]
    pub confidence: Option<f64>,

    /// How keys become columns; fnv is the Python program's [default: xxh3]
    #[arg(long, env = "RMBD_HASH", value_parser = words(["xxh3", "fnv"], HashChoice::from_str))]
    pub hash: Option<HashChoice>,

    /// Seed of xxh3, also as 0x...; secret where others choose the keys [default: 0x726d6264]
    #[arg(long, value_name = "N", env = "RMBD_SEED", value_parser = seed)]
    pub seed: Option<u64>,

    /// Be a peer of the Python program: -x 100 -y 10 --hash fnv
    #[arg(long, env = "RMBD_COMPAT", value_parser = BoolishValueParser::new())]
    pub compat: bool,

    /// How numbers stand in legacy messages that do not tell it themselves
    #[arg(long, env = "RMBD_DIALECT", default_value_t, value_parser = dialect())]
    pub dialect: Dialect,

    /// Data threads [default: one for each CPU that the process may use in full, by affinity and control group]
    #[arg(long, value_name = "N", env = "RMBD_THREADS", value_parser = number::whole::<usize>(1..=MAX_THREADS as u64))]
    pub threads: Option<usize>,

    /// Packet path; auto is uring where the system allows it
    #[arg(
        long, env = "RMBD_IO", default_value_t,
        value_parser = words(["auto", "uring", "mmsg"], IoChoice::from_str)
    )]
    pub io: IoChoice,

    /// Spin this long for datagrams before sleeping: quicker answers for a busy CPU
    #[arg(
        long = "busy-poll", value_name = "MICROSECONDS", env = "RMBD_BUSY_POLL",
        default_value_t = 0,
        value_parser = number::whole::<u32>(0..=MAX_BUSY_POLL_US)
    )]
    pub busy_poll_us: u32,

    /// Receive buffer to ask for, for each data thread; net.core.rmem_max limits it
    #[arg(
        long = "receive-buffer", value_name = "BYTES", env = "RMBD_RECEIVE_BUFFER",
        default_value_t = DEFAULT_RECEIVE_BUFFER_BYTES,
        value_parser = number::whole::<usize>(MIN_RECEIVE_BUFFER_BYTES..=MAX_RECEIVE_BUFFER_BYTES)
    )]
    pub receive_buffer_bytes: usize,

    /// Who may send peer and sync messages, and add over HTTP without a token, besides loopback; repeat it or use
    /// commas
    #[arg(
        long, value_name = "CIDR", env = "RMBD_TRUST", value_delimiter = ',',
        value_parser = cidr
    )]
    pub trust: Vec<IpNet>,

    /// Who is told the names of the largest keys, besides loopback and who shows a token; all others see their counts
    /// only; repeat it or use commas
    #[arg(
        long, value_name = "CIDR", env = "RMBD_SHOW_KEYS", value_delimiter = ',',
        value_parser = cidr
    )]
    pub show_keys: Vec<IpNet>,

    /// Who may add and count at all, over UDP, HTTP, --resp, --spoe and --envoy [default: everybody]; repeat it or use
    /// commas
    #[arg(
        long, value_name = "CIDR", env = "RMBD_ALLOW", value_delimiter = ',',
        value_parser = cidr
    )]
    pub allow: Vec<IpNet>,

    /// Where to serve the API of /v1, /status, /metrics and the page [default: the UDP host and port, over TCP]
    #[arg(
        long, value_name = "HOST:PORT|off", env = "RMBD_HTTP",
        value_parser = HttpChoice::from_str
    )]
    pub http: Option<HttpChoice>,

    /// Name by which HTTP may be asked, besides addresses, localhost, the host's own name and those of other options;
    /// repeat it or use commas
    #[arg(
        long, value_name = "NAME", env = "RMBD_HTTP_HOST", value_delimiter = ',',
        value_parser = host_name
    )]
    pub http_host: Vec<String>,

    /// File with the tokens that HTTP takes from those who add over it and are neither on loopback nor in --trust,
    /// one a line (rmbd keygen --token makes one)
    #[arg(long, value_name = "FILE", env = "RMBD_HTTP_TOKEN_FILE")]
    pub http_token_file: Option<PathBuf>,

    /// Answer GET /v1/check, which adds, for a proxy that asks before each request; wants --http-token-file
    #[arg(long, env = "RMBD_HTTP_CHECK", value_parser = BoolishValueParser::new())]
    pub http_check: bool,

    /// Largest weight of one add: less keeps a client's mistake small
    #[arg(
        long, value_name = "N", env = "RMBD_MAX_WEIGHT", default_value_t = MAX_WEIGHT,
        value_parser = number::whole::<u32>(1..=u64::from(MAX_WEIGHT))
    )]
    pub max_weight: u32,

    /// Legacy peers whose rows are kept; each costs the memory of a sketch
    #[arg(
        long, value_name = "N", env = "RMBD_MAX_PEERS", default_value_t = DEFAULT_MAX_PEERS,
        value_parser = number::whole::<usize>(1..=MAX_MAX_PEERS)
    )]
    pub max_peers: usize,

    /// Rounds (of 0.5 s) without an ack after which a legacy peer is forgotten
    #[arg(
        long = "peer-grace", value_name = "ROUNDS", env = "RMBD_PEER_GRACE",
        default_value_t = DEFAULT_PEER_GRACE_ROUNDS,
        value_parser = number::whole::<u32>(1..)
    )]
    pub peer_grace_rounds: u32,

    /// List the K largest keys, of all time and in each window, of each sketch that has no top of its own; 0 lists
    /// none [default: 100; none for fnv with more than 4 rows, which cannot]
    #[arg(
        long, value_name = "K", env = "RMBD_TOP", allow_negative_numbers = true,
        value_parser = number::whole::<usize>(0..=TOP_MAX as u64)
    )]
    pub top: Option<usize>,

    /// Clients of Redis's protocol.
    #[command(flatten)]
    pub resp: RespOptions,

    /// HAProxy.
    #[command(flatten)]
    pub spoe: SpoeOptions,
    /// Envoy's rate limit service.
    #[command(flatten)]
    pub envoy: EnvoyOptions,

    /// Which cluster, and how.
    #[command(flatten)]
    pub cluster: ClusterOptions,

    /// A sketch beside the default one, or that one's windows: name=logins,windows=60s/5s+1h/5m@65536,epsilon=1e-5;
    /// width and depth or epsilon and confidence; windows are SPAN/STEP@WIDTH, or none [default: one of 60s]; top is
    /// how many of its largest keys are listed [default: that of --top]; repeat it or use ;
    #[arg(
        long, value_name = "SKETCH", env = "RMBD_SKETCH", value_delimiter = ';',
        value_parser = SketchWish::from_str
    )]
    pub sketch: Vec<SketchWish>,

    /// What to log to standard error: error, warn, info, debug, trace, or by module
    #[arg(long, value_name = "FILTER", env = "RMBD_LOG", default_value = "info")]
    pub log: String,

    /// Where the values come from, and what only a file can give.
    #[arg(skip)]
    pub origins: Origins,
}

/// A parser of `native` and `network`.
pub(crate) fn dialect() -> impl TypedValueParser<Value = Dialect> {
    words(["native", "network"], Dialect::from_str)
}

/// A parser of a few words, which the help lists.
fn words<T, E, const N: usize>(
    words: [&'static str; N],
    parse: fn(&str) -> Result<T, E>,
) -> impl TypedValueParser<Value = T>
where
    T: Clone + Send + Sync + 'static,
    E: std::error::Error + Send + Sync + 'static,
{
    PossibleValuesParser::new(words).try_map(move |word| parse(&word))
}

/// Parses the positional address. A mistyped command ends here, too.
pub(super) fn listen_address(text: &str) -> Result<String, ListenError> {
    HostPort::from_str(text)?;
    // In a file it does not stand where an option could.
    match text.starts_with('-') {
        true => Err(ListenError::Neither),
        false => Ok(text.to_owned()),
    }
}

#[derive(Debug, Error)]
pub(super) enum ListenError {
    #[error(
        "neither HOST:PORT, such as 127.0.0.1:8000, nor one of the commands add, completions, config, count, demo, hit, keygen, limits, man, members, pardon, peer, size, sketches, snapshot, status, top"
    )]
    Neither,
    #[error(transparent)]
    Address(AddressError),
}

impl From<AddressError> for ListenError {
    fn from(error: AddressError) -> Self {
        match error {
            AddressError::NoPort => Self::Neither,
            error => Self::Address(error),
        }
    }
}

/// Parses a network or an address. Bits behind the prefix are dropped.
fn cidr(text: &str) -> Result<IpNet, CidrError> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(address.into());
    }
    let net: IpNet = text.parse().map_err(|_| CidrError)?;
    Ok(net.trunc())
}

#[derive(Debug, Error)]
#[error("not a network: write ADDRESS/BITS, such as 10.0.0.0/8 or fd00::/8, or one address")]
struct CidrError;

/// Parses a name without a port.
fn host_name(text: &str) -> Result<String, HostNameError> {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let is_name = !text.is_empty() && text.bytes().all(is_part);
    is_name.then(|| text.to_owned()).ok_or(HostNameError)
}

#[derive(Debug, Error)]
#[error("not a name: write it without http:// and without a port, such as rmbd.example")]
struct HostNameError;

/// Parses a number, decimal or with `0x`.
fn seed(text: &str) -> Result<u64, SeedError> {
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    }
    .map_err(|_| SeedError)
}

#[derive(Debug, Error)]
#[error("not a number from 0 to 2^64 - 1: write it in decimal, or hexadecimal behind 0x")]
struct SeedError;
