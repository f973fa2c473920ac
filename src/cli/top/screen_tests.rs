//! Tests of the full screen of `rmbd top` on terminals of many sizes, and of its keys.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::style::Color;

use super::model::{Look, Model, Next, Question};
use super::view::draw;
use crate::status::Status;
use crate::status::testing::status;
use rmbd_client::{Top, TopKey};

fn question(sketch: &str, window_ms: u64) -> Question {
    let sketch = sketch.to_owned();
    Question { sketch, window_ms }
}

fn key(name: Option<&[u8]>, estimate: u64) -> TopKey {
    TopKey {
        name: name.map(<[u8]>::to_vec),
        estimate,
        certain: estimate / 2,
    }
}

fn top() -> Top {
    Top {
        keys: vec![
            key(Some(b"apple"), 12_345_678_901),
            key(
                Some(
                    "日本語 with wide letters, and long beyond any width that there is".as_bytes(),
                ),
                90_000,
            ),
            key(Some(b"\x1b[2J\xff\n"), 8_000),
            key(Some(b""), 700),
            key(None, 60),
        ],
        complete_above: Some(59),
        total_weight: 20_000_000_000,
        listed: 5,
        age: Some(Duration::ZERO),
        incomplete: true,
        redacted: false,
        mixed: false,
    }
}

fn look(top: Result<Top, String>, status: Result<Status, String>) -> Look {
    Look {
        question: question("default", 0),
        top,
        status: status.map(Box::new),
    }
}

/// What is shown after two looks, a second apart.
fn model() -> Model {
    let mut model = Model::new("node-1.example:8000".into(), question("default", 0), true);
    let mut later = status();
    later.uptime_s += 1.0;
    later.messages.add += 1_500_000;
    later.limits[0].over += 7;
    model.take(look(Ok(top()), Ok(status())));
    model.take(look(Ok(top()), Ok(later)));
    model
}

fn drawn(model: &Model, width: u16, height: u16) -> Buffer {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, model)).unwrap();
    terminal.backend().buffer().clone()
}

fn lines(buffer: &Buffer) -> Vec<String> {
    let rows = buffer.content().chunks(buffer.area().width.into());
    rows.map(|row| row.iter().map(|cell| cell.symbol()).collect())
        .collect()
}

fn press(model: &mut Model, code: KeyCode) -> Next {
    model.press(KeyEvent::new(code, KeyModifiers::NONE))
}

fn type_text(model: &mut Model, text: &str) {
    for c in text.chars() {
        assert_eq!(press(model, KeyCode::Char(c)), Next::Nothing);
    }
}

/// The states that there may be, with words that each has to show on a terminal of 80 columns.
fn states() -> Vec<(Model, &'static str)> {
    let empty = Model::new("a:1".into(), question("default", 0), true);
    let mut silent = Model::new("a:1".into(), question("default", 0), true);
    silent.take(look(Err("no answer".into()), Err("nobody is there".into())));
    let mut lost = model();
    lost.take(look(Ok(top()), Err("\x1b]0;gone\x07".into())));
    let mut filtering = model();
    type_text(&mut filtering, "/app");
    let mut redacted = model();
    let hidden = Top {
        redacted: true,
        keys: vec![key(None, 5)],
        ..top()
    };
    redacted.take(look(Ok(hidden), Ok(status())));
    let mut hostile = model();
    let mut named = status();
    named.limits[0].name = "\x1b[31mred".into();
    named.cluster.members[0].address = "\x1b[2J".into();
    hostile.take(look(Ok(top()), Ok(named)));
    vec![
        (empty, "asking"),
        (silent, "no answer"),
        (lost, "apple"),
        (filtering, "/app"),
        (redacted, "(not shown)"),
        (hostile, "apple"),
        (model(), "apple"),
    ]
}

#[test]
fn every_size_shows_what_matters_and_nothing_that_controls_a_terminal() {
    for (model, words) in states() {
        for width in [1, 2, 20, 33, 59, 80, 99, 100, 200] {
            for height in [1, 2, 3, 5, 8, 17, 18, 24, 60] {
                let shown = lines(&drawn(&model, width, height));
                let text = shown.join("\n");
                assert!(
                    !text.chars().any(|c| c.is_control() && c != '\n'),
                    "{text:?}"
                );
                if width >= 20 && height >= 3 {
                    assert!(shown[0].starts_with("rmbd "), "{width}x{height}: {text}");
                }
                if width >= 20 && height >= 5 {
                    assert!(text.contains(words), "{width}x{height}, {words}: {text}");
                }
            }
        }
    }
}

#[test]
fn a_narrow_terminal_has_counts_in_short_and_names() {
    let shown = lines(&drawn(&model(), 20, 5));
    assert_eq!(
        shown,
        [
            "rmbd node-1.example:",
            "1.50M adds/s  0 hits",
            "default, all time   ",
            "12.3G apple         ",
            "q quit  \u{2190}\u{2192} window  \u{2191}",
        ]
    );
}

#[test]
fn a_usual_terminal_has_rates_keys_limits_and_members() {
    let text = lines(&drawn(&model(), 80, 24)).join("\n");
    for words in [
        "rmbd node-1.example:8000  ready  up 26h03m  1.2.3",
        "1.50M adds/s",
        "7 over/s",
        "incomplete, N 20000000000, complete above 59",
        "12345678901",
        "61.73% apple",
        "\\u{1b}[2J\\xff\\n",
        "(the empty key)",
        "(name not known yet)",
        "asked    over limit",
        "api",
        "cluster: 3 of 4 alive",
        "down     10.0.0.13:8001  behind 99, 777.0 s",
        "q quit",
        "/ filter",
    ] {
        assert!(text.contains(words), "{words}:\n{text}");
    }
    let wide = lines(&drawn(&model(), 200, 24));
    let key = wide.iter().find(|line| line.contains("apple")).unwrap();
    assert!(
        wide.iter()
            .any(|line| line.contains("alive    10.0.0.11:8001")),
        "{wide:#?}"
    );
    assert!(key.len() > 100);
}

#[test]
fn without_colors_nothing_has_one() {
    let mut plain = model();
    plain.has_colors = false;
    let colors = |buffer: &Buffer| {
        buffer
            .content()
            .iter()
            .filter(|it| it.fg != Color::Reset)
            .count()
    };
    assert!(colors(&drawn(&model(), 80, 24)) > 0);
    assert_eq!(colors(&drawn(&plain, 80, 24)), 0);
}

#[test]
fn keys_choose_the_sketch_and_the_window_round_the_end() {
    let mut model = model();
    for (code, sketch, window_ms) in [
        (KeyCode::Right, "default", 60_000),
        (KeyCode::Right, "default", 0),
        (KeyCode::Left, "default", 60_000),
        (KeyCode::Down, "logins", 0),
        (KeyCode::Left, "logins", 60_000),
        (KeyCode::Down, "default", 0),
        (KeyCode::Up, "logins", 0),
    ] {
        assert_eq!(press(&mut model, code), Next::Ask);
        assert_eq!(model.question, question(sketch, window_ms));
        assert!(model.top.is_none(), "the list before was another one");
    }
    // A list that comes late is none of this one.
    model.take(look(Ok(top()), Ok(status())));
    assert!(model.top.is_none());
    let mut unknown = Model::new("a:1".into(), question("default", 0), true);
    for code in [KeyCode::Right, KeyCode::Left, KeyCode::Up, KeyCode::Down] {
        assert_eq!(press(&mut unknown, code), Next::Nothing);
    }
}

#[test]
fn a_filter_is_typed_kept_and_dropped() {
    let mut model = model();
    type_text(&mut model, "/qpp");
    assert!(model.is_typing, "q is a letter here");
    press(&mut model, KeyCode::Backspace);
    press(&mut model, KeyCode::Backspace);
    press(&mut model, KeyCode::Backspace);
    type_text(&mut model, "pp");
    press(&mut model, KeyCode::Enter);
    assert_eq!((model.is_typing, &*model.filter), (false, "pp"));
    let text = lines(&drawn(&model, 80, 24)).join("\n");
    assert!(
        text.contains("apple") && !text.contains("(the empty key)"),
        "{text}"
    );
    assert!(text.contains("default, all time  /pp"), "{text}");
    press(&mut model, KeyCode::Char('/'));
    type_text(&mut model, "x");
    let text = lines(&drawn(&model, 80, 24)).join("\n");
    assert!(text.contains("no key has this text"), "{text}");
    press(&mut model, KeyCode::Esc);
    assert_eq!((model.is_typing, &*model.filter), (false, ""));
    for key in [
        KeyEvent::new(KeyCode::Char('q'), KeyModifiers::NONE),
        KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL),
    ] {
        assert_eq!(model.press(key), Next::Quit);
    }
}

#[test]
fn a_node_that_was_started_again_has_no_rates_at_first() {
    let mut model = model();
    assert!(model.rates.is_some());
    let mut again = status();
    again.uptime_s = 1.0;
    model.take(look(Ok(top()), Ok(again)));
    assert!(model.rates.is_none());
}

#[test]
fn a_terminal_that_cannot_be_drawn_on_is_known() {
    let can_draw = |name: Option<&str>| super::can_draw(name.map(std::ffi::OsStr::new));
    assert!(can_draw(Some("xterm-256color")));
    assert!(![None, Some(""), Some("dumb")].into_iter().any(can_draw));
}

/// Another test runs this one in a terminal.
#[test]
#[ignore = "it panics, in a terminal that another test gives it"]
fn panics_in_a_screen() {
    let _screen = super::screen::Screen::open(&mut std::io::stdout()).unwrap();
    panic!("this is quit by a panic");
}

#[test]
fn a_panic_is_told_behind_the_screen() {
    use rmbd_testkit::terminal::{Act, run};
    let own = std::env::current_exe().unwrap();
    let name = "cli::top::screen_tests::panics_in_a_screen";
    let words = [
        own.to_str().unwrap(),
        "--ignored",
        "--exact",
        name,
        "--nocapture",
    ];
    let Some(seen) = run(Act::Nothing, "", &words, &[]) else {
        return;
    };
    assert_eq!(seen.end, "code 101, as it was", "{seen:?}");
    let place = |what: &str| {
        seen.output
            .find(what)
            .unwrap_or_else(|| panic!("{what}: {seen:?}"))
    };
    assert!(place("\x1b[?1049h") < place("\x1b[?1049l"));
    assert!(place("\x1b[?1049l") < place("this is quit by a panic"));
}
