//! Why a file is not believed.

use std::io;

use rmbd_proto::snapshot_file::{BlockError, FORMAT, MalformedBlock};

/// Why nothing of a file is taken. What was in memory is as before, where it says nothing else.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotFileError {
    /// The file cannot be read.
    #[error("it can't be read: {0}")]
    Io(#[from] io::Error),
    /// It does not begin like a snapshot file, or a mark of a clean end.
    #[error("it is no such file: its first bytes are others")]
    Magic,
    /// It ends before its end.
    #[error("it is cut off after {bytes} bytes")]
    CutOff {
        /// Bytes that are there.
        bytes: u64,
    },
    /// A block is not believed.
    #[error("at byte {at}: {source}")]
    Block {
        /// Where the block begins.
        at: u64,
        /// What is wrong.
        source: BlockError,
    },
    /// The content of a block is not what its kind says, or it stands where it may not.
    #[error("at byte {at}: {MalformedBlock}, or it is in a wrong place")]
    Malformed {
        /// Where the block begins.
        at: u64,
    },
    /// It goes on behind its end.
    #[error("it goes on behind its end, from byte {at} on")]
    Rest {
        /// Where it should end.
        at: u64,
    },
    /// A later release wrote it.
    #[error(
        "it has format {0}, and this release knows formats until {FORMAT}: start a later release"
    )]
    LaterFormat(u16),
    /// Another node wrote it.
    #[error("it is of node {0:016x}: restore it to that node's folder")]
    OtherNode(u64),
    /// The node has no memory for its own slice, of which nothing is taken. The rest may have been taken.
    #[error("there is no memory for what it holds: {0}; raise --max-memory")]
    NoMemory(String),
}

impl SnapshotFileError {
    /// The reason in a word or two that a file's name may have.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Io(_) => "unreadable",
            Self::Magic => "other-file",
            Self::CutOff { .. } => "cut-off",
            Self::Block {
                source: BlockError::LaterKind(_),
                ..
            }
            | Self::LaterFormat(_) => "later-format",
            Self::Block { .. } | Self::Malformed { .. } | Self::Rest { .. } => "damaged",
            Self::OtherNode(_) => "other-node",
            Self::NoMemory(_) => "no-memory",
        }
    }
}
