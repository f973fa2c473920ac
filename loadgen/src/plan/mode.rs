//! The kinds of messages of a load.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use clap::ValueEnum;
use thiserror::Error;

/// The messages of a load: adds, counts, both, or hits. What names a window is compact only.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Mode {
    /// The load has adds only.
    Add,
    /// The load has counts only.
    Count,
    /// The load has adds and counts at random, with this share of counts, above 0 and below 1.
    Mix(f64),
    /// The load has hits, which add and ask whether the count is within a limit of all time. Compact only.
    Hit {
        /// The largest estimate that is within the limit.
        limit: u64,
    },
    /// The load has counts in a window only.
    CountIn {
        /// Milliseconds of the window.
        window_ms: u64,
    },
    /// The load has adds and counts in a window at random.
    MixIn {
        /// Share of counts, above 0 and below 1.
        share: f64,
        /// Milliseconds of the window.
        window_ms: u64,
    },
    /// The load has hits of a limit in a window.
    Limit {
        /// The largest estimate that is within the limit.
        limit: u64,
        /// Milliseconds of the window.
        window_ms: u64,
        /// Whether a hit adds only if it is within the limit. Otherwise it always adds.
        takes: bool,
    },
}

/// How a window is read where its beginning lies between two snapshots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Reading {
    /// The best guess, which may be too low
    Smooth,
    /// Never below what the node itself was told within the window
    Bound,
}

/// Default limit of hits.
pub(super) const DEFAULT_LIMIT: u64 = 100;

impl Mode {
    /// Share of counts, from 0 to 1.
    #[must_use]
    pub fn count_share(self) -> f64 {
        match self {
            Self::Add | Self::Hit { .. } | Self::Limit { .. } => 0.0,
            Self::Count | Self::CountIn { .. } => 1.0,
            Self::Mix(share) | Self::MixIn { share, .. } => share,
        }
    }

    /// Share of hits, 0 or 1.
    #[must_use]
    pub fn hit_share(self) -> f64 {
        match self {
            Self::Hit { .. } | Self::Limit { .. } => 1.0,
            _ => 0.0,
        }
    }

    /// Milliseconds of the window of counts and hits; `None` if they are of all time.
    #[must_use]
    pub fn window_ms(self) -> Option<u64> {
        match self {
            Self::CountIn { window_ms }
            | Self::MixIn { window_ms, .. }
            | Self::Limit { window_ms, .. } => Some(window_ms),
            _ => None,
        }
    }

    /// The limit of hits.
    #[must_use]
    pub fn limit(self) -> Option<u64> {
        match self {
            Self::Hit { limit } | Self::Limit { limit, .. } => Some(limit),
            _ => None,
        }
    }

    /// Whether hits add only if they are within the limit.
    #[must_use]
    pub fn takes(self) -> bool {
        matches!(self, Self::Limit { takes: true, .. })
    }

    /// Whether only the compact format has such messages.
    pub(super) fn is_compact(self) -> bool {
        self.hit_share() > 0.0 || self.window_ms().is_some()
    }

    /// The usual reading: hits are smooth, as those of clients are, and counts can be judged.
    pub(super) fn usual_reading(self) -> Reading {
        match self {
            Self::Limit { .. } => Reading::Smooth,
            _ => Reading::Bound,
        }
    }

    /// The messages in words: `adds`, `counts`, both, or `hits`.
    #[must_use]
    pub fn describe(self) -> String {
        match self {
            Self::Add => "adds".to_owned(),
            Self::Count => "counts".to_owned(),
            Self::Mix(share) => format!("adds and {:.1} % counts", share * 100.0),
            Self::Hit { .. } => "hits".to_owned(),
            Self::CountIn { window_ms } => format!("counts in {}", span(window_ms)),
            Self::MixIn { share, window_ms } => {
                format!(
                    "adds and {:.1} % counts in {}",
                    share * 100.0,
                    span(window_ms)
                )
            }
            Self::Limit {
                limit,
                window_ms,
                takes,
            } => {
                let what = if takes { "takes" } else { "hits" };
                format!("{what} of {limit} in {}", span(window_ms))
            }
        }
    }
}

/// A window in words: `1m`.
fn span(window_ms: u64) -> String {
    let text = humantime::format_duration(Duration::from_millis(window_ms)).to_string();
    text.replace(' ', "")
}

/// Milliseconds of a window: whole ones, at least 1.
fn window_ms(text: &str) -> Result<u64, UnknownMode> {
    let span = humantime::parse_duration(text).map_err(|_| UnknownMode)?;
    let ms = u64::try_from(span.as_millis()).map_err(|_| UnknownMode)?;
    let is_whole = Duration::from_millis(ms) == span;
    (ms > 0 && is_whole).then_some(ms).ok_or(UnknownMode)
}

fn share(text: &str) -> Result<f64, UnknownMode> {
    let share: f64 = text.parse().map_err(|_| UnknownMode)?;
    // This excludes NaN, too.
    let inside = share > 0.0 && share < 1.0;
    inside.then_some(share).ok_or(UnknownMode)
}

/// The error for a text that is no mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error(
    "not a mode: use add, count, mix:R with the share R of counts, above 0 and below 1, such as mix:0.1, or hit:LIMIT, such as hit:100; in a window count:60s, mix:0.1/60s, hit:100/60s or take:100/60s"
)]
pub struct UnknownMode;

impl FromStr for Mode {
    type Err = UnknownMode;

    fn from_str(text: &str) -> Result<Self, UnknownMode> {
        match text {
            "add" => Ok(Self::Add),
            "count" => Ok(Self::Count),
            "hit" => Ok(Self::Hit {
                limit: DEFAULT_LIMIT,
            }),
            _ => Self::with_numbers(text),
        }
    }
}

impl Mode {
    fn with_numbers(text: &str) -> Result<Self, UnknownMode> {
        let (name, numbers) = text.split_once(':').ok_or(UnknownMode)?;
        let (number, window) = match numbers.split_once('/') {
            Some((number, window)) => (number, Some(window_ms(window)?)),
            None => (numbers, None),
        };
        let limit = || number.parse().map_err(|_| UnknownMode);
        Ok(match (name, window) {
            ("count", None) => Self::CountIn {
                window_ms: window_ms(number)?,
            },
            ("mix", None) => Self::Mix(share(number)?),
            ("mix", Some(window_ms)) => Self::MixIn {
                share: share(number)?,
                window_ms,
            },
            ("hit", None) => Self::Hit { limit: limit()? },
            ("hit" | "take", Some(window_ms)) => Self::Limit {
                limit: limit()?,
                window_ms,
                takes: name == "take",
            },
            _ => return Err(UnknownMode),
        })
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Add => f.write_str("add"),
            Self::Count => f.write_str("count"),
            Self::Mix(share) => write!(f, "mix:{share}"),
            Self::Hit { limit } => write!(f, "hit:{limit}"),
            Self::CountIn { window_ms } => write!(f, "count:{}", span(*window_ms)),
            Self::MixIn { share, window_ms } => write!(f, "mix:{share}/{}", span(*window_ms)),
            Self::Limit {
                limit,
                window_ms,
                takes,
            } => {
                let name = if *takes { "take" } else { "hit" };
                write!(f, "{name}:{limit}/{}", span(*window_ms))
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_read_as_they_are_written() {
        for text in [
            "add",
            "count",
            "mix:0.25",
            "hit:100",
            "count:1m",
            "mix:0.5/250ms",
            "hit:7/1h",
            "take:100/1m",
        ] {
            let mode: Mode = text.parse().unwrap();
            assert_eq!(mode.to_string(), text);
        }
        let take = Mode::Limit {
            limit: 100,
            window_ms: 60_000,
            takes: true,
        };
        assert_eq!("take:100/60s".parse(), Ok(take));
        for wrong in [
            "",
            "take",
            "take:100",
            "take:100/",
            "take:100/0s",
            "take:-1/60s",
            "take:1/1us",
            "count:60",
            "count:1/60s",
            "mix:1/60s",
            "mix:60s",
            "hit:100/60s/5s",
            "add:60s",
        ] {
            assert_eq!(wrong.parse::<Mode>(), Err(UnknownMode), "{wrong}");
        }
    }
}
