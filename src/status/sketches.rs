//! The sketches of a node with their windows, and its limits, as a status shows them.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{AuditErrorsStatus, SketchStatus, TopStatus};
use crate::engine::Engine;
use crate::engine::limits::{Amount, NamedLimit};
use rmbd_store::{AuditFigures, NamedSketch, Reading, Replica, WindowPlan, WindowQuestion};

/// A sketch, and the windows that it keeps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NamedSketchStatus {
    /// Its name.
    pub name: String,
    /// Its number in messages; 0 is `default`.
    pub number: u32,
    /// Its geometry, hash and content.
    #[serde(flatten)]
    pub sketch: SketchStatus,
    /// Sum of all weights that are counted in it, on this node and on all others.
    pub known_weight: u64,
    /// Its windows.
    pub windows: Vec<WindowStatus>,
    /// The lists of its largest keys, in numbers.
    #[serde(default)]
    pub top: TopStatus,
}

/// A window of a sketch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WindowStatus {
    /// Milliseconds that it covers.
    pub span_ms: u64,
    /// Milliseconds between two snapshots. Shorter windows are whole multiples of it.
    pub step_ms: u64,
    /// Columns in each row of a snapshot.
    pub width: u64,
    /// Error bound: an estimate in the window exceeds the truth by at most `epsilon * weight`.
    pub epsilon: f64,
    /// Bytes of all its snapshots.
    pub memory_bytes: u64,
    /// N: sum of all weights that were counted in it, on this node and on all others.
    pub weight: u64,
    /// By how much an estimate in the whole window may exceed the truth now: `epsilon * weight`.
    pub error: u64,
    /// By what our own part of estimates exceeded the exact counts of audited keys, the last time that one was begun
    /// and over. `None` before that.
    #[serde(default)]
    pub audit: Option<AuditErrorsStatus>,
}

/// A limit with a name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LimitStatus {
    /// Its name.
    pub name: String,
    /// Name of the sketch that counts its hits.
    pub sketch: String,
    /// How much it allows.
    pub amounts: Vec<AmountStatus>,
    /// Whether a hit that is over it is not counted.
    pub takes: bool,
    /// Whether hits that are over it are admitted.
    pub shadow_mode: bool,
    /// Number of hits that it was asked about.
    pub asked: u64,
    /// Number of hits that were over it.
    pub over: u64,
    /// Number of hits that were within it, and above four fifths of it.
    pub near: u64,
    /// Number of hits of which the sketch could not tell whether they were within it.
    pub unsure: u64,
    /// Number of hits that were over it and admitted, as it was in shadow mode.
    pub shadow: u64,
}

/// One amount of a limit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AmountStatus {
    /// The largest estimate that is within the limit.
    pub limit: u64,
    /// Milliseconds of the window; 0 is all time.
    pub window_ms: u64,
    /// By how much an estimate in the window may exceed the truth now.
    pub error: u64,
    /// Whether that is more than a tenth of the limit: then other keys make it refuse what is within. A larger sketch,
    /// or a larger width of the window, makes the error smaller.
    pub error_is_large: bool,
}

/// An error is small against a limit if it is at most 1 in this many of it.
const SMALL_ERROR: u64 = 10;

impl NamedSketchStatus {
    /// Bytes of the snapshots of its windows.
    #[must_use]
    pub fn windows_memory_bytes(&self) -> u64 {
        let windows = self.windows.iter().map(|window| window.memory_bytes);
        windows.fold(0, u64::saturating_add)
    }

    /// Bytes of all else but lists: its own cells, those of others, and exact counts.
    #[must_use]
    pub fn cells_memory_bytes(&self) -> u64 {
        let others = self
            .windows_memory_bytes()
            .saturating_add(self.top.memory_bytes);
        self.sketch.memory_bytes.saturating_sub(others)
    }

    /// By how much an estimate exceeds the truth at most, with the sketch's confidence: `epsilon * known_weight`.
    #[must_use]
    pub fn promised_error(&self) -> f64 {
        self.sketch.epsilon * self.known_weight as f64
    }

    /// All sketches, as they are now.
    pub(crate) fn all(engine: &Engine, now: Duration) -> Vec<Self> {
        let sketches = engine.registry().iter();
        sketches
            .map(|(index, sketch)| {
                let top = TopStatus::of(engine.top(), index, &sketch.replica, now);
                Self::of(sketch, top, now)
            })
            .collect()
    }

    fn of(named: &NamedSketch, top: TopStatus, now: Duration) -> Self {
        let replica = &named.replica;
        let audits = replica.window_audits().into_iter();
        let audits = audits.chain(std::iter::repeat(None));
        let windows = replica.window_plans().zip(audits);
        Self {
            name: named.name.to_string(),
            number: named.name.number().0,
            sketch: SketchStatus::of(replica),
            known_weight: replica.total_weight(),
            windows: windows
                .map(|(plan, audit)| WindowStatus::of(replica, plan, audit, now))
                .collect(),
            top,
        }
    }
}

impl WindowStatus {
    fn of(
        replica: &Arc<Replica>,
        plan: &WindowPlan,
        audit: Option<AuditFigures>,
        now: Duration,
    ) -> Self {
        let question = question(replica, plan.span_ms(), now);
        Self {
            span_ms: plan.span_ms(),
            step_ms: plan.step_ms(),
            width: plan.width() as u64,
            epsilon: plan.geometry().epsilon(),
            memory_bytes: plan.memory_bytes(),
            weight: question.map_or(0, |question| replica.weight_in(&question)),
            error: question.map_or(0, |question| replica.error_in(&question)),
            audit: audit.map(|figures| AuditErrorsStatus::of(replica, &figures)),
        }
    }
}

impl LimitStatus {
    /// All limits with names, as they are now.
    pub(crate) fn all(engine: &Engine, now: Duration) -> Vec<Self> {
        let limits = engine.limits();
        let status = limits.iter().map(|limit| Self::of(engine, limit, now));
        status.collect()
    }

    fn of(engine: &Engine, limit: &NamedLimit, now: Duration) -> Self {
        let (rule, tally) = (&limit.rule, limit.tally());
        let sketch = engine.registry().named(rule.sketch);
        Self {
            name: rule.name.to_string(),
            sketch: sketch.name.to_string(),
            amounts: rule
                .amounts
                .iter()
                .map(|amount| AmountStatus::of(&sketch.replica, *amount, now))
                .collect(),
            takes: rule.takes,
            shadow_mode: rule.is_shadow,
            asked: tally.asked,
            over: tally.over,
            near: tally.near,
            unsure: tally.unsure,
            shadow: tally.shadow,
        }
    }
}

impl AmountStatus {
    fn of(replica: &Replica, amount: Amount, now: Duration) -> Self {
        let Amount { limit, window_ms } = amount;
        let question = question(replica, window_ms, now);
        let error = question.map_or_else(|| replica.error(), |asked| replica.error_in(&asked));
        Self {
            limit,
            window_ms,
            error,
            error_is_large: error > limit / SMALL_ERROR,
        }
    }
}

fn question(replica: &Replica, span_ms: u64, now: Duration) -> Option<WindowQuestion> {
    Some(WindowQuestion {
        window: replica.find_window(span_ms)?,
        reading: Reading::Bound,
        now,
    })
}
