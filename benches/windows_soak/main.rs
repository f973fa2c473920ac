//! A soak test of windows: three nodes run as processes for five minutes at full rate, across 60 steps of 5 s and more
//! than a thousand of 250 ms, and cells wrap. Every answer about a window is judged by what was acknowledged.
//!
//! `cargo bench --bench windows_soak -- --seconds 300 --seed 7 --stop 5` prints a record in Markdown. It ends with code
//! 1 where an answer was too low, an add was lost or counted twice, or a window did not empty. One node is stopped for
//! `--stop` seconds in the middle (0: not at all). The seed draws the same keys and weights again; processes take their
//! own time.
//!
//! What is added, for each node by a client that adds exactly once, to three sketches:
//!
//! - `default` (60 s by 5 s) and `short` (5 s by 250 ms): keys by Zipf as fast as the node takes them, three hot keys
//!   with weights up to the largest one, and one that is hot in bursts, so that its window empties in between.
//! - `flood` (2 s by 200 ms): at once four times the weight that a node takes between two passes, every 6 s.
//!
//! What is asked, of each node all the time: *bound* counts of these keys and of sixteen of the stream, in the whole
//! window and in a quarter of it. None may be below what the same node had acknowledged before, within the window.
//! After the last add all nodes must come to hold the same, each as much as it has acknowledged. From then on no answer
//! of any node may be below what all of them were told, until the windows are empty.

#![allow(missing_docs, clippy::unwrap_used)]
#![allow(clippy::print_stderr, clippy::print_stdout)]

use std::process::ExitCode;
use std::time::Duration;

use soak::plan::Plan;
use soak::support::command_line::is_dry;
use soak::support::machine;

mod soak;

fn main() -> ExitCode {
    if is_dry() {
        return ExitCode::SUCCESS;
    }
    let seconds = option("--seconds").map_or(300.0, |text| text.parse().unwrap());
    let stop = option("--stop").map_or(5.0, |text| text.parse().unwrap());
    let seed = option("--seed").map_or_else(
        || std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64 >> 20,
        |text| text.parse().unwrap(),
    );
    eprintln!("seed {seed}");
    let [time, pause] = [seconds, stop].map(Duration::from_secs_f64);
    let findings = soak::run(&Plan::full(seed, time, pause));
    println!("# A soak of windows\n");
    println!(
        "Command: `cargo bench --bench windows_soak -- --seconds {seconds} --seed {seed} --stop {stop}`\n"
    );
    for (what, value) in machine::lines() {
        println!("- {what}: {value}");
    }
    println!("\n{findings}");
    for fault in &findings.faults {
        eprintln!("{fault}");
    }
    ExitCode::from(u8::from(!findings.faults.is_empty()))
}

fn option(name: &str) -> Option<String> {
    let mut words = std::env::args().skip_while(|word| word != name);
    words.nth(1)
}
