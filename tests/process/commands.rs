//! Tests of every command with a standard output or standard error that fails or blocks.

use std::io::Write;
use std::net::UdpSocket;
use std::process::Stdio;

use rmbd::config::NodeConfig;
use rmbd::node::Node;
use rmbd_sketch::Geometry;

use crate::nodes::PROGRAM;
use rmbd_testkit::streams::{BOTH, BROKEN, Kind, Running, Which};

/// The exit code if the reader of a pipe has gone: 128 + SIGPIPE.
const READER_GONE: i32 = 141;

/// A command, and what it does if all is well.
struct Command {
    words: &'static [&'static str],
    /// The lines of standard input.
    input: Option<&'static str>,
    /// The server that the command is told: `HERE`, `NOWHERE`, or none.
    server: Option<bool>,
    code: i32,
    /// A part of the output on standard output; empty if there is none.
    output: &'static str,
    /// The weight that the command adds.
    adds: u64,
}

const HERE: Option<bool> = Some(true);
const NOWHERE: Option<bool> = Some(false);

const fn command(
    words: &'static [&'static str],
    server: Option<bool>,
    code: i32,
    output: &'static str,
) -> Command {
    Command {
        words,
        input: None,
        server,
        code,
        output,
        adds: 0,
    }
}

const COMMANDS: &[Command] = &[
    Command {
        adds: 6,
        ..command(&["add", "a", "b", "-n", "3"], HERE, 0, "")
    },
    Command {
        input: Some("a\nb\nc\n"),
        adds: 3,
        ..command(&["add", "-"], HERE, 0, "")
    },
    command(
        &["size", "--events", "1M", "--error", "10"],
        None,
        0,
        "config     sketch = [",
    ),
    command(&["count", "z"], HERE, 0, "0\tz\n"),
    command(&["count", "z", "--bounds"], HERE, 0, "\tz\n"),
    command(&["count", "z", "--json"], HERE, 0, "\"z\""),
    command(&["count", "z", "--detail"], HERE, 0, "0\tz\n"),
    Command {
        input: Some("z\n"),
        ..command(&["count", "-"], HERE, 0, "0\tz\n")
    },
    Command {
        adds: 1,
        ..command(&["hit", "h", "--limit", "1000000"], HERE, 0, "h: ")
    },
    Command {
        adds: 1,
        ..command(&["hit", "h", "--limit", "0"], HERE, 3, "h: ")
    },
    Command {
        input: Some("h\nh\n"),
        adds: 2,
        ..command(&["hit", "-", "--limit", "0"], HERE, 3, "in all, over")
    },
    Command {
        adds: 1,
        ..command(
            &["hit", "h", "--limit", "1000000/60s", "--json"],
            HERE,
            0,
            "\"within\"",
        )
    },
    command(&["sketches"], HERE, 0, "default  0"),
    command(&["sketches", "--json"], HERE, 0, "span_ms"),
    command(&["members"], HERE, 0, "asked"),
    command(&["status"], HERE, 0, "total weight"),
    command(&["status", "--json"], HERE, 0, "total_weight"),
    command(&["keygen"], None, 0, "A key of an rmbd cluster"),
    command(
        &["keygen", "--token"],
        None,
        0,
        "A token of rmbd's HTTP API",
    ),
    command(&["config", "show"], None, 0, "default"),
    command(&["config", "show", "--json"], None, 0, "settings"),
    command(
        &["config", "check", "/dev/null"],
        None,
        0,
        "sketch     default",
    ),
    command(&["limits", "check", "/dev/null"], None, 0, "LIMIT"),
    command(
        &["limits", "show", "--config", "/dev/null", "--json"],
        None,
        0,
        "[]",
    ),
    command(&["limits", "denied"], HERE, 0, "no limits: "),
    command(
        &["limits", "check", "tests/data/rules/right.yaml"],
        None,
        0,
        "domain shop, 2 rules",
    ),
    command(
        &["limits", "show", "tests/data/rules/right.yaml"],
        None,
        0,
        "shop.path_/buy*.user",
    ),
    command(&["--help"], None, 0, "Usage"),
    command(&["--version"], None, 0, "rmbd"),
    command(&["add", "--help"], None, 0, "Usage"),
    // These print to standard error.
    command(&["peer", "127.0.0.1:0"], NOWHERE, 2, ""),
    command(
        &["peer", "127.0.0.1:9", "--timeout-ms", "30"],
        NOWHERE,
        1,
        "",
    ),
    command(&["count"], None, 2, ""),
    command(&["hit", "h"], NOWHERE, 2, ""),
    command(&["hit", "h", "--limit", "1,2"], NOWHERE, 2, ""),
    command(&["hit", "h", "--limit", "1"], NOWHERE, 1, ""),
    command(&["hit", "h", "--limit-name", "none"], HERE, 1, ""),
    command(&["count", "z", "--window", "7ms"], HERE, 1, ""),
    command(&["add", "z", "--sketch", "none"], HERE, 1, ""),
    command(&["pardon", "h"], NOWHERE, 2, ""),
    command(
        &["pardon", "h", "--limit-name", "none", "--for", "1h"],
        HERE,
        1,
        "",
    ),
    command(&["sketches"], NOWHERE, 1, ""),
    command(&["no-command"], None, 2, ""),
    command(&["count", "a"], NOWHERE, 1, ""),
    command(&["add", "a"], NOWHERE, 1, ""),
    command(&["keygen", "-o", "/dev/null"], None, 1, ""),
    command(&["-x", "0"], None, 2, ""),
    command(&["--config", "/nowhere"], None, 2, ""),
    command(&["config", "check", "/nowhere"], None, 1, ""),
    command(&["limits", "show", "tests/data/rules"], None, 2, ""),
    command(&["limits", "check", "/nowhere.yaml"], None, 2, ""),
    command(&["--log", "a=b=c"], None, 2, ""),
    command(&["192.0.2.1:8000"], None, 1, ""),
];

/// The servers behind the ports that commands are told.
struct Servers {
    here: String,
    nowhere: String,
}

fn run(command: &Command, servers: &Servers, which: Which, kind: Kind) {
    let case = format!("{:?} {which:?} {kind:?}", command.words);
    let mut words = command.words.to_vec();
    if let Some(is_here) = command.server {
        let server = if is_here {
            &servers.here
        } else {
            &servers.nowhere
        };
        words.extend(["--server", server]);
    }
    let input = command.input.map_or_else(Stdio::null, |_| Stdio::piped());
    let mut running = Running::start(PROGRAM, &words, which, kind, input);
    if let (Some(mut stdin), Some(lines)) = (running.child.stdin.take(), command.input) {
        // The command may have ended already.
        let _ = stdin.write_all(lines.as_bytes());
    }
    let late = match (which, kind) {
        // A result waits for its reader, as everywhere.
        (Which::Out, Kind::Stuck) => Some(running.read_stuck()),
        _ => None,
    };
    let code = running.wait(&case).code();
    let (output, error) = (late.unwrap_or_else(|| running.output()), running.error());
    assert_eq!(
        code,
        Some(expected_code(command, which, kind)),
        "{case}: {error}"
    );
    assert!(!error.contains("panicked"), "{case}: {error}");
    let is_read = which == Which::Err || kind == Kind::Stuck || kind == Kind::Read;
    if is_read {
        assert!(output.contains(command.output), "{case}: {output}");
        assert_eq!(
            output.is_empty(),
            command.output.is_empty(),
            "{case}: {output}"
        );
    }
    if which == Which::Out && !command.output.is_empty() {
        let is_said = error.contains("cannot write the result: No space");
        assert_eq!(is_said, kind == Kind::Full, "{case}: {error}");
        assert!(kind == Kind::Full || error.is_empty(), "{case}: {error}");
    }
}

fn expected_code(command: &Command, which: Which, kind: Kind) -> i32 {
    let is_lost = which == Which::Out && !command.output.is_empty();
    match kind {
        Kind::Full if is_lost => 1,
        // The answer of a hit is its exit code.
        Kind::Gone if is_lost && command.words[0] != "hit" => READER_GONE,
        _ => command.code,
    }
}

/// For every command and every kind of either stream: the command does once what it was told to do, and its exit code
/// is right.
#[test]
fn commands_do_what_they_are_told_whatever_their_streams_are() {
    let node = Node::start(NodeConfig {
        geometry: Geometry::new(1 << 12, 4).unwrap(),
        threads: Some(1),
        ..NodeConfig::at("127.0.0.1:0")
    })
    .unwrap();
    // A socket that hears only itself holds the port, so that the kernel refuses everybody.
    let held = UdpSocket::bind("127.0.0.1:0").unwrap();
    held.connect(held.local_addr().unwrap()).unwrap();
    let servers = Servers {
        here: node.udp_addr().to_string(),
        nowhere: held.local_addr().unwrap().to_string(),
    };
    let mut kinds = vec![(Which::Out, Kind::Read)];
    kinds.extend(
        BOTH.iter()
            .flat_map(|&which| BROKEN.map(|kind| (which, kind))),
    );
    std::thread::scope(|scope| {
        for &(which, kind) in &kinds {
            let servers = &servers;
            scope.spawn(move || {
                for command in COMMANDS {
                    run(command, servers, which, kind);
                }
            });
        }
    });
    let adds: u64 = COMMANDS.iter().map(|command| command.adds).sum();
    assert_eq!(node.status().sketch.total_weight, adds * kinds.len() as u64);
}
