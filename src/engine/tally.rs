//! What a session has done.

/// One session's own counters; they only ever grow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Keys added.
    pub add: u64,
    /// Keys counted.
    pub count: u64,
    /// Keys added and counted.
    pub hit: u64,
    /// Keys counted with bounds.
    pub bounds: u64,
    /// Questions what this engine is.
    pub info: u64,
    /// Requests that had been applied before.
    pub repeats: u64,
}
