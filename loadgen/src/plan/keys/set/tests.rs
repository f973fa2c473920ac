#![allow(clippy::unwrap_used)]

use std::collections::HashMap;

use rand::rand_core::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

use super::*;
use crate::plan::keys::made::{digits, hexadecimal};
use crate::plan::{KeySpecError, Stream};
use Format::{Compact, Legacy};

fn set(spec: &str) -> KeySet {
    KeySet::open(&spec.parse().unwrap(), DEFAULT_KEY_BYTES, "", Legacy).unwrap()
}

fn lines(text: &str) -> KeySet {
    lines_for(text, Legacy)
}

fn lines_for(text: &str, format: Format) -> KeySet {
    KeySet {
        kind: Kind::Lines(Arc::new(
            file::read_lines(text.as_bytes(), "-".as_ref(), format, LineEnd::LfOrCrLf).unwrap(),
        )),
        spec: KeySpec::Stdin,
        zipf: None,
    }
}

fn take(stream: &mut Stream, count: usize) -> Vec<String> {
    (0..count)
        .map(|_| String::from_utf8(stream.next_key().to_vec()).unwrap())
        .collect()
}

#[test]
fn names_survive_the_round_trip() {
    for text in [
        "uniform:7",
        "zipf:1.1:1000",
        "sequential:3",
        "file:a:b",
        "-",
    ] {
        assert_eq!(text.parse::<KeySpec>().unwrap().to_string(), text);
    }
    assert_eq!("uniform:1_000".parse(), Ok(KeySpec::Uniform { keys: 1000 }));
}

#[test]
fn what_names_no_keys_is_refused() {
    use KeySpecError::{Form, Keys, Zipf};
    for (text, error) in [
        ("", Form),
        ("normal:3", Form),
        ("uniform", Form),
        ("file:", Form),
        ("zipf:1", Form),
        ("uniform:0", Keys),
        ("uniform:-1", Keys),
        ("sequential:x", Keys),
        ("zipf:-1:5", Zipf),
        ("zipf:NaN:5", Zipf),
        ("zipf:inf:5", Zipf),
        ("zipf:1:99999999999999999", Zipf),
    ] {
        assert_eq!(text.parse::<KeySpec>(), Err(error), "{text}");
    }
}

#[test]
fn digits_are_those_of_the_standard_library() {
    let mut number = 1u64;
    for _ in 0..10_000 {
        number = number.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(7);
        let number = number >> (number % 64);
        let text = String::from_utf8(hexadecimal(number).to_vec()).unwrap();
        assert_eq!(text, format!("{number:016x}"));
        assert_eq!(digits(number), format!("{number:x}").len());
    }
    assert_eq!(hexadecimal(u64::MAX), *b"ffffffffffffffff");
    assert_eq!((digits(0), digits(15), digits(16)), (1, 1, 2));
}

#[test]
fn made_keys_have_their_length_and_prefix() {
    let spec = KeySpec::Sequential { keys: 300 };
    let keys = KeySet::open(&spec, 6, "ab-", Legacy).unwrap();
    assert_eq!(keys.key(299), b"ab-12b");
    assert_eq!(take(&mut keys.stream(0, 0, 1), 2), ["ab-000", "ab-001"]);
    let long = KeySet::open(&spec, 20, "x", Legacy).unwrap();
    assert_eq!(long.key(18), b"x0000000000000000012");
    for (format, bytes) in [(Legacy, 139), (Compact, 1024)] {
        let longest = KeySet::open(&spec, bytes, "x", format).unwrap();
        let key = longest.key(18);
        assert_eq!(key.len(), bytes);
        assert!(key.starts_with(b"x00") && key.ends_with(b"012"), "{key:?}");
        assert_eq!(longest.stream(0, 0, 1).next_key(), longest.key(0));
    }
}

#[test]
fn keys_that_cannot_all_differ_are_refused() {
    let spec = KeySpec::Uniform { keys: 257 };
    let error = KeySet::open(&spec, 4, "ab", Legacy).unwrap_err();
    assert!(
        matches!(error, KeysError::TooShort { needed: 5, .. }),
        "{error}"
    );
    let spec = KeySpec::Uniform { keys: 256 };
    assert!(KeySet::open(&spec, 4, "ab", Legacy).is_ok());
    for (format, bytes, hint) in [
        (Legacy, 140, "or --format compact"),
        (Compact, 1025, "at most 1024"),
    ] {
        let error = KeySet::open(&spec, bytes, "", format).unwrap_err();
        assert!(matches!(error, KeysError::TooLong { .. }), "{error}");
        assert!(error.to_string().contains(hint), "{error}");
    }
}

#[test]
fn the_same_seed_is_the_same_stream() {
    for spec in [
        "uniform:1000",
        "zipf:1.1:1000",
        "zipf:1.1:20000000",
        "sequential:1000",
    ] {
        let keys = set(spec);
        let first = take(&mut keys.stream(7, 1, 2), 500);
        assert_eq!(first, take(&mut keys.stream(7, 1, 2), 500), "{spec}");
        assert_ne!(first, take(&mut keys.stream(7, 0, 2), 500), "{spec}");
    }
    let uniform = set("uniform:1000");
    let other_seed = take(&mut uniform.stream(8, 0, 1), 500);
    assert_ne!(take(&mut uniform.stream(7, 0, 1), 500), other_seed);
}

/// Records are compared across releases, so a stream must not change under its seed.
#[test]
fn streams_are_what_they_were() {
    let numbers = |spec: &str| {
        let mut stream = set(spec).stream(1, 0, 1);
        [(); 4].map(|()| stream.next_number())
    };
    assert_eq!(numbers("sequential:3"), [0, 1, 2, 0]);
    assert_eq!(numbers("uniform:1000000"), GOLDEN_UNIFORM);
    assert_eq!(numbers("zipf:1.1:1000000"), GOLDEN_ZIPF);
    assert_eq!(numbers("zipf:1.1:20000000"), GOLDEN_LARGE_ZIPF);
}
const GOLDEN_UNIFORM: [u64; 4] = [811_612, 747_104, 100_150, 746_216];
const GOLDEN_ZIPF: [u64; 4] = [627, 251, 0, 248];
const GOLDEN_LARGE_ZIPF: [u64; 4] = [28_660, 0, 2, 10_711_524];

#[test]
fn parts_deal_the_sequence_out() {
    let keys = set("sequential:5");
    let mut all: Vec<_> = (0..3)
        .flat_map(|part| {
            let mut stream = keys.stream(0, part, 3);
            [(); 5].map(|()| stream.next_number())
        })
        .collect();
    all.sort_unstable();
    // These are 15 keys of a sequence of 5: each comes three times.
    assert_eq!(all, [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4]);
    // There are more parts than keys.
    assert_eq!(keys.stream(0, 7, 9).next_number(), 2);
}

#[test]
fn zipf_is_zipf() {
    let exponent = 1.2f64;
    let keys = 100u64;
    let mut stream = set(&format!("zipf:{exponent}:{keys}")).stream(3, 0, 1);
    let draws = 200_000;
    let mut counts: HashMap<u64, u64> = HashMap::new();
    for _ in 0..draws {
        *counts.entry(stream.next_number()).or_default() += 1;
    }
    assert!(counts.keys().all(|&number| number < keys));
    let total: f64 = (1..=keys).map(|rank| (rank as f64).powf(-exponent)).sum();
    for rank in [1, 2, 3, 10, 50] {
        let expected = draws as f64 * (rank as f64).powf(-exponent) / total;
        let seen = counts[&(rank - 1)] as f64;
        // The limit is five standard deviations; the seed is fixed.
        assert!(
            (seen - expected).abs() < 5.0 * expected.sqrt(),
            "rank {rank}: {seen}, expected {expected}"
        );
    }
}

#[test]
fn a_file_is_replayed_line_by_line() {
    let keys = lines("b\na\r\n\nb\nc");
    assert_eq!(keys.distinct(), 3);
    assert_eq!(
        take(&mut keys.stream(0, 0, 1), 6),
        ["b", "a", "b", "c", "b", "a"]
    );
    assert_eq!(keys.hottest(1), [0]);
    assert_eq!(keys.key(0), b"b");
    assert_eq!(keys.cut(), 0);
}

#[test]
fn long_lines_are_cut_as_on_the_wire() {
    let long = "x".repeat(200);
    let cut = "x".repeat(139);
    let keys = lines(&format!("{long}\n{cut}\n"));
    assert_eq!((keys.distinct(), keys.cut()), (1, 1));
    assert_eq!(take(&mut keys.stream(0, 0, 1), 1), [cut]);
}

#[test]
fn compact_keys_are_whole_lines_or_refused() {
    let (long, longest) = ("x".repeat(200), "y".repeat(1024));
    let keys = lines_for(&format!("{long}\nz\n{longest}\n"), Compact);
    assert_eq!((keys.distinct(), keys.cut()), (3, 0));
    assert_eq!(keys.key_bytes_range(), (1, 1024));
    assert_eq!(
        take(&mut keys.stream(0, 0, 1), 3),
        [long, "z".to_owned(), longest]
    );
    let text = format!("a\n\n{}\n", "x".repeat(1025));
    let error =
        file::read_lines(text.as_bytes(), "keys.txt".as_ref(), Compact, LineEnd::Lf).unwrap_err();
    let said = error.to_string();
    assert!(said.contains("line 3 of keys.txt has 1025 bytes"), "{said}");
}

#[test]
fn files_without_keys_are_refused() {
    for text in ["", "\n\r\n\n"] {
        let error = file::read_lines(
            text.as_bytes(),
            "keys.txt".as_ref(),
            Legacy,
            LineEnd::LfOrCrLf,
        )
        .unwrap_err();
        assert!(matches!(error, KeysError::Empty { .. }), "{error}");
        assert!(error.to_string().contains("keys.txt"));
    }
    let error = file::read_file("/does/not/exist".as_ref(), Legacy, LineEnd::Lf).unwrap_err();
    assert!(matches!(error, KeysError::Read { .. }), "{error}");
}

/// The lines of an input, one by one.
fn naive(input: &[u8], line_end: LineEnd) -> Vec<Vec<u8>> {
    let mut lines = vec![Vec::new()];
    for &byte in input {
        match byte {
            b'\n' => lines.push(Vec::new()),
            _ => lines.last_mut().unwrap().push(byte),
        }
    }
    for line in &mut lines {
        if line_end == LineEnd::LfOrCrLf && line.last() == Some(&b'\r') {
            line.pop();
        }
    }
    lines.retain(|line| !line.is_empty());
    lines
}

#[test]
fn lines_are_what_a_naive_splitter_finds() {
    let pieces = [&b"\n"[..], b"\r\n", b"\r", b"a", b"\xff\0", b"key"];
    for seed in 0..2_000 {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
        let pieces = (0..rng.next_u64() % 20).map(|_| pieces[(rng.next_u64() % 6) as usize]);
        let input = pieces.collect::<Vec<_>>().concat();
        for line_end in [LineEnd::LfOrCrLf, LineEnd::Lf] {
            let expected = naive(&input, line_end);
            let read = file::read_lines(&input[..], "-".as_ref(), Compact, line_end);
            let Ok(lines) = read else {
                assert!(expected.is_empty(), "seed {seed}");
                continue;
            };
            let found = (0..lines.entries()).map(|entry| lines.key(lines.number(entry)));
            assert!(found.eq(expected.iter().map(Vec::as_slice)), "seed {seed}");
        }
    }
}

#[test]
fn made_keys_have_no_cr_to_keep() {
    let spec = "uniform:9".parse().unwrap();
    let error = KeySet::open_with(&spec, 16, "", Legacy, LineEnd::Lf).unwrap_err();
    let said = error.to_string();
    assert!(
        said.contains("keys of uniform:9") && said.contains("--keep-cr"),
        "{said}"
    );
}
