//! Tests of what a program sees of rules: reading them, what is refused, and what is found for descriptors.

#![allow(missing_docs, clippy::unwrap_used)]

mod bounds;
mod keys;
mod matching;
mod meaning;
mod nonsense;
mod refusals;

use rmbd_rules::{Descriptor, Entry, Rule, Rules, RulesError, RulesFile};

/// The name of the file in most tests.
const NAME: &str = "limits/a.yaml";

fn read(text: &str) -> Result<Rules, RulesError> {
    Rules::read(&[RulesFile { name: NAME, text }])
}

/// Rules that have to be right.
fn rules(text: &str) -> Rules {
    read(text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// The rule that a single descriptor meets.
fn met<'r>(rules: &'r Rules, domain: &str, entries: &[(&str, &str)]) -> Option<&'r Rule> {
    let entries: Vec<_> = pairs(entries);
    let matches = rules.of_request(domain, &[Descriptor::new(&entries)]);
    matches.rules()[0].map(|index| &rules[index])
}

fn pairs<'r>(pairs: &[(&'r str, &'r str)]) -> Vec<Entry<'r>> {
    let pairs = pairs.iter();
    pairs.map(|&(key, value)| Entry { key, value }).collect()
}
