//! Nodes with one flaw each, which the checks must catch. Apart from the flaw they are real nodes.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use rmbd_proto::cluster::SliceId;
use rmbd_proto::compact::{Operation, reply, request};
use rmbd_proto::{Boot, SketchNumber};
use rmbd_store::Estimate;

use super::machine::{Cells, Copies, Machine, Setup};
use super::node::Node;

/// The flaw of a node.
pub trait Flaw {
    /// Whether the node claims to have a slice completely while it has a part.
    const LACKS_CELLS: bool = false;
    /// Whether the node claims to be ready as soon as it runs.
    const READY_AT_ONCE: bool = false;
    /// Whether the node ends without handing over its counts.
    const LEAVES_AT_ONCE: bool = false;
    /// Whether the node counts a repeated request again.
    const COUNTS_REPEATS: bool = false;
    /// Whether the node's rounds are twenty times as long as they should be.
    const SLOW: bool = false;
}

pub struct LacksCells;
pub struct ReadyAtOnce;
pub struct LeavesAtOnce;
pub struct CountsRepeats;
pub struct Slow;

impl Flaw for LacksCells {
    const LACKS_CELLS: bool = true;
}

impl Flaw for ReadyAtOnce {
    const READY_AT_ONCE: bool = true;
}

impl Flaw for LeavesAtOnce {
    const LEAVES_AT_ONCE: bool = true;
}

impl Flaw for CountsRepeats {
    const COUNTS_REPEATS: bool = true;
}

impl Flaw for Slow {
    const SLOW: bool = true;
}

pub struct Wrong<F> {
    node: Node,
    is_leaving: bool,
    flaw: std::marker::PhantomData<F>,
}

impl<F: Flaw> Machine for Wrong<F> {
    const ONE_WAY: bool = Node::ONE_WAY;
    const SEEDS_ALL: bool = Node::SEEDS_ALL;
    const LIMITS_DATAGRAMS: bool = Node::LIMITS_DATAGRAMS;
    const PACED: bool = Node::PACED;
    const QUIET_LIMIT: Duration = Node::QUIET_LIMIT;

    fn start(setup: &Setup, now: Duration) -> Self {
        let mut setup = setup.clone();
        if F::SLOW {
            setup.gossip_interval *= 20;
        }
        Self {
            node: Node::start(&setup, now),
            is_leaving: false,
            flaw: std::marker::PhantomData,
        }
    }

    fn add(&mut self, sketch: SketchNumber, key: &[u8], weight: u32) -> bool {
        self.node.add(sketch, key, weight)
    }

    fn estimate(&self, sketch: SketchNumber, key: &[u8]) -> Estimate {
        self.node.estimate(sketch, key)
    }

    fn own_cells(&self, sketch: SketchNumber) -> Cells {
        self.node.own_cells(sketch)
    }

    fn cells(&self, slice: &SliceId) -> Option<Cells> {
        let mut cells = self.node.cells(slice)?;
        if F::LACKS_CELLS
            && let Some(last) = cells.iter_mut().rev().find(|cell| **cell > 0)
        {
            *last -= 1;
        }
        Some(cells)
    }

    fn copies(&self) -> Copies {
        self.node.copies()
    }

    fn roots(&self) -> BTreeMap<SliceId, u64> {
        self.node.roots()
    }

    fn handle(&mut self, now: Duration, from: SocketAddr, datagram: &mut [u8]) {
        self.node.handle(now, from, datagram);
    }

    fn wake(&mut self, now: Duration) {
        self.node.wake(now);
    }

    fn next_wake(&self, now: Duration) -> Duration {
        self.node.next_wake(now)
    }

    fn transmit(&mut self, now: Duration, buffer: &mut Vec<u8>) -> Option<SocketAddr> {
        self.node.transmit(now, buffer)
    }

    fn join(&mut self, now: Duration, seed: SocketAddr) {
        self.node.join(now, seed);
    }

    fn is_alone(&self) -> bool {
        self.node.is_alone()
    }

    fn live(&self, now: Duration) -> Vec<(Boot, SocketAddr)> {
        self.node.live(now)
    }

    fn set_keys(&mut self, now: Duration, keys: &[u8]) {
        self.node.set_keys(now, keys);
    }

    fn push_to(&mut self, now: Duration, target: SocketAddr) {
        self.node.push_to(now, target);
    }

    fn leave(&mut self, now: Duration) {
        self.is_leaving = true;
        self.node.leave(now);
    }

    fn is_flushed(&self) -> bool {
        self.node.is_flushed() || (F::LEAVES_AT_ONCE && self.is_leaving)
    }

    fn is_ready(&self) -> bool {
        F::READY_AT_ONCE || self.node.is_ready()
    }

    fn is_complete(&self, now: Duration) -> bool {
        F::READY_AT_ONCE || self.node.is_complete(now)
    }

    fn vouched(&self) -> Vec<(SliceId, u64)> {
        self.node.vouched()
    }

    fn published(&self, sketch: SketchNumber) -> (u64, Cells) {
        self.node.published(sketch)
    }

    fn own_version(&self, sketch: SketchNumber) -> u64 {
        self.node.own_version(sketch)
    }

    fn has_room(&self, setup: &Setup, sketch: SketchNumber, slices: usize) -> bool {
        self.node.has_room(setup, sketch, slices)
    }

    fn refuses(&self, slice: &SliceId) -> bool {
        self.node.refuses(slice)
    }

    fn missing(&self, now: Duration) -> Vec<SliceId> {
        self.node.missing(now)
    }

    fn serve(&mut self, now: Duration, datagram: &[u8]) -> Option<Vec<u8>> {
        let bytes = self.node.serve(now, datagram)?;
        let is_repeated = reply(&bytes).is_ok_and(|reply| reply.head.repeated);
        if F::COUNTS_REPEATS
            && is_repeated
            && let Ok(request) = request(datagram)
        {
            for operation in request.operations().flatten() {
                if let Operation::Add { key, weight } = operation {
                    self.node.add(SketchNumber::DEFAULT, key, weight as u32);
                }
            }
        }
        Some(bytes)
    }

    fn repeats(&self) -> u64 {
        self.node.repeats()
    }

    fn broken_bound(&self, now: Duration, setup: &Setup) -> Option<String> {
        self.node.broken_bound(now, setup)
    }

    fn take_log(&mut self) -> Vec<String> {
        self.node.take_log()
    }

    fn describe(&self, now: Duration) -> String {
        self.node.describe(now)
    }
}
