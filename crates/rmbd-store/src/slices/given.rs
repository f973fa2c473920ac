//! Cells that another node has sent, checked before they are merged.

use rmbd_proto::cluster::{CELL_MAX, GROUP_CELLS};
use rmbd_sketch::{CellIndex, Geometry};

use super::refused::SliceRefused;

/// A cell that exists in the slice it is for, and a value that a cell may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct GivenCell {
    cell: CellIndex,
    value: u64,
}

impl GivenCell {
    pub(super) fn cell(self) -> CellIndex {
        self.cell
    }

    pub(super) fn value(self) -> u64 {
        self.value
    }

    /// The number of the group that the cell is in.
    #[inline]
    pub(super) fn group(self) -> u32 {
        self.cell.get() / GROUP_CELLS as u32
    }

    /// The cell's position in the group.
    #[inline]
    pub(super) fn offset(self) -> usize {
        self.cell.get() as usize % GROUP_CELLS
    }
}

/// Goes through cells as they were sent. Cells that do not exist are left out and remembered, and values above
/// [`CELL_MAX`] become [`CELL_MAX`].
#[derive(Debug)]
pub(super) struct GivenCells<I> {
    given: I,
    geometry: Geometry,
    out_of_range: Option<u32>,
}

impl<I: Iterator<Item = (u32, u64)>> GivenCells<I> {
    /// Checks pairs of (index, value) for a slice of this geometry.
    pub(super) fn new(given: I, geometry: Geometry) -> Self {
        Self {
            given,
            geometry,
            out_of_range: None,
        }
    }

    /// Returns `raised` if all cells that were gone through exist.
    ///
    /// # Errors
    /// Fails with the first cell that does not exist.
    pub(super) fn outcome(&self, raised: u64) -> Result<u64, SliceRefused> {
        self.out_of_range.map_or(Ok(raised), |index| {
            Err(SliceRefused::IndexRange {
                index,
                cells: self.geometry.cells() as u64,
            })
        })
    }
}

impl<I: Iterator<Item = (u32, u64)>> Iterator for GivenCells<I> {
    type Item = GivenCell;

    #[inline]
    fn next(&mut self) -> Option<GivenCell> {
        loop {
            let (index, value) = self.given.next()?;
            if let Some(cell) = self.geometry.cell(index) {
                let value = value.min(CELL_MAX);
                return Some(GivenCell { cell, value });
            }
            self.out_of_range.get_or_insert(index);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn only_cells_that_exist_are_given_and_the_first_other_one_is_told() {
        let sent = [(0, 5), (272, 1), (271, u64::MAX), (273, 2), (7, 3)];
        let geometry = Geometry::new(272, 1).unwrap();
        let mut given = GivenCells::new(sent.into_iter(), geometry);
        let fit: Vec<GivenCell> = given.by_ref().collect();
        let told: Vec<_> = fit.iter().map(|it| (it.cell().get(), it.value())).collect();
        assert_eq!(told, [(0, 5), (271, CELL_MAX), (7, 3)]);
        assert_eq!((fit[1].group(), fit[1].offset()), (2, 15));
        let (index, cells) = (272, 272);
        let refused = SliceRefused::IndexRange { index, cells };
        assert_eq!(given.outcome(3), Err(refused));
    }
}
