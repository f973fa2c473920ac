//! Each bound: what is as large as it may be is read, and one more is refused.

use rmbd_rules::{
    COUNTER_KEY_BYTES_MAX, DESCRIPTORS_MAX, FILE_BYTES_MAX, FILES_MAX, LEVELS_MAX, NESTING_MAX,
    PART_BYTES_MAX, READ_BYTES_MAX, REPLACES_MAX, Rules, RulesError, RulesFile, WILDCARDS_MAX,
    WrongRules,
};

use super::read;

fn refusal(result: Result<Rules, RulesError>) -> WrongRules {
    result.unwrap_err().wrong().clone()
}

/// A file whose descriptors are these, in flow form.
fn file(descriptors: impl IntoIterator<Item = String>) -> String {
    let mut text = "domain: a\ndescriptors:\n".to_owned();
    for descriptor in descriptors {
        text += &format!("- {{{descriptor}}}\n");
    }
    text
}

#[test]
fn a_file_is_bounded() {
    let mut text = "domain: a\n#".to_owned();
    text += &"x".repeat(FILE_BYTES_MAX - text.len());
    assert!(read(&text).is_ok());
    text.push('x');
    let error = read(&text).unwrap_err();
    assert_eq!(
        (error.wrong(), error.line()),
        (&WrongRules::FileTooLarge, None)
    );
}

#[test]
fn files_are_bounded() {
    let texts: Vec<_> = (0..=FILES_MAX)
        .map(|number| format!("domain: d{number}"))
        .collect();
    let files: Vec<_> = texts
        .iter()
        .map(|text| RulesFile { name: text, text })
        .collect();
    assert_eq!(
        Rules::read(&files[1..]).unwrap().domains().count(),
        FILES_MAX
    );
    assert_eq!(refusal(Rules::read(&files)), WrongRules::TooManyFiles);

    let large = READ_BYTES_MAX / FILE_BYTES_MAX;
    let texts = (0..=large).map(|number| {
        let text = format!("domain: d{number}\n#");
        text.clone() + &"x".repeat(FILE_BYTES_MAX - text.len())
    });
    let texts: Vec<_> = texts.collect();
    let files: Vec<_> = texts
        .iter()
        .map(|text| RulesFile { name: "x", text })
        .collect();
    assert!(Rules::read(&files[1..]).is_ok());
    assert_eq!(refusal(Rules::read(&files)), WrongRules::TooMuch);
}

#[test]
fn descriptors_are_bounded() {
    let many = |count: usize| {
        let place = |file: usize| format!("domain: d{file}\ndescriptors:\n");
        let mut texts: Vec<_> = (0..4).map(place).collect();
        for number in 0..count {
            texts[number % 4] += &format!("- {{key: k, value: v{number}}}\n");
        }
        let files: Vec<_> = texts
            .iter()
            .map(|text| RulesFile { name: "x", text })
            .collect();
        Rules::read(&files)
    };
    assert!(many(DESCRIPTORS_MAX).is_ok());
    assert_eq!(
        refusal(many(DESCRIPTORS_MAX + 1)),
        WrongRules::TooManyDescriptors
    );
}

#[test]
fn levels_are_bounded() {
    let deep = |levels: usize, innermost: &str| {
        let mut descriptor = format!("{{key: k, {innermost}}}");
        for _ in 1..levels {
            descriptor = format!("{{key: k, descriptors: [{descriptor}]}}");
        }
        read(&format!("domain: a\ndescriptors: [{descriptor}]"))
    };
    let limit = "rate_limit: {unlimited: true, replaces: [{name: b}]}";
    assert_eq!(deep(LEVELS_MAX, limit).unwrap().len(), 1);
    assert_eq!(
        refusal(deep(LEVELS_MAX + 1, limit)),
        WrongRules::TooManyLevels
    );
    // An anchor makes levels that YAML does not have.
    let mut text = "domain: a\ndescriptors:\n- {key: k, metadata: {a: &d0 []}}\n".to_owned();
    for level in 1..=LEVELS_MAX + 1 {
        text += &format!(
            "- {{key: k{level}, descriptors: &d{level} [{{key: l, descriptors: *d{}}}]}}\n",
            level - 1
        );
    }
    assert_eq!(refusal(read(&text)), WrongRules::TooManyLevels);
}

#[test]
fn nesting_is_bounded() {
    let nested = |depth: usize| {
        let metadata = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        read(&file([format!("key: k, metadata: {{a: {metadata}}}")]))
    };
    // The file, its list, the descriptor and its metadata are four.
    assert!(nested(NESTING_MAX - 4).is_ok());
    assert_eq!(refusal(nested(NESTING_MAX - 3)), WrongRules::TooDeep);
    assert!(matches!(
        refusal(nested(NESTING_MAX * 100)),
        WrongRules::TooDeep | WrongRules::Yaml(_)
    ));
    // Merges of merges, as many as the file has room for.
    let mut text = file(["key: k, metadata: &m0 {key: l}".to_owned()]);
    for level in 1..20_000 {
        text += &format!(
            "- {{key: {level}, metadata: &m{level} {{<<: *m{}}}}}\n",
            level - 1
        );
    }
    assert!(read(&(text.clone() + &format!("- *m{NESTING_MAX}"))).is_ok());
    assert_eq!(refusal(read(&(text + "- *m19999"))), WrongRules::TooDeep);
}

#[test]
fn words_are_bounded() {
    let of = |bytes: usize| "x".repeat(bytes);
    let limit = |name: &str| format!("key: k, rate_limit: {{unlimited: true, name: {name}}}");
    assert!(read(&file([limit(&of(PART_BYTES_MAX))])).is_ok());
    let long = of(PART_BYTES_MAX + 1);
    let texts = [
        format!("domain: {long}"),
        file([format!("key: {long}")]),
        file([format!("key: k, value: {long}")]),
        file([limit(&long)]),
        file([format!(
            "key: k, rate_limit: {{unlimited: true, replaces: [{{name: {long}}}]}}"
        )]),
    ];
    for text in texts {
        assert!(matches!(refusal(read(&text)), WrongRules::TooLong(_)));
    }
}

#[test]
fn keys_of_counters_are_bounded() {
    // `a/k=` and the value.
    let room = COUNTER_KEY_BYTES_MAX - 4;
    let of = |value: String| read(&file([format!("key: k, value: \"{value}\"")]));
    assert!(of("x".repeat(room)).is_ok());
    assert_eq!(
        refusal(of("x".repeat(room + 1))),
        WrongRules::CounterKeyTooLong
    );
    // What is escaped takes three bytes, and `*` may stand for none.
    assert!(of("/".repeat(room / 3)).is_ok());
    assert_eq!(
        refusal(of("/".repeat(room / 3 + 1))),
        WrongRules::CounterKeyTooLong
    );
    assert!(of(format!("**{}", "x".repeat(room))).is_ok());
}

#[test]
fn wildcards_are_bounded() {
    let many = |count: usize| {
        let wild = (0..count).map(|number| format!("key: k, value: v{number}*"));
        let exact = (0..1000).map(|number| format!("key: k, value: v{number}"));
        read(&file(
            exact.chain(wild).chain(["key: l, value: v*".to_owned()]),
        ))
    };
    assert!(many(WILDCARDS_MAX).is_ok());
    assert_eq!(
        refusal(many(WILDCARDS_MAX + 1)),
        WrongRules::TooManyWildcards
    );
}

#[test]
fn what_is_replaced_is_bounded() {
    let many = |count: usize| {
        let names = vec!["{name: n}"; count].join(", ");
        read(&file([format!(
            "key: k, rate_limit: {{unlimited: true, replaces: [{names}]}}"
        )]))
    };
    assert!(many(REPLACES_MAX).is_ok());
    assert_eq!(refusal(many(REPLACES_MAX + 1)), WrongRules::TooManyReplaced);
}

/// Texts of some kilobytes that stand for gigabytes.
#[test]
fn bombs_of_anchors_are_bounded() {
    // Descriptors of descriptors, ten times as many with each level.
    let mut text = "domain: a\ndescriptors:\n- {key: k, metadata: {a: &d0 []}}\n".to_owned();
    for level in 1..10 {
        let items = (0..10).map(|item| format!("{{key: k{item}, descriptors: *d{}}}", level - 1));
        let items = items.collect::<Vec<_>>().join(", ");
        text += &format!("- {{key: l{level}, descriptors: &d{level} [{items}]}}\n");
    }
    assert_eq!(refusal(read(&text)), WrongRules::TooManyDescriptors);

    // Merges of merges, ten times as many with each level.
    let mut text = file(["key: k, metadata: &m0 {key: k}".to_owned()]);
    for level in 1..10 {
        let items = vec![format!("*m{}", level - 1); 10].join(", ");
        text += &format!("- {{key: l{level}, metadata: &m{level} {{<<: [{items}]}}}}\n");
    }
    text += "- {<<: *m9}\n";
    assert_eq!(refusal(read(&text)), WrongRules::TooMuch);

    // Long words, many times.
    let word = "x".repeat(900);
    let mut text = file([format!("key: k, metadata: {{a: &w {word}}}")]);
    for number in 0..38_000 {
        text += &format!("- {{key: {number}, value: *w}}\n");
    }
    assert_eq!(refusal(read(&text)), WrongRules::TooMuch);
}
