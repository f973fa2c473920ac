//! Slices learnt from others: they are merged by maximum, packed, and summed beside our own cells.

use std::ops::Range;

use crate::Replica;
use crate::ages::old_parts;
use crate::ages::{GroupAges, GrowthHistory, LearntGrowth};
use crate::memory::{MemoryLimit, try_zeroed};
use crate::windows::Copier;
use rmbd_proto::cluster::SliceId;
use rmbd_sketch::{CellIndex, Geometry, SketchError};

use super::SliceDigest;
use super::given::GivenCell;
use super::groups::{Groups, Keep};
use super::hashes::{GROUP_CELLS, SECTION_GROUPS, cell_hash, difference};
use super::refused::SliceRefused;

/// Bytes that a slice takes beside its groups, its sections' hashes and its rows' weights.
const SLICE_BYTES: u64 = 256;

/// A learnt slice, as far as it is known.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) id: SliceId,
    /// The highest version of which every cell is here.
    pub(super) version: u64,
    /// Number of times that a cell was raised.
    raised: u64,
    /// The cells, or `None` while no cell was raised.
    pub(super) held: Option<Held>,
}

/// The part of a slice that has cells.
#[derive(Debug)]
pub(super) struct Held {
    groups: Groups,
    sections: Box<[u64]>,
    root: u64,
    /// Sum of each row's cells.
    row_weights: Box<[u64]>,
    geometry: Geometry,
    /// Whether memory was short once: from then on nothing is kept flat.
    is_packed: bool,
    /// When the cells grew by how much; empty without windows.
    pub(super) growth: GrowthHistory,
}

/// How old growth is that comes in.
#[derive(Debug, Clone, Copy)]
pub(super) struct Aging<'a> {
    pub(super) learnt: &'a LearntGrowth,
    pub(super) ages: GroupAges<'a>,
}

/// The raising of one cell.
struct Raised {
    cell: CellIndex,
    old: u64,
    new: u64,
}

impl Raised {
    /// Adds the growth to the sum of what others counted, as growth of now.
    fn raise(&self, replica: &Replica, copier: &mut Copier) {
        copier.raise(replica, self.cell, self.new - self.old);
    }
}

impl Known {
    pub(super) fn new(id: SliceId) -> Self {
        Self {
            id,
            version: 0,
            raised: 0,
            held: None,
        }
    }

    /// The slice has these cells, completely until a version.
    pub(super) fn become_held(&mut self, version: u64, held: Held) {
        self.version = version;
        self.raised += 1;
        self.held = Some(held);
    }

    pub(super) fn raised(&self) -> u64 {
        self.raised
    }

    pub(super) fn root(&self) -> u64 {
        self.held.as_ref().map_or(0, |held| held.root)
    }

    pub(super) fn digest(&self) -> SliceDigest {
        SliceDigest {
            slice: self.id,
            version: self.version,
            root: self.root(),
        }
    }

    /// Merges cells: see [`Held::merge`]. It does nothing where no memory was taken for cells.
    pub(super) fn merge(
        &mut self,
        replica: &Replica,
        given: impl Iterator<Item = GivenCell>,
        keep: Keep,
        copier: &mut Copier,
        aging: Option<Aging<'_>>,
    ) -> (u64, Result<(), SliceRefused>) {
        let held = self.held.as_mut();
        let merge = |held: &mut Held| held.merge(replica, given, keep, copier, aging);
        let (raised, outcome) = held.map_or((0, Ok(())), merge);
        self.raised += raised;
        (raised, outcome)
    }

    pub(super) fn weight(&self) -> u64 {
        self.held.as_ref().map_or(0, Held::weight)
    }

    /// Bytes of its cells and of what belongs to them.
    pub(super) fn bytes(&self) -> u64 {
        let held = self.held.as_ref();
        held.map_or(0, |held| {
            held.groups.bytes() + held.growth.bytes() + fixed_bytes(held.geometry)
        })
    }
}

/// Bytes that a slice with cells takes before its first group.
fn fixed_bytes(geometry: Geometry) -> u64 {
    let sections = geometry.cells().div_ceil(GROUP_CELLS * SECTION_GROUPS);
    SLICE_BYTES + 8 * (sections + geometry.depth()) as u64
}

impl Held {
    /// Takes memory for an empty slice.
    pub(super) fn try_new(replica: &Replica) -> Result<Self, SliceRefused> {
        let geometry = replica.own().geometry();
        let bytes = fixed_bytes(geometry);
        replica.memory.reserve(bytes)?;
        let held = Self::allocate(geometry);
        held.inspect_err(|_| replica.memory.release(bytes))
            .map_err(SliceRefused::OutOfMemory)
    }

    fn allocate(geometry: Geometry) -> Result<Self, SketchError> {
        let sections = geometry.cells().div_ceil(GROUP_CELLS * SECTION_GROUPS);
        Ok(Self {
            groups: Groups::default(),
            sections: try_zeroed(sections)?,
            root: 0,
            row_weights: try_zeroed(geometry.depth())?,
            geometry,
            is_packed: false,
            growth: GrowthHistory::default(),
        })
    }

    pub(super) fn groups(&self) -> &Groups {
        &self.groups
    }

    pub(super) fn sections(&self) -> &[u64] {
        &self.sections
    }

    /// The hash of each group of a section; empty if there is no such section.
    pub(super) fn group_hashes(&self, section: u32) -> Vec<u64> {
        let groups = self.geometry.cells().div_ceil(GROUP_CELLS);
        let first = (section as usize).saturating_mul(SECTION_GROUPS);
        let end = first.saturating_add(SECTION_GROUPS).min(groups);
        let mut hashes = vec![0; end.saturating_sub(first)];
        let numbers = self.groups.numbers_from(first.min(groups) as u32);
        for number in numbers.take_while(|&number| (number as usize) < end) {
            hashes[number as usize - first] = self.group_hash(number);
        }
        hashes
    }

    /// The hash of a group; 0 if there is no such group.
    pub(super) fn group_hash(&self, number: u32) -> u64 {
        let cells = cells_of(number, self.geometry);
        let mut values = [0; GROUP_CELLS];
        let values = &mut values[..cells.len()];
        self.groups.read(number, values);
        let hashed = (cells.start as u32..).zip(values.iter());
        hashed.fold(0, |sum: u64, (index, &value)| {
            sum.wrapping_add(cell_hash(index, value))
        })
    }

    /// Number of cells of a group.
    pub(super) fn cells_of(&self, number: u32) -> usize {
        cells_of(number, self.geometry).len()
    }

    /// Sum of all weights added to the slice. Every row holds all of them, so the fullest row is the latest.
    pub(super) fn weight(&self) -> u64 {
        self.row_weights.iter().copied().fold(0, u64::max)
    }

    /// The value of a cell.
    pub(super) fn cell(&self, index: u32) -> u64 {
        let number = index / GROUP_CELLS as u32;
        let cells = cells_of(number, self.geometry);
        let mut values = [0; GROUP_CELLS];
        let values = &mut values[..cells.len()];
        self.groups.read(number, values);
        let at = index as usize % GROUP_CELLS;
        values.get(at).copied().unwrap_or_default()
    }

    /// Raises cells to the given values where these are larger, and adds the differences to the sums of what others
    /// counted. Returns how many cells were raised, and the reason if it ended before the last cell. A group for which
    /// there is no room does not change at all.
    pub(super) fn merge(
        &mut self,
        replica: &Replica,
        given: impl Iterator<Item = GivenCell>,
        keep: Keep,
        copier: &mut Copier,
        aging: Option<Aging<'_>>,
    ) -> (u64, Result<(), SliceRefused>) {
        let mut given = given.peekable();
        let weight = self.weight();
        let (mut count, mut row) = (0, Row::default());
        let mut raised = Vec::new();
        let mut outcome = Ok(());
        while let Some(number) = given.peek().map(|cell| cell.group())
            && outcome.is_ok()
        {
            let of_group = |cell: &GivenCell| cell.group() == number;
            let cells = std::iter::from_fn(|| given.next_if(of_group));
            raised.clear();
            outcome = self.merge_group(replica, number, cells, keep, &mut raised);
            for raised in &raised {
                self.note(raised, &mut row);
            }
            match aging {
                Some(aging) => self.note_growth(replica, copier, number, &raised, aging),
                None => raised.iter().for_each(|it| it.raise(replica, copier)),
            }
            count += raised.len() as u64;
        }
        replica.add_learnt_weight(self.weight() - weight);
        (count, outcome)
    }

    /// Merges the cells of one group. If it is refused, nothing has changed, and `raised` is empty.
    fn merge_group(
        &mut self,
        replica: &Replica,
        number: u32,
        given: impl Iterator<Item = GivenCell>,
        keep: Keep,
        raised: &mut Vec<Raised>,
    ) -> Result<(), SliceRefused> {
        let mut values = [0; GROUP_CELLS];
        let values = &mut values[..cells_of(number, self.geometry).len()];
        self.groups.read(number, values);
        for given in given {
            let value = &mut values[given.offset()];
            let (cell, new) = (given.cell(), given.value());
            if new > *value {
                let old = std::mem::replace(value, new);
                raised.push(Raised { cell, old, new });
            }
        }
        if raised.is_empty() {
            return Ok(());
        }
        let outcome = self.replace(replica, number, values, keep);
        if outcome.is_err() {
            raised.clear();
        }
        outcome.map_err(SliceRefused::from)
    }

    /// Puts a changed group in place; memory is reserved first. Where there is none for a flat group, all flat groups
    /// are packed, and nothing is kept flat any more: cells that are here must not keep out cells that are not here
    /// yet.
    fn replace(
        &mut self,
        replica: &Replica,
        number: u32,
        values: &[u64],
        keep: Keep,
    ) -> Result<(), MemoryLimit> {
        let keep = if self.is_packed { Keep::Packed } else { keep };
        let change = self.groups.prepare(number, values, keep);
        match replica.memory.reserve(change.grown_bytes()) {
            Ok(()) => {
                replica.memory.release(change.freed_bytes());
                self.groups.commit(change);
                Ok(())
            }
            Err(_) if !self.is_packed => {
                self.is_packed = true;
                replica.memory.release(self.pack());
                self.replace(replica, number, values, Keep::Packed)
            }
            Err(limit) => Err(limit),
        }
    }

    /// Notes how old the growth of a group is, adds it to the sums of what others counted, and to the snapshots by
    /// which it had been reached.
    fn note_growth(
        &mut self,
        replica: &Replica,
        copier: &mut Copier,
        number: u32,
        raised: &[Raised],
        Aging { learnt, ages }: Aging<'_>,
    ) {
        if raised.is_empty() {
            return;
        }
        let cells = cells_of(number, self.geometry);
        let mut growth = [0; GROUP_CELLS];
        let growth = &mut growth[..cells.len()];
        for raised in raised {
            growth[raised.cell.get() as usize % GROUP_CELLS] = raised.new - raised.old;
        }
        let place = (number, cells.start as u32);
        learnt.note(&mut self.growth, &replica.memory, place, growth, &ages);
        if ages.marks.is_empty() {
            return raised.iter().for_each(|it| it.raise(replica, copier));
        }
        let mut booking = copier.book(replica);
        for raised in raised {
            booking.raise(raised.cell, raised.new - raised.old);
        }
        for (ring, plan) in replica.window_plans().enumerate() {
            let fold = plan.fold();
            old_parts(growth, (place.1, fold), &ages, |folded, _, reached| {
                if let Some(cell) = self.geometry.cell((folded * fold) as u32) {
                    booking.reached_in(ring, cell, reached);
                }
            });
        }
    }

    fn note(&mut self, raised: &Raised, row: &mut Row) {
        let &Raised { cell, old, new } = raised;
        let index = cell.get();
        let grown = difference(index, old, new);
        let section = &mut self.sections[index as usize / (GROUP_CELLS * SECTION_GROUPS)];
        *section = section.wrapping_add(grown);
        self.root = self.root.wrapping_add(grown);
        row.move_to(index as usize, self.geometry.width());
        let weight = &mut self.row_weights[row.number];
        *weight = weight.saturating_add(new - old);
    }

    /// Packs all flat groups, as the slice's writer is gone. Returns how many bytes that frees.
    pub(super) fn pack(&mut self) -> u64 {
        self.groups.pack()
    }
}

/// The range of cells of a group that exists.
pub(super) fn cells_of(number: u32, geometry: Geometry) -> Range<usize> {
    let cells = geometry.cells();
    let start = (number as usize * GROUP_CELLS).min(cells);
    start..(start + GROUP_CELLS).min(cells)
}

/// Finds the row of a cell. Indexes mostly ascend, so that it seldom has to divide.
#[derive(Debug, Default)]
struct Row {
    number: usize,
    cells: Range<usize>,
}

impl Row {
    #[inline]
    fn move_to(&mut self, index: usize, width: usize) {
        if !self.cells.contains(&index) {
            self.number = index / width;
            self.cells = self.number * width..(self.number + 1) * width;
        }
    }
}
