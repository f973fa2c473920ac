//! One verdict of several limits: all are kept, or nothing is taken.

use std::time::Duration;

use super::rule::Outcome;
use rmbd_sketch::Weight;
use rmbd_store::{Estimate, Terms};

/// What one limit of a request says: the key's estimate in its window, and what may be wrong with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::engine) struct Part {
    /// The estimate without what the request adds.
    pub(in crate::engine) estimate: u64,
    /// What the request adds to the key, or would add.
    pub(in crate::engine) weight: u64,
    /// The largest estimate that is within the limit.
    pub(in crate::engine) limit: u64,
    /// By how much the estimate may exceed the truth, with the confidence of the sketch: epsilon * N. It says something
    /// only of a limit that is passed, and may be 0 for others.
    pub(in crate::engine) error: u64,
    /// Something that others counted is not in it, or the node has not been here for the whole window.
    pub(in crate::engine) incomplete: bool,
    /// The weight of the window may have passed 2^32, so that the estimate is that of all time.
    pub(in crate::engine) overflowed: bool,
    /// Milliseconds that the estimate covers; 0 is all time.
    pub(in crate::engine) covered_ms: u32,
}

/// The answer to a request with limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitsAnswer {
    /// At least one limit is passed: nothing was added where the request takes.
    pub is_over: bool,
    /// The limit was passed and the hit admitted, as it is in shadow mode.
    pub is_shadow: bool,
    /// Something that others counted is missing in an estimate, or the node has not been here for a whole window.
    pub incomplete: bool,
    /// The limit that decided may have been passed by other keys: with the sketch's confidence, the key's own count
    /// lies between a value within the limit and one above it.
    pub unsure: bool,
    /// The weight of a window may have passed 2^32: its estimate is that of all time.
    pub overflowed: bool,
    /// Index of the limit that decided: of those that are passed the one with the longest wait, else the one with the
    /// least left.
    pub part: u8,
    /// The key's estimate at that limit: with the request's weight where that was added, else without.
    pub estimate: u64,
    /// What may still be added within all limits.
    pub remaining: u64,
    /// How long to wait until as much is within all limits, if nobody else adds; zero where it is within them, `None`
    /// where it never is.
    pub retry_after: Option<Duration>,
    /// Milliseconds that the estimate covers; 0 is all time.
    pub covered_ms: u32,
}

impl Part {
    /// A limit of which the store has said whether it is passed.
    pub(in crate::engine) fn of(estimate: &Estimate, weight: Weight, terms: &Terms) -> Self {
        Self {
            estimate: estimate.count.saturating_sub(terms.credit),
            weight: weight.into(),
            limit: terms.limit,
            error: estimate.passed.map_or(0, |passed| passed.error),
            incomplete: estimate.incomplete,
            overflowed: estimate.overflowed,
            covered_ms: estimate.covered_ms,
        }
    }

    fn with_weight(&self) -> u64 {
        self.estimate.saturating_add(self.weight)
    }

    /// The request passes this limit.
    pub(in crate::engine) fn is_over(&self) -> bool {
        self.with_weight() > self.limit
    }

    /// The limit lies between what the key has for certain and the estimate.
    fn is_unsure(&self) -> bool {
        self.is_over() && self.with_weight().saturating_sub(self.error) <= self.limit
    }

    /// The estimate afterwards.
    fn estimate(&self, is_added: bool) -> u64 {
        if is_added {
            self.with_weight()
        } else {
            self.estimate
        }
    }

    fn remaining(&self, is_added: bool) -> u64 {
        self.limit.saturating_sub(self.estimate(is_added))
    }
}

/// The answer of several limits (1 or more). Where it `takes`, nothing is added if any of them is passed. `wait` says
/// how long it takes until a part that is over is within its limit; it is asked only for those.
pub(in crate::engine) fn decide(
    parts: &[Part],
    takes: bool,
    mut wait: impl FnMut(usize) -> Option<Duration>,
) -> LimitsAnswer {
    let is_over = parts.iter().any(Part::is_over);
    let is_added = !(takes && is_over);
    let (mut decides, mut retry_after) = (0, Some(Duration::ZERO));
    if is_over {
        let over = parts.iter().enumerate().filter(|(_, part)| part.is_over());
        let mut is_first = true;
        for (at, _) in over {
            let waits = wait(at);
            if is_first || longer(waits, retry_after) {
                (decides, retry_after, is_first) = (at, waits, false);
            }
        }
    } else {
        let left = parts.iter().map(|part| part.remaining(is_added));
        let least = left.enumerate().min_by_key(|(_, left)| *left);
        decides = least.map_or(0, |(at, _)| at);
    }
    let decisive = parts.get(decides);
    LimitsAnswer {
        is_over,
        is_shadow: false,
        incomplete: parts.iter().any(|part| part.incomplete),
        unsure: decisive.is_some_and(Part::is_unsure),
        overflowed: parts.iter().any(|part| part.overflowed),
        part: decides as u8,
        estimate: decisive.map_or(0, |part| part.estimate(is_added)),
        remaining: parts
            .iter()
            .map(|part| part.remaining(is_added))
            .min()
            .unwrap_or_default(),
        retry_after,
        covered_ms: decisive.map_or(0, |part| part.covered_ms),
    }
}

/// Whether one wait is longer than another; `None` is for ever.
fn longer(one: Option<Duration>, other: Option<Duration>) -> bool {
    match (one, other) {
        (None, other) => other.is_some(),
        (Some(_), None) => false,
        (Some(one), Some(other)) => one > other,
    }
}

impl LimitsAnswer {
    /// The answer for a key that has no limit: nothing was counted.
    pub const NO_LIMIT: Self = Self {
        is_over: false,
        is_shadow: false,
        incomplete: false,
        unsure: false,
        overflowed: false,
        part: 0,
        estimate: 0,
        remaining: u64::MAX,
        retry_after: Some(Duration::ZERO),
        covered_ms: 0,
    };

    /// Gives a repeat the verdict of the first time.
    pub(in crate::engine) fn repeat(&mut self, admits: bool) {
        self.is_over = !admits;
        if admits {
            self.retry_after = Some(Duration::ZERO);
            self.unsure = false;
        }
    }

    /// What is counted of it, for a limit of this largest estimate.
    pub(in crate::engine) fn outcome(&self, limit: u64) -> Outcome {
        Outcome {
            is_over: self.is_over,
            is_near: !self.is_over && self.estimate > limit / 5 * 4,
            is_unsure: self.unsure,
            is_shadow: self.is_shadow,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// A part of which this is the estimate with a weight of 1.
    fn part(with_weight: u64, limit: u64) -> Part {
        Part {
            estimate: with_weight - 1,
            weight: 1,
            limit,
            error: 0,
            incomplete: false,
            overflowed: false,
            covered_ms: limit as u32,
        }
    }

    fn never(_: usize) -> Option<Duration> {
        panic!("nothing is waited for")
    }

    #[test]
    fn within_all_limits_the_one_with_the_least_left_decides() {
        let answer = decide(&[part(5, 100), part(5, 7), part(7, 7 + 3)], true, never);
        assert!(!answer.is_over && !answer.unsure);
        assert_eq!((answer.part, answer.estimate, answer.remaining), (1, 5, 2));
        assert_eq!(answer.retry_after, Some(Duration::ZERO));
        assert_eq!(answer.covered_ms, 7);
        assert_eq!(decide(&[part(7, 7)], true, never).remaining, 0);
    }

    #[test]
    fn above_some_the_longest_wait_decides() {
        let parts = [part(9, 5), part(1, 100), part(8, 7), part(3, 2)];
        let waits = [Some(3), None, Some(9), Some(1)].map(|it| it.map(Duration::from_secs));
        let answer = decide(&parts, false, |at| waits[at]);
        assert!(answer.is_over);
        assert_eq!((answer.part, answer.estimate, answer.remaining), (2, 8, 0));
        // Nothing is added by what takes.
        let answer = decide(&parts, true, |at| waits[at]);
        assert_eq!((answer.part, answer.estimate, answer.remaining), (2, 7, 0));
        assert_eq!(answer.retry_after, Some(Duration::from_secs(9)));
        // For ever is longer than any time.
        let answer = decide(&parts, true, |at| waits[at].filter(|_| at != 3));
        assert_eq!((answer.part, answer.retry_after), (3, None));
    }

    #[test]
    fn a_limit_between_the_bounds_is_unsure() {
        for (error, unsure) in [(0, false), (1, false), (2, true), (100, true)] {
            let over = Part {
                error,
                ..part(12, 10)
            };
            let answer = decide(&[over], true, |_| None);
            assert_eq!(answer.unsure, unsure, "{error}");
            let within = Part {
                error,
                ..part(10, 10)
            };
            assert!(!decide(&[within], true, never).unsure);
        }
    }

    #[test]
    fn what_is_wrong_with_any_part_is_told() {
        let with = |incomplete, overflowed| Part {
            incomplete,
            overflowed,
            ..part(1, 10)
        };
        let answer = decide(&[with(false, false), with(true, false)], true, never);
        assert!(answer.incomplete && !answer.overflowed);
        let answer = decide(&[with(false, true), with(false, false)], true, never);
        assert!(!answer.incomplete && answer.overflowed);
    }

    #[test]
    fn near_is_above_four_fifths() {
        let outcome = |count, limit| decide(&[part(count, limit)], false, |_| None).outcome(limit);
        assert!(!outcome(80, 100).is_near && outcome(81, 100).is_near);
        let over = outcome(101, 100);
        assert!(over.is_over && !over.is_near && !over.is_unsure);
    }
}
