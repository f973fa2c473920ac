//! The runs, and what they have in common.

pub(crate) mod alone;
pub(crate) mod clean;
pub(crate) mod cluster;
mod folder;
// Another bench uses the rest of this module.
#[allow(dead_code)]
#[path = "../../soak/node.rs"]
mod node;
mod nodes;
mod python;
#[path = "../../support/mod.rs"]
pub(crate) mod support;
mod truth;

use std::fmt;
use std::time::{Duration, Instant, UNIX_EPOCH};

use self::node::PATIENCE;

/// What a run has found.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    /// Figures, each with what it is of.
    pub(crate) lines: Vec<(String, String)>,
    /// What must not have happened.
    pub(crate) faults: Vec<String>,
}

impl Findings {
    fn note(&mut self, what: &str, figure: impl fmt::Display) {
        self.lines.push((what.to_owned(), figure.to_string()));
    }
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| what | figure |\n|---|---|")?;
        for (what, figure) in &self.lines {
            writeln!(f, "| {what} | {figure} |")?;
        }
        writeln!(f, "| faults | {} |", self.faults.len())
    }
}

/// Milliseconds since 1970.
fn wall_ms() -> u64 {
    UNIX_EPOCH.elapsed().unwrap().as_millis() as u64
}

/// Waits until something holds.
fn wait(mut check: impl FnMut() -> Result<(), String>) -> Result<(), String> {
    let began = Instant::now();
    loop {
        match check() {
            Ok(()) => return Ok(()),
            Err(lacking) if began.elapsed() > PATIENCE => return Err(lacking),
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// Median and largest of some times, in milliseconds.
fn median_and_most(times: &[Duration]) -> String {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    let (Some(median), Some(most)) = (sorted.get(sorted.len() / 2), sorted.last()) else {
        return "-".to_owned();
    };
    format!("{} and {}", median.as_millis(), most.as_millis())
}
