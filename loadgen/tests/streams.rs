//! What goes to streams that fail or block: the load is run and its results are written all the same.

#![allow(missing_docs, clippy::unwrap_used)]

use std::path::PathBuf;
use std::process::Stdio;

use rmbd_testkit::streams::{BOTH, BROKEN, Kind, Running, Which};

const PROGRAM: &str = env!("CARGO_BIN_EXE_loadgen");
/// Somebody who read a pipe has gone: 128 + SIGPIPE.
const READER_GONE: i32 = 141;

/// What is run, its exit code where all is well, and a part of what it prints to standard output.
type Case = (&'static [&'static str], i32, &'static str);

const LOAD: &[&str] = &[
    "--flood",
    "--messages",
    "2000",
    "--duration",
    "1s",
    "--warmup",
    "0s",
    "--node-width",
    "4096",
    "--keys",
    "uniform:1000",
];
const CASES: &[Case] = &[
    (LOAD, 0, "adds"),
    (&["ceiling", "--duration", "20ms"], 0, "/s"),
    (&["--help"], 0, "Usage"),
    (&["--version"], 0, "loadgen"),
    (&["--rate", "x"], 2, ""),
    (&["--server", "127.0.0.1:9"], 2, ""),
    (&["versus", "redis://"], 1, ""),
];

/// Where a load's record goes.
fn record(number: usize, which: Which, kind: Kind) -> PathBuf {
    let name = format!(
        "loadgen-streams-{}-{number}-{which:?}-{kind:?}.json",
        std::process::id()
    );
    std::env::temp_dir().join(name)
}

fn run(number: usize, which: Which, kind: Kind) {
    let (words, code, output) = CASES[number];
    let case = format!("{words:?} {which:?} {kind:?}");
    let record = record(number, which, kind);
    let mut words = words.to_vec();
    let is_load = number == 0;
    if is_load {
        words.extend(["--json", record.to_str().unwrap()]);
    }
    let mut running = Running::start(PROGRAM, &words, which, kind, Stdio::null());
    let late = match (which, kind) {
        // A result waits for its reader, as everywhere.
        (Which::Out, Kind::Stuck) => Some(running.read_stuck()),
        _ => None,
    };
    let ended = running.wait(&case).code();
    let (printed, error) = (late.unwrap_or_else(|| running.output()), running.error());
    let is_lost = which == Which::Out && !output.is_empty();
    let expected = match kind {
        Kind::Full if is_lost => 1,
        Kind::Gone if is_lost => READER_GONE,
        _ => code,
    };
    assert_eq!(ended, Some(expected), "{case}: {printed}{error}");
    assert!(!error.contains("panicked"), "{case}: {error}");
    if which == Which::Err || kind == Kind::Stuck {
        assert!(printed.contains(output), "{case}: {printed}");
    }
    let is_said =
        error.contains("cannot print the result") || error.contains("cannot write the result");
    assert_eq!(is_said, is_lost && kind == Kind::Full, "{case}: {error}");
    if is_load {
        let text = std::fs::read_to_string(&record).unwrap();
        std::fs::remove_file(&record).unwrap();
        assert!(
            text.trim_end().ends_with('}'),
            "{case}: the record is written"
        );
    }
}

#[test]
fn loads_are_run_and_recorded_whatever_the_streams_are() {
    // One of a kind at a time: more would flood the machine.
    for number in 0..CASES.len() {
        for which in BOTH {
            for kind in BROKEN {
                run(number, which, kind);
            }
        }
    }
}
