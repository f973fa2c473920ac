//! What a request asks for, as JSON: one item, or several in `items`.
//!
//! What stands in an inner object holds there, what stands around it for each object in it that says nothing else.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::ser::{SerializeMap, Serializer};
use serde::{Deserialize, Serialize};

use crate::config::parse_span;

/// The largest number of items in one request: one of them takes some microseconds, and others wait meanwhile.
pub(super) const ITEMS_MAX: usize = 1_000;
/// The largest number of limits that are kept together.
pub(super) const LIMITS_MAX: usize = crate::engine::limits::AMOUNTS_MAX;

/// A whole request.
pub(super) type Request<'r> = Asked<'r, AtMost<Item<'r>, ITEMS_MAX>, Limits<'r>>;
/// One of its items.
pub(super) type Item<'r> = Asked<'r, Never, Limits<'r>>;
/// The limits of an item, which are kept together.
pub(super) type Limits<'r> = AtMost<OneLimit<'r>, LIMITS_MAX>;
/// One limit of several.
pub(super) type OneLimit<'r> = Asked<'r, Never, Never>;

/// What may be said about a key. All of it may be left out.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked<'r, Items, Limits> {
    #[serde(borrow)]
    pub(super) key: Option<ApiKey<'r>>,
    pub(super) weight: Option<u64>,
    pub(super) window: Option<Span>,
    pub(super) reading: Option<HowToRead>,
    pub(super) limit: Option<u64>,
    pub(super) sketch: Option<Cow<'r, str>>,
    pub(super) limit_name: Option<Cow<'r, str>>,
    pub(super) limits: Option<Limits>,
    pub(super) items: Option<Items>,
}

/// A key: a text, or `{"base64": "..."}` for any bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ApiKey<'k>(pub(super) Cow<'k, [u8]>);

/// Milliseconds of a window: a text such as `60s`, or a number of milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span(pub(super) u64);

/// How a window is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum HowToRead {
    /// Never too low.
    Bound,
    /// The oldest step by the part of it that is in the window.
    Smooth,
}

/// A list of at most so many.
#[derive(Debug)]
pub(super) struct AtMost<T, const N: usize>(pub(super) Vec<T>);

/// What does not stand where it was found.
#[derive(Debug)]
pub(super) enum Never {}

impl<'de: 'k, 'k> Deserialize<'de> for ApiKey<'k> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Keys;

        impl<'de> Visitor<'de> for Keys {
            type Value = ApiKey<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(r#"a key: a text, or {"base64": "..."}"#)
            }

            fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<ApiKey<'de>, E> {
                Ok(ApiKey(Cow::Borrowed(text.as_bytes())))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<ApiKey<'de>, E> {
                Ok(ApiKey(Cow::Owned(text.as_bytes().to_vec())))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<ApiKey<'de>, A::Error> {
                let wrong = || A::Error::custom("a key that is no text is {\"base64\": \"...\"}");
                let Some("base64") = map.next_key::<Cow<'_, str>>()?.as_deref() else {
                    return Err(wrong());
                };
                let text: Cow<'_, str> = map.next_value()?;
                if map.next_key::<IgnoredAny>()?.is_some() {
                    return Err(wrong());
                }
                let bytes = STANDARD.decode(&*text);
                let bytes = bytes.map_err(|error| A::Error::custom(format!("base64: {error}")))?;
                Ok(ApiKey(Cow::Owned(bytes)))
            }
        }

        deserializer.deserialize_any(Keys)
    }
}

impl Serialize for ApiKey<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match std::str::from_utf8(&self.0) {
            Ok(text) => serializer.serialize_str(text),
            Err(_) => {
                let mut map = serializer.serialize_map(Some(1))?;
                map.serialize_entry("base64", &STANDARD.encode(&self.0))?;
                map.end()
            }
        }
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Spans;

        impl Visitor<'_> for Spans {
            type Value = Span;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a window: a text such as \"60s\", or milliseconds from 1 on")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Span, E> {
                let span_ms = parse_span(text).map_err(E::custom)?;
                self.visit_u64(span_ms)
            }

            fn visit_u64<E: Error>(self, span_ms: u64) -> Result<Span, E> {
                match span_ms {
                    0 => Err(E::custom(
                        "a window of 0 is no window: leave it out for all time",
                    )),
                    span_ms => Ok(Span(span_ms)),
                }
            }
        }

        deserializer.deserialize_any(Spans)
    }
}

impl<'de, T: Deserialize<'de>, const N: usize> Deserialize<'de> for AtMost<T, N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Lists<T, const N: usize>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>, const N: usize> Visitor<'de> for Lists<T, N> {
            type Value = AtMost<T, N>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a list of 1 to {N}")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<AtMost<T, N>, A::Error> {
                let mut all = Vec::new();
                while let Some(one) = list.next_element()? {
                    if all.len() == N {
                        return Err(A::Error::custom(format!("a list of more than {N}")));
                    }
                    all.push(one);
                }
                if all.is_empty() {
                    return Err(A::Error::custom("a list of none"));
                }
                Ok(AtMost(all))
            }
        }

        deserializer.deserialize_seq(Lists(PhantomData))
    }
}

impl<'de> Deserialize<'de> for Never {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Err(D::Error::custom(
            "items stand in the outermost object only, and limits not in limits",
        ))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Result<Request<'_>, String> {
        serde_json::from_str(text).map_err(|error| error.to_string())
    }

    #[test]
    fn keys_are_texts_or_bytes() {
        for (text, bytes) in [
            (r#""a""#, &b"a"[..]),
            (r#""""#, b""),
            (r#""a\u0000\n""#, b"a\0\n"),
            (r#""pérou""#, "pérou".as_bytes()),
            (r#"{"base64":"//4="}"#, b"\xff\xfe"),
            (r#"{"base64":""}"#, b""),
            (r#"{"base64":"YQ=="}"#, b"a"),
        ] {
            let text = format!(r#"{{"key":{text}}}"#);
            let request = read(&text).unwrap();
            assert_eq!(&*request.key.unwrap().0, bytes, "{text}");
        }
    }

    #[test]
    fn windows_are_spans_or_milliseconds() {
        for (text, span_ms) in [
            (r#""60s""#, 60_000),
            ("60000", 60_000),
            (r#""1m 30s""#, 90_000),
        ] {
            let text = format!(r#"{{"window":{text}}}"#);
            assert_eq!(read(&text).unwrap().window, Some(Span(span_ms)), "{text}");
        }
    }

    #[test]
    fn what_is_not_understood_is_said() {
        let nested = |text: &str| format!("{}{}", text.repeat(10_000), "]".repeat(10_000));
        let many = format!(r#"{{"items":[{}]}}"#, vec!["{}"; 1_001].join(","));
        let limits = format!(r#"{{"limits":[{}]}}"#, ["{}"; 9].join(","));
        for (text, words) in [
            ("", "EOF"),
            ("{", "EOF"),
            ("[]", "expected"),
            ("null", "expected"),
            (r#"{"key":"a"} x"#, "trailing"),
            (r#"{"key":1}"#, "a key: a text"),
            (r#"{"key":["a"]}"#, "a key: a text"),
            (r#"{"key":{"base64":"_w=="}}"#, "base64"),
            (r#"{"key":{"base64":"YQ"}}"#, "base64"),
            (r#"{"key":{"hex":"00"}}"#, "{\"base64\""),
            (r#"{"key":{"base64":"","x":1}}"#, "{\"base64\""),
            (r#"{"key":{}}"#, "{\"base64\""),
            (r#"{"key":"\ud800"}"#, "hex escape"),
            (r#"{"keys":["a"]}"#, "unknown field `keys`"),
            (r#"{"key":"a","key":"b"}"#, "duplicate field `key`"),
            (r#"{"weight":-1}"#, "u64"),
            (r#"{"weight":1.5}"#, "u64"),
            (r#"{"weight":"1"}"#, "u64"),
            (r#"{"weight":18446744073709551616}"#, "u64"),
            (r#"{"window":"60"}"#, "such as 60s"),
            (r#"{"window":0}"#, "leave it out"),
            (r#"{"window":"0s"}"#, "leave it out"),
            (r#"{"window":-1}"#, "a window"),
            (r#"{"reading":"rough"}"#, "`bound` or `smooth`"),
            (r#"{"items":[]}"#, "a list of none"),
            (r#"{"items":{}}"#, "a list of 1 to 1000"),
            (r#"{"items":[{"items":[]}]}"#, "outermost"),
            (r#"{"limits":[{"limits":[]}]}"#, "not in limits"),
            (&many, "more than 1000"),
            (&limits, "more than 8"),
            (&nested("["), "expected"),
            (&nested(r#"{"key":["#), "a key: a text"),
            (&nested(r#"{"key":{"base64":["#), "string"),
            (&nested(r#"{"items":["#), "outermost"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(words), "{text:.60}: {error}");
        }
    }

    proptest! {
        #[test]
        fn answers_name_keys_as_requests_do(key: Vec<u8>) {
            let told = serde_json::to_string(&ApiKey(Cow::Borrowed(&key))).unwrap();
            let text = format!(r#"{{"key":{told}}}"#);
            prop_assert_eq!(&*read(&text).unwrap().key.unwrap().0, &key);
        }

        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            let _: Result<Request<'_>, _> = serde_json::from_slice(&bytes);
        }
    }
}
