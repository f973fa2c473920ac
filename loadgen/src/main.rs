//! Load generator.

use std::process::ExitCode;

use clap::Parser;
use loadgen::versus::VersusCommand;

#[derive(Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    command: VersusCommand,
}

fn main() -> ExitCode {
    Cli::parse().command.run()
}
