//! Names of sketches, and the numbers that stand for them in messages.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;
use xxhash_rust::xxh3::xxh3_64;

use super::SketchNumber;

/// Bytes of the longest name.
pub const SKETCH_NAME_BYTES_MAX: usize = 64;

/// The name of a sketch: 1 to 64 characters of `a` to `z`, `0` to `9`, `.`, `_` and `-`.
///
/// ```
/// use rmbd_proto::{SketchName, SketchNumber};
///
/// let logins: SketchName = "logins".parse()?;
/// assert_eq!(logins.number(), SketchNumber(0x9910_95a9));
/// assert_eq!(SketchName::default().number(), SketchNumber::DEFAULT);
/// assert!("Logins".parse::<SketchName>().is_err());
/// # Ok::<(), rmbd_proto::SketchNameError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SketchName(Box<str>);

/// Why a name is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SketchNameError {
    /// It has no character, or more than [`SKETCH_NAME_BYTES_MAX`].
    #[error("a sketch's name has 1 to {SKETCH_NAME_BYTES_MAX} characters, not {bytes}")]
    Length {
        /// Bytes of the name.
        bytes: usize,
    },
    /// It has a character that names do not have.
    #[error(
        "a sketch's name has no {character:?}: use the characters a to z, 0 to 9, '.', '_' and '-'"
    )]
    Character {
        /// The first such character.
        character: char,
    },
}

impl SketchName {
    /// The name of the sketch that every node has.
    pub const DEFAULT: &'static str = "default";

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The number that stands for it in messages: 0 for `default`, and else the first 32 bits of the name's XXH3-64
    /// (seed 0, in the canonical, big-endian form). So whoever knows a name knows its number. Two names may have the
    /// same one, and a node does not take both.
    #[must_use]
    pub fn number(&self) -> SketchNumber {
        match self.as_str() {
            Self::DEFAULT => SketchNumber::DEFAULT,
            name => SketchNumber((xxh3_64(name.as_bytes()) >> 32) as u32),
        }
    }
}

/// The name `default`.
impl Default for SketchName {
    fn default() -> Self {
        Self(Self::DEFAULT.into())
    }
}

impl FromStr for SketchName {
    type Err = SketchNameError;

    fn from_str(name: &str) -> Result<Self, SketchNameError> {
        let is_allowed =
            |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || ".-_".contains(c);
        if let Some(character) = name.chars().find(|&c| !is_allowed(c)) {
            return Err(SketchNameError::Character { character });
        }
        match name.len() {
            1..=SKETCH_NAME_BYTES_MAX => Ok(Self(name.into())),
            bytes => Err(SketchNameError::Length { bytes }),
        }
    }
}

impl fmt::Display for SketchName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names_are_short_and_plain() {
        let longest = "x".repeat(SKETCH_NAME_BYTES_MAX);
        for name in ["a", "api.v1_login-rate", "default", "0", longest.as_str()] {
            assert_eq!(name.parse::<SketchName>().unwrap().as_str(), name);
        }
        let too_long = format!("{longest}x");
        for (name, bytes) in [("", 0), (too_long.as_str(), 65)] {
            let refused = name.parse::<SketchName>();
            assert_eq!(refused, Err(SketchNameError::Length { bytes }));
        }
        for (name, character) in [("Logins", 'L'), ("a b", ' '), ("a/b", '/'), ("lögins", 'ö')] {
            let refused = name.parse::<SketchName>();
            assert_eq!(refused, Err(SketchNameError::Character { character }));
        }
    }

    /// The expected numbers come from the reference implementation (`xxhsum -H3`).
    #[test]
    fn a_name_has_the_same_number_everywhere() {
        for (name, number) in [
            ("default", 0),
            ("logins", 0x9910_95a9),
            ("a", 0xe6c6_32b6),
            ("pages", 0xc431_eca1),
            ("an-api-with-a-name-of-more-than-16-bytes", 0x6ec8_9b9f),
        ] {
            let name: SketchName = name.parse().unwrap();
            assert_eq!(name.number(), SketchNumber(number), "{name}");
        }
    }
}
