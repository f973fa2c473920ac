//! A few seconds of the bench of the same name (`benches/windows_soak/main.rs`): three processes at full rate, windows
//! of up to 2 s, and a node that is stopped for a while.

#![allow(missing_docs, clippy::unwrap_used)]

use std::time::Duration;

use soak::plan::Plan;

// The bench prints what it finds.
#[allow(dead_code)]
#[path = "../benches/windows_soak/soak/mod.rs"]
mod soak;

const SEED: u64 = 0x50a4;

#[test]
fn no_window_of_busy_processes_is_too_low_and_no_add_is_lost() {
    println!("seed {SEED:#x}");
    let plan = Plan::little(SEED, Duration::from_secs(4), Duration::from_millis(500));
    let findings = soak::run(&plan);
    println!("{findings}");
    assert_eq!(findings.faults, Vec::<String>::new());
    for sketch in &findings.sketches {
        for truth in sketch.judged.iter().chain(&sketch.settled) {
            assert!(truth.judged_answers > 0, "{sketch:?}");
        }
        assert!(sketch.known.iter().all(|&known| known == sketch.truth));
        assert!(sketch.truth > 1 << 24, "{sketch:?}");
    }
}
