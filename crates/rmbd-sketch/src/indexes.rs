//! Indexes of a key's cells.

use super::{Geometry, MAX_DEPTH};

/// The index of a cell: `row * width + column`. Only a [`Geometry`] makes it ([`Geometry::cell`]), and only from a
/// number below its number of cells. So the index is good in every table of cells of that geometry.
///
/// In a table of another geometry the index may mean another cell, or none; in the latter case the call panics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CellIndex(u32);

impl CellIndex {
    /// The index as a number.
    #[inline]
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl Geometry {
    /// The cell with this index, if there is one.
    #[inline]
    #[must_use]
    pub const fn cell(self, index: u32) -> Option<CellIndex> {
        if (index as usize) < self.cells() {
            Some(CellIndex(index))
        } else {
            None
        }
    }

    /// The cells from `start` on and before `end`, in order. The range ends at the last cell at the latest.
    pub fn cells_between(self, start: usize, end: usize) -> impl Iterator<Item = CellIndex> {
        // An index fits 32 bits, the end of a range may not.
        (start..end.min(self.cells())).map(|index| CellIndex(index as u32))
    }
}

/// The cell indexes of a key in one geometry: `row * width + column` for each row, in the order of the rows.
/// They are good in every table of cells of that geometry. Only hashing makes them
/// ([`HashFamily::cells`](super::HashFamily::cells)).
// The length stands first: in a sketch of usual depth, everything that is read lies together.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct CellIndexes {
    depth: u32,
    indexes: [u32; MAX_DEPTH],
}

impl CellIndexes {
    /// The indexes of no key: an empty value that hashing fills.
    pub const NONE: Self = Self {
        depth: 0,
        indexes: [0; MAX_DEPTH],
    };

    /// The indexes as numbers, one for each row.
    #[inline]
    #[must_use]
    pub fn as_slice(&self) -> &[u32] {
        &self.indexes[..self.depth as usize]
    }

    /// The indexes, one for each row.
    #[inline]
    pub fn iter(&self) -> impl Iterator<Item = CellIndex> + Clone + '_ {
        self.as_slice().iter().map(|&index| CellIndex(index))
    }

    /// Resizes to `depth` indexes, which the caller fills; `depth` is at most [`MAX_DEPTH`].
    #[inline]
    pub(super) fn room(&mut self, depth: usize) -> &mut [u32] {
        self.depth = depth as u32;
        &mut self.indexes[..depth]
    }
}
