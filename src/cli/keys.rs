//! Keys from the command line and from standard input.

use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::ffi::OsStrExt;

use super::CliError;

/// Bytes of the longest line end, CR LF.
const LINE_END_BYTES_MAX: usize = 2;

/// The next item of the input.
#[derive(Debug, PartialEq)]
pub(super) enum Next<'k> {
    Key(&'k [u8]),
    /// The next key may take long to come: finish what has begun.
    Pause,
}

/// Why the keys ended early.
#[derive(Debug)]
pub(super) enum Stop {
    Input(io::Error),
    Taker(CliError),
}

/// Fails where not all keys were taken; `read` is what [`for_each`] returned, and `done` says what became of the keys
/// that were taken.
pub(super) fn check_all(
    read: Result<u64, Stop>,
    key_bytes_max: usize,
    done: String,
) -> Result<(), CliError> {
    match read {
        Ok(0) => Ok(()),
        Ok(skipped) => Err(CliError::KeysTooLong {
            skipped,
            key_bytes_max,
            done,
        }),
        Err(Stop::Input(source)) => Err(CliError::Input { source, done }),
        Err(Stop::Taker(error)) => Err(error),
    }
}

/// An input of lines.
pub(super) struct Input<'i, R> {
    pub(super) reader: &'i mut BufReader<R>,
    /// Whether more input may take long to come.
    pub(super) waits: &'i mut dyn FnMut() -> bool,
    pub(super) key_bytes_max: usize,
    /// Whether a CR at the end of a line is part of the key.
    pub(super) keep_cr: bool,
}

/// Hands over the keys in order; `-` stands for all lines of the input. Returns how many were too long.
///
/// Memory is bounded, however long the lines are.
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
    Whole,
    TooLong,
    End,
}

impl<R: Read> Input<'_, R> {
    fn for_each_line(
        &mut self,
        take: &mut impl FnMut(Next<'_>) -> Result<(), CliError>,
    ) -> Result<u64, Stop> {
        let mut line = Vec::with_capacity(self.key_bytes_max + LINE_END_BYTES_MAX);
        let mut too_long = 0;
        loop {
            too_long += self.take_whole_lines(take)?;
            if (self.waits)() {
                take(Next::Pause).map_err(Stop::Taker)?;
            }
            match self.read_line(&mut line).map_err(Stop::Input)? {
                Line::Whole => too_long += self.hand_over(&line, take)?,
                Line::TooLong => too_long += 1,
                Line::End => return Ok(too_long),
            }
        }
    }

    /// Hands over lines that are in the buffer already, without a copy.
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
            too_long += self.hand_over(line, take)?;
        }
        self.reader.consume(taken);
        Ok(too_long)
    }

    /// Hands over a line without its `\n`. All other bytes are part of the key, but for one CR at its end. Returns 1
    /// if it is too long, else 0.
    fn hand_over(
        &self,
        line: &[u8],
        take: &mut impl FnMut(Next<'_>) -> Result<(), CliError>,
    ) -> Result<u64, Stop> {
        let key = match line.strip_suffix(b"\r") {
            Some(key) if !self.keep_cr => key,
            _ => line,
        };
        match key.len() {
            0 => Ok(0),
            length if length > self.key_bytes_max => Ok(1),
            _ => take(Next::Key(key)).map(|()| 0).map_err(Stop::Taker),
        }
    }

    /// Reads a line without its `\n`. A line that is longer than a key with its line end is not kept.
    fn read_line(&mut self, line: &mut Vec<u8>) -> io::Result<Line> {
        line.clear();
        let limit = self.key_bytes_max + LINE_END_BYTES_MAX;
        let reader = &mut *self.reader;
        let read = reader.by_ref().take(limit as u64).read_until(b'\n', line)?;
        if line.last() == Some(&b'\n') {
            line.pop();
            return Ok(Line::Whole);
        }
        if read == limit {
            reader.skip_until(b'\n')?;
            return Ok(Line::TooLong);
        }
        Ok(if read == 0 { Line::End } else { Line::Whole })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A simple reader of lines that end with LF or CR LF, also if the input ends without one. Returns the keys, and
    /// how many are too long.
    fn naive(input: &[u8], key_bytes_max: usize, keep_cr: bool) -> (Vec<Vec<u8>>, u64) {
        let mut lines: Vec<Vec<u8>> = vec![Vec::new()];
        for &byte in input {
            match byte {
                b'\n' => lines.push(Vec::new()),
                _ => lines.last_mut().unwrap().push(byte),
            }
        }
        if !keep_cr {
            for line in &mut lines {
                if line.last() == Some(&b'\r') {
                    line.pop();
                }
            }
        }
        lines.retain(|line| !line.is_empty());
        let (keys, too_long): (Vec<_>, Vec<_>) =
            (lines.into_iter()).partition(|line| line.len() <= key_bytes_max);
        (keys, too_long.len() as u64)
    }

    fn read(
        input: &[u8],
        key_bytes_max: usize,
        keep_cr: bool,
        buffer_bytes: usize,
        mut waits: impl FnMut() -> bool,
    ) -> (Vec<Vec<u8>>, u64) {
        let mut keys = Vec::new();
        let mut input = Input {
            reader: &mut BufReader::with_capacity(buffer_bytes, input),
            waits: &mut waits,
            key_bytes_max,
            keep_cr,
        };
        let too_long = for_each(&["-".into()], &mut input, |next| {
            if let Next::Key(key) = next {
                keys.push(key.to_vec());
            }
            Ok(())
        });
        (keys, too_long.unwrap())
    }

    /// Inputs with many line ends, parts of line ends, and bytes that are no text.
    fn inputs() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            Just(b"\n".to_vec()),
            Just(b"\r\n".to_vec()),
            Just(b"\r".to_vec()),
            prop::collection::vec(any::<u8>(), 0..4),
            prop::collection::vec(Just(b'a'), 0..9),
        ];
        prop::collection::vec(piece, 0..30).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn lines_are_what_a_naive_splitter_finds(
            input in inputs(),
            key_bytes_max in 1..8_usize,
            keep_cr in any::<bool>(),
            buffer_bytes in 1..20_usize,
        ) {
            let found = read(&input, key_bytes_max, keep_cr, buffer_bytes, || false);
            prop_assert_eq!(found, naive(&input, key_bytes_max, keep_cr));
        }
    }
}
