//! What files mean: rules with all that they have, and the forms in which YAML lets people write them.

use rmbd_rules::{Amount, Rules, RulesFile, Unit};

use super::{NAME, met, rules};

const EVERYTHING: &str = "\
# Everything that a file may have.
domain: shop
descriptors:
  - key: path
    value: /buy
    value_to_metric: true
    metadata: {team: [checkout, {deep: ~}], 1: 2}
    descriptors:
      - key: user
        shadow_mode: true
        detailed_metric: true
        rate_limit:
          name: buyers
          unit: Hour
          requests_per_unit: 30
          replaces:
            - name: everybody
            - name: visitors
  - key: user
    quota_mode: false
    share_threshold: false
    rate_limit: {name: everybody, unit: second, requests_per_unit: 0, unlimited: false, replaces: []}
  - key: user
    value: 404
    rate_limit: {unlimited: yes}
";

#[test]
fn a_rule_has_what_its_file_says() {
    let rules = rules(EVERYTHING);
    assert_eq!((rules.len(), rules.is_empty()), (3, false));
    let all: Vec<_> = rules
        .iter()
        .map(|(index, rule)| (index.place(), rule))
        .collect();
    let (place, buyers) = all[0];
    assert_eq!((place, buyers.path()), (0, "shop.path_/buy.user"));
    assert_eq!(
        buyers.amount,
        Amount::PerUnit {
            requests: 30,
            unit: Unit::Hour
        }
    );
    assert_eq!(buyers.name.as_deref(), Some("buyers"));
    assert!(buyers.is_shadow && buyers.is_detailed && buyers.has_values_in_metrics);
    assert_eq!(buyers.replaces, ["everybody".into(), "visitors".into()]);
    assert_eq!((&*buyers.file, buyers.line), (NAME, 9));

    let (_, everybody) = all[1];
    assert_eq!((everybody.path(), everybody.line), ("shop.user", 19));
    assert_eq!(
        everybody.amount,
        Amount::PerUnit {
            requests: 0,
            unit: Unit::Second
        }
    );
    assert!(!everybody.is_shadow && !everybody.is_detailed && !everybody.has_values_in_metrics);
    assert!(everybody.replaces.is_empty());

    let (place, free) = all[2];
    assert_eq!(
        (place, free.path(), &free.amount),
        (2, "shop.user_404", &Amount::Unlimited)
    );
    assert_eq!(free.name, None);

    let units: Vec<_> = rules.units().collect();
    assert_eq!(units, [Unit::Second, Unit::Hour]);
    let domains: Vec<_> = rules
        .domains()
        .map(|it| (&*it.name, &*it.file, it.rules))
        .collect();
    assert_eq!(domains, [("shop", NAME, 3)]);
}

#[test]
fn an_index_is_of_its_own_rules() {
    let many = rules(EVERYTHING);
    let (last, rule) = many.iter().last().unwrap();
    assert_eq!(many.get(last), Some(rule));
    assert_eq!(&many[last], rule);
    assert_eq!(rules("domain: a").get(last), None);
}

#[test]
fn a_unit_has_its_length() {
    let seconds = Unit::ALL.map(|unit| unit.window_ms() / 1000);
    assert_eq!(seconds, [1, 60, 3600, 86_400, 604_800]);
    for unit in Unit::ALL {
        for name in [unit.name().to_owned(), unit.name().to_uppercase()] {
            let text = format!(
                "domain: a\ndescriptors: [{{key: b, rate_limit: {{unit: {name}, requests_per_unit: 1}}}}]"
            );
            assert_eq!(rules(&text).units().collect::<Vec<_>>(), [unit]);
        }
    }
}

/// What is not there, or is nothing, is the same.
#[test]
fn nothing_is_nothing() {
    for text in [
        "domain: a",
        "domain: a\ndescriptors:",
        "domain: a\ndescriptors: ~",
        "---\ndomain: a\n...",
    ] {
        let rules = rules(text);
        assert!(rules.is_empty(), "{text}");
        assert_eq!(rules.domains().count(), 1, "{text}");
    }
    let rules = rules(
        "domain: a\ndescriptors: [{key: b, value: , rate_limit: , metadata: null, shadow_mode: }]",
    );
    assert!(rules.is_empty());
    assert!(Rules::read(&[]).unwrap().is_empty());
}

/// Texts are what is written, whatever a reader of YAML would take them for.
#[test]
fn a_value_stays_as_it_is_written() {
    let values = [
        "404",
        "007",
        "1.0",
        "1e3",
        "0x1F",
        "yes",
        "True",
        "2026-11-28",
        "NULL1",
        "a_b.c",
        "-x",
        "1_000",
    ];
    for value in values {
        let rules = rules(&format!(
            "domain: a\ndescriptors:\n- key: b\n  value: {value}\n  rate_limit: {{unlimited: true}}"
        ));
        assert!(met(&rules, "a", &[("b", value)]).is_some(), "{value}");
        assert!(met(&rules, "a", &[("b", "else")]).is_none(), "{value}");
    }
    let text = "domain: a\ndescriptors:\n- key: b\n  value: \"\\u00e4\\t\"\n  rate_limit: {unlimited: true}";
    assert!(met(&rules(text), "a", &[("b", "ä\t")]).is_some());
}

/// Anchors, aliases and merges stand for what they would be if it were written out.
#[test]
fn an_alias_is_what_it_stands_for() {
    let short = "
domain: a
descriptors:
- key: b
  rate_limit: &base {unit: minute, requests_per_unit: 5, name: base}
- key: c
  rate_limit: *base
- key: d
  rate_limit: {<<: *base, requests_per_unit: 7}
- key: e
  rate_limit:
    <<: [{unit: day}, *base]
- key: f
  rate_limit:
    name: f
    <<: {<<: *base, requests_per_unit: 9}
";
    let long = "
domain: a
descriptors:
- key: b
  rate_limit: {unit: minute, requests_per_unit: 5, name: base}
- key: c
  rate_limit: {unit: minute, requests_per_unit: 5, name: base}
- key: d
  rate_limit: {unit: minute, requests_per_unit: 7, name: base}
- key: e
  rate_limit: {unit: day, requests_per_unit: 5, name: base}
- key: f
  rate_limit: {unit: minute, requests_per_unit: 9, name: f}
";
    let rules_of = |text: &str| -> Vec<_> {
        let rules = rules(text);
        let rules = rules.iter().map(|(_, rule)| rule);
        rules
            .map(|rule| (rule.path().to_owned(), rule.amount, rule.name.clone()))
            .collect()
    };
    assert_eq!(rules_of(short), rules_of(long));
}

/// Rules of all files are in one order, that of files and lines.
#[test]
fn files_are_read_in_order() {
    let texts = ["domain: z\ndescriptors: [{key: a, rate_limit: {unlimited: true}}]"; 1];
    let other =
        "domain: y\ndescriptors: [{key: a, rate_limit: {unit: week, requests_per_unit: 1}}]";
    let rules = Rules::read(&[
        RulesFile {
            name: "1",
            text: texts[0],
        },
        RulesFile {
            name: "2",
            text: other,
        },
    ]);
    let rules = rules.unwrap();
    let all: Vec<_> = rules
        .iter()
        .map(|(_, rule)| (rule.path(), &*rule.file))
        .collect();
    assert_eq!(all, [("z.a", "1"), ("y.a", "2")]);
    assert!(matches!(
        met(&rules, "y", &[("a", "")]).unwrap().amount,
        Amount::PerUnit { .. }
    ));
    assert!(matches!(
        met(&rules, "z", &[("a", "")]).unwrap().amount,
        Amount::Unlimited
    ));
}
