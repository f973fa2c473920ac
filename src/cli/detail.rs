//! The command `rmbd count --detail`.

use std::io::Write;

use super::asked::time;
use super::http::StatusSource;
use super::keys::{Input, Next, Stop, check_all, for_each};
use super::status::printable;
use super::{CliError, CountOptions, Streams};
use crate::status::{Detail, OriginDetail, WindowDetail};
use rmbd_client::KEY_BYTES_MAX;
use rmbd_proto::SketchNumber;

/// Prints each key's count, and below it the part of each origin.
pub(super) fn run(options: &CountOptions, streams: &mut Streams<'_>) -> Result<(), CliError> {
    let source = StatusSource::new(&options.server.server, options.server.timeout());
    // Servers before sketches know no such parameter.
    let sketch = Some(&options.sketch.sketch).filter(|it| it.number() != SketchNumber::DEFAULT);
    let Streams {
        input,
        input_waits,
        output,
        ..
    } = streams;
    let mut input = Input {
        reader: input,
        waits: input_waits,
        key_bytes_max: KEY_BYTES_MAX,
        keep_cr: options.lines.keep_cr,
    };
    let mut asked = 0_u64;
    let read = for_each(&options.keys, &mut input, |next| {
        let Next::Key(key) = next else {
            return output.flush().map_err(CliError::Output);
        };
        let detail = source.detail(key, sketch, options.window)?;
        let text = if options.json {
            element(&detail, asked == 0)
        } else {
            lines(&detail, key, options.smooth)
        };
        asked += 1;
        output.write_all(&text).map_err(CliError::Output)
    });
    if let Err(Stop::Taker(error)) = read {
        return Err(error);
    }
    if options.json {
        let end: &[u8] = if asked == 0 { b"[]\n" } else { b"]\n" };
        output.write_all(end).map_err(CliError::Output)?;
    }
    let done = format!("{asked} keys were counted");
    check_all(read, KEY_BYTES_MAX, done)
}

fn element(detail: &Detail, is_first: bool) -> Vec<u8> {
    let mut text = if is_first {
        b"[".to_vec()
    } else {
        b",\n ".to_vec()
    };
    // The values are numbers and texts in memory, so nothing can fail.
    let _ = serde_json::to_writer(&mut text, detail);
    text
}

fn lines(detail: &Detail, key: &[u8], is_smooth: bool) -> Vec<u8> {
    let mut text = format!("{}\t", detail.count).into_bytes();
    text.extend(key);
    if detail.incomplete {
        text.extend(b"\tincomplete");
    }
    text.push(b'\n');
    if let Some(window) = &detail.window {
        text.extend(of_window(window, is_smooth).bytes());
    }
    for origin in &detail.origins {
        text.extend(format!("  {}\t{}\n", origin.count, whose(origin)).bytes());
    }
    text
}

fn of_window(window: &WindowDetail, is_smooth: bool) -> String {
    let count = if is_smooth {
        window.smooth
    } else {
        window.bound
    };
    let notes = [
        (window.incomplete, ", incomplete"),
        (window.overflowed, ", overflowed"),
    ];
    let notes = notes.into_iter().filter(|(applies, _)| *applies);
    let notes: String = notes.map(|(_, note)| note).collect();
    let (span, error) = (time(window.span_ms), window.error);
    format!("  {count}\tin the last {span}, at most {error} too high{notes}\n")
}

fn whose(origin: &OriginDetail) -> String {
    let name = match (&origin.node, &origin.legacy) {
        (Some(node), _) => format!("node {}", printable(node)),
        (None, Some(address)) => format!("legacy peer {}", printable(address)),
        (None, None) => "nobody known".to_owned(),
    };
    let notes = [
        (origin.own, "the one that answers".to_owned()),
        (origin.slices > 1, format!("{} slices", origin.slices)),
    ];
    let notes = notes.into_iter().filter(|(applies, _)| *applies);
    notes.fold(name, |name, (_, note)| format!("{name}, {note}"))
}
