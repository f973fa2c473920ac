//! Tests of limits: patterns, networks, amounts.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

/// The definition: a star is nothing, or a byte and a star.
fn naive(pattern: &[u8], key: &[u8]) -> bool {
    match (pattern.split_first(), key.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), None) => naive(rest, key),
        (Some((b'*', rest)), Some((_, later))) => naive(rest, key) || naive(pattern, later),
        (Some((byte, rest)), Some((first, later))) => byte == first && naive(rest, later),
        _ => false,
    }
}

proptest! {
    #[test]
    fn a_pattern_fits_what_its_definition_says(pattern in "[ab*]{1,8}", key in "[ab*]{0,10}") {
        let parsed: KeyPattern = pattern.parse().unwrap();
        prop_assert_eq!(parsed.fits(key.as_bytes()), naive(pattern.as_bytes(), key.as_bytes()));
    }

    #[test]
    fn no_text_panics(text in ".{0,40}") {
        let _ = text.parse::<KeySet>();
        let _ = text.parse::<Amount>();
        let _ = text.parse::<LimitName>();
    }
}

#[test]
fn a_hostile_key_takes_bounded_time() {
    let pattern: KeyPattern = "*a".repeat(PATTERN_BYTES_MAX / 2).parse().unwrap();
    assert!(!pattern.fits(&[b'b'; 1024]));
    let pattern: KeyPattern = format!("*{}b", "a".repeat(250)).parse().unwrap();
    assert!(!pattern.fits(&[b'a'; 1024]));
}

#[test]
fn who_is_a_pattern_or_a_network() {
    for (text, has, lacks) in [
        ("10.0.0.0/8", "10.1.2.3", "11.0.0.1"),
        ("10.1.2.3/8", "::ffff:10.9.9.9", "10.1.2.3/8"),
        ("127.0.0.1", "127.0.0.1", "127.0.0.2"),
        ("fd00::/8", "fd00::1", "fe00::1"),
        ("health", "health", "healthy"),
        ("a/b*", "a/bc", "a"),
        ("*", "", ""),
    ] {
        let who: KeySet = text.parse().unwrap();
        assert!(who.has(has.as_bytes()), "{text} {has}");
        assert!(text == "*" || !who.has(lacks.as_bytes()), "{text} {lacks}");
    }
    for wrong in ["10.0.0.0/33", "::1/x", "1.2.3.4/8/9"] {
        let refused = wrong.parse::<KeySet>();
        assert!(
            matches!(refused, Err(KeySetError::Network { .. })),
            "{wrong}"
        );
    }
    assert!(!"10.0.0.0/8".parse::<KeySet>().unwrap().has(b"\xff"));
    let too_long = "x".repeat(PATTERN_BYTES_MAX + 1);
    assert_eq!(
        too_long.parse::<KeyPattern>(),
        Err(PatternError::Length { bytes: 257 })
    );
    assert_eq!(
        "".parse::<KeyPattern>(),
        Err(PatternError::Length { bytes: 0 })
    );
}

#[test]
fn amounts_are_a_count_and_a_time() {
    let amount: Amount = "100/60s".parse().unwrap();
    assert_eq!((amount.count, amount.window_ms), (100, 60_000));
    assert_eq!(amount.to_string(), "100/1m");
    for (wrong, told) in [
        ("100", "is not COUNT/TIME"),
        ("x/60s", "\"x\" is not a count"),
        ("-1/60s", "is not a count"),
        ("1/60", "\"60\" is not a length of time"),
        ("1/", "is not a length of time"),
    ] {
        let error = wrong.parse::<Amount>().unwrap_err().to_string();
        assert!(error.contains(told), "{wrong}: {error}");
    }
}

#[test]
fn names_are_those_of_sketches() {
    assert_eq!("api.v1".parse::<LimitName>().unwrap().as_str(), "api.v1");
    let error = "API".parse::<LimitName>().unwrap_err().to_string();
    assert!(error.starts_with("a limit's name has no 'A'"), "{error}");
    let error = "".parse::<LimitName>().unwrap_err().to_string();
    assert_eq!(error, "a limit's name has 1 to 64 characters, not 0");
}
