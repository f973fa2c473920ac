//! Snapshot files: all that a node has counted or learnt, kept in `--data-dir` from one start to the next.
//!
//! ```text
//!  HTTP: now ──> desk <── the node's end
//!                  │
//!      rmbd-snapshots, a thread of its own: passes, pieces of the file, pauses
//!                  │ locks for a piece           │ step by step
//!            slices (cluster, or alone)         disk: io_uring, or plain files
//! ```
//!
//! What is in a file, and in which order it goes to the disk, says the crate `rmbd-snapshot`; here a thread does it.
//! Nobody waits for the disk but this thread, and whoever asked for a file. A disk that hangs at the end is left behind
//! with the thread.

mod clocks;
mod desk;
mod disk;
mod error;
mod found;
mod source;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod thread;
mod writing;

pub(crate) use self::desk::{LastFile, Ordered, SnapshotDesk};
pub(crate) use self::disk::DiskChoice;
pub use self::error::SnapshotFileFailure;
pub(crate) use self::found::{Found, look};
pub(crate) use self::source::Source;
pub(crate) use self::thread::{KnownFile, SnapshotThread};
