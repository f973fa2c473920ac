//! The tour through our digest: each round tells as many lines as fit, of one node after the other, and goes on where
//! the one before has ended.

use std::collections::BTreeMap;

use crate::gossip::peers::DigestLine;
use rmbd_proto::Writer;
use rmbd_proto::cluster::SliceId;
use rmbd_store::Slices;

/// The position at which the next round goes on.
#[derive(Debug)]
pub(super) struct DigestTour {
    lines_a_round: usize,
    next: DigestPosition,
}

/// A line's place in the digest: nodes ascend, and each has two lines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct DigestPosition {
    node: u64,
    /// It is the second of them.
    is_of_siblings: bool,
}

impl DigestTour {
    pub(super) fn new(lines_a_round: usize) -> Self {
        Self {
            lines_a_round,
            next: DigestPosition::default(),
        }
    }

    /// The lines of this round; `writers` says who writes now, of each other node.
    pub(super) fn part(&self, slices: &Slices, writers: &BTreeMap<u64, Writer>) -> Vec<DigestLine> {
        let lines = lines_from(self.next, slices, writers);
        lines.take(self.lines_a_round).collect()
    }

    /// The next round goes on where this one has ended.
    pub(super) fn move_on(
        &mut self,
        told: &[DigestLine],
        slices: &Slices,
        writers: &BTreeMap<u64, Writer>,
    ) {
        let next = told.last().and_then(DigestPosition::behind);
        let has_line = |&next: &DigestPosition| lines_from(next, slices, writers).next().is_some();
        self.next = next.filter(has_line).unwrap_or_default();
    }
}

impl DigestPosition {
    /// The position behind a line; `None` at the end of all.
    fn behind(line: &DigestLine) -> Option<Self> {
        let (node, is_of_siblings) = match line {
            DigestLine::Slice(slice) => (slice.node, true),
            DigestLine::Siblings(slice) => (slice.node.checked_add(1)?, false),
        };
        Some(Self {
            node,
            is_of_siblings,
        })
    }
}

fn lines_from<'a>(
    first: DigestPosition,
    slices: &'a Slices,
    writers: &'a BTreeMap<u64, Writer>,
) -> impl Iterator<Item = DigestLine> + 'a {
    let own = slices.own_slice();
    let nodes = slices.nodes(own.sketch, first.node);
    nodes.flat_map(move |node| {
        let present = if node == own.node {
            Some(own.writer)
        } else {
            writers.get(&node).copied()
        };
        let slice = SliceId {
            sketch: own.sketch,
            node,
            writer: present.unwrap_or(Writer(0)),
        };
        let is_written = slice.writer != Writer(0) && slices.has(&slice);
        let is_told = node == first.node && first.is_of_siblings;
        let has_siblings = slices.siblings(&slice).count > 0;
        let line = (is_written && !is_told).then_some(DigestLine::Slice(slice));
        let siblings = has_siblings.then_some(DigestLine::Siblings(slice));
        line.into_iter().chain(siblings)
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use rmbd_sketch::{Geometry, HashFamily};
    use rmbd_store::{Replica, ReplicaLimits};

    const OWN: SliceId = SliceId::of(5, Writer(50));

    /// A node that holds two slices each of nodes 3 and 9.
    fn holder() -> Slices {
        let limits = ReplicaLimits {
            max_peers: 1,
            max_origins: 9,
            max_memory_bytes: u64::MAX,
        };
        let family = HashFamily::Xxh3 { seed: 1 };
        let geometry = Geometry::new(64, 1).unwrap();
        let replica = Replica::try_with(geometry, family, OWN, limits).unwrap();
        let mut slices = Slices::try_new(Arc::new(replica)).unwrap();
        for node in [3, 9] {
            for writer in [1, 2] {
                let slice = SliceId::of(node, Writer(writer));
                slices.merge(&slice, [(0, 4)].into_iter()).unwrap();
            }
        }
        slices
    }

    #[test]
    fn rounds_tell_all_lines_in_turn() {
        let slices = holder();
        let writers = [(3, Writer(2)), (9, Writer(7))].into();
        let present = SliceId::of(3, Writer(2));
        let unknown = SliceId::of(9, Writer(7));
        let all = [
            DigestLine::Slice(present),
            DigestLine::Siblings(present),
            DigestLine::Slice(OWN),
            // What the present writer of node 9 wrote is not here yet.
            DigestLine::Siblings(unknown),
        ];
        for lines_a_round in 1..=9 {
            let mut tour = DigestTour::new(lines_a_round);
            for _ in 0..3 {
                for expected in all.chunks(lines_a_round) {
                    let part = tour.part(&slices, &writers);
                    assert_eq!(part, expected);
                    tour.move_on(&part, &slices, &writers);
                }
            }
        }
    }
}
