//! Where a key's cells are.

use super::MAX_DEPTH;

/// The cell indexes of a key in one geometry: `row * width + column` for each row, in the order of the rows.
/// They are good in every table of cells of that geometry. Only hashing makes them
/// ([`HashFamily::cells`](super::HashFamily::cells)).
// The length first: in a sketch of usual depth all that is read of it lies together.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct CellIndexes {
    depth: u32,
    indexes: [u32; MAX_DEPTH],
}

impl CellIndexes {
    /// Of no key: room that hashing fills.
    pub(crate) const NONE: Self = Self {
        depth: 0,
        indexes: [0; MAX_DEPTH],
    };

    /// One for each row.
    #[inline]
    #[must_use]
    pub fn as_slice(&self) -> &[u32] {
        &self.indexes[..self.depth as usize]
    }

    /// Room for those of a key in a geometry of that depth, which is at most [`MAX_DEPTH`].
    #[inline]
    pub(super) fn room(&mut self, depth: usize) -> &mut [u32] {
        self.depth = depth as u32;
        &mut self.indexes[..depth]
    }
}
