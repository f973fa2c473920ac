//! The snapshot files of a node, as a status shows them.

use serde::{Deserialize, Serialize};

/// What a node keeps in its folder of all that it has counted and learnt.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SnapshotFilesStatus {
    /// Whether there is a folder (`--data-dir`).
    pub enabled: bool,
    /// Path of the folder.
    pub folder: Option<String>,
    /// Milliseconds between two files; 0 means only at the end.
    pub interval_ms: u64,
    /// Seconds since all that was counted was in the file; what came later is only in memory, and on other nodes.
    /// `None` where no file was loaded or written yet.
    pub age_s: Option<f64>,
    /// Whether that is more than three intervals.
    pub overdue: bool,
    /// Whether one is being written.
    pub writing: bool,
    /// Number of the last order (`POST /snapshot`) that was carried out, well or not.
    pub orders_done: u64,
    /// The last file that this start has written.
    pub last: Option<LastSnapshotFile>,
    /// Number of files that this start has written.
    pub written: u64,
    /// Number of times that nothing was written, since nothing was new.
    pub unchanged: u64,
    /// Number of times that writing failed.
    pub failures: u64,
    /// The failure in words, until a file is written again.
    pub failure: Option<String>,
    /// What this start has taken over; `None` if there was no file that could be used.
    pub loaded: Option<LoadedSnapshotFile>,
    /// Files that could not be used, as far as they are kept.
    pub set_aside: Vec<SetAsideFile>,
}

/// A file that was written.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct LastSnapshotFile {
    /// Seconds since it was begun.
    pub age_s: f64,
    /// Its size in bytes.
    pub bytes: u64,
    /// Number of slices in it.
    pub slices: u64,
    /// Seconds that it took.
    pub duration_s: f64,
}

/// A file that was taken over.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct LoadedSnapshotFile {
    /// Seconds from its writing to its loading.
    pub age_s: f64,
    /// Number of slices in it.
    pub slices: u64,
    /// Sum of all weights in it.
    pub weight: u64,
    /// Whether the node has gone on as the same writer, after a clean end.
    #[serde(rename = "resumed")]
    pub is_resumed: bool,
    /// Number of slices that were left out, or not taken as a whole, for want of room.
    #[serde(default)]
    pub refused: u64,
    /// Sketches that were left out, and why.
    pub skipped: Vec<String>,
}

/// A file that could not be used.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetAsideFile {
    /// Its name now, which says when and why; `None` if it could not be renamed.
    pub file: Option<String>,
    /// The reason in words, if this start has set it aside.
    pub reason: Option<String>,
}

/// What became of an order to write a file (`POST /snapshot`).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SnapshotOrder {
    /// Why there is none. The one before stands.
    pub failure: Option<String>,
    /// Whether all that was counted was in the file already, so that none was written.
    pub nothing_new: bool,
    /// Size of the file in bytes; 0 if it is not known.
    pub bytes: u64,
    /// Seconds that it took.
    pub duration_s: f64,
}

/// An order to write a file that is still being carried out: the answer with code 202.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingSnapshotOrder {
    /// Its number, for [`SnapshotFilesStatus::orders_done`].
    pub order: u64,
}
