//! Answers as JSON, and the headers of verdicts.

use std::borrow::Cow;
use std::time::Duration;

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, HeaderName, RETRY_AFTER};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::Response;
use serde::Serialize;

use super::problem::{PROBLEM_TYPE, QUOTA_EXCEEDED, QUOTA_TITLE, json};
use super::question::{Operation, Question, SaidLimit, SaidLimits};
use super::request::ApiKey;
use crate::config::span_text;
use crate::engine::Answer;
use rmbd_store::Estimate;

/// <https://datatracker.ietf.org/doc/draft-ietf-httpapi-ratelimit-headers/10/>
const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
/// As above.
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
/// The largest integer of a structured field (RFC 9651, 3.3.1).
const FIELD_INTEGER_MAX: u64 = 999_999_999_999_999;
/// Bytes that most header fields about one limit have room in.
const FIELD_BYTES: usize = 64;
const JSON_TYPE: HeaderValue = HeaderValue::from_static("application/json");

/// The answer to a request with one item, or to one with several.
pub(super) fn response(
    operation: Operation,
    questions: &[Question<'_>],
    answers: &[Option<Answer>],
    has_items: bool,
) -> Response {
    match operation {
        Operation::Add => {
            let weights = questions.iter().map(|question| match question {
                Question::Add { weighs, .. } => *weighs,
                _ => 0,
            });
            ok(&Added {
                keys: questions.len(),
                weight: weights.sum(),
            })
        }
        Operation::Count => {
            let mut counts = questions.iter().zip(answers).filter_map(Counted::of);
            match has_items {
                false => ok(&counts.next()),
                true => ok(&Several {
                    items: counts.collect::<Vec<_>>(),
                }),
            }
        }
        Operation::Hit | Operation::Take => {
            let mut verdicts = questions.iter().zip(answers).filter_map(Verdict::of);
            if !has_items {
                return verdicts
                    .next()
                    .map_or_else(|| ok(&()), |one| one.response());
            }
            let items: Vec<_> = verdicts.collect();
            ok(&SeveralVerdicts {
                allowed: items.iter().all(|it| it.document.allowed),
                items: items.into_iter().map(|it| it.document).collect(),
            })
        }
    }
}

/// What was added.
#[derive(Serialize)]
struct Added {
    keys: usize,
    weight: u64,
}

/// A count of one key.
#[derive(Serialize)]
struct Counted<'q> {
    key: ApiKey<'q>,
    estimate: u64,
    /// Of a window: milliseconds that the estimate covers.
    #[serde(skip_serializing_if = "Option::is_none")]
    covered_ms: Option<u32>,
    incomplete: bool,
    overflowed: bool,
}

#[derive(Serialize)]
struct Several<T> {
    items: Vec<T>,
}

#[derive(Serialize)]
struct SeveralVerdicts<'q> {
    allowed: bool,
    items: Vec<VerdictDocument<'q>>,
}

/// The verdict on one item.
pub(super) struct Verdict<'q> {
    document: VerdictDocument<'q>,
    /// How long to wait; `None` where that does not help.
    wait: Option<Duration>,
    said: &'q SaidLimits<'q>,
    name: Option<&'q str>,
}

#[derive(Serialize)]
struct VerdictDocument<'q> {
    /// The key of the limit that decided.
    key: ApiKey<'q>,
    allowed: bool,
    estimate: u64,
    /// `None` where there is no limit for the key.
    remaining: Option<u64>,
    /// 0 where it is allowed; `None` where no wait helps.
    retry_after_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    decided_by: Option<Decisive>,
    /// Of a window: milliseconds that the estimate covers.
    #[serde(skip_serializing_if = "Option::is_none")]
    covered_ms: Option<u32>,
    incomplete: bool,
    overflowed: bool,
    unsure: bool,
    shadow: bool,
}

/// The limit that decided.
#[derive(Serialize)]
struct Decisive {
    policy: String,
    limit: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    window_ms: Option<u64>,
}

/// A verdict that is over.
#[derive(Serialize)]
struct QuotaExceeded<'d, 'q> {
    #[serde(rename = "type")]
    kind: &'static str,
    title: &'static str,
    status: u16,
    detail: String,
    #[serde(rename = "violated-policies")]
    violated_policies: [&'d str; 1],
    #[serde(flatten)]
    verdict: &'d VerdictDocument<'q>,
}

impl<'q> Counted<'q> {
    fn of((question, answer): (&Question<'q>, &Option<Answer>)) -> Option<Self> {
        let (Question::Count { key, window }, Some(answer)) = (question, answer) else {
            return None;
        };
        let Estimate {
            count,
            incomplete,
            overflowed,
            covered_ms,
            ..
        } = answer.estimate();
        Some(Self {
            key: ApiKey(Cow::Borrowed(key)),
            estimate: count,
            covered_ms: window.is_some().then_some(covered_ms),
            incomplete,
            overflowed,
        })
    }
}

impl<'q> Verdict<'q> {
    pub(super) fn of((question, answer): (&'q Question<'q>, &Option<Answer>)) -> Option<Self> {
        let (Answer::Limits(told) | Answer::NamedLimit(told)) = answer.as_ref()? else {
            return None;
        };
        let (said, name, key) = match question {
            Question::Keep(keep) => (&keep.said, None, &[][..]),
            Question::ByName(by) => (&by.said, Some(by.name), by.key),
            _ => return None,
        };
        let decisive = said.get(told.part.into());
        let key = decisive.map_or(key, |limit| limit.key);
        let allowed = !told.is_over || told.is_shadow;
        let document = VerdictDocument {
            key: ApiKey(Cow::Borrowed(key)),
            allowed,
            estimate: told.estimate,
            remaining: decisive.map(|_| told.remaining),
            retry_after_ms: match allowed {
                true => Some(0),
                false => told.retry_after.map(ms_rounded_up),
            },
            decided_by: decisive.map(|limit| Decisive {
                policy: policy(said, name, told.part.into(), limit),
                limit: limit.limit,
                window_ms: (limit.window_ms > 0).then_some(limit.window_ms),
            }),
            covered_ms: (told.covered_ms > 0).then_some(told.covered_ms),
            incomplete: told.incomplete,
            overflowed: told.overflowed,
            unsure: told.unsure,
            shadow: told.is_shadow,
        };
        Some(Self {
            document,
            wait: told.retry_after,
            said,
            name,
        })
    }

    pub(super) fn is_allowed(&self) -> bool {
        self.document.allowed
    }

    /// 200, or 429 and what to do.
    fn response(&self) -> Response {
        let mut response = match self.document.allowed {
            true => ok(&self.document),
            false => self.over(StatusCode::TOO_MANY_REQUESTS),
        };
        self.write_headers(response.headers_mut());
        response
    }

    /// The answer to whoever asks for a verdict only, which is over with this status.
    pub(super) fn bare_response(&self, over: StatusCode) -> Response {
        let mut response = match self.document.allowed {
            true => {
                let mut response = Response::new(Body::empty());
                *response.status_mut() = StatusCode::NO_CONTENT;
                response
            }
            false => self.over(over),
        };
        self.write_headers(response.headers_mut());
        response
    }

    fn over(&self, status: StatusCode) -> Response {
        let policy = self.document.decided_by.as_ref();
        let policy = policy.map_or("", |decisive| &decisive.policy);
        let advice = match self.wait {
            Some(wait) => format!(
                "it is within it in {} s, if nobody else adds",
                seconds(wait)
            ),
            None => "no wait helps, since the limit is for all time or below the weight".to_owned(),
        };
        let document = QuotaExceeded {
            kind: QUOTA_EXCEEDED,
            title: QUOTA_TITLE,
            status: status.as_u16(),
            detail: format!("over the limit {policy}: {advice}"),
            violated_policies: [policy],
            verdict: &self.document,
        };
        let mut response = Response::new(Body::from(json(&document)));
        *response.status_mut() = status;
        response.headers_mut().insert(CONTENT_TYPE, PROBLEM_TYPE);
        response
    }

    /// The fields of the draft, and when to come again.
    fn write_headers(&self, headers: &mut HeaderMap) {
        let Some(decisive) = &self.document.decided_by else {
            return;
        };
        let mut policies = String::with_capacity(FIELD_BYTES);
        let is_alone = self.said.iter().len() == 1;
        for (at, limit) in self.said.iter().enumerate() {
            if at > 0 {
                policies.push_str(", ");
            }
            match is_alone {
                true => quote(&decisive.policy, &mut policies),
                false => quote(&policy(self.said, self.name, at, limit), &mut policies),
            }
            parameter(";q=", limit.limit, &mut policies);
            if limit.window_ms > 0 {
                parameter(";w=", limit.window_ms.div_ceil(1_000), &mut policies);
            }
        }
        let mut limit = String::with_capacity(FIELD_BYTES);
        quote(&decisive.policy, &mut limit);
        let remaining = self.document.remaining.unwrap_or_default();
        parameter(";r=", remaining, &mut limit);
        if let (false, Some(wait)) = (self.document.allowed, self.wait) {
            let wait_s = seconds(wait);
            parameter(";t=", wait_s, &mut limit);
            headers.insert(RETRY_AFTER, HeaderValue::from(wait_s));
        }
        for (name, text) in [(RATE_LIMIT_POLICY, policies), (RATE_LIMIT, limit)] {
            if let Ok(value) = HeaderValue::try_from(text) {
                headers.insert(name, value);
            }
        }
    }
}

/// An answer of this document.
pub(super) fn ok(document: &impl Serialize) -> Response {
    let mut response = Response::new(Body::from(json(document)));
    response.headers_mut().insert(CONTENT_TYPE, JSON_TYPE);
    response
}

/// What a limit is called: by its name or by what it says, and by its place where there are others.
fn policy(said: &SaidLimits<'_>, name: Option<&str>, at: usize, limit: &SaidLimit<'_>) -> String {
    let has_others = said.iter().len() > 1;
    let mut text = match (name, has_others) {
        (Some(name), false) => return name.to_owned(),
        (Some(name), true) => format!("{name}:"),
        (None, false) => String::new(),
        (None, true) => format!("{at}:"),
    };
    text.push_str(itoa::Buffer::new().format(limit.limit));
    if limit.window_ms > 0 {
        text.push('/');
        text.push_str(&span_text(limit.window_ms));
    }
    text
}

/// Writes a name of a limit as a string of structured fields. Names have no character that would end it.
fn quote(name: &str, field: &mut String) {
    field.push('"');
    field.push_str(name);
    field.push('"');
}

/// Writes a parameter of structured fields, with the largest integer that they have for what is larger.
fn parameter(key: &str, value: u64, field: &mut String) {
    field.push_str(key);
    field.push_str(itoa::Buffer::new().format(value.min(FIELD_INTEGER_MAX)));
}

fn ms_rounded_up(wait: Duration) -> u64 {
    u64::try_from(wait.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

/// At least one, since whoever is told 0 comes again at once.
fn seconds(wait: Duration) -> u64 {
    ms_rounded_up(wait)
        .div_ceil(1_000)
        .clamp(1, FIELD_INTEGER_MAX)
}
