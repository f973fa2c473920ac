//! What is known of the keys of a sketch that are counted exactly.

use rmbd_store::{AuditFigures, Replica};
use serde::{Deserialize, Serialize};

/// The audit of a sketch: some of its keys are counted exactly beside the cells, as far as they were added on this
/// node since it started.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct AuditStatus {
    /// By what estimates of our own cells exceed the exact counts. `None` before the first look, and where weight was
    /// missed.
    pub errors: Option<AuditErrorsStatus>,
    /// Weight of such keys that could not be counted exactly, since more sessions added than there is room for. If it
    /// is not 0, nothing is told of errors.
    pub missed_weight: u64,
    /// How often an estimate was below an exact count. It must be 0.
    pub too_low: u64,
    /// Verdicts on such keys that rest on counts of all time.
    pub verdicts: u64,
    /// Of these, those that a limit is passed.
    pub verdicts_over: u64,
    /// Of those, the wrong ones: without the error of our own cells the limit would not have been passed.
    pub verdicts_wrong: u64,
}

/// What the last look at all audited keys found, of all time, or over the time of a window.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct AuditErrorsStatus {
    /// Number of keys.
    pub keys: u64,
    /// The part of all keys that is audited.
    pub sampled: f64,
    /// The mean.
    pub mean: f64,
    /// Of the keys this `share` has at most that.
    pub quantile: u64,
    /// The confidence of the sketch.
    pub share: f64,
    /// The largest.
    pub largest: u64,
    /// Keys whose error is above epsilon * N of what was added here; 1 - `share` of them may be.
    pub above_epsilon: u64,
}

impl AuditErrorsStatus {
    pub(super) fn of(replica: &Replica, figures: &AuditFigures) -> Self {
        Self {
            keys: figures.keys,
            sampled: figures.share,
            mean: figures.mean,
            quantile: figures.quantile,
            share: replica.own().geometry().confidence(),
            largest: figures.largest,
            above_epsilon: figures.above_epsilon,
        }
    }

    /// The part of the keys whose error is above epsilon * N.
    #[must_use]
    pub fn part_above_epsilon(&self) -> f64 {
        self.above_epsilon as f64 / self.keys.max(1) as f64
    }
}

impl AuditStatus {
    pub(crate) fn of(replica: &Replica) -> Option<Self> {
        let audit = replica.audit()?;
        let figures = audit.figures.as_ref();
        Some(Self {
            errors: figures.map(|figures| AuditErrorsStatus::of(replica, figures)),
            missed_weight: audit.missed_weight,
            too_low: audit.too_low,
            verdicts: audit.verdicts.judged,
            verdicts_over: audit.verdicts.refused,
            verdicts_wrong: audit.verdicts.wrong,
        })
    }
}
