//! The sketch itself: its tables of cells, and the calls on them.

use crossbeam_utils::CachePadded;

use super::allowance::Allowance;
use super::atomic::{
    AtomicU32, AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
    fence,
};
use super::beyond::{HalfTurns, WeightBudget};
use super::error::{Exhausted, SketchError};
use super::hash::KeyHash;
use super::indexes::{CellIndex, CellIndexes};
use super::lanes::{Lane, Lanes};
use super::memory::{LineAligned, try_zeroed_cells};
use super::others::{Narrow, WideOthers};
use super::{Geometry, HashFamily, Weight, prefetch};

/// The tables of a [`Sketch`] beside its own cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SketchOptions {
    /// Whether cells are in pairs: what others counted stands beside what was added here.
    pub has_others: bool,
    /// Number of threads that get cells of their own; see [`lanes_of`](super::lanes_of).
    pub lanes: usize,
}

/// A pass over all cells that has begun; see [`Sketch::begin_pass`].
#[derive(Debug)]
pub struct OpenPass {
    total_weight: u64,
}

impl OpenPass {
    /// N when the pass began.
    #[must_use]
    pub fn total_weight(&self) -> u64 {
        self.total_weight
    }
}

/// A count-min sketch that many threads may update and query at once.
///
/// ```
/// use rmbd_sketch::{Geometry, HashFamily, Sketch, Weight};
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
    cells: LineAligned,
    /// 1 where cells are in pairs, else 0: the own cell `i` is at `i << pair_shift`.
    pair_shift: u32,
    pub(super) lanes: Lanes,
    pub(super) half_turns: HalfTurns,
    wide_others: WideOthers,
    // Each has a cache line of its own: all threads write them, and the lines next to them hold what every add reads.
    total_weight: CachePadded<AtomicU64>,
    budget: CachePadded<WeightBudget>,
}

impl Sketch {
    /// An empty sketch that holds only what is added here. Its memory is reserved now and taken page by page as keys
    /// touch it.
    ///
    /// # Errors
    ///
    /// [`SketchError::OutOfMemory`] where the allocator refuses. An allocation that succeeds does not mean that the
    /// machine has the memory: systems overcommit.
    pub fn try_new(geometry: Geometry, family: HashFamily) -> Result<Self, SketchError> {
        Self::try_with(geometry, family, SketchOptions::default())
    }

    /// Like [`try_new`](Self::try_new), with room for what others counted.
    ///
    /// # Errors
    ///
    /// Like [`try_new`](Self::try_new).
    pub fn try_shared(geometry: Geometry, family: HashFamily) -> Result<Self, SketchError> {
        let options = SketchOptions {
            has_others: true,
            lanes: 0,
        };
        Self::try_with(geometry, family, options)
    }

    /// Like [`try_new`](Self::try_new), with the tables that `options` ask for.
    ///
    /// # Errors
    ///
    /// Like [`try_new`](Self::try_new).
    pub fn try_with(
        geometry: Geometry,
        family: HashFamily,
        options: SketchOptions,
    ) -> Result<Self, SketchError> {
        let cells = geometry.cells();
        let pair_shift = u32::from(options.has_others);
        // Memory that may be needed later is reserved now, so that nothing has to be refused then.
        Ok(Self {
            geometry,
            family,
            cells: LineAligned::try_zeroed(cells << pair_shift)?,
            pair_shift,
            lanes: Lanes::try_new(geometry, options.lanes)?,
            half_turns: HalfTurns::new(try_zeroed_cells(cells)?),
            wide_others: WideOthers::new(try_zeroed_cells(cells * pair_shift as usize)?),
            total_weight: CachePadded::default(),
            budget: CachePadded::default(),
        })
    }

    /// Adds `weight` to `key`. A weight of 0 changes nothing.
    ///
    /// # Errors
    /// [`Exhausted`] where [`PASS_WEIGHT_MAX`](super::PASS_WEIGHT_MAX) was added since the last pass; nothing was
    /// added.
    #[inline]
    pub fn add(&self, key: &[u8], weight: Weight) -> Result<(), Exhausted> {
        let mut allowance = Allowance::default();
        self.charge(&mut allowance, weight)?;
        self.add_at(&self.cells_of(key), weight);
        self.settle(&mut allowance);
        Ok(())
    }

    /// An upper bound of the weight that was added to `key` so far, here and by others that are known here.
    #[inline]
    #[must_use]
    pub fn estimate(&self, key: &[u8]) -> u64 {
        self.estimate_at(&self.cells_of(key))
    }

    /// N: the sum of all weights added. Weights that a thread adds in a batch appear when the batch is done. A reader
    /// that sees a weight in N also sees the cells that the weight went to.
    #[must_use]
    pub fn total_weight(&self) -> u64 {
        // Acquire pairs with the Release in `settle`.
        self.total_weight.load(Acquire)
    }

    /// Width and depth of the sketch.
    #[inline]
    #[must_use]
    pub fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// The hash family that makes columns of keys.
    #[inline]
    #[must_use]
    pub fn family(&self) -> HashFamily {
        self.family
    }

    /// The sums of what was added to each of the `width` cells of a row, as they are now. The result is empty if there
    /// is no such row.
    pub fn own_row(&self, row: usize) -> impl Iterator<Item = u64> + '_ {
        let width = self.geometry.width();
        let start = row.saturating_mul(width).min(self.geometry.cells());
        let end = (start + width).min(self.geometry.cells());
        (start..end).map(|cell| self.total_of(cell as u32))
    }

    /// The cells that all threads may add to, row after row. Each holds the lowest 32 bits of what was added to it
    /// here, except for what threads added in tables of their own.
    pub fn own_cells(&self) -> impl ExactSizeIterator<Item = &AtomicU32> {
        self.cells.iter().step_by(self.stride())
    }

    /// The lowest 32 bits of what all threads added to a cell here.
    #[inline]
    #[must_use]
    pub fn own_value(&self, cell: CellIndex) -> u32 {
        self.value_of(cell.get())
    }

    #[inline]
    fn value_of(&self, cell: u32) -> u32 {
        let shared = self.own(cell).load(Relaxed);
        shared.wrapping_add(self.lanes.sum(cell as usize))
    }

    /// Whether threads have tables of their own, so that [`own_cells`](Self::own_cells) do not hold everything.
    #[inline]
    #[must_use]
    pub fn has_lanes(&self) -> bool {
        !self.lanes.is_empty()
    }

    /// The memory of all tables of cells, one slice for each table.
    pub fn memory_parts(&self) -> impl Iterator<Item = &[AtomicU32]> {
        [self.memory()].into_iter().chain(self.lanes.memory())
    }

    /// The memory of the cells that all threads may add to, as it lies. Where cells are in pairs, each own cell is
    /// followed by the cell of the others.
    #[inline]
    #[must_use]
    pub fn memory(&self) -> &[AtomicU32] {
        &self.cells
    }

    /// The distance in [`memory`](Self::memory) from one own cell to the next: 1, or 2 where they are in pairs.
    #[inline]
    #[must_use]
    pub fn stride(&self) -> usize {
        1 << self.pair_shift
    }

    /// Bytes of [`memory`](Self::memory): the memory that adds and counts touch.
    #[must_use]
    pub fn table_bytes(&self) -> u64 {
        self.geometry.memory_bytes() << self.pair_shift
    }

    /// Bytes of all tables, whether their pages were touched or not: the cells, and the parts of totals that 32 bits
    /// do not hold.
    #[must_use]
    pub fn memory_bytes(&self) -> u64 {
        let wide = self.geometry.cells() as u64 * 8 * u64::from(self.pair_shift);
        let lanes = self.geometry.memory_bytes() * self.lanes.len() as u64;
        self.table_bytes() + self.geometry.memory_bytes() + wide + lanes
    }

    /// Adds to what others counted in a cell, up to 2^64 - 1. Only one writer may call this. Nothing happens where
    /// cells are not in pairs.
    #[inline]
    pub fn add_of_others(&self, cell: CellIndex, growth: u64) {
        if self.pair_shift == 1 {
            let (cell, all) = (cell.get(), || Narrow(&self.cells));
            let narrow = self.of_others(cell);
            self.wide_others.add(cell as usize, narrow, growth, all);
        }
    }

    /// An upper bound of what was added here to the key with these cells.
    #[inline]
    #[must_use]
    pub fn own_estimate_at(&self, cells: &CellIndexes) -> u64 {
        let least = if self.has_lanes() {
            let own = cells.as_slice().iter().map(|&cell| self.value_of(cell));
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

    /// Like [`estimate`](Self::estimate), for the key with these cells: the least row of what was added here, plus the
    /// least row of what others counted.
    #[inline]
    #[must_use]
    pub fn estimate_at(&self, cells: &CellIndexes) -> u64 {
        if self.pair_shift == 0 {
            return self.own_estimate_at(cells);
        }
        let (own, others) = if self.has_lanes() {
            self.least_of_pairs(cells, |cell| self.lanes.sum(cell as usize))
        } else {
            self.least_of_pairs(cells, |_| 0)
        };
        // The fence stands behind the reads of cells: see `beyond`.
        fence(Acquire);
        if self.half_turns.are_any() || self.wide_others.are_used() {
            return self.total_at(cells);
        }
        u64::from(own) + u64::from(others)
    }

    /// The least row of what was added here (with `in_lanes`), and the least row of what others counted.
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
        let others = cells.iter().map(|cell| self.others_total(cell));
        let others = others.fold(u64::MAX, u64::min);
        self.own_total_at(cells).saturating_add(others)
    }

    #[cold]
    fn own_total_at(&self, cells: &CellIndexes) -> u64 {
        let own = cells.as_slice().iter().map(|&cell| self.total_of(cell));
        own.fold(u64::MAX, u64::min)
    }

    /// The sum of what others counted in a cell; 0 where cells are not in pairs.
    #[must_use]
    pub fn others_total(&self, cell: CellIndex) -> u64 {
        if self.pair_shift == 0 {
            return 0;
        }
        let cell = cell.get();
        self.wide_others.sum(cell as usize, self.of_others(cell))
    }

    /// The sum of what was added to a cell here.
    #[must_use]
    pub fn own_total(&self, cell: CellIndex) -> u64 {
        self.total_of(cell.get())
    }

    pub(super) fn total_of(&self, cell: u32) -> u64 {
        self.half_turns.total(cell as usize, || self.value_of(cell))
    }

    /// Notes the half turns of a cell of which the pass has just read this value, and returns its total. Only the one
    /// writer calls this.
    #[inline]
    pub fn note_total(&self, cell: CellIndex, value: u32) -> u64 {
        self.half_turns.note(cell.get() as usize, value)
    }

    /// The total of a cell that had this value when it was noted last. Only the one writer calls this.
    #[inline]
    #[must_use]
    pub fn noted_total(&self, cell: CellIndex, value: u32) -> u64 {
        self.half_turns.noted(cell.get() as usize, value)
    }

    /// Makes sure that this much weight may be [charged](Self::charge), however much other threads add meanwhile.
    ///
    /// # Errors
    /// [`Exhausted`] where that would be more than may be added until the next pass over the cells. Nothing has
    /// changed: weight that could be charged before still can be.
    #[inline]
    pub fn provide(&self, allowance: &mut Allowance, weight: u64) -> Result<(), Exhausted> {
        match allowance.missing(weight) {
            0 => Ok(()),
            missing => self.extend(allowance, missing),
        }
    }

    /// Like [`provide`](Self::provide), but only if enough is left for all other threads. Returns whether it
    /// succeeded.
    #[inline]
    #[must_use]
    pub fn provide_of_plenty(&self, allowance: &mut Allowance, weight: u64) -> bool {
        match allowance.missing(weight) {
            0 => true,
            missing => self.extend_of_plenty(allowance, missing),
        }
    }

    /// Charges the allowance with a weight, which is to be added to cells of this sketch before it is
    /// [settled](Self::settle).
    ///
    /// # Errors
    /// [`Exhausted`] where too much was added since the last pass over the cells; nothing was charged then.
    #[inline(always)]
    pub fn charge(&self, allowance: &mut Allowance, weight: Weight) -> Result<(), Exhausted> {
        let missing = allowance.missing(weight.into());
        if missing > 0 {
            self.extend(allowance, missing)?;
        }
        allowance.charge(weight);
        Ok(())
    }

    /// Takes back the charge of weight that is not added after all. The allowance was charged with as much.
    #[inline]
    pub fn refund(&self, allowance: &mut Allowance, weight: u64) {
        allowance.refund(weight);
    }

    /// Ends a batch whose charged weight has all been added: the weight counts in
    /// [`total_weight`](Self::total_weight), weight that was not charged goes back to the sketch, and the allowance is
    /// empty again.
    pub fn settle(&self, allowance: &mut Allowance) {
        let (charged, left) = allowance.take();
        // This happens once per batch and not once per key, since all threads contend for both cache lines.
        if charged > 0 {
            // Release stands behind the cells: a reader that sees this weight sees what it was added to, also through
            // later additions of other threads (a release sequence).
            self.total_weight.fetch_add(charged, Release);
        }
        if left > 0 {
            self.budget.return_unused(left);
        }
    }

    #[cold]
    fn extend(&self, allowance: &mut Allowance, least: u64) -> Result<(), Exhausted> {
        let more = self.budget.take(least).ok_or(Exhausted)?;
        allowance.extend(more);
        Ok(())
    }

    #[cold]
    fn extend_of_plenty(&self, allowance: &mut Allowance, least: u64) -> bool {
        let more = self.budget.take_of_plenty(least);
        allowance.extend(more.unwrap_or_default());
        more.is_some()
    }

    /// Begins a pass over all cells. The caller calls [`note_total`](Self::note_total) for each cell that has changed.
    /// Only the one writer makes passes.
    #[must_use]
    pub fn begin_pass(&self) -> OpenPass {
        self.budget.begin_pass();
        OpenPass {
            total_weight: self.total_weight(),
        }
    }

    /// Ends a pass that has gone over all cells: as much as was added before it began may be added again.
    pub fn end_pass(&self, pass: OpenPass) {
        self.budget.give_back(pass.total_weight);
    }

    /// Whether so much was added that a pass over the cells should come soon.
    #[must_use]
    pub fn wants_pass(&self) -> bool {
        self.budget.wants_pass(self.total_weight.load(Relaxed))
    }

    #[inline]
    pub(super) fn own(&self, cell: u32) -> &AtomicU32 {
        &self.cells[(cell as usize) << self.pair_shift]
    }

    #[inline]
    fn of_others(&self, cell: u32) -> &AtomicU32 {
        &self.cells[cell as usize * 2 + 1]
    }

    /// The cells of `key`, in the order of the rows.
    #[inline]
    #[must_use]
    pub fn cells_of(&self, key: &[u8]) -> CellIndexes {
        self.family.cells(key, self.geometry)
    }

    /// Like [`cells_of`](Self::cells_of), but overwrites `cells`.
    #[inline]
    pub fn cells_into(&self, key: &[u8], cells: &mut CellIndexes) {
        self.family.cells_into(key, self.geometry, cells);
    }

    /// The key's hash, if one hash determines all cells: see [`HashFamily::hash`].
    #[inline]
    #[must_use]
    pub fn hash(&self, key: &[u8]) -> Option<KeyHash> {
        self.family.hash(key, self.geometry)
    }

    /// Like [`cells_into`](Self::cells_into), from a key's [`hash`](Self::hash).
    #[inline]
    pub fn cells_of_into(&self, hash: KeyHash, cells: &mut CellIndexes) {
        self.family.cells_of_into(hash, self.geometry, cells);
    }

    /// Prefetches cells that will be written (or read) a little later.
    #[inline]
    pub fn prefetch(&self, cells: &CellIndexes) {
        let (memory, shift) = (self.memory(), self.pair_shift);
        for &cell in cells.as_slice() {
            prefetch::for_write(&memory[(cell as usize) << shift]);
        }
    }

    /// Prefetches the cells at a place of the memory.
    #[inline]
    pub(super) fn prefetch_at(&self, place: usize) {
        if let Some(cell) = self.cells.get(place) {
            prefetch::for_write(cell);
        }
    }

    /// Whether a total may be above 32 bits. The caller asks after an Acquire fence behind its reads of cells.
    #[inline]
    pub(super) fn are_half_turns(&self) -> bool {
        self.half_turns.are_any()
    }

    #[inline]
    pub(super) fn are_others_wide(&self) -> bool {
        self.wide_others.are_used()
    }

    /// Adds weight that was [charged](Self::charge) to cells of this geometry. The weight counts in
    /// [`total_weight`](Self::total_weight) once the allowance is [settled](Self::settle). A thread that reads
    /// [`estimate_added`](Self::estimate_added) behind it has in it all that was added to the key before, in this
    /// order, by all threads.
    #[inline]
    pub fn add_at(&self, cells: &CellIndexes, weight: Weight) {
        let Some((&last, rows)) = cells.as_slice().split_last() else {
            return;
        };
        let (memory, shift) = (self.memory(), self.pair_shift);
        for &cell in rows {
            memory[(cell as usize) << shift].fetch_add(weight.get(), Relaxed);
        }
        // See the head of `added`.
        memory[(last as usize) << shift].fetch_add(weight.get(), AcqRel);
    }

    /// Takes a lane for this thread alone, if the sketch has one that nobody has taken.
    pub fn take_lane(&self) -> Option<Lane> {
        self.lanes.take()
    }

    /// Returns a lane of this sketch that is needed no more. What was added to it stays.
    pub fn give_back(&self, lane: Lane) {
        self.lanes.give_back(lane);
    }

    /// Like [`add_at`](Self::add_at), to a lane of this sketch.
    #[inline]
    pub fn add_in_lane(&self, lane: &mut Lane, cells: &CellIndexes, weight: Weight) {
        self.lanes.add(lane, cells, weight);
    }

    /// Like [`prefetch`](Self::prefetch), for cells of a lane.
    #[inline]
    pub fn prefetch_lane(&self, lane: &Lane, cells: &CellIndexes) {
        self.lanes.prefetch(lane, cells);
    }
}
