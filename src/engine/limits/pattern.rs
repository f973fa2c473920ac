//! Sets of keys: by a pattern, or by a network.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use thiserror::Error;

/// Bytes of the longest pattern. Time to compare is at most its length times the key's.
pub const PATTERN_BYTES_MAX: usize = 256;

/// A pattern of keys: `*` stands for any run of bytes, also for none; all other characters stand for themselves.
///
/// ```
/// use rmbd::engine::limits::KeyPattern;
///
/// let premium: KeyPattern = "premium-*".parse()?;
/// assert!(premium.fits(b"premium-7") && !premium.fits(b"free-7"));
/// # Ok::<(), rmbd::engine::limits::PatternError>(())
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

/// Why keys or a network are refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum KeySetError {
    /// It begins like a network and is none.
    #[error(
        "{text:?} is not a network: write ADDRESS/BITS, such as 10.0.0.0/8 or fd00::/8, or one address"
    )]
    Network {
        /// The text.
        text: String,
    },
    /// It is no pattern.
    #[error(transparent)]
    Pattern(#[from] PatternError),
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

/// Some keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySet {
    /// Those of a pattern.
    Pattern(KeyPattern),
    /// Those that are textual addresses in a network.
    Network(IpNet),
}

impl KeySet {
    /// The addresses of a network, or one address.
    ///
    /// # Errors
    /// [`KeySetError::Network`].
    pub fn network(text: &str) -> Result<Self, KeySetError> {
        let no_network = || KeySetError::Network { text: text.into() };
        let network = match text.parse::<IpAddr>() {
            Ok(address) => address.into(),
            Err(_) => text.parse::<IpNet>().map_err(|_| no_network())?.trunc(),
        };
        Ok(Self::Network(network))
    }

    /// Whether a key is one of them. It allocates nothing.
    #[must_use]
    pub fn has(&self, key: &[u8]) -> bool {
        match self {
            Self::Pattern(pattern) => pattern.fits(key),
            Self::Network(network) => address(key).is_some_and(|ip| network.contains(&ip)),
        }
    }
}

/// An address, a network, or else a pattern of keys.
impl FromStr for KeySet {
    type Err = KeySetError;

    fn from_str(text: &str) -> Result<Self, KeySetError> {
        let before = text.split('/').next().unwrap_or_default();
        match before.parse::<IpAddr>() {
            Ok(_) => Self::network(text),
            Err(_) => Ok(Self::Pattern(text.parse()?)),
        }
    }
}

impl fmt::Display for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pattern(pattern) => pattern.fmt(f),
            Self::Network(network) => network.fmt(f),
        }
    }
}

/// The address that a key is the text of. An IPv4 address that is written as one of IPv6 is one of IPv4.
fn address(key: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(key).ok()?;
    text.parse::<IpAddr>().ok().map(|ip| ip.to_canonical())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use rmbd_testkit::random::random;

    #[test]
    fn stars_stand_for_any_run_of_bytes() {
        for (pattern, key, is_one) in [
            ("*", "", true),
            ("*", "anything", true),
            ("api", "api", true),
            ("api", "api2", false),
            ("api-*", "api-", true),
            ("api-*", "api-login", true),
            ("api-*", "xapi-login", false),
            ("*-login", "api-login", true),
            ("*-login", "api-login-", false),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "acb", false),
            ("**a**", "bab", true),
        ] {
            let pattern = KeyPattern::from_str(pattern).unwrap();
            assert_eq!(pattern.fits(key.as_bytes()), is_one, "{pattern:?} {key}");
        }
    }

    fn naive(pattern: &[u8], key: &[u8]) -> bool {
        match (pattern, key) {
            ([], _) => key.is_empty(),
            ([b'*', rest @ ..], _) => {
                naive(rest, key) || (!key.is_empty() && naive(pattern, &key[1..]))
            }
            ([byte, rest @ ..], [first, key @ ..]) => byte == first && naive(rest, key),
            _ => false,
        }
    }

    #[test]
    fn patterns_match_what_a_naive_reader_matches() {
        let mut state = 17;
        for _ in 0..20_000 {
            let mut draw = |letters: &[u8], longest: u64| -> Vec<u8> {
                let length = random(&mut state) % longest;
                let letter = |_| letters[random(&mut state) as usize % letters.len()];
                (0..length).map(letter).collect()
            };
            let (pattern, key) = (draw(b"ab**", 8), draw(b"ab", 10));
            let text = std::str::from_utf8(&pattern).unwrap();
            let Ok(pattern_of_text) = KeyPattern::from_str(text) else {
                continue;
            };
            let matches = pattern_of_text.fits(&key);
            assert_eq!(matches, naive(&pattern, &key), "{text} {key:?}");
        }
    }

    #[test]
    fn networks_have_the_keys_that_are_addresses_in_them() {
        let private = KeySet::Network("10.0.0.0/8".parse().unwrap());
        for key in ["10.1.2.3", "::ffff:10.1.2.3"] {
            assert!(private.has(key.as_bytes()), "{key}");
        }
        for key in [
            "11.1.2.3",
            "10.1.2",
            "10.1.2.3:80",
            "",
            "fd00::1",
            " 10.1.2.3",
        ] {
            assert!(!private.has(key.as_bytes()), "{key}");
        }
        assert!(!private.has(b"\xff10.1.2.3"));
        let local = KeySet::Network("fd00::/8".parse().unwrap());
        assert!(local.has(b"fd00::1") && !local.has(b"10.1.2.3"));
    }
}
