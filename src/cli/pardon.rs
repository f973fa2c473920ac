//! The command `rmbd pardon`.

use std::ffi::OsString;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;

use clap::Args;
use clap::builder::BoolishValueParser;
use serde::Serialize;

use super::asked::{Span, time};
use super::refused::{About, explain};
use super::{CliError, ServerOptions, Streams};
use crate::config::LimitName;
use crate::status::JsonKey;

/// `rmbd pardon`
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "Only loopback and the networks of the server's --trust may pardon. What the key has in the windows of the limit now does not count against it for the time of --for, on the server at once and on all nodes of its cluster within a round or two; what it does from now on does. Another pardon of the key takes the place of the one before."
)]
pub struct PardonOptions {
    /// A key of at most 1024 bytes
    #[arg(value_name = "KEY")]
    key: OsString,

    /// A limit of the server's own
    #[arg(long, value_name = "NAME", env = "RMBD_LIMIT_NAME")]
    limit_name: LimitName,

    /// For how long
    #[arg(long = "for", value_name = "TIME", env = "RMBD_FOR")]
    span: Span,

    /// Print a JSON object of {key, limit_name, for_ms, credit}; key_base64 in place of key where that is no UTF-8
    #[arg(long, env = "RMBD_JSON", value_parser = BoolishValueParser::new())]
    json: bool,

    #[command(flatten)]
    server: ServerOptions,
}

/// Forgives a key what it has in the windows of a limit, in the whole cluster of the server.
pub(super) fn run(options: &PardonOptions, streams: &mut Streams<'_>) -> Result<(), CliError> {
    let (key, name) = (options.key.as_bytes(), options.limit_name.as_str());
    let mut client = options.server.compact()?;
    let credit = client.pardon(name, key, options.span.duration());
    let credit = credit.map_err(|error| explain(error, &mut client, About::Limit(name)))?;
    let printed = Printed {
        key: key.into(),
        limit_name: name,
        for_ms: options.span.ms,
        credit,
    };
    let output = &mut *streams.output;
    let written = match options.json {
        true => serde_json::to_writer(&mut *output, &printed)
            .map_err(io::Error::from)
            .and_then(|()| output.write_all(b"\n")),
        false => print(key, &printed, output),
    };
    written.map_err(CliError::Output)
}

#[derive(Serialize)]
struct Printed<'k> {
    #[serde(flatten)]
    key: JsonKey<'k>,
    limit_name: &'k str,
    for_ms: u64,
    credit: u64,
}

fn print(key: &[u8], printed: &Printed<'_>, output: &mut dyn Write) -> io::Result<()> {
    output.write_all(key)?;
    writeln!(
        output,
        ": {} forgiven by {} for {}",
        printed.credit,
        printed.limit_name,
        time(printed.for_ms)
    )
}
