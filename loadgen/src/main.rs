//! Load generator.

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::Parser;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use loadgen::ceiling;
use loadgen::cli::{Cli, Command, Results, RunArgs};
use loadgen::live::Live;
use loadgen::record::{Record, check_writable};
use loadgen::{hgrm, plot_files, report, table};

/// Could not begin.
const CODE_NOT_BEGUN: u8 = 2;
/// Exit code of a second signal: 128 + SIGINT.
const CODE_INTERRUPTED: i32 = 130;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let stop = Arc::new(AtomicBool::new(false));
    listen_to_signals(&stop);
    let done = match &cli.command {
        Some(Command::Ceiling(args)) => ceiling(args.duration, &stop),
        None => run(&cli.run, &stop),
    };
    done.unwrap_or_else(|error| {
        say(&format!("loadgen: {error}"));
        ExitCode::from(CODE_NOT_BEGUN)
    })
}
