//! What `rmbd limits` says of files of rules.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::CliError;
use super::config::table;
use super::status::printable;
use crate::config::{RulesFilesError, RulesText, read_rules, read_rules_texts, understand};
use rmbd_rules::{Amount, Rule, Rules, RulesError};

/// What each file has, or what is wrong with it; and whether all of them are right.
pub(super) fn check(
    paths: &[PathBuf],
    is_json: bool,
) -> Result<(String, Result<(), CliError>), CliError> {
    let texts = read_rules_texts(paths)?;
    let alone: Vec<_> = texts
        .iter()
        .map(|text| (text, understand(std::slice::from_ref(text))))
        .collect();
    let wrong = alone.iter().filter(|(_, rules)| rules.is_err()).count();
    let verdict = match wrong {
        // Each of them may be right, and two of them have one domain.
        0 => understand(&texts)
            .map(drop)
            .map_err(|error| RulesFilesError::from(error).into()),
        wrong => Err(CliError::WrongRules {
            wrong,
            files: texts.len(),
        }),
    };
    let text = if is_json {
        let files: Vec<_> = alone.iter().map(file_document).collect();
        format!("{:#}\n", Value::from(files))
    } else {
        alone.iter().map(file_line).collect()
    };
    Ok((text, verdict))
}

/// All rules, a row or an object each.
pub(super) fn show(paths: &[PathBuf], is_json: bool) -> Result<String, CliError> {
    let rules = read_rules(paths)?;
    if is_json {
        let rules: Vec<_> = rules.iter().map(|(_, rule)| document(rule)).collect();
        return Ok(format!("{:#}\n", Value::from(rules)));
    }
    let head = ["RULE", "AMOUNT", "NAME", "FLAGS", "FROM"].map(str::to_owned);
    let rows = rules.iter().map(|(_, rule)| {
        let name = rule.name.as_deref();
        [
            printable(rule.path()),
            amount(&rule.amount),
            name.map_or_else(String::new, printable),
            flags(rule),
            printable(&format!("{}:{}", rule.file, rule.line)),
        ]
    });
    Ok(table(std::iter::once(head).chain(rows)))
}

fn file_line((text, rules): &(&RulesText, Result<Rules, RulesError>)) -> String {
    let said = match rules {
        Err(error) => error.to_string(),
        Ok(rules) => {
            let units: Vec<_> = rules.units().map(|unit| unit.name()).collect();
            let domains = rules.domains().map(|domain| {
                let plural = if domain.rules == 1 { "" } else { "s" };
                format!("domain {}, {} rule{plural}", domain.name, domain.rules)
            });
            let domains = domains.collect::<Vec<_>>().join("; ");
            let units = if units.is_empty() {
                "none".to_owned()
            } else {
                units.join(", ")
            };
            format!("{}: {domains}, units: {units}", text.name)
        }
    };
    format!("{}\n", printable(&said))
}

fn file_document((text, rules): &(&RulesText, Result<Rules, RulesError>)) -> Value {
    match rules {
        Err(error) => json!({
            "file": text.name,
            "error": error.wrong().to_string(),
            "line": error.line(),
            "column": error.column(),
        }),
        Ok(rules) => json!({
            "file": text.name,
            "domains": rules.domains().map(|it| &it.name).collect::<Vec<_>>(),
            "rules": rules.len(),
            "units": rules.units().map(|unit| unit.name()).collect::<Vec<_>>(),
        }),
    }
}

fn amount(amount: &Amount) -> String {
    match amount {
        Amount::Unlimited => "unlimited".to_owned(),
        Amount::PerUnit { requests, unit } => format!("{requests}/{unit}"),
    }
}

fn flags(rule: &Rule) -> String {
    let mut flags = Vec::new();
    for (flag, is_set) in [
        ("shadow", rule.is_shadow),
        ("detailed", rule.is_detailed),
        ("values", rule.has_values_in_metrics),
    ] {
        if is_set {
            flags.push(flag.to_owned());
        }
    }
    let replaced = rule.replaces.iter();
    flags.extend(replaced.map(|name| printable(&format!("replaces {name}"))));
    flags.join(", ")
}

fn document(rule: &Rule) -> Value {
    let amount = match rule.amount {
        Amount::Unlimited => Value::Null,
        Amount::PerUnit { requests, unit } => json!({
            "requests": requests,
            "unit": unit.name(),
            "window_ms": unit.window_ms(),
        }),
    };
    json!({
        "path": rule.path(),
        "amount": amount,
        "name": rule.name,
        "shadow": rule.is_shadow,
        "detailed_metric": rule.is_detailed,
        "value_to_metric": rule.has_values_in_metrics,
        "replaces": rule.replaces,
        "file": &*rule.file,
        "line": rule.line,
    })
}
