//! A node of the simulator, and the CPU time of what its control thread would do.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use rmbd_proto::cluster::SliceId;
use rmbd_proto::{Boot, SketchNumber};
use rmbd_simulator::machine::{Cells, Copies, Machine, Setup};
use rmbd_simulator::node::Node;
use rmbd_store::Estimate;

use crate::support::cpu_time::of_this_thread;

/// A node whose turns are measured: datagrams in and out, what time makes due, and snapshots.
pub(crate) struct Metered {
    node: Node,
    /// CPU time of all turns.
    turns: Cell<Duration>,
}

impl Metered {
    pub(crate) fn turns(&self) -> Duration {
        self.turns.get()
    }

    fn turn<T>(&mut self, turn: impl FnOnce(&mut Node) -> T) -> T {
        let began = of_this_thread();
        let outcome = turn(&mut self.node);
        let took = of_this_thread().saturating_sub(began);
        self.turns.set(self.turns.get() + took);
        outcome
    }
}

/// Hands a call on to the node.
macro_rules! as_the_node {
    ($(fn $name:ident(&self $(, $argument:ident: $type:ty)*) -> $output:ty;)*) => {
        $(fn $name(&self $(, $argument: $type)*) -> $output {
            self.node.$name($($argument),*)
        })*
    };
}

impl Machine for Metered {
    const ONE_WAY: bool = Node::ONE_WAY;
    const SEEDS_ALL: bool = Node::SEEDS_ALL;
    const LIMITS_DATAGRAMS: bool = Node::LIMITS_DATAGRAMS;
    const PACED: bool = Node::PACED;
    const QUIET_LIMIT: Duration = Node::QUIET_LIMIT;

    fn start(setup: &Setup, now: Duration) -> Self {
        Self {
            node: Node::start(setup, now),
            turns: Cell::default(),
        }
    }

    fn handle(&mut self, now: Duration, from: SocketAddr, datagram: &mut [u8]) {
        self.turn(|node| node.handle(now, from, datagram));
    }

    fn wake(&mut self, now: Duration) {
        self.turn(|node| node.wake(now));
    }

    fn transmit(&mut self, now: Duration, buffer: &mut Vec<u8>) -> Option<SocketAddr> {
        self.turn(|node| node.transmit(now, buffer))
    }

    fn snapshot(&mut self, clock: &dyn Fn() -> Duration, cells_max: usize) {
        self.turn(|node| node.snapshot(clock, cells_max));
    }

    fn add(&mut self, sketch: SketchNumber, key: &[u8], weight: u32) -> bool {
        self.node.add(sketch, key, weight)
    }

    fn join(&mut self, now: Duration, seed: SocketAddr) {
        self.node.join(now, seed);
    }

    fn push_to(&mut self, now: Duration, target: SocketAddr) {
        self.node.push_to(now, target);
    }

    fn leave(&mut self, now: Duration) {
        self.node.leave(now);
    }

    fn serve(&mut self, now: Duration, datagram: &[u8]) -> Option<Vec<u8>> {
        self.node.serve(now, datagram)
    }

    fn take_log(&mut self) -> Vec<String> {
        self.node.take_log()
    }

    as_the_node! {
        fn estimate(&self, sketch: SketchNumber, key: &[u8]) -> Estimate;
        fn own_cells(&self, sketch: SketchNumber) -> Cells;
        fn cells(&self, slice: &SliceId) -> Option<Cells>;
        fn copies(&self) -> Copies;
        fn roots(&self) -> BTreeMap<SliceId, u64>;
        fn next_wake(&self, now: Duration) -> Duration;
        fn is_alone(&self) -> bool;
        fn live(&self, now: Duration) -> Vec<(Boot, SocketAddr)>;
        fn is_flushed(&self) -> bool;
        fn is_ready(&self) -> bool;
        fn is_complete(&self, now: Duration) -> bool;
        fn vouched(&self) -> Vec<(SliceId, u64)>;
        fn published(&self, sketch: SketchNumber) -> (u64, Cells);
        fn own_version(&self, sketch: SketchNumber) -> u64;
        fn has_room(&self, setup: &Setup, sketch: SketchNumber, slices: usize) -> bool;
        fn refuses(&self, slice: &SliceId) -> bool;
        fn missing(&self, now: Duration) -> Vec<SliceId>;
        fn repeats(&self) -> u64;
        fn next_snapshot(&self) -> Option<Duration>;
        fn broken_bound(&self, now: Duration, setup: &Setup) -> Option<String>;
        fn describe(&self, now: Duration) -> String;
    }
}
