//! The command `rmbd count`.

use std::io::{self, Write};

use serde::Serialize;

use super::keys::{Input, Next, Stop, for_each};
use super::server::Speaker;
use super::{CliError, CountOptions, Streams};
use crate::status::JsonKey;
use rmbd_client::{Bounds, Count};

/// Largest number of keys that are held before they are asked for.
const KEYS_AT_ONCE: usize = 4_096;

/// Prints counts in the order of the keys. Counts of a slow input are printed as keys come.
pub(super) fn run(options: &CountOptions, streams: &mut Streams<'_>) -> Result<(), CliError> {
    let speaker = options.server.connect(&options.protocol, streams)?;
    if options.bounds && matches!(speaker, Speaker::Legacy(_)) {
        return Err(CliError::NeedsCompact { what: "--bounds" });
    }
    let key_bytes_max = speaker.key_bytes_max();
    let mut counter = Counter {
        speaker,
        keys: Vec::new(),
        bounds: options.bounds,
        incomplete: 0,
        printer: Printer {
            output: &mut streams.output,
            json: options.json,
            printed: 0,
        },
    };
    let mut input = Input {
        reader: &mut streams.input,
        waits: &mut streams.input_waits,
        key_bytes_max,
        keep_cr: options.lines.keep_cr,
    };
    let read = for_each(&options.keys, &mut input, |next| match next {
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
    if counter.incomplete > 0 {
        let _ = writeln!(
            streams.notes,
            "note: {} of these counts are incomplete: the node has no room for something that others counted",
            counter.incomplete
        );
    }
    let done = format!("{printed} keys were counted");
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

struct Counter<W> {
    speaker: Speaker,
    /// Keys that have not been asked for yet.
    keys: Vec<Vec<u8>>,
    bounds: bool,
    /// Number of counts that are incomplete because the node lacks room.
    incomplete: u64,
    printer: Printer<W>,
}

impl<W: Write> Counter<W> {
    fn count(&mut self) -> Result<(), CliError> {
        let counted = self.ask()?;
        for (key, counted) in self.keys.drain(..).zip(counted) {
            self.incomplete += u64::from(counted.incomplete);
            (self.printer.print(&key, counted)).map_err(CliError::Output)?;
        }
        self.printer.output.flush().map_err(CliError::Output)
    }

    fn ask(&mut self) -> Result<Vec<Counted>, CliError> {
        Ok(match &mut self.speaker {
            Speaker::Compact { client, .. } if self.bounds => {
                let bounds = self.keys.iter().map(|key| client.count_bounds(key));
                let bounds: Result<Vec<_>, _> = bounds.collect();
                bounds?.into_iter().map(Counted::from).collect()
            }
            Speaker::Compact { client, .. } => {
                let counts = client.count_many(&self.keys)?;
                counts.into_iter().map(Counted::from).collect()
            }
            Speaker::Legacy(client) => {
                let counts = client.count_many(&self.keys)?.into_iter();
                let count = |estimate| Count {
                    estimate,
                    incomplete: false,
                };
                counts.map(|n| Counted::from(count(n))).collect()
            }
        })
    }
}

/// The output for a key.
#[derive(Serialize)]
struct Counted {
    count: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    lower: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    total_weight: Option<u64>,
    incomplete: bool,
}

impl From<Count> for Counted {
    fn from(count: Count) -> Self {
        Self {
            count: count.estimate,
            lower: None,
            total_weight: None,
            incomplete: count.incomplete,
        }
    }
}

impl From<Bounds> for Counted {
    fn from(bounds: Bounds) -> Self {
        Self {
            count: bounds.estimate,
            lower: Some(bounds.lower),
            total_weight: Some(bounds.total_weight),
            incomplete: bounds.incomplete,
        }
    }
}

/// An element of the JSON array.
#[derive(Serialize)]
struct Element<'k> {
    #[serde(flatten)]
    key: JsonKey<'k>,
    #[serde(flatten)]
    counted: Counted,
}

struct Printer<W> {
    output: W,
    json: bool,
    printed: u64,
}

impl<W: Write> Printer<W> {
    fn print(&mut self, key: &[u8], counted: Counted) -> io::Result<()> {
        if self.json {
            let before = if self.printed == 0 { "[" } else { ",\n " };
            self.output.write_all(before.as_bytes())?;
            let key = key.into();
            serde_json::to_writer(&mut self.output, &Element { key, counted })?;
        } else {
            write!(self.output, "{}\t", counted.count)?;
            for number in [counted.lower, counted.total_weight].into_iter().flatten() {
                write!(self.output, "{number}\t")?;
            }
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
