//! Options that name loads on the command line.

use std::time::Duration;

use clap::{ArgGroup, Args};
use rmbd_proto::SketchName;
use thiserror::Error;

use super::canonical;
use super::format::Format;
use super::keys::{DEFAULT_KEY_BYTES, KeySet, KeySpec, KeysError, LineEnd};
use super::load::{DEFAULT_DURATION, DEFAULT_WARMUP, Load};
use super::mode::{Mode, Reading};
use crate::record::{Gaps, Pace};

/// Default keys of one load.
const DEFAULT_KEYS: KeySpec = KeySpec::Uniform { keys: 1_000_000 };

/// What to send, and how.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("pace")))]
pub(crate) struct LoadArgs {
    /// add, count, mix:R with the share R of counts, or hit:LIMIT (add, and ask whether that is within the
    /// limit; hit alone: 100); add if only the pace is given. In a window: count:60s, mix:R/60s, hit:LIMIT/60s,
    /// and take:LIMIT/60s, which adds only what is within the limit
    #[arg(long, help_heading = "Load")]
    pub mode: Option<Mode>,
    /// Open loop: messages a second at planned times, whatever the server does, such as 50000/s,
    /// 50k/s or 1.5M/s
    #[arg(long, value_name = "N/s", group = "pace", value_parser = rate, help_heading = "Load")]
    pub rate: Option<f64>,
    /// Closed loop: so many messages on their way at most
    #[arg(long, value_name = "K", group = "pace", help_heading = "Load")]
    pub outstanding: Option<usize>,
    /// As fast as the kernel takes them; if only --mode is given
    #[arg(long, group = "pace", help_heading = "Load")]
    pub flood: bool,
    /// Gaps between planned times
    #[arg(long, value_enum, default_value_t = Gaps::Exponential, requires = "rate")]
    #[arg(conflicts_with_all = ["flood", "outstanding"], help_heading = "Load")]
    pub gaps: Gaps,
    /// How long to measure, such as 10s
    #[arg(long, value_parser = duration, help_heading = "Load")]
    pub duration: Option<Duration>,
    /// How long to run before, with the same load
    #[arg(long, value_parser = duration, help_heading = "Load")]
    pub warmup: Option<Duration>,
    /// End after so many messages
    #[arg(long, value_name = "N", help_heading = "Load")]
    pub messages: Option<u64>,
    /// Sending threads
    #[arg(long, default_value_t = 1, help_heading = "Load")]
    pub threads: usize,
    /// Sockets over all threads: each goes to one of the server's data threads; without it 1 a
    /// thread, or 8 where the server has several data threads
    #[arg(long, help_heading = "Load")]
    pub sockets: Option<usize>,
    /// Messages a datagram; without it as many as fit 1 400 bytes in a flood (9 legacy ones, 77 compact adds
    /// of 16 bytes), and 1 else
    #[arg(long, value_name = "N", help_heading = "Load")]
    pub pack: Option<usize>,
    /// Weight of each add and each hit, 1 to 1048576; compact only. Without it 1
    #[arg(long, value_name = "N", help_heading = "Load")]
    pub weight: Option<u32>,
    /// Adds count exactly once: requests are sent again until they are acknowledged or --timeout has passed,
    /// and N must have grown by what was acknowledged; compact only, with --outstanding
    #[arg(long, help_heading = "Load")]
    pub exactly_once: bool,
    /// Sketch to add to and to count in; compact only. Without it default
    #[arg(long, value_name = "NAME", help_heading = "Load")]
    pub sketch: Option<SketchName>,
    /// How windows are read; without it smooth for hits and takes, and bound for counts
    #[arg(long, value_enum, help_heading = "Load")]
    pub reading: Option<Reading>,
    /// Format of the messages; without it legacy, compact where only that can (hits, windows, --sketch, --weight,
    /// --exactly-once), and both where no load is asked for
    #[arg(long, value_enum, help_heading = "Load")]
    pub format: Option<Format>,
    /// One system call for each datagram, instead of one for up to 64 (UDP_SEGMENT)
    #[arg(long, help_heading = "Load")]
    pub no_gso: bool,
    /// Senders spin instead of sleeping until the next planned time; each needs a CPU of its own
    #[arg(long, help_heading = "Load")]
    pub spin: bool,
    /// After how long a request counts as unanswered
    #[arg(long, default_value = "1s", value_parser = duration, help_heading = "Load")]
    pub timeout: Duration,

    /// Which keys.
    #[command(flatten)]
    pub keys: KeyArgs,
}

/// Which keys to send.
#[derive(Debug, Args)]
pub(crate) struct KeyArgs {
    /// uniform:N, zipf:S:N, sequential:N, file:PATH (its lines, in order), or - for standard input; without it
    /// uniform:1000000
    #[arg(long, help_heading = "Keys")]
    pub keys: Option<KeySpec>,
    /// Bytes of a key, where it is not a line of a file: at most 139, and 1024 in the compact format. Without
    /// it 16
    #[arg(long, value_name = "BYTES", help_heading = "Keys")]
    pub key_len: Option<usize>,
    /// What keys begin with, where they are not lines of a file
    #[arg(long, value_name = "TEXT", help_heading = "Keys")]
    pub key_prefix: Option<String>,
    /// After how long the hot ranks of zipf keys go to other keys, again and again, such as 10s; with --rate
    #[arg(long, value_name = "TIME", value_parser = duration, help_heading = "Keys")]
    pub hot_change: Option<Duration>,
    /// A CR at the end of a line of a file or of standard input is the key's; without it lines end with LF or
    /// CR LF
    #[arg(long, requires = "keys", help_heading = "Keys")]
    pub keep_cr: bool,
    /// Seed of keys, gaps, and the order of adds and counts: the same seed, the same stream
    #[arg(long, default_value_t = 1, help_heading = "Keys")]
    pub seed: u64,
}

/// The error for loads that are not possible. Nothing was sent.
#[derive(Debug, Error)]
pub(crate) enum PlanError {
    /// The keys are not possible.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// Options of a single load are given where none is asked for.
    #[error("{0} belongs to one load: say which with --mode, --rate, --outstanding or --flood")]
    OfOneLoad(&'static str),
}

impl LoadArgs {
    /// The loads for `servers` servers, the first of which has this many data threads. `takes_trains` tells whether
    /// several datagrams go to it in one system call.
    ///
    /// # Errors
    /// Fails with [`PlanError`].
    pub(crate) fn loads(
        &self,
        servers: usize,
        server_threads: usize,
        takes_trains: impl FnOnce() -> bool,
    ) -> Result<Vec<Load>, PlanError> {
        let sockets_a_thread = if server_threads > 1 { 8 } else { 1 };
        let sockets = self
            .sockets
            .unwrap_or_else(|| self.threads.saturating_mul(sockets_a_thread * servers));
        let gso = !self.no_gso && takes_trains();
        let base = |keys, format| Load {
            seed: self.keys.seed,
            threads: self.threads,
            sockets,
            gso,
            timeout: self.timeout,
            spin: self.spin,
            ..Load::new(keys, format)
        };
        if self.is_one_load() {
            return Ok(vec![self.one_load(base)?]);
        }
        self.refuse_options_of_one_load()?;
        Ok(canonical::loads(self.format, base)?)
    }

    fn is_one_load(&self) -> bool {
        self.mode.is_some() || self.rate.is_some() || self.outstanding.is_some() || self.flood
    }

    fn refuse_options_of_one_load(&self) -> Result<(), PlanError> {
        for (given, option) in [
            (self.duration.is_some(), "--duration"),
            (self.warmup.is_some(), "--warmup"),
            (self.messages.is_some(), "--messages"),
            (self.pack.is_some(), "--pack"),
            (self.weight.is_some(), "--weight"),
            (self.exactly_once, "--exactly-once"),
            (self.sketch.is_some(), "--sketch"),
            (self.reading.is_some(), "--reading"),
            (self.keys.hot_change.is_some(), "--hot-change"),
            (self.keys.keys.is_some(), "--keys"),
            (self.keys.key_len.is_some(), "--key-len"),
            (self.keys.key_prefix.is_some(), "--key-prefix"),
        ] {
            if given {
                return Err(PlanError::OfOneLoad(option));
            }
        }
        Ok(())
    }

    fn one_load(&self, base: impl Fn(KeySet, Format) -> Load) -> Result<Load, KeysError> {
        let pace = match (self.rate, self.outstanding) {
            (Some(per_s), _) => Pace::Rate {
                per_s,
                gaps: self.gaps,
            },
            (None, Some(requests)) => Pace::Outstanding { requests },
            (None, None) => Pace::Flood,
        };
        let mode = self.mode.unwrap_or(Mode::Add);
        let weight = self.weight.unwrap_or(1);
        let format = self.format.unwrap_or_else(|| match mode {
            _ if mode.is_compact() || self.sketch.is_some() => Format::Compact,
            _ if weight != 1 || self.exactly_once => Format::Compact,
            _ => Format::Legacy,
        });
        let load = Load {
            mode,
            weight,
            exactly_once: self.exactly_once,
            pace,
            duration: self.duration.unwrap_or(DEFAULT_DURATION),
            warmup: self.warmup.unwrap_or(DEFAULT_WARMUP),
            messages: self.messages,
            sketch: self.sketch.clone().unwrap_or_default(),
            reading: self.reading,
            hot_change: self.keys.hot_change,
            ..base(self.keys.open(format)?, format)
        };
        Ok(load.packed(self.pack))
    }
}

impl KeyArgs {
    fn open(&self, format: Format) -> Result<KeySet, KeysError> {
        KeySet::open_with(
            self.keys.as_ref().unwrap_or(&DEFAULT_KEYS),
            self.key_len.unwrap_or(DEFAULT_KEY_BYTES),
            self.key_prefix.as_deref().unwrap_or_default(),
            format,
            LineEnd::with_cr(self.keep_cr),
        )
    }
}

/// Parses a time such as `10s`, or a number of seconds.
pub(crate) fn duration(text: &str) -> Result<Duration, &'static str> {
    humantime::parse_duration(text)
        .or_else(|_| humantime::parse_duration(&format!("{text}s")))
        .map_err(|_| "not a time: write a number and a unit, such as 500ms, 10s or 2m")
}

/// Parses a rate such as `50000/s`, `50k/s` or `1.5M`.
fn rate(text: &str) -> Result<f64, &'static str> {
    const NO_RATE: &str =
        "not a rate: write messages a second above 0, such as 50000/s, 50k/s or 1.5M/s";
    let number = text.strip_suffix("/s").unwrap_or(text);
    let (number, times) = match number.as_bytes() {
        [.., b'k'] => (&number[..number.len() - 1], 1e3),
        [.., b'M'] => (&number[..number.len() - 1], 1e6),
        _ => (number, 1.0),
    };
    let rate = number.parse::<f64>().map_err(|_| NO_RATE)? * times;
    (rate.is_finite() && rate > 0.0)
        .then_some(rate)
        .ok_or(NO_RATE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_and_times_are_read() {
        assert_eq!(rate("50000/s"), Ok(50_000.0));
        assert_eq!(rate("50k/s"), Ok(50_000.0));
        assert_eq!(rate("1.5M"), Ok(1_500_000.0));
        for text in ["", "k", "-5/s", "0", "5/m", "inf", "NaN"] {
            assert!(rate(text).is_err(), "{text}");
        }
        assert_eq!(duration("3"), Ok(Duration::from_secs(3)));
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert!(duration("soon").is_err());
    }
}
