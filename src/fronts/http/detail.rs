//! `/detail`: a key's count by origin, and in a window.

use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Json, Response};
use thiserror::Error;

use super::Source;
use super::query::{ParameterError, parameters};
use crate::config::{SpanError, parse_span};
use crate::status::DetailQuestion;
use rmbd_proto::SketchNameError;
use rmbd_proto::compact::KEY_BYTES_MAX;

pub(super) async fn detail(State(source): Source, uri: Uri) -> Response {
    let question = match question(uri.query().unwrap_or_default()) {
        Ok(question) => question,
        Err(why) => return (StatusCode::BAD_REQUEST, format!("{why}\n")).into_response(),
    };
    match source.detail(&question) {
        Ok(detail) => Json(detail).into_response(),
        Err(why) => (StatusCode::NOT_FOUND, format!("{why}\n")).into_response(),
    }
}

/// Why a query is no question.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
enum QueryError {
    #[error("ask for /detail?key= and the key, percent-encoded")]
    NoKey,
    #[error("possible are key, window and sketch, each once with =; an ampersand in a key is %26")]
    Parameter,
    #[error("{0} is given twice: one key, window and sketch a question")]
    Twice(&'static str),
    #[error("a % stands before two hexadecimal digits")]
    Encoding,
    #[error("the key is longer than {KEY_BYTES_MAX} bytes")]
    KeyTooLong,
    #[error("a window and a sketch's name are UTF-8")]
    NoText,
    #[error("window: {0}")]
    Span(#[from] SpanError),
    #[error("{0}")]
    SketchName(#[from] SketchNameError),
}

/// Parses a query of `key=` and, in any order, `window=` and `sketch=`.
fn question(query: &str) -> Result<DetailQuestion, QueryError> {
    let [key, window, sketch] = parameters(query, ["key", "window", "sketch"])?;
    let key = key.ok_or(QueryError::NoKey)?;
    if key.len() > KEY_BYTES_MAX {
        return Err(QueryError::KeyTooLong);
    }
    let text = |value| String::from_utf8(value).map_err(|_| QueryError::NoText);
    let (window, sketch) = (window.map(text).transpose()?, sketch.map(text).transpose()?);
    Ok(DetailQuestion {
        key,
        window_ms: window.map(|it| parse_span(&it)).transpose()?,
        sketch: sketch.map(|it| it.parse()).transpose()?,
    })
}

impl From<ParameterError> for QueryError {
    fn from(error: ParameterError) -> Self {
        match error {
            ParameterError::Unknown => Self::Parameter,
            ParameterError::Twice(name) => Self::Twice(name),
            ParameterError::Encoding => Self::Encoding,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_any_bytes() {
        let longest = "%61".repeat(KEY_BYTES_MAX);
        for (query, expected) in [
            ("key=", &b""[..]),
            ("key=abc", b"abc"),
            ("key=a+b%2Bc%20d", b"a+b+c d"),
            ("key=%00%ff%FF%26%3d=", b"\0\xff\xff&=="),
            (&format!("key={longest}"), &[b'a'; KEY_BYTES_MAX]),
        ] {
            let expected = DetailQuestion {
                key: expected.to_vec(),
                sketch: None,
                window_ms: None,
            };
            assert_eq!(question(query), Ok(expected), "{query}");
        }
    }

    #[test]
    fn a_window_and_a_sketch_may_stand_anywhere() {
        let expected = DetailQuestion {
            key: b"a".to_vec(),
            sketch: Some("logins.2".parse().unwrap()),
            window_ms: Some(90_000),
        };
        for query in [
            "key=a&window=90s&sketch=logins.2",
            "sketch=logins%2e2&window=1m30s&key=a",
            "window=1m%2030s&key=%61&sketch=logins.2",
        ] {
            assert_eq!(question(query), Ok(expected.clone()), "{query}");
        }
    }

    #[test]
    fn what_is_no_question_is_said() {
        let too_long = format!("key={}", "a".repeat(KEY_BYTES_MAX + 1));
        for (query, words) in [
            ("", "key="),
            ("window=60s", "key="),
            ("name=a", "key, window and sketch"),
            ("key=a&b", "an ampersand in a key is %26"),
            ("key=a&", "an ampersand in a key is %26"),
            ("key=a&key=b", "one key"),
            ("key=a&window=1s&window=1s", "window is given twice"),
            ("key=a&sketch=b&sketch=b", "sketch is given twice"),
            ("key=%", "two hexadecimal digits"),
            ("key=%1", "two hexadecimal digits"),
            ("key=%1g", "two hexadecimal digits"),
            ("key=%+1", "two hexadecimal digits"),
            ("key=a&window=%1g", "two hexadecimal digits"),
            ("key=a&window=", "such as 60s"),
            ("key=a&window", "such as 60s"),
            ("key=a&window=60", "such as 60s"),
            ("key=a&window=-1s", "such as 60s"),
            ("key=a&window=%ff", "UTF-8"),
            ("key=a&sketch=", "1 to 64 characters"),
            ("key=a&sketch=Logins", "no 'L'"),
            ("key=a&sketch=%ff", "UTF-8"),
            (&too_long, "1024"),
        ] {
            let error = question(query).unwrap_err().to_string();
            assert!(error.contains(words), "{query}: {error}");
        }
    }
}
