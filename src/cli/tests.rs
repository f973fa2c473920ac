//! Tests of commands against a server that speaks the Python program's protocol and counts exactly, and of wrong
//! command lines.
//! typed wrong.
#![allow(clippy::unwrap_used)]

use std::collections::HashMap;
use std::net::TcpListener;
use std::thread::JoinHandle;
use std::time::Duration;

use clap::CommandFactory;

use super::keys::{Input, Next, Stop, for_each};
use super::sample::{order, status};
use super::*;
use crate::status::*;
use rmbd_client::legacy::{Client, ClientOptions};
use rmbd_testkit::legacy_server::{Fake, Fate, nobody};

/// Runs a command line. Returns its result, its output and its notes.
pub(super) fn run_with(
    words: &[&str],
    server: impl fmt::Display,
    input: impl Read,
) -> (Result<(), CliError>, String, String) {
    let mut legacy = words.to_vec();
    if matches!(words[0], "add" | "count") {
        legacy.push("--legacy");
    }
    let (result, output, notes) = run_compact(&legacy, server, input);
    (
        result.map(|done| assert_eq!(done, Done::AsAsked)),
        output,
        notes,
    )
}

/// Runs a command line in the protocol that the server speaks.
pub(super) fn run_compact(
    words: &[&str],
    server: impl fmt::Display,
    input: impl Read,
) -> (Result<Done, CliError>, String, String) {
    let (mut output, mut notes) = (Vec::new(), Vec::new());
    let result = run(
        &command(words, server),
        Streams {
            input: BufReader::new(Box::new(input)),
            input_waits: Box::new(|| true),
            output: Box::new(&mut output),
            notes: Box::new(&mut notes),
            shows_progress: false,
            is_terminal: false,
            is_screen: false,
        },
    );
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (result, text(output), text(notes))
}

pub(super) fn command(words: &[&str], server: impl fmt::Display) -> Command {
    let server = format!("--server={server}");
    // Options of a command within a command stand behind both.
    let (command, rest) = words.split_at(if words[0] == "snapshot" { 2 } else { 1 });
    let line = [&["rmbd"], command, &[&server, "--timeout-ms=5000"], rest].concat();
    Cli::try_parse_from(line).unwrap().command.unwrap()
}

// --- What is typed ---

#[test]
fn command_line_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn every_option_of_every_command_has_a_variable() {
    for command in Cli::command().get_subcommands() {
        for arg in command.get_arguments().filter(|arg| !arg.is_positional()) {
            let name = arg.get_long().unwrap();
            // The one without `_NAME` is a node's, and says which sketches there are.
            let name = if name == "sketch" {
                "sketch-name"
            } else {
                name
            };
            let variable = format!("RMBD_{}", name.to_uppercase().replace('-', "_"));
            assert_eq!(arg.get_env().unwrap().to_str(), Some(&*variable));
        }
    }
}

#[test]
fn what_is_typed_wrong_is_said() {
    let command = Cli::command();
    let commands = command.get_subcommands().filter(|it| !it.is_hide_set());
    let mut commands: Vec<_> = commands.map(clap::Command::get_name).collect();
    commands.sort_unstable();
    let all_commands = format!("nor one of the commands {}\n", commands.join(", "));
    let cases: &[(&[&str], &str)] = &[
        (&["add"], "required arguments were not provided"),
        (&["count"], "required arguments were not provided"),
        (&["add", "k", "-n", "0"], "0 is not in 1..=1048576"),
        (
            &["add", "k", "-n", "1048577"],
            "1048577 is not in 1..=1048576",
        ),
        (
            &["add", "k", "--server", "localhost"],
            "no port: write HOST:PORT",
        ),
        (
            &["add", "k", "--server", "localhost:0"],
            "port 0 cannot be reached",
        ),
        (&["count", "k", "--timeout-ms", "0"], "0 is not in 1..="),
        (&["peer", "localhost:65536"], "use a number from 0 to 65535"),
        (&["peer", "localhost:0"], "port 0 cannot be reached"),
        (&["peer", "::1:80"], "an IPv6 address stands in brackets"),
        (
            &["peer", "a:1", "--dialect", "x"],
            "invalid value 'x' for '--dialect",
        ),
        (&["hit", "k"], "--limit <COUNT[/TIME]>"),
        (&["hit", "k", "--limit", "x"], "is not a count from 0"),
        (&["hit", "k", "--limit", "5/1"], "is not a length of time"),
        (
            &["hit", "k", "--limit", "5", "--window", "0s"],
            "a time of nothing",
        ),
        (
            &["hit", "k", "--limit", "5", "--limit-name", "api"],
            "cannot be used with",
        ),
        (
            &["hit", "k", "--limit-name", "api", "--take"],
            "cannot be used with",
        ),
        (
            &["hit", "k", "--limit-name", "api", "--sketch", "a"],
            "cannot be used with",
        ),
        (
            &["hit", "k", "--limit-name", "A"],
            "a limit's name has no 'A'",
        ),
        (
            &["add", "k", "--sketch", ""],
            "a sketch's name has 1 to 64 characters",
        ),
        (
            &["add", "k", "--sketch", "A b"],
            "a sketch's name has no 'A'",
        ),
        (&["count", "k", "--smooth"], "--window <TIME>"),
        (
            &["count", "k", "--window", "60"],
            "not a length of time in whole milliseconds",
        ),
        (
            &["count", "k", "--window", "60s", "--bounds"],
            "cannot be used with",
        ),
        (
            &["count", "k", "--window", "60s", "--legacy"],
            "cannot be used with",
        ),
        (&["pardon", "k", "--for", "1h"], "--limit-name <NAME>"),
        (&["pardon", "k", "--limit-name", "a"], "--for <TIME>"),
        (&["sketches", "all"], "unexpected argument 'all'"),
        (
            &["hit", "--limit", "5"],
            "required arguments were not provided",
        ),
        (&["hit", "k", "--limit", "-1"], "unexpected argument '-1'"),
        (&["status", "now"], "unexpected argument 'now'"),
        (&["-x", "5", "count", "k"], "cannot be used with"),
        (&["start"], &all_commands),
    ];
    for (words, expected) in cases {
        let words = ["rmbd"].iter().chain(words.iter());
        let error = Cli::try_parse_from(words).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains(expected), "{error}");
    }
}

// --- Keys ---

fn lines<'i, R>(reader: &'i mut BufReader<R>, waits: &'i mut dyn FnMut() -> bool) -> Input<'i, R> {
    Input {
        reader,
        waits,
        key_bytes_max: 139,
        keep_cr: false,
    }
}

/// The keys that are handed over, and the number of keys that were too long.
fn keys_of(args: &[&str], input: &[u8]) -> (Vec<Vec<u8>>, u64) {
    let args: Vec<_> = args.iter().map(OsString::from).collect();
    let mut keys = Vec::new();
    // The buffer is small, so that lines lie across its ends.
    let mut input = BufReader::with_capacity(7, input);
    let too_long = for_each(&args, &mut lines(&mut input, &mut || false), |next| {
        if let Next::Key(key) = next {
            keys.push(key.to_vec());
        }
        Ok(())
    });
    (keys, too_long.unwrap())
}

#[test]
fn lines_become_keys_byte_for_byte() {
    let longest = "x".repeat(139);
    let too_long = "y".repeat(140);
    let far_too_long = "z".repeat(100_000);
    let cases: &[(&str, &[&str], u64)] = &[
        ("", &[], 0),
        ("\n\n", &[], 0),
        ("a\nb\n", &["a", "b"], 0),
        ("a\nb", &["a", "b"], 0),
        ("a\r\n b \n\0\n", &["a", " b ", "\0"], 0),
        ("a\r\r\n\rb\n\r\n\r", &["a\r", "\rb"], 0),
        (
            &format!("{longest}\r\n{longest}\r"),
            &[&longest, &longest],
            0,
        ),
        (&format!("{longest}\nb"), &[&longest, "b"], 0),
        (&longest, &[&longest], 0),
        (&too_long, &[], 1),
        (&format!("{too_long}\nb"), &["b"], 1),
        (&format!("a\n{far_too_long}\nb\n{too_long}"), &["a", "b"], 2),
    ];
    for (input, expected, too_long) in cases {
        let expected: Vec<_> = expected.iter().map(|key| key.as_bytes().to_vec()).collect();
        assert_eq!(
            keys_of(&["-"], input.as_bytes()),
            (expected, *too_long),
            "{input:?}"
        );
    }
    assert_eq!(keys_of(&["-"], b"\xff\xfe\n").0, [b"\xff\xfe"]);
    // An empty key on the command line is a key.
    assert_eq!(
        keys_of(&["a", "", "-", "d"], b"b\nc").0,
        [&b"a"[..], b"", b"b", b"c", b"d"]
    );
    assert_eq!(keys_of(&[&too_long, "a"], b""), (vec![b"a".to_vec()], 1));
}

#[test]
fn a_pause_comes_before_every_wait() {
    let mut seen = Vec::new();
    let mut input = BufReader::with_capacity(4, &b"a\nb\ncd"[..]);
    for_each(
        &["-".into()],
        &mut lines(&mut input, &mut || true),
        |next| {
            seen.push(match next {
                Next::Key(key) => String::from_utf8(key.to_vec()).unwrap(),
                Next::Pause => "-".to_owned(),
            });
            Ok(())
        },
    )
    .unwrap();
    assert_eq!(seen, ["-", "a", "b", "-", "cd", "-"]);
}

/// An input that gives its bytes, and then fails.
struct Breaks(&'static [u8]);

impl Read for Breaks {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.0.is_empty() {
            return Err(io::Error::other("the disk is gone"));
        }
        self.0.read(out)
    }
}

#[test]
fn an_input_that_breaks_is_told_from_a_taker_that_refuses() {
    let args = ["-".into()];
    let mut input = BufReader::new(Breaks(b"a\n"));
    let broken = for_each(&args, &mut lines(&mut input, &mut || true), |_| Ok(()));
    assert!(matches!(broken, Err(Stop::Input(_))));
    let mut input = BufReader::new(&b"a\n"[..]);
    let refused = for_each(&args, &mut lines(&mut input, &mut || true), |_| {
        Err(CliError::Output(io::Error::other("full")))
    });
    assert!(matches!(refused, Err(Stop::Taker(CliError::Output(_)))));
}

// --- add and count ---

#[test]
fn keys_are_added_and_counted_in_order() {
    let server = Fake::reliable();
    let (result, output, notes) =
        run_with(&["add", "a", "b", "-n", "300"], server.address, &b""[..]);
    result.unwrap();
    assert_eq!((output, notes), (String::new(), String::new()));
    let (result, output, _) = run_with(&["count", "b", "-", "a"], server.address, &b"x y\n"[..]);
    result.unwrap();
    assert_eq!(output, "300\tb\n0\tx y\n300\ta\n");
    let counts = HashMap::from([(b"a".to_vec(), 300), (b"b".to_vec(), 300)]);
    assert_eq!(server.stop().counts, counts);
}

#[test]
fn the_python_programs_protocol_has_one_sketch() {
    let server = Fake::reliable();
    for words in [
        &["add", "a", "--sketch=a"][..],
        &["count", "a", "--sketch=a"],
    ] {
        let error = run_with(words, server.address, io::empty()).0.unwrap_err();
        let expected =
            "--sketch is not possible in the Python program's protocol; nothing was asked";
        assert_eq!(error.to_string(), expected);
    }
    let words = ["add", "a", "--sketch=default"];
    run_with(&words, server.address, io::empty()).0.unwrap();
    assert_eq!(server.stop().adds, 1);
}

#[test]
fn a_log_is_counted_from_standard_input() {
    let server = Fake::reliable();
    let lines: String = (0..20_000)
        .map(|n| format!("10.0.{}.{}\n", n % 3, n % 251))
        .collect();
    let (result, ..) = run_with(&["add", "-"], server.address, lines.as_bytes());
    result.unwrap();
    // These are more keys than are asked for at once.
    let (result, output, _) = run_with(&["count", "-"], server.address, lines.as_bytes());
    result.unwrap();
    let mut truth: HashMap<&str, u64> = HashMap::new();
    lines
        .lines()
        .for_each(|line| *truth.entry(line).or_default() += 1);
    let expected: String = lines
        .lines()
        .map(|line| format!("{}\t{line}\n", truth[line]))
        .collect();
    assert!(output == expected);
    assert_eq!(server.stop().adds, 20_000);
}

#[test]
fn counts_as_json() {
    let server = Fake::reliable();
    run_with(&["add", "é\"\t", "-"], server.address, &b"\xff\n"[..])
        .0
        .unwrap();
    let (result, output, _) = run_with(
        &["count", "--json", "é\"\t", "-"],
        server.address,
        &b"\xff\n"[..],
    );
    result.unwrap();
    let array: serde_json::Value = serde_json::from_str(&output).unwrap();
    let expected = serde_json::json!([
        {"key": "é\"\t", "count": 1, "incomplete": false},
        {"key_base64": "/w==", "count": 1, "incomplete": false},
    ]);
    assert_eq!(array, expected);
    let (result, output, _) = run_with(&["count", "--json", "-"], server.address, &b""[..]);
    result.unwrap();
    assert_eq!(output, "[]\n");
    server.stop();
}

#[test]
fn long_keys_are_skipped_and_reported() {
    let server = Fake::reliable();
    let input = format!("a\n{}\nb\n", "x".repeat(140));
    let (result, ..) = run_with(&["add", "-"], server.address, input.as_bytes());
    assert_eq!(
        result.unwrap_err().to_string(),
        "1 keys of more than 139 bytes were skipped, the protocol cannot carry them; 2 adds were done"
    );
    let (result, output, _) = run_with(&["count", "-"], server.address, input.as_bytes());
    assert!(matches!(
        result,
        Err(CliError::KeysTooLong { skipped: 1, .. })
    ));
    assert_eq!(output, "1\ta\n1\tb\n");
    server.stop();
}

#[test]
fn what_came_before_a_broken_input_is_done() {
    let server = Fake::reliable();
    let (result, ..) = run_with(&["add", "-"], server.address, Breaks(b"a\nb\n"));
    let text = result.unwrap_err().to_string();
    assert_eq!(
        text,
        "cannot read more keys: the disk is gone; 2 adds were done"
    );
    let (result, output, _) = run_with(&["count", "-"], server.address, Breaks(b"a\n"));
    assert!(matches!(result, Err(CliError::Input { .. })));
    assert_eq!(output, "1\ta\n");
    assert_eq!(server.stop().adds, 2);
}

/// An input whose next line comes only when the one before has been counted.
struct Slow {
    client: Client,
    given: u64,
}

impl Read for Slow {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        assert_eq!(self.client.count("tick").unwrap(), self.given);
        if self.given == 3 {
            return Ok(0);
        }
        self.given += 1;
        out[..5].copy_from_slice(b"tick\n");
        Ok(5)
    }
}

#[test]
fn a_slow_input_is_added_as_it_comes() {
    let server = Fake::reliable();
    let options = ClientOptions {
        timeout: Duration::from_secs(5),
        ..ClientOptions::default()
    };
    let slow = Slow {
        client: Client::connect(server.address, options).unwrap(),
        given: 0,
    };
    run_with(&["add", "-"], server.address, slow).0.unwrap();
    assert_eq!(server.stop().adds, 3);
}

#[test]
fn no_server_is_said_with_the_cure() {
    let nobody = nobody();
    let address = nobody.local_addr().unwrap();
    let cure = format!("no server at {address}; start one with `rmbd`");
    for words in [&["add", "a"][..], &["count", "a"], &["peer", "localhost:1"]] {
        let text = run_with(words, address, &b""[..])
            .0
            .unwrap_err()
            .to_string();
        assert!(text.starts_with(&cure), "{text}");
    }
}

/// An output whose reader has closed it.
struct Closed;

impl Write for Closed {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_reader_that_goes_ends_a_command_and_is_no_failure() {
    let server = Fake::reliable();
    for words in [&["count", "a"][..], &["count", "a", "--json"]] {
        let streams = Streams {
            input: BufReader::new(Box::new(io::empty())),
            input_waits: Box::new(|| true),
            output: Box::new(Closed),
            notes: Box::new(io::sink()),
            shows_progress: false,
            is_terminal: false,
            is_screen: false,
        };
        let words = [words, &["--legacy"]].concat();
        let done = run(&command(&words, server.address), streams).unwrap();
        assert_eq!(done, Done::ReaderGone);
    }
    server.stop();
}

// --- peer and status ---

/// A UDP server, and an HTTP server on the same port that gives these answers and then ends.
pub(super) fn server(answers: Vec<(u16, String)>) -> (Fake, JoinHandle<()>) {
    let answers = answers.into_iter();
    server_of(
        answers
            .map(|(code, body)| ("GET /status", code, body))
            .collect(),
    )
}

/// The same, with what each request begins with.
fn server_of(answers: Vec<(&'static str, u16, String)>) -> (Fake, JoinHandle<()>) {
    loop {
        let udp = Fake::start(Default::default(), |_| Fate::Deliver);
        let Ok(listener) = TcpListener::bind(udp.address) else {
            udp.stop();
            continue;
        };
        let http = std::thread::spawn(move || {
            for (asked, code, body) in answers {
                let (mut stream, _) = listener.accept().unwrap();
                let mut request = Vec::new();
                let mut byte = [0];
                while !request.ends_with(b"\r\n\r\n") {
                    stream.read_exact(&mut byte).unwrap();
                    request.push(byte[0]);
                }
                assert!(request.starts_with(format!("{asked} HTTP/1.1\r\n").as_bytes()));
                let length = body.len();
                let head =
                    format!("HTTP/1.1 {code} -\r\ncontent-length: {length}\r\nconnection: close");
                write!(stream, "{head}\r\n\r\n{body}").unwrap();
            }
        });
        return (udp, http);
    }
}

fn statuses(orders: Vec<Vec<PeerOrder>>) -> Vec<(u16, String)> {
    let document = |orders| serde_json::to_string(&status(orders)).unwrap();
    orders
        .into_iter()
        .map(|orders| (200, document(orders)))
        .collect()
}

#[test]
fn an_accepted_order_is_told_from_older_ones() {
    for target in ["localhost:9000", "[::1]:9000", "::1:9000"] {
        let old = order(7, target, false, "old");
        let other = order(9, "localhost:9001", false, "another");
        let new = order(8, target, true, "pushing to 127.0.0.1:9000");
        let (udp, http) = server(statuses(vec![
            vec![old.clone()],
            vec![old.clone(), other.clone()],
            vec![old, new, other],
        ]));
        let typed = if target == "::1:9000" {
            "[::1]:9000"
        } else {
            target
        };
        let (result, output, notes) = run_with(&["peer", typed], udp.address, io::empty());
        result.unwrap();
        assert_eq!(
            output,
            format!("accepted {typed}: pushing to 127.0.0.1:9000\n")
        );
        assert_eq!(notes, "");
        http.join().unwrap();
        assert_eq!(udp.stop().peers.len(), 1);
    }
}

#[test]
fn a_refused_order_fails_with_the_servers_words() {
    let refused = order(1, "localhost:9000", false, "not a name\u{1b}[2J");
    let (udp, http) = server(statuses(vec![vec![], vec![refused]]));
    let (result, output, _) = run_with(&["peer", "localhost:9000"], udp.address, io::empty());
    let text = result.unwrap_err().to_string();
    assert_eq!(
        text,
        "the server does not push to localhost:9000: not a name\u{fffd}[2J"
    );
    assert_eq!(output, "");
    http.join().unwrap();
    udp.stop();
}

#[test]
fn an_order_that_leaves_no_trace_fails() {
    let (udp, http) = server(statuses(vec![vec![], vec![]]));
    let Command::Peer(options) = command(&["peer", "localhost:9000"], udp.address) else {
        panic!("another command");
    };
    let mut output = Vec::new();
    let mut streams = Streams {
        input_waits: Box::new(|| true),
        ..Streams::to(&mut output)
    };
    let result = peer::run_within(Duration::ZERO, &options, &mut streams);
    assert!(matches!(result, Err(CliError::OrderUnseen { .. })));
    http.join().unwrap();
    udp.stop();
}

#[test]
fn without_http_an_order_cannot_be_confirmed() {
    let udp = Fake::reliable();
    let (result, output, notes) = run_with(&["peer", "localhost:9000"], udp.address, io::empty());
    result.unwrap();
    assert_eq!(output, "");
    assert!(notes.starts_with(
        "the order to push to localhost:9000 was sent, but it cannot be confirmed: no answer from"
    ));
    assert_eq!(udp.stop().peers, [(b"localhost".to_vec(), 9_000)]);
}

#[test]
fn an_order_that_takes_long_is_waited_for() {
    let status = |orders_done, failure: Option<&str>| {
        let mut status = status(Vec::new());
        status.snapshot_files.orders_done = orders_done;
        status.snapshot_files.failure = failure.map(str::to_owned);
        status.snapshot_files.last = Some(LastSnapshotFile {
            bytes: 3 << 20,
            duration_s: 61.0,
            ..LastSnapshotFile::default()
        });
        ("GET /status", 200, serde_json::to_string(&status).unwrap())
    };
    let order = || ("POST /snapshot", 202, "{\"order\":7}".to_owned());
    let now = |answers| {
        let (udp, http) = server_of(answers);
        let (result, output, _) = run_with(&["snapshot", "now"], udp.address, io::empty());
        http.join().unwrap();
        udp.stop();
        result.map(|()| output).map_err(|error| error.to_string())
    };
    assert_eq!(
        now(vec![order(), status(6, None), status(7, None)]).unwrap(),
        "a snapshot file of 3 MiB was written in 61.00 s\n"
    );
    let failed = now(vec![order(), status(8, Some("no room"))]).unwrap_err();
    assert!(
        failed.contains("no room; the one before stands"),
        "{failed}"
    );
    let done = |code, body: &str| ("POST /snapshot", code, body.to_owned());
    let failure = r#"{"failure":"it burns","nothing_new":false,"bytes":0,"duration_s":0}"#;
    let failed = now(vec![done(500, failure)]).unwrap_err();
    assert!(failed.contains("it burns"), "{failed}");
    let nobody = now(vec![done(404, "nothing is kept\n")]).unwrap_err();
    assert!(
        nobody.ends_with("/snapshot refuses: nothing is kept"),
        "{nobody}"
    );
    let other = now(vec![done(405, "")]).unwrap_err();
    assert!(other.contains("/snapshot answers with 405"), "{other}");
}

#[test]
fn status_for_people_and_for_programs() {
    let document = &statuses(vec![vec![order(1, "a:1", true, "yes")]])[0].1;
    let (udp, http) = server(vec![(200, document.clone()), (200, document.clone())]);
    let (result, output, _) = run_with(&["status", "--json"], udp.address, io::empty());
    result.unwrap();
    assert_eq!(output, format!("{document}\n"));
    let (result, output, _) = run_with(&["status"], udp.address, io::empty());
    result.unwrap();
    assert_eq!(
        output,
        "\
rmbd 0.1.0 at 127.0.0.1:8000, ready, up 1 h 2 min, http 127.0.0.1:8000
sketch     4x1048576 xxh3, 16 MiB
content    total weight 1234, incomplete: no room for something that others counted
error      at most 12.3 too high with probability 0.9800
messages   add 1, count 2, hit 6, bounds 7, info 8, window 0, limits 0, hit_by_name 0, \
pardon 0, sketches 0, top 0, sync 3, peer 4, ack 5
datagrams  received 20, malformed 3 (empty 3), refused 0, dropped by the kernel 7
replies    sent 2, dropped 1
once       clients 0 of 0, repeats 0
latency    count: half of 17 within 1 us, 99 % within 12.5 us, 99.9 % within 256 us
latency    resp: half of 17 within 1.02 ms, 99 % within 1.05 s, 99.9 % above 1 s
resp       127.0.0.1:6379, connections 3 of 1024, commands 17, no commands 0, wrong passwords 0, without a place 0
spoe       127.0.0.1:9001, connections 2 of 256, messages 9, over 4, refused 0, failed 0, no frames 0, without a place 0
envoy      127.0.0.1:8081, connections 2 of 1024, rules 3, requests 18, over 4, refused 0, failed 0
io         uring, threads 1, receive buffer 416 KiB each
cluster    off: --cluster off
peer       127.0.0.1:9000, push: rows 10 (acknowledged 0), last sent 0.2 s ago, last ack never, \
received: rows 4, last 1.0 s ago, restarts 1
order      1 accepted a:1: yes
"
    );
    http.join().unwrap();
    udp.stop();
}

#[test]
fn status_has_lines_for_sketches_windows_and_limits() {
    let text = status::render(&testing::status());
    for line in [
        "sketch     logins 4x1048576 xxh3, 71.3 KiB (cells 0 bytes, windows 28 MiB, lists 511 bytes), N 74, at most 0.0 too high; \
         sampled: at most 9 for half of the keys, at most 36 for 0.9817 of them\n",
        "audit      logins knows nothing of errors: a weight of 1073 was not counted exactly; \
         verdicts 5073, over 4073, wrong 3073\n",
        "warning    logins: 2073 counts were below the truth, which must not be: the node counts wrong\n",
        "window     logins 1m by 5s, 4x131072, 28 MiB, N 7000, at most 70 too high; \
         audited: at most 24 for 0.9817 of 1568 keys, at most 48\n",
        "top        logins of all time, 62 keys of at most 100, 60 named, certain 54 of N 50, complete above 56\n",
        "top        logins in 60 s, 6989 keys of at most 100, 6987 named, certain 6981 of N 6977, not complete\n",
        "pardons    50003 in force\n",
        "snapshot   1 min 1 s old, 9 MiB in 0.75 s, written 127, nothing new 131, failed 137, in /var/lib/rmbd\n",
        "loaded     slices 4, total weight 139001, 2.5 s old, gone on as the same writer\n",
        "skipped    no room for slices 2\nskipped    logins: its size is another\n",
        "warning    snapshot overdue: writing fails: No space left on device\n",
        "set aside  snapshot.bad-20270115T080000.000Z-torn by an earlier start\n",
        "set aside  not kept: it is a symbolic link\n",
    ] {
        assert!(text.contains(line), "{text}");
    }
    let mut whole = testing::status();
    for sketch in &mut whole.sketches {
        if let Some(audit) = &mut sketch.sketch.audit {
            (audit.missed_weight, audit.too_low) = (0, 0);
        }
    }
    let text = status::render(&whole);
    let line = "\naudit      logins 984 keys exact, 1 in 64: 4.6 too high on average, at most 12 for 0.9817 of them, \
                at most 24; above epsilon 246; verdicts 5073, over 4073, wrong 3073\nwindow ";
    assert!(text.contains(line), "{text}");
    let mut status = status(Vec::new());
    let amount = |window_ms, error_is_large| AmountStatus {
        limit: 100,
        window_ms,
        error: 12,
        error_is_large,
    };
    status.limits = vec![LimitStatus {
        name: "api".into(),
        sketch: "logins".into(),
        amounts: vec![
            amount(60_000, true),
            amount(3_600_000, false),
            amount(0, false),
        ],
        takes: true,
        shadow_mode: true,
        asked: 1,
        over: 2,
        near: 3,
        unsure: 4,
        shadow: 5,
    }];
    let text = status::render(&status);
    let lines = "\
limit      api of logins: 100/1m, 100/1h, 100, take, asked 1, over 2, near 3, unsure 4, shadow mode admitted 5
warning    api: counts in 60 s may be 12 too high, which is much for a limit of 100: others' keys may use it up; \
a larger width of logins or its window makes that smaller
";
    assert!(text.contains(lines), "{text}");
}

#[test]
fn status_says_how_long_threads_were_spinning() {
    let mut status = status(Vec::new());
    status.io.threads[0].spinning_s = 1.5;
    let text = status::render(&status);
    assert!(text.contains("threads 1, receive buffer 416 KiB each, spinning 1.5 s in all\n"));
}

#[test]
fn other_documents_are_refused() {
    let cases = [
        (404, "{}", "/status answers with 404"),
        (200, "<html>", "/status is not understood"),
        (200, "{}", "/status is not understood (missing field"),
    ];
    for (code, body, expected) in cases {
        let (udp, http) = server(vec![(code, body.to_owned())]);
        let (result, ..) = run_with(&["status"], udp.address, io::empty());
        let text = result.unwrap_err().to_string();
        assert!(text.contains(expected), "{text}");
        http.join().unwrap();
        udp.stop();
    }
    // The port is held, but nobody listens.
    let held = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let any: std::net::SocketAddr = "127.0.0.1:0".parse().unwrap();
    held.bind(&any.into()).unwrap();
    let nobody = held.local_addr().unwrap().as_socket().unwrap();
    let text = run_with(&["status"], nobody, io::empty())
        .0
        .unwrap_err()
        .to_string();
    assert!(
        text.starts_with(&format!("no answer from http://{nobody}/status (")),
        "{text}"
    );
}
