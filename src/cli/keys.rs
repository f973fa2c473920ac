//! Keys from the command line and from standard input.

use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::ffi::OsStrExt;

use super::CliError;

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

/// Where lines come from.
pub(super) struct Input<'i, R> {
    pub(super) reader: &'i mut BufReader<R>,
    /// Whether more may take long to come.
    pub(super) waits: &'i mut dyn FnMut() -> bool,
    pub(super) key_bytes_max: usize,
}

/// Hands over the keys in order, `-` being all lines of the input; how many were too long.
///
/// Memory is bounded whatever the lines.
pub(super) fn for_each<R: Read>(
    args: &[OsString],
    input: &mut Input<'_, R>,
    mut take: impl FnMut(Next<'_>) -> Result<(), CliError>,
) -> Result<u64, Stop> {
    let mut too_long = 0;
    for arg in args {
        let key = arg.as_bytes();
        if key == b"-" {
            too_long += input.for_each_line(&mut take)?;
        } else if key.len() > input.key_bytes_max {
            too_long += 1;
        } else {
            take(Next::Key(key)).map_err(Stop::Taker)?;
        }
    }
    Ok(too_long)
}

enum Line {
    Key,
    TooLong,
    End,
}

impl<R: Read> Input<'_, R> {
    fn for_each_line(
        &mut self,
        take: &mut impl FnMut(Next<'_>) -> Result<(), CliError>,
    ) -> Result<u64, Stop> {
        let mut line = Vec::with_capacity(self.key_bytes_max + 1);
        let mut too_long = 0;
        loop {
            too_long += self.take_whole_lines(take)?;
            if (self.waits)() {
                take(Next::Pause).map_err(Stop::Taker)?;
            }
            match self.read_line(&mut line).map_err(Stop::Input)? {
                Line::Key if line.is_empty() => {}
                Line::Key => take(Next::Key(&line)).map_err(Stop::Taker)?,
                Line::TooLong => too_long += 1,
                Line::End => return Ok(too_long),
            }
        }
    }

    /// Lines that are in the buffer already, without a copy.
    fn take_whole_lines(
        &mut self,
        take: &mut impl FnMut(Next<'_>) -> Result<(), CliError>,
    ) -> Result<u64, Stop> {
        let mut too_long = 0;
        let mut taken = 0;
        let buffer = self.reader.buffer();
        while let Some(end) = buffer[taken..].iter().position(|&byte| byte == b'\n') {
            let line = &buffer[taken..][..end];
            taken += end + 1;
            if line.len() > self.key_bytes_max {
                too_long += 1;
            } else if !line.is_empty() {
                take(Next::Key(line)).map_err(Stop::Taker)?;
            }
        }
        self.reader.consume(taken);
        Ok(too_long)
    }

    /// Reads a line without its `\n`; any other byte is the key's.
    fn read_line(&mut self, line: &mut Vec<u8>) -> io::Result<Line> {
        line.clear();
        let limit = self.key_bytes_max + 1;
        let reader = &mut *self.reader;
        let read = reader.by_ref().take(limit as u64).read_until(b'\n', line)?;
        if line.last() == Some(&b'\n') {
            line.pop();
            return Ok(Line::Key);
        }
        if read == limit {
            reader.skip_until(b'\n')?;
            return Ok(Line::TooLong);
        }
        Ok(if read == 0 { Line::End } else { Line::Key })
    }
}
