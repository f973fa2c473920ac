//! What a session is asked, and what it answers.
//!
//! A new question that rests on an estimate takes a variant here, and a call and a counter in `session.rs`.

use super::limits::{NamedLimits, Part, decide};
use super::{Limit, LimitsAnswer};
use rmbd_sketch::Weight;
use rmbd_store::once::OnceTable;
use rmbd_store::{Estimate, Terms};

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

/// Between what a key's weight lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// It is never more than that.
    pub estimate: Estimate,
    /// It is not less than that, with the sketch's confidence.
    pub lower: u64,
    /// N: all weight that is counted here.
    pub total_weight: u64,
}

/// What is asked for, until the estimate is there.
#[derive(Debug, Clone, Copy)]
pub(super) enum Question {
    Count,
    Window,
    Hit { limit: Limit },
    Bounds { total_weight: u64, error: u64 },
    Limit(OneLimit),
}

/// A request with one limit.
#[derive(Debug, Clone, Copy)]
pub(super) struct OneLimit {
    pub(super) weight: Weight,
    pub(super) terms: Terms,
    /// The limit's place among those with names, if it has one.
    pub(super) named: Option<u32>,
    /// The client and its number of the request under which the verdict is remembered.
    pub(super) once: Option<(u64, u64)>,
}

impl Question {
    /// For bounds: an estimate exceeds the truth by at most epsilon * N, with the sketch's confidence (Cormode &
    /// Muthukrishnan 2005, theorem 1).
    pub(super) fn bounds(epsilon: f64, total_weight: u64) -> Self {
        Self::Bounds {
            total_weight,
            // Rounded to the safe side. `as` clamps what is too large for a u64.
            error: (epsilon * total_weight as f64).ceil() as u64,
        }
    }

    /// The answer; `limits` are those with names, as they were when it was asked.
    #[inline]
    pub(super) fn answer(
        self,
        estimate: Estimate,
        limits: &NamedLimits,
        once: &OnceTable,
    ) -> Answer {
        match self {
            Self::Limit(limit) => limit.answer(&estimate, limits, once),
            Self::Count => Answer::Count(estimate),
            Self::Window => Answer::Window(estimate),
            Self::Hit { limit } => Answer::Hit {
                estimate,
                verdict: Verdict::of(estimate, limit),
            },
            Self::Bounds {
                total_weight,
                error,
            } => Answer::Bounds(Bounds {
                estimate,
                lower: estimate.count.saturating_sub(error),
                total_weight,
            }),
        }
    }
}

impl OneLimit {
    fn answer(&self, estimate: &Estimate, limits: &NamedLimits, once: &OnceTable) -> Answer {
        let Terms { limit, takes, .. } = self.terms;
        let part = Part::of(estimate, self.weight, &self.terms);
        let wait = |_| estimate.passed.and_then(|passed| passed.retry_after);
        let mut told = decide(&[part], takes, wait);
        if let Some((client, sequence)) = self.once {
            once.decide(client, sequence, !told.is_over);
        }
        match self.named.and_then(|place| limits.at(place)) {
            Some(named) => {
                named.note(&mut told, limit);
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
    use rmbd_store::once::COOKIE_SECRET_BYTES;

    fn of(count: u64) -> Estimate {
        Estimate {
            count,
            ..Estimate::default()
        }
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
            let estimate = of(count);
            let once = OnceTable::new(1, &[0; COOKIE_SECRET_BYTES]);
            let question = Question::bounds(epsilon, total_weight);
            let answer = question.answer(estimate, &NamedLimits::default(), &once);
            let bounds = Bounds {
                estimate,
                lower,
                total_weight,
            };
            assert_eq!(answer, Answer::Bounds(bounds));
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
