//! A few rounds of the bench of the same name (`benches/restarts/main.rs`): nodes that are killed, or stopped and
//! started again, under load.

#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout)]

use runs::Findings;

// The bench prints what it finds.
#[allow(dead_code)]
#[path = "../benches/restarts/runs/mod.rs"]
mod runs;

const SEED: u64 = 0x7e57;

fn check(findings: &Findings) {
    println!("seed {SEED:#x}\n{findings}");
    assert_eq!(findings.faults, Vec::<String>::new());
}

#[test]
fn what_was_acknowledged_before_a_file_is_there_after_a_kill_and_nothing_more_than_was_sent() {
    check(&runs::alone::run(SEED, 5));
}

#[test]
fn what_others_have_survives_the_kill_of_nodes() {
    check(&runs::cluster::run(SEED, 4));
}

#[test]
fn clients_that_add_exactly_once_do_not_notice_that_nodes_are_started_again() {
    check(&runs::clean::run(SEED, 6));
}
