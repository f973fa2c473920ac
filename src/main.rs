//! The `rmbd` binary.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use rmbd::cli::{self, Cli, Done, Streams};
use rmbd::config::NodeConfig;
use rmbd::config::environment::{self, Misread};
use rmbd::io::limits;
use rmbd::node;
use tracing_subscriber::EnvFilter;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Something failed.
const FAILURE: u8 = 1;
/// What was typed means nothing; `clap` uses the same.
const WRONG_USAGE: u8 = 2;
/// A hit is over its limit.
const OVER_LIMIT: u8 = 3;

fn main() -> ExitCode {
    if !limits::has_room_to_begin() {
        return ExitCode::from(FAILURE);
    }
    let words: Vec<_> = std::env::args_os().collect();
    match environment::read(&words, Task::of) {
        Ok(Task::Command(command)) => match cli::run(&command, Streams::standard()) {
            Ok(Done::AsAsked) => ExitCode::SUCCESS,
            Ok(Done::OverLimit) => ExitCode::from(OVER_LIMIT),
            Err(error) => complain(&error, FAILURE),
        },
        Ok(Task::Node(node)) => node_main(*node),
        Err(Misread::Usage(error)) => error.exit(),
        Err(Misread::Refused(error)) => complain(&error, WRONG_USAGE),
    }
}

/// What was asked for.
enum Task {
    Command(cli::Command),
    Node(Box<(NodeConfig, EnvFilter)>),
}

impl Task {
    fn of(Cli { command, node }: Cli) -> Result<Self, String> {
        if let Some(command) = command {
            return Ok(Self::Command(command));
        }
        let filter = EnvFilter::try_new(&node.log);
        let filter = filter
            .map_err(|error| format!("--log: {error}: use error, warn, info, debug or trace"))?;
        let config = NodeConfig::from_options(node).map_err(|error| error.to_string())?;
        Ok(Self::Node(Box::new((config, filter))))
    }
}

fn node_main((config, filter): (NodeConfig, EnvFilter)) -> ExitCode {
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .init();
    match node::run(&config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complain(&error, FAILURE),
    }
}

/// Says what went wrong in one line. A closed standard error is nobody's concern.
fn complain(error: &dyn std::fmt::Display, code: u8) -> ExitCode {
    let _ = writeln!(io::stderr(), "error: {error}");
    ExitCode::from(code)
}
