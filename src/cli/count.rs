//! The command `rmbd count`.

use std::io::{self, Write};

use serde::Serialize;

use super::keys::{Input, Next, Stop, check_all, for_each};
use super::refused::{About, explain};
use super::server::Speaker;
use super::{CliError, CountOptions, Streams};
use crate::status::JsonKey;
use rmbd_client::{Bounds, ClientError, Count, Sketch, Window, WindowCount};

/// Largest number of keys that are held before they are asked for.
const KEYS_AT_ONCE: usize = 4_096;

/// Prints counts in the order of the keys. Counts of a slow input are printed as keys come.
pub(super) fn run(options: &CountOptions, streams: &mut Streams<'_>) -> Result<(), CliError> {
    let speaker = options.server.connect(&options.protocol, streams)?;
    speaker.check_sketch(&options.sketch.sketch)?;
    check_protocol(options, &speaker)?;
    let key_bytes_max = speaker.key_bytes_max();
    let mut counter = Counter {
        speaker,
        keys: Vec::new(),
        options,
        incomplete: 0,
        overflowed: 0,
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
            "note: {} of these counts are incomplete: {}",
            counter.incomplete,
            match options.window {
                None => "the node has no room for something that others counted",
                Some(_) =>
                    "the node lacks something that others counted, or was started within the window",
            }
        );
    }
    if counter.overflowed > 0 {
        let _ = writeln!(
            streams.notes,
            "note: {} of these counts may be too low: more came in the window than it can tell apart",
            counter.overflowed
        );
    }
    let done = format!("{printed} keys were counted");
    check_all(read, key_bytes_max, done)
}

/// Refuses what the Python program's protocol does not have.
fn check_protocol(options: &CountOptions, speaker: &Speaker) -> Result<(), CliError> {
    let needing = [
        (options.bounds, "--bounds"),
        (options.window.is_some(), "--window"),
    ];
    let needed = needing.into_iter().find(|(is_given, _)| *is_given);
    match (speaker, needed) {
        (Speaker::Legacy(_), Some((_, what))) => Err(CliError::NeedsCompact { what }),
        _ => Ok(()),
    }
}

struct Counter<'o, W> {
    speaker: Speaker,
    /// Keys that have not been asked for yet.
    keys: Vec<Vec<u8>>,
    options: &'o CountOptions,
    /// Number of counts that are incomplete because the node lacks something.
    incomplete: u64,
    /// Number of counts in windows in which more came than they can tell apart.
    overflowed: u64,
    printer: Printer<W>,
}

impl<W: Write> Counter<'_, W> {
    fn count(&mut self) -> Result<(), CliError> {
        let counted = self.ask()?;
        for (key, counted) in self.keys.drain(..).zip(counted) {
            self.incomplete += u64::from(counted.incomplete);
            self.overflowed += u64::from(counted.overflowed == Some(true));
            (self.printer.print(&key, counted)).map_err(CliError::Output)?;
        }
        self.printer.output.flush().map_err(CliError::Output)
    }

    fn ask(&mut self) -> Result<Vec<Counted>, CliError> {
        let (keys, options) = (&self.keys, self.options);
        match &mut self.speaker {
            Speaker::Compact { client, .. } => {
                let sketch = &options.sketch.sketch;
                let counted = ask_sketch(client.sketch(sketch.as_str())?, keys, options);
                counted.map_err(|error| {
                    let windows = options.window.into_iter().collect();
                    explain(error, client, About::Sketch(sketch, windows))
                })
            }
            Speaker::Legacy(client) => {
                let counts = client.count_many(keys)?.into_iter();
                let count = |estimate| Count {
                    estimate,
                    incomplete: false,
                };
                Ok(counts.map(|n| Counted::from(count(n))).collect())
            }
        }
    }
}

fn ask_sketch(
    mut sketch: Sketch<'_>,
    keys: &[Vec<u8>],
    options: &CountOptions,
) -> Result<Vec<Counted>, ClientError> {
    if let Some(span) = options.window {
        let span = span.duration();
        let window = match options.smooth {
            true => Window::smooth(span),
            false => Window::bound(span),
        };
        let counts = sketch.count_many_in(keys, window)?;
        return Ok(counts.into_iter().map(Counted::from).collect());
    }
    if options.bounds {
        let bounds = keys.iter().map(|key| sketch.count_bounds(key));
        return bounds.map(|bounds| bounds.map(Counted::from)).collect();
    }
    let counts = sketch.count_many(keys)?;
    Ok(counts.into_iter().map(Counted::from).collect())
}

/// The output for a key.
#[derive(Default, Serialize)]
struct Counted {
    count: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    likely_estimate: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    likely_lower: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    certain_lower: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    total_weight: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    covered_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    overflowed: Option<bool>,
    incomplete: bool,
}

impl From<Count> for Counted {
    fn from(count: Count) -> Self {
        Self {
            count: count.estimate,
            incomplete: count.incomplete,
            ..Self::default()
        }
    }
}

impl From<Bounds> for Counted {
    fn from(bounds: Bounds) -> Self {
        Self {
            count: bounds.estimate,
            likely_estimate: Some(bounds.likely_estimate),
            likely_lower: Some(bounds.likely_lower),
            certain_lower: Some(bounds.certain_lower),
            total_weight: Some(bounds.total_weight),
            incomplete: bounds.incomplete,
            ..Self::default()
        }
    }
}

impl From<WindowCount> for Counted {
    fn from(window: WindowCount) -> Self {
        Self {
            count: window.estimate,
            covered_ms: u64::try_from(window.covered.as_millis()).ok(),
            overflowed: Some(window.overflowed),
            incomplete: window.incomplete,
            ..Self::default()
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
            let bounds = [
                counted.likely_estimate,
                counted.likely_lower,
                counted.certain_lower,
                counted.total_weight,
            ];
            for number in bounds.into_iter().flatten() {
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
