//! The command `rmbd sketches`.

use clap::Args;
use clap::builder::BoolishValueParser;
use serde_json::{Value, json};

use super::asked::time;
use super::config::table;
use super::status::printable;
use super::{CliError, ServerOptions, Streams};
use rmbd_client::{Hash, SketchInfo, SketchWindow};

const HEAD: [&str; 7] = [
    "SKETCH", "NUMBER", "SIZE", "HASH", "WINDOW", "STEP", "WIDTH",
];

/// `rmbd sketches`
#[derive(Debug, Clone, Args)]
pub struct SketchesOptions {
    /// Print a JSON array of {name, number, fingerprint, width, depth, hash, windows}, with windows of {span_ms,
    /// step_ms, width}
    #[arg(long, env = "RMBD_JSON", value_parser = BoolishValueParser::new())]
    json: bool,

    #[command(flatten)]
    server: ServerOptions,
}

/// Prints the sketches of a node, and the windows that they keep.
pub(super) fn run(options: &SketchesOptions, streams: &mut Streams<'_>) -> Result<(), CliError> {
    let sketches = options.server.compact()?.sketches()?;
    let text = if options.json {
        let list: Vec<_> = sketches.iter().map(document).collect();
        format!("{:#}\n", Value::from(list))
    } else {
        table_of(&sketches)
    };
    let written = streams.output.write_all(text.as_bytes());
    written.map_err(CliError::Output)
}

/// A row for each window, the first of a sketch with its name.
fn table_of(sketches: &[SketchInfo]) -> String {
    let mut rows = vec![HEAD.map(str::to_owned)];
    for sketch in sketches {
        let mut about = [
            printable(&sketch.name),
            sketch.number.0.to_string(),
            format!("{}x{}", sketch.depth, sketch.width),
            hash(sketch.hash),
        ];
        let windows = sketch.windows.iter().map(window_cells);
        let nothing = ["none".to_owned(), String::new(), String::new()];
        let windows: Vec<_> = match sketch.windows.is_empty() {
            true => vec![nothing],
            false => windows.collect(),
        };
        for [span, step, width] in windows {
            let [name, number, size, hash] = std::mem::take(&mut about);
            rows.push([name, number, size, hash, span, step, width]);
        }
    }
    table(rows.into_iter())
}

fn window_cells(window: &SketchWindow) -> [String; 3] {
    let [span, step] = [window.span, window.step].map(|it| time(ms(it)));
    [span, step, window.width.to_string()]
}

fn document(sketch: &SketchInfo) -> Value {
    let windows = sketch.windows.iter().map(|window| {
        json!({ "span_ms": ms(window.span), "step_ms": ms(window.step), "width": window.width })
    });
    json!({
        "name": sketch.name,
        "number": sketch.number.0,
        "fingerprint": format!("{:016x}", sketch.fingerprint),
        "width": sketch.width,
        "depth": sketch.depth,
        "hash": hash(sketch.hash),
        "windows": windows.collect::<Vec<_>>(),
    })
}

fn hash(hash: Hash) -> String {
    match hash {
        Hash::Xxh3 => "xxh3".to_owned(),
        Hash::Fnv => "fnv".to_owned(),
        Hash::Unknown(code) => format!("unknown ({code})"),
    }
}

fn ms(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
