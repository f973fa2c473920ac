//! The record of a comparison: the JSON in `benches/record/`.
//!
//! # Schema, version 1
//! One JSON object, [`Comparison`]. Units are the last word of a name; `null` says "not measured".
//! Fields may be added under the same [`COMPARISON_SCHEMA`].

use serde::{Deserialize, Serialize};

use crate::machine::Environment;
use crate::record::Latency;

/// Version of the schema of [`Comparison`], its first field.
pub const COMPARISON_SCHEMA: u32 = 1;

/// Two servers, and what each needed for the same work.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// [`COMPARISON_SCHEMA`].
    pub schema: u32,
    /// The machine, the program and the command.
    pub environment: Environment,
    /// The stream of keys as on the command line: `zipf:1.1:1000000`.
    pub keys: String,
    /// Length of a key in bytes, if the stream makes the keys.
    pub key_bytes: Option<usize>,
    /// Seed of the stream.
    pub seed: u64,
    /// Adds of each turn.
    pub adds_per_turn: u64,
    /// The CPU that the generator was pinned to; `None` if there is only one, or pinning was refused.
    pub generator_cpu: Option<usize>,
    /// Our node.
    pub ours: Score,
    /// The other server.
    pub theirs: Score,
    /// Why the comparison ended before its time; `None` if it did not.
    pub ended_early: Option<String>,
}

/// The results of one server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// Name and version of the server: `redis 7.0.15`.
    pub name: String,
    /// The address of the server.
    pub address: String,
    /// The command that started the server; `None` if it ran already.
    pub server_command: Option<String>,
    /// The form in which the generator sent adds, and in which batches.
    pub adds_as: String,
    /// The form in which the generator sent counts.
    pub counts_as: String,
    /// The CPU that the server was pinned to, with all of its threads.
    pub cpu: Option<usize>,
    /// The turns, one for each round.
    pub turns: Vec<Turn>,
    /// Round trips of single counts, one after the other.
    pub counts: Option<Latency>,
    /// Memory after each number of distinct keys.
    pub memory: Vec<Memory>,
    /// Answers compared with what was sent.
    pub checked: Option<Checked>,
}

/// The figures of one turn of adds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Turn {
    /// Number of adds sent.
    pub sent: u64,
    /// Number of adds that the server counted; fewer than sent if datagrams were lost.
    pub received: u64,
    /// Seconds from the first send to the last confirmation.
    pub seconds: f64,
    /// CPU seconds of the server's process; `None` if they cannot be read.
    pub server_cpu_s: Option<f64>,
    /// CPU seconds of the generator.
    pub generator_cpu_s: Option<f64>,
}

/// Memory that a server uses after some keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// Number of keys that a freshly started server had seen.
    pub distinct_keys: u64,
    /// Resident memory of its process in bytes (`VmRSS`).
    pub resident_bytes: u64,
}

/// Answers, compared with what was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checked {
    /// Number of keys that were counted.
    pub keys: u64,
    /// Number of answers that equal the truth.
    pub exact: u64,
    /// Number of answers below the truth.
    pub below: u64,
    /// The largest difference of an answer above the truth.
    pub over_max: u64,
}

/// The spread of a figure over several turns.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// The smallest value.
    pub min: f64,
    /// The median (with an even number of values, the mean of the two in the middle).
    pub median: f64,
    /// The largest value.
    pub max: f64,
}

impl Spread {
    /// The spread of some values; `None` if there are none.
    #[must_use]
    pub fn of(figures: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = figures.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let middle = sorted.len() / 2;
        let median = match sorted.len() % 2 {
            0 => f64::midpoint(sorted[middle - 1], sorted[middle]),
            _ => sorted[middle],
        };
        Some(Self { min, median, max })
    }
}

impl Score {
    /// Adds per second that the server counted.
    #[must_use]
    pub fn adds_per_s(&self) -> Option<Spread> {
        Spread::of(self.turns.iter().map(|t| t.received as f64 / t.seconds))
    }

    /// CPU nanoseconds of the server for each add that it counted.
    #[must_use]
    pub fn cpu_ns_per_add(&self) -> Option<Spread> {
        let per_add = |turn: &Turn| Some(turn.server_cpu_s? * 1e9 / turn.received.max(1) as f64);
        Spread::of(self.turns.iter().filter_map(per_add))
    }

    /// CPU nanoseconds of server and generator together for each add. On loopback the kernel does a part of the
    /// receiving in the sender's system call; that part is included here, and not in the server's figure.
    #[must_use]
    pub fn both_cpu_ns_per_add(&self) -> Option<Spread> {
        let per_add = |turn: &Turn| {
            let both = turn.server_cpu_s? + turn.generator_cpu_s?;
            Some(both * 1e9 / turn.received.max(1) as f64)
        };
        Spread::of(self.turns.iter().filter_map(per_add))
    }

    /// Share of the time that the server's CPU was at work.
    #[must_use]
    pub fn cpu_share(&self) -> Option<Spread> {
        let share = |turn: &Turn| Some(turn.server_cpu_s? / turn.seconds);
        Spread::of(self.turns.iter().filter_map(share))
    }

    /// Share of the time that the generator was at work. If it is near 1, the generator was the limit.
    #[must_use]
    pub fn generator_share(&self) -> Option<Spread> {
        let share = |turn: &Turn| Some(turn.generator_cpu_s? / turn.seconds);
        Spread::of(self.turns.iter().filter_map(share))
    }

    /// Number of adds that did not arrive, over all turns.
    #[must_use]
    pub fn lost(&self) -> u64 {
        let lost = self.turns.iter().map(|t| t.sent.saturating_sub(t.received));
        lost.sum()
    }
}
