//! A look at a slice's cells.

use std::sync::atomic::AtomicU32;

use crate::sketch::value;

/// The cells of a slice: of our own as they were published, of a learnt one as they are now.
#[derive(Debug, Clone, Copy)]
pub struct CellsRef<'a>(Source<'a>);

#[derive(Debug, Clone, Copy)]
enum Source<'a> {
    Published(&'a [u32]),
    Learnt(&'a [AtomicU32]),
    /// So many, all 0.
    Empty(usize),
}

impl<'a> CellsRef<'a> {
    pub(super) fn published(cells: &'a [u32]) -> Self {
        Self(Source::Published(cells))
    }

    pub(super) fn learnt(cells: &'a [AtomicU32]) -> Self {
        Self(Source::Learnt(cells))
    }

    pub(super) fn empty(cells: usize) -> Self {
        Self(Source::Empty(cells))
    }

    /// What a cell counts; [`u32::MAX`] where it is full, 0 where there is no such cell.
    #[inline]
    #[must_use]
    pub fn get(self, index: u32) -> u32 {
        let index = index as usize;
        match self.0 {
            Source::Published(cells) => cells.get(index).copied().unwrap_or_default(),
            Source::Learnt(cells) => cells.get(index).map(value).unwrap_or_default(),
            Source::Empty(_) => 0,
        }
    }

    /// How many cells there are.
    #[must_use]
    pub fn len(self) -> usize {
        match self.0 {
            Source::Published(cells) => cells.len(),
            Source::Learnt(cells) => cells.len(),
            Source::Empty(cells) => cells,
        }
    }

    /// Never: a sketch has cells. What counts nothing has cells that are 0.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }
}
