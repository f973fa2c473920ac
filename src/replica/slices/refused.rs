//! Why a slice is not held, and which are not.

use std::collections::BTreeSet;

use crate::replica::memory::LimitReached;
use crate::sketch::SketchError;
use crate::wire::cluster::SliceId;

/// Refused slices that are remembered. When there are so many, others that are not held count as
/// refused without being remembered.
pub const REFUSED_MAX: usize = 1024;

/// Why a slice was not merged. Unless it says otherwise, nothing was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SliceRefused {
    /// It is what this node writes itself.
    #[error(
        "somebody sent cells of this node's own live slice, they were dropped: only the node itself writes it; do two nodes run with copies of one data directory?"
    )]
    OwnSlice,
    /// As many slices as are allowed are known.
    #[error("a new slice was not taken, {max} are known already: raise --max-origins, and restart")]
    TooManyOrigins {
        /// The limit.
        max: usize,
    },
    /// All cells together would be above the limit.
    #[error(
        "a new slice was not taken, all cells together would need {needed_bytes} bytes and may take {max_bytes}: raise --max-memory, and restart"
    )]
    Memory {
        /// What there would be in all.
        needed_bytes: u64,
        /// The limit.
        max_bytes: u64,
    },
    /// The allocator refused.
    #[error("a new slice was not taken: {0}")]
    OutOfMemory(#[from] SketchError),
    /// It belongs to another sketch.
    #[error("a slice of another sketch was not taken: this node does not have that sketch")]
    Unsupported,
    /// Some cell does not exist. Those that do were merged.
    #[error(
        "cell {index} was dropped, a slice has {cells} cells here; those that fit were taken: give all nodes the same width and depth"
    )]
    IndexRange {
        /// The first such index.
        index: u32,
        /// Cells of a slice.
        cells: u64,
    },
}

impl SliceRefused {
    /// Whether it would be the same again.
    fn is_lasting(self) -> bool {
        match self {
            Self::TooManyOrigins { .. }
            | Self::Memory { .. }
            | Self::OutOfMemory(_)
            | Self::Unsupported => true,
            Self::OwnSlice | Self::IndexRange { .. } => false,
        }
    }
}

impl From<LimitReached> for SliceRefused {
    fn from(limit: LimitReached) -> Self {
        Self::Memory {
            needed_bytes: limit.needed_bytes,
            max_bytes: limit.max_bytes,
        }
    }
}

/// Slices that exist elsewhere, and for which there is no room here.
#[derive(Debug, Default)]
pub(super) struct Refused(BTreeSet<SliceId>);

impl Refused {
    pub(super) fn note(&mut self, slice: SliceId, why: SliceRefused) {
        if why.is_lasting() && !self.is_full() {
            self.0.insert(slice);
        }
    }

    pub(super) fn forget(&mut self, slice: &SliceId) {
        self.0.remove(slice);
    }

    pub(super) fn contains(&self, slice: &SliceId) -> bool {
        self.0.contains(slice)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn is_full(&self) -> bool {
        self.0.len() >= REFUSED_MAX
    }
}
