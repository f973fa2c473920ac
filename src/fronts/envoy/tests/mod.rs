//! Tests of what is decided, against exact counts.

#![allow(clippy::unwrap_used)]

mod verdicts;

use std::sync::Arc;

use super::*;
use crate::config::{NodeConfig, RuleFiles, RulesText};
use crate::engine::EngineOptions;
use crate::shared::LimitsInForce;
use rmbd_envoy::{Entry, HitsAddend, Override, RateLimitDescriptor, Unit, ask};
use rmbd_io::Stop;
use rmbd_proto::Boot;
use rmbd_sketch::{Geometry, HashFamily, Weight};
use rmbd_store::once::{BootChain, OnceTable};
use rmbd_store::{NamedSketch, Registry, Replica, ReplicaOptions, WindowPlan};

/// The largest weight of one operation.
const WEIGHT_MAX: u32 = 1_000;

const RULES: &str = "
domain: edge
descriptors:
  - key: user
    rate_limit: { name: per-user, unit: minute, requests_per_unit: 3 }
  - key: user
    value: root
    rate_limit: { unlimited: true }
  - key: user
    value: nobody
    rate_limit: { unit: hour, requests_per_unit: 0 }
  - key: trial
    shadow_mode: true
    rate_limit: { unit: minute, requests_per_unit: 1 }
  - key: path
    detailed_metric: true
    rate_limit: { unit: hour, requests_per_unit: 10 }
  - key: account
    rate_limit: { name: account, unit: minute, requests_per_unit: 100, replaces: [{ name: per-user }] }
  - key: net
    descriptors:
      - key: user
        rate_limit: { unit: hour, requests_per_unit: 50 }
";

/// A front over a sketch that never errs for as few keys as tests have, with windows of a minute and an hour.
pub(crate) fn front() -> EnvoyFront {
    let geometry = Geometry::new(1 << 14, 4).unwrap();
    let family = HashFamily::Xxh3 { seed: 7 };
    let sketches = [("default", &[][..]), (ENVOY_SKETCH, &[60_000, 3_600_000])];
    let sketches = sketches.map(|(name, windows)| {
        let windows = windows
            .iter()
            .map(|&window_ms| WindowPlan::new(window_ms, None, None, geometry, family).unwrap());
        let options = ReplicaOptions {
            windows: windows.collect(),
            ..ReplicaOptions::new(geometry, family)
        };
        let replica = Arc::new(Replica::try_open(options).unwrap());
        NamedSketch::new(name.parse().unwrap(), replica)
    });
    let options = EngineOptions {
        boot: Boot(1),
        earlier: BootChain::default(),
        max_weight: Weight::new(WEIGHT_MAX).unwrap(),
        once: Arc::new(OnceTable::new(100, &[7; 32])),
    };
    let limits = Arc::new(LimitsInForce::new(&[]).with_rules(&rules(RULES)));
    let registry = Registry::new(sketches.into()).unwrap();
    let shared = Arc::new(Shared::new(
        registry,
        &options,
        limits,
        Stop::new().unwrap(),
    ));
    let port = ClientPort::new(&NodeConfig::default(), shared, None, 0);
    EnvoyFront::new(Arc::new(port))
}

fn rules(text: &str) -> RuleFiles {
    let text = RulesText {
        name: "edge.yaml".to_owned(),
        text: text.to_owned(),
    };
    RuleFiles::of(vec![text]).unwrap()
}

fn descriptor(pairs: &[(&str, &str)]) -> RateLimitDescriptor {
    let entries = pairs.iter().map(|&(key, value)| Entry {
        key: key.to_owned(),
        value: value.to_owned(),
    });
    RateLimitDescriptor {
        entries: entries.collect(),
        ..RateLimitDescriptor::default()
    }
}

fn user(name: &str) -> RateLimitDescriptor {
    descriptor(&[("user", name)])
}

fn request(descriptors: Vec<RateLimitDescriptor>) -> RateLimitRequest {
    RateLimitRequest {
        domain: "edge".to_owned(),
        descriptors,
        hits_addend: 0,
    }
}

/// The answer to a request of some descriptors.
fn asked(front: &EnvoyFront, descriptors: Vec<RateLimitDescriptor>) -> RateLimitResponse {
    ask(front, &request(descriptors)).unwrap()
}

/// The answer to one descriptor.
fn one(front: &EnvoyFront, descriptor: RateLimitDescriptor) -> DescriptorStatus {
    let mut answer = asked(front, vec![descriptor]);
    assert_eq!(answer.is_over(), answer.statuses[0].is_over());
    answer.statuses.remove(0)
}

#[test]
fn a_rule_lets_as_much_pass_as_it_says() {
    let front = front();
    for left in [2, 1, 0] {
        let told = one(&front, user("ann"));
        assert_eq!((told.code(), told.limit_remaining), (Code::Ok, left));
        let limit = told.current_limit.unwrap();
        assert_eq!((limit.requests_per_unit, limit.unit()), (3, Unit::Minute));
        assert_eq!(limit.name, "per-user");
        assert_eq!(told.duration_until_reset.unwrap().seconds, 60);
    }
    for _ in 0..3 {
        let told = one(&front, user("ann"));
        assert_eq!((told.code(), told.limit_remaining), (Code::OverLimit, 0));
        let wait = told.duration_until_reset.unwrap();
        assert!(
            (1..=65).contains(&wait.seconds) && wait.nanos == 0,
            "{wait:?}"
        );
    }
    assert_eq!(one(&front, user("bob")).limit_remaining, 2);
    // Each descriptor is counted for itself, also beside one that is over.
    let both = asked(&front, vec![user("ann"), user("bob"), user("cy")]);
    let codes: Vec<_> = both.statuses.iter().map(DescriptorStatus::code).collect();
    assert_eq!(codes, [Code::OverLimit, Code::Ok, Code::Ok]);
    assert_eq!(one(&front, user("bob")).limit_remaining, 0);
}

#[test]
fn what_no_rule_limits_passes() {
    let front = front();
    for free in [
        descriptor(&[]),
        descriptor(&[("other", "x")]),
        descriptor(&[("net", "x")]),
        descriptor(&[("user", "ann"), ("more", "x")]),
    ] {
        assert_eq!(one(&front, free), without_limit());
    }
    let unlimited = one(&front, user("root"));
    assert_eq!(
        (
            unlimited.code(),
            unlimited.limit_remaining,
            unlimited.current_limit
        ),
        (Code::Ok, u32::MAX, None)
    );
    let nobody = one(&front, user("nobody"));
    assert_eq!(
        (nobody.code(), nobody.limit_remaining),
        (Code::OverLimit, 0)
    );
    assert_eq!(
        nobody.duration_until_reset.unwrap().seconds,
        3_600,
        "it never passes"
    );
    let elsewhere = RateLimitRequest {
        domain: "elsewhere".to_owned(),
        ..request(vec![with_limit("ann", 0, Unit::Minute)])
    };
    let told = ask(&front, &elsewhere).unwrap();
    assert_eq!(told.statuses, [without_limit()]);
    assert_eq!(front.tally().envoy_unknown_domains, 1);
}

fn with_limit(name: &str, requests_per_unit: u32, unit: Unit) -> RateLimitDescriptor {
    RateLimitDescriptor {
        limit: Some(Override {
            requests_per_unit,
            unit: unit.into(),
        }),
        ..user(name)
    }
}

/// It has the same key as the rule, so that both count together.
#[test]
fn a_limit_of_the_request_stands_for_the_rules() {
    let front = front();
    let told = one(&front, with_limit("ann", 5, Unit::Minute));
    assert_eq!(told.limit_remaining, 4);
    assert_eq!(told.current_limit.unwrap().requests_per_unit, 5);
    assert_eq!(one(&front, user("ann")).limit_remaining, 1);
    // Nothing counts by the year or the second here, so that the rule holds.
    for unit in [Unit::Year, Unit::Month, Unit::Second, Unit::Unknown] {
        let told = one(&front, with_limit("bob", 1, unit));
        assert_eq!(told.current_limit.unwrap().requests_per_unit, 3, "{unit:?}");
        let no_rule = RateLimitDescriptor {
            entries: descriptor(&[("other", "x")]).entries,
            ..with_limit("", 1, unit)
        };
        assert_eq!(one(&front, no_rule), without_limit());
    }
    let tally = front.tally();
    assert_eq!(tally.envoy_overrides, 9);
    assert_eq!(tally.envoy_overrides_without_window, 8);
}

#[test]
fn a_rule_that_replaces_another_takes_its_place() {
    let front = front();
    let account = descriptor(&[("account", "a")]);
    for _ in 0..5 {
        let told = asked(&front, vec![user("ann"), account.clone()]);
        assert_eq!(told.statuses[0], without_limit());
        assert!(!told.is_over());
    }
    assert_eq!(one(&front, user("ann")).limit_remaining, 2);
}

#[test]
fn a_rule_in_shadow_mode_only_counts() {
    let front = front();
    let trial = descriptor(&[("trial", "x")]);
    for _ in 0..3 {
        assert_eq!(one(&front, trial.clone()).code(), Code::Ok);
    }
    let told = front.status().by_rule;
    let trial = told.iter().find(|it| it.rule == "edge.trial").unwrap();
    assert_eq!((trial.hits, trial.over, trial.shadow), (3, 2, 2));
}

#[test]
fn hits_are_as_many_as_the_request_or_the_descriptor_says() {
    let front = front();
    let of_descriptor = |value| RateLimitDescriptor {
        hits_addend: Some(HitsAddend { value }),
        ..user("ann")
    };
    let hits = |descriptor, hits_addend| {
        let request = RateLimitRequest {
            hits_addend,
            ..request(vec![descriptor])
        };
        let told = ask(&front, &request).unwrap().statuses.remove(0);
        (told.is_over(), told.limit_remaining)
    };
    assert_eq!(hits(of_descriptor(0), 7), (false, 3), "it only looks");
    assert_eq!(hits(user("ann"), 2), (false, 1));
    assert_eq!(hits(of_descriptor(2), 1), (true, 1), "nothing is taken");
    assert_eq!(hits(of_descriptor(1), 2), (false, 0));
    assert_eq!(hits(of_descriptor(0), 0), (false, 0));
    // More than one operation may take, and more than the limit in any case.
    assert_eq!(hits(of_descriptor(u64::MAX), 0), (true, 0));
    let large = RateLimitDescriptor {
        hits_addend: Some(HitsAddend {
            value: u64::from(WEIGHT_MAX) + 1,
        }),
        ..with_limit("bob", u32::MAX, Unit::Minute)
    };
    let why = ask(&front, &request(vec![large])).unwrap_err();
    assert!(matches!(why, Undecided::Invalid(_)) && why.to_string().contains("--max-weight"));
    let long = descriptor(&[("net", "a"), ("user", &"/".repeat(500))]);
    let why = ask(&front, &request(vec![long])).unwrap_err().to_string();
    assert!(why.contains("shorten its values"), "{why}");
    assert_eq!(front.tally().envoy_refused, 2);
}

#[test]
fn rules_have_numbers_which_a_reload_keeps() {
    let front = front();
    for _ in 0..4 {
        one(&front, user("ann"));
    }
    let before = front.status();
    assert_eq!((before.rules, before.domains), (7, 1));
    let of = |status: &EnvoyStatus, rule: &str| {
        let mut all = status.by_rule.iter().filter(|it| it.rule == rule);
        let found = all.next().cloned();
        assert!(all.next().is_none(), "{rule} is told twice");
        found
    };
    let ann = of(&before, "edge.user").unwrap();
    assert_eq!((ann.hits, ann.over, ann.near), (4, 1, 1), "3 of 3 is near");
    // Values of a rule that wants it are told by their keys, a bounded number of them.
    for number in 0..book::VALUES_TOLD_MAX + 3 {
        one(&front, descriptor(&[("path", &format!("/{number}"))]));
    }
    let told = front.status();
    assert_eq!(of(&told, "edge/path=%2F7").unwrap().hits, 1);
    assert_eq!(told.by_rule.len(), 7 + book::VALUES_TOLD_MAX);
    assert_eq!(front.tally().envoy_values_left_out, 3);
    let other = RULES.replace("requests_per_unit: 3", "requests_per_unit: 5");
    front.shared().limits().replace_rules(&rules(&other));
    assert_eq!(one(&front, user("ann")).limit_remaining, 1, "it goes on");
    assert_eq!(of(&front.status(), "edge.user").unwrap().hits, 5);
}

#[test]
fn nothing_is_added_after_the_end() {
    let front = front();
    assert!(front.is_ready());
    front.end_adding();
    assert!(!front.is_ready());
    let why = ask(&front, &request(vec![user("ann")])).unwrap_err();
    assert!(matches!(why, Undecided::Unavailable(_)), "{why}");
}
