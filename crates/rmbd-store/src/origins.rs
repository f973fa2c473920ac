//! The part of a legacy peer that readers see.

use std::net::SocketAddr;
use std::sync::atomic::{
    AtomicBool, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};

use rmbd_sketch::{CellIndexes, MAX_DEPTH};

/// A legacy peer's slice.
#[derive(Debug)]
pub(super) struct Origin {
    /// Who sends it.
    pub(super) address: SocketAddr,
    /// What readers see; cells only grow, until the origin is forgotten.
    pub(super) cells: Box<[AtomicU64]>,
    /// Sum of each row's cells. One writer; relaxed, since each is a number of its own.
    pub(super) row_weights: Box<[AtomicU64; MAX_DEPTH]>,
    is_hidden: AtomicBool,
}

impl Origin {
    pub(super) fn new(address: SocketAddr, cells: Box<[AtomicU64]>) -> Self {
        Self {
            address,
            cells,
            row_weights: Box::default(),
            is_hidden: AtomicBool::new(false),
        }
    }

    /// Its least row.
    #[inline]
    pub(super) fn estimate_at(&self, cells: &CellIndexes) -> u64 {
        let rows = cells.as_slice().iter();
        let rows = rows.map(|&cell| self.cells[cell as usize].load(Relaxed));
        rows.fold(u64::MAX, u64::min)
    }

    /// All that was added to it. Every row holds all of it; as rows come one by one, the one that has
    /// most is the latest.
    pub(super) fn weight(&self) -> u64 {
        let rows = self.row_weights.iter().map(|row| row.load(Relaxed));
        rows.fold(0, u64::max)
    }

    /// Readers leave it out.
    #[inline]
    pub(super) fn is_hidden(&self) -> bool {
        // Acquire, against the Release in `show`: who counts it again sees its cells cleared.
        self.is_hidden.load(Acquire)
    }

    /// Takes it out of the answers. A reader that is in the middle of it still counts it.
    pub(super) fn hide(&self) {
        self.is_hidden.store(true, Relaxed);
    }

    /// Clears it and puts it back. A reader that has been in the middle of it since before it was
    /// hidden may see it go; it may see it gone just as well.
    pub(super) fn show_cleared(&self) {
        // A page that was never written stays untaken.
        for cell in self.cells.iter().filter(|cell| cell.load(Relaxed) != 0) {
            cell.store(0, Relaxed);
        }
        for weight in self.row_weights.iter() {
            weight.store(0, Relaxed);
        }
        self.is_hidden.store(false, Release);
    }
}
