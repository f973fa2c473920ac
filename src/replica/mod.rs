//! What a node knows: its own sketch, and the slices that it has learnt from others.
//!
//! ```text
//!              data threads: add, count                     control thread
//!                   |         \                                  |
//!                   v          v                                 v
//!    Replica   own: Sketch, pairs [ own | others ]  <── growth ── Slices: merge by maximum, packed
//!              d x w pairs
//!                   |         origins: legacy peers <──────────── LegacyRows: merge rows
//!                   |
//!                   └──(compare)──> published copy, versions, history, hashes: Slices::publish
//!
//!    count(key) = min over rows ( own ) + min over rows ( others ) + for each legacy peer its least row
//! ```
//!
//! A key is hashed once. *Others* is the sum of all learnt slices, cell for cell: when a merge raises a cell from a to
//! b, b - a is added to it. So a count costs the same whatever the cluster is or was, and it is an upper bound.
//! Earlier starts of our own node are others, too.
//!
//! Data threads read cells without a lock and without allocating; the only writer of what is learnt is the
//! control thread ([`Slices`], [`LegacyRows`]).

mod absorber;
mod append;
mod batch;
mod estimate;
mod fingerprint;
mod legacy;
mod memory;
pub mod once;
mod origins;
mod pipeline;
mod slices;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};

use crossbeam_utils::CachePadded;

pub use batch::Batch;
pub use estimate::Estimate;
pub use fingerprint::fingerprint;
pub use legacy::{LegacyRows, MergeError, RowMerged};
pub use pipeline::{LAG, PIPELINE_ABOVE_BYTES, PIPELINE_SHARED_ABOVE_BYTES, Way};
pub use slices::{
    CellsRef, Changes, GROUP_CELLS, LearntSlice, Published, REFUSED_MAX, SECTION_GROUPS,
    SliceDigest, SliceRefused, Slices, cell_hash,
};

pub use crate::wire::cluster::SliceId;
pub use crate::wire::{Boot, SketchNumber};

use crate::sketch::{
    CellIndexes, Exhausted, Geometry, HashFamily, Sketch, SketchError, Weight, lanes_of,
};
use append::AppendTable;
use memory::MemoryAccount;
use origins::Origin;

/// What a replica may take from others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplicaLimits {
    /// Legacy peers.
    pub max_peers: usize,
    /// Slices learnt from other nodes, and from earlier boots of this one.
    pub max_origins: usize,
    /// Bytes of all cells: own ones and those of others beside them, what is noted of totals that 32 bits do not hold,
    /// their published copy ([`Slices`]), learnt slices by what is in them, and two tables for each legacy peer. Asked
    /// before anything is allocated; `u64::MAX` is no limit. Tables count whole, although pages that were never written
    /// cost nothing. What stands beside the cells follows from them: hashes and versions (3 % of our own slice) and the
    /// history of our own (at most an eighth of it).
    pub max_memory_bytes: u64,
}

/// Who counted something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OriginName {
    /// A node of this program, by its id.
    Node(u64),
    /// A legacy peer, by where its rows come from.
    Legacy(SocketAddr),
}

/// A part of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OriginEstimate {
    /// Who counted it.
    pub origin: OriginName,
    /// Slices of it that are held here: one for each boot; our own live one is among them.
    pub slices: usize,
    /// An upper bound of what it counted.
    pub count: u64,
    /// This node itself.
    pub is_own: bool,
}

/// A node's own sketch and the slices of others. Shared by all threads.
///
/// ```
/// use rmbd::replica::Replica;
/// use rmbd::sketch::{Geometry, HashFamily, Weight};
///
/// let replica = Replica::try_new(Geometry::new(1024, 4)?, HashFamily::Xxh3 { seed: 7 }, 8)?;
/// replica.add(b"key", Weight::new(2)?)?;
/// assert_eq!(replica.estimate(b"key").count, 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Replica {
    own: Sketch,
    own_slice: SliceId,
    max_origins: usize,
    /// N of all learnt slices. One writer, and a number of its own: relaxed.
    learnt_weight: AtomicU64,
    /// Something was refused for want of room: slices, legacy peers. Words of their own: relaxed.
    lacks_slices: AtomicBool,
    lacks_peers: AtomicBool,
    origins: AppendTable<Origin>,
    memory: MemoryAccount,
    /// Batches that there are: threads that may add at the same time.
    batches: CachePadded<AtomicUsize>,
}

impl Replica {
    /// An empty replica that learns no slices, with room for those of `max_peers` legacy peers. Their
    /// memory is taken when they first send something.
    ///
    /// # Errors
    ///
    /// [`SketchError::OutOfMemory`] where the allocator refuses.
    pub fn try_new(
        geometry: Geometry,
        family: HashFamily,
        max_peers: usize,
    ) -> Result<Self, SketchError> {
        let limits = ReplicaLimits {
            max_peers,
            max_origins: 0,
            max_memory_bytes: u64::MAX,
        };
        Self::try_with(geometry, family, SliceId::default(), limits)
    }

    /// An empty replica that writes the slice `own`, and may learn from others within `limits`.
    ///
    /// # Errors
    ///
    /// [`SketchError::OutOfMemory`] where the allocator refuses, or its own cells are above the limit.
    pub fn try_with(
        geometry: Geometry,
        family: HashFamily,
        own: SliceId,
        limits: ReplicaLimits,
    ) -> Result<Self, SketchError> {
        Self::try_with_threads(geometry, family, own, limits, 1)
    }

    /// As [`try_with`](Self::try_with), where so many threads add at the same time, each with a [`Batch`] of its own.
    /// In a small sketch each of them then has cells of its own ([`lanes_of`]).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn try_with_threads(
        geometry: Geometry,
        family: HashFamily,
        own: SliceId,
        limits: ReplicaLimits,
        threads: usize,
    ) -> Result<Self, SketchError> {
        let memory = MemoryAccount::new(limits.max_memory_bytes);
        let pair_shift = u32::from(limits.max_origins > 0);
        let lanes = lanes_of(geometry, threads);
        let sketch = Sketch::try_with(geometry, family, pair_shift, lanes)?;
        // Nothing is written yet, so that no page of it has been taken.
        let bytes = sketch.memory_bytes();
        let reserved = memory.reserve(bytes);
        reserved.map_err(|_| SketchError::OutOfMemory { bytes })?;
        Ok(Self {
            own: sketch,
            own_slice: own,
            max_origins: limits.max_origins,
            learnt_weight: AtomicU64::new(0),
            lacks_slices: AtomicBool::new(false),
            lacks_peers: AtomicBool::new(false),
            origins: AppendTable::try_new(limits.max_peers)?,
            memory,
            batches: CachePadded::default(),
        })
    }

    /// What was added on this node since it started.
    #[inline]
    #[must_use]
    pub fn own(&self) -> &Sketch {
        &self.own
    }

    /// The name of the slice that [`own`](Self::own) is.
    #[must_use]
    pub fn own_slice(&self) -> SliceId {
        self.own_slice
    }

    /// Adds `weight` to `key` on this node.
    ///
    /// # Errors
    /// [`Exhausted`] where too much was added since the last pass of [`Slices::publish`]; nothing was added.
    #[inline]
    pub fn add(&self, key: &[u8], weight: Weight) -> Result<(), Exhausted> {
        self.own.add(key, weight)
    }

    /// An upper bound of the weight that was added to `key`, here and wherever slices came from.
    #[inline]
    #[must_use]
    pub fn estimate(&self, key: &[u8]) -> Estimate {
        self.estimate_at(&self.own.cells_of(key))
    }

    /// What [`estimate`](Self::estimate) is made of where no slices are learnt ([`Slices::estimate_by_origin`] else):
    /// ourselves first, then the legacy peers.
    #[must_use]
    pub fn estimate_by_origin(&self, key: &[u8]) -> Vec<OriginEstimate> {
        let cells = &self.own.cells_of(key);
        let own = OriginEstimate {
            origin: OriginName::Node(self.own_slice.node),
            slices: 1,
            count: self.own.own_estimate_at(cells),
            is_own: true,
        };
        [own]
            .into_iter()
            .chain(self.legacy_estimates(cells))
            .collect()
    }

    /// Bytes of all cells, as they are counted against
    /// [`max_memory_bytes`](ReplicaLimits::max_memory_bytes).
    #[must_use]
    pub fn memory_bytes(&self) -> u64 {
        self.memory.taken_bytes()
    }

    /// N of what is counted here: all weight that was added on this node, and what learnt slices and
    /// legacy peers' hold. What threads add in batches is in it when a batch is done.
    #[must_use]
    pub fn total_weight(&self) -> u64 {
        let learnt = self.learnt_weight.load(Relaxed);
        let own = self.own.total_weight().saturating_add(learnt);
        let legacy = self.shown_origins().map(Origin::weight);
        legacy.fold(own, u64::saturating_add)
    }

    /// Whether something that others counted was refused here for want of room, so that counts may be too low for
    /// all together.
    #[inline]
    #[must_use]
    pub fn is_incomplete(&self) -> bool {
        self.lacks_slices.load(Relaxed) || self.lacks_peers.load(Relaxed)
    }

    /// Copies a row of this node's own cells into `out`, whose content it replaces; empty where there
    /// is no such row. Cells grow meanwhile: each is as it was at some moment of the call.
    pub fn read_own_row(&self, row: usize, out: &mut Vec<u64>) {
        out.clear();
        out.extend(self.own.own_row(row));
    }

    /// Addresses of the legacy peers that are counted, in the order in which they came.
    pub fn legacy_peers(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        self.shown_origins().map(|origin| origin.address)
    }

    /// The rule that stands above.
    #[inline]
    fn estimate_at(&self, cells: &CellIndexes) -> Estimate {
        let slices = self.own.estimate_at(cells);
        let legacy = self.shown_origins().map(|origin| origin.estimate_at(cells));
        Estimate {
            count: legacy.fold(slices, u64::saturating_add),
            incomplete: self.is_incomplete(),
        }
    }

    fn legacy_estimates(&self, cells: &CellIndexes) -> impl Iterator<Item = OriginEstimate> {
        self.shown_origins().map(|origin| OriginEstimate {
            origin: OriginName::Legacy(origin.address),
            slices: 1,
            count: origin.estimate_at(cells),
            is_own: false,
        })
    }

    /// By the one writer of slices.
    fn add_learnt_weight(&self, weight: u64) {
        let grown = self.learnt_weight.load(Relaxed).saturating_add(weight);
        self.learnt_weight.store(grown, Relaxed);
    }

    /// Legacy peers that are not forgotten.
    #[inline]
    fn shown_origins(&self) -> impl Iterator<Item = &Origin> {
        self.origins.iter().filter(|origin| !origin.is_hidden())
    }
}

#[cfg(test)]
mod tests;
