//! The command `rmbd size`.

use std::fmt::Write as _;
use std::str::FromStr;

use clap::Args;
use clap::builder::BoolishValueParser;
use serde_json::{Value, json};
use thiserror::Error;

use super::asked::Span;
use super::status::bytes;
use super::{CliError, Streams};
use crate::config::{
    DEFAULT_GOSSIP_INTERVAL_MS, DEFAULT_GOSSIP_RATE_BYTES_PER_S, DEFAULT_HASH_SEED, MAX_THREADS,
    SketchConfig, SketchError, SketchWish, SpanError, WindowConfig, number, parse_span, span_text,
};
use rmbd_proto::SketchName;
use rmbd_sketch::{Geometry, GeometryError, HashFamily};
use rmbd_store::WindowPlan;

/// Most events that can be asked about: above it, numbers of a JSON document are rounded by some of its readers.
const EVENTS_MAX: f64 = 1e15;
/// Most nodes that can be asked about. Gossip was measured with up to 100 of them; a thousand is far beyond.
const NODES_MAX: u64 = 1_000;
/// Narrowest sketch that is proposed. A narrower one saves nothing that can be noticed.
const WIDTH_MIN: f64 = 1_024.0;

/// Bytes in a round that a node sends to all others while nothing is counted: so many, and ...
const IDLE_BYTES: f64 = 212.0;
/// ... so many for each node. Measured are 303, 505, 1 083 and 3 245 bytes with 3, 10, 30 and 100 nodes.
const IDLE_BYTES_A_NODE: f64 = 30.3;
/// Number of keys in a round up to which each takes [`BYTES_A_KEY_OF_FEW`].
const FEW_KEYS: f64 = 100.0;
/// Bytes for each distinct key of a round, to each other node. Measured are 12.0 to 12.4 with 100 keys in a round.
const BYTES_A_KEY_OF_FEW: f64 = 12.4;
/// The same for each further key. Measured are 9.9 over all of 10 000 keys.
const BYTES_A_KEY_OF_MANY: f64 = 9.8;
/// Bytes for each cell, however many keys have touched it: 1.1 times its size is the most that was measured.
const BYTES_A_CELL_MAX: f64 = 4.4;
/// Bytes that a node holds for a cell of another node at most, where all cells near it were touched, too.
const LEARNT_BYTES_A_CELL: u64 = 4;

/// `rmbd size`
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "Events come evenly here: give the rate of the busiest hour. A window is read as `count --window` does, which covers up to two steps more. Memory is the plan that a node makes at its start, which its ready line prints; what other nodes counted comes on top. Gossip is an estimate from simulated clusters of 3 to 100 nodes (benches/record/growth-2026-11-28.md), where each event is a key of its own in its round, or one of --keys."
)]
pub struct SizeOptions {
    /// Events on all nodes together: in all, such as 100M, or in a time, such as 100M/day; k, M, G and T are thousands,
    /// millions and so on
    #[arg(long, value_name = "COUNT[/TIME]", env = "RMBD_EVENTS", value_parser = Events::from_str)]
    events: Events,

    /// By how much an answer may be too high, at least 1
    #[arg(long, value_name = "COUNT", env = "RMBD_ERROR", value_parser = error)]
    error: f64,

    /// The time that is counted in, such as 60s; without it, all time
    #[arg(long, value_name = "TIME", env = "RMBD_WINDOW")]
    window: Option<Span>,

    /// Nodes of the cluster
    #[arg(
        long, value_name = "N", env = "RMBD_NODES", default_value_t = 1,
        value_parser = number::whole::<u32>(1..=NODES_MAX)
    )]
    nodes: u32,

    /// With which probability an answer is as near
    #[arg(
        long,
        value_name = "C",
        env = "RMBD_CONFIDENCE",
        default_value_t = 0.98
    )]
    confidence: f64,

    /// Different keys that there are, such as 10k: with fewer of them, nodes tell each other less
    #[arg(long, value_name = "COUNT", env = "RMBD_KEYS", value_parser = count)]
    keys: Option<f64>,

    /// Data threads of a node [default: one for each CPU that this program may use]
    #[arg(
        long, value_name = "N", env = "RMBD_THREADS",
        value_parser = number::whole::<usize>(1..=MAX_THREADS as u64)
    )]
    threads: Option<usize>,

    /// Print a JSON object of {events_per_s, weight, width, depth, error, confidence, threads, memory_bytes,
    /// learnt_memory_bytes, gossip_bytes_per_s, config}
    #[arg(long, env = "RMBD_JSON", value_parser = BoolishValueParser::new())]
    json: bool,
}

impl SizeOptions {
    /// Checks that there is an answer.
    ///
    /// # Errors
    /// Says what cannot be.
    pub(super) fn check(&self) -> Result<(), SizeError> {
        Answer::of(self).map(drop)
    }
}

pub(super) fn run(options: &SizeOptions, streams: &mut Streams<'_>) -> Result<(), CliError> {
    let answer = Answer::of(options)?;
    let text = match options.json {
        true => format!("{:#}\n", answer.document()),
        false => answer.text(),
    };
    let written = streams.output.write_all(text.as_bytes());
    written.map_err(CliError::Output)
}

/// Why there is no sketch for what was asked. Nothing was started.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum SizeError {
    /// A text is no number.
    #[error("{text:?} is no count: write such as 5000, 20k, 100M, 2.5G or 1T")]
    Count {
        /// The text.
        text: String,
    },
    /// There is less than one.
    #[error("{text:?} is less than 1: there is nothing to count")]
    Nothing {
        /// The text.
        text: String,
    },
    /// There is more than can be asked about.
    #[error("{text:?} is more than 1000T, the most that can be asked about: give a shorter time")]
    TooMany {
        /// The text.
        text: String,
    },
    /// What follows the `/` is no time.
    #[error("{text:?} is no time to count events in: {source}, or /s, /min, /h, /day")]
    Time {
        /// The text.
        text: String,
        /// What is wrong.
        source: SpanError,
    },
    /// The error is below one.
    #[error(
        "an error of {text:?} is below 1: a sketch does not count exactly, allow an answer to be 1 too high at least"
    )]
    Exact {
        /// The text.
        text: String,
    },
    /// Without a window, a rate makes counts without an end.
    #[error(
        "{per_s} events a second have no end: give a --window, or the number of all events that will ever be, without \
         a time"
    )]
    Endless {
        /// The rate.
        per_s: String,
    },
    /// No sketch is so large.
    #[error(
        "{weight} events with an error of {error} take a sketch of {width} columns and {depth} rows, which is above \
         the limit of {} cells: allow a larger error or a shorter window, or count parts of the keys on clusters of \
         their own",
        rmbd_sketch::MAX_CELLS
    )]
    TooLarge {
        /// N.
        weight: f64,
        /// The error that was asked for.
        error: f64,
        /// Columns that it takes.
        width: u64,
        /// Rows that it takes.
        depth: u64,
    },
    /// The sketch or its window is not possible.
    #[error(transparent)]
    Sketch(#[from] SketchError),
    /// The confidence is not possible.
    #[error(transparent)]
    Geometry(GeometryError),
}

/// How many events there are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Events {
    count: f64,
    /// The time in which they come; `None` is all time.
    in_ms: Option<u64>,
}

impl FromStr for Events {
    type Err = SizeError;

    fn from_str(text: &str) -> Result<Self, SizeError> {
        let Some((events, time)) = text.split_once('/') else {
            let count = count(text)?;
            return Ok(Self { count, in_ms: None });
        };
        // A unit alone is one of it.
        let span = match time.starts_with(|first: char| first.is_ascii_alphabetic()) {
            true => parse_span(&format!("1{time}")),
            false => parse_span(time),
        };
        let wrong = |source| SizeError::Time {
            text: time.to_owned(),
            source,
        };
        let in_ms = span.and_then(|ms| if ms == 0 { Err(SpanError) } else { Ok(ms) });
        Ok(Self {
            count: count(events)?,
            in_ms: Some(in_ms.map_err(wrong)?),
        })
    }
}

impl Events {
    fn per_s(self) -> Option<f64> {
        self.in_ms.map(|ms| self.count * 1e3 / ms as f64)
    }

    /// N: the most of them that one answer is about.
    fn weight(self, covered_ms: Option<u64>) -> Result<f64, SizeError> {
        match (self.in_ms, covered_ms) {
            (None, _) => Ok(self.count),
            (Some(in_ms), Some(covered_ms)) => {
                let weight = self.count * covered_ms as f64 / in_ms as f64;
                Ok(weight.ceil().max(1.0))
            }
            (Some(_), None) => Err(SizeError::Endless {
                per_s: format!("{:.1}", self.per_s().unwrap_or_default()),
            }),
        }
    }
}

/// Parses a number of at least 1 with a unit.
fn count(text: &str) -> Result<f64, SizeError> {
    let (digits, unit) = match text.char_indices().next_back() {
        Some((at, 'k' | 'K')) => (&text[..at], 1e3),
        Some((at, 'M')) => (&text[..at], 1e6),
        Some((at, 'G')) => (&text[..at], 1e9),
        Some((at, 'T')) => (&text[..at], 1e12),
        _ => (text, 1.0),
    };
    let text = || text.to_owned();
    // `f64` would take names of numbers, too.
    let is_number = digits.starts_with(|first: char| first.is_ascii_digit());
    let number = digits.parse::<f64>().ok().filter(|_| is_number);
    match number.map(|number| number * unit) {
        None => Err(SizeError::Count { text: text() }),
        Some(number) if number < 1.0 => Err(SizeError::Nothing { text: text() }),
        Some(number) if number > EVENTS_MAX => Err(SizeError::TooMany { text: text() }),
        Some(number) => Ok(number),
    }
}

fn error(text: &str) -> Result<f64, SizeError> {
    count(text).map_err(|error| match error {
        SizeError::Nothing { text } => SizeError::Exact { text },
        other => other,
    })
}

/// What a node needs.
struct Answer {
    events: Events,
    /// N that the error is for.
    weight: f64,
    sketch: SketchConfig,
    nodes: u32,
    threads: usize,
    memory_bytes: u64,
    gossip_bytes_per_s: f64,
}

impl Answer {
    fn of(options: &SizeOptions) -> Result<Self, SizeError> {
        let window = options.window.map(|span| WindowConfig {
            span_ms: span.ms,
            step_ms: None,
            width: None,
        });
        // The step does not depend on the size, and the size does on the step.
        let plan = |geometry: Geometry| {
            let wish = SketchWish {
                width: Some(geometry.width() as u64),
                depth: Some(geometry.depth() as u64),
                windows: Some(Vec::from_iter(window.map(|window| WindowConfig {
                    width: Some(geometry.width() as u64),
                    ..window
                }))),
                ..SketchWish::named(SketchName::default())
            };
            wish.plan(FAMILY)
        };
        let stepped = plan(Geometry::DEFAULT)?;
        let covered_ms = stepped.windows.first().map(covered_ms);
        let weight = options.events.weight(covered_ms)?;
        let sketch = plan(geometry(weight, options.error, options.confidence)?)?;
        let available = || std::thread::available_parallelism().map_or(1, usize::from);
        let threads = options.threads.unwrap_or_else(available).min(MAX_THREADS);
        let gossip = Gossip {
            nodes: f64::from(options.nodes),
            events_per_s: options.events.per_s(),
            keys: options.keys,
            cells: sketch.geometry.cells() as f64,
        };
        Ok(Self {
            events: options.events,
            weight,
            nodes: options.nodes,
            threads,
            memory_bytes: sketch.planned_memory_bytes(FAMILY, threads, options.nodes > 1),
            gossip_bytes_per_s: gossip.bytes_per_s(),
            sketch,
        })
    }

    /// By how much an answer is too high at most.
    fn error(&self) -> f64 {
        self.sketch.geometry.epsilon() * self.weight
    }

    /// Bytes of what the other nodes have counted since they started, where they touched all cells.
    fn learnt_bytes(&self) -> u64 {
        let cells = self.sketch.geometry.cells() as u64 * LEARNT_BYTES_A_CELL;
        cells.saturating_mul(u64::from(self.nodes) - 1)
    }

    /// The line for the configuration file.
    fn config(&self) -> String {
        let geometry = self.sketch.geometry;
        let windows = self.sketch.windows.iter().map(|window| {
            format!(
                "{{ span = \"{}\", step = \"{}\", width = {} }}",
                span_text(window.span_ms()),
                span_text(window.step_ms()),
                window.width()
            )
        });
        format!(
            "sketch = [{{ name = \"{}\", width = {}, depth = {}, window = [{}] }}]",
            self.sketch.name,
            geometry.width(),
            geometry.depth(),
            windows.collect::<Vec<_>>().join(", ")
        )
    }

    fn text(&self) -> String {
        let (geometry, mut text) = (self.sketch.geometry, String::new());
        let rate = self.events.per_s();
        let rate = rate.map_or_else(|| "in all".to_owned(), |it| format!("{it:.1} a second"));
        let time = self.sketch.windows.first().map_or_else(
            || "all time".to_owned(),
            |window| {
                let (span, step) = (span_text(window.span_ms()), span_text(window.step_ms()));
                format!("a window of {span} by {step}, with two steps more")
            },
        );
        // Writing to a string cannot fail.
        let mut line = |name: &str, value: String| {
            let _ = writeln!(text, "{name:<10} {value}");
        };
        line(
            "events",
            format!("{rate}, {:.0} at most in {time}", self.weight),
        );
        line(
            "sketch",
            format!(
                "{}x{}: an answer is at most {:.1} too high with probability {:.4}",
                geometry.depth(),
                geometry.width(),
                self.error(),
                geometry.confidence()
            ),
        );
        if !self.sketch.windows.is_empty() {
            let epsilon = geometry.epsilon();
            line(
                "all time",
                format!("at most {epsilon:.1e} of all that was ever added too high"),
            );
        }
        let threads = self.threads;
        line(
            "memory",
            format!(
                "{} for a node of {threads} data threads, as its ready line says",
                bytes(self.memory_bytes)
            ),
        );
        if self.nodes > 1 {
            let (learnt, others) = (bytes(self.learnt_bytes()), self.nodes - 1);
            line(
                "others",
                format!(
                    "about {learnt} more for one start of each of {others} nodes that touched all cells"
                ),
            );
            line("gossip", self.gossip_text());
        }
        line("config", self.config());
        text
    }

    fn gossip_text(&self) -> String {
        let each = self.gossip_bytes_per_s / f64::from(self.nodes - 1);
        let limit = DEFAULT_GOSSIP_RATE_BYTES_PER_S;
        let beyond = match self.gossip_bytes_per_s > limit as f64 {
            true => format!(
                "; above --gossip-rate, {} a second: nodes are equal later",
                bytes(limit)
            ),
            false => String::new(),
        };
        format!(
            "about {} a second out of a node, {} to each other one{beyond}",
            bytes(self.gossip_bytes_per_s as u64),
            bytes(each as u64)
        )
    }

    fn document(&self) -> Value {
        let geometry = self.sketch.geometry;
        json!({
            "events_per_s": self.events.per_s(),
            "weight": self.weight,
            "width": geometry.width(),
            "depth": geometry.depth(),
            "error": self.error(),
            "confidence": geometry.confidence(),
            "threads": self.threads,
            "memory_bytes": self.memory_bytes,
            "learnt_memory_bytes": self.learnt_bytes(),
            "gossip_bytes_per_s": self.gossip_bytes_per_s.round(),
            "config": self.config(),
        })
    }
}

/// The hash of a node whose configuration says nothing of it.
const FAMILY: HashFamily = HashFamily::Xxh3 {
    seed: DEFAULT_HASH_SEED,
};

/// The longest time that a count in this window may be about.
fn covered_ms(window: &WindowPlan) -> u64 {
    window.span_ms() + 2 * window.step_ms()
}

/// The smallest sketch that errs by at most `error` of `weight`.
fn geometry(weight: f64, error: f64, confidence: f64) -> Result<Geometry, SizeError> {
    let epsilon = (error / weight).min(std::f64::consts::E / WIDTH_MIN);
    Geometry::from_error(epsilon, confidence).map_err(|problem| match problem {
        GeometryError::TooManyCells { width, depth } => SizeError::TooLarge {
            weight,
            error,
            width,
            depth,
        },
        other => SizeError::Geometry(other),
    })
}

/// What nodes tell each other, as it was measured.
struct Gossip {
    nodes: f64,
    /// Events on all nodes together; `None` where nobody knows how fast they come.
    events_per_s: Option<f64>,
    keys: Option<f64>,
    cells: f64,
}

impl Gossip {
    /// Bytes a second that leave a node.
    fn bytes_per_s(&self) -> f64 {
        if self.nodes < 2.0 {
            return 0.0;
        }
        let rounds_per_s = 1e3 / f64::from(DEFAULT_GOSSIP_INTERVAL_MS);
        let events = self.events_per_s.unwrap_or_default() / self.nodes / rounds_per_s;
        let keys = self.keys.map_or(events, |keys| keys.min(events));
        let of_keys = keys.min(FEW_KEYS) * BYTES_A_KEY_OF_FEW
            + (keys - FEW_KEYS).max(0.0) * BYTES_A_KEY_OF_MANY;
        let to_each = of_keys.min(self.cells * BYTES_A_CELL_MAX);
        let idle = IDLE_BYTES + IDLE_BYTES_A_NODE * self.nodes;
        (idle + to_each * (self.nodes - 1.0)) * rounds_per_s
    }
}
