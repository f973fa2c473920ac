//! The target for files of rules.

use rmbd_rules::{Descriptor, Entry, Rules, RulesFile};

const NAME: &str = "some.yaml";

/// A text is read or refused in words that name its file and a line of it; what is read is the same each time, and is
/// found.
pub fn yaml(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    let lines = text.split('\n').count() + text.matches('\r').count();
    let read = || Rules::read(&[RulesFile { name: NAME, text }]);
    match read() {
        Ok(rules) => {
            let again: Vec<_> = read()
                .unwrap()
                .iter()
                .map(|(_, rule)| rule.clone())
                .collect();
            assert_eq!(rules.len(), again.len());
            for ((index, rule), again) in rules.iter().zip(&again) {
                assert_eq!((rules.get(index), rule), (Some(again), again));
                assert!((1..=lines as u32).contains(&rule.line), "{rule:?}");
                assert_eq!(&*rule.file, NAME);
            }
            find_all(&rules);
        }
        Err(error) => {
            let said = error.to_string();
            assert!(said.starts_with(NAME), "{said}");
            assert!(said.len() < 1000 && !said.contains('\n'), "{said}");
            let line = error.line().expect("a line");
            // The end of a text may be told as the line behind it.
            assert!((1..=lines as u32 + 1).contains(&line), "{said}");
        }
    }
}

/// Asks for the pairs that paths of rules say. What is met is a rule of this place, or of another one that reads the
/// same, since keys may have the signs that paths are made of.
fn find_all(rules: &Rules) {
    let domains: Vec<_> = rules.domains().collect();
    let [domain] = domains[..] else {
        panic!("{} domains in one file", domains.len());
    };
    assert_eq!(domain.rules, rules.len());
    for (_, rule) in rules.iter() {
        let levels = rule.path().strip_prefix(&*domain.name).expect("its domain");
        let pairs = levels.split('.').skip(1);
        let pairs = pairs.map(|level| level.split_once('_').unwrap_or((level, "")));
        let entries: Vec<_> = pairs.map(|(key, value)| Entry { key, value }).collect();
        let met = rules.of_request(&domain.name, &[Descriptor::new(&entries)]);
        let [met] = *met.rules() else {
            panic!("one descriptor, {met:?}");
        };
        let met = met.map(|index| rules.get(index).expect("a rule of these"));
        assert!(met.is_none_or(|met| met.path().split('.').count() >= entries.len()));
    }
}
