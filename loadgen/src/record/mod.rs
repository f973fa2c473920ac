//! What a run found: the JSON of `--json`, from which the table, the report and the percentile
//! text are made.
//!
//! # Schema, version 1
//! One JSON object, [`Record`]. Units are the last word of a name (`_ns`, `_s`, `_bytes`, `_per_s`);
//! shares are between 0 and 1; times are nanoseconds where a histogram measured them and seconds
//! elsewhere. `null` says "not measured" (a server elsewhere has no CPU time that we can read),
//! never zero. Fields may be added under the same [`SCHEMA`]; one that changes its meaning or goes
//! makes it the next.
//!
//! A run is a list of [`Phase`]s, one after the other, each with its own load, latencies and
//! series; what holds for the whole run ([`Truth`], [`Check`]s) stands beside them.

mod latency;
mod phase;
#[cfg(test)]
pub(crate) mod sample;
mod tallies;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;

pub(crate) use self::latency::{LATENCY_MAX_NS, latency_histogram};
pub use self::latency::{Latency, Percentile};
pub use self::phase::{Cost, Gaps, Interval, Load, Pace, Phase, Schedule};
pub use self::tallies::{Answers, Once, Received, Sent, Verdicts};
use crate::machine::Environment;
use crate::output::{OutputError, write_json};

/// Version of the schema of [`Record`], its first field.
pub const SCHEMA: u32 = 1;

/// A run and what it found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Where, with what, and by which command.
    pub environment: Environment,
    /// The server as it was before the first phase.
    pub server: Server,
    /// Why the run ended before its time (Ctrl-C, a server that restarted); `None` when it did not.
    pub ended_early: Option<String>,
    /// One after the other.
    pub phases: Vec<Phase>,
    /// Answers compared with what was sent; `None` where nothing was added or it was not asked for.
    pub truth: Option<Truth>,
    /// What was checked; one that failed makes the exit code 1.
    pub checks: Vec<Check>,
    /// What a reader has to know to judge the figures, one sentence each.
    pub notes: Vec<String>,
}

/// The server under load.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Server {
    /// `HOST:PORT` that the load goes to.
    pub address: String,
    /// True where the node runs inside the load generator.
    pub inside: bool,
    /// Where it says what it counted; `None` where there is no HTTP, then nothing is known of it.
    pub status_url: Option<String>,
    /// Its process, where it runs on this machine.
    pub pid: Option<u32>,
    /// Version as it says it.
    pub version: Option<String>,
    /// Columns a row.
    pub width: Option<u64>,
    /// Rows.
    pub depth: Option<u64>,
    /// `xxh3` or `fnv`.
    pub hash: Option<String>,
    /// `uring` or `mmsg`.
    pub io: Option<String>,
    /// Data threads.
    pub threads: Option<usize>,
    /// How many of them got datagrams during the run.
    pub threads_with_traffic: Option<usize>,
    /// CPUs that the data threads are pinned to.
    pub cpus: Vec<usize>,
}

/// Answers compared with what was sent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Truth {
    /// Adds (and hits) sent in the whole run, warm-up included.
    pub total_adds: u64,
    /// Their weight: by so much N grew, where nothing was lost.
    #[serde(default)]
    pub total_weight: Option<u64>,
    /// Adds of them that did not arrive; where not 0, an estimate below the truth says nothing.
    pub lost_adds: u64,
    /// Distinct keys, of which the truth was kept.
    pub distinct_keys: u64,
    /// Share of all keys of which it was kept (by their hash): 1, or a power of 1/2.
    pub kept_share: f64,
    /// Keys that were counted for the comparison.
    pub checked_keys: u64,
    /// The hottest ones among them.
    pub checked_hot_keys: u64,
    /// Estimates below the truth: must be 0 where nothing was lost.
    pub below_truth: u64,
    /// Estimate less truth, mean.
    pub over_mean: f64,
    /// Half are at most this much above.
    pub over_p50: u64,
    /// 99 % are.
    pub over_p99: u64,
    /// The farthest above.
    pub over_max: u64,
    /// What the sketch promises to stay under: `epsilon * N`.
    pub bound: f64,
    /// Share of the checked keys that are above it.
    pub over_bound_share: f64,
    /// What the sketch promises this share to stay under.
    pub delta: f64,
}

/// Something that was checked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Check {
    /// What: `every datagram is accounted for`.
    pub name: String,
    /// What came out.
    pub outcome: Outcome,
    /// The figures behind it, or why it could not be checked, in a sentence.
    pub detail: String,
}

/// What came out of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// As it must be.
    Passed,
    /// Not as it must be: the exit code is 1.
    Failed,
    /// Could not be told.
    Unknown,
}

impl Record {
    /// False where a check failed.
    #[must_use]
    pub fn passed(&self) -> bool {
        let failed = |check: &Check| check.outcome == Outcome::Failed;
        !self.checks.iter().any(failed)
    }

    /// Seconds of all phases, without warm-ups.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        self.phases.iter().map(|phase| phase.seconds).sum()
    }

    /// Writes it as JSON.
    ///
    /// # Errors
    /// [`OutputError`]; the record is as it was, and can be written elsewhere.
    pub(crate) fn write_json(&self, path: &Path) -> Result<(), OutputError> {
        write_json(self, path)
    }

    /// Reads the JSON of a run (`--json`).
    ///
    /// # Errors
    /// [`ReadError`]: no file, no record, or one of another version.
    pub fn read_json(path: &Path) -> Result<Self, ReadError> {
        let text = fs::read(path).map_err(|source| ReadError::File {
            path: path.to_owned(),
            source,
        })?;
        let not_a_record = |source| ReadError::NotARecord {
            path: path.to_owned(),
            source,
        };
        let Version { schema } = serde_json::from_slice(&text).map_err(not_a_record)?;
        if schema != SCHEMA {
            return Err(ReadError::Schema {
                path: path.to_owned(),
                schema,
            });
        }
        serde_json::from_slice(&text).map_err(not_a_record)
    }
}

#[derive(Deserialize)]
struct Version {
    schema: u32,
}

/// A record that can't be read.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The file can't be read.
    #[error("can't read {path}: {source}")]
    File {
        /// Where.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is not what it should be.
    #[error("{path} is no record of a run: {source}; use a file that --json wrote")]
    NotARecord {
        /// Where.
        path: PathBuf,
        /// What does not fit.
        source: serde_json::Error,
    },
    /// It is of another version.
    #[error(
        "{path} has schema {schema}, this loadgen reads {SCHEMA}: use the version that wrote it"
    )]
    Schema {
        /// Where.
        path: PathBuf,
        /// Its version.
        schema: u32,
    },
}

/// A name as a part of a file name: `adds, flood` is `adds-flood`.
pub(crate) fn slug(name: &str) -> String {
    let words = name.split(|c: char| !c.is_ascii_alphanumeric());
    let words: Vec<_> = words.filter(|word| !word.is_empty()).collect();
    words.join("-").to_ascii_lowercase()
}
