//! What a node knows: its own sketch, and the slices that it has learnt from others.
//!
//! ```text
//!              data threads: add, count                     control thread
//!                   |         \                                  |
//!                   v          v (count only)                    v
//!    Replica   own: Sketch    learnt: by node, each with   <── Slices: merge by maximum
//!              d x w cells       a slice for each boot
//!                   |         origins: legacy peers        <── LegacyRows: merge rows
//!                   |
//!                   └──(compare)──> published copy, versions, history, hashes: Slices::publish
//!
//!    count(key) = sum over nodes ( min over rows ( sum over the node's slices ( cell ) ) )
//! ```
//!
//! A key is hashed once; its cell indexes are good in every slice. The sum over nodes of their minima
//! is an upper bound, and never looser than the minimum over rows of everything summed. Earlier boots
//! of our own node are summed with the own sketch inside its minimum. Each legacy peer is a node with
//! one slice.
//!
//! Data threads read the tables of others without a lock and without allocating; the only writer of
//! what is learnt is the control thread ([`Slices`], [`LegacyRows`]).

mod absorber;
mod append;
mod batch;
mod fingerprint;
mod legacy;
mod memory;
pub mod once;
mod origins;
mod pipeline;
mod slices;
mod table;

use std::net::SocketAddr;

pub use batch::Batch;
pub use fingerprint::fingerprint;
pub use legacy::{LegacyRows, MergeError, RowMerged};
pub use pipeline::{LAG, PIPELINE_ABOVE_BYTES, Way};
pub use slices::{
    CellsRef, Changes, GROUP_CELLS, LearntSlice, Published, REFUSED_MAX, SECTION_GROUPS,
    SliceDigest, SliceRefused, Slices, cell_hash,
};

pub use crate::wire::cluster::SliceId;

use crate::sketch::{
    CellIndexes, Estimate, Geometry, HashFamily, Sketch, SketchError, Weight, least_row, value,
};
use append::AppendTable;
use memory::MemoryAccount;
use origins::Origin;
use table::Table;

/// What a replica may take from others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplicaLimits {
    /// Legacy peers.
    pub max_peers: usize,
    /// Slices learnt from other nodes, and from earlier boots of this one.
    pub max_origins: usize,
    /// Bytes of all cells: own ones, their published copy ([`Slices`]), each learnt slice, and two
    /// slices for each legacy peer, each counted whole, although pages that were never written cost
    /// nothing. Asked before anything is allocated; `u64::MAX` is no limit. What stands beside the
    /// cells follows from them: hashes and versions (1.6 % of our own slice, 0.8 % of a learnt one)
    /// and the history of our own (at most an eighth of it).
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
    pub estimate: Estimate,
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
/// replica.add(b"key", Weight::new(2)?);
/// assert_eq!(replica.estimate(b"key").count, 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Replica {
    own: Sketch,
    own_slice: SliceId,
    learnt: Table,
    origins: AppendTable<Origin>,
    memory: MemoryAccount,
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
        let memory = MemoryAccount::new(limits.max_memory_bytes);
        let bytes = geometry.memory_bytes();
        let reserved = memory.reserve(bytes);
        reserved.map_err(|_| SketchError::OutOfMemory { bytes })?;
        Ok(Self {
            own: Sketch::try_new(geometry, family)?,
            own_slice: own,
            learnt: Table::try_new(own.node, limits.max_origins)?,
            origins: AppendTable::try_new(limits.max_peers)?,
            memory,
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
    #[inline]
    pub fn add(&self, key: &[u8], weight: Weight) {
        self.own.add(key, weight);
    }

    /// An upper bound of the weight that was added to `key`, here and wherever slices came from.
    #[inline]
    #[must_use]
    pub fn estimate(&self, key: &[u8]) -> Estimate {
        self.estimate_at(&self.own.cells_of(key))
    }

    /// What [`estimate`](Self::estimate) is made of: ourselves first, then every node that a slice is
    /// held of, then the legacy peers. Where nothing changes meanwhile, the counts sum up to it.
    #[must_use]
    pub fn estimate_by_origin(&self, key: &[u8]) -> Vec<OriginEstimate> {
        let cells = &self.own.cells_of(key);
        let own = OriginEstimate {
            origin: OriginName::Node(self.own_slice.node),
            slices: 1 + self.learnt.own_boots().count(),
            estimate: self.learnt.own_estimate(self.own.cells(), cells),
            is_own: true,
        };
        let nodes = self.learnt.nodes().map(|(node, slices)| OriginEstimate {
            origin: OriginName::Node(node),
            slices: slices.clone().count(),
            estimate: least_row(slices, cells),
            is_own: false,
        });
        let legacy = self.shown_origins().map(|origin| OriginEstimate {
            origin: OriginName::Legacy(origin.address),
            slices: 1,
            estimate: least_row([&*origin.cells], cells),
            is_own: false,
        });
        [own].into_iter().chain(nodes).chain(legacy).collect()
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
        let own = self.own.total_weight().saturating_add(self.learnt.weight());
        let legacy = self.shown_origins().map(Origin::weight);
        legacy.fold(own, u64::saturating_add)
    }

    /// Copies a row of this node's own cells into `out`, whose content it replaces; empty where there
    /// is no such row. What earlier boots of this node had counted, as far as it is known here, is
    /// added. Cells grow meanwhile: each is as it was at some moment of the call.
    pub fn read_own_row(&self, row: usize, out: &mut Vec<u32>) {
        out.clear();
        out.extend(self.own.row(row).iter().map(value));
        let start = row.saturating_mul(self.own.geometry().width());
        for boot in self.learnt.own_boots() {
            // No cells, where there is no such row.
            let cells = boot.get(start..).unwrap_or_default();
            for (sum, cell) in out.iter_mut().zip(cells) {
                *sum = sum.saturating_add(value(cell));
            }
        }
    }

    /// Addresses of the legacy peers that are counted, in the order in which they came.
    pub fn legacy_peers(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        self.shown_origins().map(|origin| origin.address)
    }

    /// Rule 2: the sum over nodes of each node's least row.
    #[inline]
    fn estimate_at(&self, cells: &CellIndexes) -> Estimate {
        let own = self.learnt.own_estimate(self.own.cells(), cells);
        let nodes = self.learnt.nodes();
        let nodes = nodes.map(|(_, slices)| least_row(slices, cells));
        let sum = nodes.fold(own, sum);
        let legacy = self.shown_origins();
        let legacy = legacy.map(|origin| least_row([&*origin.cells], cells));
        legacy.fold(sum, self::sum)
    }

    /// Legacy peers that are not forgotten.
    #[inline]
    fn shown_origins(&self) -> impl Iterator<Item = &Origin> {
        self.origins.iter().filter(|origin| !origin.is_hidden())
    }
}

/// Of two nodes' answers. The counts are sums of numbers of 32 bits, one for each slice.
#[inline]
fn sum(one: Estimate, other: Estimate) -> Estimate {
    Estimate {
        count: one.count + other.count,
        saturated: one.saturated | other.saturated,
    }
}

#[cfg(test)]
mod tests;
