//! Tests of the API: requests as they come from a connection, and connections.

#![allow(clippy::unwrap_used)]

mod access;
mod headers;
mod json;
mod nonsense;
mod openapi;
mod verdicts;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::header::{CONTENT_TYPE, HOST};
use serde_json::{Value, json};

use super::*;
use crate::engine::limits::Amount;
use crate::engine::{Engine, EngineOptions, Rule};
use crate::fronts::http::testing::Fake;
use crate::shared::LimitsInForce;
use rmbd_io::Stop;
use rmbd_proto::Boot;
use rmbd_sketch::{Geometry, HashFamily, Weight};
use rmbd_store::once::{BootChain, OnceTable};
use rmbd_store::{NamedSketch, Registry, Replica, ReplicaOptions, SketchIndex, WindowPlan};

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const STRANGER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));
const TOKEN: &str = "0123456789abcdef0123456789abcdef";
/// The largest weight of one operation.
const WEIGHT_MAX: u32 = 1_000;

/// Two sketches that never err for as few keys as tests have, with a window of a minute each.
fn registry() -> Registry {
    let geometry = Geometry::new(1 << 14, 4).unwrap();
    let family = HashFamily::Xxh3 { seed: 7 };
    let sketches = ["default", "logins"].map(|name| {
        let window = WindowPlan::new(60_000, None, None, geometry, family).unwrap();
        let options = ReplicaOptions {
            windows: vec![window],
            ..ReplicaOptions::new(geometry, family)
        };
        let replica = Arc::new(Replica::try_open(options).unwrap());
        NamedSketch::new(name.parse().unwrap(), replica)
    });
    Registry::new(sketches.into()).unwrap()
}

fn engine_options() -> EngineOptions {
    EngineOptions {
        boot: Boot(1),
        earlier: BootChain::default(),
        max_weight: Weight::new(WEIGHT_MAX).unwrap(),
        once: Arc::new(OnceTable::new(100, &[7; 32])),
    }
}

fn shared() -> Arc<Shared> {
    let limits = Arc::new(LimitsInForce::new(&[]));
    let stop = Stop::new().unwrap();
    let shared = Shared::new(registry(), &engine_options(), limits, stop);
    let rule = |name: &str, amounts: &[(u64, u64)], takes| Rule {
        name: name.into(),
        sketch: shared.engine().registry().by_name("logins").unwrap(),
        keys: "*".parse().unwrap(),
        amounts: amounts
            .iter()
            .map(|&(limit, window_ms)| Amount { limit, window_ms })
            .collect(),
        cost: 2,
        takes,
        overrides: Box::default(),
        exempt: ["health".parse().unwrap()].into(),
        is_shadow: false,
    };
    let shadow = Rule {
        is_shadow: true,
        ..rule("shadow", &[(2, 60_000)], true)
    };
    shared.engine().set_limits(vec![
        rule("api", &[(6, 60_000)], true),
        rule("both", &[(100, 60_000), (4, 0)], true),
        rule("counted", &[(2, 0)], false),
        shadow,
    ]);
    Arc::new(shared)
}

/// Envoy's rate limit service, with rules and a sketch of its own.
fn envoy() -> Option<Arc<EnvoyFront>> {
    Some(Arc::new(crate::fronts::envoy::tests::front()))
}

/// An API over them, and a node that is made up.
fn api_with(tokens: Tokens) -> Arc<Api> {
    let options = ApiOptions {
        shared: shared(),
        source: Arc::new(Fake::new(true)),
        hosts: Hosts::of_this_host(["node-1.example"]),
        tokens,
        has_check: true,
        published: Arc::default(),
        envoy: envoy(),
    };
    Arc::new(Api::new(options))
}

fn tokens() -> Tokens {
    Tokens::parse(TOKEN).unwrap()
}

fn api() -> Arc<Api> {
    api_with(tokens())
}

/// An answer that has come.
#[derive(Debug)]
struct Told {
    code: u16,
    headers: axum::http::HeaderMap,
    text: String,
}

impl Told {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name);
        value.map_or("", |value| value.to_str().unwrap())
    }

    /// The end of the type of a problem.
    fn problem(&self) -> String {
        assert_eq!(self.header("content-type"), "application/problem+json");
        let json = self.json();
        assert_eq!(json["status"], self.code, "{json}");
        let detail = json["detail"].as_str().unwrap();
        assert!(!detail.is_empty() && !json["title"].as_str().unwrap().is_empty());
        let kind = json["type"].as_str().unwrap();
        kind.rsplit([':', '#']).next().unwrap().to_owned()
    }
}

fn ask(api: &Api, request: Request<Body>, from: IpAddr) -> Told {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build();
    runtime.unwrap().block_on(async {
        let response = api.answer(request, Some(from)).await;
        let (head, body) = response.into_parts();
        let bytes = to_bytes(body, 1 << 30).await.unwrap();
        Told {
            code: head.status.as_u16(),
            headers: head.headers,
            text: String::from_utf8(bytes.into()).unwrap(),
        }
    })
}

fn request(method: &str, path: &str) -> axum::http::request::Builder {
    Request::builder()
        .method(method)
        .uri(path)
        .header(HOST, "localhost")
}

fn post(path: &str, body: impl ToString) -> Request<Body> {
    let request = request("POST", path).header(CONTENT_TYPE, "application/json");
    request.body(Body::from(body.to_string())).unwrap()
}

fn get(path: &str) -> Request<Body> {
    request("GET", path).body(Body::empty()).unwrap()
}

/// Posts from loopback.
fn posted(api: &Api, path: &str, body: impl ToString) -> Told {
    ask(api, post(path, body), LOOPBACK)
}

/// Posts what has to be understood.
fn well(api: &Api, path: &str, body: impl ToString) -> Value {
    let told = posted(api, path, body);
    assert_eq!(told.code, 200, "{}", told.text);
    told.json()
}

#[test]
fn what_is_added_is_counted() {
    let api = api();
    let added = well(&api, "/v1/default/add", r#"{"key":"a"}"#);
    assert_eq!(added, json!({"keys": 1, "weight": 1}));
    let items = r#"{"weight":2,"items":[{"key":"a"},{"key":{"base64":"//4="},"weight":5}]}"#;
    let added = well(&api, "/v1/default/add", items);
    assert_eq!(added, json!({"keys": 2, "weight": 7}));
    let count = well(&api, "/v1/default/count", r#"{"key":"a"}"#);
    let one = json!({"key": "a", "estimate": 3, "incomplete": false, "overflowed": false});
    assert_eq!(count, one);
    let items = r#"{"items":[{"key":{"base64":"//4="}},{"key":"a"},{"key":"b"}]}"#;
    let counts = well(&api, "/v1/default/count", items);
    let told: Vec<_> = counts["items"].as_array().unwrap().iter().collect();
    let told: Vec<_> = told
        .iter()
        .map(|it| (&it["key"], &it["estimate"]))
        .collect();
    let expected = [
        (&json!({"base64": "//4="}), &json!(5)),
        (&json!("a"), &json!(3)),
        (&json!("b"), &json!(0)),
    ];
    assert_eq!(told, expected);
    // Another sketch counts for itself.
    let other = well(&api, "/v1/logins/count", r#"{"key":"a"}"#);
    assert_eq!(other["estimate"], 0);
    let minute = well(&api, "/v1/default/count", r#"{"key":"a","window":"60s"}"#);
    assert_eq!(
        (&minute["estimate"], &minute["incomplete"]),
        (&json!(3), &json!(true))
    );
    assert!(minute["covered_ms"].is_u64(), "{minute}");
    let same = r#"{"key":"a","window":60000,"reading":"smooth"}"#;
    assert_eq!(well(&api, "/v1/default/count", same)["estimate"], 3);
}

#[test]
fn what_is_refused_changes_nothing() {
    let api = api();
    let long = "k".repeat(1025);
    let heavy = vec![json!({"key": "a", "weight": WEIGHT_MAX}); 1_000];
    for (path, body, code, problem) in [
        (
            "add",
            json!({"items": [{"key": "a"}, {"key": "b", "weight": 1_001}]}),
            400,
            "weight-too-large",
        ),
        (
            "add",
            json!({"items": [{"key": "a"}, {"key": long}]}),
            400,
            "key-too-long",
        ),
        (
            "add",
            json!({"items": [{"key": "a"}, {"weight": 1}]}),
            400,
            "malformed",
        ),
        ("add", json!({"key": "a", "limit": 1}), 400, "malformed"),
        (
            "add",
            json!({"key": "a", "window": "60s"}),
            400,
            "malformed",
        ),
        (
            "add",
            json!({"key": "a", "limits": [{"limit": 1}]}),
            400,
            "malformed",
        ),
        ("count", json!({"key": "a", "weight": 1}), 400, "malformed"),
        (
            "count",
            json!({"key": "a", "window": "61s"}),
            404,
            "unknown-window",
        ),
        (
            "count",
            json!({"key": "a", "reading": "bound"}),
            400,
            "malformed",
        ),
        ("hit", json!({"key": "a"}), 400, "malformed"),
        (
            "hit",
            json!({"key": "a", "limit_name": "none"}),
            404,
            "unknown-limit",
        ),
        (
            "hit",
            json!({"key": "a", "limit_name": "api", "limit": 1}),
            400,
            "malformed",
        ),
        (
            "hit",
            json!({"key": "a", "limit_name": "api", "limits": [{"limit": 1}]}),
            400,
            "malformed",
        ),
        (
            "hit",
            json!({"key": "a", "limits": [{"limit": 1, "limit_name": "api"}]}),
            400,
            "malformed",
        ),
        (
            "hit",
            json!({"key": "a", "limit": 9, "sketch": "none"}),
            404,
            "unknown-sketch",
        ),
        (
            "take",
            json!({"key": "a", "limit_name": "api"}),
            400,
            "malformed",
        ),
        (
            "take",
            json!({"items": [{"key": "a", "limit": 9}, {"key": "a", "limit": 9, "window": "7s"}]}),
            404,
            "unknown-window",
        ),
        (
            "hit",
            json!({"limit_name": "api", "key": "a", "weight": 501}),
            400,
            "weight-too-large",
        ),
    ] {
        let told = posted(&api, &format!("/v1/default/{path}"), &body);
        assert_eq!(
            (told.code, told.problem().as_str()),
            (code, problem),
            "{body}"
        );
    }
    let told = posted(&api, "/v1/none/add", r#"{"key":"a"}"#);
    assert_eq!(
        (told.code, told.problem().as_str()),
        (404, "unknown-sketch")
    );
    let count = well(&api, "/v1/default/count", r#"{"key":"a"}"#);
    assert_eq!(count["estimate"], 0);
    well(&api, "/v1/default/add", json!({ "items": heavy }));
    let items = json!({"limit": u64::MAX, "key": "a", "weight": 0});
    assert_eq!(well(&api, "/v1/default/hit", items)["estimate"], 1_000_000);
}

#[test]
fn nothing_is_added_when_the_end_has_begun() {
    let api = api();
    well(&api, "/v1/default/add", r#"{"key":"a"}"#);
    api.end_adding();
    for path in ["add", "count", "hit", "take"] {
        let body = r#"{"key":"a"}"#;
        let told = posted(&api, &format!("/v1/default/{path}"), body);
        assert_eq!(
            (told.code, told.problem().as_str()),
            (503, "ending"),
            "{path}"
        );
        assert_eq!(told.header("retry-after"), "1");
    }
    let engine = api.shared.engine();
    let mut session: crate::engine::Session<()> =
        crate::engine::Session::sharing(Arc::clone(engine));
    let mut counted = None;
    let mut answer = |(), told: crate::engine::Answer| counted = Some(told.estimate().count);
    session.count(SketchIndex::DEFAULT, b"a", (), &mut answer);
    session.finish(&mut answer);
    assert_eq!(counted, Some(1));
}

/// More than may be added between two passes is refused as a whole, and asks for a pass.
#[test]
fn who_adds_too_fast_is_told_to_come_again() {
    let api = api();
    let all = vec![json!({"key": "a", "weight": WEIGHT_MAX}); 1_000];
    let body = json!({ "items": all }).to_string();
    let mut added = 0_u64;
    let refused = loop {
        let told = posted(&api, "/v1/default/add", &body);
        if told.code != 200 {
            break told;
        }
        added += 1_000_000;
        assert!(added < 1 << 32, "nobody asks for a pass");
    };
    assert_eq!((refused.code, refused.problem().as_str()), (503, "busy"));
    assert_eq!(refused.header("retry-after"), "1");
    let count = well(&api, "/v1/default/count", r#"{"key":"a"}"#);
    assert_eq!(count["estimate"], added);
    let replica = api.shared.engine().registry().replica(SketchIndex::DEFAULT);
    assert!(replica.own().wants_pass());
}

#[test]
fn requests_are_counted_by_kind_and_outcome() {
    let api = api();
    let published = Arc::clone(api.desk().as_ref().unwrap().published());
    for (path, body) in [
        ("add", r#"{"key":"a"}"#),
        ("count", r#"{"key":"a"}"#),
        ("hit", r#"{"key":"a","limit":1}"#),
        ("take", r#"{"key":"a","limit":9}"#),
        ("take", r#"{"key":"a"}"#),
    ] {
        posted(&api, &format!("/v1/default/{path}"), body);
    }
    ask(&api, get("/v1/default/top"), LOOPBACK);
    let check = request("GET", "/v1/check?limit=api&key=a")
        .header("authorization", format!("Bearer {TOKEN}"));
    ask(&api, check.body(Body::empty()).unwrap(), STRANGER);
    let tally = published.read();
    let counts = [
        tally.http_adds,
        tally.http_counts,
        tally.http_hits,
        tally.http_takes,
        tally.http_tops,
        tally.http_checks,
        tally.http_over,
        tally.http_refused,
        tally.http_failed,
    ];
    assert_eq!(counts, [1, 1, 1, 1, 1, 1, 1, 1, 0]);
    assert_eq!(
        (tally.add, tally.count, tally.limits, tally.hit_by_name),
        (1, 1, 2, 1)
    );
}

#[test]
fn the_largest_keys_are_told() {
    let api = api();
    let told = ask(&api, get("/v1/default/top?k=2"), LOOPBACK);
    assert_eq!(told.code, 200, "{}", told.text);
    let json = told.json();
    assert_eq!(json["redacted"], false, "{json}");
    let first = &json["keys"][0];
    assert!(
        first["key"].is_string() || first["key"].is_object(),
        "{json}"
    );
    let stranger = ask(&api, get("/v1/default/top"), STRANGER).json();
    assert_eq!(stranger["redacted"], true);
    assert_eq!(stranger["keys"][0]["key"], Value::Null);
    let with_token =
        request("GET", "/v1/default/top").header("authorization", format!("Bearer {TOKEN}"));
    let with_token = ask(&api, with_token.body(Body::empty()).unwrap(), STRANGER).json();
    assert_eq!(with_token["redacted"], false);
    for (path, code, problem) in [
        ("/v1/default/top?k=0", 400, "malformed"),
        ("/v1/default/top?sketch=default", 400, "malformed"),
        ("/v1/Default/top", 404, "unknown-sketch"),
    ] {
        let told = ask(&api, get(path), LOOPBACK);
        assert_eq!(
            (told.code, told.problem().as_str()),
            (code, problem),
            "{path}"
        );
    }
}
