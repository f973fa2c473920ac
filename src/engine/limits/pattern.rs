//! Sets of keys: by a pattern, or by a network.

use std::net::IpAddr;

use ipnet::IpNet;

/// A pattern of keys, in which `*` stands for any run of bytes, also an empty one. All other bytes stand for
/// themselves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyPattern(Box<[u8]>);

impl KeyPattern {
    /// The pattern in these words.
    #[must_use]
    pub fn new(pattern: &str) -> Self {
        Self(pattern.as_bytes().into())
    }

    /// Whether a key is one of the pattern's. It takes at most the product of both lengths, and mostly their sum.
    #[must_use]
    pub fn matches(&self, key: &[u8]) -> bool {
        let (pattern, mut at, mut key_at) = (&self.0, 0, 0);
        // Where the latest star stands, and up to where it has taken bytes of the key.
        let mut star = None;
        while key_at < key.len() {
            match pattern.get(at) {
                Some(b'*') => {
                    star = Some((at, key_at));
                    at += 1;
                }
                Some(byte) if *byte == key[key_at] => {
                    at += 1;
                    key_at += 1;
                }
                _ => {
                    // What stands behind the star does not fit here: the star takes one byte more.
                    let Some((star_at, taken)) = star.as_mut() else {
                        return false;
                    };
                    *taken += 1;
                    (at, key_at) = (*star_at + 1, *taken);
                }
            }
        }
        pattern[at.min(pattern.len())..]
            .iter()
            .all(|&byte| byte == b'*')
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
    /// Whether a key is one of them.
    #[must_use]
    pub fn has(&self, key: &[u8]) -> bool {
        match self {
            Self::Pattern(pattern) => pattern.matches(key),
            Self::Network(network) => address(key).is_some_and(|ip| network.contains(&ip)),
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
            ("", "", true),
            ("", "a", false),
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
            let pattern = KeyPattern::new(pattern);
            assert_eq!(pattern.matches(key.as_bytes()), is_one, "{pattern:?} {key}");
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
            let matches = KeyPattern::new(text).matches(&key);
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
