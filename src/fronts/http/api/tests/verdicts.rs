//! Verdicts against exact counts, and against a session that datagrams would ask.

use std::collections::HashMap;

use super::*;
use crate::engine::{Admitted, Answer, LimitPart, LimitParts, LimitsAnswer, Session};
use rmbd_store::Reading;
use rmbd_testkit::random::Random;

#[test]
fn a_take_that_is_over_adds_nothing_and_a_hit_does() {
    let api = api();
    for (path, expected) in [("take", [1, 2, 2]), ("hit", [3, 4, 5])] {
        let limit = expected[1];
        for (count, allowed) in expected.into_iter().zip([true, true, false]) {
            let told = posted(
                &api,
                &format!("/v1/default/{path}"),
                json!({"key": "a", "limit": limit}),
            );
            assert_eq!(told.code, if allowed { 200 } else { 429 }, "{}", told.text);
            let json = told.json();
            assert_eq!(json["allowed"], allowed, "{path}: {json}");
            assert_eq!(json["estimate"], count, "{path}: {json}");
            assert_eq!(
                json["remaining"],
                limit - count.min(limit),
                "{path}: {json}"
            );
        }
    }
}

#[test]
fn several_limits_are_kept_together_or_nothing_is_taken() {
    let api = api();
    let take = |body: Value| posted(&api, "/v1/default/take", body);
    let both = json!({"limits": [
        {"key": "user", "limit": 2, "window": "60s"},
        {"key": "net", "limit": 3, "sketch": "logins", "weight": 2},
    ]});
    let first = take(both.clone());
    assert_eq!(first.code, 200, "{}", first.text);
    let second = take(both);
    assert_eq!(second.code, 429);
    let json = second.json();
    assert_eq!(
        (&json["key"], &json["estimate"]),
        (&json!("net"), &json!(2))
    );
    assert_eq!(json["decided_by"], json!({"policy": "1:3", "limit": 3}));
    assert_eq!(json["violated-policies"], json!(["1:3"]));
    let user = well(&api, "/v1/default/count", r#"{"key":"user"}"#);
    assert_eq!(user["estimate"], 1, "what was refused is counted nowhere");
    // What stands around limits holds for each of them.
    let inherited = json!({"key": "user", "weight": 1, "limits": [{"limit": 9}, {"limit": 9, "window": "60s"}]});
    assert_eq!(take(inherited).json()["estimate"], 2);
}

#[test]
fn items_are_decided_one_after_the_other() {
    let api = api();
    let body = json!({"limit": 2, "items": [{"key": "a"}, {"key": "b", "weight": 3}, {"key": "a"}, {"key": "a"}]});
    let told = well(&api, "/v1/default/take", body);
    let allowed: Vec<_> = told["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| &it["allowed"])
        .collect();
    assert_eq!(allowed, [true, false, true, false]);
    assert_eq!(told["allowed"], false);
}

#[test]
fn limits_with_names_say_themselves_what_they_do() {
    let api = api();
    let hit = |body: Value| posted(&api, "/v1/default/hit", body);
    let named = |name: &str, key: &str| json!({"limit_name": name, "key": key});
    // A hit costs two.
    for (code, estimate, remaining) in [(200, 2, 4), (200, 4, 2), (200, 6, 0), (429, 6, 0)] {
        let told = hit(named("api", "a"));
        assert_eq!(told.code, code, "{}", told.text);
        let json = told.json();
        assert_eq!(
            (&json["estimate"], &json["remaining"]),
            (&json!(estimate), &json!(remaining))
        );
        let decided = json!({"policy": "api", "limit": 6, "window_ms": 60_000});
        assert_eq!(json["decided_by"], decided);
    }
    assert_eq!(hit(named("counted", "b")).json()["estimate"], 2);
    assert_eq!(
        hit(named("counted", "b")).json()["estimate"],
        4,
        "it is counted all the same"
    );
    let shadow = hit(named("shadow", "c"));
    assert_eq!(shadow.json()["shadow"], false);
    let shadow = hit(named("shadow", "c"));
    assert_eq!((shadow.code, &shadow.json()["shadow"]), (200, &json!(true)));
    assert_eq!(shadow.json()["allowed"], true);
    let exempt = hit(named("api", "health")).json();
    assert_eq!(
        (&exempt["allowed"], &exempt["remaining"]),
        (&json!(true), &Value::Null)
    );
    assert!(exempt.get("decided_by").is_none(), "{exempt}");
}

/// An engine beside that of an API, asked as a data thread asks its session, and exact counts.
struct Oracle {
    engine: Arc<Engine>,
    session: Session<()>,
    counts: HashMap<(usize, u64), u64>,
}

/// One limit of a request.
#[derive(Debug, Clone, Copy)]
struct One {
    sketch: usize,
    key: u64,
    weight: u64,
    limit: u64,
    has_window: bool,
}

const SKETCHES: [&str; 2] = ["default", "logins"];

impl Oracle {
    fn new() -> Self {
        let engine = Arc::new(Engine::new(registry(), &engine_options()));
        Self {
            session: Session::sharing(Arc::clone(&engine)),
            engine,
            counts: HashMap::new(),
        }
    }

    fn session_says(&mut self, all: &[One], takes: bool, now: Duration) -> LimitsAnswer {
        let keys: Vec<_> = all.iter().map(|one| key_of(one.key)).collect();
        let mut parts = LimitParts::default();
        for (one, key) in all.iter().zip(&keys) {
            let sketch = self
                .engine
                .registry()
                .by_name(SKETCHES[one.sketch])
                .unwrap();
            let window_ms = if one.has_window { 60_000 } else { 0 };
            let window = self
                .session
                .window(sketch, window_ms, Reading::Smooth, || now);
            assert!(parts.push(LimitPart {
                sketch,
                key,
                weight: self.session.weigh(one.weight).unwrap(),
                limit: one.limit,
                window: window.unwrap(),
                credit: 0,
            }));
        }
        let mut told = None;
        let mut answer = |(), answer: Answer| told = Some(answer);
        let admitted = Admitted::to(SketchIndex::DEFAULT);
        self.session
            .limits(admitted, &parts, takes, (), &mut answer)
            .unwrap();
        self.session.finish(&mut answer);
        match told {
            Some(Answer::Limits(told)) => told,
            other => panic!("{other:?}"),
        }
    }

    /// Whether all limits are kept, by exact counts; and counts.
    fn exactly(&mut self, all: &[One], takes: bool) -> bool {
        let mut added: HashMap<(usize, u64), u64> = HashMap::new();
        for one in all {
            let weight = added.entry((one.sketch, one.key)).or_default();
            *weight = one.weight.max(*weight);
        }
        let is_within = all.iter().all(|one| {
            let before = self.counts.get(&(one.sketch, one.key)).copied();
            before.unwrap_or_default() + added[&(one.sketch, one.key)] <= one.limit
        });
        if is_within || !takes {
            for (key, weight) in added {
                *self.counts.entry(key).or_default() += weight;
            }
        }
        is_within
    }
}

fn key_of(key: u64) -> Vec<u8> {
    // Half of the keys are no text.
    match key % 2 {
        0 => format!("key {key}").into_bytes(),
        _ => vec![0xff, key as u8],
    }
}

#[test]
fn verdicts_are_those_of_a_session_and_of_exact_counts() {
    let seed = 0x4177;
    println!("seed {seed:#x}");
    let mut random = Random(seed);
    let (api, mut oracle) = (api(), Oracle::new());
    for round in 0..400 {
        let takes = random.below(2) == 0;
        let all: Vec<_> = (0..1 + random.below(8) * random.below(2))
            .map(|_| One {
                sketch: random.below(2) as usize,
                key: random.below(6),
                weight: random.below(4),
                limit: random.below(60),
                has_window: random.below(2) == 0,
            })
            .collect();
        let limits: Vec<_> = all
            .iter()
            .map(|one| {
                let key = request::ApiKey(key_of(one.key).into());
                let mut json = json!({
                    "key": key, "weight": one.weight, "limit": one.limit, "sketch": SKETCHES[one.sketch],
                });
                if one.has_window {
                    json["window"] = json!("60s");
                }
                json
            })
            .collect();
        let body = match limits.as_slice() {
            [one] => one.clone(),
            _ => json!({ "limits": limits }),
        };
        let path = if takes { "take" } else { "hit" };
        let told = posted(&api, &format!("/v1/default/{path}"), &body);
        let session = oracle.session_says(&all, takes, api.shared.now());
        let is_within = oracle.exactly(&all, takes);
        let json = told.json();
        let case = format!("round {round}: {path} {body}: {json}");
        assert_eq!(told.code, if is_within { 200 } else { 429 }, "{case}");
        assert_eq!(json["allowed"], is_within, "{case}");
        assert_eq!(session.is_over, !is_within, "{case}");
        assert_eq!(json["estimate"], session.estimate, "{case}");
        assert_eq!(json["remaining"], session.remaining, "{case}");
        let decisive = &all[usize::from(session.part)];
        assert_eq!(json["decided_by"]["limit"], decisive.limit, "{case}");
        let key = request::ApiKey(key_of(decisive.key).into());
        assert_eq!(json["key"], serde_json::to_value(key).unwrap(), "{case}");
    }
}
