//! The configuration of a node ([`NodeConfig`]), and what it comes from: the command line ([`NodeOptions`]), variables
//! and a configuration file.

mod cluster;
pub mod environment;
mod envoy;
mod file;
#[cfg(test)]
mod file_tests;
mod given;
mod levels;
mod limits;
mod nearest;
pub(crate) mod number;
mod options;
mod resp;
mod rules;
mod secret;
mod settings;
#[cfg(test)]
mod shipped_tests;
#[cfg(test)]
mod sketch_tests;
mod sketches;
mod span;
mod spoe;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use ipnet::IpNet;
use thiserror::Error;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

pub use self::cluster::{
    ClusterChoice, ClusterConfig, ClusterOptions, DEFAULT_GOSSIP_INTERVAL_MS,
    DEFAULT_GOSSIP_RATE_BYTES_PER_S, DEFAULT_MAX_ORIGINS, DEFAULT_SNAPSHOT_INTERVAL_MS,
};
pub use self::envoy::{ENVOY_SKETCH, EnvoyConfig, EnvoyOptions, NoWindow, RuleFiles};
pub use self::file::{FILE_BYTES_MAX, FileError, Place};
pub use self::levels::{Layered, Origins, Source, config_of_file, read};
pub use self::limits::{
    AMOUNTS_MAX, Amount, AmountError, EXEMPTIONS_MAX, KeyPattern, KeySet, KeySetError, LIMITS_MAX,
    LimitConfig, LimitMisfit, LimitName, LimitNameError, LimitOverride, LimitVerdict,
    OVERRIDES_MAX, PATTERN_BYTES_MAX, PatternError, VerdictError,
};
use self::nearest::advice;
pub use self::options::NodeOptions;
pub(crate) use self::options::dialect;
pub use self::resp::{DEFAULT_RESP_CONNECTIONS, DEFAULT_RESP_IDLE_MS, RespConfig, RespOptions};
pub use self::rules::{
    RulesFilesError, RulesText, is_of_rules, read_rules, read_rules_texts, understand,
};
pub(crate) use self::secret::{is_secret, open_secret};
pub use self::settings::Setting;
use self::sketches::DEFAULT_WINDOW;
pub use self::sketches::{
    DEFAULT_WINDOW_MS, SKETCHES_MAX, SketchConfig, SketchError, SketchWish, WindowConfig,
    copies_of_cells,
};
pub use self::span::SpanError;
pub(crate) use self::span::{parse as parse_span, text as span_text};
pub use self::spoe::SpoeOptions;
use rmbd_names::Resolver;
pub use rmbd_names::{AddressError, HostPort};
use rmbd_proto::SketchName;
use rmbd_proto::legacy::Dialect;
use rmbd_sketch::{Geometry, GeometryError, HashFamily, MAX_WEIGHT};
pub use rmbd_store::{DENIED_MAX, TOP_DEFAULT, TOP_MAX};

/// Default address of a node, and of the node that a client asks.
pub const DEFAULT_ADDRESS: &str = "127.0.0.1:8000";
/// Default seed of `xxh3`: "rmbd" in ASCII. It is public, so anybody who may choose keys can make them collide.
/// Choose another where that matters, the same on every node of a cluster.
pub const DEFAULT_HASH_SEED: u64 = 0x726d_6264;
/// Default receive buffer in bytes: about 3 600 datagrams of 1 400 bytes, some milliseconds at full rate. The kernel
/// may give less (`net.core.rmem_max`).
pub const DEFAULT_RECEIVE_BUFFER_BYTES: usize = 8 << 20;
/// Default number of legacy peers whose rows are kept. Each costs four times the memory of a sketch's cells.
pub const DEFAULT_MAX_PEERS: usize = 256;
/// Default number of rounds without an ack after which a legacy peer is forgotten.
pub const DEFAULT_PEER_GRACE_ROUNDS: u32 = 3;

/// Largest number of data threads: as many as the cores of a large machine.
pub const MAX_THREADS: usize = 512;

/// Width and depth of the Python program.
const COMPAT_GEOMETRY: (u64, u64) = (100, 10);

/// The configuration of a node. [`Default`] is that of a command line without arguments.
///
/// ```
/// use rmbd::config::NodeConfig;
///
/// let config = NodeConfig { threads: Some(1), ..NodeConfig::at("127.0.0.1:0") };
/// assert_eq!(config.geometry.depth(), 4);
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct NodeConfig {
    /// Address of the client port as `HOST:PORT`, with a name or `[IPv6]`. The node looks it up; port 0 takes a free
    /// port.
    pub address: String,
    /// Width and depth of the sketch `default`.
    pub geometry: Geometry,
    /// Windows of the sketch `default`.
    pub windows: Vec<WindowConfig>,
    /// The other sketches.
    pub sketches: Vec<SketchConfig>,
    /// The limits. They can change while the node runs.
    pub limits: Vec<LimitConfig>,
    /// Number of the largest keys of the sketch `default` that are listed, at most [`TOP_MAX`]; 0 is no lists.
    /// `None` is [`TOP_DEFAULT`] where the hash lets it.
    pub top: Option<usize>,
    /// The hash that turns keys into columns.
    pub family: HashFamily,
    /// The dialect of legacy messages that do not tell theirs.
    pub dialect: Dialect,
    /// Number of data threads, at least 1. `None` is one for each CPU that the process may use in full, by its
    /// affinity and by the quota of its control groups.
    pub threads: Option<usize>,
    /// The way of input and output.
    pub io: IoChoice,
    /// Microseconds that a data thread spins for datagrams before it sleeps; 0 turns spinning off.
    pub busy_poll_us: u32,
    /// Size of the receive buffer to ask for, in bytes, for each data thread's socket.
    pub receive_buffer_bytes: usize,
    /// Networks that may send `peer` and `sync`, and add over HTTP without a token, besides loopback.
    pub trust: Vec<IpNet>,
    /// Networks that are told the names of the largest keys, besides loopback.
    pub show_keys: Vec<IpNet>,
    /// Networks that may add and count at all, over UDP and over HTTP; empty means all.
    pub allow: Vec<IpNet>,
    /// The address for HTTP.
    pub http: HttpChoice,
    /// Names by which HTTP may be asked, besides addresses, `localhost`, the host's own name and those in other
    /// options.
    pub http_hosts: Vec<String>,
    /// File with the tokens that HTTP takes from those who add over it and are not trusted, one a line. Without it
    /// only loopback and [`trust`](Self::trust) add over HTTP.
    pub http_token_file: Option<PathBuf>,
    /// Whether HTTP answers `GET /v1/check`, which adds, to those who have a token.
    pub http_check: bool,
    /// The largest weight of one add, at most [`MAX_WEIGHT`].
    pub max_weight: u32,
    /// Largest number of legacy peers, at least 1.
    pub max_peers: usize,
    /// Rounds without an ack after which a legacy peer is forgotten, at least 1.
    pub peer_grace_rounds: u32,
    /// Clients of Redis's protocol.
    pub resp: RespConfig,
    /// The address for HAProxy's offload protocol as `HOST:PORT`; port 0 takes a free port. `None` is off.
    pub spoe: Option<String>,
    /// Envoy's rate limit service. [`with_envoy`](Self::with_envoy) adds the sketch that counts for it.
    pub envoy: EnvoyConfig,
    /// The cluster that the node belongs to.
    pub cluster: ClusterConfig,
    /// The resolver for the names of other nodes: those to join, the advertised one, and those of orders to push.
    pub resolver: Resolver,
}

impl Default for NodeConfig {
    fn default() -> Self {
        Self {
            address: DEFAULT_ADDRESS.to_owned(),
            geometry: Geometry::DEFAULT,
            windows: vec![DEFAULT_WINDOW],
            sketches: Vec::new(),
            limits: Vec::new(),
            top: None,
            family: HashFamily::Xxh3 {
                seed: DEFAULT_HASH_SEED,
            },
            dialect: Dialect::default(),
            threads: None,
            io: IoChoice::default(),
            busy_poll_us: 0,
            receive_buffer_bytes: DEFAULT_RECEIVE_BUFFER_BYTES,
            trust: Vec::new(),
            show_keys: Vec::new(),
            allow: Vec::new(),
            http: HttpChoice::default(),
            http_hosts: Vec::new(),
            http_token_file: None,
            http_check: false,
            max_weight: MAX_WEIGHT,
            max_peers: DEFAULT_MAX_PEERS,
            peer_grace_rounds: DEFAULT_PEER_GRACE_ROUNDS,
            resp: RespConfig::default(),
            spoe: None,
            envoy: EnvoyConfig::default(),
            cluster: ClusterConfig::default(),
            resolver: Resolver::default(),
        }
    }
}

impl NodeConfig {
    /// The defaults with another address.
    #[must_use]
    pub fn at(address: impl Into<String>) -> Self {
        Self {
            address: address.into(),
            ..Self::default()
        }
    }

    /// All sketches of the node with their windows; the first is `default`.
    ///
    /// # Errors
    /// Fails for windows of `default` that do not fit its size and the hash, and for two sketches of the same name or
    /// number.
    pub fn all_sketches(&self) -> Result<Vec<SketchConfig>, SketchError> {
        let name = SketchName::default();
        let (windows, family) = (&self.windows, self.family);
        let default = sketches::plan(&name, self.geometry, windows, family, self.top)?;
        let all: Vec<_> = std::iter::once(default)
            .chain(self.sketches.iter().cloned())
            .collect();
        sketches::check_names(&all.iter().map(|sketch| &sketch.name).collect::<Vec<_>>())?;
        Ok(all)
    }

    /// Checks that the options fit together, and fills in the others. The configuration file that they name is not read
    /// here: that is done by [`read`], whose options carry what the file gives. Files of rules are.
    ///
    /// # Errors
    /// Fails for options that contradict each other, for sketches and limits that are not possible, and for rules that
    /// cannot be read.
    pub fn from_options(options: NodeOptions) -> Result<Self, ConfigError> {
        let wishes = wishes(&options);
        let default = wishes.iter().find(|wish| wish.is_default());
        let own_name = default.is_none().then(SketchName::default);
        let names = wishes.iter().map(|wish| &wish.name);
        sketches::check_names(&names.chain(&own_name).collect::<Vec<_>>())?;
        let family = family(&options)?;
        if options.http_check && options.http_token_file.is_none() {
            return Err(ConfigError::CheckWithoutToken);
        }
        let windows = default.and_then(|wish| wish.windows.clone());
        let planned = wishes.iter().filter(|wish| !wish.is_default()).map(|wish| {
            let place = options.origins.place_of(wish);
            let wish = SketchWish {
                top: wish.top.or(options.top),
                ..wish.clone()
            };
            wish.plan(family)
                .map_err(|error| ConfigError::at(place, error))
        });
        let config = Self {
            geometry: geometry(&options, default)?,
            windows: windows.unwrap_or_else(|| vec![DEFAULT_WINDOW]),
            sketches: planned.collect::<Result<_, _>>()?,
            limits: Vec::new(),
            top: default.and_then(|wish| wish.top).or(options.top),
            family,
            address: options.address,
            dialect: options.dialect,
            threads: options.threads,
            io: options.io,
            busy_poll_us: options.busy_poll_us,
            receive_buffer_bytes: options.receive_buffer_bytes,
            trust: options.trust,
            show_keys: options.show_keys,
            allow: options.allow,
            http: options.http.unwrap_or_default(),
            http_hosts: options.http_host,
            http_token_file: options.http_token_file,
            http_check: options.http_check,
            max_weight: options.max_weight,
            max_peers: options.max_peers,
            peer_grace_rounds: options.peer_grace_rounds,
            resp: RespConfig::from_options(options.resp)?,
            spoe: options.spoe.spoe,
            envoy: EnvoyConfig::default(),
            cluster: ClusterConfig::from_options(options.cluster)?,
            resolver: Resolver::default(),
        };
        let config = config.with_envoy(EnvoyConfig::from_options(options.envoy)?)?;
        let place = default.and_then(|wish| options.origins.place_of(wish));
        let sketches = config
            .all_sketches()
            .map_err(|error| ConfigError::at(place, error))?;
        let limits = options
            .origins
            .limits
            .iter()
            .map(|wish| wish.fit(&sketches));
        Ok(Self {
            limits: limits.collect::<Result<_, _>>()?,
            ..config
        })
    }
}

/// Checks a filter of the log. A word alone is a level: [`EnvFilter`] would take another one for the name of a part of
/// the program, so that a level with a slip would silence the log.
///
/// # Errors
/// The text of the error.
pub fn check_log_filter(filter: &str) -> Result<(), String> {
    let levels = LOG_LEVELS.join(", ");
    EnvFilter::try_new(filter).map_err(|error| format!("--log: {error}: levels are {levels}"))?;
    // Within brackets are fields of spans, with commas of their own.
    if filter.contains('[') {
        return Ok(());
    }
    let is_no_level = |word: &&str| !word.contains('=') && LevelFilter::from_str(word).is_err();
    let mut words = filter.split(',').map(str::trim);
    match words.find(|word| !word.is_empty() && is_no_level(word)) {
        None => Ok(()),
        Some(word) => Err(format!(
            "--log: `{word}` is no level: {}; a part of the program has its level behind it, as in `{word}=debug`",
            advice(word, LOG_LEVELS.into_iter())
        )),
    }
}

/// What a filter of the log may let through, from nothing to all.
const LOG_LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// All sketches that are wished for: those of flags or variables, and those of the file that have other names.
fn wishes(options: &NodeOptions) -> Vec<SketchWish> {
    let of_file = options.origins.sketches.iter().map(|placed| &placed.wish);
    let is_new = |wish: &&SketchWish| options.sketch.iter().all(|it| it.name != wish.name);
    let of_file = of_file.filter(is_new);
    options.sketch.iter().chain(of_file).cloned().collect()
}

fn geometry(options: &NodeOptions, default: Option<&SketchWish>) -> Result<Geometry, ConfigError> {
    let Some(wish) = default.filter(|wish| wish.has_size()) else {
        return own_geometry(options);
    };
    let place = options.origins.place_of(wish);
    let is_twice = options.compat
        || options.width.is_some()
        || options.depth.is_some()
        || options.epsilon.is_some()
        || options.confidence.is_some();
    if is_twice {
        return Err(ConfigError::at(place, SketchError::DefaultTwice));
    }
    wish.geometry()
        .map_err(|error| ConfigError::at(place, error))
}

/// The size that the options beside `--sketch` make.
fn own_geometry(options: &NodeOptions) -> Result<Geometry, ConfigError> {
    let by_error = options.epsilon.is_some() || options.confidence.is_some();
    let by_size = options.width.is_some() || options.depth.is_some();
    if options.compat {
        if by_error || by_size {
            return Err(ConfigError::CompatFixesSize);
        }
        let (width, depth) = COMPAT_GEOMETRY;
        return Ok(Geometry::new(width, depth)?);
    }
    if by_error && by_size {
        return Err(ConfigError::SizeTwice);
    }
    if by_error {
        let (Some(epsilon), Some(confidence)) = (options.epsilon, options.confidence) else {
            return Err(ConfigError::HalfOfError);
        };
        return Ok(Geometry::from_error(epsilon, confidence)?);
    }
    let or = |given: Option<u64>, default: usize| given.unwrap_or(default as u64);
    Ok(Geometry::new(
        or(options.width, Geometry::DEFAULT.width()),
        or(options.depth, Geometry::DEFAULT.depth()),
    )?)
}

fn family(options: &NodeOptions) -> Result<HashFamily, ConfigError> {
    if options.compat && (options.hash.is_some() || options.seed.is_some()) {
        return Err(ConfigError::CompatFixesHash);
    }
    if options.compat || options.hash == Some(HashChoice::Fnv) {
        return match options.seed {
            Some(_) => Err(ConfigError::SeedOfFnv),
            None => Ok(HashFamily::Fnv),
        };
    }
    Ok(HashFamily::Xxh3 {
        seed: options.seed.unwrap_or(DEFAULT_HASH_SEED),
    })
}

/// Why options do not fit together. Nothing was started.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum ConfigError {
    /// The size is not possible.
    #[error(transparent)]
    Geometry(#[from] GeometryError),
    /// The sketches are not possible.
    #[error(transparent)]
    Sketch(#[from] SketchError),
    /// Something in the configuration file is not possible.
    #[error(transparent)]
    File(#[from] FileError),
    /// The size is given in both ways.
    #[error(
        "the size is given twice: leave out either -x and -y (RMBD_WIDTH, RMBD_DEPTH) or --epsilon and --confidence (RMBD_EPSILON, RMBD_CONFIDENCE)"
    )]
    SizeTwice,
    /// Only one of epsilon and confidence is given.
    #[error("--epsilon and --confidence go together: give both, or -x and -y instead")]
    HalfOfError,
    /// Compatibility and a size are given, which it fixes.
    #[error(
        "--compat fixes the size to -x 100 -y 10, the Python program's: leave out -x, -y, --epsilon and --confidence (and their RMBD_ variables)"
    )]
    CompatFixesSize,
    /// Compatibility and a hash are given, which it fixes.
    #[error(
        "--compat fixes the hash to fnv, the Python program's: leave out --hash and --seed (and RMBD_HASH, RMBD_SEED)"
    )]
    CompatFixesHash,
    /// A seed is given for a hash that has none.
    #[error("fnv has no seed: leave out --seed (RMBD_SEED), or use --hash xxh3")]
    SeedOfFnv,
    /// The cluster is off, and an option of the cluster is given.
    #[error(
        "--cluster off (RMBD_CLUSTER) and {option} contradict each other: leave out one of them"
    )]
    ClusterOff {
        /// The other option.
        option: &'static str,
    },
    /// A time between snapshot files is given, and no folder for them.
    #[error(
        "--snapshot-interval (RMBD_SNAPSHOT_INTERVAL) says how often something is written to --data-dir: give that, too, or leave it out"
    )]
    IntervalWithoutFolder,
    /// A password is given, and no address where clients would show it.
    #[error(
        "--resp-password-file (RMBD_RESP_PASSWORD_FILE) is for clients that come to --resp: give that, too, or leave it out"
    )]
    PasswordWithoutResp,
    /// What adds by a GET is to be answered, and there is no token that would keep pages of browsers from it.
    #[error(
        "--http-check (RMBD_HTTP_CHECK) wants a token from whoever asks: give --http-token-file (RMBD_HTTP_TOKEN_FILE), too, or leave it out"
    )]
    CheckWithoutToken,
    /// Envoy is to be answered, and there are no rules.
    #[error(
        "--envoy (RMBD_ENVOY) answers by rules: name their files with --limits DIR|FILE (RMBD_LIMITS), too, or leave it out"
    )]
    EnvoyWithoutLimits,
    /// The rules cannot be read, or are wrong.
    #[error("--limits (RMBD_LIMITS): {problem}")]
    Rules {
        /// The file, the line where there is one, and what is wrong there.
        problem: String,
    },
    /// The configured sketch that counts for rules lacks a window.
    #[error(transparent)]
    NoWindow(#[from] NoWindow),
}

impl ConfigError {
    fn at(place: Option<&Place>, error: SketchError) -> Self {
        match place {
            Some(place) => FileError::at(place, error).into(),
            None => error.into(),
        }
    }
}

/// The way of a node's input and output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum IoChoice {
    /// io_uring if the system allows it, and else system calls, with a warning.
    #[default]
    Auto,
    /// io_uring only; without it the node does not start.
    Uring,
    /// The system calls `recvmmsg` and `sendmsg`.
    Mmsg,
}

/// The address on which a node serves HTTP.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum HttpChoice {
    /// The host and port of the client port, over TCP.
    #[default]
    SameAsUdp,
    /// No address: HTTP is off.
    Off,
    /// This `HOST:PORT`.
    At(String),
}

/// The name of a hash family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HashChoice {
    /// XXH3-128 with a seed.
    Xxh3,
    /// FNV-1a, as in the Python program.
    Fnv,
}

/// The error for a word that an option does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("use one of {0}")]
pub struct UnknownChoice(&'static str);

impl fmt::Display for IoChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Uring => "uring",
            Self::Mmsg => "mmsg",
        })
    }
}

impl FromStr for IoChoice {
    type Err = UnknownChoice;

    fn from_str(word: &str) -> Result<Self, UnknownChoice> {
        match word {
            "auto" => Ok(Self::Auto),
            "uring" => Ok(Self::Uring),
            "mmsg" => Ok(Self::Mmsg),
            _ => Err(UnknownChoice("auto, uring, mmsg")),
        }
    }
}

impl FromStr for HashChoice {
    type Err = UnknownChoice;

    fn from_str(word: &str) -> Result<Self, UnknownChoice> {
        match word {
            "xxh3" => Ok(Self::Xxh3),
            "fnv" => Ok(Self::Fnv),
            _ => Err(UnknownChoice("xxh3, fnv")),
        }
    }
}

impl FromStr for HttpChoice {
    type Err = AddressError;

    fn from_str(word: &str) -> Result<Self, AddressError> {
        match word {
            "off" => Ok(Self::Off),
            address => HostPort::from_str(address).map(|_| Self::At(address.to_owned())),
        }
    }
}
