//! Tests of `rmbd top` in a terminal: it draws there, takes keys, and leaves the terminal as it was.

use std::process::{Command, Stdio};

use rmbd_testkit::streams::{Kind, Which};
use rmbd_testkit::terminal::{self, Act};

use crate::nodes::{Node, PROGRAM};

/// Names and values.
type Variables<'v> = &'v [(&'v str, &'v str)];
/// What makes a screen of a terminal, and what makes it a terminal again.
const SCREEN: [&str; 2] = ["\x1b[?1049h", "\x1b[?1049l"];
/// What the last line of a screen has, and what the first has when the server has answered.
const DRAWN: &str = "quit";
const ANSWERED: &str = "ready";
/// What colours text.
const COLOR: &str = "\x1b[38;5;";

#[test]
fn a_terminal_shows_a_screen_and_is_as_it_was_whatever_ends_it() {
    let node = Node::start(Which::Out, Kind::Read, None);
    node.add(7);
    let server = node.udp.to_string();
    let words = [PROGRAM, "top", "--server", &server];
    for (act, end) in [
        (Act::Type("q"), "code 0, as it was"),
        (Act::Type("/q\rq"), "code 0, as it was"),
        (Act::Type("\u{3}"), "code 0, as it was"),
        (Act::Signal(libc::SIGTERM), "signal 15, as it was"),
        (Act::Signal(libc::SIGINT), "signal 2, as it was"),
        (Act::Signal(libc::SIGHUP), "signal 1, as it was"),
    ] {
        let Some(seen) = terminal::run(act, DRAWN, &words, &[]) else {
            return;
        };
        assert_eq!(seen.end, end, "{act:?}: {seen:?}");
        let [opens, closes] = SCREEN.map(|what| seen.output.find(what).expect(what));
        assert!(opens < closes, "{act:?}: {seen:?}");
        assert!(
            seen.output[closes..].contains("\x1b[?25h"),
            "the cursor is back: {seen:?}"
        );
        assert!(
            seen.output.contains("rmbd ") && seen.output.contains(&server),
            "{seen:?}"
        );
    }
}

/// Nobody could end it by a key any more.
#[test]
fn a_terminal_that_is_closed_ends_it() {
    let node = Node::start(Which::Out, Kind::Read, None);
    let server = node.udp.to_string();
    let words = [PROGRAM, "top", "--server", &server];
    if let Some(seen) = terminal::run(Act::HangUp, DRAWN, &words, &[]) {
        assert_eq!(seen.end, "signal 1, gone", "{seen:?}");
    }
}

#[test]
fn without_a_screen_there_is_plain_text() {
    let node = Node::start(Which::Out, Kind::Read, None);
    let server = node.udp.to_string();
    let top = [PROGRAM, "top", "--server", &server];
    let once = [&top[..], &["--once"]].concat();
    let json = [&top[..], &["--json"]].concat();
    let cases: [(&[&str], Variables<'_>); 4] = [
        (&once, &[]),
        (&json, &[]),
        (&top, &[("TERM", "dumb")]),
        (&top, &[("TERM", "")]),
    ];
    for (words, variables) in cases {
        let Some(seen) = terminal::run(Act::Nothing, DRAWN, words, variables) else {
            return;
        };
        assert_eq!(seen.end, "code 0, as it was", "{words:?} {variables:?}");
        assert!(
            !seen.output.contains('\x1b'),
            "{words:?} {variables:?}: {seen:?}"
        );
        assert!(!seen.output.is_empty(), "{words:?} {variables:?}");
    }
    let piped = Command::new(PROGRAM)
        .args(&top[1..])
        .stdin(Stdio::null())
        .output();
    let piped = String::from_utf8(piped.unwrap().stdout).unwrap();
    assert!(
        piped.starts_with("RANK") && !piped.contains('\x1b'),
        "{piped}"
    );
}

#[test]
fn no_color_is_respected() {
    let node = Node::start(Which::Out, Kind::Read, None);
    let server = node.udp.to_string();
    let words = [PROGRAM, "top", "--server", &server];
    for (value, has_colors) in [("1", false), ("", true)] {
        let Some(seen) = terminal::run(Act::Type("q"), ANSWERED, &words, &[("NO_COLOR", value)])
        else {
            return;
        };
        assert_eq!(
            seen.output.contains(COLOR),
            has_colors,
            "{value:?}: {seen:?}"
        );
    }
}

/// The server is not there: it says so in the screen, and the screen ends as ever.
#[test]
fn a_server_that_is_away_is_said() {
    let words = [
        PROGRAM,
        "top",
        "--server",
        "127.0.0.1:9",
        "--timeout-ms",
        "50",
    ];
    let Some(seen) = terminal::run(Act::Type("q"), DRAWN, &words, &[]) else {
        return;
    };
    assert_eq!(seen.end, "code 0, as it was", "{seen:?}");
}
