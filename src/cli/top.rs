//! The command `rmbd top`: a full screen where there is a terminal for it, else plain text.

mod model;
mod screen;
#[cfg(test)]
mod screen_tests;
mod view;

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::io::Write;
use std::thread::sleep;
use std::time::Duration;

use clap::Args;
use clap::builder::BoolishValueParser;
use serde::Serialize;

use super::asked::{Span, time};
use super::refused::{About, explain};
use super::{CliError, ServerOptions, SketchOptions, Streams};
use crate::config::{TOP_MAX, number};
use crate::status::{JsonKey, TopDocument, TopKeyDocument};
use rmbd_client::{Client, Top, TopKey, TopQuestion};

/// Number of keys that are shown where nothing is said.
const SHOWN_DEFAULT: u16 = 10;
/// Longest time between two looks, in seconds.
const WATCH_MAX_S: u64 = 3_600;
/// A terminal of this name can do nothing but print.
const DUMB: &str = "dumb";
/// Moves to the first place of a terminal, and clears it.
const CLEAR: &str = "\x1b[H\x1b[2J";

/// `rmbd top`
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "In a terminal it is a full screen, which looks at the server once a second (--watch says how often): rates, the largest keys, members and limits. Its keys: q or Ctrl-C ends it, left and right choose the window, up and down the sketch, / filters keys by a text (Enter keeps it, Esc drops it). It has no colours where NO_COLOR is set. With --once, --json, TERM=dumb, or where input or output is no terminal, it prints plain text.\n\nThe truth of a key is at most its count, and at least what is certain. The server makes its lists twice a second, of as many keys as its --top says. It shows names only to loopback and to the networks of its --show-keys.\n\nIn the table, what could control a terminal stands as in a string of Rust: \\n, \\u{1b}, \\xff for a byte that is no UTF-8, and \\\\ for a backslash. With --json a key is a member `key` where it is UTF-8, and else `key_base64` in its place (RFC 4648, with padding); a key without a name has neither."
)]
pub struct TopOptions {
    /// How many keys to show [default: 10, and in a full screen as many as there is room for]
    #[arg(
        short = 'k', long = "keys", value_name = "N", env = "RMBD_KEYS",
        value_parser = number::whole::<u16>(1..=TOP_MAX as u64)
    )]
    keys: Option<u16>,

    /// The largest in this time, such as 60s, instead of all time: a whole window that the sketch keeps (see `rmbd
    /// sketches`)
    #[arg(long, value_name = "TIME", env = "RMBD_WINDOW")]
    window: Option<Span>,

    /// Show them again and again, after this many seconds, until Ctrl-C
    #[arg(
        long, value_name = "SECONDS", env = "RMBD_WATCH", num_args = 0..=1, default_missing_value = "1",
        value_parser = number::whole::<u64>(1..=WATCH_MAX_S)
    )]
    watch: Option<u64>,

    /// Print plain text once, also in a terminal, and whatever --watch says
    #[arg(long, env = "RMBD_ONCE", value_parser = BoolishValueParser::new())]
    once: bool,

    /// Print a JSON object of {sketch, window_ms, age_s, complete_above, total_weight, listed, incomplete, redacted,
    /// mixed, keys}, with keys of {rank, key, count, certain}; with --watch one a line
    #[arg(long, env = "RMBD_JSON", value_parser = BoolishValueParser::new())]
    json: bool,

    #[command(flatten)]
    sketch: SketchOptions,

    #[command(flatten)]
    server: ServerOptions,
}

/// Whether a terminal of this name (`TERM`) can be drawn on.
pub(super) fn can_draw(terminal: Option<&OsStr>) -> bool {
    terminal.is_some_and(|name| !name.is_empty() && name != DUMB)
}

/// Shows the largest keys, or prints them once or again and again.
pub(super) fn run(options: &TopOptions, streams: &mut Streams<'_>) -> Result<(), CliError> {
    if streams.is_screen && !options.json && !options.once {
        let sketch = options.sketch.sketch.to_string();
        let window_ms = options.window.map_or(0, |window| window.ms);
        let start = screen::Start {
            server: &options.server,
            question: model::Question { sketch, window_ms },
            keys: options.keys,
            period: Duration::from_secs(options.watch.unwrap_or(1)),
            // An empty one counts as unset.
            has_colors: std::env::var_os("NO_COLOR").is_none_or(|it| it.is_empty()),
        };
        return screen::run(&start, streams);
    }
    let mut client = options.server.compact()?;
    let Some(seconds) = options.repeats_after_s() else {
        let top = ask(&mut client, options)?;
        return print(&options.text(&top), streams);
    };
    loop {
        match ask(&mut client, options) {
            Ok(top) if streams.is_terminal => {
                print(&format!("{CLEAR}{}", options.text(&top)), streams)?;
            }
            Ok(top) => print(&options.text(&top), streams)?,
            // It may be on its way back.
            Err(CliError::Client(error)) if error.is_silence() => {
                let _ = writeln!(streams.notes, "note: {error}; it is asked again");
            }
            Err(error) => return Err(error),
        }
        sleep(Duration::from_secs(seconds));
    }
}

fn ask(client: &mut Client, options: &TopOptions) -> Result<Top, CliError> {
    let sketch = &options.sketch.sketch;
    let window = options.window.unwrap_or(Span::ALL_TIME);
    let keys = options.keys.unwrap_or(SHOWN_DEFAULT);
    let question = TopQuestion::first(keys.into()).within(window.duration());
    let top = client.sketch(sketch.as_str())?.top(question);
    top.map_err(|error| explain(error, client, About::Top(sketch, window)))
}

fn print(text: &str, streams: &mut Streams<'_>) -> Result<(), CliError> {
    let written = streams.output.write_all(text.as_bytes());
    let written = written.and_then(|()| streams.output.flush());
    written.map_err(CliError::Output)
}

impl TopOptions {
    /// Seconds between two times that it prints; `None` is once.
    fn repeats_after_s(&self) -> Option<u64> {
        self.watch.filter(|_| !self.once)
    }

    fn text(&self, top: &Top) -> String {
        if !self.json {
            return table_of(top, self.window);
        }
        let document = Document {
            document: document(top, self),
            mixed: top.mixed,
        };
        // The values are numbers and texts in memory, so nothing can fail.
        let text = match self.repeats_after_s() {
            None => serde_json::to_string_pretty(&document),
            Some(_) => serde_json::to_string(&document),
        };
        text.unwrap_or_default() + "\n"
    }
}

/// A document as `/top` gives it, and whether its parts are of several lists.
#[derive(Serialize)]
struct Document {
    #[serde(flatten)]
    document: TopDocument,
    mixed: bool,
}

fn document(top: &Top, options: &TopOptions) -> TopDocument {
    let keys = top.keys.iter().zip(1..).map(|(key, rank)| TopKeyDocument {
        rank,
        key: key.name.clone().map(JsonKey::from),
        count: key.estimate,
        certain: key.certain,
        by_node: None,
    });
    TopDocument {
        sketch: options.sketch.sketch.to_string(),
        window_ms: options.window.map_or(0, |window| window.ms),
        age_s: top.age.map(|age| age.as_secs_f64()),
        complete_above: top.complete_above,
        total_weight: top.total_weight,
        listed: top.listed,
        incomplete: top.incomplete,
        redacted: top.redacted,
        keys: keys.collect(),
    }
}

/// A line for each key, and what has to be known of all of them.
fn table_of(top: &Top, window: Option<Span>) -> String {
    let head = ["RANK", "COUNT", "CERTAIN", "SHARE"].map(str::to_owned);
    let numbers = top.keys.iter().zip(1_usize..).map(|(key, rank)| {
        [
            rank.to_string(),
            key.estimate.to_string(),
            key.certain.to_string(),
            share(key.estimate, top.total_weight),
        ]
    });
    let numbers: Vec<_> = std::iter::once(head).chain(numbers).collect();
    let mut widths = [0; 4];
    for row in &numbers {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.len().max(*width);
        }
    }
    let names = top.keys.iter().map(|key| name(key, top.redacted));
    let names = std::iter::once("KEY".to_owned()).chain(names);
    let mut text = String::new();
    for (row, name) in numbers.iter().zip(names) {
        for (cell, width) in row.iter().zip(widths) {
            // Writing to a string cannot fail.
            let _ = write!(text, "{cell:>width$}  ");
        }
        text.push_str(&name);
        text.push('\n');
    }
    text + &notes(top, window)
}

/// What has to be known of all keys, a line each.
fn notes(top: &Top, window: Option<Span>) -> String {
    let mut text = String::new();
    let whole = match window {
        None => "of all time".to_owned(),
        Some(Span { ms }) => format!("in {}", time(ms)),
    };
    let mut line = |note: String| {
        text.push_str(&note);
        text.push('\n');
    };
    if top.redacted {
        line("redacted: this server shows no names to this client, see its --show-keys".to_owned());
    }
    if top.incomplete {
        line(
            "incomplete: the server lacks something that others counted, or was started within the window"
                .to_owned(),
        );
    }
    if top.mixed {
        line(
            "mixed: the list changed while it was read, a key may be here twice, or lack"
                .to_owned(),
        );
    }
    if top.age.is_none() {
        line("the server has made no list yet: ask again in a second".to_owned());
    } else {
        line(format!("N {} {whole}", top.total_weight));
        line(match top.complete_above {
            Some(above) => {
                format!("complete above {above}: every key with more is in this list")
            }
            None => "not complete: keys that are as large may lack".to_owned(),
        });
    }
    text
}

fn share(count: u64, total_weight: u64) -> String {
    match total_weight {
        0 => "-".to_owned(),
        all => format!("{:.2}%", count as f64 / all as f64 * 100.0),
    }
}

fn name(key: &TopKey, redacted: bool) -> String {
    match key.name.as_deref() {
        Some(b"") => "(the empty key)".to_owned(),
        Some(name) => readable(name),
        None if redacted => "(not shown)".to_owned(),
        None => "(name not known yet)".to_owned(),
    }
}

/// A key as text on one line: what could control a terminal, or is no UTF-8, is escaped, so that two keys never look
/// the same.
pub(super) fn readable(name: &[u8]) -> String {
    let mut text = String::with_capacity(name.len());
    for chunk in name.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\'' | '"' => text.push(c),
                other => text.extend(other.escape_debug()),
            }
        }
        for byte in chunk.invalid() {
            // Writing to a string cannot fail.
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: Option<&[u8]>, estimate: u64, certain: u64) -> TopKey {
        TopKey {
            name: name.map(<[u8]>::to_vec),
            estimate,
            certain,
        }
    }

    fn top() -> Top {
        Top {
            keys: vec![
                key(Some(b"apple"), 1_000, 990),
                key(Some(b"\x1b[2J"), 90, 0),
                key(Some(b""), 80, 1),
                key(None, 7, 7),
            ],
            complete_above: Some(6),
            total_weight: 4_000,
            listed: 4,
            age: Some(Duration::ZERO),
            incomplete: false,
            redacted: false,
            mixed: false,
        }
    }

    #[test]
    fn a_key_is_readable_and_no_other_looks_the_same() {
        for (name, text) in [
            (&b"plain"[..], "plain"),
            ("pérou 'a' \"b\"".as_bytes(), "pérou 'a' \"b\""),
            (b"a\nb\tc\\d", "a\\nb\\tc\\\\d"),
            (b"\x1b[31m\0", "\\u{1b}[31m\\0"),
            ("\u{202e}abc".as_bytes(), "\\u{202e}abc"),
            (b"\xff\xfea\xc3", "\\xff\\xfea\\xc3"),
            (b"\\xff", "\\\\xff"),
        ] {
            assert_eq!(readable(name), text);
        }
        let longest = readable(&[0xff; 1_024]);
        assert_eq!(longest.len(), 4 * 1_024);
    }

    #[test]
    fn a_table_ends_with_what_it_is_worth() {
        let expected = "\
RANK  COUNT  CERTAIN   SHARE  KEY
   1   1000      990  25.00%  apple
   2     90        0   2.25%  \\u{1b}[2J
   3     80        1   2.00%  (the empty key)
   4      7        7   0.18%  (name not known yet)
N 4000 of all time
complete above 6: every key with more is in this list
";
        assert_eq!(table_of(&top(), None), expected);
        let mut hidden = top();
        hidden.redacted = true;
        hidden.incomplete = true;
        hidden.mixed = true;
        hidden.complete_above = None;
        hidden.keys = vec![key(None, 7, 7)];
        let minute = Some(Span { ms: 60_000 });
        let text = table_of(&hidden, minute);
        for words in [
            "(not shown)",
            "redacted: this server shows no names",
            "incomplete: ",
            "mixed: ",
            "N 4000 in 60 s",
            "not complete: ",
        ] {
            assert!(text.contains(words), "{words}: {text}");
        }
        hidden.age = None;
        assert!(table_of(&hidden, minute).ends_with("ask again in a second\n"));
        assert_eq!(share(5, 0), "-");
    }
}
