//! Allocation of zeroed cells.

use std::ops::Deref;

use bytemuck::Zeroable;

use super::atomic::AtomicU32;
use super::{Geometry, SketchError};

/// Bytes of a cache line, of almost all processors.
const LINE_BYTES: usize = 64;
const LINE_CELLS: usize = LINE_BYTES / size_of::<AtomicU32>();

/// Cells that begin with a cache line, so that neighbours which are read together lie in one: eight pairs are a line.
/// Allocators put large memory a few bytes behind the beginning of a page.
#[derive(Debug)]
pub(super) struct LineAligned {
    /// The cells, and before them as many as lie before the line.
    all: Vec<AtomicU32>,
    first: usize,
}

impl LineAligned {
    /// Zeroed cells; the system gives the pages when they are first written.
    pub(super) fn try_zeroed(len: usize) -> Result<Self, SketchError> {
        let mut all = try_zeroed_cells::<AtomicU32>(len + LINE_CELLS - 1)?.into_vec();
        let start = all.as_ptr().addr();
        let first = (start.next_multiple_of(LINE_BYTES) - start) / size_of::<AtomicU32>();
        all.truncate(first + len);
        Ok(Self { all, first })
    }
}

impl Deref for LineAligned {
    type Target = [AtomicU32];

    #[inline(always)]
    fn deref(&self) -> &[AtomicU32] {
        &self.all[self.first..]
    }
}

/// Zeroed cells for a geometry; the system gives the pages when they are first written.
pub(super) fn try_zeroed<C: Zeroable>(geometry: Geometry) -> Result<Box<[C]>, SketchError> {
    try_zeroed_cells(geometry.cells())
}

pub(super) fn try_zeroed_cells<C: Zeroable>(cells: usize) -> Result<Box<[C]>, SketchError> {
    let bytes = (cells as u64).saturating_mul(size_of::<C>() as u64);
    bytemuck::allocation::try_zeroed_slice_box(cells)
        .map_err(|()| SketchError::OutOfMemory { bytes })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn cells_begin_with_a_line_and_there_are_as_many_as_were_asked_for() {
        for len in [0, 1, 15, 16, 17, 1 << 20] {
            let cells = LineAligned::try_zeroed(len).unwrap();
            assert_eq!(cells.len(), len);
            assert!(len == 0 || cells.as_ptr().addr().is_multiple_of(LINE_BYTES));
        }
    }
}
