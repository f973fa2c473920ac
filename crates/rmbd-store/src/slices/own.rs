//! Our own slice as other nodes get it: its published copy, and which cells changed since which version.
//!
//! Adds leave no marks. Instead a *pass* compares the live cells with the copy that was published before, and takes
//! over the cells that have grown. Reading both once costs the control thread some milliseconds for 16 MiB, and costs
//! `add` nothing (`benches/publish.rs` measures both ways). While the total weight stands still there is nothing to
//! look for.
//!
//! The same pass notes how many half turns each cell has made, and gives back the weight that may be added until the
//! next one (see [`Sketch`]).
//!
//! Cells grow while a pass goes on, and the pass takes each as it is when it comes by. So the published copy may have
//! some rows of an add and lack others, as any reader of the live cells may see it. The rest comes with the next
//! version: the pass keeps the total from before it began, so the next pass finds that the total has grown.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use crate::ages::OwnGrowth;
use crate::memory::{MemoryShare, try_zeroed};
use crate::urgent::PublishedCells;
use rmbd_sketch::{CellIndex, Geometry, OpenPass, Sketch, SketchError};

use super::base::{Base, BaseGroup};
use super::hashes::{GROUP_CELLS, Hashes, cell_hash, difference};
use super::history::{ChangeList, History};

/// Cells that are compared at once: one cache line.
const LINE_CELLS: usize = 16;

/// The outcome of a call of [`Slices::publish`](super::Slices::publish).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Published {
    /// Nothing was added since the last pass began.
    Idle,
    /// The pass is not at its end; the next call continues it.
    Partly,
    /// The pass is done.
    Done {
        /// The current version; the same as before if nothing had changed.
        version: u64,
        /// Number of cells that have grown since the version before.
        changed_cells: u64,
    },
}

/// The form in which the changes since a version are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Changes {
    /// The version is the latest one.
    Nothing,
    /// The changes are known cell by cell.
    Cells,
    /// The version is too old: the changes are known by groups only.
    Groups,
}

/// The writer's side of our own slice: its published copy and what changed.
#[derive(Debug)]
pub(super) struct Own {
    /// The lowest 32 bits of the published cells. The sketch has noted the rest. Only this writes them; data threads
    /// compare with them how much of a key is not published yet, so each cell stands for itself.
    published: Arc<PublishedCells>,
    hashes: Hashes,
    /// For each group, the version that changed it last.
    group_versions: Box<[u64]>,
    history: History,
    version: u64,
    /// Number of times that a pass took over a cell.
    raised: u64,
    pass: Option<Pass>,
    /// Number of passes that are at their end; one that had nothing to do counts.
    passes: u64,
    /// The total weight when the last finished pass began.
    weight: u64,
    /// What an earlier start of this node had counted in the slice; it is part of all that is told of it.
    base: Option<Box<Base>>,
    /// When the slice grew by how much; `None` without windows.
    pub(super) growth: Option<OwnGrowth>,
}

#[derive(Debug)]
struct Pass {
    next_group: usize,
    open: OpenPass,
    list: ChangeList,
    changed_cells: u64,
}

impl Own {
    pub(super) fn try_new(geometry: Geometry) -> Result<Self, SketchError> {
        let cells = geometry.cells();
        Ok(Self {
            published: Arc::new(try_zeroed(cells)?),
            hashes: Hashes::try_new(cells)?,
            group_versions: try_zeroed(cells.div_ceil(GROUP_CELLS))?,
            history: History::new(cells),
            version: 0,
            raised: 0,
            pass: None,
            passes: 0,
            weight: 0,
            base: None,
            growth: None,
        })
    }

    pub(super) fn publish(
        &mut self,
        live: &Sketch,
        memory: &MemoryShare,
        cells_max: usize,
    ) -> Published {
        let Some(mut pass) = self.pass.take().or_else(|| self.begin(live.begin_pass())) else {
            self.passes += 1;
            return Published::Idle;
        };
        let groups = self.group_versions.len();
        let end = pass
            .next_group
            .saturating_add(cells_max.div_ceil(GROUP_CELLS).max(1))
            .min(groups);
        for group in pass.next_group..end {
            if let Some(growth) = &mut self.growth {
                growth.begin_group(group, memory);
            }
            self.publish_group(group, live, &mut pass);
        }
        pass.next_group = end;
        if end < groups {
            self.pass = Some(pass);
            return Published::Partly;
        }
        self.finish(pass, live)
    }

    /// Begins a pass, or returns `None` if nothing was added. The total is read before any cell is: an add that is
    /// missing in it makes it move again, and an add that is part of it shows in its cells.
    fn begin(&self, open: OpenPass) -> Option<Pass> {
        (open.total_weight() != self.weight).then(|| Pass {
            next_group: 0,
            open,
            list: self.history.list(),
            changed_cells: 0,
        })
    }

    fn publish_group(&mut self, group: usize, live: &Sketch, pass: &mut Pass) {
        let cells = cells_of(group, self.published.len());
        let (mut changed_cells, mut hash) = (0, 0_u64);
        let first = cells.start as u32;
        let geometry = live.geometry();
        let mut growth = self.growth.as_mut();
        let mut base = BaseGroup::new(self.base.as_deref());
        let grown = |index, old, new| {
            // This always succeeds: there are as many published cells as cells.
            let Some(cell) = geometry.cell(index) else {
                return;
            };
            let (old, new) = (live.noted_total(cell, old), live.note_total(cell, new));
            if let Some(growth) = &mut growth {
                growth.note(index, new - old);
            }
            pass.list.push(index);
            let base = base.cell(index);
            hash = hash.wrapping_add(difference(index, base + old, base + new));
            changed_cells += 1;
        };
        let published = &self.published[cells.clone()];
        if live.has_lanes() {
            take_over_sums(live, published, cells.start, grown);
        } else {
            let stride = live.stride();
            let memory = &live.memory()[cells.start * stride..cells.end * stride];
            match stride {
                1 => take_over::<1, LINE_CELLS>(memory, published, first, grown),
                _ => take_over::<2, { 2 * LINE_CELLS }>(memory, published, first, grown),
            }
        }
        if changed_cells > 0 {
            self.hashes.change(group, hash);
            self.group_versions[group] = self.version + 1;
            self.raised += changed_cells;
            pass.changed_cells += changed_cells;
        }
    }

    fn finish(&mut self, pass: Pass, live: &Sketch) -> Published {
        self.weight = pass.open.total_weight();
        self.passes += 1;
        live.end_pass(pass.open);
        if pass.changed_cells > 0 {
            self.version += 1;
            self.history.push(pass.list);
        }
        Published::Done {
            version: self.version,
            changed_cells: pass.changed_cells,
        }
    }

    /// The slice goes on from a base, before anything of it was published.
    pub(super) fn go_on_from(&mut self, base: Base) {
        debug_assert_eq!(self.version, 0, "nothing is published yet");
        self.version = base.version();
        base.each_group_hash(|group, hash| {
            self.hashes.change(group, hash);
            // Which version changed it is not known any more: who lacks the last one gets it.
            self.group_versions[group] = self.version;
            self.raised += 1;
        });
        self.base = Some(Box::new(base));
    }

    /// From now on the slice is only what was added since this start; gives the base back. The version goes on, and
    /// every group in which something was added is of it.
    pub(super) fn leave_base(&mut self, live: &Sketch) -> Option<Base> {
        let base = self.base.take()?;
        for group in 0..self.group_versions.len() {
            let hash = self.hash_of(group, live);
            self.hashes.set(group, hash);
            if hash == 0 {
                self.group_versions[group] = 0;
            }
        }
        Some(*base)
    }

    fn hash_of(&self, group: usize, live: &Sketch) -> u64 {
        let cells = cells_of(group, self.published.len());
        let published = &self.published[cells.clone()];
        let cells = live.geometry().cells_between(cells.start, cells.end);
        let hash = |(cell, published): (CellIndex, &AtomicU32)| {
            cell_hash(cell.get(), live.noted_total(cell, published.load(Relaxed)))
        };
        (cells.zip(published).map(hash)).fold(0, u64::wrapping_add)
    }

    pub(super) fn base(&self) -> Option<&Base> {
        self.base.as_deref()
    }

    /// Whether something was added since the last finished pass began.
    pub(super) fn is_behind(&self, live: &Sketch) -> bool {
        live.total_weight() != self.weight
    }

    /// Whether a pass is not at its end.
    pub(super) fn is_passing(&self) -> bool {
        self.pass.is_some()
    }

    /// Number of passes that are at their end.
    pub(super) fn passes(&self) -> u64 {
        self.passes
    }

    pub(super) fn published(&self) -> &Arc<PublishedCells> {
        &self.published
    }

    pub(super) fn hashes(&self) -> &Hashes {
        &self.hashes
    }

    pub(super) fn version(&self) -> u64 {
        self.version
    }

    pub(super) fn raised(&self) -> u64 {
        self.raised
    }

    pub(super) fn changes_since(&self, since: u64) -> Changes {
        match self.version.saturating_sub(since) {
            0 => Changes::Nothing,
            versions if versions <= self.history.len() as u64 => Changes::Cells,
            _ => Changes::Groups,
        }
    }

    pub(super) fn changed_cells(&self, since: u64, from: u32) -> impl Iterator<Item = u32> + '_ {
        let (listed, by_group) = match self.changes_since(since) {
            Changes::Nothing => (None, None),
            Changes::Cells => {
                let versions = (self.version - since) as usize;
                (Some(self.history.latest(versions, from)), None)
            }
            Changes::Groups => (None, Some(self.cells_of_changed_groups(since, from))),
        };
        let listed = listed.into_iter().flatten();
        listed.chain(by_group.into_iter().flatten())
    }

    fn cells_of_changed_groups(&self, since: u64, from: u32) -> impl Iterator<Item = u32> + '_ {
        let groups = self.changed_groups(since, from / GROUP_CELLS as u32);
        let cells = groups.flat_map(|group| cells_of(group as usize, self.published.len()));
        // An index fits 32 bits, but the end of a range may not.
        cells
            .map(|cell| cell as u32)
            .filter(move |&cell| cell >= from)
    }

    pub(super) fn changed_groups(&self, since: u64, from: u32) -> impl Iterator<Item = u32> + '_ {
        let versions = self.group_versions.iter().enumerate().skip(from as usize);
        let changed = versions.filter(move |&(_, &version)| version > since);
        changed.map(|(group, _)| group as u32)
    }
}

/// The range of cells of a group, in a slice of `cells` cells.
fn cells_of(group: usize, cells: usize) -> Range<usize> {
    let start = group * GROUP_CELLS;
    start..(start + GROUP_CELLS).min(cells)
}

/// Takes the changed cells of `live` over into `published`, and tells `grown` each one's index, old value and new
/// value. The first cell of `live` has the index `first`. Each `STRIDE`th number of `live` is compared, `LINE`
/// numbers at once.
#[inline]
fn take_over<const STRIDE: usize, const LINE: usize>(
    live: &[AtomicU32],
    published: &[AtomicU32],
    first: u32,
    mut grown: impl FnMut(u32, u32, u32),
) {
    let (live_lines, live_rest) = live.as_chunks::<LINE>();
    let (published_lines, published_rest) = published.as_chunks::<LINE_CELLS>();
    let mut at = first;
    for (live, published) in live_lines.iter().zip(published_lines) {
        if differ::<STRIDE, LINE>(live, published) {
            take_over_each::<STRIDE>(live, published, at, &mut grown);
        }
        // At the end of the largest sketch this is past the last index, and is not used.
        at = at.wrapping_add(LINE_CELLS as u32);
    }
    take_over_each::<STRIDE>(live_rest, published_rest, at, &mut grown);
}

/// Does the same for a small sketch, where the value of a cell is a sum over several tables.
fn take_over_sums(
    live: &Sketch,
    published: &[AtomicU32],
    first: usize,
    mut grown: impl FnMut(u32, u32, u32),
) {
    let cells = live.geometry().cells_between(first, usize::MAX);
    for (cell, published) in cells.zip(published) {
        take_over_cell(cell.get(), live.own_value(cell), published, &mut grown);
    }
}

/// Compares a whole line with one branch, since most lines have not changed.
#[inline]
fn differ<const STRIDE: usize, const LINE: usize>(
    live: &[AtomicU32; LINE],
    published: &[AtomicU32; LINE_CELLS],
) -> bool {
    let pairs = live.iter().step_by(STRIDE).zip(published);
    pairs.fold(0, |bits, (live, published)| {
        bits | (live.load(Relaxed) ^ published.load(Relaxed))
    }) != 0
}

#[inline]
fn take_over_each<const STRIDE: usize>(
    live: &[AtomicU32],
    published: &[AtomicU32],
    first: u32,
    grown: &mut impl FnMut(u32, u32, u32),
) {
    let live = live.iter().step_by(STRIDE);
    for (index, (live, published)) in (first..).zip(live.zip(published)) {
        take_over_cell(index, live.load(Relaxed), published, grown);
    }
}

#[inline]
fn take_over_cell(
    index: u32,
    new: u32,
    published: &AtomicU32,
    grown: &mut impl FnMut(u32, u32, u32),
) {
    let old = published.load(Relaxed);
    if new != old {
        grown(index, old, new);
        published.store(new, Relaxed);
    }
}
