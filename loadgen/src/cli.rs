//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum};
use rmbd::config::{IoChoice, NodeConfig, NodeOptions};
use rmbd::sketch::{Geometry, GeometryError};
use thiserror::Error;

use crate::plan::canonical::{self, Common};
use crate::plan::format::Format;
use crate::plan::keys::{DEFAULT_KEY_BYTES, KeySet, KeySpec, KeysError, LineEnd};
use crate::plan::load::{Load, Mode};
use crate::record::{Gaps, Pace};
use crate::run::{DEFAULT_CHECKED_KEYS, Session, default_node_threads, name_of};
use crate::server::{HttpAt, Target, TargetError};
use crate::versus::VersusCommand;

/// Load generator for rmbd: real traffic, counted and checked.
///
/// Without arguments it starts a node inside itself and runs about 20 seconds of adds, counts and hits.
/// With any of --mode, --rate, --outstanding and --flood it runs that one load instead.
/// Exit code: 0, 1 where a check failed, the run ended early or its results could not be written, 2 where it could
/// not begin, 141 where nobody read them to their end.
#[derive(Debug, Parser)]
#[command(name = "loadgen", version, args_conflicts_with_subcommands = true)]
pub struct Cli {
    /// Something else than a run.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// A run.
    #[command(flatten)]
    pub run: RunArgs,
}

impl Cli {
    /// As it is, if what can be said of it before anything begins is in order.
    ///
    /// # Errors
    /// A node's options that contradict each other.
    pub fn checked(self) -> Result<Self, String> {
        if let Some(Command::Versus(VersusCommand::Node(options))) = &self.command {
            NodeConfig::from_options(NodeOptions::clone(options)).map_err(|e| e.to_string())?;
        }
        Ok(self)
    }
}

/// Something else than a run against one server.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// How much this generator can send at most on this machine, to a receiver that throws away
    Ceiling(CeilingArgs),
    /// Other servers.
    #[command(flatten)]
    Versus(VersusCommand),
}

/// `loadgen ceiling`.
#[derive(Debug, Clone, Copy, Args)]
pub struct CeilingArgs {
    /// How long each of the measurements lasts, such as 3s
    #[arg(long, default_value = "3s", value_parser = duration)]
    pub duration: Duration,
}

/// A run.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("pace")))]
pub struct RunArgs {
    /// Server to send to; without it a node is started inside this program
    #[arg(long, value_name = "HOST:PORT", help_heading = "Server")]
    pub server: Option<String>,
    /// HTTP address of the server, or off; without it the server's own address
    #[arg(long, value_name = "HOST:PORT", requires = "server", value_parser = http_at, help_heading = "Server")]
    pub http: Option<HttpAt>,
    /// Process of the server, for its CPU and memory, where it is not found by its port
    #[arg(long, requires = "server", help_heading = "Server")]
    pub pid: Option<u32>,
    /// Columns of the sketch of the node inside
    #[arg(long, conflicts_with = "server", default_value_t = Geometry::DEFAULT.width() as u64, help_heading = "Server")]
    pub node_width: u64,
    /// Rows of the sketch of the node inside
    #[arg(long, conflicts_with = "server", default_value_t = Geometry::DEFAULT.depth() as u64, help_heading = "Server")]
    pub node_depth: u64,
    /// Data threads of the node inside; without it one for every two CPUs
    #[arg(long, conflicts_with = "server", help_heading = "Server")]
    pub node_threads: Option<usize>,
    /// Packet path of the node inside: auto, uring or mmsg
    #[arg(long, conflicts_with = "server", default_value_t = IoChoice::Auto, help_heading = "Server")]
    pub node_io: IoChoice,
    /// Microseconds that the data threads of the node inside spin before they sleep
    #[arg(
        long,
        conflicts_with = "server",
        default_value_t = 0,
        help_heading = "Server"
    )]
    pub node_busy_poll_us: u32,

    /// add, count, mix:R with the share R of counts, or hit:LIMIT (add, and ask whether that is within the
    /// limit; hit alone: 100); add if only the pace is given
    #[arg(long, help_heading = "Load")]
    pub mode: Option<Mode>,
    /// Open loop: messages a second at planned times, whatever the server does, such as 50000/s,
    /// 50k/s or 1.5M/s
    #[arg(long, value_name = "N/s", group = "pace", value_parser = rate, help_heading = "Load")]
    pub rate: Option<f64>,
    /// Closed loop: so many messages on their way at most
    #[arg(long, value_name = "K", group = "pace", help_heading = "Load")]
    pub outstanding: Option<usize>,
    /// As fast as the kernel takes them; if only --mode is given
    #[arg(long, group = "pace", help_heading = "Load")]
    pub flood: bool,
    /// Gaps between planned times
    #[arg(long, value_enum, default_value_t = GapsArg::Exponential, requires = "rate")]
    #[arg(conflicts_with_all = ["flood", "outstanding"], help_heading = "Load")]
    pub gaps: GapsArg,
    /// How long to measure, such as 10s
    #[arg(long, value_parser = duration, help_heading = "Load")]
    pub duration: Option<Duration>,
    /// How long to run before, with the same load
    #[arg(long, value_parser = duration, help_heading = "Load")]
    pub warmup: Option<Duration>,
    /// End after so many messages
    #[arg(long, value_name = "N", help_heading = "Load")]
    pub messages: Option<u64>,
    /// Sending threads
    #[arg(long, default_value_t = 1, help_heading = "Load")]
    pub threads: usize,
    /// Sockets over all threads: each goes to one of the server's data threads; without it 1 a
    /// thread, or 8 where the server has several data threads
    #[arg(long, help_heading = "Load")]
    pub sockets: Option<usize>,
    /// Messages a datagram; without it as many as fit 1 400 bytes in a flood (9 legacy ones, 77 compact adds
    /// of 16 bytes), and 1 else
    #[arg(long, value_name = "N", help_heading = "Load")]
    pub pack: Option<usize>,
    /// Weight of each add and each hit, 1 to 1048576; compact only. Without it 1
    #[arg(long, value_name = "N", help_heading = "Load")]
    pub weight: Option<u32>,
    /// Adds count exactly once: requests are sent again until they are acknowledged or --timeout has passed,
    /// and N must have grown by what was acknowledged; compact only, with --outstanding
    #[arg(long, help_heading = "Load")]
    pub exactly_once: bool,
    /// Format of the messages; without it legacy, compact where only that can (hits, --weight,
    /// --exactly-once), and both where no load is asked for
    #[arg(long, value_enum, help_heading = "Load")]
    pub format: Option<Format>,
    /// One system call for each datagram, instead of one for up to 64 (UDP_SEGMENT)
    #[arg(long, help_heading = "Load")]
    pub no_gso: bool,
    /// Senders spin instead of sleeping until the next planned time; each needs a CPU of its own
    #[arg(long, help_heading = "Load")]
    pub spin: bool,
    /// After how long a request counts as unanswered
    #[arg(long, default_value = "1s", value_parser = duration, help_heading = "Load")]
    pub timeout: Duration,

    /// uniform:N, zipf:S:N, sequential:N, file:PATH (its lines, in order), or - for standard input; without it
    /// uniform:1000000
    #[arg(long, help_heading = "Keys")]
    pub keys: Option<KeySpec>,
    /// Bytes of a key, where it is not a line of a file: at most 139, and 1024 in the compact format. Without
    /// it 16
    #[arg(long, value_name = "BYTES", help_heading = "Keys")]
    pub key_len: Option<usize>,
    /// What keys begin with, where they are not lines of a file
    #[arg(long, value_name = "TEXT", help_heading = "Keys")]
    pub key_prefix: Option<String>,
    /// A CR at the end of a line of a file or of standard input is the key's; without it lines end with LF or
    /// CR LF
    #[arg(long, requires = "keys", help_heading = "Keys")]
    pub keep_cr: bool,
    /// Seed of keys, gaps, and the order of adds and counts: the same seed, the same stream
    #[arg(long, default_value_t = 1, help_heading = "Keys")]
    pub seed: u64,
    /// Keys to count after the run besides the hottest ones; 0 is no check
    #[arg(long, value_name = "N", default_value_t = DEFAULT_CHECKED_KEYS, help_heading = "Keys")]
    pub check_keys: usize,

    /// Where results go.
    #[command(flatten)]
    pub results: Results,
}

/// Files that a run writes.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Results")]
pub struct Results {
    /// Write everything that was found as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write response times as percentile text; of several phases that have any, each gets a file of its
    /// own, with its name in front of the ending
    #[arg(long, value_name = "FILE")]
    pub hgrm: Option<PathBuf>,
    /// Write a page with plots
    #[arg(long, value_name = "FILE.html")]
    pub report: Option<PathBuf>,
    /// Write the plots as SVG files
    #[arg(long, value_name = "DIRECTORY")]
    pub plots: Option<PathBuf>,
}

/// [`Gaps`] by their names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum GapsArg {
    /// All the same
    Constant,
    /// As of many independent clients (a Poisson process)
    Exponential,
}

impl From<GapsArg> for Gaps {
    fn from(gaps: GapsArg) -> Self {
        match gaps {
            GapsArg::Constant => Self::Constant,
            GapsArg::Exponential => Self::Exponential,
        }
    }
}

/// A run that cannot begin. Nothing was sent.
#[derive(Debug, Error)]
pub enum BeginError {
    /// No server.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// No keys.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// No such sketch.
    #[error(transparent)]
    Geometry(#[from] GeometryError),
    /// Options of one load where none is asked for.
    #[error("{0} belongs to one load: say which with --mode, --rate, --outstanding or --flood")]
    OfOneLoad(&'static str),
}

/// Keys of one load if nothing is said.
const DEFAULT_KEYS: KeySpec = KeySpec::Uniform { keys: 1_000_000 };
/// How long one load lasts if nothing is said.
const DEFAULT_DURATION: Duration = Duration::from_secs(10);
/// Its warm-up.
const DEFAULT_WARMUP: Duration = Duration::from_secs(1);

/// As `--keep-cr` has it.
pub(crate) fn line_end(keep_cr: bool) -> LineEnd {
    match keep_cr {
        true => LineEnd::Lf,
        false => LineEnd::LfOrCrLf,
    }
}

impl RunArgs {
    /// Finds or starts the server.
    ///
    /// # Errors
    /// [`BeginError`].
    pub fn target(&self) -> Result<Target, BeginError> {
        if let Some(server) = &self.server {
            let http = self.http.clone().unwrap_or_default();
            return Ok(Target::at(server, &http, self.pid)?);
        }
        let threads = self.node_threads.unwrap_or_else(default_node_threads);
        Ok(Target::inside(NodeConfig {
            geometry: Geometry::new(self.node_width, self.node_depth)?,
            threads: Some(threads),
            io: self.node_io,
            busy_poll_us: self.node_busy_poll_us,
            ..NodeConfig::at("127.0.0.1:0")
        })?)
    }

    /// What to run against a server with so many data threads, as far as that is known.
    ///
    /// # Errors
    /// [`BeginError`].
    pub fn session(&self, target: &Target) -> Result<Session, BeginError> {
        let server_threads = target.status().map_or(1, |status| status.io.threads.len());
        let sockets_a_thread = if server_threads > 1 { 8 } else { 1 };
        let common = Common {
            seed: self.seed,
            threads: self.threads,
            sockets: self
                .sockets
                .unwrap_or_else(|| self.threads.saturating_mul(sockets_a_thread)),
            gso: !self.no_gso && target.takes_trains(),
            timeout: self.timeout,
            spin: self.spin,
        };
        let loads = if self.is_one_load() {
            vec![self.one_load(&common)?]
        } else {
            self.refuse_options_of_one_load()?;
            canonical::loads(&common, self.format)?
        };
        Ok(Session {
            loads,
            checked_keys: self.check_keys,
        })
    }

    fn is_one_load(&self) -> bool {
        self.mode.is_some() || self.rate.is_some() || self.outstanding.is_some() || self.flood
    }

    fn refuse_options_of_one_load(&self) -> Result<(), BeginError> {
        for (given, option) in [
            (self.duration.is_some(), "--duration"),
            (self.warmup.is_some(), "--warmup"),
            (self.messages.is_some(), "--messages"),
            (self.pack.is_some(), "--pack"),
            (self.weight.is_some(), "--weight"),
            (self.exactly_once, "--exactly-once"),
            (self.keys.is_some(), "--keys"),
            (self.key_len.is_some(), "--key-len"),
            (self.key_prefix.is_some(), "--key-prefix"),
        ] {
            if given {
                return Err(BeginError::OfOneLoad(option));
            }
        }
        Ok(())
    }

    fn one_load(&self, common: &Common) -> Result<Load, BeginError> {
        let pace = match (self.rate, self.outstanding) {
            (Some(per_s), _) => Pace::Rate {
                per_s,
                gaps: self.gaps.into(),
            },
            (None, Some(requests)) => Pace::Outstanding { requests },
            (None, None) => Pace::Flood,
        };
        let mode = self.mode.unwrap_or(Mode::Add);
        let weight = self.weight.unwrap_or(1);
        let format = self.format.unwrap_or(match mode {
            Mode::Hit { .. } => Format::Compact,
            _ if weight != 1 || self.exactly_once => Format::Compact,
            _ => Format::Legacy,
        });
        let mut load = Load {
            name: String::new(),
            mode,
            format,
            weight,
            exactly_once: self.exactly_once,
            pace,
            keys: KeySet::open_with(
                self.keys.as_ref().unwrap_or(&DEFAULT_KEYS),
                self.key_len.unwrap_or(DEFAULT_KEY_BYTES),
                self.key_prefix.as_deref().unwrap_or_default(),
                format,
                line_end(self.keep_cr),
            )?,
            seed: common.seed,
            duration: self.duration.unwrap_or(DEFAULT_DURATION),
            warmup: self.warmup.unwrap_or(DEFAULT_WARMUP),
            messages: self.messages,
            pack: self.pack.unwrap_or(1),
            gso: common.gso,
            threads: common.threads,
            sockets: common.sockets,
            timeout: common.timeout,
            spin: common.spin,
            hold_up: None,
        };
        if pace == Pace::Flood && self.pack.is_none() {
            load.pack = load.full_datagram();
        }
        load.name = name_of(&load);
        Ok(load)
    }
}

fn http_at(text: &str) -> Result<HttpAt, &'static str> {
    match text {
        "off" => Ok(HttpAt::Off),
        address if address.contains(':') => Ok(HttpAt::At(address.to_owned())),
        _ => Err("neither HOST:PORT nor off"),
    }
}

fn duration(text: &str) -> Result<Duration, &'static str> {
    humantime::parse_duration(text)
        .or_else(|_| humantime::parse_duration(&format!("{text}s")))
        .map_err(|_| "not a time: write a number and a unit, such as 500ms, 10s or 2m")
}

/// `50000/s`, `50k/s`, `1.5M`.
fn rate(text: &str) -> Result<f64, &'static str> {
    const NO_RATE: &str =
        "not a rate: write messages a second above 0, such as 50000/s, 50k/s or 1.5M/s";
    let number = text.strip_suffix("/s").unwrap_or(text);
    let (number, times) = match number.as_bytes() {
        [.., b'k'] => (&number[..number.len() - 1], 1e3),
        [.., b'M'] => (&number[..number.len() - 1], 1e6),
        _ => (number, 1.0),
    };
    let rate = number.parse::<f64>().map_err(|_| NO_RATE)? * times;
    (rate.is_finite() && rate > 0.0)
        .then_some(rate)
        .ok_or(NO_RATE)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn rates_and_times_are_read() {
        assert_eq!(rate("50000/s"), Ok(50_000.0));
        assert_eq!(rate("50k/s"), Ok(50_000.0));
        assert_eq!(rate("1.5M"), Ok(1_500_000.0));
        for text in ["", "k", "-5/s", "0", "5/m", "inf", "NaN"] {
            assert!(rate(text).is_err(), "{text}");
        }
        assert_eq!(duration("3"), Ok(Duration::from_secs(3)));
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert!(duration("soon").is_err());
    }

    #[test]
    fn options_that_exclude_each_other_are_refused() {
        for line in [
            "loadgen --rate 5/s --flood",
            "loadgen --outstanding 5 --rate 5/s",
            "loadgen --gaps constant --flood",
            "loadgen --http 1.2.3.4:5",
            "loadgen --server 1.2.3.4:5 --node-threads 2",
            "loadgen --mode mix:1",
            "loadgen --mode hit:-1",
            "loadgen --keys uniform:0",
            "loadgen --flood ceiling",
        ] {
            assert!(Cli::try_parse_from(line.split(' ')).is_err(), "{line}");
        }
    }
}
