//! The command `rmbd hit`.

use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;

use serde::Serialize;

use super::{CliError, Done, HitOptions, Streams, is_reader_gone};
use crate::status::JsonKey;
use rmbd_client::Hit;

/// Adds to a key, and reports whether the count is within the limit.
pub(super) fn run(options: &HitOptions, streams: &mut Streams<'_>) -> Result<Done, CliError> {
    let mut client = options.server.compact()?;
    let key = options.key.as_bytes();
    let hit = client.hit(key, options.weight.into(), options.limit)?;
    match print(key, hit, options, &mut streams.output) {
        Err(error) if !is_reader_gone(&error) => return Err(CliError::Output(error)),
        _ => {}
    }
    Ok(match hit.allowed {
        true => Done::AsAsked,
        false => Done::OverLimit,
    })
}

#[derive(Serialize)]
struct Printed<'k> {
    #[serde(flatten)]
    key: JsonKey<'k>,
    count: u64,
    limit: u64,
    within: bool,
    incomplete: bool,
}

fn print(key: &[u8], hit: Hit, options: &HitOptions, output: &mut dyn Write) -> io::Result<()> {
    if options.json {
        let printed = Printed {
            key: key.into(),
            count: hit.estimate,
            limit: options.limit,
            within: hit.allowed,
            incomplete: hit.incomplete,
        };
        serde_json::to_writer(&mut *output, &printed)?;
    } else {
        let verdict = if hit.allowed { "within" } else { "over" };
        write!(output, "{}\t{verdict}\t", hit.estimate)?;
        output.write_all(key)?;
    }
    output.write_all(b"\n")
}
