//! The slices of a node but one, compared as a single sum. A node that was started again and again has many slices,
//! and they hardly ever change.

use std::collections::BTreeMap;
use std::ops::Bound::Included;

use rmbd_proto::cluster::{SIBLING_BUCKETS, SiblingsEntry, SliceId, sibling_bucket, sibling_hash};
use rmbd_proto::{SketchNumber, Writer};

use super::learnt::Known;
use super::{SliceDigest, Slices};

/// The sum over the learnt slices of a node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Sum {
    count: u64,
    sum: u64,
}

/// The sums of all nodes.
#[derive(Debug)]
pub(super) struct Sums {
    of_nodes: BTreeMap<(SketchNumber, u64), Sum>,
    /// The sum of all of them, mod 2^64.
    all: u64,
}

impl Sums {
    /// Sums with an entry for our own node, and no other.
    pub(super) fn new(own: &SliceId) -> Self {
        Self {
            of_nodes: [((own.sketch, own.node), Sum::default())].into(),
            all: 0,
        }
    }

    /// Changes what is known of a slice, and the sum of its node with it.
    pub(super) fn change<T>(
        &mut self,
        known: &mut Known,
        change: impl FnOnce(&mut Known) -> T,
    ) -> T {
        let before = Sum::of_line(&known.digest());
        let changed = change(known);
        let after = Sum::of_line(&known.digest());
        if before != after {
            let node = (known.id.sketch, known.id.node);
            let sum = self.of_nodes.entry(node).or_default();
            *sum = sum.without(before).with(after);
            self.all = self.all.wrapping_sub(before.sum).wrapping_add(after.sum);
        }
        changed
    }
}

impl Sum {
    /// The sum of one slice; empty if the slice is.
    fn of_line(line: &SliceDigest) -> Self {
        if line.root == 0 {
            return Self::default();
        }
        Self {
            count: 1,
            sum: sibling_hash(line.slice.writer, line.version, line.root),
        }
    }

    fn with(self, other: Self) -> Self {
        Self {
            count: self.count + other.count,
            sum: self.sum.wrapping_add(other.sum),
        }
    }

    fn without(self, other: Self) -> Self {
        Self {
            count: self.count - other.count,
            sum: self.sum.wrapping_sub(other.sum),
        }
    }
}

impl Slices {
    /// The nodes of a sketch of which a slice with content is held, ascending from `first` on, and our own.
    pub fn nodes(&self, sketch: SketchNumber, first: u64) -> impl Iterator<Item = u64> + '_ {
        let range = (Included((sketch, first)), Included((sketch, u64::MAX)));
        self.sums.of_nodes.range(range).map(|(&(_, node), _)| node)
    }

    /// The sum (mod 2^64) of a hash of each slice that is not empty: equal on two nodes that hold the same cells in the
    /// same versions.
    #[must_use]
    pub fn sum(&self) -> u64 {
        (self.sums.all).wrapping_add(Sum::of_line(&self.own_digest()).sum)
    }

    /// The line about all slices of a node but this one, which other nodes compare.
    #[must_use]
    pub fn siblings(&self, slice: &SliceId) -> SiblingsEntry {
        let learnt = self.sums.of_nodes.get(&(slice.sketch, slice.node));
        let mut all = learnt.copied().unwrap_or_default();
        if self.is_sibling_of_ours(slice) {
            all = all.with(Sum::of_line(&self.own_digest()));
        }
        if let Some(known) = self.known(slice) {
            all = all.without(Sum::of_line(&known.digest()));
        }
        SiblingsEntry {
            slice: *slice,
            count: all.count,
            sum: all.sum,
        }
    }

    /// The sums of all buckets of a slice's siblings.
    #[must_use]
    pub fn sibling_buckets(&self, slice: &SliceId) -> [u64; SIBLING_BUCKETS] {
        let mut sums = [0_u64; SIBLING_BUCKETS];
        for line in self.sibling_lines(slice, u64::MAX, Writer(0)) {
            let sum = &mut sums[sibling_bucket(line.slice.writer)];
            *sum = sum.wrapping_add(Sum::of_line(&line).sum);
        }
        sums
    }

    /// The lines of a slice's siblings in some buckets (a bit for each). Our own slice's line comes first, if it is a
    /// sibling. The others follow in the order of writers, from `first` on to the last, and then from the lowest.
    pub fn sibling_lines(
        &self,
        slice: &SliceId,
        buckets: u64,
        first: Writer,
    ) -> impl Iterator<Item = SliceDigest> + '_ {
        let name = |writer| SliceId { writer, ..*slice };
        let from_first = name(first)..=name(Writer(u64::MAX));
        let before = name(Writer(0))..name(first);
        let learnt = self.by_id.range(from_first).chain(self.by_id.range(before));
        let learnt = learnt.map(|(_, &at)| self.known[at].digest());
        let own = self.is_sibling_of_ours(slice).then(|| self.own_digest());
        let left_out = *slice;
        own.into_iter().chain(learnt).filter(move |line| {
            let is_asked = buckets >> sibling_bucket(line.slice.writer) & 1 == 1;
            is_asked && line.slice != left_out && line.root != 0
        })
    }

    /// Whether the left-out slice is of another writer of our node: then our own slice is among its siblings.
    fn is_sibling_of_ours(&self, slice: &SliceId) -> bool {
        let own = &self.own_slice();
        (slice.sketch, slice.node) == (own.sketch, own.node) && slice.writer != own.writer
    }
}
