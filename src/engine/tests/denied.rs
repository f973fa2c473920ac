//! Denied keys of sessions against exact counts of verdicts.

use std::thread::scope;

use super::*;
use crate::engine::limits::{Amount, Override};
use rmbd_store::Way;

const ALL: usize = usize::MAX;
const NOW: Duration = Duration::from_secs(7);

/// How often each limit denied each key.
type Truth = BTreeMap<(String, Vec<u8>), u64>;

fn rule(name: &str, sketch: SketchIndex, limits: &[u64]) -> Rule {
    let window_ms = 0;
    let amounts = limits.iter().map(|&limit| Amount { limit, window_ms });
    Rule {
        name: name.into(),
        sketch,
        keys: "*".parse().unwrap(),
        amounts: amounts.collect(),
        cost: 1,
        takes: true,
        overrides: Box::<[Override]>::default(),
        exempt: Box::default(),
        is_shadow: name.starts_with("shadow"),
    }
}

fn hit<T: Copy>(
    session: &mut Session<T>,
    (name, key): (&str, &[u8]),
    (now, token): (Duration, T),
    answer: &mut impl FnMut(T, Answer),
) {
    let named = (name.as_bytes(), key);
    session
        .hit_by_name(FIRST, named, 1, || now, token, answer)
        .unwrap();
}

fn check(engine: &Engine, truth: &Truth) {
    let mut found = Truth::new();
    for limit in engine.limits().iter() {
        let name = &*limit.rule.name;
        let list = engine.denied(name.as_bytes(), ALL, NOW).unwrap().list;
        assert_eq!(list.denied, limit.tally().over, "{name}");
        assert_eq!(list.complete_above, 0, "{name}");
        for key in list.keys {
            assert_eq!(key.at_least, key.at_most, "{name}: {key:?}");
            found.insert((name.into(), key.name.unwrap().into()), key.at_least);
        }
    }
    assert_eq!(&found, truth);
}

/// Hits of many sketches wait at once, more than there is room for keys.
#[test]
fn each_denied_hit_is_noted_with_its_key_however_long_it_waits() {
    for seed in 0..10 {
        println!("seed {seed}");
        let mut state = seed;
        let mut below = move |end: u64| random(&mut state) % end;
        let engine = engine_of(&[1 << 12; 7], XXH3, MAX);
        let sketches = engine.registry().iter().map(|(sketch, _)| sketch);
        let rules = sketches.enumerate().flat_map(|(at, sketch)| {
            let one = rule(&format!("one-{at}"), sketch, &[2]);
            let two = rule(&format!("shadow-{at}"), sketch, &[3, 90]);
            [one, two]
        });
        engine.set_limits(rules.collect());
        let way = [Way::Direct, Way::Pipelined][below(2) as usize];
        let mut session = Session::with_way(Arc::clone(&engine), way);
        let (mut asked, mut truth) = (Vec::new(), Truth::new());
        let mut overs = Vec::new();
        let mut answer = |token: usize, answer| {
            if let Answer::NamedLimit(LimitsAnswer { is_over: true, .. }) = answer {
                overs.push(token);
            }
        };
        for token in 0..3_000 {
            let kind = ["one", "one", "one", "shadow"][below(4) as usize];
            let name = format!("{kind}-{}", below(7));
            let number = below(40);
            // Keys of all lengths, with bytes that are no text.
            let key = [0xfe, number as u8].repeat(number as usize * 12);
            hit(&mut session, (&name, &key), (NOW, token), &mut answer);
            asked.push((name, key));
            if below(300) == 0 {
                session.finish(&mut answer);
            }
            if token % 100 == 0 {
                engine.take_denied_names();
            }
        }
        session.finish(&mut answer);
        for token in overs {
            *truth.entry(asked[token].clone()).or_default() += 1;
        }
        assert!(truth.len() > 100);
        check(&engine, &truth);
    }
}

#[test]
fn two_threads_note_what_they_deny() {
    let engine = engine(1 << 12, XXH3, MAX);
    engine.set_limits(vec![rule("api", SketchIndex::DEFAULT, &[0])]);
    scope(|threads| {
        for _ in 0..2 {
            threads.spawn(|| {
                let mut session = Session::<()>::new(Arc::clone(&engine));
                for number in 0..6_000_u64 {
                    let key = (number % 30).to_le_bytes();
                    hit(&mut session, ("api", &key), (NOW, ()), &mut |(), _| {});
                    engine.take_denied_names();
                }
                session.finish(&mut |(), _| {});
            });
        }
    });
    let all = (0..30_u64).map(|key| (("api".into(), key.to_le_bytes().to_vec()), 400));
    check(&engine, &all.collect());
}

#[test]
fn lists_go_with_their_limits_and_with_the_time() {
    let engine = engine(1 << 12, XXH3, MAX);
    let rules = |names: &[&str]| {
        let rules = names.iter();
        let rules = rules.map(|name| rule(name, SketchIndex::DEFAULT, &[0]));
        rules.collect::<Vec<_>>()
    };
    engine.set_limits(rules(&["api", "login"]));
    let mut session = Session::<()>::new(Arc::clone(&engine));
    let mut note = |name: &str, now_s: u64| {
        let now = Duration::from_secs(now_s);
        hit(&mut session, (name, b"key"), (now, ()), &mut |(), _| {});
        session.finish(&mut |(), _| {});
    };
    let denied = |name: &str, now_s: u64| {
        let answer = engine.denied(name.as_bytes(), 1, Duration::from_secs(now_s))?;
        Some((answer.list.denied, answer.covered.as_secs()))
    };
    note("api", 299);
    note("login", 299);
    note("api", 300);
    assert_eq!(denied("api", 599), Some((2, 599)));
    assert_eq!(denied("api", 600), Some((1, 300)));
    assert_eq!(denied("api", 900), Some((0, 300)));
    assert_eq!(denied("none", 599), None);
    // A limit that stays keeps its list; one that goes does not get it back.
    engine.set_limits(rules(&["api"]));
    assert_eq!(denied("api", 599), Some((2, 599)));
    assert_eq!(denied("login", 599), None);
    engine.set_limits(rules(&["api", "login"]));
    assert_eq!(denied("login", 599), Some((0, 599)));
    let shadow = Rule {
        is_shadow: true,
        ..rules(&["api"]).remove(0)
    };
    engine.set_limits(vec![shadow]);
    assert_eq!(denied("api", 599), Some((0, 599)));
}
