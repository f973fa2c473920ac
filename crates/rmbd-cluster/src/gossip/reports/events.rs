//! Events for a log, in a bounded queue. What others can repeat at will is told once.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;

use crate::gossip::state::{Agreement, ClusterEvent, SharedNode};
use rmbd_proto::SketchNumber;
use rmbd_proto::cluster::{SKETCHES_MAX, SliceId};
use rmbd_store::SliceRefused;

/// Events that wait to be polled; more are dropped, since they are for a log.
const EVENTS_MAX: usize = 512;
/// Things of one kind that are remembered, so that each is told once; those beyond are not told.
const TOLD_ONCE_MAX: usize = 256;
/// So many slices of each sketch have a place, whatever was told of others.
const OF_A_SKETCH_MIN: usize = 16;
/// Sketches of others that are remembered likewise: all that some members can have otherwise.
const OTHER_SKETCHES_MAX: usize = 16 * SKETCHES_MAX;

/// Events that wait to be polled, and what was told already.
#[derive(Debug, Default)]
pub(crate) struct Events {
    waiting: VecDeque<ClusterEvent>,
    strangers: BTreeSet<SocketAddr>,
    other_sketches: BTreeSet<(SocketAddr, SketchNumber)>,
    slices_refused: BTreeMap<SketchNumber, BTreeSet<SliceId>>,
    shared_nodes: BTreeSet<u64>,
}

impl Events {
    pub(crate) fn push(&mut self, event: ClusterEvent) {
        if self.waiting.len() < EVENTS_MAX {
            self.waiting.push_back(event);
        }
    }

    pub(crate) fn pop(&mut self) -> Option<ClusterEvent> {
        self.waiting.pop_front()
    }

    /// Something came from an address that no key opens.
    pub(crate) fn no_key_opens(&mut self, from: SocketAddr) {
        if is_first(&mut self.strangers, from) {
            self.push(ClusterEvent::NoKeyOpens { from });
        }
    }

    /// Somebody has another sketch of a number than we, or none.
    pub(crate) fn other_sketch(
        &mut self,
        from: SocketAddr,
        sketch: SketchNumber,
        ours: u64,
        agreement: Agreement,
    ) {
        let theirs = match agreement {
            Agreement::Other { theirs } => Some(theirs),
            _ => None,
        };
        let told = &mut self.other_sketches;
        if told.len() < OTHER_SKETCHES_MAX && told.insert((from, sketch)) {
            self.push(ClusterEvent::OtherSketch {
                from,
                sketch,
                ours,
                theirs,
            });
        }
    }

    /// There is no room for a slice.
    pub(crate) fn slice_refused(&mut self, slice: SliceId, reason: SliceRefused) {
        let all: usize = self.slices_refused.values().map(BTreeSet::len).sum();
        let of_sketch = self.slices_refused.entry(slice.sketch).or_default();
        let has_room = all < TOLD_ONCE_MAX || of_sketch.len() < OF_A_SKETCH_MIN;
        if has_room && of_sketch.insert(slice) {
            self.push(ClusterEvent::SliceRefused { slice, reason });
        }
    }

    /// Several members have one node number.
    pub(crate) fn shared_node(&mut self, shared: SharedNode) {
        if is_first(&mut self.shared_nodes, shared.node) {
            self.push(ClusterEvent::SharedNode(shared));
        }
    }

    /// Addresses from which something came that no key opens.
    pub(crate) fn strangers(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        self.strangers.iter().copied()
    }
}

/// Remembers `new`; true where it was not known, and there was room for it.
fn is_first<T: Ord>(told: &mut BTreeSet<T>, new: T) -> bool {
    told.len() < TOLD_ONCE_MAX && told.insert(new)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(n: u16) -> SocketAddr {
        ([127, 0, 0, 1], n).into()
    }

    #[test]
    fn each_stranger_is_told_once() {
        let mut events = Events::default();
        for _ in 0..3 {
            events.no_key_opens(address(1));
        }
        let from = address(1);
        assert_eq!(events.pop(), Some(ClusterEvent::NoKeyOpens { from }));
        assert_eq!(events.pop(), None);
        assert!(events.strangers().eq([from]));
    }

    #[test]
    fn what_waits_and_what_is_remembered_is_bounded() {
        let mut events = Events::default();
        for n in 0..1_000 {
            events.no_key_opens(address(n));
            for number in 0..9 {
                events.other_sketch(address(n), SketchNumber(number), 1, Agreement::Lacks);
            }
        }
        for (sketch, node) in (0..9).flat_map(|sketch| (0..1_000).map(move |node| (sketch, node))) {
            let slice = SliceId {
                sketch: SketchNumber(sketch),
                node,
                ..SliceId::default()
            };
            events.slice_refused(slice, SliceRefused::TooManyOrigins { max: 1 });
        }
        let refused = events.slices_refused.values().flatten();
        assert_eq!(refused.count(), TOLD_ONCE_MAX + 8 * OF_A_SKETCH_MIN);
        assert_eq!(events.strangers().count(), TOLD_ONCE_MAX);
        assert_eq!(events.other_sketches.len(), OTHER_SKETCHES_MAX);
        let told = std::iter::from_fn(|| events.pop());
        assert_eq!(told.count(), EVENTS_MAX);
    }
}
