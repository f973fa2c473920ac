//! Which rule a descriptor meets: examples, and random trees beside a naive search.

use std::fmt::Write;

use rmbd_rules::{Amount, Descriptor, Rules};
use rmbd_testkit::random::Random;

use super::{met, pairs, rules};

const EXAMPLES: &str = "
domain: d
descriptors:
- key: k
  rate_limit: {unit: second, requests_per_unit: 1}
- key: k
  value: one
  rate_limit: {unit: second, requests_per_unit: 2}
- key: k
  value: free
- key: k
  value: o*
  rate_limit: {unit: second, requests_per_unit: 3}
- key: k
  value: '*e'
  rate_limit: {unit: second, requests_per_unit: 4}
- key: k
  value: a*b*c
  rate_limit: {unit: second, requests_per_unit: 5}
- key: deep
  value: v
  rate_limit: {unit: second, requests_per_unit: 6}
  descriptors:
  - key: deeper
    rate_limit: {unit: second, requests_per_unit: 7}
- key: deep
  descriptors:
  - key: other
    rate_limit: {unit: second, requests_per_unit: 8}
- key: star
  value: '*'
  rate_limit: {unit: second, requests_per_unit: 9}
- key: star
  rate_limit: {unit: second, requests_per_unit: 10}
- key: order
  value: 'a*'
  rate_limit: {unit: second, requests_per_unit: 11}
- key: order
  value: 'a*b'
  rate_limit: {unit: second, requests_per_unit: 12}
";

type Pairs = &'static [(&'static str, &'static str)];

/// A descriptor, and the number of requests of the rule that it meets.
const MET: &[(Pairs, Option<u32>)] = &[
    // The value, before a wildcard, before the key alone.
    (&[("k", "one")], Some(2)),
    (&[("k", "ones")], Some(3)),
    (&[("k", "o")], Some(3)),
    (&[("k", "oe")], Some(3)),
    (&[("k", "e")], Some(4)),
    (&[("k", "two")], Some(1)),
    (&[("k", "")], Some(1)),
    // A descriptor without a rule frees its value.
    (&[("k", "free")], None),
    // Wildcards in the middle take nothing twice.
    (&[("k", "abc")], Some(5)),
    (&[("k", "aXbYc")], Some(5)),
    (&[("k", "abbc")], Some(5)),
    (&[("k", "ac")], Some(1)),
    (&[("k", "aXcb")], Some(1)),
    // Cases count.
    (&[("K", "one")], None),
    (&[("k", "One")], Some(4)),
    // As deep as the rule, no less and no more.
    (&[("deep", "v")], Some(6)),
    (&[("deep", "v"), ("deeper", "x")], Some(7)),
    (&[("deep", "v"), ("deeper", "x"), ("deepest", "x")], None),
    (&[("k", "one"), ("k", "one")], None),
    // There is no way back from a value to the key alone.
    (&[("deep", "w"), ("other", "x")], Some(8)),
    (&[("deep", "v"), ("other", "x")], None),
    (&[("deep", "w")], None),
    // `*` fits the empty value, too.
    (&[("star", "")], Some(9)),
    (&[("star", "x")], Some(9)),
    // The first wildcard that fits; a text like a pattern is its own.
    (&[("order", "aab")], Some(11)),
    (&[("order", "a*b")], Some(12)),
    (&[("order", "a*")], Some(11)),
    (&[("none", "")], None),
    (&[], None),
];

#[test]
fn a_descriptor_meets_the_rule_of_its_last_pair() {
    let rules = rules(EXAMPLES);
    for (entries, expected) in MET {
        let requests = met(&rules, "d", entries).map(|rule| requests(&rule.amount));
        assert_eq!(requests, *expected, "{entries:?}");
        assert!(met(&rules, "e", entries).is_none(), "another domain");
    }
}

#[test]
fn an_unknown_domain_is_told_apart() {
    let rules = rules(EXAMPLES);
    let entries = pairs(&[("k", "one")]);
    let none = pairs(&[("none", "")]);
    let descriptors = [Descriptor::new(&none), Descriptor::new(&entries)];
    let known = rules.of_request("d", &descriptors);
    assert!(known.is_domain_known());
    assert!(known.rules()[0].is_none() && known.rules()[1].is_some());
    let unknown = rules.of_request("D", &descriptors);
    assert!(!unknown.is_domain_known());
    assert_eq!(unknown.rules(), [None, None]);
    assert!(rules.of_request("d", &[]).rules().is_empty());
}

const REPLACING: &str = "
domain: d
descriptors:
- key: all
  rate_limit: {name: all, unit: second, requests_per_unit: 1}
- key: some
  rate_limit: {name: some, unit: second, requests_per_unit: 2, replaces: [{name: all}]}
- key: few
  rate_limit: {name: few, unlimited: true, replaces: [{name: some}, {name: nobody}]}
- key: other
  rate_limit: {name: all, unit: second, requests_per_unit: 4}
";

/// What a request with a descriptor for each key meets.
fn replaced(rules: &Rules, keys: &[&str], own_limit: Option<usize>) -> Vec<bool> {
    let entries: Vec<_> = keys.iter().map(|key| pairs(&[(key, "")])).collect();
    let descriptors = entries
        .iter()
        .enumerate()
        .map(|(place, entries)| Descriptor {
            entries,
            has_own_limit: own_limit == Some(place),
        });
    let descriptors: Vec<_> = descriptors.collect();
    let matches = rules.of_request("d", &descriptors);
    matches.rules().iter().map(|rule| rule.is_some()).collect()
}

#[test]
fn a_rule_that_is_replaced_is_dropped_for_its_request() {
    let rules = rules(REPLACING);
    let of = |keys: &[&str]| replaced(&rules, keys, None);
    assert_eq!(of(&["all"]), [true]);
    assert_eq!(of(&["all", "some"]), [false, true]);
    assert_eq!(of(&["some", "all"]), [true, false]);
    assert_eq!(
        of(&["all", "other", "some"]),
        [false, false, true],
        "all of one name"
    );
    assert_eq!(
        of(&["few", "some"]),
        [true, false],
        "by one without a limit"
    );
    assert_eq!(
        of(&["all", "some", "few"]),
        [false, false, true],
        "also by one that is dropped"
    );
    assert_eq!(of(&["all", "few"]), [true, true]);
}

/// A limit of the request takes the place of the rule, with all that this would do.
#[test]
fn a_descriptor_with_a_limit_of_its_own_neither_replaces_nor_is_replaced() {
    let rules = rules(REPLACING);
    assert_eq!(replaced(&rules, &["all", "some"], Some(1)), [true, false]);
    assert_eq!(replaced(&rules, &["all", "some"], Some(0)), [false, true]);
}

// The naive search.

/// A descriptor of a file.
struct Branch {
    key: String,
    value: String,
    /// Number of requests, which no other rule has.
    rule: Option<u32>,
    name: Option<char>,
    replaces: Vec<char>,
    below: Vec<Self>,
}

/// The wildcards by definition: the first `*` stands for nothing, or for a character and still for itself.
fn fits(pattern: &[char], value: &[char]) -> bool {
    match (pattern, value) {
        ([], []) => true,
        (['*', rest @ ..], _) if fits(rest, value) => true,
        (['*', ..], [_, rest @ ..]) => fits(pattern, rest),
        ([first, pattern @ ..], [it, value @ ..]) if first == it => fits(pattern, value),
        _ => false,
    }
}

fn naive<'b>(level: &'b [Branch], entries: &[(String, String)]) -> Option<&'b Branch> {
    let ((key, value), rest) = entries.split_first()?;
    let chars = |text: &str| text.chars().collect::<Vec<_>>();
    let of_key = || level.iter().filter(|it| it.key == *key);
    let exact = of_key().find(|it| !it.value.is_empty() && it.value == *value);
    let wild =
        || of_key().find(|it| it.value.contains('*') && fits(&chars(&it.value), &chars(value)));
    let any = || of_key().find(|it| it.value.is_empty());
    let branch = exact.or_else(wild).or_else(any)?;
    if rest.is_empty() {
        return branch.rule.is_some().then_some(branch);
    }
    naive(&branch.below, rest)
}

const KEYS: [&str; 4] = ["a", "b", "a_x", "ä"];

fn word(random: &mut Random, letters: &[char]) -> String {
    let length = random.below(4);
    (0..length)
        .map(|_| letters[random.below(letters.len() as u64) as usize])
        .collect()
}

fn tree(random: &mut Random, levels: u64, rules: &mut u32) -> Vec<Branch> {
    let mut level: Vec<Branch> = Vec::new();
    for _ in 0..random.below(9) {
        let key = KEYS[random.below(4) as usize].to_owned();
        let value = word(random, &['x', 'y', '*']);
        if level.iter().any(|it| it.key == key && it.value == value) {
            continue;
        }
        *rules += 1;
        let name = (random.below(2) == 0).then(|| NAMES[random.below(3) as usize]);
        let replaces = NAMES
            .into_iter()
            .filter(|it| Some(*it) != name && random.below(3) == 0);
        let replaces: Vec<_> = replaces.collect();
        level.push(Branch {
            key,
            value,
            rule: (random.below(4) > 0).then_some(*rules),
            name,
            replaces,
            below: if levels > 1 {
                tree(random, levels - 1, rules)
            } else {
                Vec::new()
            },
        });
    }
    level
}

/// A descriptor that mostly goes down a tree, and may leave it anywhere.
fn descriptor(random: &mut Random, mut level: &[Branch]) -> Vec<(String, String)> {
    let mut entries = Vec::new();
    while random.below(4) > 0 {
        let place = random.below(level.len() as u64 + 1) as usize;
        let other = word(random, &['x', 'y', '*']);
        let Some(branch) = level.get(place) else {
            entries.push((KEYS[random.below(4) as usize].to_owned(), other));
            continue;
        };
        let value = match random.below(4) {
            0 => other,
            1 => branch.value.clone(),
            _ => branch.value.replace('*', &other),
        };
        entries.push((branch.key.clone(), value));
        level = &branch.below;
    }
    entries
}

const NAMES: [char; 3] = ['p', 'q', 'r'];

fn write(level: &[Branch], indent: usize, text: &mut String) {
    for branch in level {
        let Branch { key, value, .. } = branch;
        write!(text, "{:indent$}- {{key: \"{key}\", value: \"{value}\"", "").unwrap();
        if let Some(rule) = branch.rule {
            write!(
                text,
                ", rate_limit: {{unit: second, requests_per_unit: {rule}"
            )
            .unwrap();
            if let Some(name) = branch.name {
                write!(text, ", name: {name}").unwrap();
            }
            let replaces: Vec<_> = branch
                .replaces
                .iter()
                .map(|it| format!("{{name: {it}}}"))
                .collect();
            write!(text, ", replaces: [{}]}}", replaces.join(", ")).unwrap();
        }
        if branch.below.is_empty() {
            text.push_str("}\n");
            continue;
        }
        text.push_str(", descriptors: [\n");
        let mut below = String::new();
        write(&branch.below, indent + 2, &mut below);
        // A list in flow form, whose items are mappings without dashes.
        text.push_str(&below.replace("- {", "{").replace("}\n", "},\n"));
        writeln!(text, "{:indent$}]}}", "").unwrap();
    }
}

const fn requests(amount: &Amount) -> u32 {
    match amount {
        Amount::PerUnit { requests, .. } => *requests,
        Amount::Unlimited => u32::MAX,
    }
}

#[test]
fn random_descriptors_meet_what_a_naive_search_finds() {
    let (mut found, mut dropped) = (0, 0);
    for seed in 0..300 {
        let mut random = Random(seed);
        let levels = 1 + random.below(3);
        let branches = tree(&mut random, levels, &mut 0);
        let mut text = "domain: d\ndescriptors:\n".to_owned();
        write(&branches, 0, &mut text);
        let rules = rules(&text);
        for _ in 0..40 {
            let request = (0..random.below(6)).map(|_| descriptor(&mut random, &branches));
            let request: Vec<_> = request.collect();
            let expected: Vec<_> = request
                .iter()
                .map(|entries| naive(&branches, entries))
                .collect();
            let replaced: Vec<_> = expected
                .iter()
                .flatten()
                .flat_map(|it| &it.replaces)
                .collect();
            let kept = expected.iter().map(|branch| {
                let branch = (*branch)?;
                let is_replaced = branch.name.is_some_and(|name| replaced.contains(&&name));
                dropped += usize::from(is_replaced);
                if is_replaced { None } else { branch.rule }
            });
            let kept: Vec<_> = kept.collect();
            found += kept.iter().flatten().count();

            let entries: Vec<Vec<_>> = request
                .iter()
                .map(|it| {
                    it.iter()
                        .map(|(key, value)| (key.as_str(), value.as_str()))
                        .collect::<Vec<_>>()
                })
                .map(|it| pairs(&it))
                .collect();
            let descriptors: Vec<_> = entries.iter().map(|it| Descriptor::new(it)).collect();
            let matches = rules.of_request("d", &descriptors);
            let met: Vec<_> = matches
                .rules()
                .iter()
                .map(|it| it.map(|it| requests(&rules[it].amount)))
                .collect();
            assert_eq!(met, kept, "seed {seed}: {request:?}\n{text}");
        }
    }
    assert!(
        found > 3000 && dropped > 150,
        "they meet something: {found}, {dropped}"
    );
}
