//! The headers of verdicts.

use super::*;

fn fields(told: &Told) -> [&str; 3] {
    ["ratelimit-policy", "ratelimit", "retry-after"].map(|name| told.header(name))
}

#[test]
fn verdicts_say_what_is_left_and_when_to_come_again() {
    let api = api();
    let take = |body: Value| posted(&api, "/v1/default/take", body);
    let one = json!({"key": "a", "limit": 2, "window": "60s"});
    assert_eq!(
        fields(&take(one.clone())),
        [r#""2/1m";q=2;w=60"#, r#""2/1m";r=1"#, ""]
    );
    assert_eq!(
        fields(&take(one.clone())),
        [r#""2/1m";q=2;w=60"#, r#""2/1m";r=0"#, ""]
    );
    let over = take(one);
    assert_eq!(over.code, 429);
    let [policy, limit, retry_s] = fields(&over);
    assert_eq!(policy, r#""2/1m";q=2;w=60"#);
    let retry_s: u64 = retry_s.parse().unwrap();
    assert!((1..=66).contains(&retry_s), "{retry_s}");
    assert_eq!(limit, format!(r#""2/1m";r=0;t={retry_s}"#));
    let retry_ms = over.json()["retry_after_ms"].as_u64().unwrap();
    assert_eq!(retry_ms.div_ceil(1_000), retry_s);
    assert_eq!(over.problem(), "quota-exceeded");
    // All time does not pass, and what is heavier than its limit never fits.
    for never in [
        json!({"key": "b", "limit": 0}),
        json!({"key": "b", "limit": 1, "weight": 2, "window": "60s"}),
    ] {
        let told = take(never);
        assert_eq!(
            (told.code, told.header("retry-after")),
            (429, ""),
            "{}",
            told.text
        );
        assert_eq!(told.json()["retry_after_ms"], Value::Null);
        assert!(!told.header("ratelimit").contains(";t="));
    }
    let several =
        json!({"key": "c", "limits": [{"limit": 5, "window": 1_500_000}, {"limit": u64::MAX}]});
    let told = posted(&api, "/v1/default/take", several);
    assert_eq!(told.problem(), "unknown-window");
    let several =
        json!({"key": "c", "limits": [{"limit": 5, "window": "60s"}, {"limit": u64::MAX}]});
    let expected = [
        r#""0:5/1m";q=5;w=60, "1:18446744073709551615";q=999999999999999"#,
        r#""0:5/1m";r=4"#,
        "",
    ];
    assert_eq!(fields(&take(several)), expected);
    let named = json!({"key": "d", "limit_name": "both"});
    let told = posted(&api, "/v1/default/hit", named);
    let expected = [
        r#""both:100/1m";q=100;w=60, "both:4";q=4"#,
        r#""both:4";r=2"#,
        "",
    ];
    assert_eq!(fields(&told), expected);
    // What asks for no limit, or for several verdicts, has none.
    for (path, body) in [
        ("add", json!({"key": "a"})),
        ("count", json!({"key": "a"})),
        ("hit", json!({"items": [{"key": "a", "limit": 1}]})),
        ("hit", json!({"key": "health", "limit_name": "api"})),
    ] {
        let told = posted(&api, &format!("/v1/default/{path}"), body);
        assert_eq!((told.code, fields(&told)), (200, ["", "", ""]), "{path}");
    }
}

#[test]
fn every_answer_is_guarded() {
    let api = api();
    for (request, code) in [
        (post("/v1/default/add", r#"{"key":"a"}"#), 200),
        (post("/v1/default/hit", r#"{"key":"a","limit":0}"#), 429),
        (post("/v1/default/add", "{"), 400),
        (get("/v1/openapi.json"), 200),
        (get("/v1/"), 404),
    ] {
        let told = ask(&api, request, LOOPBACK);
        assert_eq!(told.code, code, "{}", told.text);
        assert_eq!(told.header("cache-control"), "no-store");
        assert_eq!(told.header("x-content-type-options"), "nosniff");
    }
}
