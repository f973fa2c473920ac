//! Hashes of a slice on four levels. Two nodes compare them to find where their copies differ.
//!
//! ```text
//!    root     sum of all sections
//!    section  sum of 128 groups      16 384 cells
//!    group    sum of 128 cells       its full content fits a datagram
//!    cell     a hash of (index, value), 0 where the value is 0
//! ```
//!
//! They are sums (mod 2^64) and not hashes of hashes: a cell that grows changes each level by the same difference,
//! and an empty slice costs nothing. Two different contents have the same sum with a probability of about 2^-64. A
//! node that may write slices could make them agree on purpose; but members hold the cluster's key, and could as well
//! claim any counts.

use crate::memory::try_zeroed;
use rmbd_proto::cluster::finish;
pub use rmbd_proto::cluster::{GROUP_CELLS, SECTION_GROUPS};
use rmbd_sketch::SketchError;

/// The contribution of a cell to the hashes of its slice; 0 for an empty cell.
///
/// It applies the finalizer of `MurmurHash3` ([`finish`]) twice: to the index plus 1 (since the finalizer leaves 0 as
/// it is), and then to the result plus the value.
#[inline]
#[must_use]
pub const fn cell_hash(index: u32, value: u64) -> u64 {
    if value == 0 {
        return 0;
    }
    finish(finish(index as u64 + 1).wrapping_add(value))
}

/// The hashes of a slice on all levels.
#[derive(Debug)]
pub(super) struct Hashes {
    groups: Box<[u64]>,
    sections: Box<[u64]>,
    root: u64,
}

impl Hashes {
    /// The hashes of an empty slice of `cells` cells.
    pub(super) fn try_new(cells: usize) -> Result<Self, SketchError> {
        let groups = cells.div_ceil(GROUP_CELLS);
        Ok(Self {
            groups: try_zeroed(groups)?,
            sections: try_zeroed(groups.div_ceil(SECTION_GROUPS))?,
            root: 0,
        })
    }

    /// Changes a group's sum by `difference`, and the sums above it.
    #[inline]
    pub(super) fn change(&mut self, group: usize, difference: u64) {
        let section = group / SECTION_GROUPS;
        self.groups[group] = self.groups[group].wrapping_add(difference);
        self.sections[section] = self.sections[section].wrapping_add(difference);
        self.root = self.root.wrapping_add(difference);
    }

    /// Changes a group's sum to this one.
    pub(super) fn set(&mut self, group: usize, hash: u64) {
        self.change(group, hash.wrapping_sub(self.groups[group]));
    }

    pub(super) fn root(&self) -> u64 {
        self.root
    }

    pub(super) fn sections(&self) -> &[u64] {
        &self.sections
    }

    /// The hashes of the groups of a section; empty if there is no such section.
    pub(super) fn groups(&self, section: u32) -> &[u64] {
        let mut sections = self.groups.chunks(SECTION_GROUPS);
        sections.nth(section as usize).unwrap_or_default()
    }
}

/// The change of all levels' sums when a cell grows.
#[inline]
pub(super) const fn difference(index: u32, old: u64, new: u64) -> u64 {
    cell_hash(index, new).wrapping_sub(cell_hash(index, old))
}
