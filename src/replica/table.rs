//! The table of learnt slices, as readers see it: append-only, read without a lock, and grouped by the
//! node that wrote them.
//!
//! ```text
//!    own ───────────────> [ boot 2 ] ─> [ boot 1 ]          each slice knows the next one
//!    nodes  [ A ] ──────> [ boot 7 ]                        of its node; a new one goes
//!           [ B ] ──────> [ boot 9 ] ─> [ boot 5 ] ─> ...   in front
//! ```
//!
//! A reader that has taken the front of a chain has all of it: what comes later is in front of that.
//! So all rows of one answer are made of the same slices.

use std::iter::{FusedIterator, once};
use std::sync::atomic::{
    AtomicU32, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};

use crate::sketch::{CellIndexes, Estimate, SketchError, least_row, prefetch_read};

use super::append::AppendTable;

/// Learnt slices whose cells are asked for ahead of a count. Each takes `depth` of the processor's few
/// dozen requests under way; for more slices than this they would only wait for each other.
const PREFETCHED_SLICES: usize = 16;

/// The end of a chain; otherwise a link is a place in the table, plus one.
const END: u32 = 0;

/// A slice that another node wrote, or this one in an earlier boot.
#[derive(Debug)]
pub(super) struct Learnt {
    /// Full cells are `u32::MAX`.
    pub(super) cells: Box<[AtomicU32]>,
    next_of_node: u32,
}

#[derive(Debug)]
struct Node {
    node: u64,
    newest: AtomicU32,
}

/// All learnt slices.
#[derive(Debug)]
pub(super) struct Table {
    own_node: u64,
    slices: AppendTable<Learnt>,
    /// The others; never more than there are slices.
    nodes: AppendTable<Node>,
    own_newest: AtomicU32,
    /// N of all slices. One writer, and a number of its own: relaxed.
    weight: AtomicU64,
}

impl Table {
    pub(super) fn try_new(own_node: u64, max_slices: usize) -> Result<Self, SketchError> {
        Ok(Self {
            own_node,
            // A link fits 32 bits.
            slices: AppendTable::try_new(max_slices.min(u32::MAX as usize - 1))?,
            nodes: AppendTable::try_new(max_slices.min(u32::MAX as usize - 1))?,
            own_newest: AtomicU32::new(END),
            weight: AtomicU64::new(0),
        })
    }

    pub(super) fn max(&self) -> usize {
        self.slices.max()
    }

    pub(super) fn get(&self, place: usize) -> Option<&Learnt> {
        self.slices.get(place)
    }

    pub(super) fn weight(&self) -> u64 {
        self.weight.load(Relaxed)
    }

    /// By the one writer.
    pub(super) fn add_weight(&self, weight: u64) {
        let grown = self.weight().saturating_add(weight);
        self.weight.store(grown, Relaxed);
    }

    /// Appends an empty slice that `node` wrote, and says at which place; `None` where the table is full. One writer.
    pub(super) fn push(&self, node: u64, cells: Box<[AtomicU32]>) -> Option<usize> {
        let known = if node == self.own_node {
            Some(&self.own_newest)
        } else {
            let mut nodes = self.nodes.iter();
            nodes
                .find(|known| known.node == node)
                .map(|known| &known.newest)
        };
        let learnt = Learnt {
            cells,
            next_of_node: known.map_or(END, |newest| newest.load(Relaxed)),
        };
        let place = self.slices.push(learnt).ok()?;
        let link = place as u32 + 1;
        match known {
            // Release, against the Acquire in `chain`: the slice is in its place before it is linked.
            Some(newest) => newest.store(link, Release),
            None => {
                let node = Node {
                    node,
                    newest: AtomicU32::new(link),
                };
                // There is room: a node comes with a slice of its own.
                self.nodes.push(node).ok()?;
            }
        }
        Some(place)
    }

    /// Starts to bring cells near that will be read soon.
    #[inline]
    pub(super) fn prefetch(&self, cells: &CellIndexes) {
        for slice in self.slices.iter().take(PREFETCHED_SLICES) {
            prefetch_read(&slice.cells, cells);
        }
    }

    /// The learnt slices of our own node.
    #[inline]
    pub(super) fn own_boots(&self) -> Chain<'_> {
        self.chain(&self.own_newest)
    }

    /// Each other node, with its slices.
    #[inline]
    pub(super) fn nodes(&self) -> impl Iterator<Item = (u64, Chain<'_>)> {
        let nodes = self.nodes.iter();
        nodes.map(|node| (node.node, self.chain(&node.newest)))
    }

    /// The least row of our own node: this boot's cells, and those of earlier ones.
    #[inline]
    pub(super) fn own_estimate(&self, own: &[AtomicU32], cells: &CellIndexes) -> Estimate {
        let boots = self.own_boots();
        if boots.is_empty() {
            return least_row([own], cells);
        }
        least_row(once(own).chain(boots), cells)
    }

    #[inline]
    fn chain(&self, newest: &AtomicU32) -> Chain<'_> {
        Chain {
            slices: &self.slices,
            link: newest.load(Acquire),
        }
    }
}

/// The cells of a node's slices, one slice after the other.
#[derive(Debug, Clone)]
pub(super) struct Chain<'a> {
    slices: &'a AppendTable<Learnt>,
    link: u32,
}

impl Chain<'_> {
    #[inline]
    fn is_empty(&self) -> bool {
        self.link == END
    }
}

impl<'a> Iterator for Chain<'a> {
    type Item = &'a [AtomicU32];

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let place = self.link.checked_sub(1)?;
        let slice = self.slices.get(place as usize)?;
        self.link = slice.next_of_node;
        Some(&slice.cells)
    }
}

impl FusedIterator for Chain<'_> {}
