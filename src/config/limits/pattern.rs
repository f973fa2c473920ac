//! Patterns of keys, in which `*` stands for any run of characters.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// Bytes of the longest pattern. Time to compare is at most its length times the key's.
pub const PATTERN_BYTES_MAX: usize = 256;

/// A pattern of keys: `*` stands for any run of bytes, also for none; all other characters stand for themselves.
///
/// ```
/// use rmbd::config::KeyPattern;
///
/// let premium: KeyPattern = "premium-*".parse()?;
/// assert!(premium.fits(b"premium-7") && !premium.fits(b"free-7"));
/// # Ok::<(), rmbd::config::PatternError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyPattern(Box<str>);

/// Why a pattern is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum PatternError {
    /// It is empty, or too long.
    #[error(
        "a pattern of keys has 1 to {PATTERN_BYTES_MAX} bytes, not {bytes}: * stands for all keys"
    )]
    Length {
        /// Bytes of the pattern.
        bytes: usize,
    },
}

impl KeyPattern {
    /// The pattern.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the pattern fits the whole key. It allocates nothing.
    #[must_use]
    pub fn fits(&self, key: &[u8]) -> bool {
        let pattern = self.0.as_bytes();
        let (mut at, mut in_key) = (0, 0);
        // Where to go on if what follows the last star does not fit: behind the star, and one byte later in the key.
        let mut again: Option<(usize, usize)> = None;
        while in_key < key.len() {
            if pattern.get(at) == Some(&b'*') {
                again = Some((at + 1, in_key));
                at += 1;
            } else if pattern.get(at) == Some(&key[in_key]) {
                at += 1;
                in_key += 1;
            } else if let Some((behind, from)) = again {
                at = behind;
                in_key = from + 1;
                again = Some((behind, in_key));
            } else {
                return false;
            }
        }
        pattern[at..].iter().all(|&byte| byte == b'*')
    }
}

/// The pattern of all keys.
impl Default for KeyPattern {
    fn default() -> Self {
        Self("*".into())
    }
}

impl FromStr for KeyPattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        match text.len() {
            1..=PATTERN_BYTES_MAX => Ok(Self(text.into())),
            bytes => Err(PatternError::Length { bytes }),
        }
    }
}

impl fmt::Display for KeyPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
