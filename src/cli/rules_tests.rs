//! Tests of `rmbd limits` for files of rules: what it prints.
#![allow(clippy::unwrap_used)]

use std::path::PathBuf;

use serde_json::{Value, json};

use super::*;
use crate::config::read;

const SHOP: &str = "\
domain: shop
descriptors:
- key: user
  shadow_mode: true
  rate_limit: {name: users, unit: day, requests_per_unit: 5}
- key: path
  value: /buy
  descriptors:
  - key: user
    detailed_metric: true
    rate_limit: {unit: second, requests_per_unit: 2, replaces: [{name: users}, {name: all}]}
";

const FREE: &str = "domain: free\ndescriptors: [{key: any, rate_limit: {unlimited: true}}]";

/// A folder that is removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str, files: &[(&str, &str)]) -> Self {
        let path = std::env::temp_dir().join(format!("rmbd-{name}-{}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        for (file, text) in files {
            std::fs::write(path.join(file), text).unwrap();
        }
        Self(path)
    }

    /// What a command line prints, in which `FOLDER` is the folder, and how it ends.
    fn run(&self, line: &str) -> (String, Result<(), CliError>) {
        let path = self.0.to_str().unwrap();
        let line = format!("rmbd {}", line.replace("FOLDER", path));
        let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        let command = read(&words, |cli: Cli| Ok(cli.command.unwrap())).unwrap();
        let mut output = Vec::new();
        let streams = Streams::to(&mut output);
        let done = run(&command, streams).map(drop);
        let said = String::from_utf8(output).unwrap();
        (said.replace(path, "FOLDER"), done)
    }

    fn json(&self, line: &str) -> Value {
        serde_json::from_str(&self.run(line).0).unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn right_files_are_told_as_what_they_have() {
    let folder = Folder::new(
        "rules-right",
        &[("b.yml", FREE), ("a.yaml", SHOP), ("c.yaml", "domain: c")],
    );
    let (said, done) = folder.run("limits check FOLDER");
    let expected = "\
FOLDER/a.yaml: domain shop, 2 rules, units: second, day
FOLDER/b.yml: domain free, 1 rule, units: none
FOLDER/c.yaml: domain c, 0 rules, units: none
";
    assert_eq!(said, expected);
    assert!(done.is_ok());
    let files = folder.json("limits check FOLDER/b.yml FOLDER/a.yaml --json");
    let shop = json!({
        "file": "FOLDER/a.yaml", "domains": ["shop"], "rules": 2, "units": ["second", "day"],
    });
    assert_eq!((files.as_array().unwrap().len(), &files[1]), (2, &shop));
}

#[test]
fn each_wrong_file_is_told_beside_the_right_ones() {
    let files = [
        ("a.yaml", SHOP),
        ("b.yaml", "domain: b\nno: no"),
        ("c.yaml", ""),
    ];
    let folder = Folder::new("rules-wrong", &files);
    let (said, done) = folder.run("limits check FOLDER");
    let lines: Vec<_> = said.lines().collect();
    assert_eq!(lines.len(), 3, "{said}");
    assert!(lines[0].starts_with("FOLDER/a.yaml: domain shop"), "{said}");
    assert!(
        lines[1].starts_with("FOLDER/b.yaml:2:1: a file of rules has no key `no`"),
        "{said}"
    );
    assert!(
        lines[2].starts_with("FOLDER/c.yaml:1:1: the file has no domain"),
        "{said}"
    );
    let error = done.unwrap_err();
    assert!(
        error.is_of_rules() && error.to_string().starts_with("2 of 3 files"),
        "{error}"
    );
    let files = folder.json("limits check FOLDER --json");
    assert_eq!(
        (&files[1]["line"], &files[1]["column"]),
        (&json!(2), &json!(1))
    );

    let (said, done) = folder.run("limits show FOLDER");
    assert_eq!(said, "");
    assert!(done.unwrap_err().to_string().contains("b.yaml:2:1: "));
}

/// Each is right by itself.
#[test]
fn files_are_checked_together() {
    let folder = Folder::new(
        "rules-together",
        &[("a.yaml", SHOP), ("b.yaml", "domain: shop")],
    );
    let (said, done) = folder.run("limits check FOLDER");
    assert_eq!(said.lines().count(), 2, "{said}");
    let error = done.unwrap_err();
    assert!(
        error.is_of_rules() && error.to_string().contains("b.yaml:1:9: the domain `shop`"),
        "{error}"
    );
}

#[test]
fn all_rules_are_shown() {
    let folder = Folder::new("rules-shown", &[("a.yaml", SHOP), ("b.yml", FREE)]);
    let expected = "\
RULE                 AMOUNT     NAME   FLAGS                                   FROM
shop.user            5/day      users  shadow                                  FOLDER/a.yaml:3
shop.path_/buy.user  2/second          detailed, replaces users, replaces all  FOLDER/a.yaml:9
free.any             unlimited                                                 FOLDER/b.yml:2
";
    let (said, done) = folder.run("limits show FOLDER");
    assert_eq!(said, expected);
    assert!(done.is_ok());
    let rules = folder.json("limits show FOLDER/a.yaml FOLDER/b.yml --json");
    let user = json!({
        "path": "shop.user",
        "amount": { "requests": 5, "unit": "day", "window_ms": 86_400_000 },
        "name": "users",
        "shadow": true,
        "detailed_metric": false,
        "value_to_metric": false,
        "replaces": [],
        "file": "FOLDER/a.yaml",
        "line": 3,
    });
    assert_eq!(rules[0], user);
    assert_eq!(rules[1]["replaces"], json!(["users", "all"]));
    assert_eq!(rules[2]["amount"], Value::Null);
}

#[test]
fn configurations_and_rules_are_not_mixed() {
    let folder = Folder::new(
        "rules-mixed",
        &[("a.yaml", SHOP), ("b.toml", "threads = 1")],
    );
    for command in ["check", "show"] {
        let (said, done) = folder.run(&format!("limits {command} FOLDER/a.yaml FOLDER/b.toml"));
        let error = done.unwrap_err();
        assert!(
            error.is_of_rules() && error.to_string().contains("b.toml: this is no folder"),
            "{error}"
        );
        assert_eq!(said, "");
        let (said, done) = folder.run(&format!("limits {command} FOLDER/b.toml"));
        assert!(said.starts_with("LIMIT ") && done.is_ok());
    }
}
