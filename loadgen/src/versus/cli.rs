//! What `loadgen versus` is told.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::Duration;

use clap::{Args, Subcommand};
use rmbd::config::{NodeConfig, NodeOptions};
use rmbd::console;
use rmbd::sketch::Geometry;
use rustix::fs::{FileType, fstat};
use rustix::process::{Signal, getpid, kill_process};
use signal_hook::consts::{SIGINT, SIGTERM};
use thiserror::Error;

use super::contest::{self, VersusError};
use crate::plan::format::Format;
use crate::plan::keys::{DEFAULT_KEY_BYTES, KeySpec};

/// Where records go where the directory above is there: in a checkout.
const RECORDS: &str = "benches/record";

/// How long each address of a name may take to accept a connection.
const CONNECT_PATIENCE: Duration = Duration::from_secs(2);

/// Subcommands about servers.
#[derive(Debug, Subcommand)]
pub enum VersusCommand {
    /// Compares a node with Redis or memcached: the same keys, in turns, on this machine
    Versus(Box<VersusOptions>),
    /// Runs a node as a process of its own, as `rmbd` does
    #[command(hide = true)]
    Node(Box<NodeOptions>),
}

impl VersusCommand {
    /// Does it; says on standard error why not. Where standard output does not take the table, the record is
    /// written all the same.
    #[must_use]
    pub fn run(self) -> ExitCode {
        let done = match self {
            Self::Versus(options) => versus(&options),
            Self::Node(options) => node(*options),
        };
        match done {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                let printing = match error.downcast_ref() {
                    Some(VersusError::Table(printing)) => Some(printing),
                    _ => None,
                };
                if let Some(printing) = printing {
                    return ExitCode::from(console::unwritten(printing, &error));
                }
                console::note(&format!("error: {error}"));
                ExitCode::FAILURE
            }
        }
    }
}

fn versus(options: &VersusOptions) -> Result<(), Box<dyn std::error::Error>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    let program = std::env::current_exe()?;
    contest::run(options, &program, &stop, &mut |line| console::note(line))?;
    Ok(())
}

fn node(options: NodeOptions) -> Result<(), Box<dyn std::error::Error>> {
    end_with_who_holds_the_pipe();
    Ok(rmbd::node::run(&NodeConfig::from_options(options)?)?)
}

/// Where standard input is a pipe, its other end is held by who started this process: when that is gone,
/// killed even, the node ends too.
fn end_with_who_holds_the_pipe() {
    let is_pipe = fstat(io::stdin())
        .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Fifo);
    if is_pipe {
        thread::spawn(|| {
            // Nobody writes into it: this returns at its end.
            let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
            let _ = kill_process(getpid(), Signal::TERM);
        });
    }
}

/// Options of `versus`.
#[derive(Debug, Clone, Args)]
pub struct VersusOptions {
    /// The other server: redis://HOST:PORT or memcached://HOST:PORT. The keys stay in it: give one
    /// that holds nothing of value. With --start, HOST:PORT is not needed: redis:// or memcached://
    pub peer: Peer,
    /// Starts the other server on a free port (Debian's packages redis-server and memcached) and
    /// ends it afterwards
    #[arg(long)]
    pub start: bool,
    /// Adds into a count-min sketch of the same size there too (CMS.INCRBY: Redis 8, or RedisBloom)
    #[arg(long)]
    pub cms: bool,
    /// The program that --start starts [default: redis-server or memcached]
    #[arg(long, value_name = "PATH", requires = "start")]
    pub server_program: Option<PathBuf>,
    /// A further argument for what --start starts; may be given several times
    #[arg(
        long,
        value_name = "ARG",
        requires = "start",
        allow_hyphen_values = true
    )]
    pub server_arg: Vec<String>,
    /// Format of what our node is sent
    #[arg(long, value_enum, default_value_t = Format::Compact)]
    pub format: Format,
    /// Keys: uniform:N, zipf:S:N, sequential:N, file:PATH, or - for standard input
    #[arg(long, default_value = "zipf:1.1:1000000")]
    pub keys: KeySpec,
    /// Bytes of a key, where it is made; at most 139
    #[arg(long, default_value_t = DEFAULT_KEY_BYTES, value_parser = key_len)]
    pub key_len: usize,
    /// A CR at the end of a line of a file or of standard input is the key's; without it lines end with LF or
    /// CR LF
    #[arg(long)]
    pub keep_cr: bool,
    /// Seed of the keys
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Adds of a turn
    #[arg(long, default_value_t = 5_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub adds: u64,
    /// Rounds: a turn of each server
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pub rounds: u32,
    /// Counts of each server, one after the other
    #[arg(long, default_value_t = 50_000)]
    pub counts: u64,
    /// Distinct keys after which memory is read, ascending, in servers started for that; 0 leaves it out
    #[arg(long, value_delimiter = ',', default_value = "1000000,10000000")]
    pub distinct: Vec<u64>,
    /// Columns of our sketch
    #[arg(long, short = 'x', default_value_t = Geometry::DEFAULT.width() as u64)]
    pub width: u64,
    /// Rows of our sketch
    #[arg(long, short = 'y', default_value_t = Geometry::DEFAULT.depth() as u64)]
    pub depth: u64,
    /// Directory for the record, as JSON and as Markdown [default: benches/record in a checkout]
    #[arg(long, value_name = "DIRECTORY")]
    pub record: Option<PathBuf>,
}

impl VersusOptions {
    /// Where the record goes.
    pub(super) fn record_directory(&self) -> Option<PathBuf> {
        let in_checkout = || {
            let records = Path::new(RECORDS);
            let is_checkout = records.parent().is_some_and(Path::is_dir);
            is_checkout.then(|| records.to_owned())
        };
        self.record.clone().or_else(in_checkout)
    }
}

/// What both of our formats carry.
fn key_len(text: &str) -> Result<usize, String> {
    let most = Format::Legacy.key_bytes_max();
    match text.parse() {
        Ok(bytes) if bytes <= most => Ok(bytes),
        _ => Err(format!(
            "keys of 1 to {most} bytes are compared, as both formats of rmbd carry them"
        )),
    }
}

/// The server that ours is compared with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Which.
    pub kind: PeerKind,
    /// `HOST:PORT`; empty where it is to be started.
    pub address: String,
}

/// A kind of server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerKind {
    /// Redis, and what speaks its protocol.
    Redis,
    /// memcached.
    Memcached,
}

impl PeerKind {
    /// `redis` or `memcached`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Redis => "redis",
            Self::Memcached => "memcached",
        }
    }
}

/// A text that names no server.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PeerError {
    /// Another form.
    #[error("not a server: write redis://HOST:PORT or memcached://HOST:PORT")]
    Form,
    /// No host, but it is not to be started.
    #[error("no address in {0}: add HOST:PORT, or start one with --start")]
    NoAddress(Peer),
    /// No such host.
    #[error("can't resolve {0}: {1}; write HOST:PORT with a name that this machine knows")]
    Resolve(String, String),
}

impl FromStr for Peer {
    type Err = PeerError;

    fn from_str(text: &str) -> Result<Self, PeerError> {
        let (scheme, address) = text.split_once("://").ok_or(PeerError::Form)?;
        let kind = match scheme {
            "redis" => PeerKind::Redis,
            "memcached" => PeerKind::Memcached,
            _ => return Err(PeerError::Form),
        };
        let address = address.trim_end_matches('/').to_owned();
        Ok(Self { kind, address })
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.kind.name(), self.address)
    }
}

impl Peer {
    /// Its address, where it runs already: the first of the name's that takes a connection, or else the first.
    pub(super) fn resolve(&self) -> Result<SocketAddr, PeerError> {
        if self.address.is_empty() {
            return Err(PeerError::NoAddress(self.clone()));
        }
        let failed = |error: &dyn fmt::Display| {
            let address = self.address.clone();
            PeerError::Resolve(address, error.to_string())
        };
        let all = self
            .address
            .to_socket_addrs()
            .map_err(|error| failed(&error))?;
        let all: Vec<SocketAddr> = all.collect();
        let listens = |at: &&SocketAddr| TcpStream::connect_timeout(at, CONNECT_PATIENCE).is_ok();
        let chosen = match &all[..] {
            [only] => Some(only),
            several => several.iter().find(listens).or_else(|| several.first()),
        };
        chosen
            .copied()
            .ok_or_else(|| failed(&"the name has no address"))
    }
}
