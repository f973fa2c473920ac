//! Slices that are not held for want of room, and the reasons.

use std::collections::BTreeMap;

use crate::memory::MemoryLimit;
use rmbd_proto::cluster::SliceId;
use rmbd_sketch::SketchError;

/// Number of refused slices that are remembered. When there are so many, every other slice that is not held counts as
/// refused, too.
pub const REFUSED_MAX: usize = 1024;

/// Why a slice was not merged. Unless a variant says otherwise, nothing was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SliceRefused {
    /// The slice is the one that this node writes itself.
    #[error(
        "somebody sent cells of this node's own live slice, they were dropped: only the node itself writes it; do two nodes run with copies of one data directory?"
    )]
    OwnSlice,
    /// As many slices are known as are allowed.
    #[error("a new slice was not taken, {max} are known already")]
    TooManyOrigins {
        /// The largest number of slices.
        max: usize,
    },
    /// The cells of all slices together would take more memory than the limit.
    #[error(
        "a new slice was not taken, all cells together would need {needed_bytes} bytes and may take {max_bytes}"
    )]
    Memory {
        /// Bytes that all cells would take.
        needed_bytes: u64,
        /// The limit in bytes.
        max_bytes: u64,
    },
    /// The allocator refused.
    #[error("a new slice was not taken: {0}")]
    OutOfMemory(#[from] SketchError),
    /// The slice belongs to another sketch.
    #[error("a slice of another sketch was not taken: this node does not have that sketch")]
    Unsupported,
    /// A cell does not exist here. The cells that do were merged.
    #[error(
        "cell {index} was dropped, a slice has {cells} cells here; those that fit were taken: give all nodes the same width and depth"
    )]
    IndexRange {
        /// The index of the first such cell.
        index: u32,
        /// Number of cells of a slice here.
        cells: u64,
    },
}

impl From<MemoryLimit> for SliceRefused {
    fn from(limit: MemoryLimit) -> Self {
        Self::Memory {
            needed_bytes: limit.needed_bytes,
            max_bytes: limit.max_bytes,
        }
    }
}

/// Slices that exist on other nodes, and are missing here or incomplete, for want of room.
#[derive(Debug, Default)]
pub(super) struct RefusedSlices {
    slices: BTreeMap<SliceId, Lack>,
    /// Number of slices for which there is no room now.
    lasting: usize,
    /// Bytes that all cells took when a slice was last refused for the memory that it would have taken.
    full_at_bytes: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lack {
    /// There will never be room in this start of the node.
    ForGood,
    /// There was no memory.
    Memory,
    /// There was no memory, and there is some now: the slice is to be sent from the beginning.
    Wanted,
}

/// Share of the memory, as 1 in so many, that has to become free before refused slices are asked for again. So a few
/// bytes that come and go do not make a large slice come and go.
const ROOM_SHARE: u64 = 64;

impl RefusedSlices {
    pub(super) fn note(&mut self, slice: SliceId, why: SliceRefused, taken_bytes: u64) {
        let lack = match why {
            SliceRefused::TooManyOrigins { .. } | SliceRefused::Unsupported => Lack::ForGood,
            SliceRefused::Memory { .. } | SliceRefused::OutOfMemory(_) => Lack::Memory,
            SliceRefused::OwnSlice | SliceRefused::IndexRange { .. } => return,
        };
        if lack == Lack::Memory {
            self.full_at_bytes = Some(taken_bytes);
        }
        if self.make_place(&slice) {
            self.forget(&slice);
            self.slices.insert(slice, lack);
            self.lasting += 1;
        }
    }

    /// Marks slices that were refused for want of memory as wanted again, if memory has become free since the last of
    /// them was refused. Returns whether there are any.
    pub(super) fn retry(&mut self, taken_bytes: u64, max_bytes: u64) -> bool {
        let room = max_bytes / ROOM_SHARE;
        let has_room = |full: u64| taken_bytes.saturating_add(room) <= full;
        if !self.full_at_bytes.is_some_and(has_room) {
            return false;
        }
        self.full_at_bytes = None;
        let refused = self.slices.values_mut();
        let mut has_any = false;
        for lack in refused.filter(|lack| **lack == Lack::Memory) {
            *lack = Lack::Wanted;
            self.lasting -= 1;
            has_any = true;
        }
        has_any
    }

    /// Notes that there is room for a slice after all: it is to be sent from the beginning.
    pub(super) fn found_room(&mut self, slice: &SliceId) {
        if let Some(lack) = self.slices.get_mut(slice).filter(|lack| lack.is_lasting()) {
            *lack = Lack::Wanted;
            self.lasting -= 1;
        }
    }

    /// Forgets a slice that is here now.
    pub(super) fn forget(&mut self, slice: &SliceId) {
        if self.slices.remove(slice).is_some_and(Lack::is_lasting) {
            self.lasting -= 1;
        }
    }

    /// Whether the slice need not be sent.
    pub(super) fn contains(&self, slice: &SliceId) -> bool {
        self.slices.get(slice).is_some_and(|lack| lack.is_lasting())
    }

    /// Whether the slice is not here as a whole.
    pub(super) fn lacks(&self, slice: &SliceId) -> bool {
        self.slices.contains_key(slice)
    }

    pub(super) fn wanted(&self) -> impl Iterator<Item = SliceId> + '_ {
        let wanted = self
            .slices
            .iter()
            .filter(|(_, lack)| **lack == Lack::Wanted);
        wanted.map(|(&slice, _)| slice)
    }

    /// All slices that are not here as a whole, ascending.
    pub(super) fn all(&self) -> impl Iterator<Item = SliceId> + '_ {
        self.slices.keys().copied()
    }

    pub(super) fn len(&self) -> usize {
        self.slices.len()
    }

    pub(super) fn is_full(&self) -> bool {
        self.lasting >= REFUSED_MAX
    }

    /// Whether there is a place to remember this slice. A slice that is only wanted gives way, since others will tell
    /// of it again.
    fn make_place(&mut self, slice: &SliceId) -> bool {
        if self.slices.len() < REFUSED_MAX || self.slices.contains_key(slice) {
            return true;
        }
        let wanted = self.wanted().next();
        if let Some(wanted) = wanted {
            self.slices.remove(&wanted);
        }
        wanted.is_some()
    }
}

impl Lack {
    fn is_lasting(self) -> bool {
        self != Self::Wanted
    }
}
