//! Keys from the command line and from standard input.

use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::ffi::OsStrExt;

use super::CliError;
use crate::wire::legacy::KEY_BYTES_MAX;

/// What comes next.
#[derive(Debug, PartialEq)]
pub(super) enum Next<'k> {
    Key(&'k [u8]),
    /// The next key may take long to come: finish what is begun.
    Pause,
}

/// Why the keys ended early.
#[derive(Debug)]
pub(super) enum Stop {
    Input(io::Error),
    Taker(CliError),
}

/// Hands over the keys in order, `-` being all lines of the input; how many were too long.
///
/// Memory is bounded whatever the lines.
pub(super) fn for_each<R: Read>(
    args: &[OsString],
    input: &mut BufReader<R>,
    mut take: impl FnMut(Next<'_>) -> Result<(), CliError>,
) -> Result<u64, Stop> {
    let mut too_long = 0;
    for arg in args {
        let key = arg.as_bytes();
        if key == b"-" {
            too_long += for_each_line(input, &mut take)?;
        } else if key.len() > KEY_BYTES_MAX {
            too_long += 1;
        } else {
            take(Next::Key(key)).map_err(Stop::Taker)?;
        }
    }
    Ok(too_long)
}

fn for_each_line<R: Read>(
    input: &mut BufReader<R>,
    take: &mut impl FnMut(Next<'_>) -> Result<(), CliError>,
) -> Result<u64, Stop> {
    let mut line = Vec::with_capacity(KEY_BYTES_MAX + 1);
    let mut too_long = 0;
    loop {
        if !input.buffer().contains(&b'\n') {
            take(Next::Pause).map_err(Stop::Taker)?;
        }
        match read_line(input, &mut line).map_err(Stop::Input)? {
            Line::Key if line.is_empty() => {}
            Line::Key => take(Next::Key(&line)).map_err(Stop::Taker)?,
            Line::TooLong => too_long += 1,
            Line::End => return Ok(too_long),
        }
    }
}

enum Line {
    Key,
    TooLong,
    End,
}

/// Reads a line without its `\n`; any other byte is the key's.
fn read_line<R: Read>(input: &mut BufReader<R>, line: &mut Vec<u8>) -> io::Result<Line> {
    line.clear();
    let limit = KEY_BYTES_MAX + 1;
    let read = input.by_ref().take(limit as u64).read_until(b'\n', line)?;
    if line.last() == Some(&b'\n') {
        line.pop();
        return Ok(Line::Key);
    }
    if read == limit {
        input.skip_until(b'\n')?;
        return Ok(Line::TooLong);
    }
    Ok(if read == 0 { Line::End } else { Line::Key })
}
