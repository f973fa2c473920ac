//! The command `rmbd add`.

use super::keys::{Input, Next, Stop, check_all, for_each};
use super::progress::Progress;
use super::refused::{About, explain};
use super::server::Speaker;
use super::{AddOptions, CliError, Streams};
use rmbd_client::{Adder, legacy};
use rmbd_proto::SketchName;

/// Adds keys, many at a time. Keys of a slow input are added as they come.
pub(super) fn run(options: &AddOptions, streams: &mut Streams<'_>) -> Result<(), CliError> {
    let sketch = &options.sketch.sketch;
    let mut speaker = options.server.connect(&options.protocol, streams)?;
    speaker.check_sketch(sketch)?;
    add(options, &mut speaker, streams).map_err(|error| match (error, speaker) {
        (CliError::Client(error), Speaker::Compact { mut client, .. }) => {
            explain(error, &mut client, About::Sketch(sketch, Vec::new()))
        }
        (error, _) => error,
    })
}

fn add(
    options: &AddOptions,
    speaker: &mut Speaker,
    streams: &mut Streams<'_>,
) -> Result<(), CliError> {
    let key_bytes_max = speaker.key_bytes_max();
    let mut adder = AnyAdder::new(speaker, &options.sketch.sketch, options.weight)?;
    let Streams {
        input,
        input_waits,
        notes,
        shows_progress,
        ..
    } = streams;
    let mut progress = Progress::new(notes, *shows_progress);
    let mut input = Input {
        reader: input,
        waits: input_waits,
        key_bytes_max,
        keep_cr: options.lines.keep_cr,
    };
    let read = for_each(&options.keys, &mut input, |next| match next {
        Next::Key(key) => {
            adder.push(key)?;
            progress.advance(|| adder.confirmed());
            Ok(())
        }
        Next::Pause => adder.flush().map(drop),
    });
    let added = match read {
        Err(Stop::Taker(error)) => Err(error),
        read => adder.flush().map(|confirmed| (read, confirmed)),
    };
    progress.end();
    let (read, confirmed) = added?;
    if options.keys.iter().any(|key| key == "-") {
        progress.sum_up(confirmed, adder.repeated(), adder.is_acknowledged());
    }
    let done = format!("{confirmed} adds were done");
    check_all(read, key_bytes_max, done)
}

/// An adder for one of the two protocols.
enum AnyAdder<'c> {
    Compact {
        adder: Adder<'c>,
        weight: u64,
        /// The largest weight of one add.
        weight_max: u64,
    },
    Legacy {
        adder: legacy::Adder<'c>,
        /// Number of times to add each key, since the protocol has no weights.
        times: u64,
        confirmed: u64,
    },
}

impl<'c> AnyAdder<'c> {
    fn new(speaker: &'c mut Speaker, sketch: &SketchName, weight: u32) -> Result<Self, CliError> {
        let weight = weight.into();
        Ok(match speaker {
            Speaker::Compact { client, weight_max } => Self::Compact {
                adder: client.sketch(sketch.as_str())?.into_adder(),
                weight,
                // A server that takes no weight at all will say so itself.
                weight_max: (*weight_max).max(1).into(),
            },
            Speaker::Legacy(client) => Self::Legacy {
                adder: client.adder()?,
                times: weight,
                confirmed: 0,
            },
        })
    }

    #[inline]
    fn push(&mut self, key: &[u8]) -> Result<(), CliError> {
        match self {
            Self::Compact {
                adder,
                weight,
                weight_max,
            } => {
                let mut left = *weight;
                while left > *weight_max {
                    adder.push(key, *weight_max)?;
                    left -= *weight_max;
                }
                adder.push(key, left)?;
            }
            Self::Legacy { adder, times, .. } => {
                for _ in 0..*times {
                    adder.push(key)?;
                }
            }
        }
        Ok(())
    }

    /// Waits until the server has all adds. Returns the number of confirmed ones.
    fn flush(&mut self) -> Result<u64, CliError> {
        match self {
            Self::Compact { adder, .. } => Ok(adder.flush()?),
            Self::Legacy {
                adder, confirmed, ..
            } => {
                *confirmed = adder.flush()?;
                Ok(*confirmed)
            }
        }
    }

    fn confirmed(&self) -> u64 {
        match self {
            Self::Compact { adder, .. } => adder.confirmed(),
            Self::Legacy { confirmed, .. } => *confirmed,
        }
    }

    fn repeated(&self) -> u64 {
        match self {
            Self::Compact { adder, .. } => adder.repeated(),
            Self::Legacy { .. } => 0,
        }
    }

    /// Whether the server acknowledges that each add is counted.
    fn is_acknowledged(&self) -> bool {
        matches!(self, Self::Compact { .. })
    }
}
