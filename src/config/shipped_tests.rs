//! Tests of the configuration file that the package installs.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value;
use toml::de::{DeTable, DeValue};

use super::file::{keys, limits, sketches};
use super::*;

const SHIPPED: &str = include_str!("../../deploy/debian/rmbd.toml");
/// Rules that the file names, of which only the folder is there.
const RULES: (&str, &str) = (
    "/etc/rmbd/limits",
    concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/envoy_rules.yaml"),
);

/// The file with the signs taken off its options, and each group of options that go in place of others.
fn taken_off() -> (String, Vec<String>) {
    let (mut all, mut others) = (String::new(), Vec::new());
    let mut is_in_group = false;
    for line in SHIPPED.lines() {
        let was_in_group = is_in_group;
        is_in_group = line.starts_with("##");
        if let Some(option) = line.strip_prefix("##") {
            if !was_in_group {
                others.push(String::new());
            }
            *others.last_mut().unwrap() += &format!("{option}\n");
            continue;
        }
        let option = line.strip_prefix('#');
        let option = option.filter(|rest| !rest.is_empty() && !rest.starts_with(' '));
        all += &format!("{}\n", option.unwrap_or(line));
    }
    (all.replace(RULES.0, RULES.1), others)
}

fn read(text: &str) -> Result<NodeConfig, String> {
    let name = format!("rmbd-shipped-{}-{}.toml", std::process::id(), text.len());
    let path = std::env::temp_dir().join(name);
    fs::write(&path, text).unwrap();
    let config = config_of_file(path.as_os_str());
    fs::remove_file(&path).unwrap();
    config
}

/// Keys of all tables of a list.
fn keys_of<'t>(tables: impl Iterator<Item = &'t DeTable<'t>>) -> BTreeSet<String> {
    tables
        .flat_map(|table| table.keys().map(|key| key.get_ref().to_string()))
        .collect()
}

fn tables<'t>(table: &'t DeTable<'t>, key: &str) -> Vec<&'t DeTable<'t>> {
    let Some(DeValue::Array(list)) = table.get(key).map(toml::Spanned::get_ref) else {
        return Vec::new();
    };
    let table = |value: &'t toml::Spanned<DeValue<'t>>| match value.get_ref() {
        DeValue::Table(table) => table,
        _ => panic!("{key} is a list of tables"),
    };
    list.iter().map(table).collect()
}

#[test]
fn the_file_says_nothing_and_with_its_signs_taken_off_it_is_understood() {
    assert_eq!(read(SHIPPED), Ok(NodeConfig::default()));
    let (all, others) = taken_off();
    let config = read(&all).unwrap();
    assert_eq!((config.sketches.len(), config.limits.len()), (3, 1));
    assert_eq!(others.len(), 2);
    for other in others {
        read(&other).unwrap_or_else(|error| panic!("{other}: {error}"));
    }
}

#[test]
fn the_file_has_every_key() {
    let (all, others) = taken_off();
    let whole = DeTable::parse(&all).unwrap();
    let whole = whole.get_ref();
    let others: Vec<_> = others
        .iter()
        .map(|text| DeTable::parse(text).unwrap())
        .collect();
    let top = keys_of(std::iter::once(whole).chain(others.iter().map(toml::Spanned::get_ref)));
    let known = keys().into_iter().map(|key| key.name);
    let known: BTreeSet<String> = known
        .chain(["sketch", "limit"].map(str::to_owned))
        .collect();
    assert_eq!(top, known);
    let of = |keys: &[&str]| {
        keys.iter()
            .map(|key| (*key).to_owned())
            .collect::<BTreeSet<_>>()
    };
    let sketches_of_file = tables(whole, "sketch");
    let windows = sketches_of_file
        .iter()
        .flat_map(|sketch| tables(sketch, "window"));
    assert_eq!(keys_of(windows), of(&sketches::WINDOW_KEYS));
    assert_eq!(keys_of(sketches_of_file.into_iter()), of(&sketches::KEYS));
    let limits_of_file = tables(whole, "limit");
    let overrides = limits_of_file
        .iter()
        .flat_map(|limit| tables(limit, "overrides"));
    assert_eq!(keys_of(overrides), of(&limits::OVERRIDE_KEYS));
    assert_eq!(keys_of(limits_of_file.into_iter()), of(&limits::KEYS));
}

/// What has a default is shown with it; all else is an example.
#[test]
fn the_file_shows_the_defaults() {
    let shown = read(&taken_off().0).unwrap().settings();
    for (shown, default) in shown.iter().zip(NodeConfig::default().settings()) {
        let is_example = default.value.is_null() || default.value == Value::Array(Vec::new());
        assert!(
            is_example || *shown == default,
            "{shown:?} is not {default:?}"
        );
    }
}
