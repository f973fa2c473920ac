//! Tests of the checks themselves: right replication passes, and wrong replication does not.

use rmbd_simulator::naive::{ForgetsTheDead, Last, Max, Merge, Naive, Sum};
use rmbd_simulator::run::run;
use rmbd_simulator::wrong::{
    CountsRepeats, Flaw, LacksCells, LeavesAtOnce, ReadyAtOnce, Slow, Wrong,
};

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

/// Number of seeds within which each flaw of a real node must be caught, for the right reason.
const SEEDS_OF_A_FLAW: u64 = 100;

fn is_caught<F: Flaw>(reason: &str) {
    let why = |seed| run::<Wrong<F>>(seed, false).err();
    let caught =
        (0..SEEDS_OF_A_FLAW).find(|&seed| why(seed).is_some_and(|why| why.contains(reason)));
    assert!(caught.is_some(), "nobody says: {reason}");
}

#[test]
fn a_node_that_vouches_for_what_it_lacks_is_caught() {
    is_caught::<LacksCells>("and lacks some of cells");
}

#[test]
fn a_node_that_is_ready_too_early_is_caught() {
    is_caught::<ReadyAtOnce>("says that it is ready, and lacks");
}

#[test]
fn a_node_that_ends_without_handing_over_is_caught() {
    is_caught::<LeavesAtOnce>("does not have all that it counted");
}

#[test]
fn a_request_that_is_counted_twice_is_caught() {
    is_caught::<CountsRepeats>("was counted as");
}

#[test]
fn a_cluster_that_is_slow_is_caught() {
    is_caught::<Slow>("of which all knew each other");
}
