//! The `rmbd` binary.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use clap::Parser;
use rmbd::cli::{self, Cli, Done, Streams};
use rmbd::config::{NodeConfig, NodeOptions};
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
    let Cli { command, node } = Cli::parse();
    match command {
        Some(command) => match cli::run(&command, Streams::standard()) {
            Ok(Done::AsAsked) => ExitCode::SUCCESS,
            Ok(Done::OverLimit) => ExitCode::from(OVER_LIMIT),
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
