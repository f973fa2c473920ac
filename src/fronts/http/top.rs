//! `/top`: the largest keys of a sketch, of all time or in a window.

use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Json, Response};
use thiserror::Error;

use super::Source;
use super::connections::Asker;
use super::orders::is_by_proxy;
use super::query::{ParameterError, parameters};
use crate::config::{SpanError, TOP_MAX, parse_span};
use crate::status::TopQuestion;
use rmbd_proto::SketchNameError;

pub(super) async fn top(
    State(source): Source,
    Extension(Asker(asker)): Extension<Asker>,
    headers: HeaderMap,
    uri: Uri,
) -> Response {
    let question = match question(uri.query().unwrap_or_default()) {
        Ok(question) => question,
        Err(why) => return (StatusCode::BAD_REQUEST, format!("{why}\n")).into_response(),
    };
    let by_proxy = is_by_proxy(&headers);
    let shows_keys = asker.is_some_and(|ip| source.may_see_keys(ip, by_proxy));
    match source.top(&question, shows_keys) {
        Ok(document) => Json(document).into_response(),
        Err(why) => (StatusCode::NOT_FOUND, format!("{why}\n")).into_response(),
    }
}

/// Why a query is no question.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(super) enum QueryError {
    #[error("possible are sketch, window, k and detail, each once with =")]
    Unknown,
    #[error(transparent)]
    Parameter(ParameterError),
    #[error("a window, a sketch's name and numbers are UTF-8")]
    NoText,
    #[error("window: {0}")]
    Span(#[from] SpanError),
    #[error("{0}")]
    SketchName(#[from] SketchNameError),
    #[error("k={0:?} is not a number of keys: ask for k=1 to k={TOP_MAX}, or leave it out for all")]
    Number(String),
    #[error("detail is 1 or 0")]
    Detail,
    #[error("the path names the sketch: leave out sketch")]
    SketchTwice,
}

/// Parses a query of, in any order, `sketch=`, `window=`, `k=` and `detail=`.
fn question(query: &str) -> Result<TopQuestion, QueryError> {
    let values = parameters(query, ["sketch", "window", "k", "detail"]);
    let values = values.map_err(|error| match error {
        ParameterError::Unknown => QueryError::Unknown,
        other => QueryError::Parameter(other),
    })?;
    let [sketch, window, most, detail] = values;
    let text = |value: Option<Vec<u8>>| {
        let text = value.map(String::from_utf8).transpose();
        text.map_err(|_| QueryError::NoText)
    };
    let window = text(window)?.map(|it| parse_span(&it)).transpose()?;
    Ok(TopQuestion {
        sketch: text(sketch)?.map(|it| it.parse()).transpose()?,
        window_ms: window,
        most: text(most)?.map(number).transpose()?,
        detail: match text(detail)?.as_deref() {
            None | Some("0") => false,
            Some("1") => true,
            Some(_) => return Err(QueryError::Detail),
        },
    })
}

/// Parses a query about a sketch that is named elsewhere.
pub(super) fn list_question(query: &str) -> Result<TopQuestion, QueryError> {
    let question = question(query)?;
    match question.sketch {
        None => Ok(question),
        Some(_) => Err(QueryError::SketchTwice),
    }
}

fn number(text: String) -> Result<usize, QueryError> {
    let number = text.parse().ok();
    let number = number.filter(|number| (1..=TOP_MAX).contains(number));
    number.ok_or(QueryError::Number(text))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn all_parameters_may_be_left_out() {
        assert_eq!(question(""), Ok(TopQuestion::default()));
        let expected = TopQuestion {
            sketch: Some("logins".parse().unwrap()),
            window_ms: Some(90_000),
            most: Some(10),
            detail: true,
        };
        for query in [
            "sketch=logins&window=90s&k=10&detail=1",
            "detail=1&k=%310&window=1m30s&sketch=log%69ns",
        ] {
            assert_eq!(question(query), Ok(expected.clone()), "{query}");
        }
        assert_eq!(question("k=1000").unwrap().most, Some(1_000));
        assert!(!question("detail=0").unwrap().detail);
    }

    #[test]
    fn what_is_no_question_is_said() {
        for (query, words) in [
            ("key=a", "possible are sketch, window, k and detail"),
            ("k=1&", "possible are"),
            ("k=1&k=2", "k is given twice"),
            ("k=0", "k=1 to k=1000"),
            ("k=1001", "k=1 to k=1000"),
            ("k=-1", "k=1 to k=1000"),
            ("k=", "k=1 to k=1000"),
            ("k=%ff", "UTF-8"),
            ("k=%f", "two hexadecimal digits"),
            ("window=60", "such as 60s"),
            ("sketch=Logins", "no 'L'"),
            ("detail=yes", "detail is 1 or 0"),
        ] {
            let error = question(query).unwrap_err().to_string();
            assert!(error.contains(words), "{query}: {error}");
        }
    }
}
