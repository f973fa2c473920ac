//! The kinds of messages of a load.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// The messages of a load: adds, counts, both, or hits.
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
}

/// Default limit of hits.
pub(super) const DEFAULT_LIMIT: u64 = 100;

impl Mode {
    /// Share of counts, from 0 to 1.
    #[must_use]
    pub fn count_share(self) -> f64 {
        match self {
            Self::Add | Self::Hit { .. } => 0.0,
            Self::Count => 1.0,
            Self::Mix(share) => share,
        }
    }

    /// Share of hits, 0 or 1.
    #[must_use]
    pub fn hit_share(self) -> f64 {
        match self {
            Self::Hit { .. } => 1.0,
            _ => 0.0,
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
        }
    }
}

/// The error for a text that is no mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error(
    "not a mode: use add, count, mix:R with the share R of counts, above 0 and below 1, such as mix:0.1, or hit:LIMIT, such as hit:100"
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
            _ => {
                if let Some(limit) = text.strip_prefix("hit:") {
                    let limit = limit.parse().map_err(|_| UnknownMode)?;
                    return Ok(Self::Hit { limit });
                }
                let share = text.strip_prefix("mix:").ok_or(UnknownMode)?;
                let share: f64 = share.parse().map_err(|_| UnknownMode)?;
                // This excludes NaN, too.
                let inside = share > 0.0 && share < 1.0;
                inside.then_some(Self::Mix(share)).ok_or(UnknownMode)
            }
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Add => f.write_str("add"),
            Self::Count => f.write_str("count"),
            Self::Mix(share) => write!(f, "mix:{share}"),
            Self::Hit { limit } => write!(f, "hit:{limit}"),
        }
    }
}
