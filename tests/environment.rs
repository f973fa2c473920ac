//! Tests of every variable of every program: an empty one counts as unset, and an error names a wrong one.

#![allow(missing_docs, clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::process::{Command, Output};

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
    let mut lines = vec![(vec![NOT_OURS], variables(&cli))];
    for command in cli.get_subcommands() {
        let mut line = match command.get_name() {
            "add" => vec!["add", "key"],
            "count" => vec!["count", "key"],
            "hit" => vec!["hit", "key", "--limit", "1"],
            "keygen" => vec!["keygen"],
            "members" => vec!["members"],
            "peer" => vec!["peer", "127.0.0.1:9"],
            "status" => vec!["status"],
            other => panic!("a command without a line here: {other}"),
        };
        if command.get_name() != "keygen" {
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
    // Any text is a valid path.
    let paths = ["RMBD_DATA_DIR", "RMBD_CLUSTER_KEY_FILE", "RMBD_OUTPUT"];
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

/// A line, its environment, and the variables that the error names.
type Contradiction<'a> = (&'a [&'a str], &'a [(&'a str, &'a str)], &'a [&'a str]);

#[test]
fn what_only_contradicts_something_is_named_too() {
    let cases: &[Contradiction] = &[
        (&[NOT_OURS], &[("RMBD_EPSILON", "0.1")], &["RMBD_EPSILON"]),
        (&[NOT_OURS], &[("RMBD_WIDTH", "0")], &["RMBD_WIDTH"]),
        (&[NOT_OURS], &[("RMBD_LOG", "=;=")], &["RMBD_LOG"]),
        (
            &[NOT_OURS, "--cluster", "off"],
            &[("RMBD_JOIN", "a:1")],
            &["RMBD_JOIN"],
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
