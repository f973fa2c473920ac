//! What a node knows: its own sketch, and the slices that it has learnt from others.
//!
//! ```text
//!                 data threads: add, count                    control thread: merge
//!                      |         \                                  |
//!                      v          v (count only)                    v
//!    Replica     own: Sketch     origins: [ A ][ B ][ C ][   ][   ]   append-only, max_peers places
//!                d x w cells       d x w cells each, of the same geometry and hash
//!
//!    count(key) = sum over nodes ( min over rows ( sum over the node's slices ( cell ) ) )
//! ```
//!
//! A key is hashed once; its cell indexes are good in every slice. The sum over nodes of their minima
//! is an upper bound, and never looser than the minimum over rows of everything summed.
//!
//! Data threads read the table of origins without a lock and without allocating; the only writer of
//! learnt slices is the control thread ([`LegacyRows`]). For now an origin is a legacy peer, which
//! has one slice; the node itself has one too.

mod absorber;
mod batch;
mod fingerprint;
mod legacy;
pub mod once;
mod origins;

use std::net::SocketAddr;

pub use batch::{Batch, LAG, PIPELINE_ABOVE_BYTES, Way};
pub use fingerprint::fingerprint;
pub use legacy::{LegacyRows, MergeError, RowMerged};

use crate::sketch::{
    Estimate, Geometry, HashFamily, MAX_DEPTH, Sketch, SketchError, WeightError, least_row, value,
};
use origins::Origins;

/// A node's own sketch and the slices of others. Shared by all threads.
///
/// ```
/// use rmbd::replica::Replica;
/// use rmbd::sketch::{Geometry, HashFamily};
///
/// let replica = Replica::try_new(Geometry::new(1024, 4)?, HashFamily::Xxh3 { seed: 7 }, 8)?;
/// replica.add(b"key", 2)?;
/// assert_eq!(replica.estimate(b"key").count, 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Replica {
    own: Sketch,
    origins: Origins,
}

impl Replica {
    /// An empty replica with room for the slices of `max_peers` others. Their memory is taken when
    /// they first send something.
    ///
    /// # Errors
    ///
    /// [`SketchError::OutOfMemory`] where the allocator refuses.
    pub fn try_new(
        geometry: Geometry,
        family: HashFamily,
        max_peers: usize,
    ) -> Result<Self, SketchError> {
        Ok(Self {
            own: Sketch::try_new(geometry, family)?,
            origins: Origins::try_new(max_peers)?,
        })
    }

    /// What was added on this node.
    #[inline]
    #[must_use]
    pub fn own(&self) -> &Sketch {
        &self.own
    }

    /// Adds `weight` to `key` on this node.
    ///
    /// # Errors
    ///
    /// A weight above [`MAX_WEIGHT`](crate::sketch::MAX_WEIGHT); then nothing has changed.
    #[inline]
    pub fn add(&self, key: &[u8], weight: u32) -> Result<(), WeightError> {
        self.own.add(key, weight)
    }

    /// An upper bound of the weight that was added to `key`, here and wherever slices came from.
    #[inline]
    #[must_use]
    pub fn estimate(&self, key: &[u8]) -> Estimate {
        let mut buffer = [0; MAX_DEPTH];
        let cells = self.own.hash_into(key, &mut buffer);
        self.estimate_at(cells)
    }

    /// Bytes of all cells: this node's, and what is held for its legacy peers.
    #[must_use]
    pub fn memory_bytes(&self) -> u64 {
        let slice_bytes = self.own.geometry().memory_bytes();
        slice_bytes + self.origins.len() as u64 * legacy::SLICES_PER_PEER * slice_bytes
    }

    /// N of what is counted here: all weight that was added on this node, and what legacy peers'
    /// slices hold. What threads add in batches is in it when a batch is done.
    #[must_use]
    pub fn total_weight(&self) -> u64 {
        let learnt = self.origins.iter().map(origins::Origin::weight);
        learnt.fold(self.own.total_weight(), u64::saturating_add)
    }

    /// Copies a row of this node's own cells into `out`, whose content it replaces; empty where there
    /// is no such row. Cells grow meanwhile: each is as it was at some moment of the call.
    pub fn read_own_row(&self, row: usize, out: &mut Vec<u32>) {
        out.clear();
        out.extend(self.own.row(row).iter().map(value));
    }

    /// Addresses of the legacy peers whose slices are held, in the order in which they came.
    pub fn legacy_peers(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        self.origins.iter().map(|origin| origin.address)
    }

    /// Rule 2: the sum over nodes of each node's least row.
    #[inline]
    fn estimate_at(&self, cells: &[u32]) -> Estimate {
        let own = least_row([self.own.cells()], cells);
        self.origins.iter().fold(own, |sum, origin| {
            let of_node = least_row([&*origin.cells], cells);
            Estimate {
                // A sum of at most `max_peers + 1` numbers of 32 bits each.
                count: sum.count + of_node.count,
                saturated: sum.saturated | of_node.saturated,
            }
        })
    }
}

#[cfg(test)]
mod tests;
