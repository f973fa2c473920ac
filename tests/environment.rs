//! Tests of every variable of every program: an empty one counts as unset, and an error names a wrong one.

#![allow(missing_docs, clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use clap::CommandFactory;
use rmbd::cli::Cli;

/// An address that is not ours. A node with it reports that and ends, once it has understood everything else.
const NOT_OURS: &str = "192.0.2.1:0";

/// The program without the variables of our own environment.
fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rmbd"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("RMBD_") {
            command.env_remove(name);
        }
    }
    command
}

/// A command line for the program and for each of its commands, which gets as far as it can without a server, with
/// the variables that are read for it.
fn lines() -> Vec<(Vec<&'static str>, BTreeSet<String>)> {
    let cli = Cli::command();
    let variables = |command: &clap::Command| -> BTreeSet<String> {
        let variables = command.get_arguments().filter_map(|arg| arg.get_env());
        variables
            .map(|name| name.to_str().unwrap().to_owned())
            .collect()
    };
    let dead = ["--server", "127.0.0.1:9", "--timeout-ms", "50"];
    let file = file("threads = 1\n");
    let mut lines = vec![(vec![NOT_OURS], variables(&cli))];
    for command in cli.get_subcommands() {
        for inner in command.get_subcommands() {
            let line = match (command.get_name(), inner.get_name()) {
                ("config", "show") => vec!["config", "show", NOT_OURS],
                ("limits", "show") => vec!["limits", "show", "--config", file],
                ("limits", "denied") => [&["limits", "denied", "api"][..], &dead].concat(),
                ("snapshot", "show") => vec!["snapshot", "show", file],
                ("snapshot", "now") => [&["snapshot", "now"][..], &dead].concat(),
                (_, "check") => vec![command.get_name(), "check", file],
                other => panic!("a command without a line here: {other:?}"),
            };
            let line = line.into_iter().map(|word| &*word.to_owned().leak());
            lines.push((line.collect(), variables(inner)));
        }
        if command.has_subcommands() {
            continue;
        }
        let mut line = match command.get_name() {
            "add" => vec!["add", "key"],
            "completions" => vec!["completions", "bash"],
            "count" => vec!["count", "key"],
            "demo" => vec!["demo", "--for", "1ms"],
            "hit" => vec!["hit", "key", "--limit", "1"],
            "keygen" => vec!["keygen"],
            "man" => vec!["man", concat!(env!("CARGO_TARGET_TMPDIR"), "/man")],
            "members" => vec!["members"],
            "pardon" => vec!["pardon", "key", "--limit-name", "api", "--for", "1h"],
            "peer" => vec!["peer", "127.0.0.1:9"],
            "size" => vec![
                "size", "--events", "100M/day", "--error", "50", "--window", "60s",
            ],
            "sketches" => vec!["sketches"],
            "status" => vec!["status"],
            "top" => vec!["top"],
            other => panic!("a command without a line here: {other}"),
        };
        let asks_nobody = ["completions", "demo", "keygen", "man", "size"];
        if !asks_nobody.contains(&command.get_name()) {
            line.extend(dead);
        }
        lines.push((line, variables(command)));
    }
    assert!(
        lines
            .iter()
            .map(|(_, variables)| variables.len())
            .sum::<usize>()
            > 45
    );
    lines
}

/// The path of a file with this text, which stays until the tests are built anew.
fn file(text: &str) -> &'static str {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let name = format!("environment-{}.toml", NUMBER.fetch_add(1, Relaxed));
    let path = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, text).unwrap();
    path.into_os_string().into_string().unwrap().leak()
}

fn run(line: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = program();
    command.args(line).envs(variables.iter().copied());
    command.output().unwrap()
}

fn stderr(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    // Log lines of a node contain the time.
    let is_log = |line: &&str| line.contains(" WARN ") || line.contains(" INFO ");
    text.lines()
        .filter(|line| !is_log(line))
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn an_empty_variable_is_an_unset_one() {
    for (line, variables) in lines() {
        let unset = run(&line, &[]);
        assert_ne!(unset.status.code(), Some(2), "{line:?}: {}", stderr(&unset));
        let same = |set: &[(&str, &str)]| {
            let output = run(&line, set);
            let code = output.status.code();
            assert_eq!(code, unset.status.code(), "{line:?} {set:?}");
            // The error of a missing server, and its time, differ.
            if line == [NOT_OURS] {
                assert_eq!(stderr(&output), stderr(&unset), "{set:?}");
            }
        };
        for name in &variables {
            same(&[(name, "")]);
        }
        let all: Vec<(&str, &str)> = variables.iter().map(|name| (name.as_str(), "")).collect();
        same(&all);
    }
    // The default is used, since the line does not give the option either.
    let help = run(&["--help"], &[("RMBD_JOIN", ""), ("RMBD_THREADS", "")]);
    let help = String::from_utf8(help.stdout).unwrap();
    assert!(
        help.contains("RMBD_JOIN=") && help.contains("RMBD_THREADS="),
        "{help}"
    );
    let required = run(&["hit", "key"], &[("RMBD_LIMIT", "")]);
    assert!(
        stderr(&required).contains("--limit"),
        "{}",
        stderr(&required)
    );
}

/// Values that mean nothing. For each variable the first one counts that its option refuses.
const WRONG: [&str; 4] = ["no such thing", "-1", "http://", "=;="];

#[test]
fn a_wrong_variable_is_named() {
    // Any text is a valid path. A file that is not there is another test's.
    let paths = [
        "RMBD_DATA_DIR",
        "RMBD_CLUSTER_KEY_FILE",
        "RMBD_RESP_PASSWORD_FILE",
        "RMBD_HTTP_TOKEN_FILE",
        "RMBD_OUTPUT",
        "RMBD_CONFIG",
    ];
    let mut refused = BTreeSet::new();
    for (line, variables) in lines() {
        for name in &variables {
            // The line takes precedence, and the variable is not read then.
            let option = format!(
                "--{}",
                name["RMBD_".len()..].to_lowercase().replace('_', "-")
            );
            let line: Vec<&str> = without_option(&line, &option);
            if paths.contains(&name.as_str()) {
                continue;
            }
            for value in WRONG {
                let output = run(&line, &[(name, value)]);
                if output.status.code() == Some(2) {
                    let text = stderr(&output);
                    let first = text.lines().next().unwrap();
                    assert!(first.contains(name), "{line:?} {name}={value}: {text}");
                    refused.insert((line[0].to_owned(), name.clone()));
                    break;
                }
            }
            assert!(
                refused.contains(&(line[0].to_owned(), name.clone())),
                "{line:?}: {name} takes anything"
            );
        }
    }
}

/// The line without this option, or without the address.
fn without_option<'a>(line: &[&'a str], option: &str) -> Vec<&'a str> {
    if option == "--address" {
        return vec!["--threads", "1"];
    }
    match line.iter().position(|word| *word == option) {
        Some(at) => [&line[..at], &line[at + 2..]].concat(),
        None => line.to_vec(),
    }
}

/// Flags, over variables, over the file, over defaults, for one option; what each level says is in force where the
/// levels above it say nothing.
#[test]
fn levels_take_precedence_over_each_other() {
    let file = file("threads = 3\n");
    for bits in 0..8 {
        let (has_flag, has_variable, has_file) = (bits & 4 != 0, bits & 2 != 0, bits & 1 != 0);
        let mut line = vec!["config", "show", "--json"];
        line.extend(
            [["--threads", "1"], ["--config", file]]
                .concat()
                .chunks(2)
                .zip([has_flag, has_file])
                .filter(|(_, has)| *has)
                .flat_map(|(words, _)| words.to_vec()),
        );
        let set: &[(&str, &str)] = if has_variable {
            &[("RMBD_THREADS", "2")]
        } else {
            &[]
        };
        let output = run(&line, set);
        let shown: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let threads = &shown["settings"]["threads"];
        let of_file = format!("{file}:1:1");
        let (value, from) = match (has_flag, has_variable, has_file) {
            (true, ..) => (1.into(), "flag"),
            (_, true, _) => (2.into(), "RMBD_THREADS"),
            (.., true) => (3.into(), &*of_file),
            _ => (serde_json::Value::Null, "default"),
        };
        assert_eq!(
            (&threads["value"], threads["from"].as_str()),
            (&value, Some(from)),
            "{line:?} {set:?}"
        );
    }
}

/// What a higher level contradicts does not count.
#[test]
fn a_level_wins_over_what_it_contradicts_below() {
    let size = file("width = 5\ndepth = 3\n");
    let error = [("RMBD_EPSILON", "0.1"), ("RMBD_CONFIDENCE", "0.9")];
    let with_file = [("RMBD_CONFIG", size)];
    let of_default = [("RMBD_SKETCH", "name=default,width=64,windows=none")];
    type Case<'a> = (&'a [&'a str], &'a [(&'a str, &'a str)], u64);
    let cases: &[Case] = &[
        (&[], &[error[0], error[1], with_file[0]], 28),
        (&["-x", "7"], &error, 7),
        (&["-x", "7"], &[error[0], error[1], with_file[0]], 7),
        (
            &["--compat"],
            &[("RMBD_WIDTH", "5"), ("RMBD_SEED", "5")],
            100,
        ),
        (&["-x", "5"], &[("RMBD_COMPAT", "yes")], 5),
        (&[], &[of_default[0], with_file[0]], 64),
        (
            &["--config", size, "--sketch", "name=default,width=6"],
            &[("RMBD_WIDTH", "7")],
            6,
        ),
    ];
    for (words, set, width) in cases {
        let line = [&["config", "show", "--json"], *words].concat();
        let output = run(&line, set);
        assert_eq!(
            output.status.code(),
            Some(0),
            "{line:?} {set:?} {}",
            stderr(&output)
        );
        let shown: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(
            shown["settings"]["width"]["value"], *width,
            "{line:?} {set:?}"
        );
    }
}

#[test]
fn a_file_at_fault_is_named() {
    let wrong = file("depth = 4\nthreads = 0\n");
    let half = file("epsilon = 0.1\n");
    let cases: &[Contradiction] = &[
        (
            &[NOT_OURS],
            &[("RMBD_CONFIG", "/nowhere")],
            &["/nowhere: No such file", "; set by RMBD_CONFIG"],
        ),
        (
            &[NOT_OURS, "--config", wrong],
            &[],
            &["set by `threads` at", ":2:1"],
        ),
        (
            &[NOT_OURS],
            &[("RMBD_CONFIG", wrong)],
            &["set by `threads` at", ":2:1"],
        ),
        (
            &[NOT_OURS, "--config", half],
            &[],
            &["set by `epsilon` at", ":1:1"],
        ),
        (
            &["config", "show", "--config", wrong],
            &[],
            &["set by `threads` at", ":2:1"],
        ),
        (
            &[NOT_OURS],
            &[("RMBD_SKETCH", "name=a;name=b,width=x")],
            &["set by RMBD_SKETCH"],
        ),
        (
            &[NOT_OURS],
            &[("RMBD_SKETCH", "name=a;name=a")],
            &["set by RMBD_SKETCH"],
        ),
        (
            &[NOT_OURS, "-x", "5"],
            &[("RMBD_SKETCH", "name=default,width=6")],
            &["given twice", "set by RMBD_SKETCH"],
        ),
    ];
    for (line, set, told) in cases {
        let output = run(line, set);
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{line:?} {set:?}: {text}");
        let first = text.lines().next().unwrap();
        assert!(
            told.iter().all(|told| first.contains(told)),
            "{line:?} {set:?}: {text}"
        );
    }
    // What a higher level gives is not at fault in the file.
    let output = run(&[NOT_OURS, "--threads", "1", "--config", wrong], &[]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    for command in ["config", "limits"] {
        let output = run(&[command, "check", wrong], &[("RMBD_THREADS", "1")]);
        assert_eq!(output.status.code(), Some(1), "a file is checked alone");
        assert!(
            stderr(&output).contains("`threads` at"),
            "{}",
            stderr(&output)
        );
    }
    let output = run(&["limits", "show"], &[("RMBD_CONFIG", "/nowhere")]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("/nowhere: No such file"));
}

/// A line, its environment, and the variables that the error names.
type Contradiction<'a> = (&'a [&'a str], &'a [(&'a str, &'a str)], &'a [&'a str]);

#[test]
fn what_only_contradicts_something_is_named_too() {
    let cases: &[Contradiction] = &[
        (&[NOT_OURS], &[("RMBD_EPSILON", "0.1")], &["RMBD_EPSILON"]),
        (&[NOT_OURS], &[("RMBD_WIDTH", "0")], &["RMBD_WIDTH"]),
        (&[NOT_OURS], &[("RMBD_LOG", "=;=")], &["RMBD_LOG"]),
        (
            &[NOT_OURS],
            &[("RMBD_RESP_PASSWORD_FILE", "/nowhere")],
            &["RMBD_RESP_PASSWORD_FILE"],
        ),
        (
            &[NOT_OURS],
            &[("RMBD_CLUSTER", "off"), ("RMBD_JOIN", "a:1")],
            &["RMBD_CLUSTER", "RMBD_JOIN"],
        ),
        (
            &[NOT_OURS],
            &[("RMBD_COMPAT", "1"), ("RMBD_SEED", "1")],
            &["RMBD_COMPAT", "RMBD_SEED"],
        ),
        (
            &["count", "k", "--detail"],
            &[("RMBD_BOUNDS", "yes")],
            &["RMBD_BOUNDS"],
        ),
        (
            &["count", "k"],
            &[("RMBD_DETAIL", "1"), ("RMBD_BOUNDS", "1")],
            &["RMBD_DETAIL", "RMBD_BOUNDS"],
        ),
    ];
    for (line, set, names) in cases {
        let output = run(line, set);
        assert_eq!(
            output.status.code(),
            Some(2),
            "{line:?} {set:?}: {}",
            stderr(&output)
        );
        let text = stderr(&output);
        let first = text.lines().next().unwrap();
        assert!(
            names.iter().all(|name| first.contains(name)),
            "{line:?} {set:?}: {text}"
        );
    }
    // The error blames no variable for what the line says.
    let output = run(
        &["--threads", "0"],
        &[("RMBD_IO", "mmsg"), ("RMBD_THREADS", "2")],
    );
    assert!(!stderr(&output).contains("set by"), "{}", stderr(&output));
}

#[test]
fn a_value_that_is_no_text_is_named() {
    use std::os::unix::ffi::OsStrExt;
    let value = std::ffi::OsStr::from_bytes(b"\xff");
    for name in [
        "RMBD_THREADS",
        "RMBD_ADDRESS",
        "RMBD_JOIN",
        "RMBD_IO",
        "RMBD_COMPAT",
    ] {
        let output = program()
            .arg("--depth=4")
            .env(name, value)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2), "{name}");
        assert!(
            stderr(&output).contains(name),
            "{name}: {}",
            stderr(&output)
        );
    }
}
