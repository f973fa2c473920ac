//! The command `rmbd snapshot`.

use std::fs::File;
use std::io::{self, BufReader, Write};
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::BoolishValueParser;
use clap::{Args, Subcommand};

use super::http::{Ordered, StatusSource};
use super::status::bytes;
use super::{CliError, ServerOptions, Streams};
use crate::status::SnapshotOrder;
use rmbd_snapshot::{SnapshotFileError, SnapshotFileSummary, check};

/// Bytes that are read of a file at once.
const READ_BYTES: usize = 256 << 10;
/// Time between two looks at whether an order is carried out that takes long.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// `rmbd snapshot`
#[derive(Debug, Clone, Subcommand)]
pub enum SnapshotCommand {
    /// Check that a snapshot file is whole; exit code 1 if it is not
    Check(SnapshotFileOptions),
    /// Print what a snapshot file holds, as JSON
    Show(SnapshotFileOptions),
    /// Have a node write a snapshot file now, and wait until it is on its disk
    Now(SnapshotNowOptions),
}

/// `rmbd snapshot check` and `rmbd snapshot show`
#[derive(Debug, Clone, Args)]
pub struct SnapshotFileOptions {
    /// The file: `snapshot` in the folder of --data-dir, or a copy of it
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// `rmbd snapshot now`
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "Asks over HTTP. Only loopback and the networks of the server's --trust may. What was counted before is on the server's disk then; nothing is written where all of it was there already."
)]
pub struct SnapshotNowOptions {
    /// Print a JSON object of {failure, nothing_new, bytes, duration_s}
    #[arg(long, env = "RMBD_JSON", value_parser = BoolishValueParser::new())]
    json: bool,

    #[command(flatten)]
    server: ServerOptions,
}

pub(super) fn run(command: &SnapshotCommand, streams: &mut Streams<'_>) -> Result<(), CliError> {
    let output = &mut *streams.output;
    let written = match command {
        SnapshotCommand::Check(options) => {
            checked(options)?;
            writeln!(output, "{}: whole", options.file.display())
        }
        SnapshotCommand::Show(options) => {
            let summary = checked(options)?;
            serde_json::to_writer_pretty(&mut *output, &summary)
                .map_err(io::Error::from)
                .and_then(|()| output.write_all(b"\n"))
        }
        SnapshotCommand::Now(options) => now(options, output)?,
    };
    written.map_err(CliError::Output)
}

fn checked(options: &SnapshotFileOptions) -> Result<SnapshotFileSummary, CliError> {
    let file = File::open(&options.file).map_err(SnapshotFileError::from);
    let summary = file.and_then(|file| check(&mut BufReader::with_capacity(READ_BYTES, file)));
    summary.map_err(|source| CliError::SnapshotFile {
        path: options.file.clone(),
        source,
    })
}

/// Gives the order, and prints what became of it.
fn now(options: &SnapshotNowOptions, output: &mut dyn Write) -> Result<io::Result<()>, CliError> {
    let ServerOptions { server, .. } = &options.server;
    let done = match StatusSource::new(server, options.server.timeout()).order_snapshot()? {
        Ordered::Done(done) => done,
        Ordered::Pending(number) => {
            wait_for(number, &StatusSource::new(server, options.server.timeout()))?
        }
    };
    if let Some(failure) = done.failure {
        return Err(CliError::NoSnapshot { failure });
    }
    Ok(match options.json {
        true => serde_json::to_writer(&mut *output, &done)
            .map_err(io::Error::from)
            .and_then(|()| output.write_all(b"\n")),
        false => output.write_all(line(&done).as_bytes()),
    })
}

/// Waits for an order that takes long, as long as the server answers.
fn wait_for(number: u64, source: &StatusSource) -> Result<SnapshotOrder, CliError> {
    loop {
        let files = source.status()?.snapshot_files;
        if files.orders_done >= number {
            let last = files.last.unwrap_or_default();
            return Ok(SnapshotOrder {
                failure: files.failure,
                nothing_new: false,
                bytes: last.bytes,
                duration_s: last.duration_s,
            });
        }
        std::thread::sleep(LOOK_AGAIN);
    }
}

fn line(done: &SnapshotOrder) -> String {
    match done.nothing_new {
        true => "nothing new: all that was counted was in the snapshot file\n".to_owned(),
        false => format!(
            "a snapshot file of {} was written in {:.2} s\n",
            bytes(done.bytes),
            done.duration_s
        ),
    }
}
