//! The commands of the `rmbd` program, apart from running a node.

mod add;
mod count;
mod http;
mod keys;
mod peer;
mod status;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::fmt;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::time::Duration;

use clap::builder::RangedU64ValueParser;
use clap::{Args, Parser, Subcommand};
use thiserror::Error;

pub use self::http::HttpError;
use crate::client::{Client, ClientError, ClientOptions};
use crate::config::{self, HostPort, NodeOptions};
use crate::sketch::MAX_WEIGHT;
use crate::wire::legacy::{Dialect, KEY_BYTES_MAX};

/// What was typed.
#[derive(Debug, Parser)]
#[command(
    name = "rmbd",
    version,
    about = "Counts how often keys happen, approximately, at network speed, in fixed memory",
    long_about = None,
    after_help = "Without a command, runs a node until it is interrupted. When it is ready it prints one line with its real addresses.",
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

/// Anything but running a node.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Add keys
    Add(AddOptions),
    /// Print how often keys were added, a line each: count, tab, key
    Count(CountOptions),
    /// Have the server push its rows to another instance, also to the Python program
    Peer(PeerOptions),
    /// Show what a node says of itself
    Status(StatusOptions),
}

/// Which server, and how patiently.
#[derive(Debug, Clone, Args)]
pub struct ServerOptions {
    /// Whom to ask
    #[arg(
        long, value_name = "HOST:PORT", env = "RMBD_SERVER",
        default_value = config::DEFAULT_ADDRESS, value_parser = HostPort::target
    )]
    server: HostPort,

    /// How long to wait for an answer, each time that it is asked for
    #[arg(
        long, value_name = "MILLISECONDS", env = "RMBD_TIMEOUT_MS", default_value_t = 1_000,
        value_parser = RangedU64ValueParser::<u64>::new().range(1..=3_600_000)
    )]
    timeout_ms: u64,
}

/// `rmbd add`
#[derive(Debug, Clone, Args)]
pub struct AddOptions {
    /// Keys of at most 139 bytes; - reads them from standard input, one a line without empty ones
    #[arg(value_name = "KEY", required = true)]
    keys: Vec<OsString>,

    /// How often to add each key
    #[arg(
        short = 'n', long, value_name = "WEIGHT", env = "RMBD_WEIGHT", default_value_t = 1,
        value_parser = RangedU64ValueParser::<u32>::new().range(1..=u64::from(MAX_WEIGHT))
    )]
    weight: u32,

    #[command(flatten)]
    server: ServerOptions,
}

/// `rmbd count`
#[derive(Debug, Clone, Args)]
pub struct CountOptions {
    /// Keys of at most 139 bytes; - reads them from standard input, one a line without empty ones
    #[arg(value_name = "KEY", required = true)]
    keys: Vec<OsString>,

    /// Print one JSON array of {key, count}
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
    #[arg(long, env = "RMBD_DIALECT", default_value_t, value_parser = config::dialect())]
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

impl ServerOptions {
    fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }

    fn connect(&self, dialect: Dialect) -> Result<Client, CliError> {
        let options = ClientOptions {
            timeout: self.timeout(),
            dialect,
            ..ClientOptions::default()
        };
        // As a pair, so that an IPv6 zone is the resolver's to judge.
        let server = (self.server.host.as_str(), self.server.port);
        Client::connect(server, options).map_err(|source| match source {
            ClientError::Resolve(_) | ClientError::NoAddress => CliError::Connect {
                server: self.server.clone(),
                source,
            },
            source => source.into(),
        })
    }
}

/// Where a command reads and writes.
pub struct Streams<'s> {
    /// Keys, where `-` asks for them.
    pub input: BufReader<Box<dyn Read + 's>>,
    /// Results.
    pub output: Box<dyn Write + 's>,
    /// What a person may want to know besides.
    pub notes: Box<dyn Write + 's>,
}

/// Bytes of standard input to read at once: a pipe holds as many.
const INPUT_BUFFER_BYTES: usize = 64 << 10;

impl Streams<'static> {
    /// The process's own.
    #[must_use]
    pub fn standard() -> Self {
        Self {
            input: BufReader::with_capacity(INPUT_BUFFER_BYTES, Box::new(io::stdin().lock())),
            output: Box::new(BufWriter::new(io::stdout().lock())),
            notes: Box::new(io::stderr()),
        }
    }
}

impl fmt::Debug for Streams<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Streams").finish_non_exhaustive()
    }
}

/// Does what was typed. Whoever reads the output may stop reading at any time.
///
/// # Errors
/// Whatever kept it from being done in full; what was done nevertheless is in the text.
pub fn run(command: &Command, mut streams: Streams<'_>) -> Result<(), CliError> {
    let done = match command {
        Command::Add(options) => add::run(options, &mut streams),
        Command::Count(options) => count::run(options, &mut streams),
        Command::Peer(options) => peer::run(options, &mut streams),
        Command::Status(options) => status::run(options, &mut streams),
    };
    let flushed = streams.output.flush().map_err(CliError::Output);
    match done.and(flushed) {
        Err(CliError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

/// Why a command was not done in full.
#[derive(Debug, Error)]
pub enum CliError {
    /// The server is not to be found.
    #[error("{server}: {source}")]
    Connect {
        /// As it was given.
        server: HostPort,
        /// Why.
        source: ClientError,
    },
    /// The server, or the way to it.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// Some keys cannot be carried.
    #[error(
        "{skipped} keys of more than {KEY_BYTES_MAX} bytes were skipped, the protocol cannot carry them; {done}"
    )]
    KeysTooLong {
        /// How many.
        skipped: u64,
        /// What became of the others.
        done: String,
    },
    /// Standard input ended with an error.
    #[error("cannot read more keys: {source}; {done}")]
    Input {
        /// What the system said.
        source: io::Error,
        /// What became of the keys before.
        done: String,
    },
    /// Standard output cannot be written.
    #[error("cannot write the result: {0}")]
    Output(#[source] io::Error),
    /// The server's HTTP port.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// A peer order was refused.
    #[error("the server does not push to {target}: {detail}")]
    OrderRefused {
        /// The peer.
        target: HostPort,
        /// The server's words.
        detail: String,
    },
    /// A peer order left no trace.
    #[error(
        "the order to push to {target} was sent, but the server's status does not show it: it was lost, or refused (see `rmbd status`)"
    )]
    OrderUnseen {
        /// The peer.
        target: HostPort,
    },
}
