//! Why a snapshot file was not written.

use std::io;
use std::path::PathBuf;

/// Why a snapshot file was not written. The one before stands, and the next is tried when its time comes.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotFileFailure {
    /// The disk refused something.
    #[error("{what} in {} fails: {source}", folder.display())]
    Disk {
        /// What was tried.
        what: &'static str,
        /// The folder of the files.
        folder: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The folder was moved or removed, and another one may be in its place.
    #[error(
        "{} is not the folder any more that this node has locked: restart the node to use what is there now",
        folder.display()
    )]
    Moved {
        /// The path of the folder.
        folder: PathBuf,
    },
    /// The system gave no random number for the file's name.
    #[error("the system gives no random number: {0}")]
    Random(io::Error),
    /// The disk has not done in time what it was asked for.
    #[error("the disk of {} does not answer", folder.display())]
    Hangs {
        /// The folder of the files.
        folder: PathBuf,
    },
    /// A part of the node has panicked while it changed what is counted.
    #[error("a fault of this program may have left what is counted half-changed")]
    HalfChanged,
    /// The node ends, or the thread that writes files has.
    #[error("the node ends")]
    Ending,
}

impl SnapshotFileFailure {
    /// Whether the log need not tell this one after that one.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        use std::mem::discriminant;
        match (self, other) {
            (Self::Disk { source, .. }, Self::Disk { source: other, .. }) => {
                (source.kind(), source.raw_os_error()) == (other.kind(), other.raw_os_error())
            }
            _ => discriminant(self) == discriminant(other),
        }
    }
}
