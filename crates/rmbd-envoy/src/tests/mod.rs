//! Tests of messages in both forms, of bounds, and of a server with a client.

#![allow(clippy::unwrap_used)]

mod forms;
mod server;

use std::collections::HashMap;
use std::sync::Mutex;

use crate::*;

/// Whoever decides in tests: a descriptor whose first value is `over` is over.
#[derive(Default)]
struct Judge {
    is_full: bool,
    events: Mutex<HashMap<Event, usize>>,
}

impl Judge {
    fn events(&self, event: Event) -> usize {
        self.events
            .lock()
            .unwrap()
            .get(&event)
            .copied()
            .unwrap_or_default()
    }
}

impl Decide for Judge {
    fn decide(&self, request: &RateLimitRequest) -> Result<RateLimitResponse, Undecided> {
        match request.domain.as_str() {
            "panics" => panic!("as it should"),
            "fails" => return Err(Undecided::Unavailable("not now".to_owned())),
            _ => {}
        }
        let code = |descriptor: &RateLimitDescriptor| {
            let first = descriptor.entries.first();
            match first.is_some_and(|entry| entry.value == "over") {
                true => Code::OverLimit,
                false => Code::Ok,
            }
        };
        let statuses = request.descriptors.iter().map(code);
        Ok(RateLimitResponse::of(
            statuses.map(DescriptorStatus::of).collect(),
        ))
    }

    fn is_ready(&self) -> bool {
        !self.is_full
    }

    fn note(&self, event: Event) {
        *self.events.lock().unwrap().entry(event).or_default() += 1;
    }
}

fn entry(key: &str, value: &str) -> Entry {
    Entry {
        key: key.to_owned(),
        value: value.to_owned(),
    }
}

fn descriptor(value: &str) -> RateLimitDescriptor {
    RateLimitDescriptor {
        entries: vec![entry("user", value)],
        ..RateLimitDescriptor::default()
    }
}

fn request(descriptors: Vec<RateLimitDescriptor>) -> RateLimitRequest {
    RateLimitRequest {
        domain: "edge".to_owned(),
        descriptors,
        hits_addend: 0,
    }
}

#[test]
fn a_request_is_answered_or_refused_in_words() {
    let judge = Judge::default();
    let answer = ask(
        &judge,
        &request(vec![descriptor("a"), descriptor("over"), descriptor("b")]),
    );
    let answer = answer.unwrap();
    assert!(answer.is_over());
    let codes: Vec<_> = answer.statuses.iter().map(DescriptorStatus::code).collect();
    assert_eq!(codes, [Code::Ok, Code::OverLimit, Code::Ok]);
    let negative = RateLimitDescriptor {
        is_negative_hits: true,
        ..descriptor("a")
    };
    let long = "x".repeat(bounds::PART_BYTES_MAX + 1);
    let several = vec![descriptor("a"); bounds::DESCRIPTORS_MAX];
    assert!(ask(&judge, &request(several.clone())).is_ok());
    let wide = RateLimitDescriptor {
        entries: vec![entry("a", "b"); bounds::ENTRIES_MAX],
        ..RateLimitDescriptor::default()
    };
    let no_domain = RateLimitRequest {
        domain: String::new(),
        ..request(vec![descriptor("a")])
    };
    let long_domain = RateLimitRequest {
        domain: long.clone(),
        ..request(vec![descriptor("a")])
    };
    let refused = [
        (no_domain, "rate limit domain must not be empty"),
        (
            request(Vec::new()),
            "rate limit descriptor list must not be empty",
        ),
        (
            request(vec![descriptor("a"); 10_000]),
            "10000 descriptors are above the limit of 1000",
        ),
        (
            request(vec![wide, descriptor("a")]),
            "8001 entries of descriptors are above",
        ),
        (request(vec![negative]), "is_negative_hits is not possible"),
        (long_domain, "the domain has 1025 bytes"),
        (
            request(vec![descriptor(&long)]),
            "the value of an entry has 1025",
        ),
    ];
    for (at, (request, words)) in refused.into_iter().enumerate() {
        let why = ask(&judge, &request).unwrap_err().to_string();
        assert!(why.contains(words), "{why}");
        assert_eq!(judge.events(Event::Refused), at + 1);
    }
}
