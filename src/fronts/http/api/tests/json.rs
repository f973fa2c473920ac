//! Envoy's rate limit service as JSON. Verdicts are tested where they are made.

use super::*;

fn asked(user: &str) -> Value {
    json!({"domain": "edge", "descriptors": [{"entries": [{"key": "user", "value": user}]}]})
}

#[test]
fn a_question_is_answered_as_envoys_service_does() {
    let api = api();
    let limit = json!({"requestsPerUnit": 3, "unit": "MINUTE", "name": "per-user"});
    for left in [2, 1] {
        let told = posted(&api, "/json", asked("ann"));
        assert_eq!(
            (told.code, told.header("content-type")),
            (200, "application/json")
        );
        let status = json!({
            "code": "OK", "currentLimit": limit, "limitRemaining": left, "durationUntilReset": "60s",
        });
        let expected = json!({"overallCode": "OK", "statuses": [status]});
        assert_eq!(told.json(), expected);
    }
    let hits =
        json!({"domain": "edge", "hitsAddend": 2, "descriptors": asked("ann")["descriptors"]});
    let told = posted(&api, "/json", hits);
    assert_eq!(told.code, 429, "{}", told.text);
    assert_eq!(told.json()["overallCode"], "OVER_LIMIT");
}

#[test]
fn what_is_no_question_is_a_problem() {
    let api = api();
    for (body, words) in [
        (
            json!({"domain": "edge"}),
            "descriptor list must not be empty",
        ),
        (json!({"descriptors": [{}]}), "domain must not be empty"),
        (json!({"descriptor": []}), "unknown field `descriptor`"),
    ] {
        let told = posted(&api, "/json", body);
        assert_eq!((told.code, told.problem().as_str()), (400, "malformed"));
        assert!(told.text.contains(words), "{}", told.text);
    }
    assert_eq!(ask(&api, get("/json"), LOOPBACK).code, 405);
    let options = ApiOptions {
        shared: shared(),
        source: Arc::new(Fake::new(true)),
        hosts: Hosts::of_this_host(["node-1.example"]),
        tokens: tokens(),
        has_check: true,
        published: Arc::default(),
        envoy: None,
    };
    let without = Api::new(options);
    assert_eq!(posted(&without, "/json", asked("ann")).code, 404);
}
