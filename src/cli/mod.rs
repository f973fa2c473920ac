//! The commands of the `rmbd` program, apart from running a node.

mod add;
mod asked;
#[cfg(test)]
mod cluster_tests;
#[cfg(test)]
mod compact_tests;
mod config;
#[cfg(test)]
mod config_tests;
mod count;
mod demo;
mod denied;
mod detail;
mod hit;
mod http;
mod keygen;
mod keys;
mod limits;
mod manual;
mod members;
mod pardon;
mod peer;
mod progress;
mod refused;
mod rules;
#[cfg(test)]
mod rules_tests;
#[cfg(test)]
mod sample;
mod server;
mod size;
#[cfg(test)]
mod size_tests;
#[cfg(test)]
mod sketch_tests;
mod sketches;
mod snapshot;
mod status;
#[cfg(test)]
mod tests;
mod top;
#[cfg(test)]
mod top_tests;

use std::ffi::OsString;
use std::fmt;
use std::io::{self, BufReader, IsTerminal, LineWriter, Read, Write};
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use rustix::event::{PollFd, PollFlags, poll};
use thiserror::Error;

pub use self::asked::{
    LimitOption, LimitOptionError, LimitsError, SketchOptions, Span, SpanOptionError,
};
pub use self::config::{CheckOptions, ConfigCommand, ShowOptions};
pub use self::demo::DemoOptions;
pub use self::denied::LimitsDeniedOptions;
pub use self::hit::HitOptions;
pub use self::http::HttpError;
pub use self::limits::{LimitsCheckOptions, LimitsCommand, LimitsShowOptions};
pub use self::manual::{CompletionsOptions, ManOptions};
pub use self::pardon::PardonOptions;
pub use self::server::{ProtocolOptions, ServerOptions};
pub use self::size::{SizeError, SizeOptions};
pub use self::sketches::SketchesOptions;
pub use self::snapshot::{SnapshotCommand, SnapshotFileOptions, SnapshotNowOptions};
pub use self::top::TopOptions;
use crate::config::{HostPort, Layered, NodeOptions, RulesFilesError, dialect, number};
use crate::node::NodeError;
use rmbd_client::{ClientError, legacy};
use rmbd_console::{self as console, Notes};
use rmbd_proto::legacy::Dialect;
use rmbd_proto::{SketchName, SketchNameError};
use rmbd_sketch::MAX_WEIGHT;
use rmbd_snapshot::SnapshotFileError;

/// What was typed.
#[derive(Debug, Parser)]
#[command(
    name = "rmbd",
    version,
    about = "Counts how often keys happen, approximately, at network speed, in fixed memory",
    long_about = None,
    after_help = "Without a command, runs a node until it is interrupted. When it is ready it prints one line with its real addresses.\n\nFlags take precedence over RMBD_ variables, these over the file of --config, and that over defaults; what contradicts an option of a higher level does not count. `rmbd config show` tells what is in force.\n\nExit codes: 0; 1 something failed; 2 the command line, or a file of rules, means nothing; 3 a hit is over its limit; 141 whoever read the results stopped.",
    args_conflicts_with_subcommands = true
)]
pub struct Cli {
    /// Anything but running a node.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// The node's options, where there is no command.
    #[command(flatten)]
    pub node: NodeOptions,
}

impl Layered for Cli {
    fn node(&mut self) -> Option<&mut NodeOptions> {
        match &mut self.command {
            None => Some(&mut self.node),
            Some(Command::Config(ConfigCommand::Show(options))) => Some(&mut options.node),
            Some(_) => None,
        }
    }
}

/// Anything but running a node.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Add keys
    Add(AddOptions),
    /// Print what a shell needs to complete command lines
    Completions(CompletionsOptions),
    /// Check and show configurations of nodes
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Print how often keys were added, a line each: count, tab, key
    Count(CountOptions),
    /// Run three nodes with made-up traffic, somebody who floods and a limit, to look at
    Demo(DemoOptions),
    /// Add to keys and say whether that is within limits: exit code 0, or 3 above one
    Hit(HitOptions),
    /// Make a key for --cluster-key-file
    Keygen(KeygenOptions),
    /// Check and show the limits of configuration files and rules for descriptors, and show whom those of a node deny
    #[command(subcommand)]
    Limits(LimitsCommand),
    /// Write manual pages into a folder: one of the program, and one of each command
    Man(ManOptions),
    /// Show the nodes of the cluster as one of them sees them
    Members(MembersOptions),
    /// Forgive a key what it has in the windows of a limit
    Pardon(PardonOptions),
    /// Have the server push its rows to another instance, also to the Python program
    Peer(PeerOptions),
    /// Say what a node needs to count so many events so exactly: width, depth, memory, bytes between nodes
    Size(SizeOptions),
    /// Show the sketches of a node, and the windows that they keep
    Sketches(SketchesOptions),
    /// Check and show snapshot files, and have a node write one
    #[command(subcommand)]
    Snapshot(SnapshotCommand),
    /// Show what a node says of itself
    Status(StatusOptions),
    /// Show the largest keys of a sketch, of all time or in a window
    Top(TopOptions),
}

impl Command {
    /// Checks what clap does not: options that do not go together.
    ///
    /// # Errors
    /// The text of the error.
    pub fn check(&self) -> Result<(), String> {
        match self {
            Self::Hit(options) => options.check().map_err(|error| error.to_string()),
            Self::Size(options) => options.check().map_err(|error| error.to_string()),
            _ => Ok(()),
        }
    }
}

/// `rmbd add`
#[derive(Debug, Clone, Args)]
pub struct AddOptions {
    /// Keys of at most 1024 bytes; - reads them from standard input, one a line without empty ones
    #[arg(value_name = "KEY", required = true)]
    keys: Vec<OsString>,

    /// What to add to each key
    #[arg(
        short = 'n', long, value_name = "WEIGHT", env = "RMBD_WEIGHT", default_value_t = 1,
        value_parser = number::whole::<u32>(1..=u64::from(MAX_WEIGHT))
    )]
    weight: u32,

    #[command(flatten)]
    sketch: SketchOptions,

    #[command(flatten)]
    lines: LineOptions,

    #[command(flatten)]
    protocol: ProtocolOptions,

    #[command(flatten)]
    server: ServerOptions,
}

/// How lines of standard input become keys.
#[derive(Debug, Clone, Copy, Args)]
pub struct LineOptions {
    /// Where keys are lines of standard input, take a CR before the line's end for a part of the key;
    /// without this, lines may end with LF or CR LF
    #[arg(long, env = "RMBD_KEEP_CR", value_parser = clap::builder::BoolishValueParser::new())]
    keep_cr: bool,
}

/// `rmbd count`
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "Keys are printed as the bytes that they are, to the end of the line. One with a line feed in it, which only the command line can have, looks like two lines: --json tells all keys apart. There a key is a member `key` where it is UTF-8, and else `key_base64` in its place (RFC 4648, with padding)."
)]
pub struct CountOptions {
    /// Keys of at most 1024 bytes; - reads them from standard input, one a line without empty ones
    #[arg(value_name = "KEY", required = true)]
    keys: Vec<OsString>,

    /// Print more of each key: count, likely estimate, likely lower bound, certain lower bound, N, key; the truth
    /// is at most the count, and at least the certain lower bound with the sketch's confidence; the likely ones
    /// rest on the errors that the node samples, and hold for as many keys
    #[arg(long, env = "RMBD_BOUNDS", value_parser = clap::builder::BoolishValueParser::new())]
    bounds: bool,

    /// Print each key's count by origin, too: which nodes contribute how much; asks over HTTP
    #[arg(
        long, env = "RMBD_DETAIL", value_parser = clap::builder::BoolishValueParser::new(),
        conflicts_with_all = ["bounds", "legacy"]
    )]
    detail: bool,

    /// Count only what was added in this time, such as 60s: a multiple of the step of a window that the sketch
    /// keeps (see `rmbd sketches`), never too low, and with what may have come up to a step earlier
    #[arg(
        long, value_name = "TIME", env = "RMBD_WINDOW", conflicts_with_all = ["bounds", "legacy"]
    )]
    window: Option<Span>,

    /// Count what came in the step in which the window begins by the part of it that is in the window
    #[arg(
        long, env = "RMBD_SMOOTH", value_parser = clap::builder::BoolishValueParser::new(),
        requires = "window"
    )]
    smooth: bool,

    /// Print one JSON array of {key, count, incomplete}, with --bounds also likely_estimate, likely_lower,
    /// certain_lower and total_weight, with --detail also origins and window, with --window alone also covered_ms
    /// and overflowed; key_base64 in place of key where that is no UTF-8
    #[arg(long, env = "RMBD_JSON", value_parser = clap::builder::BoolishValueParser::new())]
    json: bool,

    #[command(flatten)]
    sketch: SketchOptions,

    #[command(flatten)]
    lines: LineOptions,

    #[command(flatten)]
    protocol: ProtocolOptions,

    #[command(flatten)]
    server: ServerOptions,
}

/// `rmbd keygen`
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "A key file may hold several keys, one a line: the first seals, all open. To change keys without a stop, add the new one behind the old one on all nodes, then put it first on all, then drop the old one."
)]
pub struct KeygenOptions {
    /// Where to write it, readable for the owner only [default: standard output]; never overwrites
    #[arg(short = 'o', long, value_name = "FILE", env = "RMBD_OUTPUT")]
    output: Option<PathBuf>,

    /// Make a token for --http-token-file in place of a key of the cluster
    #[arg(long, env = "RMBD_TOKEN", value_parser = clap::builder::BoolishValueParser::new())]
    token: bool,
}

/// `rmbd members`
#[derive(Debug, Clone, Args)]
pub struct MembersOptions {
    /// Print the JSON of the node's status that tells of its cluster
    #[arg(long, env = "RMBD_JSON", value_parser = clap::builder::BoolishValueParser::new())]
    json: bool,

    #[command(flatten)]
    server: ServerOptions,
}

/// `rmbd peer`
#[derive(Debug, Clone, Args)]
pub struct PeerOptions {
    /// Whom the server shall push to, as seen from the server
    #[arg(value_name = "HOST:PORT", value_parser = HostPort::target)]
    target: HostPort,

    /// The server's dialect: how the port stands in the order
    #[arg(long, env = "RMBD_DIALECT", default_value_t, value_parser = dialect())]
    dialect: Dialect,

    #[command(flatten)]
    server: ServerOptions,
}

/// `rmbd status`
#[derive(Debug, Clone, Args)]
pub struct StatusOptions {
    /// Print the JSON document as the node gives it
    #[arg(long, env = "RMBD_JSON", value_parser = clap::builder::BoolishValueParser::new())]
    json: bool,

    #[command(flatten)]
    server: ServerOptions,
}

/// The input and outputs of a command.
pub struct Streams<'s> {
    /// The keys, if `-` asks for them.
    pub input: BufReader<Box<dyn Read + 's>>,
    /// Whether more input may take long to come.
    pub input_waits: Box<dyn FnMut() -> bool + 's>,
    /// The results.
    pub output: Box<dyn Write + 's>,
    /// Notes for people, besides the results. No command fails because nobody reads them.
    pub notes: Box<dyn Write + 's>,
    /// Whether a person may be watching the notes as they are written.
    pub shows_progress: bool,
    /// Whether the results go to a terminal.
    pub is_terminal: bool,
    /// Whether the results may be drawn anywhere on a terminal, and keys come from one.
    pub is_screen: bool,
}

#[cfg(test)]
impl<'s> Streams<'s> {
    /// Nothing comes in, and results go here.
    pub(crate) fn to(output: &'s mut Vec<u8>) -> Self {
        Self {
            input: BufReader::new(Box::new(io::empty())),
            input_waits: Box::new(|| false),
            output: Box::new(output),
            notes: Box::new(io::sink()),
            shows_progress: false,
            is_terminal: false,
            is_screen: false,
        }
    }
}

/// How a successful command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Done {
    /// The command did what was asked.
    AsAsked,
    /// The hit is over its limit.
    OverLimit,
    /// The reader of the results stopped before their end. Everything else that was asked for is done.
    ReaderGone,
}

/// Bytes of standard input that are read at once: as many as a pipe holds.
const INPUT_BUFFER_BYTES: usize = 64 << 10;

impl Streams<'static> {
    /// The process's own standard streams.
    #[must_use]
    pub fn standard() -> Self {
        Self {
            input: BufReader::with_capacity(INPUT_BUFFER_BYTES, Box::new(io::stdin().lock())),
            output: Box::new(console::results()),
            input_waits: Box::new(stdin_waits),
            notes: Box::new(LineWriter::new(Notes)),
            shows_progress: console::is_watched(),
            is_terminal: console::shows_results(),
            is_screen: console::shows_results()
                && io::stdin().is_terminal()
                && top::can_draw(std::env::var_os("TERM").as_deref()),
        }
    }
}

/// Whether there is nothing to read, not even the end.
fn stdin_waits() -> bool {
    let stdin = io::stdin();
    let mut fds = [PollFd::new(&stdin, PollFlags::IN)];
    let now = rustix::event::Timespec::default();
    poll(&mut fds, Some(&now)).is_ok_and(|ready| ready == 0)
}

impl fmt::Debug for Streams<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Streams").finish_non_exhaustive()
    }
}

/// Runs a command. Its reader may stop reading the output at any time.
///
/// # Errors
/// The reason why it was not done in full; the text also says what was done.
pub fn run(command: &Command, mut streams: Streams<'_>) -> Result<Done, CliError> {
    let streams = &mut streams;
    let as_asked = |()| Done::AsAsked;
    let done = match command {
        Command::Add(options) => add::run(options, streams).map(as_asked),
        Command::Completions(options) => manual::completions(options, streams).map(as_asked),
        Command::Config(command) => config::run(command, streams).map(as_asked),
        Command::Count(options) if options.detail => detail::run(options, streams).map(as_asked),
        Command::Count(options) => count::run(options, streams).map(as_asked),
        Command::Demo(options) => demo::run(options, streams).map(as_asked),
        Command::Hit(options) => hit::run(options, streams),
        Command::Keygen(options) => keygen::run(options, streams).map(as_asked),
        Command::Limits(command) => limits::run(command, streams).map(as_asked),
        Command::Man(options) => manual::man(options).map(as_asked),
        Command::Members(options) => members::run(options, streams).map(as_asked),
        Command::Pardon(options) => pardon::run(options, streams).map(as_asked),
        Command::Peer(options) => peer::run(options, streams).map(as_asked),
        Command::Size(options) => size::run(options, streams).map(as_asked),
        Command::Sketches(options) => sketches::run(options, streams).map(as_asked),
        Command::Snapshot(command) => snapshot::run(command, streams).map(as_asked),
        Command::Status(options) => status::run(options, streams).map(as_asked),
        Command::Top(options) => top::run(options, streams).map(as_asked),
    };
    match (done, streams.output.flush()) {
        (Err(CliError::Output(error)), _) if is_reader_gone(&error) => Ok(Done::ReaderGone),
        // A hit's verdict is in the exit code, which is read elsewhere.
        (Ok(_), Err(error)) if is_reader_gone(&error) && !matches!(command, Command::Hit(_)) => {
            Ok(Done::ReaderGone)
        }
        (Ok(_), Err(error)) if !is_reader_gone(&error) => Err(CliError::Output(error)),
        (done, _) => done,
    }
}

fn is_reader_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::BrokenPipe
}

/// Why a command was not done in full.
#[derive(Debug, Error)]
pub enum CliError {
    /// The server did not do it, or could not be reached.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The server failed in the Python program's protocol, or could not be reached.
    #[error(transparent)]
    Legacy(#[from] legacy::ClientError),
    /// The server speaks only the Python program's protocol.
    #[error("{what} is not possible in the Python program's protocol; nothing was asked")]
    NeedsCompact {
        /// The option or command that needs the compact format.
        what: &'static str,
    },
    /// No sketch counts so many events so exactly.
    #[error(transparent)]
    Size(#[from] SizeError),
    /// There are no rules.
    #[error(transparent)]
    Rules(#[from] RulesFilesError),
    /// Some files of rules are wrong, which the results tell.
    #[error(
        "{wrong} of {files} files of rules are not understood: correct what the results say of them"
    )]
    WrongRules {
        /// Number of files that are wrong.
        wrong: usize,
        /// Number of files.
        files: usize,
    },
    /// A file among files of rules is none by its name.
    #[error(
        "{}: this is no folder and no *.yaml or *.yml: name either files of rules, or one configuration file",
        .0.display()
    )]
    NotOfRules(PathBuf),
    /// Limits do not go together.
    #[error(transparent)]
    Limits(#[from] LimitsError),
    /// The server has no such sketch.
    #[error("the server has no sketch {sketch}, it has {known}; {done}")]
    UnknownSketch {
        /// The name that was asked for.
        sketch: SketchName,
        /// The names of those that it has.
        known: String,
        /// What was done.
        done: String,
    },
    /// The sketch keeps no window that can answer.
    #[error(
        "the sketch {sketch} keeps no window for {asked}, it keeps {kept}: ask for a multiple of a step up to its window; {done}"
    )]
    UnknownWindow {
        /// The sketch that was asked.
        sketch: SketchName,
        /// The time that was asked for.
        asked: String,
        /// The windows that it keeps.
        kept: String,
        /// What was done.
        done: String,
    },
    /// The sketch has no list for this time.
    #[error(
        "the sketch {sketch} lists its largest keys of all time{kept}, and not in {asked}: ask for one of these, or give \
         the sketch a window of {asked}"
    )]
    NoTopWindow {
        /// The sketch that was asked.
        sketch: SketchName,
        /// The time that was asked for.
        asked: String,
        /// The windows that have lists.
        kept: String,
    },
    /// The sketch lists no keys.
    #[error(
        "the sketch {sketch} lists no keys: start the server with --top 100, or give the sketch top=100 (it needs \
         --hash xxh3, or at most 4 rows)"
    )]
    NoTopList {
        /// The sketch that was asked.
        sketch: SketchName,
    },
    /// The server is older than the question.
    #[error(
        "the server does not list its largest keys: it is of an earlier version than this program, {version}; start it \
         with this one"
    )]
    OlderServer {
        /// The version of this program.
        version: &'static str,
    },
    /// The server has no such limit.
    #[error(
        "the server has no limit {name}, nothing was added: `rmbd status` shows those that it has"
    )]
    UnknownLimit {
        /// The name that was asked for.
        name: String,
    },
    /// A text is no name of a sketch.
    #[error(transparent)]
    SketchName(#[from] SketchNameError),
    /// The protocol cannot carry some keys.
    #[error(
        "{skipped} keys of more than {key_bytes_max} bytes were skipped, the protocol cannot carry them; {done}"
    )]
    KeysTooLong {
        /// Number of these keys.
        skipped: u64,
        /// Length of the longest possible key in bytes.
        key_bytes_max: usize,
        /// The outcome for the other keys.
        done: String,
    },
    /// Standard input ended with an error.
    #[error("cannot read more keys: {source}; {done}")]
    Input {
        /// The system's error.
        source: io::Error,
        /// The outcome for the keys before.
        done: String,
    },
    /// Standard output cannot be written.
    #[error("cannot write the result: {0}")]
    Output(#[source] io::Error),
    /// A node of the demonstration failed.
    #[error("the demonstration ends: {0}")]
    Demo(#[from] NodeError),
    /// The nodes of the demonstration did not find each other.
    #[error(
        "the nodes of the demonstration have not found each other in {0} s: is loopback up, and let through by the firewall?"
    )]
    DemoAlone(u64),
    /// A key file cannot be created.
    #[error("no key was written to {}: {source}; choose a file that does not exist yet", path.display())]
    KeyFile {
        /// The path of the file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// Manual pages cannot be written.
    #[error("not all manual pages were written to {}: {source}; choose a folder that can be written", path.display())]
    Manual {
        /// The path of the folder.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A configuration is not possible.
    #[error("{0}")]
    Config(String),
    /// The system gives no random numbers.
    #[error("the system gave no random numbers for a key: {0}")]
    Random(#[source] io::Error),
    /// The server's HTTP port gave no usable answer.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// A snapshot file is not whole.
    #[error("{}: {source}", path.display())]
    SnapshotFile {
        /// The path of the file.
        path: PathBuf,
        /// What is wrong with it.
        source: SnapshotFileError,
    },
    /// The server has written no snapshot file.
    #[error("the server has written no snapshot file: {failure}; the one before stands")]
    NoSnapshot {
        /// The server's reason.
        failure: String,
    },
    /// The server refused a peer order.
    #[error("the server does not push to {target}: {detail}")]
    OrderRefused {
        /// The peer.
        target: HostPort,
        /// The server's reason.
        detail: String,
    },
    /// The server's status does not show the peer order.
    #[error(
        "the order to push to {target} was sent, but the server's status does not show it: it was lost, or refused (see `rmbd status`)"
    )]
    OrderUnseen {
        /// The peer.
        target: HostPort,
    },
}

impl CliError {
    /// Whether files of rules are wrong, so that nothing was done.
    #[must_use]
    pub const fn is_of_rules(&self) -> bool {
        matches!(
            self,
            Self::Rules(_) | Self::WrongRules { .. } | Self::NotOfRules(_)
        )
    }
}
