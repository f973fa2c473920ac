//! What is refused: each kind once, with the line in which it is, the reason, and what to do about it.

use rmbd_rules::{Rules, RulesFile, WrongRules};

use super::{NAME, read, rules};

/// A text that is refused at the line that ends with `# here`, and words of the error.
const REFUSED: &[(&str, &str)] = &[
    // Not a file of rules.
    ("- a # here", "a file of rules has to be a mapping"),
    ("just words # here", "a file of rules has to be a mapping"),
    ("domain: a\ndescriptors: ]   # here", "this is not YAML: "),
    (
        "domain: a\ndescriptors:\n- {key: 'b # here",
        "this is not YAML: ",
    ),
    (
        "domain: a\n---      # here\ndomain: b",
        "a second document begins here",
    ),
    ("domain: !!str a # here", "a tag"),
    (
        "domain: a\ndescriptors: &all [*all] # here",
        "stands for something that it is a part of",
    ),
    ("domain: a\ndescriptors: [*none] # here", "unknown anchor"),
    // The file.
    ("descriptors: [] # here", "the file has no domain"),
    ("domain: '' # here", "the file has no domain"),
    ("domain:\n  [a] # here", "domain has to be a text"),
    (
        "domain: a\ndomains: b # here",
        "a file of rules has no key `domains`: it may have domain and descriptors",
    ),
    (
        "0.25: a # here\ndomain: b",
        "a file of rules has no key `0.25`",
    ),
    (
        "domain: a\n[b]: c # here",
        "a key of a mapping has to be a word",
    ),
    ("domain: a\ndomain: a # here", "`domain` is there twice"),
    (
        "domain: a\ndescriptors: many # here",
        "descriptors has to be a list",
    ),
    // Descriptors.
    (
        "domain: a\ndescriptors:\n- b # here",
        "a descriptor has to be a mapping",
    ),
    (
        "domain: a\ndescriptors:\n- value: b # here",
        "this descriptor has no key",
    ),
    (
        "domain: a\ndescriptors:\n- key: b\n  value: c\n- key: '' # here",
        "this descriptor has no key",
    ),
    (
        "domain: a\ndescriptors:\n- key: b\n- key: b* # here",
        "a descriptor's key has no wildcards",
    ),
    (
        "domain: a\ndescriptors:\n- key: b\n  value: c\n- key: b\n- key: b # here\n  value: c",
        "the descriptor `a.b_c` is there already, in line 3",
    ),
    (
        "domain: a\ndescriptors:\n- key: b\n- key: b # here",
        "the descriptor `a.b` is there already, in line 3",
    ),
    (
        "domain: a\ndescriptors:\n- {key: b, value: c*}\n- {key: b, value: c*} # here",
        "`a.b_c*` is there already",
    ),
    (
        "domain: a\ndescriptors:\n- key: b\n  descriptors:\n  - key: c\n  - key: c # here",
        "the descriptor `a.b.c` is there already, in line 5",
    ),
    (
        "domain: a\ndescriptors:\n- key: b\n  ratelimit: {} # here",
        "a descriptor has no key `ratelimit`",
    ),
    (
        "domain: a\ndescriptors:\n- key: b\n  unit: day # here",
        "a descriptor has no key `unit`",
    ),
    (
        "domain: a\ndescriptors:\n- key: b\n  key: c # here",
        "`key` is there twice",
    ),
    (
        "domain: a\ndescriptors:\n- key: b\n  value: [c] # here",
        "value has to be a text",
    ),
    (
        "domain: a\ndescriptors:\n- key: b\n  rate_limit: day # here",
        "a rate_limit has to be a mapping",
    ),
    (
        "domain: a\ndescriptors:\n- key: b\n  detailed_metric: maybe # here",
        "detailed_metric has to be true or false",
    ),
    (
        "domain: a\ndescriptors:\n- key: b\n  detailed_metric: 'true' # here",
        "without quotes",
    ),
    (
        "domain: a\ndescriptors:\n- key: b\n  value_to_metric: 1 # here",
        "value_to_metric has to be true or false",
    ),
    (
        "domain: a\ndescriptors:\n- key: b\n  metadata: some # here",
        "metadata has to be a mapping",
    ),
    (
        "domain: a\ndescriptors:\n- key: b\n  shadow_mode: true # here",
        "shadow_mode is that of a rate_limit",
    ),
    (
        "domain: a\ndescriptors:\n- key: b\n  quota_mode: true # here",
        "rmbd has no quota_mode",
    ),
    (
        "domain: a\ndescriptors:\n- {key: b, value: c*, share_threshold: yes} # here",
        "rmbd has no share_threshold",
    ),
    // Rules.
    (
        "domain: a\ndescriptors:\n- key: b\n  rate_limit: {} # here",
        "the rate_limit has no unit",
    ),
    (
        "domain: a\ndescriptors:\n- key: b\n  rate_limit: {unit: day} # here",
        "has no requests_per_unit",
    ),
    (
        "domain: a\ndescriptors:\n- key: b\n  rate_limit: {requests_per_unit: 1} # here",
        "has no unit",
    ),
    (
        "domain: a\ndescriptors:\n- key: b\n  rate_limit:\n    unit: foo # here",
        "there is no unit `foo`: use second",
    ),
    (
        "domain: a\ndescriptors:\n- key: b\n  rate_limit:\n    unit: days # here",
        "there is no unit `days`",
    ),
    (
        "domain: a\ndescriptors:\n- key: b\n  rate_limit:\n    unit: unknown # here",
        "there is no unit `unknown`",
    ),
    (
        "domain: a\ndescriptors:\n- key: b\n  rate_limit:\n    unit: month # here",
        "a month is too long",
    ),
    (
        "domain: a\ndescriptors:\n- key: b\n  rate_limit:\n    unit: YEAR # here",
        "a year is too long",
    ),
    (
        "domain: a\ndescriptors:\n- key: b\n  rate_limit:\n    unlimited: true\n    unit: day # here",
        "the rate_limit has `unlimited: true`, and unit",
    ),
    (
        "domain: a\ndescriptors:\n- key: b\n  rate_limit:\n    unlimited: true\n    requests_per_unit: 1 # here",
        "the rate_limit has `unlimited: true`, and requests_per_unit",
    ),
    (
        "domain: a\ndescriptors:\n- key: b\n  rate_limit:\n    shadow_mode: true # here",
        "shadow_mode stands beside it",
    ),
    (
        "domain: a\ndescriptors:\n- key: b\n  rate_limit:\n    requestsperunit: 5 # here",
        "has no key `requestsperunit`",
    ),
    (
        "domain: a\ndescriptors:\n- key: b\n  rate_limit:\n    unit: day\n    requests_per_unit: 1\n    \
         replaces: c # here",
        "replaces has to be a list",
    ),
    (
        "domain: a\ndescriptors:\n- key: b\n  rate_limit:\n    unit: day\n    requests_per_unit: 1\n    \
         replaces: [c] # here",
        "an entry of replaces has to be a mapping",
    ),
    (
        "domain: a\ndescriptors:\n- key: b\n  rate_limit:\n    unit: day\n    requests_per_unit: 1\n    \
         replaces:\n    - name: # here",
        "an entry of `replaces` has no name",
    ),
    (
        "domain: a\ndescriptors:\n- key: b\n  rate_limit:\n    unit: day\n    requests_per_unit: 1\n    \
         name: me\n    replaces:\n    - name: other\n    - name: me # here",
        "a rate_limit cannot replace itself",
    ),
    (
        "domain: a\ndescriptors:\n- key: b\n  rate_limit:\n    unit: day\n    requests_per_unit: 1\n    \
         replaces:\n    - title: c # here",
        "an entry of replaces has no key `title`: it may have name",
    ),
    // Anchors.
    (
        "domain: a\ndescriptors:\n- key: b\n  rate_limit:\n    <<: day # here",
        "a rate_limit has to be a mapping",
    ),
    (
        "domain: a\ndescriptors:\n- &it\n  key: b # here\n- *it",
        "the descriptor `a.b` is there already, in line 4",
    ),
];

#[test]
fn what_is_wrong_is_refused_with_its_line() {
    for (text, words) in REFUSED {
        let Err(error) = read(text) else {
            panic!("this is read: {text}");
        };
        let here = text.lines().position(|line| line.ends_with("# here"));
        let here = here.unwrap_or_else(|| panic!("no line is marked: {text}")) + 1;
        let said = error.to_string();
        assert!(said.contains(words), "{said}: {text}");
        assert_eq!(error.line().unwrap() as usize, here, "{said}: {text}");
        assert_eq!(error.file(), NAME);
        let begin = format!("{NAME}:{here}:{}: ", error.column().unwrap());
        assert!(said.starts_with(&begin), "{said}: {text}");
    }
}

/// Numbers of requests that are refused wherever they stand.
#[test]
fn a_number_is_one_in_any_reader_of_yaml() {
    let wrong = [
        "-1",
        "4294967296",
        "1.5",
        "1e3",
        "0x10",
        "010",
        "5_",
        "_5",
        "'5'",
        "five",
        "+5",
        "[5]",
        "5 6",
        "٥",
    ];
    for number in wrong {
        let text = format!(
            "domain: a\ndescriptors:\n- key: b\n  rate_limit: {{unit: day, requests_per_unit: {number}}}"
        );
        let error = read(&text).unwrap_err();
        assert!(
            matches!(error.wrong(), WrongRules::NotNumber(_)),
            "{number}: {error}"
        );
        assert_eq!(error.line(), Some(4));
    }
    for (right, number) in [("0", 0), ("4294967295", u32::MAX), ("1_000", 1000)] {
        let text = format!(
            "domain: a\ndescriptors:\n- key: b\n  rate_limit: {{unit: day, requests_per_unit: {right}}}"
        );
        let rules = rules(&text);
        let amount = rules.iter().next().unwrap().1.amount;
        assert!(
            format!("{amount:?}").contains(&format!("requests: {number},")),
            "{amount:?}"
        );
    }
}

#[test]
fn a_text_without_anything_has_no_domain() {
    for text in ["", "# nothing", "\n\n  \n"] {
        let error = read(text).unwrap_err();
        assert_eq!(error.wrong(), &WrongRules::NoDomain, "{text:?}");
        assert_eq!(error.line(), Some(1), "{text:?}");
    }
}

#[test]
fn two_files_have_two_domains() {
    let files = [
        ("a.yaml", "domain: one"),
        ("b.yaml", "domain: two"),
        ("c.yaml", "descriptors: []\ndomain: one"),
    ];
    let files = files.map(|(name, text)| RulesFile { name, text });
    assert_eq!(Rules::read(&files[..2]).unwrap().domains().count(), 2);
    let error = Rules::read(&files).unwrap_err();
    let said = "c.yaml:2:9: the domain `one` is that of a.yaml, too: put its rules into one file";
    assert_eq!(error.to_string(), said);
}

/// The error is of the file that is wrong, also behind one that is right.
#[test]
fn the_wrong_one_of_many_files_is_named() {
    let files = [("a.yaml", "domain: one"), ("b.yaml", "domain: two\nno: no")];
    let error = Rules::read(&files.map(|(name, text)| RulesFile { name, text })).unwrap_err();
    assert_eq!(
        (error.file(), error.line(), error.column()),
        ("b.yaml", Some(2), Some(1))
    );
}

/// What a file has is shown in one line of a bounded length.
#[test]
fn an_error_is_one_line() {
    let long = "x".repeat(1000);
    let texts = [
        format!("domain: a\n{long}: b"),
        format!(
            "domain: a\ndescriptors:\n- key: b\n  rate_limit: {{unit: {long}, requests_per_unit: 1}}"
        ),
        format!("domain: a\ndescriptors:\n- key: {long}\n- key: {long}"),
        "domain: a\n\"b\\n\\e[31mc\": d".to_owned(),
    ];
    for text in texts {
        let said = read(&text).unwrap_err().to_string();
        assert!(said.chars().count() < 400, "{said}");
        assert!(!said.contains(char::is_control), "{said:?}");
    }
}
