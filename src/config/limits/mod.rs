//! Limits by name: which keys they are for, how much each key may have, and who is exempt.

#[cfg(test)]
mod tests;

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use super::SketchConfig;
use super::span::{self, SpanError};
pub use crate::engine::limits::{
    AMOUNTS_MAX, KeyPattern, KeySet, KeySetError, PATTERN_BYTES_MAX, PatternError,
};
use rmbd_proto::{SketchName, SketchNameError};
use rmbd_sketch::MAX_WEIGHT;

/// Largest number of limits of a node.
pub const LIMITS_MAX: usize = 256;
/// Largest number of overrides of a limit: they are gone through for each hit.
pub const OVERRIDES_MAX: usize = 256;
/// Largest number of exemptions of a limit: they are gone through for each hit.
pub const EXEMPTIONS_MAX: usize = 256;

/// A limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitConfig {
    /// The name by which clients ask for it.
    pub name: LimitName,
    /// The sketch that counts.
    pub sketch: SketchName,
    /// The keys that it is for.
    pub keys: KeyPattern,
    /// How much a key may have, 1 to [`AMOUNTS_MAX`], no two for the same time.
    pub amounts: Vec<Amount>,
    /// Weight of one hit, 1 to [`MAX_WEIGHT`].
    pub cost: u32,
    /// Whether a hit that is over the limit is added.
    pub verdict: LimitVerdict,
    /// Other amounts for some keys, at most [`OVERRIDES_MAX`]; the first that fits a key counts.
    pub overrides: Vec<LimitOverride>,
    /// Keys that have no limit, at most [`EXEMPTIONS_MAX`].
    pub exempt: Vec<KeySet>,
    /// Whether hits over the limit are only counted as such, and admitted.
    pub shadow: bool,
}

/// The name of a limit: 1 to 64 characters of `a` to `z`, `0` to `9`, `.`, `_` and `-`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LimitName(SketchName);

/// Why a name of a limit is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum LimitNameError {
    /// It has no character, or too many.
    #[error("a limit's name has 1 to 64 characters, not {bytes}")]
    Length {
        /// Bytes of the name.
        bytes: usize,
    },
    /// It has a character that names do not have.
    #[error(
        "a limit's name has no {character:?}: use the characters a to z, 0 to 9, '.', '_' and '-'"
    )]
    Character {
        /// The first such character.
        character: char,
    },
}

/// How much weight a key may have in a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Amount {
    /// The largest weight that is within the limit.
    pub count: u64,
    /// The time in milliseconds: the last so many.
    pub window_ms: u64,
}

/// Why an amount is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AmountError {
    /// It is not two parts.
    #[error("{text:?} is not COUNT/TIME: write such as 100/60s")]
    Parts {
        /// The amount.
        text: String,
    },
    /// Its count is no number.
    #[error("{count:?} is not a count from 0 to 2^64 - 1: write such as 100/60s")]
    Count {
        /// The count.
        count: String,
    },
    /// Its time is none.
    #[error("{time:?} is {source}")]
    Time {
        /// The time.
        time: String,
        /// What is wrong.
        source: SpanError,
    },
}

/// What happens to a hit that is over its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LimitVerdict {
    /// It consumes nothing.
    #[default]
    Take,
    /// It is added all the same.
    Count,
}

/// The error for a word that is no verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("use take (a hit over the limit consumes nothing) or count (every hit is added)")]
pub struct VerdictError;

/// Other amounts for some keys of a limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitOverride {
    /// The keys.
    pub who: KeySet,
    /// How much each may have, 1 to [`AMOUNTS_MAX`], no two for the same time.
    pub amounts: Vec<Amount>,
}

impl LimitName {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl FromStr for LimitName {
    type Err = LimitNameError;

    fn from_str(text: &str) -> Result<Self, LimitNameError> {
        text.parse().map(Self).map_err(|error| match error {
            SketchNameError::Length { bytes } => LimitNameError::Length { bytes },
            SketchNameError::Character { character } => LimitNameError::Character { character },
        })
    }
}

impl fmt::Display for LimitName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Amount {
    type Err = AmountError;

    fn from_str(text: &str) -> Result<Self, AmountError> {
        let Some((count, time)) = text.split_once('/') else {
            return Err(AmountError::Parts { text: text.into() });
        };
        Ok(Self {
            count: count.trim().parse().map_err(|_| AmountError::Count {
                count: count.into(),
            })?,
            window_ms: span::parse(time.trim()).map_err(|source| AmountError::Time {
                time: time.into(),
                source,
            })?,
        })
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.count, span::text(self.window_ms))
    }
}

impl LimitVerdict {
    /// `take` or `count`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Take => "take",
            Self::Count => "count",
        }
    }
}

impl FromStr for LimitVerdict {
    type Err = VerdictError;

    fn from_str(word: &str) -> Result<Self, VerdictError> {
        match word {
            "take" => Ok(Self::Take),
            "count" => Ok(Self::Count),
            _ => Err(VerdictError),
        }
    }
}

/// Parses the weight of one hit.
pub(super) fn cost(text: &str) -> Result<u32, CostError> {
    match text.parse() {
        Ok(cost) if (1..=MAX_WEIGHT).contains(&cost) => Ok(cost),
        _ => Err(CostError { text: text.into() }),
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{text} is not in 1..={MAX_WEIGHT}, the weights of a hit")]
pub(super) struct CostError {
    text: String,
}

/// Why a limit does not fit the sketches of its node.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LimitMisfit {
    /// There is no such sketch.
    #[error("limit {limit}: there is no sketch {sketch}; there are {known}")]
    NoSketch {
        /// The limit.
        limit: LimitName,
        /// Its sketch.
        sketch: SketchName,
        /// The sketches that there are.
        known: String,
    },
    /// No window of the sketch can answer for an amount.
    #[error(
        "limit {limit}: no window of sketch {sketch} covers {}: it has {windows}; choose a multiple of a window's step up to its length, or give the sketch such a window",
        span::text(*window_ms)
    )]
    NoWindow {
        /// The limit.
        limit: LimitName,
        /// Its sketch.
        sketch: SketchName,
        /// The time that the amount is for.
        window_ms: u64,
        /// The windows of the sketch.
        windows: String,
    },
}

impl LimitConfig {
    /// Checks that a node with these sketches can apply it.
    ///
    /// # Errors
    /// Fails if its sketch is not among them, or has no window for one of its amounts.
    pub fn fits(&self, sketches: &[SketchConfig]) -> Result<(), LimitMisfit> {
        let of_some = self.overrides.iter().flat_map(|it| &it.amounts);
        let mut amounts = self.amounts.iter().chain(of_some);
        amounts.try_for_each(|amount| self.check(amount.window_ms, sketches))
    }

    /// Checks that its sketch is there, and that a window of it covers each of these times.
    pub(super) fn check(
        &self,
        window_ms: u64,
        sketches: &[SketchConfig],
    ) -> Result<(), LimitMisfit> {
        let Some(sketch) = sketches.iter().find(|sketch| sketch.name == self.sketch) else {
            return Err(LimitMisfit::NoSketch {
                limit: self.name.clone(),
                sketch: self.sketch.clone(),
                known: listed(sketches.iter().map(|sketch| sketch.name.to_string())),
            });
        };
        if sketch.windows.iter().any(|it| it.covers(window_ms)) {
            return Ok(());
        }
        let windows = sketch.windows.iter().map(|window| {
            let (whole, step) = (window.span_ms(), window.step_ms());
            format!("{} by {}", span::text(whole), span::text(step))
        });
        Err(LimitMisfit::NoWindow {
            limit: self.name.clone(),
            sketch: self.sketch.clone(),
            window_ms,
            windows: listed(windows),
        })
    }
}

/// A list for an error; a long one is cut.
fn listed(names: impl ExactSizeIterator<Item = String>) -> String {
    const LISTED_MAX: usize = 8;
    let more = names.len().saturating_sub(LISTED_MAX);
    let mut list: Vec<_> = names.take(LISTED_MAX).collect();
    match (list.is_empty(), more) {
        (true, _) => return "none".to_owned(),
        (_, 0) => {}
        (_, more) => list.push(format!("{more} more")),
    }
    list.join(", ")
}
