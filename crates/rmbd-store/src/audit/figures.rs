//! What is told of an audit.

use super::{Audit, Relaxed, VerdictCounters};

/// Figures are old when N has changed by 1 in this many, as a sample of errors is.
const CHANGED_SHARE: u64 = 64;

/// What is known of an audit now.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct AuditState {
    /// What the last look found. `None` before the first one, and where weight was missed.
    pub figures: Option<AuditFigures>,
    /// Weight of audited keys that somebody added without a table. If it is not 0, exact counts are not exact.
    pub missed_weight: u64,
    /// How often an estimate was below the truth. That must not be: if it is not 0, something is broken.
    pub too_low: u64,
    /// What came of verdicts on audited keys.
    pub verdicts: AuditVerdicts,
}

/// What a look at all audited keys found, of all time or of a window. Errors are by what an estimate of our own cells
/// exceeds what was added to its key here.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct AuditFigures {
    /// Keys that were looked at.
    pub keys: u64,
    /// The part of all keys that is audited.
    pub share: f64,
    /// The mean error; 0 where no key is audited, as all errors are.
    pub mean: f64,
    /// A share of 1 - confidence of the keys has a larger error at most.
    pub quantile: u64,
    /// The largest error.
    pub largest: u64,
    /// Keys whose error is above epsilon * N. The theorem allows it for 1 - confidence of them.
    pub above_epsilon: u64,
    /// N of our own cells behind the look; of a window, what it has grown by.
    pub total_weight: u64,
}

/// Verdicts on audited keys that rest on counts of all time, since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AuditVerdicts {
    /// All of them.
    pub judged: u64,
    /// Those that said that a limit is passed. All others are right, as far as counts have arrived.
    pub refused: u64,
    /// Those that would not have said so without the error of our own cells.
    pub wrong: u64,
}

impl AuditFigures {
    /// What these errors come to, which are left in another order.
    pub(super) fn of(errors: &mut [u64], confidence: f64, epsilon_weight: f64) -> Self {
        let Some(last) = errors.len().checked_sub(1) else {
            return Self::default();
        };
        let sum: u128 = errors.iter().map(|&error| u128::from(error)).sum();
        let above = errors
            .iter()
            .filter(|&&error| error as f64 > epsilon_weight);
        let above_epsilon = above.count() as u64;
        let larger = (errors.len() as f64 * (1.0 - confidence)) as usize;
        let (_, quantile, rest) = errors.select_nth_unstable(last - larger.min(last));
        let quantile = *quantile;
        Self {
            keys: last as u64 + 1,
            mean: sum as f64 / (last + 1) as f64,
            quantile,
            largest: rest.iter().copied().max().unwrap_or(quantile),
            above_epsilon,
            ..Self::default()
        }
    }
}

impl Audit {
    pub(super) fn state(&self) -> AuditState {
        let mut verdicts = AuditVerdicts::default();
        for seat in &self.seats {
            seat.verdicts.add_to(&mut verdicts);
        }
        AuditState {
            figures: self.latest().all_time.filter(|_| !self.is_missed()),
            missed_weight: self.missed.load(Relaxed),
            too_low: self.too_low.load(Relaxed),
            verdicts,
        }
    }

    pub(super) fn windows(&self) -> Vec<Option<AuditFigures>> {
        let windows = self.latest().windows.to_vec();
        let told = windows.into_iter();
        told.map(|figures| figures.filter(|_| !self.is_missed()))
            .collect()
    }

    pub(super) fn set(&self, figures: AuditFigures) {
        self.latest().all_time = Some(figures);
    }

    pub(super) fn set_window(&self, ring: usize, figures: AuditFigures) {
        if let Some(place) = self.latest().windows.get_mut(ring) {
            *place = Some(figures);
        }
    }

    pub(super) fn is_old_at(&self, total_weight: u64) -> bool {
        let from = self.latest().all_time.map_or(0, |it| it.total_weight);
        !self.is_missed() && total_weight.abs_diff(from) > from / CHANGED_SHARE
    }

    /// Whether exact counts are none.
    fn is_missed(&self) -> bool {
        self.missed.load(Relaxed) > 0
    }
}

impl VerdictCounters {
    /// Only the thread of the seat calls this.
    pub(super) fn note(&self, is_over: bool, is_wrong: bool) {
        let counters = [
            (&self.judged, true),
            (&self.refused, is_over),
            (&self.wrong, is_wrong),
        ];
        for (counter, counts) in counters {
            counter.store(counter.load(Relaxed) + u64::from(counts), Relaxed);
        }
    }

    fn add_to(&self, sum: &mut AuditVerdicts) {
        sum.judged += self.judged.load(Relaxed);
        sum.refused += self.refused.load(Relaxed);
        sum.wrong += self.wrong.load(Relaxed);
    }
}
