//! The checks themselves: right replication passes, wrong ones do not.

use crate::support::naive::{ForgetsTheDead, Last, Max, Merge, Naive, Sum};
use crate::support::run::run;

const SEEDS: u64 = 24;

fn failures<M: Merge>() -> Vec<(u64, String)> {
    let verdicts = (0..SEEDS).map(|seed| (seed, run::<Naive<M>>(seed, false)));
    verdicts
        .filter_map(|(seed, verdict)| Some((seed, verdict.err()?)))
        .collect()
}

#[test]
fn merging_by_max_passes() {
    assert_eq!(failures::<Max>(), []);
}

#[test]
fn merging_by_sum_is_caught() {
    let failures = failures::<Sum>();
    assert!(failures.len() as u64 > SEEDS * 3 / 4, "{failures:?}");
    assert!(failures.iter().any(|(_, why)| why.contains("was written")));
}

#[test]
fn taking_the_last_that_came_is_caught() {
    let failures = failures::<Last>();
    assert!(failures.len() as u64 > SEEDS / 4, "{failures:?}");
    assert!(failures.iter().any(|(_, why)| why.contains("fell from")));
}

#[test]
fn a_restarted_node_that_forgets_what_it_wrote_is_caught() {
    let failures = failures::<ForgetsTheDead>();
    assert!(failures.len() as u64 > SEEDS / 4, "{failures:?}");
    assert!(failures.iter().any(|(_, why)| why.contains("lacks slice")));
}
