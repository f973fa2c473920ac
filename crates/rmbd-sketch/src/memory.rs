//! Allocation of zeroed cells.

use bytemuck::Zeroable;

use super::{Geometry, SketchError};

/// Zeroed cells for a geometry; the system gives the pages when they are first written.
pub(super) fn try_zeroed<C: Zeroable>(geometry: Geometry) -> Result<Box<[C]>, SketchError> {
    try_zeroed_cells(geometry.cells())
}

pub(super) fn try_zeroed_cells<C: Zeroable>(cells: usize) -> Result<Box<[C]>, SketchError> {
    let bytes = (cells as u64).saturating_mul(size_of::<C>() as u64);
    bytemuck::allocation::try_zeroed_slice_box(cells)
        .map_err(|()| SketchError::OutOfMemory { bytes })
}
