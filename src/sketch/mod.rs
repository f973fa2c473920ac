//! The count-min sketch: how often did each key happen, approximately, in fixed memory.
//!
//! # The idea
//!
//! Cormode & Muthukrishnan, "An improved data stream summary: the count-min sketch and its
//! applications", Journal of Algorithms 55 (2005). `depth` rows of `width` counters ("cells"). Each
//! row has a hash function of its own. An add increments one cell in every row; a count reads the
//! same cells and takes the least of them. Other keys that share a cell make it too large, never
//! too small, and the least of several rows is the one with the fewest strangers in it.
//!
//! ```text
//!            column 0                                   width - 1
//!            +----+----+----+----+----+----+----+----+----+
//!    row 0   |    |    | +1 |    |    |    |    |    |    |    hash_0(key) = 2
//!            +----+----+----+----+----+----+----+----+----+
//!    row 1   |    |    |    |    |    |    | +1 |    |    |    hash_1(key) = 6
//!            +----+----+----+----+----+----+----+----+----+
//!    row 2   | +1 |    |    |    |    |    |    |    |    |    hash_2(key) = 0
//!            +----+----+----+----+----+----+----+----+----+
//!
//!    in memory: one slice, row after row; cell index = row * width + column
//! ```
//!
//! With N the sum of all weights added, the estimate of a key is never below the truth, and exceeds
//! it by more than epsilon * N with a probability of at most delta:
//! epsilon = e / width, delta = e^-depth. [`Geometry`] converts both ways.
//!
//! # What is particular here
//!
//! - **Shared by all threads.** Cells are `AtomicU32` and every access to them is relaxed: a cell is a
//!   number of its own, no other memory is published through it, and cells only grow, so a reader that
//!   sees some rows before and some after an add still sees an upper bound of what was complete before.
//!   Only the total of all weights says more: whoever sees a weight in it sees the cells that it went to.
//! - **Cells end, they do not wrap.** A cell that reaches [`SATURATES_AT`] (3 221 225 472) is full:
//!   it counts as [`u32::MAX`], nothing is added to it any more, and an answer that rests on such
//!   cells alone is flagged ([`Estimate::saturated`]).
//! - **Hash once.** [`HashFamily`] makes all rows' columns from one pass over the key; the
//!   [`CellIndexes`] can be looked up in several slices of the same geometry, prefetched, and used later.
//! - **Memory is taken from the system zeroed and lazily**: a page that no key has touched costs
//!   nothing.

mod cell;
mod estimate;
mod geometry;
mod hash;
mod indexes;
mod prefetch;
mod weight;

use std::sync::atomic::{
    AtomicU32, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};

use bytemuck::Zeroable;
use crossbeam_utils::CachePadded;

pub(crate) use cell::value;
pub use cell::{MAX_WRITERS, SATURATES_AT};
pub use estimate::Estimate;
pub(crate) use estimate::least_row;
pub use geometry::{Geometry, GeometryError, MAX_CELLS, MAX_DEPTH};
pub use hash::HashFamily;
pub(crate) use hash::KeyHash;
pub use indexes::CellIndexes;
pub use weight::{MAX_WEIGHT, Weight, WeightError};

/// Why a sketch could not be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SketchError {
    /// The allocator refused.
    #[error(
        "no memory for a sketch of {bytes} bytes, nothing was allocated: choose a smaller width or depth, or raise the process's memory limit"
    )]
    OutOfMemory {
        /// What was asked for.
        bytes: u64,
    },
}

/// A count-min sketch that many threads may update and query at once.
///
/// ```
/// use rmbd::sketch::{Geometry, HashFamily, Sketch, Weight};
///
/// let sketch = Sketch::try_new(Geometry::new(1024, 4)?, HashFamily::Xxh3 { seed: 7 })?;
/// sketch.add(b"key", Weight::new(3)?);
/// assert_eq!(sketch.estimate(b"key").count, 3);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Sketch {
    geometry: Geometry,
    family: HashFamily,
    cells: Vec<AtomicU32>,
    // Each on a cache line of its own: all threads write the first, and the lines next to it hold
    // what every add reads.
    total_weight: CachePadded<AtomicU64>,
    saturated_cells: CachePadded<AtomicU64>,
}

impl Sketch {
    /// An empty sketch. Its memory is reserved here and taken page by page as keys touch it.
    ///
    /// # Errors
    ///
    /// [`SketchError::OutOfMemory`] where the allocator refuses. That it agrees does not mean that
    /// the machine has the memory: systems overcommit.
    pub fn try_new(geometry: Geometry, family: HashFamily) -> Result<Self, SketchError> {
        Ok(Self {
            geometry,
            family,
            cells: try_zeroed(geometry)?.into_vec(),
            total_weight: CachePadded::default(),
            saturated_cells: CachePadded::default(),
        })
    }

    /// Adds `weight` to `key`. A weight of 0 changes nothing.
    #[inline]
    pub fn add(&self, key: &[u8], weight: Weight) {
        self.add_at(&self.cells_of(key), weight);
        self.add_total_weight(weight.into());
    }

    /// An upper bound of the weight that was added to `key` so far.
    #[inline]
    #[must_use]
    pub fn estimate(&self, key: &[u8]) -> Estimate {
        self.estimate_at(&self.cells_of(key))
    }

    /// N: the sum of all weights added. What threads add in batches shows when the batch is done.
    /// Whoever sees a weight in it sees the cells that it went to.
    #[must_use]
    pub fn total_weight(&self) -> u64 {
        // Acquire: see `add_total_weight`.
        self.total_weight.load(Acquire)
    }

    /// How many cells have reached their end and stay there.
    #[must_use]
    pub fn saturated_cells(&self) -> u64 {
        self.saturated_cells.load(Relaxed)
    }

    /// Width and depth.
    #[must_use]
    pub fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// How keys become columns.
    #[must_use]
    pub fn family(&self) -> HashFamily {
        self.family
    }

    /// The `width` cells of a row; empty where there is no such row.
    #[must_use]
    pub fn row(&self, row: usize) -> &[AtomicU32] {
        let mut rows = self.cells.chunks_exact(self.geometry.width());
        rows.nth(row).unwrap_or_default()
    }

    /// All cells, row after row.
    #[must_use]
    pub fn cells(&self) -> &[AtomicU32] {
        &self.cells
    }

    /// Where the cells of `key` are among [`cells`](Self::cells).
    #[inline]
    pub(crate) fn cells_of(&self, key: &[u8]) -> CellIndexes {
        self.family.cells(key, self.geometry)
    }

    /// As [`cells_of`](Self::cells_of), in place of what is there.
    #[inline]
    pub(crate) fn cells_into(&self, key: &[u8], cells: &mut CellIndexes) {
        self.family.cells_into(key, self.geometry, cells);
    }

    /// The key's hash, where one says all: see [`HashFamily::hash`].
    #[inline]
    pub(crate) fn hash(&self, key: &[u8]) -> Option<KeyHash> {
        self.family.hash(key, self.geometry)
    }

    /// As [`cells_into`](Self::cells_into), of a key's [`hash`](Self::hash).
    #[inline]
    pub(crate) fn cells_of_into(&self, hash: KeyHash, cells: &mut CellIndexes) {
        self.family.cells_of_into(hash, self.geometry, cells);
    }

    /// Asks the processor for cells that will be written (or read) a little later.
    #[inline]
    pub(crate) fn prefetch(&self, cells: &CellIndexes) {
        for &cell in cells.as_slice() {
            prefetch::for_write(&self.cells[cell as usize]);
        }
    }

    /// Adds to cells of this geometry, without counting it in [`total_weight`](Self::total_weight).
    #[inline]
    pub(crate) fn add_at(&self, cells: &CellIndexes, weight: Weight) {
        for &cell in cells.as_slice() {
            if cell::add(&self.cells[cell as usize], weight) {
                self.saturated_cells.fetch_add(1, Relaxed);
            }
        }
    }

    /// The estimate of whose cells these are.
    #[inline]
    pub(crate) fn estimate_at(&self, cells: &CellIndexes) -> Estimate {
        least_row([self.cells()], cells)
    }

    /// Counts weight that [`add_at`](Self::add_at) has added: once a batch, since all threads share
    /// this number.
    #[inline]
    pub(crate) fn add_total_weight(&self, weight: u64) {
        // Release, after the cells: whoever sees this weight sees what it was added to, also through
        // later additions of other threads (a release sequence).
        self.total_weight.fetch_add(weight, Release);
    }
}

/// Asks the processor for cells of a slice that will be read a little later.
#[inline]
pub(crate) fn prefetch_read(slice: &[AtomicU32], cells: &CellIndexes) {
    for &cell in cells.as_slice() {
        prefetch::for_read(&slice[cell as usize]);
    }
}

/// Zeroed cells for a geometry; the system gives the pages when they are first written.
pub(crate) fn try_zeroed<C: Zeroable>(geometry: Geometry) -> Result<Box<[C]>, SketchError> {
    let bytes = geometry.memory_bytes();
    bytemuck::allocation::try_zeroed_slice_box(geometry.cells())
        .map_err(|()| SketchError::OutOfMemory { bytes })
}

#[cfg(test)]
pub(crate) mod tests;
