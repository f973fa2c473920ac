//! The command `rmbd config`.

use std::ffi::OsString;
use std::fmt::Write as _;

use clap::builder::BoolishValueParser;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::limits;
use super::status::{bytes, printable};
use super::{CliError, Streams};
use crate::config::{NodeConfig, NodeOptions, Origins, SketchConfig, config_of_file, span_text};
use rmbd_store::WindowPlan;

/// `rmbd config`
#[derive(Debug, Clone, Subcommand)]
pub enum ConfigCommand {
    /// Check a configuration file, and say what sketches and limits it makes; exit code 1 if it is wrong
    Check(CheckOptions),
    /// Show what would be in force with these options, the variables and the file, and where it comes from
    Show(Box<ShowOptions>),
}

/// `rmbd config check`
#[derive(Debug, Clone, Args)]
pub struct CheckOptions {
    /// The file
    #[arg(value_name = "FILE")]
    file: OsString,
}

/// `rmbd config show`
#[derive(Debug, Clone, Args)]
pub struct ShowOptions {
    /// Print a JSON object of {settings, sketches, memory_bytes, limits}
    #[arg(long, env = "RMBD_JSON", value_parser = BoolishValueParser::new())]
    json: bool,

    /// The node's options.
    #[command(flatten)]
    pub node: NodeOptions,
}

pub(super) fn run(command: &ConfigCommand, streams: &mut Streams<'_>) -> Result<(), CliError> {
    let text = match command {
        ConfigCommand::Check(options) => check(options)?,
        ConfigCommand::Show(options) => show(options)?,
    };
    let written = streams.output.write_all(text.as_bytes());
    written.map_err(CliError::Output)
}

fn check(options: &CheckOptions) -> Result<String, CliError> {
    let config = config_of_file(&options.file).map_err(CliError::Config)?;
    let sketches = sketches(&config)?;
    let mut text = String::new();
    write_sketches(&sketches, config.cluster.learns_slices(), None, &mut text);
    // Writing to a string cannot fail.
    let _ = writeln!(text, "limits     {}", config.limits.len());
    Ok(text)
}

fn show(options: &ShowOptions) -> Result<String, CliError> {
    let node = options.node.clone();
    let (origins, log) = (node.origins.clone(), node.log.clone());
    let config = NodeConfig::from_options(node);
    let config = config.map_err(|error| CliError::Config(error.to_string()))?;
    let sketches = sketches(&config)?;
    let mut settings: Vec<_> = config
        .settings()
        .into_iter()
        .map(|setting| (setting.key, setting.value))
        .collect();
    settings.push(("log", json!(log)));
    if options.json {
        let document = document(&config, &settings, &sketches, &origins);
        return Ok(format!("{document:#}\n"));
    }
    let rows = settings.iter().map(|(key, value)| {
        let source = origins.of_setting(key).to_string();
        [(*key).to_owned(), shown(value), source]
    });
    let head = ["KEY", "VALUE", "FROM"].map(str::to_owned);
    let mut text = table(std::iter::once(head).chain(rows));
    text.push('\n');
    write_sketches(
        &sketches,
        config.cluster.learns_slices(),
        Some(&origins),
        &mut text,
    );
    if !config.limits.is_empty() {
        text.push('\n');
        text.push_str(&limits::table_of(&config.limits));
    }
    Ok(text)
}

fn sketches(config: &NodeConfig) -> Result<Vec<SketchConfig>, CliError> {
    let sketches = config.all_sketches();
    sketches.map_err(|error| CliError::Config(error.to_string()))
}

/// A value for people.
fn shown(value: &Value) -> String {
    match value {
        Value::Null => "automatic".to_owned(),
        Value::String(text) => printable(text),
        Value::Array(list) if list.is_empty() => "none".to_owned(),
        Value::Array(list) => list.iter().map(shown).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}

/// Writes lines for each sketch, its windows and its lists, and one for all.
fn write_sketches(
    sketches: &[SketchConfig],
    learns_slices: bool,
    origins: Option<&Origins>,
    out: &mut String,
) {
    let mut all: u64 = 0;
    for sketch in sketches {
        let source = origins.map(|origins| format!(", from {}", origins.of_sketch(&sketch.name)));
        let _ = writeln!(
            out,
            "sketch     {} {}x{}, {}{}",
            sketch.name,
            sketch.geometry.depth(),
            sketch.geometry.width(),
            bytes(sketch.cells_memory_bytes(learns_slices)),
            source.unwrap_or_default(),
        );
        for window in &sketch.windows {
            let _ = writeln!(
                out,
                "window     {} {} by {}, {}x{}, {}",
                sketch.name,
                span_text(window.span_ms()),
                span_text(window.step_ms()),
                window.geometry().depth(),
                window.width(),
                bytes(window.memory_bytes()),
            );
        }
        let _ = match sketch.top {
            0 => writeln!(out, "top        {} none", sketch.name),
            top => writeln!(out, "top        {} the {top} largest keys", sketch.name),
        };
        all = all.saturating_add(sketch.memory_bytes(learns_slices));
    }
    let _ = writeln!(
        out,
        "memory     {} for all sketches and windows",
        bytes(all)
    );
}

fn document(
    config: &NodeConfig,
    settings: &[(&'static str, Value)],
    sketches: &[SketchConfig],
    origins: &Origins,
) -> Value {
    let learns_slices = config.cluster.learns_slices();
    let settings = settings.iter().map(|(key, value)| {
        let source = origins.of_setting(key).to_string();
        ((*key).to_owned(), json!({ "value": value, "from": source }))
    });
    let memory = sketches.iter().map(|it| it.memory_bytes(learns_slices));
    let sketches = sketches.iter().map(|sketch| {
        json!({
            "name": sketch.name.as_str(),
            "number": sketch.name.number().0,
            "from": origins.of_sketch(&sketch.name).to_string(),
            "width": sketch.geometry.width(),
            "depth": sketch.geometry.depth(),
            "memory_bytes": sketch.cells_memory_bytes(learns_slices),
            "windows": sketch.windows.iter().map(window).collect::<Vec<_>>(),
            "top": sketch.top,
        })
    });
    json!({
        "settings": settings.collect::<serde_json::Map<_, _>>(),
        "memory_bytes": memory.fold(0, u64::saturating_add),
        "sketches": sketches.collect::<Vec<_>>(),
        "limits": config.limits.iter().map(limits::document).collect::<Vec<_>>(),
    })
}

fn window(window: &WindowPlan) -> Value {
    json!({
        "span_ms": window.span_ms(),
        "step_ms": window.step_ms(),
        "width": window.width(),
        "memory_bytes": window.memory_bytes(),
    })
}

/// Rows whose columns stand below each other.
pub(super) fn table<const N: usize>(rows: impl Iterator<Item = [String; N]>) -> String {
    let rows: Vec<_> = rows.collect();
    let mut widths = [0; N];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut text = String::new();
    for row in &rows {
        let cells = row.iter().zip(widths);
        let line: String = cells
            .map(|(cell, width)| format!("{cell:width$}  "))
            .collect();
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}
