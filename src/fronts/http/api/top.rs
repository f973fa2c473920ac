//! The largest keys of a sketch.

use std::borrow::Cow;

use axum::response::Response;
use serde::Serialize;

use super::answer::ok;
use super::problem::{Kind, Problem};
use super::request::ApiKey;
use crate::fronts::http::StatusSource;
use crate::fronts::http::top::list_question;
use crate::status::{TopError, TopKeyDocument, TopPart};

/// Keys with the largest counts first.
#[derive(Serialize)]
struct Top<'t> {
    sketch: &'t str,
    #[serde(skip_serializing_if = "Option::is_none")]
    window_ms: Option<u64>,
    /// Seconds since the list was made; `None` if none is made yet.
    age_s: Option<f64>,
    /// Every key of which more was counted is in `keys`; `None` if nothing is known.
    complete_above: Option<u64>,
    total_weight: u64,
    listed: u64,
    incomplete: bool,
    redacted: bool,
    keys: Vec<TopKey<'t>>,
}

#[derive(Serialize)]
struct TopKey<'t> {
    rank: u64,
    /// `None` where the name is not known, or not told.
    key: Option<ApiKey<'t>>,
    estimate: u64,
    certain: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    by_node: Option<&'t [TopPart]>,
}

/// Answers with the list that the query asks for.
pub(super) fn answer(
    source: &dyn StatusSource,
    sketch: &str,
    query: &str,
    shows_keys: bool,
) -> Result<Response, Problem> {
    let malformed = |error: String| Problem::new(Kind::Malformed, error);
    let mut question = list_question(query).map_err(|error| malformed(error.to_string()))?;
    let name = sketch.parse();
    question.sketch = Some(name.map_err(|error| {
        let detail = format!("{error}: /status names the sketches that there are");
        Problem::new(Kind::UnknownSketch, detail)
    })?);
    let document = source.top(&question, shows_keys).map_err(|error| {
        let kind = match &error {
            TopError::UnknownSketch(_) => Kind::UnknownSketch,
            TopError::UnknownWindow { .. } => Kind::UnknownWindow,
            TopError::NoList { .. } => Kind::NoTop,
        };
        Problem::new(kind, error.to_string())
    })?;
    Ok(ok(&Top {
        sketch: &document.sketch,
        window_ms: (document.window_ms > 0).then_some(document.window_ms),
        age_s: document.age_s,
        complete_above: document.complete_above,
        total_weight: document.total_weight,
        listed: document.listed,
        incomplete: document.incomplete,
        redacted: document.redacted,
        keys: document.keys.iter().map(TopKey::of).collect(),
    }))
}

impl<'t> TopKey<'t> {
    fn of(key: &'t TopKeyDocument) -> Self {
        let name = key.key.as_ref();
        Self {
            rank: key.rank,
            key: name.map(|name| ApiKey(Cow::Borrowed(name.bytes()))),
            estimate: key.count,
            certain: key.certain,
            by_node: key.by_node.as_deref(),
        }
    }
}
