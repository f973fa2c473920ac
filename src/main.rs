//! The `rmbd` binary.

use std::fmt::Display;
use std::process::ExitCode;

use rmbd::cli::{self, Cli, Done, Streams};
use rmbd::config::NodeConfig;
use rmbd::config::environment::{self, Misread};
use rmbd::node;
use rmbd_console::{self as console, FAILURE, Notes, READER_GONE, WRONG_USAGE};
use rmbd_io::limits;
use tracing_subscriber::EnvFilter;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The exit code of a hit that is over its limit.
const OVER_LIMIT: u8 = 3;

fn main() -> ExitCode {
    if !limits::has_room_to_begin() {
        return ExitCode::from(FAILURE);
    }
    let _console = console::open();
    let words: Vec<_> = std::env::args_os().collect();
    match environment::read(&words, Task::of) {
        Ok(Task::Command(command)) => match cli::run(&command, Streams::standard()) {
            Ok(Done::AsAsked) => ExitCode::SUCCESS,
            Ok(Done::OverLimit) => ExitCode::from(OVER_LIMIT),
            Ok(Done::ReaderGone) => ExitCode::from(READER_GONE),
            Err(error) => complain(&error, FAILURE),
        },
        Ok(Task::Node(node)) => node_main(*node),
        Err(Misread::Usage(error)) => console::usage(&error),
        Err(Misread::Refused(error)) => complain(&error, WRONG_USAGE),
    }
}

/// The task that the command line asks for.
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
        .with_writer(|| Notes)
        .with_ansi(console::is_watched())
        // Otherwise it would print its errors to standard error itself.
        .log_internal_errors(false)
        .init();
    match node::run(&config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complain(&error, FAILURE),
    }
}

/// Reports in one line what went wrong, and returns the exit code.
fn complain(error: &dyn Display, code: u8) -> ExitCode {
    console::note(&format!("error: {error}"));
    ExitCode::from(code)
}
