//! A model of windows over a bad network: which rules keep answers from being too low, and how old what they count is.
//!
//! # The rule
//!
//! Every node counts for itself, and tells the others the value of its counter. The value only grows, so it does not
//! matter which of its messages arrive, in which order, or how often. But a value says nothing about *when* it was
//! counted: to a node that begins, all that another one has ever counted is new.
//!
//! So each message carries, beside the value, *marks*: "when I send this, it is *age* ago that I had counted
//! *so much*". They are in the same message as the value, because a message of its own could be lost.
//!
//! - Each node keeps *snapshots* of all that it knows, one each step. What it counts in a window is the value now,
//!   less a snapshot that was taken before the window began.
//! - Who receives a message adds what is new in it to its own sum. It also adds to each snapshot what the marks say to
//!   be older than that snapshot: then no window that begins behind the snapshot counts it.
//! - Whatever is uncertain is taken for younger than it is. A mark's time is read after its value, an age before the
//!   message is written, the time of arrival after the message is received. So an answer may contain what is older than
//!   the window; it never lacks what is in it.
//! - A writer keeps a mark for each step of the longest window, and two more. Who only passes on what it has learnt
//!   keeps few marks, a quarter of the window apart, and all slices that it has learnt share their times: a mark that
//!   comes between two of them is taken for the younger one.
//! - To a node that is known to have all but the last step, no marks are sent: that is how it is nearly always.
//!
//! # The check
//!
//! There is one counter, so that nothing collides. The model knows when each unit was counted, by its writer and its
//! number. Nodes lose, double and delay messages, stop for a while, start again with nothing, and are cut off from each
//! other, also in one direction only. Time is in ticks. The *excess* of an answer is how much older than the window the
//! oldest unit is that it counts.

#![allow(missing_docs)]

mod model;
mod network;

use model::{Arrival, Excess, LearntMarks, OwnMarks, Parcels, Rules, STEP, WINDOW};
use network::{STOP_MAX, Trouble, run};

/// What a node does.
const CHOSEN: Rules = Rules {
    parcels: Parcels::Whole,
    own: OwnMarks::EachStep,
    learnt: LearntMarks::SharedFew,
    arrival: Arrival::ReadAfterwards,
};
const SEEDS: u64 = 24;

/// The excess of all answers of all seeds.
fn all_runs(rules: Rules, trouble: Trouble) -> Excess {
    let mut excess = Excess::default();
    for seed in 0..SEEDS {
        let of_run = run(seed, rules, trouble);
        let is_safe = rules.arrival == Arrival::ReadBefore || of_run.too_low == 0;
        assert!(is_safe, "seed {seed}, {trouble:?}: {of_run:?}");
        excess.add(of_run);
    }
    assert!(excess.answers > SEEDS * 2_000, "they answer");
    excess
}

/// Nodes that start, or come back, learn what is old as old.
#[test]
fn no_answer_is_too_low_and_few_are_too_high() {
    for trouble in [Trouble::Restarts, Trouble::Partitions, Trouble::OneWay] {
        let excess = all_runs(CHOSEN, trouble);
        assert!(excess.quantile(990) <= 2 * STEP, "{trouble:?}: {excess:?}");
        assert!(excess.quantile(999) <= 3 * STEP, "{trouble:?}: {excess:?}");
        assert!(excess.max() <= WINDOW, "{trouble:?}: {excess:?}");
    }
}

/// What waits for a process that is stopped is as much too young as the process was stopped.
#[test]
fn a_stop_makes_windows_longer_by_the_stop() {
    let excess = all_runs(CHOSEN, Trouble::Stops);
    assert!(excess.max() <= STOP_MAX + 4 * STEP, "{excess:?}");
    let all_at_once = all_runs(CHOSEN, Trouble::All);
    assert!(all_at_once.quantile(990) <= WINDOW, "{all_at_once:?}");
}

#[test]
fn few_shared_marks_are_nearly_as_good_as_all() {
    let all = Rules {
        learnt: LearntMarks::All,
        ..CHOSEN
    };
    let (all, few) = (
        all_runs(all, Trouble::Restarts),
        all_runs(CHOSEN, Trouble::Restarts),
    );
    assert!(
        few.quantile(999) <= all.quantile(999) + STEP,
        "{few:?} against {all:?}"
    );
}

/// The check finds what it is there to find: other rules than the chosen ones do not pass.
#[test]
fn other_rules_do_not_pass() {
    let no_ages = Rules {
        parcels: Parcels::NoAges,
        ..CHOSEN
    };
    assert!(all_runs(no_ages, Trouble::Restarts).quantile(990) > 2 * WINDOW);
    let oldest_first = Rules {
        parcels: Parcels::Apart,
        ..CHOSEN
    };
    assert!(all_runs(oldest_first, Trouble::Restarts).quantile(990) > 2 * WINDOW);
    let two_marks = Rules {
        own: OwnMarks::Two,
        ..CHOSEN
    };
    assert!(all_runs(two_marks, Trouble::Restarts).quantile(999) > WINDOW);
    let read_before = Rules {
        arrival: Arrival::ReadBefore,
        ..CHOSEN
    };
    assert!(all_runs(read_before, Trouble::Stops).too_low > 0);
}
