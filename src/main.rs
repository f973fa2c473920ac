//! The `rmbd` binary.

use std::fmt::Display;
use std::process::ExitCode;

use rmbd::cli::{self, Cli, Done, Streams};
use rmbd::config::{NodeConfig, NodeOptions};
use rmbd::console::{self, FAILURE, Notes, READER_GONE, WRONG_USAGE};
use rmbd::node;
use tracing_subscriber::EnvFilter;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A hit is over its limit.
const OVER_LIMIT: u8 = 3;

fn main() -> ExitCode {
    let _console = console::open();
    let Cli { command, node } = match console::parse() {
        Ok(typed) => typed,
        Err(code) => return code,
    };
    match command {
        Some(command) => match cli::run(&command, Streams::standard()) {
            Ok(Done::AsAsked) => ExitCode::SUCCESS,
            Ok(Done::OverLimit) => ExitCode::from(OVER_LIMIT),
            Ok(Done::ReaderGone) => ExitCode::from(READER_GONE),
            Err(error) => complain(&error, FAILURE),
        },
        None => node_main(node),
    }
}

fn node_main(options: NodeOptions) -> ExitCode {
    let filter = match EnvFilter::try_new(&options.log) {
        Ok(filter) => filter,
        Err(error) => {
            let error = format!("--log: {error}: use error, warn, info, debug or trace");
            return complain(&error, WRONG_USAGE);
        }
    };
    let config = match NodeConfig::from_options(options) {
        Ok(config) => config,
        Err(error) => return complain(&error, WRONG_USAGE),
    };
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| Notes)
        .with_ansi(console::is_watched())
        // It would print to standard error itself.
        .log_internal_errors(false)
        .init();
    match node::run(&config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complain(&error, FAILURE),
    }
}

/// Says what went wrong in one line.
fn complain(error: &dyn Display, code: u8) -> ExitCode {
    console::note(&format!("error: {error}"));
    ExitCode::from(code)
}
