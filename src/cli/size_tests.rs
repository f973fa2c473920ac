//! Tests of `rmbd size`.
#![allow(clippy::unwrap_used)]

use clap::Parser;
use serde_json::Value;

use super::*;

/// The outcome of a command line: the results, or the error.
fn said(words: &[&str]) -> Result<String, String> {
    let words = ["rmbd", "size"].iter().chain(words);
    let cli = Cli::try_parse_from(words).map_err(|error| error.to_string())?;
    let command = cli.command.unwrap();
    command.check()?;
    let mut output = Vec::new();
    run(&command, Streams::to(&mut output)).unwrap();
    Ok(String::from_utf8(output).unwrap())
}

fn document(words: &[&str]) -> Value {
    let words = [words, &["--json", "--threads", "2"]].concat();
    serde_json::from_str(&said(&words).unwrap()).unwrap()
}

/// The answer for events in a time is that for as many as may be in an answer about the window.
#[test]
fn a_window_needs_what_its_events_need() {
    // 60 s by 5 s cover 70 s at most: 81 019 of 100 million a day.
    let window = document(&["--events", "100M/day", "--error", "50", "--window", "60s"]);
    let total = document(&["--events", "81019", "--error", "50"]);
    assert_eq!(window["weight"], 81_019.0);
    assert_eq!(window["width"], total["width"]);
    // e * 81 019 / 50 are 4 404.7 columns.
    assert_eq!(
        (window["width"].as_u64(), window["depth"].as_u64()),
        (Some(4_405), Some(4))
    );
    assert!(window["error"].as_f64().unwrap() <= 50.0);
    assert!(window["memory_bytes"].as_u64() > total["memory_bytes"].as_u64());
    for same in ["100M/1d", "100000k/day", "0.1G/24h", "1e8/day"] {
        let again = document(&["--events", same, "--error", "50", "--window", "60s"]);
        assert_eq!(again, window, "{same}");
    }
}

/// Every answer keeps what was asked for, and one column less would not.
#[test]
fn the_sketch_is_the_smallest_that_keeps_the_error() {
    for (events, count) in [("1M", 1e6), ("250M", 250e6), ("3G", 3e9)] {
        for error in ["10", "20", "1000"] {
            let answer = document(&["--events", events, "--error", error]);
            let width = answer["width"].as_f64().unwrap();
            let allowed: f64 = error.parse().unwrap();
            let error_at = |width: f64| std::f64::consts::E / width * count;
            assert!(error_at(width) <= allowed, "{events} {error}: {width}");
            let is_least = error_at(width - 1.0) > allowed || width == 1_024.0;
            assert!(is_least, "{events} {error}: {width}");
        }
    }
    let sure = document(&["--events", "1M", "--error", "20", "--confidence", "0.9999"]);
    assert_eq!(sure["depth"], 10);
}

/// The model gives the figures that it was made from, to 5 %.
#[test]
fn gossip_is_what_was_measured() {
    // Nodes, distinct keys a round on each, and bytes a round out of a node: benches/record/growth-2026-11-28.md.
    for (nodes, keys, bytes) in [
        (3, 0, 303.0),
        (10, 0, 505.0),
        (30, 0, 1_083.0),
        (100, 0, 3_245.0),
        (3, 100, 2_707.0),
        (10, 100, 11_673.0),
        (30, 100, 37_007.0),
        (100, 100, 125_862.0),
        (2, 10_000, 99_000.0),
    ] {
        let nodes_text = nodes.to_string();
        let mut words = vec!["--error", "1", "--nodes", &nodes_text];
        // Two rounds a second.
        let rate = format!("{}/s", 2 * keys * nodes);
        match keys {
            0 => words.extend(["--events", "1M"]),
            _ => words.extend(["--events", &rate, "--window", "60s"]),
        }
        let answer = document(&words);
        let a_round = answer["gossip_bytes_per_s"].as_f64().unwrap() / 2.0;
        assert!(
            (a_round / bytes - 1.0).abs() < 0.05,
            "{nodes} nodes, {keys} keys: {a_round} is not {bytes}"
        );
    }
    // One key is told once a round, however often it comes; a node alone tells nobody.
    let words = ["--events", "1M/s", "--error", "50", "--window", "60s"];
    let bytes = |more: &[&str]| {
        let answer = document(&[&words, more].concat());
        answer["gossip_bytes_per_s"].as_f64().unwrap()
    };
    assert!(bytes(&["--nodes", "3", "--keys", "1"]) < 1_000.0);
    assert!(bytes(&["--nodes", "3"]) > 1e6);
    assert_eq!(bytes(&[]), 0.0);
}

#[test]
fn what_cannot_be_is_refused_in_words() {
    for (words, wanted) in [
        ("--events 0 --error 50", "nothing to count"),
        ("--events 0.5 --error 50", "nothing to count"),
        ("--events many --error 50", "is no count"),
        ("--events nan --error 50", "is no count"),
        ("--events inf --error 50", "is no count"),
        ("--events -5 --error 50", "-5"),
        ("--events 1e300 --error 50", "more than 1000T"),
        (
            "--events 100M/fortnight --error 50 --window 60s",
            "is no time",
        ),
        ("--events 100M/0s --error 50 --window 60s", "is no time"),
        ("--events 100M --error 0", "below 1"),
        ("--events 100M --error 0.5", "below 1"),
        ("--events 100M --error x", "is no count"),
        (
            "--events 100M/day --error 50",
            "have no end: give a --window",
        ),
        (
            "--events 100T --error 1",
            "above the limit of 4294967296 cells",
        ),
        (
            "--events 100M --error 50 --confidence 1",
            "confidence must lie",
        ),
        (
            "--events 100M --error 50 --confidence 0",
            "confidence must lie",
        ),
        ("--events 100M/day --error 50 --window 1ms", "window"),
        ("--events 100M --error 50 --nodes 0", "--nodes"),
        ("--error 50", "--events"),
        ("--events 100M", "--error"),
    ] {
        let list: Vec<&str> = words.split(' ').collect();
        let error = said(&list).unwrap_err();
        assert!(error.contains(wanted), "{words}: {error}");
    }
}

/// What is printed for people has what the document has.
#[test]
fn the_text_says_all_of_the_document() {
    let words = [
        "--events",
        "100M/day",
        "--error",
        "50",
        "--window",
        "60s",
        "--nodes",
        "5",
        "--threads",
        "2",
    ];
    let (text, json) = (said(&words).unwrap(), document(&words[..8]));
    let config = json["config"].as_str().unwrap();
    for part in [
        config,
        "4x4405",
        "1157.4 a second",
        "81019",
        "of 4 nodes",
        "0.9817",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let beyond = said(&[
        "--events", "100M/s", "--error", "50", "--window", "60s", "--nodes", "5",
    ]);
    assert!(beyond.unwrap().contains("above --gossip-rate"));
}
