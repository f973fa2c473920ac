//! The command `rmbd limits denied`.

use std::fmt::Write as _;

use clap::Args;
use clap::builder::BoolishValueParser;

use super::config::table;
use super::http::StatusSource;
use super::status::{duration, printable};
use super::top::readable;
use super::{CliError, ServerOptions, Streams};
use crate::config::{DENIED_MAX, number};
use crate::status::{DeniedDocument, DeniedKeyDocument, DeniedLimitDocument, JsonKey};

/// Number of keys of each limit that are shown where nothing is said.
const SHOWN_DEFAULT: u8 = 10;

/// `rmbd limits denied`
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "Asks over HTTP for the last 5 to 10 minutes of this one node. Where more keys are denied than it keeps of each limit, it knows of each at least and at most how often it was, and above which number none lacks. It shows names only to loopback and to the networks of its --show-keys.\n\nIn the table, what could control a terminal stands as in a string of Rust: \\n, \\u{1b}, \\xff for a byte that is no UTF-8, and \\\\ for a backslash. With --json a key is a member `key` where it is UTF-8, and else `key_base64` in its place (RFC 4648, with padding); a key without a name has neither."
)]
pub struct LimitsDeniedOptions {
    /// The limit; without it, all limits
    #[arg(value_name = "NAME")]
    limit: Option<String>,

    /// How many keys of each limit to show
    #[arg(
        short = 'k', long = "keys", value_name = "N", env = "RMBD_KEYS", default_value_t = SHOWN_DEFAULT,
        value_parser = number::whole::<u8>(1..=DENIED_MAX as u64)
    )]
    keys: u8,

    /// Print a JSON object of {redacted, limits}, with limits of {limit, shadow_mode, covered_s, denied,
    /// complete_above, listed, keys}, and keys of {rank, key, at_least, at_most}
    #[arg(long, env = "RMBD_JSON", value_parser = BoolishValueParser::new())]
    json: bool,

    #[command(flatten)]
    server: ServerOptions,
}

/// Prints who is denied by the limits of a node.
pub(super) fn run(
    options: &LimitsDeniedOptions,
    streams: &mut Streams<'_>,
) -> Result<(), CliError> {
    let source = StatusSource::new(&options.server.server, options.server.timeout());
    let (document, denied) = source.denied(options.limit.as_deref(), options.keys)?;
    let text = match options.json {
        true => format!("{}\n", document.trim_end()),
        false => render(&denied),
    };
    let written = streams.output.write_all(text.as_bytes());
    written.map_err(CliError::Output)
}

/// A table for each limit that denied something, and a line on each.
fn render(denied: &DeniedDocument) -> String {
    let mut text = String::new();
    for limit in &denied.limits {
        if !limit.keys.is_empty() {
            text.push_str(&table_of(limit, denied.redacted));
        }
        text.push_str(&note(limit));
    }
    if denied.limits.is_empty() {
        text.push_str("no limits: this server has none with a name\n");
    }
    if denied.redacted {
        text.push_str("redacted: this server shows no names to this client, see its --show-keys\n");
    }
    text
}

fn table_of(limit: &DeniedLimitDocument, redacted: bool) -> String {
    let head = ["RANK", "DENIED", "KEY"].map(str::to_owned);
    let keys = limit.keys.iter();
    let rows = keys.map(|key| [key.rank.to_string(), times(key), name(key, redacted)]);
    table(std::iter::once(head).chain(rows))
}

/// What has to be known of all keys of a limit.
fn note(limit: &DeniedLimitDocument) -> String {
    let mut text = printable(&limit.limit);
    let hits = match limit.shadow_mode {
        true => "hits would have been denied (shadow)",
        false => "hits denied",
    };
    // Writing to a string cannot fail.
    let _ = write!(
        text,
        ": {} {hits} in {}",
        limit.denied,
        duration(limit.covered_s)
    );
    if limit.denied > 0 {
        let _ = write!(
            text,
            ", complete above {}: every key with more is in this list",
            limit.complete_above
        );
    }
    text.push('\n');
    text
}

fn times(key: &DeniedKeyDocument) -> String {
    match (key.at_least, key.at_most) {
        (least, most) if least == most => least.to_string(),
        (least, most) => format!("{least} to {most}"),
    }
}

fn name(key: &DeniedKeyDocument, redacted: bool) -> String {
    match key.key.as_ref().map(JsonKey::bytes) {
        Some(b"") => "(the empty key)".to_owned(),
        Some(name) => readable(name),
        None if redacted => "(not shown)".to_owned(),
        None => "(name not known yet)".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(rank: u64, name: Option<&[u8]>, at_least: u64, at_most: u64) -> DeniedKeyDocument {
        DeniedKeyDocument {
            rank,
            key: name.map(|name| name.to_vec().into()),
            at_least,
            at_most,
        }
    }

    #[test]
    fn each_limit_says_what_its_list_is_worth() {
        let api = DeniedLimitDocument {
            limit: "api".into(),
            shadow_mode: false,
            covered_s: 312.0,
            denied: 140,
            complete_above: 5,
            listed: 3,
            keys: vec![
                key(1, Some(b"10.0.0.7"), 120, 120),
                key(2, Some(b"\x1b[2J\xff"), 5, 9),
                key(3, None, 1, 6),
            ],
        };
        let login = DeniedLimitDocument {
            limit: "login".into(),
            shadow_mode: true,
            covered_s: 312.0,
            ..DeniedLimitDocument::default()
        };
        let mut denied = DeniedDocument {
            redacted: false,
            limits: vec![api, login],
        };
        let expected = "\
RANK  DENIED  KEY
1     120     10.0.0.7
2     5 to 9  \\u{1b}[2J\\xff
3     1 to 6  (name not known yet)
api: 140 hits denied in 5 min 12 s, complete above 5: every key with more is in this list
login: 0 hits would have been denied (shadow) in 5 min 12 s
";
        assert_eq!(render(&denied), expected);
        denied.redacted = true;
        denied.limits[0].keys = vec![key(1, None, 7, 7)];
        let text = render(&denied);
        assert!(
            text.contains("(not shown)") && text.contains("--show-keys"),
            "{text}"
        );
        denied.limits.clear();
        assert!(render(&denied).starts_with("no limits: "));
    }
}
