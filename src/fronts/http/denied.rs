//! `/denied`: the keys that limits with names deny most often.

use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Json, Response};
use thiserror::Error;

use super::Source;
use super::connections::Asker;
use super::orders::is_by_proxy;
use super::query::{ParameterError, parameters};
use crate::config::DENIED_MAX;
use crate::status::DeniedQuestion;

pub(super) async fn denied(
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
    match source.denied(&question, shows_keys) {
        Ok(document) => Json(document).into_response(),
        Err(why) => (StatusCode::NOT_FOUND, format!("{why}\n")).into_response(),
    }
}

/// Why a query is no question.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
enum QueryError {
    #[error("possible are limit and k, each once with =")]
    Unknown,
    #[error(transparent)]
    Parameter(ParameterError),
    #[error("a limit's name and numbers are UTF-8")]
    NoText,
    #[error(
        "k={0:?} is not a number of keys: ask for k=1 to k={DENIED_MAX}, or leave it out for all"
    )]
    Number(String),
}

/// Parses a query of, in any order, `limit=` and `k=`.
fn question(query: &str) -> Result<DeniedQuestion, QueryError> {
    let values = parameters(query, ["limit", "k"]).map_err(|error| match error {
        ParameterError::Unknown => QueryError::Unknown,
        other => QueryError::Parameter(other),
    })?;
    let [limit, most] = values.map(|value| value.map(String::from_utf8).transpose());
    Ok(DeniedQuestion {
        limit: limit.map_err(|_| QueryError::NoText)?,
        most: most
            .map_err(|_| QueryError::NoText)?
            .map(number)
            .transpose()?,
    })
}

fn number(text: String) -> Result<usize, QueryError> {
    let number = text.parse().ok();
    let number = number.filter(|number| (1..=DENIED_MAX).contains(number));
    number.ok_or(QueryError::Number(text))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn all_parameters_may_be_left_out() {
        assert_eq!(question(""), Ok(DeniedQuestion::default()));
        let expected = DeniedQuestion {
            limit: Some("api".into()),
            most: Some(10),
        };
        for query in ["limit=api&k=10", "k=%310&limit=a%70i"] {
            assert_eq!(question(query), Ok(expected.clone()), "{query}");
        }
    }

    #[test]
    fn what_is_no_question_is_said() {
        for (query, words) in [
            ("key=a", "possible are limit and k"),
            ("k=1&k=2", "k is given twice"),
            ("k=0", "k=1 to k=100"),
            ("k=101", "k=1 to k=100"),
            ("limit=%ff", "UTF-8"),
            ("limit=%f", "two hexadecimal digits"),
        ] {
            let error = question(query).unwrap_err().to_string();
            assert!(error.contains(words), "{query}: {error}");
        }
    }
}
