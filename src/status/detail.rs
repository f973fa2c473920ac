//! A question about a key, and its count by origin and in a window.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{Detail, JsonKey, OriginDetail, hex};
use rmbd_proto::SketchName;
use rmbd_store::{
    NamedSketch, OriginEstimate, OriginName, Reading, Registry, Replica, UnknownWindow,
    WindowQuestion,
};

/// A question about a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DetailQuestion {
    /// The key, any bytes.
    pub key: Vec<u8>,
    /// The sketch; `None` is `default`.
    pub sketch: Option<SketchName>,
    /// Milliseconds of the window that is asked about besides all time, if any.
    pub window_ms: Option<u64>,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DetailError {
    /// There is no sketch of this name.
    #[error("there is no sketch {0}: /status names those that there are")]
    UnknownSketch(SketchName),
    /// The sketch has no window of this length.
    #[error(transparent)]
    UnknownWindow(#[from] UnknownWindow),
}

/// A key's count in a window, on this node and on all others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowDetail {
    /// Milliseconds of the window.
    pub span_ms: u64,
    /// An estimate that is never below what was counted here in the window. It may have in it what came up to a step
    /// earlier.
    pub bound: u64,
    /// The best guess: of what was counted around the window's beginning it takes the part that is in the window.
    pub smooth: u64,
    /// By how much the estimates may exceed the truth now, with the confidence of the sketch.
    pub error: u64,
    /// Milliseconds that `bound` covers, rounded up.
    pub covered_ms: u32,
    /// Whether something that was counted in the window may not be here.
    pub incomplete: bool,
    /// Whether so much was counted in the window that the estimates may be too low by multiples of 2^32.
    pub overflowed: bool,
}

impl DetailQuestion {
    /// The sketch that is asked about.
    pub(crate) fn find<'r>(&self, registry: &'r Registry) -> Result<&'r NamedSketch, DetailError> {
        let Some(name) = &self.sketch else {
            return Ok(&registry.sketches()[0]);
        };
        let index = registry.by_name(name.as_str());
        let index = index.ok_or_else(|| DetailError::UnknownSketch(name.clone()))?;
        Ok(registry.named(index))
    }
}

impl Detail {
    /// The detail of a key. `origins` was read before, so that the count is at least the sum over them.
    pub(crate) fn of(
        question: &DetailQuestion,
        replica: &Replica,
        origins: &[OriginEstimate],
        now: Duration,
    ) -> Result<Self, DetailError> {
        let window = question.window_ms;
        let window = window.map(|span_ms| WindowDetail::of(&question.key, replica, span_ms, now));
        let count = replica.estimate(&question.key);
        Ok(Self {
            key: JsonKey::from(question.key.clone()),
            sketch: question.sketch.as_ref().map(ToString::to_string),
            count: count.count,
            incomplete: count.incomplete,
            window: window.transpose()?,
            origins: origins.iter().map(origin).collect(),
        })
    }
}

impl WindowDetail {
    fn of(
        key: &[u8],
        replica: &Replica,
        span_ms: u64,
        now: Duration,
    ) -> Result<Self, UnknownWindow> {
        let window = replica.window(span_ms)?;
        let question = |reading| WindowQuestion {
            window,
            reading,
            now,
        };
        // What is added meanwhile is in the second of them only, so the bound stays above the guess.
        let smooth = replica.estimate_in(key, &question(Reading::Smooth));
        let bound = replica.estimate_in(key, &question(Reading::Bound));
        Ok(Self {
            span_ms,
            bound: bound.count,
            smooth: smooth.count,
            error: replica.error_in(&question(Reading::Bound)),
            covered_ms: bound.covered_ms,
            incomplete: bound.incomplete,
            overflowed: bound.overflowed,
        })
    }
}

fn origin(origin: &OriginEstimate) -> OriginDetail {
    let (node, legacy) = match origin.origin {
        OriginName::Node(node) => (Some(hex(node)), None),
        OriginName::Legacy(address) => (None, Some(address.to_string())),
    };
    OriginDetail {
        node,
        legacy,
        slices: origin.slices as u64,
        count: origin.count,
        own: origin.is_own,
    }
}
