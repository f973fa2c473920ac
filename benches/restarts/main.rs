//! Nodes that are started again and again under load, as processes with a folder each: what they forget, and what
//! their clients notice.
//!
//! `cargo bench --bench restarts -- --seed 7 --rounds 100` prints a record in Markdown. A word behind `--` chooses one
//! of these runs. It ends with code 1 where something was lost, doubled, uncertain or too low.
//!
//! - `alone`: one node is killed (`kill -9`) at random moments. After each start every key has at least what had been
//!   acknowledged before its last whole file was begun; and no cell of that file is above what all adds that were ever
//!   sent make of it.
//! - `cluster`: of three nodes one or two are killed at random moments. Whatever the others had of a slice, everybody
//!   has afterwards.
//! - `clean`: three nodes are stopped (SIGTERM) and started in turn, while clients in Rust and Python add exactly once.
//!   No add is uncertain, lost or doubled, and each node has one slice at the end.

#![allow(missing_docs, clippy::unwrap_used)]
#![allow(clippy::print_stderr, clippy::print_stdout)]

use std::process::ExitCode;

use runs::Findings;
use runs::support::command_line::{is_chosen_among, is_dry};
use runs::support::machine;

mod runs;

/// A run, by a seed and a number of rounds.
type Run = fn(u64, u64) -> Findings;

fn main() -> ExitCode {
    if is_dry() {
        return ExitCode::SUCCESS;
    }
    let rounds = option("--rounds").unwrap_or(100);
    let seed = option("--seed");
    let seed =
        seed.unwrap_or_else(|| std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64 >> 20);
    eprintln!("seed {seed}");
    println!("# Restarts\n");
    println!("Command: `cargo bench --bench restarts -- --seed {seed} --rounds {rounds}`\n");
    for (what, value) in machine::lines() {
        println!("- {what}: {value}");
    }
    let runs: [(&str, Run); 3] = [
        ("alone", runs::alone::run),
        ("cluster", runs::cluster::run),
        ("clean", runs::clean::run),
    ];
    let mut faults = 0;
    for (name, run) in runs {
        if is_chosen_among(&["alone", "cluster", "clean"], name) {
            let findings = run(seed, rounds);
            println!("\n## {name}\n\n{findings}");
            findings
                .faults
                .iter()
                .for_each(|fault| eprintln!("{name}: {fault}"));
            faults += findings.faults.len();
        }
    }
    ExitCode::from(u8::from(faults > 0))
}

fn option(name: &str) -> Option<u64> {
    let mut words = std::env::args().skip_while(|word| word != name);
    words.nth(1).map(|text| text.parse().unwrap())
}
