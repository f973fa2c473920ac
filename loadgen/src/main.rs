//! Load generator.

use std::error::Error;
use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use loadgen::cli::{CeilingArgs, Cli, Command, Results, RunArgs};
use loadgen::output::files::{OutputError, check_directory, check_file};
use loadgen::record::Record;
use loadgen::report::live::Live;
use loadgen::report::{self, figures, hgrm, table};
use loadgen::run::ceiling;
use rmbd::config::environment::{self, Misread};
use rmbd::console;
use signal_hook::consts::{SIGINT, SIGTERM};

/// Could not begin.
const CODE_NOT_BEGUN: u8 = 2;
/// Killed by a second signal: 128 + SIGINT.
const CODE_INTERRUPTED: i32 = 130;

fn main() -> ExitCode {
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
        Some(Command::Ceiling(args)) => ceiling(args),
        None => load(&run),
    };
    done.unwrap_or_else(|error| {
        console::note(&format!("loadgen: {error}"));
        ExitCode::from(CODE_NOT_BEGUN)
    })
}

fn ceiling(args: CeilingArgs) -> Result<ExitCode, Box<dyn Error>> {
    let reached = ceiling::measure(args.duration, &*listen_to_signals()?)?;
    Ok(print(&ceiling::text(&reached)).map_or_else(ExitCode::from, |()| ExitCode::SUCCESS))
}

/// The first signal ends the run, which then says what it has; the second ends the program.
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

fn load(args: &RunArgs) -> Result<ExitCode, Box<dyn Error>> {
    let stop = listen_to_signals()?;
    check_results(&args.results)?;
    let target = args.target()?;
    let session = args.session(&target)?;
    let mut live = Live::new();
    let record = session.run(&target, &stop, &mut |event| live.show(event))?;
    live.end();
    let printed = print(&table::text(&record));
    let written = write_results(&args.results, &record);
    let whole = record.passed() && record.ended_early.is_none() && written;
    Ok(match (whole, printed) {
        (false, _) => ExitCode::FAILURE,
        (true, Err(code)) => ExitCode::from(code),
        (true, Ok(())) => ExitCode::SUCCESS,
    })
}

/// Before the run: a path that can't be written should not cost a run.
fn check_results(results: &Results) -> Result<(), OutputError> {
    let files = [
        ("the JSON record", &results.json),
        ("the percentile text", &results.hgrm),
        ("the report", &results.report),
    ];
    for (what, path) in files {
        if let Some(path) = path {
            check_file(what, path)?;
        }
    }
    if let Some(directory) = &results.plots {
        check_directory("the plots", directory)?;
    }
    Ok(())
}

/// Writes what it can; false where something could not be written.
fn write_results(results: &Results, record: &Record) -> bool {
    type Write = fn(&Record, &Path) -> Result<(), Box<dyn Error>>;
    let all: [(_, Write); 4] = [
        (&results.json, |record, path| Ok(record.write_json(path)?)),
        (&results.hgrm, |record, path| {
            if hgrm::write(record, path)?.is_empty() {
                console::note(
                    "loadgen: no load had answers to take the time of: no percentile text was written",
                );
            }
            Ok(())
        }),
        (&results.report, |record, path| {
            Ok(report::write(record, path)?)
        }),
        (&results.plots, |record, path| {
            figures::export(record, path)?;
            Ok(())
        }),
    ];
    let mut whole = true;
    for (path, write) in all {
        let Some(path) = path else { continue };
        if let Err(error) = write(record, path) {
            console::note(&format!("loadgen: {error}"));
            whole = false;
        }
    }
    whole
}

/// The exit code where standard output does not take it.
fn print(text: &str) -> Result<(), u8> {
    console::result(text)
        .map_err(|error| console::unwritten(&error, &"loadgen: cannot print the result"))
}
