//! `loadgen versus`, and the node that it starts.

use std::io;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;

use clap::Subcommand;
use rmbd::config::{NodeConfig, NodeOptions};
use rmbd_console as console;
use rustix::fs::{FileType, fstat};
use rustix::process::{Signal, getpid, kill_process};
use signal_hook::consts::{SIGINT, SIGTERM};

use super::contest;
use super::error::VersusError;
use super::options::VersusOptions;

/// Subcommands about servers.
#[derive(Debug, Subcommand)]
pub(crate) enum VersusCommand {
    /// Compares a node with Redis or memcached: the same keys, in turns, on this machine
    Versus(Box<VersusOptions>),
    /// Runs a node as a process of its own, as `rmbd` does
    #[command(hide = true)]
    Node(Box<NodeOptions>),
}

impl VersusCommand {
    /// Runs the command, and reports an error on standard error. If standard output does not take the table, the
    /// record is still written.
    #[must_use]
    pub(crate) fn run(self) -> ExitCode {
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
    Ok(rmbd::node::run(&NodeConfig::from_options(options)?, None)?)
}

/// Ends the node when standard input ends, if that is a pipe. The process that started this one holds the other end,
/// so the node also ends if that process is killed.
fn end_with_who_holds_the_pipe() {
    let is_pipe = fstat(io::stdin())
        .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Fifo);
    if is_pipe {
        thread::spawn(|| {
            // Nobody writes into the pipe: this returns at its end.
            let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
            let _ = kill_process(getpid(), Signal::TERM);
        });
    }
}
