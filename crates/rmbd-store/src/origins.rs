//! The part of a legacy peer that all threads read.

use std::net::SocketAddr;
use std::sync::atomic::{
    AtomicBool, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};

use rmbd_sketch::{CellIndexes, MAX_DEPTH};

/// The counts of a legacy peer.
#[derive(Debug)]
pub(super) struct Origin {
    /// The address that the peer's rows come from.
    pub(super) address: SocketAddr,
    /// The cells that readers see. They only grow, until the origin is forgotten.
    pub(super) cells: Box<[AtomicU64]>,
    /// Sum of each row's cells. There is one writer; access is relaxed, since each sum stands for itself.
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

    /// The least row of the peer's cells.
    #[inline]
    pub(super) fn estimate_at(&self, cells: &CellIndexes) -> u64 {
        let rows = cells.as_slice().iter();
        let rows = rows.map(|&cell| self.cells[cell as usize].load(Relaxed));
        rows.fold(u64::MAX, u64::min)
    }

    /// Sum of all weights added to the peer. Every row holds all of them; as rows come one by one, the fullest row is
    /// the latest.
    pub(super) fn weight(&self) -> u64 {
        let rows = self.row_weights.iter().map(|row| row.load(Relaxed));
        rows.fold(0, u64::max)
    }

    /// Whether readers leave the origin out.
    #[inline]
    pub(super) fn is_hidden(&self) -> bool {
        // Acquire pairs with the Release in `show_cleared`: a reader that counts the origin again sees its cells
        // cleared.
        self.is_hidden.load(Acquire)
    }

    /// Takes the origin out of the answers. A reader that is in the middle of it still counts it.
    pub(super) fn hide(&self) {
        self.is_hidden.store(true, Relaxed);
    }

    /// Clears the cells and puts the origin back. A reader that was in the middle of it since before it was hidden may
    /// see the cells fall; it could as well have seen none of them.
    pub(super) fn show_cleared(&self) {
        // Zeros are not written, so that a page that was never written stays untouched.
        for cell in self.cells.iter().filter(|cell| cell.load(Relaxed) != 0) {
            cell.store(0, Relaxed);
        }
        for weight in self.row_weights.iter() {
            weight.store(0, Relaxed);
        }
        self.is_hidden.store(false, Release);
    }
}
