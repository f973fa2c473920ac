//! Sketches, windows and limits as they are asked for on a command line.

use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use thiserror::Error;

use crate::config::{Amount, AmountError, SpanError, parse_span};
use rmbd_proto::SketchName;

/// The largest number of limits in one question.
pub(super) const LIMITS_MAX: usize = crate::config::AMOUNTS_MAX;

/// Which sketch.
#[derive(Debug, Clone, Args)]
pub struct SketchOptions {
    /// Which sketch of the server
    // `RMBD_SKETCH` is a node's: it says which sketches there are.
    #[arg(
        long, value_name = "NAME", env = "RMBD_SKETCH_NAME", default_value_t,
        value_parser = SketchName::from_str
    )]
    pub(super) sketch: SketchName,
}

/// A length of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    pub(super) ms: u64,
}

/// Why a text is no length of time to look back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SpanOptionError {
    /// It is no length of time.
    #[error(transparent)]
    Span(#[from] SpanError),
    /// It is nothing.
    #[error("a time of nothing: write at least 1ms, or leave it out where it may be, for all time")]
    Zero,
}

/// What `--limit` says: `COUNT`, or `COUNT/TIME`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitOption {
    count: u64,
    span: Option<Span>,
}

/// Why a text is no limit.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LimitOptionError {
    /// It is no count.
    #[error(
        "{text:?} is not a count from 0 to 2^64 - 1, nor COUNT/TIME: write such as 100 or 100/60s"
    )]
    Count {
        /// The text.
        text: String,
    },
    /// It is no count in a time.
    #[error(transparent)]
    Amount(#[from] AmountError),
    /// Its time is nothing.
    #[error("{text:?} has a time of nothing: write only the count for all time")]
    Zero {
        /// The text.
        text: String,
    },
}

/// Why limits do not go together. Nothing was asked.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LimitsError {
    /// A limit has a time, and there is another one beside it.
    #[error(
        "--limit {limit} says its time itself, and --window {window} another one: leave --window out, or write --limit {count} --window {window}",
        limit = limit.text(), count = limit.count, window = time_option(*window_ms)
    )]
    TimeTwice {
        /// The limit.
        limit: LimitOption,
        /// The time beside it.
        window_ms: u64,
    },
    /// Several limits, and one time for all.
    #[error(
        "--window {window} is the time of one limit, and there are {limits}: write the time of each behind it, such as --limit 10/1s --limit 100/{window}",
        window = time_option(*window_ms)
    )]
    OneTimeForAll {
        /// How many limits there are.
        limits: usize,
        /// The time beside them.
        window_ms: u64,
    },
    /// Two limits for the same time.
    #[error("--limit {0} and --limit {1} are for the same time: leave the larger one out", first.text(), second.text())]
    SameTime {
        /// The one.
        first: LimitOption,
        /// The other.
        second: LimitOption,
    },
    /// More limits than a question has.
    #[error("{0} limits are too many: one hit has at most {LIMITS_MAX}")]
    TooMany(usize),
}

impl Span {
    pub(super) const ALL_TIME: Self = Self { ms: 0 };

    pub(super) fn duration(self) -> Duration {
        Duration::from_millis(self.ms)
    }
}

impl FromStr for Span {
    type Err = SpanOptionError;

    fn from_str(text: &str) -> Result<Self, SpanOptionError> {
        match parse_span(text)? {
            0 => Err(SpanOptionError::Zero),
            ms => Ok(Self { ms }),
        }
    }
}

impl LimitOption {
    fn text(&self) -> String {
        match self.span {
            Some(span) => format!("{}/{}", self.count, time_option(span.ms)),
            None => self.count.to_string(),
        }
    }
}

impl FromStr for LimitOption {
    type Err = LimitOptionError;

    fn from_str(text: &str) -> Result<Self, LimitOptionError> {
        if !text.contains('/') {
            let count = text.trim().parse();
            let count = count.map_err(|_| LimitOptionError::Count { text: text.into() })?;
            return Ok(Self { count, span: None });
        }
        match text.parse::<Amount>()? {
            Amount { window_ms: 0, .. } => Err(LimitOptionError::Zero { text: text.into() }),
            Amount { count, window_ms } => Ok(Self {
                count,
                span: Some(Span { ms: window_ms }),
            }),
        }
    }
}

/// A limit that is asked for: so much in so long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct AskedLimit {
    pub(super) count: u64,
    pub(super) span: Span,
}

/// What `--limit` and `--window` say together.
pub(super) fn limits(
    options: &[LimitOption],
    window: Option<Span>,
) -> Result<Vec<AskedLimit>, LimitsError> {
    if options.len() > LIMITS_MAX {
        return Err(LimitsError::TooMany(options.len()));
    }
    if let Some(Span { ms: window_ms }) = window {
        if let Some(&limit) = options.iter().find(|limit| limit.span.is_some()) {
            return Err(LimitsError::TimeTwice { limit, window_ms });
        }
        let limits = options.len();
        if limits > 1 {
            return Err(LimitsError::OneTimeForAll { limits, window_ms });
        }
    }
    for (at, &second) in options.iter().enumerate() {
        let mut before = options[..at].iter();
        if let Some(&first) = before.find(|first| first.span == second.span) {
            return Err(LimitsError::SameTime { first, second });
        }
    }
    let asked = options.iter().map(|limit| AskedLimit {
        count: limit.count,
        span: limit.span.or(window).unwrap_or(Span::ALL_TIME),
    });
    Ok(asked.collect())
}

/// A time as it is typed.
fn time_option(ms: u64) -> String {
    match ms {
        60_000 => "60s".to_owned(),
        _ => crate::config::span_text(ms),
    }
}

/// A length of time in words, such as `60 s`.
pub(super) fn time(ms: u64) -> String {
    let text = time_option(ms);
    let digits = text.find(|c: char| !c.is_ascii_digit());
    let (number, unit) = text.split_at(digits.unwrap_or(text.len()));
    format!("{number} {}", if unit == "m" { "min" } else { unit })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn asked(options: &[&str], window: Option<&str>) -> Result<Vec<(u64, u64)>, String> {
        let options: Vec<_> = options.iter().map(|text| text.parse().unwrap()).collect();
        let window = window.map(|text| text.parse().unwrap());
        let asked = limits(&options, window).map_err(|error| error.to_string())?;
        Ok(asked.iter().map(|it| (it.count, it.span.ms)).collect())
    }

    #[test]
    fn limits_have_their_times_or_the_one_beside_them() {
        assert_eq!(asked(&["100"], None), Ok(vec![(100, 0)]));
        assert_eq!(asked(&["100"], Some("60s")), Ok(vec![(100, 60_000)]));
        assert_eq!(asked(&["100/60s"], None), Ok(vec![(100, 60_000)]));
        assert_eq!(
            asked(&["10/1s", "100/1m", "1000"], None),
            Ok(vec![(10, 1_000), (100, 60_000), (1_000, 0)])
        );
    }

    #[test]
    fn what_contradicts_is_refused_with_the_cure() {
        let too_many: Vec<_> = (1..=9).map(|n| format!("5/{n}s")).collect();
        let too_many: Vec<_> = too_many.iter().map(String::as_str).collect();
        for (options, window, expected) in [
            (
                &["100/60s"][..],
                Some("1h"),
                "--limit 100/60s says its time itself, and --window 1h another one: leave --window out, or write --limit 100 --window 1h",
            ),
            (
                &["10", "100"],
                Some("60s"),
                "--window 60s is the time of one limit, and there are 2: write the time of each behind it, such as --limit 10/1s --limit 100/60s",
            ),
            (
                &["10/1m", "100/60s"],
                None,
                "--limit 10/60s and --limit 100/60s are for the same time: leave the larger one out",
            ),
            (
                &too_many,
                None,
                "9 limits are too many: one hit has at most 8",
            ),
        ] {
            assert_eq!(asked(options, window), Err(expected.to_owned()));
        }
    }

    #[test]
    fn nonsense_is_no_limit_and_no_time() {
        for (text, expected) in [
            ("", "is not a count from 0 to 2^64 - 1, nor COUNT/TIME"),
            ("-1", "is not a count from"),
            ("18446744073709551616", "is not a count from"),
            ("5/", "is not a length of time"),
            ("/5s", "is not a count from"),
            ("5/60", "is not a length of time"),
            ("5/1s/2s", "is not a length of time"),
            ("5/0s", "has a time of nothing: write only the count"),
        ] {
            let error = text.parse::<LimitOption>().unwrap_err().to_string();
            assert!(error.contains(expected), "{text:?}: {error}");
        }
        assert_eq!("0s".parse::<Span>(), Err(SpanOptionError::Zero));
        assert!("sixty".parse::<Span>().is_err());
    }

    #[test]
    fn times_are_said_in_words() {
        for (ms, text) in [
            (1, "1 ms"),
            (1_500, "1500 ms"),
            (1_000, "1 s"),
            (60_000, "60 s"),
            (90_000, "90 s"),
            (300_000, "5 min"),
            (3_600_000, "1 h"),
            (172_800_000, "2 d"),
        ] {
            assert_eq!(time(ms), text);
        }
    }
}
