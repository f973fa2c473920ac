//! The command line of the load generator.

use std::error::Error;
use std::io;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use rmbd::config::environment::{self, Misread};
use rmbd::config::{NodeConfig, NodeOptions};
use rmbd_console as console;
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::plan::{LoadArgs, duration};
use crate::report::{Live, Results, table};
use crate::run::{DEFAULT_CHECKED_KEYS, Session, ceiling};
use crate::server::{ServerArgs, ServerUnderLoad};
use crate::versus::VersusCommand;

/// The exit code if the run could not begin.
const CODE_NOT_BEGUN: u8 = 2;
/// The exit code after a second signal: 128 + SIGINT.
const CODE_INTERRUPTED: i32 = 130;

/// Load generator for rmbd: real traffic, counted and checked.
///
/// Without arguments it starts a node inside itself and runs about 20 seconds of adds, counts and hits.
/// With any of --mode, --rate, --outstanding and --flood it runs that one load instead.
/// Exit code: 0, 1 where a check failed, the run ended early or its results could not be written, 2 where it could
/// not begin, 141 where nobody read them to their end.
#[derive(Debug, Parser)]
#[command(name = "loadgen", version, args_conflicts_with_subcommands = true)]
struct Cli {
    /// Something else than a run.
    #[command(subcommand)]
    command: Option<Command>,
    /// A run.
    #[command(flatten)]
    run: RunArgs,
}

impl Cli {
    /// Checks what can be checked before anything begins, and returns the command line unchanged.
    ///
    /// # Errors
    /// Fails if a node's options contradict each other.
    fn checked(self) -> Result<Self, String> {
        if let Some(Command::Versus(VersusCommand::Node(options))) = &self.command {
            NodeConfig::from_options(NodeOptions::clone(options)).map_err(|e| e.to_string())?;
        }
        Ok(self)
    }
}

/// Something else than a run against one server.
#[derive(Debug, Subcommand)]
enum Command {
    /// How much this generator can send at most on this machine, to a receiver that throws away
    Ceiling(CeilingArgs),
    /// Other servers.
    #[command(flatten)]
    Versus(VersusCommand),
}

/// `loadgen ceiling`.
#[derive(Debug, Clone, Copy, Args)]
struct CeilingArgs {
    /// How long each of the measurements lasts, such as 3s
    #[arg(long, default_value = "3s", value_parser = duration)]
    duration: Duration,
}

/// A run.
#[derive(Debug, Args)]
struct RunArgs {
    /// Which server.
    #[command(flatten)]
    server: ServerArgs,

    /// What to send.
    #[command(flatten)]
    load: LoadArgs,

    /// Keys to count after the run besides the hottest ones; 0 is no check
    #[arg(long, value_name = "N", default_value_t = DEFAULT_CHECKED_KEYS, help_heading = "Keys")]
    check_keys: usize,

    /// Where results go.
    #[command(flatten)]
    results: Results,
}

impl RunArgs {
    /// The run against these servers.
    fn session(&self, servers: &[ServerUnderLoad]) -> Result<Session, Box<dyn Error>> {
        let first = servers.first().ok_or("there is no server")?;
        let threads = first.status().map_or(1, |status| status.io.threads.len());
        Ok(Session {
            loads: (self.load).loads(servers.len(), threads, || {
                servers.iter().all(ServerUnderLoad::takes_trains)
            })?,
            checked_keys: self.check_keys,
        })
    }
}

/// Runs the program.
#[must_use]
pub fn main() -> ExitCode {
    let _console = console::open();
    let words: Vec<_> = std::env::args_os().collect();
    let Cli { command, run } = match environment::read(&words, Cli::checked) {
        Ok(cli) => cli,
        Err(Misread::Usage(error)) => return console::usage(&error),
        Err(Misread::Refused(error)) => {
            console::note(&format!("loadgen: {error}"));
            return ExitCode::from(CODE_NOT_BEGUN);
        }
    };
    let done = match command {
        Some(Command::Versus(versus)) => return versus.run(),
        Some(Command::Ceiling(args)) => reach_ceiling(args),
        None => run_loads(&run),
    };
    done.unwrap_or_else(|error| {
        console::note(&format!("loadgen: {error}"));
        ExitCode::from(CODE_NOT_BEGUN)
    })
}

fn reach_ceiling(args: CeilingArgs) -> Result<ExitCode, Box<dyn Error>> {
    let reached = ceiling::measure(args.duration, &*listen_to_signals()?)?;
    Ok(print(&ceiling::text(&reached)).map_or_else(ExitCode::from, |()| ExitCode::SUCCESS))
}

fn run_loads(args: &RunArgs) -> Result<ExitCode, Box<dyn Error>> {
    let stop = listen_to_signals()?;
    args.results.check()?;
    let servers = args.server.find()?;
    let session = args.session(&servers)?;
    let mut live = Live::new();
    let record = session.run_over(&servers, &stop, &mut |event| live.show(event))?;
    live.end();
    let printed = print(&table::text(&record));
    let written = args.results.write(&record);
    let whole = record.passed() && record.ended_early.is_none() && written;
    Ok(match (whole, printed) {
        (false, _) => ExitCode::FAILURE,
        (true, Err(code)) => ExitCode::from(code),
        (true, Ok(())) => ExitCode::SUCCESS,
    })
}

/// Handles signals: the first one ends the run, which then shows its results; the second one ends the program.
fn listen_to_signals() -> io::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register_conditional_shutdown(
            signal,
            CODE_INTERRUPTED,
            Arc::clone(&stop),
        )?;
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    Ok(stop)
}

/// Prints a text. The error is the exit code if standard output does not take it.
fn print(text: &str) -> Result<(), u8> {
    console::result(text)
        .map_err(|error| console::unwritten(&error, &"loadgen: cannot print the result"))
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
