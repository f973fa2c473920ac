//! Cells as somebody else has sent them, made fit to be merged.

use crate::wire::cluster::{CELL_MAX, GROUP_CELLS};

use super::refused::SliceRefused;

/// A cell that exists in the slice it is for, and a value that a cell may have. Only [`GivenCells`] makes one, so that
/// whoever merges it need not ask again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct GivenCell {
    index: u32,
    value: u64,
}

impl GivenCell {
    pub(super) fn index(self) -> u32 {
        self.index
    }

    pub(super) fn value(self) -> u64 {
        self.value
    }

    /// The group that it is in.
    #[inline]
    pub(super) fn group(self) -> u32 {
        self.index / GROUP_CELLS as u32
    }

    /// Its position in the group.
    #[inline]
    pub(super) fn offset(self) -> usize {
        self.index as usize % GROUP_CELLS
    }
}

/// Goes through cells as they were sent: those that do not exist are left out and remembered, and a value is
/// [`CELL_MAX`] at most.
#[derive(Debug)]
pub(super) struct GivenCells<I> {
    given: I,
    cells: usize,
    out_of_range: Option<u32>,
}

impl<I: Iterator<Item = (u32, u64)>> GivenCells<I> {
    /// (Index, value) of each, for a slice of so many cells.
    pub(super) fn new(given: I, cells: usize) -> Self {
        Self {
            given,
            cells,
            out_of_range: None,
        }
    }

    /// How many were raised, if all existed that have been gone through.
    ///
    /// # Errors
    /// The first one that did not.
    pub(super) fn outcome(&self, raised: u64) -> Result<u64, SliceRefused> {
        self.out_of_range.map_or(Ok(raised), |index| {
            Err(SliceRefused::IndexRange {
                index,
                cells: self.cells as u64,
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
            if (index as usize) < self.cells {
                let value = value.min(CELL_MAX);
                return Some(GivenCell { index, value });
            }
            self.out_of_range.get_or_insert(index);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_cells_that_exist_are_given_and_the_first_other_one_is_told() {
        let sent = [(0, 5), (130, 1), (129, u64::MAX), (131, 2), (7, 3)];
        let mut given = GivenCells::new(sent.into_iter(), 130);
        let fit: Vec<(u32, u64)> = given
            .by_ref()
            .map(|cell| (cell.index(), cell.value()))
            .collect();
        assert_eq!(fit, [(0, 5), (129, CELL_MAX), (7, 3)]);
        let (index, cells) = (130, 130);
        let refused = SliceRefused::IndexRange { index, cells };
        assert_eq!(given.outcome(3), Err(refused));
        let cell = GivenCell {
            index: 129,
            value: 0,
        };
        assert_eq!((cell.group(), cell.offset()), (1, 1));
    }
}
