//! The control thread's side of a replica: what others get of our own slice, and what is learnt of
//! theirs.
//!
//! Every slice has a *version*, which its writer raises whenever something of it has changed, and
//! *hashes*, by which two nodes find where their copies differ. Of a learnt slice the version is the
//! highest one that is here completely; cells of later ones may be here, too. Merging takes the larger
//! value of each cell, so it does not matter in which order, how often, or by which way cells come.

mod cells;
mod hashes;
mod history;
mod learnt;
mod own;
mod refused;

use std::collections::BTreeMap;
use std::iter::once;

pub use cells::CellsRef;
pub use hashes::{GROUP_CELLS, SECTION_GROUPS, cell_hash};
pub use own::{Changes, Published};
pub use refused::{REFUSED_MAX, SliceRefused};

use crate::sketch::SketchError;
/// What two nodes compare of a slice, as it goes over the wire.
pub use crate::wire::cluster::DigestEntry as SliceDigest;
use crate::wire::cluster::SliceId;

use super::Replica;
use hashes::{Hashes, try_zeroed_numbers};
use learnt::{Given, Held, Known};
use own::Own;
use refused::Refused;

/// A slice that was learnt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LearntSlice {
    /// Which one.
    pub slice: SliceId,
    /// The version that is complete.
    pub version: u64,
    /// All that was added to it, as far as it is known.
    pub weight: u64,
    /// Bytes of its cells, as they are counted; 0 where all are 0.
    pub memory_bytes: u64,
}

/// The single writer of everything that a [`Replica`] learns by slices. There is one for each, and the
/// control thread owns it.
///
/// ```
/// use rmbd::replica::{Replica, ReplicaLimits, SliceId, Slices};
/// use rmbd::sketch::{Geometry, HashFamily};
/// use rmbd::wire::Writer;
///
/// let limits = ReplicaLimits { max_peers: 8, max_origins: 256, max_memory_bytes: u64::MAX };
/// let family = HashFamily::Xxh3 { seed: 7 };
/// let make = |node| {
///     Replica::try_with(Geometry::new(1024, 4)?, family, SliceId::of(node, Writer(1)), limits)
///         .map_err(Box::<dyn std::error::Error>::from)
/// };
/// let (one, other) = (make(1)?, make(2)?);
/// let (mut of_one, mut of_other) = (Slices::try_new(&one)?, Slices::try_new(&other)?);
///
/// one.add(b"key", 5)?;
/// of_one.publish(&one, usize::MAX);
/// let own = one.own_slice();
/// let cells = of_one.cells(&one, &own).expect("our own");
/// let changed = of_one.changed_cells(0, 0).map(|cell| (cell, cells.get(cell)));
/// of_other.merge(&other, &own, changed)?;
/// assert!(of_other.complete(&own, 0, of_one.own_version()));
/// assert_eq!(other.estimate(b"key").count, 5);
/// assert_eq!(of_other.root(&own), of_one.root(&own));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Slices {
    own_slice: SliceId,
    own: Own,
    /// In the order in which they came.
    known: Vec<Known>,
    by_id: BTreeMap<SliceId, usize>,
    refused: Refused,
    max_origins: usize,
    cells: usize,
    slice_bytes: u64,
    /// The sections of a slice without cells.
    no_sections: Box<[u64]>,
}

impl Slices {
    /// The writer for a replica, whose own slice is not published yet.
    ///
    /// # Errors
    ///
    /// [`SketchError::OutOfMemory`] where the allocator refuses, or where the published copy would be
    /// above the replica's limit.
    pub fn try_new(replica: &Replica) -> Result<Self, SketchError> {
        let geometry = replica.own().geometry();
        let (cells, bytes) = (geometry.cells(), geometry.memory_bytes());
        let reserved = replica.memory.reserve(bytes);
        reserved.map_err(|_| SketchError::OutOfMemory { bytes })?;
        let own = Own::try_new(geometry);
        let own = own.inspect_err(|_| replica.memory.release(bytes))?;
        let sections = own.hashes().sections().len();
        Ok(Self {
            own_slice: replica.own_slice(),
            own,
            known: Vec::new(),
            by_id: BTreeMap::new(),
            refused: Refused::default(),
            max_origins: replica.learnt.max(),
            cells,
            slice_bytes: bytes,
            no_sections: try_zeroed_numbers(sections)?,
        })
    }

    /// Goes on with a pass over our own live cells, or begins one where something was added since the
    /// last; at most `cells_max` cells of it, rounded up to groups. A pass that found changes makes
    /// the next version.
    pub fn publish(&mut self, replica: &Replica, cells_max: usize) -> Published {
        self.own.publish(replica.own(), cells_max)
    }

    /// The version of our own slice; 0 is the empty one. While a pass goes on it is the one before.
    #[must_use]
    pub fn own_version(&self) -> u64 {
        self.own.version()
    }

    /// How what has changed in our own slice since version `since` is known.
    #[must_use]
    pub fn changes_since(&self, since: u64) -> Changes {
        self.own.changes_since(since)
    }

    /// Cells of our own slice that have changed since version `since`, from `from_cell` on, ascending,
    /// each once. Where that is known by groups only, all cells of these groups.
    pub fn changed_cells(&self, since: u64, from_cell: u32) -> impl Iterator<Item = u32> + '_ {
        self.own.changed_cells(since, from_cell)
    }

    /// Groups of our own slice in which something has changed since version `since`, from `from_group`
    /// on, ascending. While a pass goes on, those that it has changed so far are among them.
    pub fn changed_groups(&self, since: u64, from_group: u32) -> impl Iterator<Item = u32> + '_ {
        self.own.changed_groups(since, from_group)
    }

    /// The cells of a slice, our own as it was published; `None` for one that is not known.
    #[must_use]
    pub fn cells<'a>(&'a self, replica: &'a Replica, slice: &SliceId) -> Option<CellsRef<'a>> {
        if *slice == self.own_slice {
            return Some(CellsRef::published(self.own.published()));
        }
        let Some(held) = &self.known(slice)?.held else {
            return Some(CellsRef::empty(self.cells));
        };
        let learnt = replica.learnt.get(held.place)?;
        Some(CellsRef::learnt(&learnt.cells))
    }

    /// Raises each cell of a slice to the value that is given with its index, where that is more; how
    /// many were raised. A slice that is not known takes its memory when the first cell of it is
    /// raised, after the limits were asked.
    ///
    /// # Errors
    ///
    /// See [`SliceRefused`]. A slice for which there is no room is remembered as refused.
    pub fn merge(
        &mut self,
        replica: &Replica,
        slice: &SliceId,
        cells: impl Iterator<Item = (u32, u32)>,
    ) -> Result<u64, SliceRefused> {
        let merged = self.try_merge(replica, slice, cells);
        if let Err(why) = merged {
            self.refused.note(*slice, why);
        }
        merged
    }

    /// A slice that is known here: our own, or a learnt one.
    #[must_use]
    pub fn has(&self, slice: &SliceId) -> bool {
        *slice == self.own_slice || self.by_id.contains_key(slice)
    }

    /// The version of a slice that is here completely; 0 where it is not known.
    #[must_use]
    pub fn version(&self, slice: &SliceId) -> u64 {
        if *slice == self.own_slice {
            return self.own.version();
        }
        self.known(slice).map_or(0, |known| known.version)
    }

    /// Notes that everything of a learnt slice is here up to `version`, given that everything up to
    /// `base` was: false where it was not. A slice of which no cell was raised is known from now on, if
    /// there is a place for it, and costs no memory of cells; one that was refused is not: its cells went by.
    pub fn complete(&mut self, slice: &SliceId, base: u64, version: u64) -> bool {
        if base > self.version(slice) || self.refused.contains(slice) {
            return false;
        }
        let at = match self.place(slice) {
            Ok(at) => at,
            Err(why) => {
                self.refused.note(*slice, why);
                return false;
            }
        };
        let known = &mut self.known[at];
        known.version = known.version.max(version);
        true
    }

    /// A number that grows whenever a cell of the slice has grown here; 0 where it is not known.
    #[must_use]
    pub fn changed_at(&self, slice: &SliceId) -> u64 {
        if *slice == self.own_slice {
            return self.own.raised();
        }
        self.known(slice).map_or(0, |known| known.raised)
    }

    /// What others compare: our own slice first, then all that were learnt, in the order in which they
    /// came.
    pub fn digests(&self) -> impl Iterator<Item = SliceDigest> + '_ {
        let own = SliceDigest {
            slice: self.own_slice,
            version: self.own.version(),
            root: self.own.hashes().root(),
        };
        once(own).chain(self.known.iter().map(|known| SliceDigest {
            slice: known.id,
            version: known.version,
            root: known.root(),
        }))
    }

    /// The hash of all cells of a slice; 0 where all are 0, or it is not known.
    #[must_use]
    pub fn root(&self, slice: &SliceId) -> u64 {
        self.hashes(slice).map_or(0, Hashes::root)
    }

    /// The hash of each section of a slice; empty where it is not known.
    #[must_use]
    pub fn section_hashes(&self, slice: &SliceId) -> &[u64] {
        match self.hashes(slice) {
            Some(hashes) => hashes.sections(),
            None if self.has(slice) => &self.no_sections,
            None => &[],
        }
    }

    /// The hash of each group of a section; empty where the slice is not known or has no such section.
    #[must_use]
    pub fn group_hashes(&self, slice: &SliceId, section: u32) -> &[u64] {
        match self.hashes(slice) {
            Some(hashes) => hashes.groups(section),
            // One without cells has as many groups as our own.
            None if self.has(slice) => &NO_GROUPS[..self.own.hashes().groups(section).len()],
            None => &[],
        }
    }

    /// A slice that is not held because there was no room for it: it need not be asked for again.
    #[must_use]
    pub fn is_refused(&self, slice: &SliceId) -> bool {
        self.refused.contains(slice) || self.refused.is_full() && !self.has(slice)
    }

    /// How many slices are known to exist elsewhere, and are not held; [`REFUSED_MAX`] are that many or
    /// more.
    #[must_use]
    pub fn refused(&self) -> usize {
        self.refused.len()
    }

    /// All slices that were learnt, in the order in which they came.
    pub fn learnt(&self) -> impl Iterator<Item = LearntSlice> + '_ {
        self.known.iter().map(|known| LearntSlice {
            slice: known.id,
            version: known.version,
            weight: known.weight(),
            memory_bytes: known.held.as_ref().map_or(0, |_| self.slice_bytes),
        })
    }

    fn known(&self, slice: &SliceId) -> Option<&Known> {
        self.by_id.get(slice).map(|&at| &self.known[at])
    }

    /// `None` where it has no cells.
    fn hashes(&self, slice: &SliceId) -> Option<&Hashes> {
        if *slice == self.own_slice {
            return Some(self.own.hashes());
        }
        Some(&self.known(slice)?.held.as_ref()?.hashes)
    }

    fn try_merge(
        &mut self,
        replica: &Replica,
        slice: &SliceId,
        cells: impl Iterator<Item = (u32, u32)>,
    ) -> Result<u64, SliceRefused> {
        self.check_name(slice)?;
        let mut given = Given::new(cells, self.cells);
        // What raises nothing takes nothing.
        let is_held = self.hashes(slice).is_some();
        let first = given.find(|&(_, value)| is_held || value > 0);
        let Some(first) = first else {
            return given.outcome(0);
        };
        let at = self.hold(replica, slice)?;
        let Known { held, raised, .. } = &mut self.known[at];
        let merged = held.as_mut().map_or(0, |held| {
            held.merge(replica, once(first).chain(given.by_ref()))
        });
        *raised += merged;
        given.outcome(merged)
    }

    /// The place of a slice that has cells, perhaps since now.
    fn hold(&mut self, replica: &Replica, slice: &SliceId) -> Result<usize, SliceRefused> {
        if let Some(&at) = self.by_id.get(slice)
            && self.known[at].held.is_some()
        {
            return Ok(at);
        }
        // Memory first: a slice that is refused shall not be known.
        self.check_place(slice)?;
        let held = Held::try_new(replica, slice.node)?;
        let at = self.place(slice)?;
        self.known[at].held = Some(held);
        Ok(at)
    }

    /// The place of a slice that is known, perhaps since now.
    fn place(&mut self, slice: &SliceId) -> Result<usize, SliceRefused> {
        self.check_name(slice)?;
        self.check_place(slice)?;
        self.refused.forget(slice);
        Ok(*self.by_id.entry(*slice).or_insert_with(|| {
            self.known.push(Known::new(*slice));
            self.known.len() - 1
        }))
    }

    fn check_name(&self, slice: &SliceId) -> Result<(), SliceRefused> {
        if *slice == self.own_slice {
            return Err(SliceRefused::OwnSlice);
        }
        if slice.sketch != self.own_slice.sketch {
            return Err(SliceRefused::Unsupported);
        }
        Ok(())
    }

    fn check_place(&self, slice: &SliceId) -> Result<(), SliceRefused> {
        let max = self.max_origins;
        if self.known.len() >= max && !self.by_id.contains_key(slice) {
            return Err(SliceRefused::TooManyOrigins { max });
        }
        Ok(())
    }
}

/// The groups of a section without cells.
static NO_GROUPS: [u64; SECTION_GROUPS] = [0; SECTION_GROUPS];

#[cfg(test)]
mod tests;
