//! Bytes and JSON that another implementation has written, and what no implementation would.

use proptest::prelude::*;
use prost::Message;
use rmbd_testkit::hex::unhex;

use super::*;

/// As Google's `protobuf` for Python 7.36 writes them, from messages that are described to it by their numbers.
const REQUEST: &str = "0a0465646765121b0a0b0a04757365721203616e6e0a0c0a047061746812042f613d6212130a060a0475736572120508\
                       ac0210071a00200112091a07088080808080201803";
const REQUEST_JSON: &str = r#"{"domain": "edge", "descriptors": [{"entries": [{"key": "user", "value": "ann"},
    {"key": "path", "value": "/a=b"}]}, {"entries": [{"key": "user"}], "limit": {"requestsPerUnit": 300,
    "unit": "WEEK"}, "hitsAddend": "0", "isNegativeHits": true}, {"hitsAddend": "1099511627776"}], "hitsAddend": 3}"#;
const RESPONSE: &str = "0802121c0801120e080510021a087065722d7573657218ffffffff0f2202083c1212080212040801100422080825\
                        1080cab5ee0112020801";
const RESPONSE_JSON: &str = concat!(
    r#"{"overallCode":"OVER_LIMIT","statuses":[{"code":"OK","currentLimit":{"requestsPerUnit":5,"#,
    r#""unit":"MINUTE","name":"per-user"},"limitRemaining":4294967295,"durationUntilReset":"60s"},"#,
    r#"{"code":"OVER_LIMIT","currentLimit":{"requestsPerUnit":1,"unit":"DAY"},"#,
    r#""durationUntilReset":"37.500s"},{"code":"OK"}]}"#,
);

fn a_request() -> RateLimitRequest {
    RateLimitRequest {
        domain: "edge".to_owned(),
        descriptors: vec![
            RateLimitDescriptor {
                entries: vec![entry("user", "ann"), entry("path", "/a=b")],
                ..RateLimitDescriptor::default()
            },
            RateLimitDescriptor {
                entries: vec![entry("user", "")],
                limit: Some(Override {
                    requests_per_unit: 300,
                    unit: Unit::Week.into(),
                }),
                hits_addend: Some(HitsAddend { value: 0 }),
                is_negative_hits: true,
            },
            RateLimitDescriptor {
                hits_addend: Some(HitsAddend { value: 1 << 40 }),
                ..RateLimitDescriptor::default()
            },
        ],
        hits_addend: 3,
    }
}

fn a_response() -> RateLimitResponse {
    let limit = |requests_per_unit, unit: Unit, name: &str| {
        Some(RateLimit {
            requests_per_unit,
            unit: unit.into(),
            name: name.to_owned(),
        })
    };
    let span = |ms| Some(std::time::Duration::from_millis(ms).into());
    RateLimitResponse::of(vec![
        DescriptorStatus {
            current_limit: limit(5, Unit::Minute, "per-user"),
            limit_remaining: u32::MAX,
            duration_until_reset: span(60_000),
            ..DescriptorStatus::of(Code::Ok)
        },
        DescriptorStatus {
            current_limit: limit(1, Unit::Day, ""),
            duration_until_reset: span(37_500),
            ..DescriptorStatus::of(Code::OverLimit)
        },
        DescriptorStatus::of(Code::Ok),
    ])
}

#[test]
fn messages_are_those_of_another_implementation() {
    let request = RateLimitRequest::decode(&*unhex(REQUEST)).unwrap();
    assert_eq!(request, a_request());
    assert_eq!(request.encode_to_vec(), unhex(REQUEST));
    assert_eq!(json::request(REQUEST_JSON.as_bytes()).unwrap(), request);
    let response = a_response();
    assert_eq!(response.encode_to_vec(), unhex(RESPONSE));
    assert_eq!(json::response(&response), RESPONSE_JSON);
    assert_eq!(
        RateLimitResponse::decode(&*unhex(RESPONSE)).unwrap(),
        response
    );
}

/// Fields of later versions are left out; these are 9 of a request and 15 of its descriptor.
#[test]
fn fields_that_are_not_known_are_left_out() {
    let later = unhex("0a046564676512050a007a0161" /* domain, a descriptor */);
    let request = RateLimitRequest::decode(&*[later, unhex("48014a0178")].concat()).unwrap();
    assert_eq!(request.domain, "edge");
    assert_eq!(request.descriptors.len(), 1);
}

#[test]
fn json_may_be_written_in_several_ways() {
    let one = |fields: &str| {
        let json = format!(r#"{{"domain":"d","descriptors":[{{"entries":[],{fields}}}]}}"#);
        json::request(json.as_bytes())
            .unwrap()
            .descriptors
            .remove(0)
    };
    for hits in ["7", "\"7\"", "7.0", "7e0"] {
        for name in ["hitsAddend", "hits_addend"] {
            let read = one(&format!("\"{name}\":{hits}"));
            assert_eq!(read.hits_addend, Some(HitsAddend { value: 7 }), "{hits}");
        }
    }
    assert_eq!(one(r#""hitsAddend":null,"limit":null"#).hits_addend, None);
    for (unit, number) in [
        ("\"WEEK\"", 7),
        ("2", 2),
        ("99", 99),
        ("null", 0),
        ("\"UNKNOWN\"", 0),
    ] {
        let read = one(&format!(
            r#""limit":{{"unit":{unit},"requests_per_unit":"5"}}"#
        ));
        let limit = read.limit.unwrap();
        assert_eq!((limit.unit, limit.requests_per_unit), (number, 5), "{unit}");
    }
    assert_eq!(
        json::request(b"{}").unwrap(),
        RateLimitRequest::default(),
        "it is refused later, in words"
    );
}

#[test]
fn what_is_no_request_is_told_where() {
    for (text, words) in [
        ("", "EOF"),
        ("[]", "invalid length 0"),
        (
            r#"{"domain":"d","descriptor":[]}"#,
            "unknown field `descriptor`",
        ),
        (r#"{"domain":"d","domain":"e"}"#, "duplicate field `domain`"),
        (r#"{"domain":7}"#, "expected a string"),
        (r#"{"hitsAddend":-1}"#, "not below 0"),
        (r#"{"hitsAddend":1.5}"#, "a whole number"),
        (r#"{"hitsAddend":"x"}"#, "a whole number"),
        (r#"{"hitsAddend":4294967296}"#, "above 2^32 - 1"),
        (
            r#"{"descriptors":[null]}"#,
            "expected struct DescriptorJson",
        ),
        (
            r#"{"descriptors":[{"limit":{"unit":"FORTNIGHT"}}]}"#,
            "SECOND, MINUTE",
        ),
        (r#"{"domain":"d"} x"#, "trailing characters"),
    ] {
        let error = json::request(text.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(words), "{text}: {error}");
    }
    let deep = "[".repeat(10_000);
    assert!(json::request(format!("{{\"descriptors\":{deep}").as_bytes()).is_err());
}

#[test]
fn spans_have_as_many_digits_as_they_need() {
    for (seconds, nanos, text) in [
        (0, 0, "0s"),
        (37, 0, "37s"),
        (1, 5_000_000, "1.005s"),
        (1, 5_000, "1.000005s"),
        (604_800, 1, "604800.000000001s"),
    ] {
        let status = DescriptorStatus {
            duration_until_reset: Some(Span { seconds, nanos }),
            ..DescriptorStatus::of(Code::Ok)
        };
        let json = json::response(&RateLimitResponse::of(vec![status]));
        assert!(
            json.contains(&format!("\"durationUntilReset\":\"{text}\"")),
            "{json}"
        );
    }
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(request) = RateLimitRequest::decode(&*bytes) {
            let _ = ask(&Judge::default(), &request);
        }
        let _ = json::request(&bytes);
    }

    #[test]
    fn changed_bytes_of_a_request_do_not_panic(at in 0..REQUEST.len() / 2, byte: u8, end in 0..REQUEST.len() / 2) {
        let mut message = unhex(REQUEST);
        message[at] = byte;
        message.truncate(end);
        let _ = RateLimitRequest::decode(&*message).map(|request| ask(&Judge::default(), &request));
    }
}
