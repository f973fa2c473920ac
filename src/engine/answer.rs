//! What a session is asked, and what it answers.
//!
//! A new question that rests on an estimate takes a variant here, and a call and a counter in `session.rs`.

use super::denied::{Denier, KeyPlace};
use super::limits::{NamedLimits, Part, decide};
use super::{Limit, LimitsAnswer};
use rmbd_sketch::Weight;
use rmbd_store::once::OnceTable;
use rmbd_store::{Estimate, LikelyError, Replica, Terms};

/// The answer to a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// To a count.
    Count(Estimate),
    /// To a hit.
    Hit {
        /// With the hit's own weight.
        estimate: Estimate,
        /// Whether that is within its limit.
        verdict: Verdict,
    },
    /// To a question for bounds.
    Bounds(Bounds),
    /// To a count in a window.
    Window(Estimate),
    /// To a request with limits.
    Limits(LimitsAnswer),
    /// To a hit by the name of a limit.
    NamedLimit(LimitsAnswer),
}

/// What is said to a hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// At most the limit.
    Within,
    /// Above it.
    Over,
}

/// Between what a key's weight lies: `certain_lower <= likely_lower <= likely_estimate <= estimate`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// It is never more than that.
    pub estimate: Estimate,
    /// It is as likely more as less than that.
    pub likely_estimate: u64,
    /// It is not less than that for the [likely share](rmbd_store::likely_share) of keys.
    pub likely_lower: u64,
    /// It is not less than that, with the sketch's confidence.
    pub certain_lower: u64,
    /// N: all weight that is counted here.
    pub total_weight: u64,
}

/// What is asked for, until the estimate is there.
#[derive(Debug, Clone, Copy)]
pub(super) enum Question {
    Count,
    Window,
    Hit { limit: Limit },
    Bounds(Errors),
    Limit(OneLimit),
}

/// By what an estimate may exceed the truth when it was asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Errors {
    total_weight: u64,
    /// Certainly no more than this.
    certain: u64,
    /// By the sample, if there is one.
    likely: Option<LikelyError>,
}

/// A request with one limit.
#[derive(Debug, Clone, Copy)]
pub(super) struct OneLimit {
    pub(super) weight: Weight,
    pub(super) terms: Terms,
    /// The limit's place among those with names, if it has one, and the key's.
    pub(super) named: Option<(u32, KeyPlace)>,
    /// The client and its number of the request under which the verdict is remembered.
    pub(super) once: Option<(u64, u64)>,
}

impl Question {
    /// For bounds, in the sketch of this replica where N is `total_weight`.
    pub(super) fn bounds(replica: &Replica, total_weight: u64) -> Self {
        let epsilon = replica.own().geometry().epsilon();
        let likely = replica.likely_error(total_weight);
        Self::Bounds(Errors::new(epsilon, total_weight, likely))
    }

    /// The answer; `limits` are those with names, as they were when it was asked.
    #[inline]
    pub(super) fn answer(
        self,
        estimate: Estimate,
        limits: &NamedLimits,
        denier: &mut Denier,
        once: &OnceTable,
    ) -> Answer {
        match self {
            Self::Limit(limit) => limit.answer(&estimate, limits, denier, once),
            Self::Count => Answer::Count(estimate),
            Self::Window => Answer::Window(estimate),
            Self::Hit { limit } => Answer::Hit {
                estimate,
                verdict: Verdict::of(estimate, limit),
            },
            Self::Bounds(errors) => Answer::Bounds(errors.bounds(estimate)),
        }
    }
}

impl Errors {
    fn new(epsilon: f64, total_weight: u64, likely: Option<LikelyError>) -> Self {
        Self {
            total_weight,
            // An estimate exceeds the truth by at most epsilon * N, with the sketch's confidence (Cormode &
            // Muthukrishnan 2005, theorem 1). Rounded to the safe side. `as` clamps what is too large for a u64.
            certain: (epsilon * total_weight as f64).ceil() as u64,
            likely,
        }
    }

    fn bounds(&self, estimate: Estimate) -> Bounds {
        let count = estimate.count;
        let certain_lower = self.certain_lower(count);
        let less = |error: fn(LikelyError) -> u64, otherwise| {
            let less = self
                .likely
                .map(|likely| count.saturating_sub(error(likely)));
            less.unwrap_or(otherwise)
        };
        let likely_lower = less(|likely| likely.quantile, certain_lower).max(certain_lower);
        Bounds {
            estimate,
            likely_estimate: less(|likely| likely.median, count).max(likely_lower),
            likely_lower,
            certain_lower,
            total_weight: self.total_weight,
        }
    }

    /// The largest of all lower bounds that rest on no sample.
    fn certain_lower(&self, count: u64) -> u64 {
        count.saturating_sub(self.certain)
    }
}

impl OneLimit {
    fn answer(
        &self,
        estimate: &Estimate,
        limits: &NamedLimits,
        denier: &mut Denier,
        once: &OnceTable,
    ) -> Answer {
        let Terms { limit, takes, .. } = self.terms;
        let part = Part::of(estimate, self.weight, &self.terms);
        let wait = |_| estimate.passed.and_then(|passed| passed.retry_after);
        let mut told = decide(&[part], takes, wait);
        if let Some((client, sequence)) = self.once {
            once.decide(client, sequence, !told.is_over);
        }
        let named = self.named;
        let named = named.and_then(|(place, key)| Some((limits.at(place)?, key)));
        match named {
            Some((named, key)) => {
                named.note(&mut told, limit);
                denier.decide(key, named, told.is_over);
                Answer::NamedLimit(told)
            }
            None => Answer::Limits(told),
        }
    }
}

impl Answer {
    /// The upper bound that every answer has.
    #[must_use]
    pub fn estimate(&self) -> Estimate {
        match self {
            Self::Count(estimate)
            | Self::Window(estimate)
            | Self::Hit { estimate, .. }
            | Self::Bounds(Bounds { estimate, .. }) => *estimate,
            Self::Limits(answer) | Self::NamedLimit(answer) => Estimate {
                count: answer.estimate,
                incomplete: answer.incomplete,
                ..Estimate::default()
            },
        }
    }
}

impl Verdict {
    #[inline]
    fn of(estimate: Estimate, limit: Limit) -> Self {
        if estimate.count <= limit.limit {
            Self::Within
        } else {
            Self::Over
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(count: u64) -> Estimate {
        Estimate {
            count,
            ..Estimate::default()
        }
    }

    fn bounds(count: u64, errors: &Errors) -> [u64; 4] {
        let bounds = errors.bounds(of(count));
        assert_eq!(bounds.total_weight, errors.total_weight);
        let count = bounds.estimate.count;
        let all = [
            bounds.certain_lower,
            bounds.likely_lower,
            bounds.likely_estimate,
            count,
        ];
        assert!(all.is_sorted(), "{all:?}");
        all
    }

    #[test]
    fn the_lower_bound_is_rounded_to_the_safe_side() {
        for (count, epsilon, total_weight, lower) in [
            (0, 0.5, 0, 0),
            (10, 0.5, 0, 10),
            (10, 0.5, 1, 9),
            (10, 0.5, 19, 0),
            (10, 0.5, 21, 0),
            (u64::MAX, 0.5, u64::MAX, u64::MAX / 2),
            (u64::MAX, 2.7, u64::MAX, 0),
        ] {
            // Without a sample nothing is likelier than what is certain.
            let errors = Errors::new(epsilon, total_weight, None);
            assert_eq!(bounds(count, &errors), [lower, lower, count, count]);
        }
    }

    #[test]
    fn likely_values_are_not_below_what_is_certain() {
        for (count, median, quantile, wanted) in [
            (100, 3, 7, [50, 93, 97, 100]),
            (100, 0, 0, [50, 100, 100, 100]),
            (4, 3, 7, [0, 0, 1, 4]),
            (2, 3, 7, [0, 0, 0, 2]),
            (100, 60, 70, [50, 50, 50, 100]),
            (100, 3, 70, [50, 50, 97, 100]),
        ] {
            let mean = 0.0;
            let likely = LikelyError {
                mean,
                median,
                quantile,
            };
            let errors = Errors::new(0.5, 100, Some(likely));
            assert_eq!(bounds(count, &errors), wanted);
        }
    }

    #[test]
    fn a_hit_is_within_its_limit_up_to_it() {
        for (count, limit, verdict) in [
            (0, 0, Verdict::Within),
            (10, 10, Verdict::Within),
            (11, 10, Verdict::Over),
            (u64::MAX, u64::MAX, Verdict::Within),
        ] {
            assert_eq!(Verdict::of(of(count), Limit::total(limit)), verdict);
        }
    }
}
