//! `rmbd count`

use std::borrow::Cow;
use std::io::{self, Write};

use serde::Serialize;

use super::keys::{Next, Stop, for_each};
use super::{CliError, CountOptions, Streams};
use crate::client::Client;
use crate::wire::legacy::Dialect;

/// Keys to hold at most before they are asked for.
const KEYS_AT_ONCE: usize = 4_096;

/// Prints counts in the order of the keys; those of a slow input as they come.
pub(super) fn run(options: &CountOptions, streams: &mut Streams<'_>) -> Result<(), CliError> {
    let mut counter = Counter {
        client: options.server.connect(Dialect::default())?,
        keys: Vec::new(),
        printer: Printer {
            output: &mut streams.output,
            json: options.json,
            printed: 0,
        },
    };
    let read = for_each(&options.keys, &mut streams.input, |next| match next {
        Next::Key(key) => {
            counter.keys.push(key.to_vec());
            if counter.keys.len() == KEYS_AT_ONCE {
                counter.count()?;
            }
            Ok(())
        }
        Next::Pause => counter.count(),
    });
    if let Err(Stop::Taker(error)) = read {
        return Err(error);
    }
    counter.count()?;
    let printed = counter.printer.finish().map_err(CliError::Output)?;
    let done = format!("{printed} keys were counted");
    match read {
        Ok(0) => Ok(()),
        Ok(skipped) => Err(CliError::KeysTooLong { skipped, done }),
        Err(Stop::Input(source)) => Err(CliError::Input { source, done }),
        Err(Stop::Taker(error)) => Err(error),
    }
}

struct Counter<W> {
    client: Client,
    /// Not asked for yet.
    keys: Vec<Vec<u8>>,
    printer: Printer<W>,
}

impl<W: Write> Counter<W> {
    fn count(&mut self) -> Result<(), CliError> {
        let counts = self.client.count_many(&self.keys)?;
        for (key, count) in self.keys.drain(..).zip(counts) {
            self.printer.print(&key, count).map_err(CliError::Output)?;
        }
        self.printer.output.flush().map_err(CliError::Output)
    }
}

struct Printer<W> {
    output: W,
    json: bool,
    printed: u64,
}

/// An element of the JSON array.
#[derive(Serialize)]
struct Counted<'k> {
    key: Cow<'k, str>,
    count: u64,
}

impl<W: Write> Printer<W> {
    fn print(&mut self, key: &[u8], count: u64) -> io::Result<()> {
        if self.json {
            let before = if self.printed == 0 { "[" } else { ",\n " };
            self.output.write_all(before.as_bytes())?;
            let key = String::from_utf8_lossy(key);
            serde_json::to_writer(&mut self.output, &Counted { key, count })?;
        } else {
            write!(self.output, "{count}\t")?;
            self.output.write_all(key)?;
            self.output.write_all(b"\n")?;
        }
        self.printed += 1;
        Ok(())
    }

    fn finish(&mut self) -> io::Result<u64> {
        if self.json {
            let end = if self.printed == 0 { "[]\n" } else { "]\n" };
            self.output.write_all(end.as_bytes())?;
        }
        Ok(self.printed)
    }
}
