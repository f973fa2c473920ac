//! Texts that nobody means: each is read or refused, in bounded time, and nothing panics.

use rmbd_rules::{Descriptor, Rules};
use rmbd_testkit::random::Random;

use super::{NAME, pairs, read};

/// A text that has everything, to be damaged.
const WHOLE: &str = "\
domain: shop
descriptors:
  - key: path
    value: \"/a*b\"
    metadata: {team: [a, 'b']}
    value_to_metric: true
    descriptors:
      - key: user
        shadow_mode: true
        rate_limit: &limit
          name: some
          unit: hour
          requests_per_unit: 30
          replaces: [{name: all}]
  - {key: user, detailed_metric: on, rate_limit: {name: all, unit: day, requests_per_unit: 1_000}}
  - key: user
    value: |
      one
    rate_limit: *limit
  - key: ip
    rate_limit: {<<: *limit, name: other}
  - key: ip
    value: 192.0.2.7
    rate_limit:
      unlimited: true
";

/// What YAML is made of, and the words of rules.
const PIECES: [&str; 56] = [
    "domain",
    "descriptors",
    "key",
    "value",
    "rate_limit",
    "unit",
    "requests_per_unit",
    "unlimited",
    "name",
    "replaces",
    "shadow_mode",
    "metadata",
    "second",
    "month",
    "true",
    "null",
    "~",
    "0",
    "4294967296",
    "a",
    "*",
    "<<",
    ":",
    ": ",
    "-",
    "- ",
    "? ",
    "[",
    "]",
    "{",
    "}",
    ",",
    ", ",
    "'",
    "\"",
    "\\",
    "|",
    ">",
    "|2-\n",
    "&x",
    "*x",
    "&x ",
    "*x ",
    "!",
    "!!str ",
    "%YAML 1.2\n",
    "#",
    " #",
    "---",
    "\n---\n",
    "...\n",
    "\n",
    "\n  ",
    "\t",
    "\u{feff}",
    "\0",
];

/// What holds of whatever is read or refused.
fn check(text: &str, context: &str) -> bool {
    let lines = text.split('\n').count() + text.matches('\r').count();
    match read(text) {
        Ok(rules) => {
            check_rules(&rules, lines, context);
            true
        }
        Err(error) => {
            let said = error.to_string();
            assert!(said.starts_with(NAME), "{context}: {said}");
            let line = error
                .line()
                .unwrap_or_else(|| panic!("{context}: no line: {said}"));
            // The end of a text may be told as the line behind it.
            assert!((1..=lines as u32 + 1).contains(&line), "{context}: {said}");
            assert!(
                said.len() < 1000 && !said.contains('\n'),
                "{context}: {said}"
            );
            false
        }
    }
}

fn check_rules(rules: &Rules, lines: usize, context: &str) {
    assert_eq!(rules.domains().count(), 1, "{context}");
    let entries = pairs(&[("path", "/acb"), ("user", "x")]);
    for (index, rule) in rules.iter() {
        assert!(
            (1..=lines as u32).contains(&rule.line),
            "{context}: {rule:?}"
        );
        assert_eq!(rules.get(index), Some(rule), "{context}");
        let domain = &rules.domains().next().unwrap().name;
        assert!(rule.path().starts_with(&**domain), "{context}: {rule:?}");
        let descriptors = [Descriptor::new(&entries), Descriptor::new(&entries[1..])];
        assert_eq!(rules.of_request(domain, &descriptors).rules().len(), 2);
    }
}

#[test]
fn damaged_texts_are_read_or_refused() {
    let mut read = 0;
    for seed in 0..6000 {
        let mut random = Random(seed);
        let mut text = WHOLE.as_bytes().to_vec();
        for _ in 0..=random.below(4) {
            damage(&mut text, &mut random);
        }
        let text = String::from_utf8_lossy(&text);
        read += usize::from(check(&text, &format!("seed {seed}")));
    }
    assert!(
        (200..5800).contains(&read),
        "some are read, others refused: {read}"
    );
}

fn damage(text: &mut Vec<u8>, random: &mut Random) {
    let length = text.len().max(1) as u64;
    let from = (random.below(length) as usize).min(text.len());
    let to = (from + random.below(20) as usize).min(text.len());
    match random.below(5) {
        0 => text.splice(from..to, [random.next() as u8]).for_each(drop),
        1 => drop(text.drain(from..to)),
        2 => {
            let piece = PIECES[random.below(PIECES.len() as u64) as usize];
            drop(text.splice(from..from, piece.bytes()));
        }
        3 => {
            let copied = text[from..to].to_vec();
            let behind = (random.below(length) as usize).min(text.len());
            drop(text.splice(behind..behind, copied));
        }
        _ => text.truncate(from),
    }
}

#[test]
fn pieces_of_yaml_in_any_order_are_read_or_refused() {
    for seed in 0..20_000 {
        let mut random = Random(seed);
        let mut text = if random.below(2) == 0 {
            String::new()
        } else {
            "domain: a\ndescriptors:\n- ".to_owned()
        };
        for _ in 0..random.below(30) {
            text += PIECES[random.below(PIECES.len() as u64) as usize];
        }
        check(&text, &format!("seed {seed}: {text:?}"));
    }
}

/// The same piece as often as there is room for: what a reader of YAML may take quadratic time for, or all its stack.
#[test]
fn large_texts_are_read_or_refused() {
    const BYTES: usize = 1 << 18;
    let more = [
        "- key: k\n  value: v\n",
        "[a, ",
        "{a: ",
        "- - ",
        "a: b\n",
        "a: &x b\n",
        "\"\\u00",
        "k: v, ",
        "'' ",
        "\r",
        "x",
    ];
    for piece in PIECES.iter().chain(&more) {
        for begin in [
            "",
            "domain: a\ndescriptors:\n- ",
            "domain: a\ndescriptors: [",
        ] {
            let text = begin.to_owned() + &piece.repeat(BYTES / piece.len());
            check(&text, &format!("{piece:?}"));
        }
    }
    // Each line deeper than the one before it.
    for piece in ["a:", "-", "?"] {
        let lines = (0..600).map(|indent| format!("{:indent$}{piece}\n", ""));
        check(&lines.collect::<String>(), piece);
    }
}
