//! The command `rmbd limits`.

use std::path::PathBuf;

use clap::builder::BoolishValueParser;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::config::table;
use super::denied::{self, LimitsDeniedOptions};
use super::status::printable;
use super::{CliError, Streams, rules};
use crate::config::{Amount, KeySet, LimitConfig, config_of_file, is_of_rules};

/// `rmbd limits`
#[derive(Debug, Clone, Subcommand)]
pub enum LimitsCommand {
    /// Check a configuration file, and print its limits; exit code 1 if it is wrong. Or check files and folders of
    /// rules for descriptors, and say what each has; exit code 2 if one is wrong
    Check(LimitsCheckOptions),
    /// Print the limits of the configuration file, or all rules of files and folders of rules for descriptors
    Show(LimitsShowOptions),
    /// Show which keys the limits of a node denied most often in the last minutes
    Denied(LimitsDeniedOptions),
}

/// `rmbd limits check`
#[derive(Debug, Clone, Args)]
pub struct LimitsCheckOptions {
    /// A configuration file; or files of rules for descriptors (*.yaml, *.yml), and folders that have some
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,

    /// Print a JSON array of the limits, or of the files of rules
    #[arg(long, env = "RMBD_JSON", value_parser = BoolishValueParser::new())]
    json: bool,
}

/// `rmbd limits show`
#[derive(Debug, Clone, Args)]
pub struct LimitsShowOptions {
    /// Files of rules for descriptors (*.yaml, *.yml), and folders that have some; --config does not count then
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,

    /// The configuration file
    #[arg(
        long,
        value_name = "FILE",
        env = "RMBD_CONFIG",
        required_unless_present = "files"
    )]
    config: Option<PathBuf>,

    /// Print a JSON array of the limits, or of the rules
    #[arg(long, env = "RMBD_JSON", value_parser = BoolishValueParser::new())]
    json: bool,
}

pub(super) fn run(command: &LimitsCommand, streams: &mut Streams<'_>) -> Result<(), CliError> {
    let (text, verdict) = match command {
        LimitsCommand::Check(LimitsCheckOptions { files, json }) => match of_rules(files)? {
            Some(rules) => rules::check(rules, *json)?,
            None => (limits_of(files, *json)?, Ok(())),
        },
        LimitsCommand::Show(LimitsShowOptions {
            files,
            config,
            json,
        }) => {
            let files = if files.is_empty() {
                config.as_slice()
            } else {
                files
            };
            let text = match of_rules(files)? {
                Some(rules) => rules::show(rules, *json)?,
                None => limits_of(files, *json)?,
            };
            (text, Ok(()))
        }
        LimitsCommand::Denied(options) => return denied::run(options, streams),
    };
    let written = streams.output.write_all(text.as_bytes());
    written.map_err(CliError::Output)?;
    verdict
}

/// The paths, if they are those of rules. None if they are one configuration file.
fn of_rules(paths: &[PathBuf]) -> Result<Option<&[PathBuf]>, CliError> {
    match paths {
        [path] if !is_of_rules(path) => Ok(None),
        paths => match paths.iter().find(|path| !is_of_rules(path)) {
            Some(other) => Err(CliError::NotOfRules(other.clone())),
            None => Ok(Some(paths)),
        },
    }
}

/// The limits of configuration files.
fn limits_of(files: &[PathBuf], is_json: bool) -> Result<String, CliError> {
    let mut limits = Vec::new();
    for file in files {
        let config = config_of_file(file.as_os_str()).map_err(CliError::Config)?;
        limits.extend(config.limits);
    }
    Ok(if is_json {
        let limits: Vec<_> = limits.iter().map(document).collect();
        format!("{:#}\n", Value::from(limits))
    } else {
        table_of(&limits)
    })
}

/// A table with a row for each limit, and below it one for each override and each exemption.
pub(super) fn table_of(limits: &[LimitConfig]) -> String {
    let head = ["LIMIT", "SKETCH", "KEYS", "AMOUNTS", "COST", "VERDICT"].map(str::to_owned);
    let mut rows = vec![head];
    for limit in limits {
        let shadow = if limit.shadow { ", shadow" } else { "" };
        rows.push([
            limit.name.to_string(),
            limit.sketch.to_string(),
            printable(limit.keys.as_str()),
            amounts(&limit.amounts),
            limit.cost.to_string(),
            format!("{}{shadow}", limit.verdict.name()),
        ]);
        let overrides = limit.overrides.iter();
        let overrides = overrides.map(|it| (&it.who, amounts(&it.amounts)));
        let exempt = limit.exempt.iter().map(|who| (who, "exempt".to_owned()));
        // An exempt key has no limit, whatever override it has.
        rows.extend(exempt.chain(overrides).map(|(who, amounts)| {
            let [name, sketch, cost, verdict] = [const { String::new() }; 4];
            [
                name,
                sketch,
                printable(&who.to_string()),
                amounts,
                cost,
                verdict,
            ]
        }));
    }
    table(rows.into_iter())
}

fn amounts(amounts: &[Amount]) -> String {
    let amounts: Vec<_> = amounts.iter().map(ToString::to_string).collect();
    amounts.join(", ")
}

/// A limit as JSON.
pub(super) fn document(limit: &LimitConfig) -> Value {
    let overrides = limit.overrides.iter().map(|it| {
        let mut some = who(&it.who);
        some["amounts"] = json!(amounts_document(&it.amounts));
        some
    });
    json!({
        "name": limit.name.as_str(),
        "sketch": limit.sketch.as_str(),
        "keys": limit.keys.as_str(),
        "amounts": amounts_document(&limit.amounts),
        "cost": limit.cost,
        "verdict": limit.verdict.name(),
        "overrides": overrides.collect::<Vec<_>>(),
        "exempt": limit.exempt.iter().map(who).collect::<Vec<_>>(),
        "shadow": limit.shadow,
    })
}

fn amounts_document(amounts: &[Amount]) -> Vec<Value> {
    let amounts = amounts.iter();
    amounts
        .map(|amount| json!({ "count": amount.count, "window_ms": amount.window_ms }))
        .collect()
}

fn who(who: &KeySet) -> Value {
    match who {
        KeySet::Pattern(pattern) => json!({ "key": pattern.as_str() }),
        KeySet::Network(network) => json!({ "network": network }),
    }
}
