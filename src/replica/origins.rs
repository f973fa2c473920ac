//! The table of those whose slices we hold: append-only, read without a lock.

use std::net::SocketAddr;
use std::sync::OnceLock;
use std::sync::atomic::{
    AtomicU32, AtomicU64, AtomicUsize,
    Ordering::{Acquire, Relaxed, Release},
};

use crate::sketch::{MAX_DEPTH, SketchError};

/// Somebody else's slice.
#[derive(Debug)]
pub(super) struct Origin {
    /// Who sends it.
    pub(super) address: SocketAddr,
    /// What readers see; cells only grow.
    pub(super) cells: Box<[AtomicU32]>,
    /// Sum of each row's cells. One writer; relaxed, since each is a number of its own.
    pub(super) row_weights: Box<[AtomicU64; MAX_DEPTH]>,
}

impl Origin {
    pub(super) fn new(address: SocketAddr, cells: Box<[AtomicU32]>) -> Self {
        Self {
            address,
            cells,
            row_weights: Box::default(),
        }
    }

    /// All that was added to it. Every row holds all of it; as rows come one by one, the one that has
    /// most is the latest.
    pub(super) fn weight(&self) -> u64 {
        let rows = self.row_weights.iter().map(|row| row.load(Relaxed));
        rows.fold(0, u64::max)
    }
}

/// A table of a fixed number of places that fills from the front and never empties.
#[derive(Debug)]
pub(super) struct Origins {
    places: Box<[OnceLock<Origin>]>,
    len: AtomicUsize,
}

impl Origins {
    pub(super) fn try_new(max: usize) -> Result<Self, SketchError> {
        let mut places = Vec::new();
        places
            .try_reserve_exact(max)
            .map_err(|_| SketchError::OutOfMemory {
                bytes: (max as u64).saturating_mul(size_of::<OnceLock<Origin>>() as u64),
            })?;
        places.resize_with(max, OnceLock::new);
        Ok(Self {
            places: places.into_boxed_slice(),
            len: AtomicUsize::new(0),
        })
    }

    pub(super) fn max(&self) -> usize {
        self.places.len()
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        // Acquire, against the Release in `push`: who sees `len` sees the places before it filled.
        self.len.load(Acquire)
    }

    /// All origins so far. Does not lock, allocate or wait.
    #[inline]
    pub(super) fn iter(&self) -> impl Iterator<Item = &Origin> {
        self.places[..self.len()].iter().filter_map(OnceLock::get)
    }

    pub(super) fn get(&self, place: usize) -> Option<&Origin> {
        self.places.get(place).and_then(OnceLock::get)
    }

    /// Appends, and says at which place; gives the origin back where the table is full.
    pub(super) fn push(&self, mut origin: Origin) -> Result<usize, Origin> {
        // Control thread only, in practice; but a place is taken by `set`, not by `len`, so that even
        // two writers would take two places.
        for place in self.len()..self.max() {
            match self.places[place].set(origin) {
                Ok(()) => {
                    // Release: the place was filled before. `max`, since another writer may have
                    // published a later place; the places up to that one were filled before it.
                    self.len.fetch_max(place + 1, Release);
                    return Ok(place);
                }
                Err(back) => origin = back,
            }
        }
        Err(origin)
    }
}
