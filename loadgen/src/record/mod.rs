//! The record of a run: the JSON of `--json`, from which the table, the report and the percentile text are made.
//!
//! # Schema, version 1
//! One JSON object, [`Record`]. Units are the last word of a name (`_ns`, `_s`, `_bytes`, `_per_s`), and shares are
//! between 0 and 1. Times are nanoseconds if a histogram measured them, and else seconds. `null` means "not measured"
//! (we cannot read the CPU time of a server elsewhere), never zero. Fields may be added under the same [`SCHEMA`]; a
//! field that changes its meaning or goes makes it the next one.
//!
//! A run is a list of [`Phase`]s, one after the other, each with its own load, latencies and series. The parts about
//! the whole run ([`Truth`], [`Check`]s) stand beside them.

mod latency;
mod phase;
#[cfg(test)]
pub(crate) mod sample;
mod tallies;
mod window;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;

pub(crate) use self::latency::{LATENCY_MAX_NS, latency_histogram};
pub use self::latency::{Latency, Percentile};
pub use self::phase::{Cost, Gaps, Interval, Load, Pace, Phase, Schedule};
pub use self::tallies::{Answers, InWindow, Once, Received, Sent, Verdicts};
pub use self::window::{Admitted, AdmittedSecond, NodeShare, WindowTruth};
use crate::machine::Environment;
use crate::output::{OutputError, write_json};

/// Version of the schema of [`Record`], its first field.
pub const SCHEMA: u32 = 1;

/// A run and its results.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The machine, the program and the command.
    pub environment: Environment,
    /// The server as it was before the first phase.
    pub server: Server,
    /// Why the run ended before its time (Ctrl-C, a server that restarted); `None` if it did not.
    pub ended_early: Option<String>,
    /// The phases, one after the other.
    pub phases: Vec<Phase>,
    /// Answers, compared with what was sent; `None` if nothing was added or this was not asked for.
    pub truth: Option<Truth>,
    /// The list of the largest keys of each server, compared with what was sent; none where it cannot be judged.
    #[serde(default)]
    pub lists: Vec<ListFigures>,
    /// The checks. If one failed, the exit code is 1.
    pub checks: Vec<Check>,
    /// Notes that a reader must know to judge the figures, one sentence each.
    pub notes: Vec<String>,
}

/// The server under load.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Server {
    /// The address `HOST:PORT` that the load goes to.
    pub address: String,
    /// Whether the node runs inside the load generator.
    pub inside: bool,
    /// URL of the server's status; `None` without HTTP, and then nothing is known of the server.
    pub status_url: Option<String>,
    /// Id of the server's process, if it runs on this machine.
    pub pid: Option<u32>,
    /// Version of the server, as it reports it.
    pub version: Option<String>,
    /// Columns of each row.
    pub width: Option<u64>,
    /// Number of rows.
    pub depth: Option<u64>,
    /// Name of the hash: `xxh3` or `fnv`.
    pub hash: Option<String>,
    /// Name of the back end: `uring` or `mmsg`.
    pub io: Option<String>,
    /// Number of data threads.
    pub threads: Option<usize>,
    /// Number of data threads that got datagrams during the run.
    pub threads_with_traffic: Option<usize>,
    /// CPUs that the data threads are pinned to.
    pub cpus: Vec<usize>,
}

/// Answers, compared with what was sent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Truth {
    /// Number of adds (and hits) sent in the whole run, warm-up included.
    pub total_adds: u64,
    /// Weight of these adds, by which N has grown if nothing was lost.
    #[serde(default)]
    pub total_weight: Option<u64>,
    /// Number of these adds that did not arrive. If it is not 0, an estimate below the truth means nothing.
    pub lost_adds: u64,
    /// Number of distinct keys whose truth was kept.
    pub distinct_keys: u64,
    /// Share of all keys whose truth was kept (by their hash): 1, or a power of 1/2.
    pub kept_share: f64,
    /// Number of keys that were counted for the comparison.
    pub checked_keys: u64,
    /// Number of the hottest keys among them.
    pub checked_hot_keys: u64,
    /// Number of estimates below the truth: it must be 0 if nothing was lost.
    pub below_truth: u64,
    /// Mean of estimate less truth.
    pub over_mean: f64,
    /// Half of the estimates are at most this much above the truth.
    pub over_p50: u64,
    /// 99 % of the estimates are at most this much above the truth.
    pub over_p99: u64,
    /// The largest difference above the truth.
    pub over_max: u64,
    /// The bound that the sketch promises: `epsilon * N`.
    pub bound: f64,
    /// Share of the checked keys whose estimates are above the bound.
    pub over_bound_share: f64,
    /// The largest such share that the sketch promises.
    pub delta: f64,
}

/// A server's list of the largest keys of all time after the run, compared with what was sent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ListFigures {
    /// The address of the server.
    pub server: String,
    /// Number of the largest keys that were looked for: 100, or all that were sent.
    pub asked: u64,
    /// Number of keys in the list.
    pub listed: u64,
    /// Number of keys in the list of which the name is known.
    pub named: u64,
    /// Share of the largest keys that are in the list, by their names.
    pub recall: f64,
    /// Share of neighbours in the list of which the upper one was sent at least as often.
    pub in_order: f64,
    /// The list says that every key with more is in it; `None` if it does not.
    pub complete_above: Option<u64>,
    /// How often the least of the largest keys was sent, by weight.
    pub least_of_largest: u64,
    /// Number of keys that were sent more often than `complete_above` and are not in the list by their names: 0 where
    /// all names are known.
    pub missing_above: u64,
    /// Number of counts below the truth: 0 if nothing was lost.
    pub below_truth: u64,
    /// Number of counts that are said to be certain, and are above the truth: 0.
    pub certain_above_truth: u64,
    /// The list says itself that something is missing, or some of what was sent was lost.
    pub incomplete: bool,
}

/// A check of the run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Check {
    /// Name of the check: `every datagram is accounted for`.
    pub name: String,
    /// Outcome of the check.
    pub outcome: Outcome,
    /// The figures behind the outcome, or why it could not be checked, in a sentence.
    pub detail: String,
}

/// The outcome of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Everything is as it must be.
    Passed,
    /// Something is not as it must be: the exit code is 1.
    Failed,
    /// The check could not be made.
    Unknown,
}

impl Record {
    /// Whether no check failed.
    #[must_use]
    pub fn passed(&self) -> bool {
        let failed = |check: &Check| check.outcome == Outcome::Failed;
        !self.checks.iter().any(failed)
    }

    /// Seconds of all measured parts together.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        self.phases.iter().map(|phase| phase.seconds).sum()
    }

    /// Writes the record as JSON.
    ///
    /// # Errors
    /// Fails with [`OutputError`]; the record is unchanged, and can be written elsewhere.
    pub(crate) fn write_json(&self, path: &Path) -> Result<(), OutputError> {
        write_json(self, path)
    }

    /// Reads the JSON of a run (`--json`).
    ///
    /// # Errors
    /// Fails with [`ReadError`] if there is no file, no record, or one of another version.
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

/// The error for a record that cannot be read.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The file cannot be read.
    #[error("can't read {path}: {source}")]
    File {
        /// The path of the file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The file is no record.
    #[error("{path} is no record of a run: {source}; use a file that --json wrote")]
    NotARecord {
        /// The path of the file.
        path: PathBuf,
        /// The error of the parser.
        source: serde_json::Error,
    },
    /// The record has another version.
    #[error(
        "{path} has schema {schema}, this loadgen reads {SCHEMA}: use the version that wrote it"
    )]
    Schema {
        /// The path of the file.
        path: PathBuf,
        /// The version of the record.
        schema: u32,
    },
}

/// A name in the form of a file name: `adds, flood` becomes `adds-flood`.
pub(crate) fn slug(name: &str) -> String {
    let words = name.split(|c: char| !c.is_ascii_alphanumeric());
    let words: Vec<_> = words.filter(|word| !word.is_empty()).collect();
    words.join("-").to_ascii_lowercase()
}
