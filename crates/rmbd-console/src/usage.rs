//! Command lines, and exit codes that every program here has.

use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::error::Error;

use super::{is_watched, note};

/// Something failed.
pub const FAILURE: u8 = 1;
/// What was typed means nothing; `clap` uses the same.
pub const WRONG_USAGE: u8 = 2;
/// Whoever read the results stopped reading before their end: as if by SIGPIPE (128 + 13), which is what most
/// programs end by. Nothing is said of it.
pub const READER_GONE: u8 = 141;

/// Says what clap has to say: help and version are results, what is wrong goes to standard error. The code to end with.
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

/// The exit code where results could not be written; says why, unless the reader has gone.
pub fn unwritten(error: &io::Error, what: &dyn Display) -> u8 {
    if error.kind() == io::ErrorKind::BrokenPipe {
        return READER_GONE;
    }
    note(&format!("{what}: {error}"));
    FAILURE
}
