//! Errors of command lines, and the exit codes of all programs here.

use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::error::Error;

use super::{is_watched, note};

/// The exit code after a failure.
pub const FAILURE: u8 = 1;
/// The exit code for a command line that is wrong; `clap` uses the same.
pub const WRONG_USAGE: u8 = 2;
/// The exit code if the reader of the results stopped before their end. It is the one of SIGPIPE (128 + 13), by which
/// most programs end then. Nothing is reported.
pub const READER_GONE: u8 = 141;

/// Prints clap's message: help and version are results, and errors go to standard error. Returns the exit code.
pub fn usage(error: &Error) -> ExitCode {
    if error.use_stderr() {
        let text = error.render();
        let is_colored =
            is_watched() && std::env::var_os("NO_COLOR").is_none_or(|it| it.is_empty());
        let text = match is_colored {
            true => text.ansi().to_string(),
            false => text.to_string(),
        };
        note(text.trim_end());
        return ExitCode::from(WRONG_USAGE);
    }
    match error.print().and_then(|()| io::stdout().flush()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => ExitCode::from(unwritten(&error, &"error: cannot write the result")),
    }
}

/// Returns the exit code for results that could not be written, and reports why, unless the reader has gone.
pub fn unwritten(error: &io::Error, what: &dyn Display) -> u8 {
    if error.kind() == io::ErrorKind::BrokenPipe {
        return READER_GONE;
    }
    note(&format!("{what}: {error}"));
    FAILURE
}
