//! The checks of windows.

use crate::output::exact;
use crate::plan::{Load, Reading};
use crate::record::{Admitted, Check, Outcome, WindowTruth};

/// What the checks of windows rest on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Grounds<'a> {
    pub(super) load: &'a Load,
    pub(super) nodes: usize,
    /// Data threads of the server, if it tells.
    pub(super) threads: Option<usize>,
    /// Whether all that was sent is known to have arrived.
    pub(super) lossless: bool,
}

/// The checks of a phase.
pub(super) fn checks(truth: &WindowTruth, grounds: Grounds<'_>) -> Vec<Check> {
    let counts = (truth.judged_answers > 0).then(|| counts(truth, grounds));
    let takes = truth.admitted.as_ref();
    let takes = takes.map(|admitted| takes_of(truth, admitted, grounds));
    counts.into_iter().chain(takes).collect()
}

fn judged(truth: &WindowTruth) -> String {
    let until = truth
        .judged_until_s
        .map(|seconds| format!(", of the first {seconds:.1} s only, since no more was kept"));
    format!(
        "{} of {} keys were judged{}",
        exact(truth.judged_keys),
        exact(truth.distinct_keys),
        until.unwrap_or_default()
    )
}

fn counts(truth: &WindowTruth, grounds: Grounds<'_>) -> Check {
    let outcome = match truth.below_truth {
        _ if grounds.load.reading() == Reading::Smooth => Outcome::Unknown,
        0 => Outcome::Passed,
        _ if grounds.lossless => Outcome::Failed,
        // Estimates are below the truth by what was lost.
        _ => Outcome::Unknown,
    };
    let mut detail = match grounds.load.reading() {
        Reading::Bound => format!(
            "{} of {} counts are below what had arrived at the same node within the window",
            exact(truth.below_truth),
            exact(truth.judged_answers)
        ),
        Reading::Smooth => format!(
            "{} counts were smooth, which may be too low",
            exact(truth.judged_answers)
        ),
    };
    if grounds.nodes > 1 && grounds.load.reading() == Reading::Bound {
        detail.push_str(&format!(
            "; {} are below that and what the other nodes had been told the time of delivery before",
            exact(truth.below_delivered)
        ));
    }
    if truth.compared_answers > 0 {
        let delivery = match grounds.nodes {
            1 => "",
            _ => ", and the time of delivery between nodes",
        };
        detail.push_str(&format!(
            "; {} are above what came in the window and two steps{delivery} by more than epsilon * N of that time, the \
             largest difference is {} (what was there before the run is in it)",
            exact(truth.above_bound),
            exact(truth.over_max)
        ));
    }
    Check {
        name: "no count in a window is below the truth".to_owned(),
        outcome,
        detail: format!("{detail}; {}.", judged(truth)),
    }
}

fn takes_of(truth: &WindowTruth, admitted: &Admitted, grounds: Grounds<'_>) -> Check {
    let mut detail = format!(
        "at most {} of a key were admitted in any window, {} are allowed",
        exact(admitted.largest),
        exact(admitted.allowed)
    );
    if let Some(least) = admitted.least {
        detail.push_str(&format!(
            "; of that key at least {} in any full window after the first",
            exact(least)
        ));
    }
    if admitted.unanswered > 0 {
        detail.push_str(&format!(
            "; {} more have no answer and may have been admitted",
            exact(admitted.unanswered)
        ));
    }
    if admitted.keys_above > 0 {
        detail.push_str(&format!("; {} keys were above", exact(admitted.keys_above)));
    }
    Check {
        name: "no more than the limit is admitted in any window".to_owned(),
        outcome: outcome(admitted, grounds),
        detail: format!("{detail}; {}.", judged(truth)),
    }
}

/// One node that reads *bound* admits no more than the limit, and once more for each other data thread at the same
/// instant. Smooth readings, and nodes that have not told each other yet, may admit more.
fn outcome(admitted: &Admitted, grounds: Grounds<'_>) -> Outcome {
    if admitted.largest <= admitted.allowed {
        return Outcome::Passed;
    }
    let is_exact = grounds.nodes == 1 && grounds.load.reading() == Reading::Bound;
    let Some(threads) = grounds.threads.filter(|_| is_exact) else {
        return Outcome::Unknown;
    };
    let at_once = (threads.max(1) as u64 - 1) * u64::from(grounds.load.weight);
    match admitted.largest_for_sure > admitted.allowed + at_once {
        true => Outcome::Failed,
        false => Outcome::Passed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::testing::load;

    fn outcome_of(largest: u64, mode: &str, bound: bool, nodes: usize, threads: usize) -> Outcome {
        let load = Load {
            reading: bound.then_some(Reading::Bound),
            ..load(mode, "uniform:10")
        };
        let truth = WindowTruth {
            admitted: Some(Admitted {
                allowed: 100,
                largest,
                largest_for_sure: largest,
                ..Admitted::default()
            }),
            ..WindowTruth::default()
        };
        let grounds = Grounds {
            load: &load,
            nodes,
            threads: Some(threads),
            lossless: true,
        };
        let checks = checks(&truth, grounds);
        assert_eq!(checks.len(), 1);
        checks[0].outcome
    }

    #[test]
    fn only_one_node_that_reads_bound_must_keep_a_limit_exactly() {
        let take = "take:100/60s";
        assert_eq!(outcome_of(100, take, false, 3, 1), Outcome::Passed);
        assert_eq!(outcome_of(101, take, false, 1, 1), Outcome::Unknown);
        assert_eq!(outcome_of(101, take, true, 3, 1), Outcome::Unknown);
        assert_eq!(outcome_of(101, take, true, 1, 1), Outcome::Failed);
        assert_eq!(outcome_of(101, take, true, 1, 2), Outcome::Passed);
        assert_eq!(outcome_of(102, take, true, 1, 2), Outcome::Failed);
    }

    #[test]
    fn counts_below_are_a_failure_if_nothing_was_lost() {
        let load = load("mix:0.5/60s", "uniform:10");
        for (below_truth, lossless, outcome) in [
            (0, true, Outcome::Passed),
            (1, true, Outcome::Failed),
            (1, false, Outcome::Unknown),
        ] {
            let truth = WindowTruth {
                judged_answers: 10,
                below_truth,
                ..WindowTruth::default()
            };
            let grounds = Grounds {
                load: &load,
                nodes: 1,
                threads: None,
                lossless,
            };
            assert_eq!(checks(&truth, grounds)[0].outcome, outcome);
        }
    }
}
