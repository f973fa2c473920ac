//! The command `rmbd hit`.

mod print;

use std::ffi::OsString;
use std::io;

use clap::Args;
use clap::builder::BoolishValueParser;

use self::print::{By, Printed};
use super::asked::{self, AskedLimit, LimitOption, LimitsError, SketchOptions, Span};
use super::keys::{Input, Next, check_all, for_each};
use super::refused::{About, explain};
use super::{CliError, Done, LineOptions, ServerOptions, Streams, is_reader_gone};
use crate::config::{LimitName, number};
use rmbd_client::{Client, ClientError, KEY_BYTES_MAX, Limit, Limits, Verdict};
use rmbd_sketch::MAX_WEIGHT;

/// `rmbd hit`
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "Prints a line for each key: its count, the limit, within or over, and how much is left or when to try again. The exit code is 0 within all limits, 3 if a key is over one; as always, 1 where something failed and 2 where the command line means nothing.\n\nA hit is counted whatever the verdict, so that who is over a limit stays over it for as long as it goes on; with --take one that is over consumes nothing."
)]
pub struct HitOptions {
    /// Keys of at most 1024 bytes; - reads them from standard input, one a line without empty ones
    #[arg(value_name = "KEY", required = true)]
    keys: Vec<OsString>,

    /// The largest count that is within the limit, this hit included: COUNT in all, or in the time of --window,
    /// or COUNT/TIME, such as 100/60s; repeat it or use a comma for up to 8, all of which are kept
    #[arg(
        long,
        value_name = "COUNT[/TIME]",
        env = "RMBD_LIMIT",
        value_delimiter = ',',
        required_unless_present = "limit_name"
    )]
    limit: Vec<LimitOption>,

    /// The time that the limit is for: --limit 100 --window 60s is --limit 100/60s
    #[arg(long, value_name = "TIME", env = "RMBD_WINDOW")]
    window: Option<Span>,

    /// Add nothing where a limit is passed
    #[arg(long, env = "RMBD_TAKE", value_parser = BoolishValueParser::new())]
    take: bool,

    /// Count what may have come up to a step before the window in full, not by the part of the step that is in it
    #[arg(long, env = "RMBD_BOUND", value_parser = BoolishValueParser::new())]
    bound: bool,

    /// Ask by a limit of the server's own, which says in which sketch, how much, and whether it takes
    #[arg(
        long, value_name = "NAME", env = "RMBD_LIMIT_NAME",
        conflicts_with_all = ["limit", "window", "take", "bound", "sketch"]
    )]
    limit_name: Option<LimitName>,

    /// What to add to each key; 0 only looks
    #[arg(
        short = 'n', long, value_name = "WEIGHT", env = "RMBD_WEIGHT", default_value_t = 1,
        value_parser = number::whole::<u32>(0..=u64::from(MAX_WEIGHT))
    )]
    weight: u32,

    /// Print a JSON object a line of {key, estimate, verdict, remaining, retry_after_ms, covered_ms, incomplete,
    /// unsure, overflowed, shadow, part} and limit and window_ms, or limit_name; key_base64 in place of key where that
    /// is no UTF-8; remaining is null where no limit holds for the key, and retry_after_ms where no waiting helps
    #[arg(long, env = "RMBD_JSON", value_parser = BoolishValueParser::new())]
    json: bool,

    #[command(flatten)]
    sketch: SketchOptions,

    #[command(flatten)]
    lines: LineOptions,

    #[command(flatten)]
    server: ServerOptions,
}

impl HitOptions {
    /// What clap does not check.
    pub(super) fn check(&self) -> Result<(), LimitsError> {
        self.limits().map(drop)
    }

    fn limits(&self) -> Result<Vec<AskedLimit>, LimitsError> {
        asked::limits(&self.limit, self.window)
    }
}

/// Adds to keys, and reports whether they are within their limits.
pub(super) fn run(options: &HitOptions, streams: &mut Streams<'_>) -> Result<Done, CliError> {
    let by = match &options.limit_name {
        Some(name) => By::Name(name.as_str()),
        None => By::Limits(options.limits()?),
    };
    let mut asker = Asker {
        client: options.server.compact()?,
        options,
        by,
    };
    let Streams {
        input,
        input_waits,
        output,
        ..
    } = streams;
    let mut input = Input {
        reader: input,
        waits: input_waits,
        key_bytes_max: KEY_BYTES_MAX,
        keep_cr: options.lines.keep_cr,
    };
    let (mut hits, mut done) = (0_u64, Done::AsAsked);
    let read = for_each(&options.keys, &mut input, |next| {
        let Next::Key(key) = next else {
            return unless_gone(output.flush());
        };
        let verdict = asker.hit(key)?;
        hits += 1;
        if !verdict.allowed {
            done = Done::OverLimit;
        }
        let by = &asker.by;
        let printed = Printed { key, by, verdict };
        unless_gone(printed.write(options.json, output))
    });
    let told = format!("{hits} keys were hit");
    check_all(read, KEY_BYTES_MAX, told).map(|()| done)
}

struct Asker<'o> {
    client: Client,
    options: &'o HitOptions,
    by: By<'o>,
}

impl Asker<'_> {
    fn hit(&mut self, key: &[u8]) -> Result<Verdict, CliError> {
        self.ask(key).map_err(|error| {
            let about = match &self.by {
                By::Name(name) => About::Limit(name),
                By::Limits(limits) => About::Sketch(
                    &self.options.sketch.sketch,
                    limits.iter().map(|limit| limit.span).collect(),
                ),
            };
            explain(error, &mut self.client, about)
        })
    }

    fn ask(&mut self, key: &[u8]) -> Result<Verdict, ClientError> {
        let (options, weight) = (self.options, self.options.weight.into());
        match &self.by {
            By::Name(name) => self.client.hit_by_name(name, key, weight),
            By::Limits(limits) => {
                let sketch = &options.sketch.sketch;
                let limits: Vec<_> = limits
                    .iter()
                    .map(|it| Limit::new(key, it.count, it.span.duration()))
                    .map(|limit| limit.weight(weight).of(sketch))
                    .collect();
                let limits = match options.take {
                    true => Limits::take(limits),
                    false => Limits::count(limits),
                };
                self.client.limits(&match options.bound {
                    true => limits.bound(),
                    false => limits,
                })
            }
        }
    }
}

/// A hit is done and its verdict is in the exit code, whoever reads the lines.
fn unless_gone(written: io::Result<()>) -> Result<(), CliError> {
    match written {
        Err(error) if !is_reader_gone(&error) => Err(CliError::Output(error)),
        _ => Ok(()),
    }
}
