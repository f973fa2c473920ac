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
//!    cell index = row * width + column
//!
//!    in memory    own alone    | 0 | 1 | 2 | ...                what was added here
//!                 or in pairs  | 0 | 0 | 1 | 1 | 2 | 2 | ...    and beside it what others counted
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
//! - **Cells wrap, totals do not.** A cell of 32 bits wraps, and what is beyond it is noted by the one who goes over
//!   all cells from time to time; an answer is the whole total, of 64 bits. Until then no more than 2^31 may be
//!   added: [`Exhausted`] says that it would be more.
//! - **Hash once.** [`HashFamily`] makes all rows' columns from one pass over the key; the
//!   [`CellIndexes`] can be looked up in several slices of the same geometry, prefetched, and used later.
//! - **Threads of small sketches do not meet.** Where several threads add to a small sketch each has a table of its own
//!   beside the cells that all share ([`lanes_of`]); what was added to a cell is the sum of them.
//! - **What others counted stands beside it.** A sketch made by [`Sketch::try_shared`] has pairs of cells: adds go
//!   to the first of a pair, and one writer adds to the second what it learns of others. An answer is the least
//!   row of the firsts plus the least row of the seconds: an upper bound of the sum, never looser than the least
//!   row of the sums, and one cache line a row, however many others there are.
//! - **Memory is taken from the system zeroed and lazily**: a page that no key has touched costs
//!   nothing.

mod beyond;
mod geometry;
mod hash;
mod indexes;
mod lanes;
mod others;
mod prefetch;
mod weight;

use bytemuck::Zeroable;
use crossbeam_utils::CachePadded;

use atomic::{
    AtomicU32, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
    fence,
};
use beyond::{Budget, HalfTurns};
pub use geometry::{Geometry, GeometryError, MAX_CELLS, MAX_DEPTH};
pub use hash::HashFamily;
pub(crate) use hash::KeyHash;
pub use indexes::CellIndexes;
pub(crate) use lanes::Lane;
use lanes::Lanes;
pub use lanes::lanes_of;
use others::{Narrow, WideOthers};
pub use weight::{MAX_WEIGHT, Weight, WeightError};

/// What [`beyond`] is written with; a model of them elsewhere.
mod atomic {
    pub(super) use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence};
}

/// Weight that may be added between two passes over the cells, by all threads: 2^31.
pub const PASS_WEIGHT_MAX: u64 = beyond::BUDGET;

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

/// So much was added since the last pass over the cells that more would wrap them unseen. Nothing was added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "weights of 2^31 were added faster than they could be taken over, this one was not added: try again in a moment"
)]
pub struct Exhausted;

/// A count-min sketch that many threads may update and query at once.
///
/// ```
/// use rmbd::sketch::{Geometry, HashFamily, Sketch, Weight};
///
/// let sketch = Sketch::try_new(Geometry::new(1024, 4)?, HashFamily::Xxh3 { seed: 7 })?;
/// sketch.add(b"key", Weight::new(3)?)?;
/// assert_eq!(sketch.estimate(b"key"), 3);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Sketch {
    geometry: Geometry,
    family: HashFamily,
    cells: Vec<AtomicU32>,
    /// 1 where cells are in pairs, else 0: the own cell `i` is at `i << pair_shift`.
    pair_shift: u32,
    lanes: Lanes,
    half_turns: HalfTurns,
    wide_others: WideOthers,
    // Each on a cache line of its own: all threads write them, and the lines next to it hold what every add reads.
    total_weight: CachePadded<AtomicU64>,
    budget: CachePadded<Budget>,
}

impl Sketch {
    /// An empty sketch of what is added here. Its memory is reserved here and taken page by page as keys
    /// touch it.
    ///
    /// # Errors
    ///
    /// [`SketchError::OutOfMemory`] where the allocator refuses. That it agrees does not mean that
    /// the machine has the memory: systems overcommit.
    pub fn try_new(geometry: Geometry, family: HashFamily) -> Result<Self, SketchError> {
        Self::try_with(geometry, family, 0, 0)
    }

    /// As [`try_new`](Self::try_new), with room for what others counted.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn try_shared(geometry: Geometry, family: HashFamily) -> Result<Self, SketchError> {
        Self::try_with(geometry, family, 1, 0)
    }

    /// With room for what others counted where `pair_shift` is 1, and with this many lanes.
    pub(crate) fn try_with(
        geometry: Geometry,
        family: HashFamily,
        pair_shift: u32,
        lanes: usize,
    ) -> Result<Self, SketchError> {
        let cells = geometry.cells();
        // What may be needed later is asked for now: so nothing has to be refused then.
        Ok(Self {
            geometry,
            family,
            cells: try_zeroed_cells(cells << pair_shift)?.into_vec(),
            pair_shift,
            lanes: Lanes::try_new(geometry, lanes)?,
            half_turns: HalfTurns::new(try_zeroed_cells(cells)?),
            wide_others: WideOthers::new(try_zeroed_cells(cells * pair_shift as usize)?),
            total_weight: CachePadded::default(),
            budget: CachePadded::default(),
        })
    }

    /// Adds `weight` to `key`. A weight of 0 changes nothing.
    ///
    /// # Errors
    /// [`Exhausted`] where [`PASS_WEIGHT_MAX`] was added since the last pass; nothing was added.
    #[inline]
    pub fn add(&self, key: &[u8], weight: Weight) -> Result<(), Exhausted> {
        let weight_u64 = weight.into();
        let taken = self.take_budget(weight_u64)?;
        self.return_budget(taken - weight_u64);
        self.add_at(&self.cells_of(key), weight);
        self.add_total_weight(weight.into());
        Ok(())
    }

    /// An upper bound of the weight that was added to `key` so far, here and by others that are known here.
    #[inline]
    #[must_use]
    pub fn estimate(&self, key: &[u8]) -> u64 {
        self.estimate_at(&self.cells_of(key))
    }

    /// N: the sum of all weights added. What threads add in batches shows when the batch is done.
    /// Whoever sees a weight in it sees the cells that it went to.
    #[must_use]
    pub fn total_weight(&self) -> u64 {
        // Acquire: see `add_total_weight`.
        self.total_weight.load(Acquire)
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

    /// What was added to each of the `width` cells of a row, as it is now; empty where there is no such row.
    pub fn own_row(&self, row: usize) -> impl Iterator<Item = u64> + '_ {
        let width = self.geometry.width();
        let start = row.saturating_mul(width).min(self.geometry.cells());
        let end = (start + width).min(self.geometry.cells());
        (start..end).map(|cell| self.own_total(cell as u32))
    }

    /// The cells that all threads may add to, row after row: the lowest 32 bits of what was added to each here, where
    /// no thread has a table of its own.
    pub fn own_cells(&self) -> impl ExactSizeIterator<Item = &AtomicU32> {
        self.cells.iter().step_by(self.stride())
    }

    /// The lowest 32 bits of what was added to a cell here, by whomever.
    #[inline]
    pub(crate) fn own_value(&self, cell: u32) -> u32 {
        let shared = self.own(cell).load(Relaxed);
        shared.wrapping_add(self.lanes.sum(cell as usize))
    }

    /// Whether threads have tables of their own, so that [`own_cells`](Self::own_cells) are not all.
    #[inline]
    pub(crate) fn has_lanes(&self) -> bool {
        !self.lanes.is_empty()
    }

    /// All memory of cells, in parts.
    pub fn memory_parts(&self) -> impl Iterator<Item = &[AtomicU32]> {
        [self.memory()].into_iter().chain(self.lanes.memory())
    }

    /// The memory of the cells that all threads may add to, as it lies: each own cell, with that of the others behind
    /// it where they are in pairs.
    #[must_use]
    pub fn memory(&self) -> &[AtomicU32] {
        &self.cells
    }

    /// How far it is in [`memory`](Self::memory) from an own cell to the next: 1, or 2 where they are in pairs.
    #[inline]
    #[must_use]
    pub fn stride(&self) -> usize {
        1 << self.pair_shift
    }

    /// Bytes of [`memory`](Self::memory): what adds and counts touch.
    #[must_use]
    pub fn table_bytes(&self) -> u64 {
        self.geometry.memory_bytes() << self.pair_shift
    }

    /// Bytes of all that it has, whether pages of it were touched or not: its cells, and what is noted of totals that
    /// 32 bits do not hold.
    #[must_use]
    pub fn memory_bytes(&self) -> u64 {
        let wide = self.geometry.cells() as u64 * 8 * u64::from(self.pair_shift);
        let lanes = self.geometry.memory_bytes() * self.lanes.len() as u64;
        self.table_bytes() + self.geometry.memory_bytes() + wide + lanes
    }

    /// Adds to what others counted in a cell. By one writer; nothing happens where cells are not in pairs, or where
    /// there is no such cell.
    #[inline]
    pub(crate) fn add_of_others(&self, cell: u32, growth: u64) {
        if let Some(narrow) = self.of_others(cell) {
            let all = || Narrow(&self.cells);
            self.wide_others.add(cell as usize, narrow, growth, all);
        }
    }

    /// An upper bound of what was added here.
    #[inline]
    pub(crate) fn own_estimate_at(&self, cells: &CellIndexes) -> u64 {
        let least = if self.has_lanes() {
            let own = cells.as_slice().iter().map(|&cell| self.own_value(cell));
            own.fold(u32::MAX, u32::min)
        } else {
            let own = cells.as_slice().iter().map(|&cell| self.own(cell));
            own.map(|cell| cell.load(Relaxed)).fold(u32::MAX, u32::min)
        };
        fence(Acquire);
        if self.half_turns.are_any() {
            return self.own_total_at(cells);
        }
        least.into()
    }

    /// The least row of what was added here, plus the least row of what others counted.
    #[inline]
    pub(crate) fn estimate_at(&self, cells: &CellIndexes) -> u64 {
        if self.pair_shift == 0 {
            return self.own_estimate_at(cells);
        }
        let (own, others) = if self.has_lanes() {
            self.least_of_pairs(cells, |cell| self.lanes.sum(cell as usize))
        } else {
            self.least_of_pairs(cells, |_| 0)
        };
        // Behind the cells: see `beyond`.
        fence(Acquire);
        if self.half_turns.are_any() || self.wide_others.are_used() {
            return self.total_at(cells);
        }
        u64::from(own) + u64::from(others)
    }

    /// The least of what was added here, `in_lanes` included, and the least of what others counted.
    #[inline]
    fn least_of_pairs(&self, cells: &CellIndexes, in_lanes: impl Fn(u32) -> u32) -> (u32, u32) {
        let (mut own, mut others) = (u32::MAX, u32::MAX);
        let (pairs, _) = self.cells.as_chunks::<2>();
        for &cell in cells.as_slice() {
            let [first, second] = &pairs[cell as usize];
            own = own.min(first.load(Relaxed).wrapping_add(in_lanes(cell)));
            others = others.min(second.load(Relaxed));
        }
        (own, others)
    }

    #[cold]
    fn total_at(&self, cells: &CellIndexes) -> u64 {
        let others = cells.as_slice().iter().map(|&cell| self.others_total(cell));
        let others = others.fold(u64::MAX, u64::min);
        self.own_total_at(cells).saturating_add(others)
    }

    #[cold]
    fn own_total_at(&self, cells: &CellIndexes) -> u64 {
        let own = cells.as_slice().iter().map(|&cell| self.own_total(cell));
        own.fold(u64::MAX, u64::min)
    }

    /// All that others counted in a cell; 0 where it is not known.
    pub(crate) fn others_total(&self, cell: u32) -> u64 {
        let narrow = self.of_others(cell);
        narrow.map_or(0, |narrow| self.wide_others.sum(cell as usize, narrow))
    }

    /// All that was added to a cell here.
    pub(crate) fn own_total(&self, cell: u32) -> u64 {
        self.half_turns
            .total(cell as usize, || self.own_value(cell))
    }

    /// The total of a cell of which the pass has just read this value; by the one writer.
    #[inline]
    pub(crate) fn note_total(&self, cell: u32, value: u32) -> u64 {
        self.half_turns.note(cell as usize, value)
    }

    /// The total of a cell that had this value when it was noted last; by the one writer.
    #[inline]
    pub(crate) fn noted_total(&self, cell: u32, value: u32) -> u64 {
        self.half_turns.noted(cell as usize, value)
    }

    /// Takes weight that may be added, at least `least`. What is not added is to be returned.
    pub(crate) fn take_budget(&self, least: u64) -> Result<u64, Exhausted> {
        self.budget.take(least).ok_or(Exhausted)
    }

    /// The same, where that leaves enough for all others.
    pub(crate) fn take_budget_of_plenty(&self, least: u64) -> Option<u64> {
        self.budget.take_of_plenty(least)
    }

    pub(crate) fn return_budget(&self, unused: u64) {
        self.budget.return_unused(unused);
    }

    /// A pass over all cells begins: N, of which it is to give back all when it is done. By the one writer.
    pub(crate) fn begin_pass(&self) -> u64 {
        self.budget.begin_pass();
        self.total_weight()
    }

    /// A pass is done that had begun with this N.
    pub(crate) fn end_pass(&self, total_weight: u64) {
        self.budget.give_back(total_weight);
    }

    /// Whether so much was added that a pass over the cells should come soon.
    #[must_use]
    pub fn wants_pass(&self) -> bool {
        self.budget.wants_pass(self.total_weight.load(Relaxed))
    }

    #[inline]
    fn own(&self, cell: u32) -> &AtomicU32 {
        &self.cells[(cell as usize) << self.pair_shift]
    }

    #[inline]
    fn of_others(&self, cell: u32) -> Option<&AtomicU32> {
        let is_paired = self.pair_shift == 1;
        is_paired.then(|| self.cells.get(cell as usize * 2 + 1))?
    }

    /// Where the cells of `key` are, in the order of the rows.
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
            prefetch::for_write(self.own(cell));
        }
    }

    /// Adds weight that was [taken](Self::take_budget) to cells of this geometry, without counting it in
    /// [`total_weight`](Self::total_weight).
    #[inline]
    pub(crate) fn add_at(&self, cells: &CellIndexes, weight: Weight) {
        for &cell in cells.as_slice() {
            self.own(cell).fetch_add(weight.get(), Relaxed);
        }
    }

    /// A table for this thread alone, if the sketch has one that nobody has taken.
    pub(crate) fn take_lane(&self) -> Option<Lane> {
        self.lanes.take()
    }

    /// A lane of this sketch that is needed no more; what was added to it stays.
    pub(crate) fn give_back(&self, lane: Lane) {
        self.lanes.give_back(lane);
    }

    /// As [`add_at`](Self::add_at), to a lane of this sketch.
    #[inline]
    pub(crate) fn add_in_lane(&self, lane: &mut Lane, cells: &CellIndexes, weight: Weight) {
        self.lanes.add(lane, cells, weight);
    }

    /// As [`prefetch`](Self::prefetch), of a lane.
    #[inline]
    pub(crate) fn prefetch_lane(&self, lane: &Lane, cells: &CellIndexes) {
        self.lanes.prefetch(lane, cells);
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

/// Zeroed cells for a geometry; the system gives the pages when they are first written.
pub(crate) fn try_zeroed<C: Zeroable>(geometry: Geometry) -> Result<Box<[C]>, SketchError> {
    try_zeroed_cells(geometry.cells())
}

fn try_zeroed_cells<C: Zeroable>(cells: usize) -> Result<Box<[C]>, SketchError> {
    let bytes = (cells as u64).saturating_mul(size_of::<C>() as u64);
    bytemuck::allocation::try_zeroed_slice_box(cells)
        .map_err(|()| SketchError::OutOfMemory { bytes })
}

#[cfg(test)]
pub(crate) mod tests;
