//! Why a request was refused, as a document of RFC 9457.

use std::borrow::Cow;

use axum::body::Body;
use axum::http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use serde::Serialize;

use crate::engine::Refusal;

/// The content type of problems.
pub(super) const PROBLEM_TYPE: HeaderValue = HeaderValue::from_static("application/problem+json");
/// The type of a verdict that is over, which is registered for all of HTTP.
pub(super) const QUOTA_EXCEEDED: &str =
    "https://iana.org/assignments/http-problem-types#quota-exceeded";
/// The title of that type.
pub(super) const QUOTA_TITLE: &str =
    "Request cannot be satisfied as assigned quota has been exceeded";
/// What the other types begin with. They stay the same for ever.
const TYPE_START: &str = "urn:rmbd:problem:";
/// After how long whoever was refused for a moment asks again. A pass over the cells takes less.
const AGAIN_S: u64 = 1;

/// Lists kinds of problems: the end of the type, the status and the title of each.
macro_rules! kinds {
    ($($kind:ident, $name:literal, $status:ident, $title:literal;)*) => {
        /// A kind of problem.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(super) enum Kind {
            $($kind,)*
        }

        impl Kind {
            #[cfg(test)]
            pub(super) const ALL: &[Self] = &[$(Self::$kind,)*];

            /// The end of its type.
            pub(super) fn name(self) -> &'static str {
                match self {
                    $(Self::$kind => $name,)*
                }
            }

            pub(super) fn status(self) -> StatusCode {
                match self {
                    $(Self::$kind => StatusCode::$status,)*
                }
            }

            fn title(self) -> &'static str {
                match self {
                    $(Self::$kind => $title,)*
                }
            }
        }
    };
}

kinds! {
    Host, "host", MISDIRECTED_REQUEST, "The host is no name of this node";
    BadHost, "bad-host", BAD_REQUEST, "The Host header is missing or means nothing";
    NotFound, "not-found", NOT_FOUND, "There is nothing at this path";
    Method, "method", METHOD_NOT_ALLOWED, "The path does not have this method";
    NotAllowed, "not-allowed", FORBIDDEN, "The address is on no list of this node";
    Page, "page", FORBIDDEN, "Pages of browsers are not answered";
    NoToken, "no-token", UNAUTHORIZED, "A token is wanted";
    WrongToken, "wrong-token", UNAUTHORIZED, "The token is not one of this node";
    NotTrusted, "not-trusted", FORBIDDEN, "The node has no tokens, and takes this from trusted addresses only";
    MediaType, "media-type", UNSUPPORTED_MEDIA_TYPE, "The body is no application/json";
    TooLarge, "too-large", PAYLOAD_TOO_LARGE, "The body is too large";
    TooSlow, "too-slow", REQUEST_TIMEOUT, "The body did not come in time";
    Broken, "broken", BAD_REQUEST, "The body has not come to its end";
    Malformed, "malformed", BAD_REQUEST, "The request is not understood";
    KeyTooLong, "key-too-long", BAD_REQUEST, "A key is too long";
    WeightTooLarge, "weight-too-large", BAD_REQUEST, "A weight is too large";
    TooHeavy, "too-heavy", BAD_REQUEST, "All weights of the request together are too large";
    UnknownSketch, "unknown-sketch", NOT_FOUND, "There is no such sketch";
    UnknownWindow, "unknown-window", NOT_FOUND, "The sketch keeps no such window";
    UnknownLimit, "unknown-limit", NOT_FOUND, "There is no limit of this name";
    NoTop, "no-top", NOT_FOUND, "The sketch lists no keys";
    Busy, "busy", SERVICE_UNAVAILABLE, "The node takes no more at the moment";
    Ending, "ending", SERVICE_UNAVAILABLE, "The node ends";
}

/// A problem, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) kind: Kind,
    pub(super) detail: Cow<'static, str>,
    /// The methods that the path has, where that is the problem.
    allow: Option<&'static str>,
}

impl Problem {
    pub(super) fn new(kind: Kind, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            kind,
            detail: detail.into(),
            allow: None,
        }
    }

    pub(super) fn method(allow: &'static str) -> Self {
        Self {
            allow: Some(allow),
            ..Self::new(Kind::Method, format!("this path has {allow} only"))
        }
    }

    /// The problem of one item of several.
    pub(super) fn of_item(self, at: usize) -> Self {
        let detail = format!("items[{at}]: {}", self.detail);
        Self {
            detail: detail.into(),
            ..self
        }
    }

    pub(super) fn response(&self) -> Response {
        let status = self.kind.status();
        let document = Document {
            kind: format!("{TYPE_START}{}", self.kind.name()),
            title: self.kind.title(),
            status: status.as_u16(),
            detail: &self.detail,
        };
        let mut response = Response::new(Body::from(json(&document)));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, PROBLEM_TYPE);
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(RETRY_AFTER, HeaderValue::from(AGAIN_S));
        }
        if let Some(allow) = self.allow {
            headers.insert(ALLOW, HeaderValue::from_static(allow));
        }
        let challenge = match self.kind {
            Kind::NoToken => Some(r#"Bearer realm="rmbd""#),
            Kind::WrongToken => Some(r#"Bearer realm="rmbd", error="invalid_token""#),
            _ => None,
        };
        if let Some(challenge) = challenge {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        response
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let (kind, advice) = match refusal {
            Refusal::UnknownSketch => (Kind::UnknownSketch, "/status names those that there are"),
            Refusal::UnknownWindow => (Kind::UnknownWindow, "/status names those that there are"),
            Refusal::UnknownLimit => (Kind::UnknownLimit, "/status names those that there are"),
            Refusal::NoTopList => (Kind::NoTop, "start the node with --top 100"),
            Refusal::WeightTooLarge => (Kind::WeightTooLarge, "see --max-weight of the node"),
            Refusal::TooHeavy => (Kind::TooHeavy, "send several requests"),
            _ => (Kind::Busy, "ask again"),
        };
        Self::new(kind, format!("{refusal}: {advice}"))
    }
}

#[derive(Serialize)]
struct Document<'d> {
    #[serde(rename = "type")]
    kind: String,
    title: &'d str,
    status: u16,
    detail: &'d str,
}

/// The text of a document, none of which can fail: their keys are texts.
pub(super) fn json(document: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(document).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn kinds_are_told_apart_by_their_types() {
        let names: BTreeSet<_> = Kind::ALL.iter().map(|kind| kind.name()).collect();
        assert_eq!(names.len(), Kind::ALL.len());
        for kind in Kind::ALL {
            let is_failure = kind.status().is_client_error() || kind.status().is_server_error();
            assert!(is_failure && !kind.title().is_empty(), "{kind:?}");
        }
    }
}
