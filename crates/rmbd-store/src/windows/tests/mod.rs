//! Tests of windows against naive ones: exact lists of adds with their times, and exact snapshots of them.
#![allow(clippy::unwrap_used)]

mod booking;
mod exact;
mod limits;
mod still;
mod threads;

use std::cell::Cell;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use rmbd_proto::Writer;
use rmbd_sketch::{CellIndexes, Geometry, HashFamily, Weight};

use super::*;
use crate::{ReplicaLimits, ReplicaOptions, SliceId, Slices};

const FAMILY: HashFamily = HashFamily::Xxh3 { seed: 0x5EED };
const OWN: SliceId = SliceId::of(1, Writer(9));
const STARTED: Duration = Duration::from_secs(10);

/// A replica with its writer, and a clock that stands still until it is moved.
struct Node {
    replica: Arc<Replica>,
    slices: Slices,
    clock: Cell<Duration>,
}

use crate::Replica;

impl Node {
    fn start(width: u64, fold: u64, windows: &[(u64, u64)], threads: usize) -> Self {
        let geometry = Geometry::new(width, 2).unwrap();
        let plan = |&(span_ms, step_ms): &(u64, u64)| {
            let width = Some(width / fold);
            WindowPlan::new(span_ms, Some(step_ms), width, geometry, FAMILY).unwrap()
        };
        let limits = ReplicaLimits {
            max_peers: 1,
            max_origins: 8,
            max_memory_bytes: u64::MAX,
        };
        let options = ReplicaOptions {
            threads,
            windows: windows.iter().map(plan).collect(),
            started: STARTED,
            ..ReplicaOptions::of(geometry, FAMILY, OWN, limits)
        };
        let replica = Arc::new(Replica::try_open(options).unwrap());
        let slices = Slices::try_new(Arc::clone(&replica)).unwrap();
        Self {
            replica,
            slices,
            clock: Cell::new(STARTED),
        }
    }

    fn now(&self) -> Duration {
        self.clock.get()
    }

    fn wait(&self, time: Duration) {
        self.clock.set(self.now() + time);
    }

    fn snapshot(&mut self, cells_max: usize) -> Option<Snapshot> {
        let clock = || self.clock.get();
        self.slices.snapshot(&clock, cells_max)
    }

    /// Takes all snapshots that are due, each at once.
    fn snapshot_all(&mut self) -> usize {
        let mut done = 0;
        while let Some(snapshot) = self.snapshot(usize::MAX) {
            done += usize::from(matches!(snapshot, Snapshot::Done { .. }));
        }
        done
    }

    fn ask(&self, key: &[u8], span_ms: u64, reading: Reading) -> crate::Estimate {
        let question = self.question(span_ms, reading);
        self.replica.estimate_in(key, &question)
    }

    fn question(&self, span_ms: u64, reading: Reading) -> WindowQuestion {
        WindowQuestion {
            window: self.replica.window(span_ms).unwrap(),
            reading,
            now: self.now(),
        }
    }

    /// Raises what others counted, of whose N so much is told now.
    fn learn(&mut self, cells: &CellIndexes, growth: u64, weight: u64) {
        for cell in cells.iter() {
            self.slices.copier.raise(&self.replica, cell, growth);
        }
        self.replica.add_learnt_weight(weight);
    }

    fn add(&self, key: &[u8], weight: u32) {
        let weight = Weight::new(weight).unwrap();
        self.replica.add(key, weight).unwrap();
    }
}

/// Keys that share no cell of a snapshot in any row.
fn keys(node: &Node, fold: u32, count: usize) -> Vec<[u8; 4]> {
    let mut taken = HashSet::new();
    let mut keys = Vec::new();
    for number in 0_u32.. {
        let key = number.to_le_bytes();
        let cells = node.replica.own.cells_of(&key);
        let cells: Vec<_> = cells.as_slice().iter().map(|cell| cell / fold).collect();
        if cells.iter().all(|cell| !taken.contains(cell)) {
            taken.extend(cells);
            keys.push(key);
        }
        if keys.len() == count {
            break;
        }
    }
    keys
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[test]
fn a_window_forgets_what_the_total_keeps() {
    let mut node = Node::start(1 << 12, 8, &[(1_000, 100)], 1);
    node.add(b"key", 5);
    assert_eq!(node.ask(b"key", 1_000, Reading::Bound).count, 5);
    for step in 1..=12 {
        node.wait(ms(100));
        assert_eq!(node.snapshot_all(), 1, "{step}");
        let count = node.ask(b"key", 1_000, Reading::Bound).count;
        assert_eq!(count, if step <= 10 { 5 } else { 0 }, "{step}");
    }
    assert_eq!(node.replica.estimate(b"key").count, 5);
    assert_eq!(node.slices.next_snapshot(), Some(STARTED + ms(1_300)));
}

#[test]
fn the_ring_with_the_shortest_step_that_covers_a_window_answers() {
    let node = Node::start(
        64,
        1,
        &[(3_600_000, 60_000), (60_000, 5_000), (60_000, 20_000)],
        1,
    );
    let ring_of = |span_ms| node.replica.window(span_ms).map(Window::ring);
    assert_eq!(ring_of(60_000), Ok(1));
    assert_eq!(ring_of(5_000), Ok(1));
    assert_eq!(ring_of(120_000), Ok(0));
    for span_ms in [0, 1, 61_000, 3_660_000, u64::MAX] {
        let unknown = node.replica.window(span_ms).unwrap_err();
        assert_eq!(unknown.span_ms, span_ms);
        assert!(unknown.to_string().ends_with(
            "multiples of 60000 ms up to 3600000 ms; multiples of 5000 ms up to 60000 ms; multiples of 20000 ms up to \
             60000 ms"
        ));
    }
    let none = Node::start(64, 1, &[], 1);
    assert!(none.replica.window(60_000).is_err());
    assert_eq!(none.slices.next_snapshot(), None);
}

#[test]
fn answers_say_how_much_they_cover_and_when_they_lack_something() {
    let mut node = Node::start(1 << 10, 8, &[(1_000, 100)], 1);
    let ask = |node: &Node| node.ask(b"key", 500, Reading::Bound);
    assert!(ask(&node).incomplete);
    for _ in 0..6 {
        node.wait(ms(99));
        let at_most_a_step_more = 500..=600;
        assert!(at_most_a_step_more.contains(&ask(&node).covered_ms));
        node.wait(ms(1));
        node.snapshot_all();
    }
    let all = ask(&node);
    assert_eq!(
        (all.covered_ms, all.incomplete, all.overflowed),
        (500, false, false)
    );
    node.wait(Duration::from_nanos(1));
    assert_eq!(ask(&node).covered_ms, 501);
    node.slices.set_known_since(KnownSince::at(node.now()));
    assert!(ask(&node).incomplete);
    node.slices.set_known_since(KnownSince::EVER);
    assert!(!ask(&node).incomplete);
    // Rows of a legacy peer have no times: they count in totals only.
    let mut rows = crate::LegacyRows::new(Arc::clone(&node.replica), 1);
    rows.merge(([127, 0, 0, 1], 1).into(), 0, (0..1024).map(|_| 7))
        .unwrap();
    rows.merge(([127, 0, 0, 1], 1).into(), 1, (0..1024).map(|_| 7))
        .unwrap();
    let with_peer = ask(&node);
    assert_eq!((with_peer.count, with_peer.incomplete), (0, true));
    assert_eq!(node.replica.estimate(b"key").count, 7);
}

#[test]
fn after_a_pause_windows_cover_more_and_never_less() {
    let mut node = Node::start(1 << 10, 8, &[(1_000, 100)], 1);
    node.wait(ms(5_000));
    node.add(b"key", 3);
    // Nothing is as old as it should be but what was there before the pause.
    let answer = node.ask(b"key", 1_000, Reading::Bound);
    assert_eq!((answer.count, answer.covered_ms), (3, 5_000));
    // One snapshot is taken, and the next is due a step later.
    assert_eq!(node.snapshot_all(), 1);
    assert_eq!(node.slices.next_snapshot(), Some(node.now() + ms(100)));
    node.wait(ms(999));
    node.snapshot_all();
    assert_eq!(node.ask(b"key", 1_000, Reading::Bound).count, 3);
    node.wait(ms(1));
    assert_eq!(node.ask(b"key", 1_000, Reading::Bound).count, 0);
}

#[test]
fn a_window_for_which_there_is_no_memory_is_named() {
    let geometry = Geometry::new(1 << 10, 2).unwrap();
    let plan = WindowPlan::new(60_000, None, None, geometry, FAMILY).unwrap();
    let make = |memory: &crate::Memory, windows: usize| {
        let options = ReplicaOptions {
            memory: memory.clone(),
            windows: vec![plan; windows],
            ..ReplicaOptions::new(geometry, FAMILY)
        };
        Replica::try_open(options)
    };
    let memory = crate::Memory::new(u64::MAX);
    let [none, one] = [0, 1].map(|windows| make(&memory, windows).unwrap().memory_bytes());
    assert_eq!(memory.taken_bytes(), 0);
    assert_eq!(one, none + plan.memory_bytes());
    let tight = crate::Memory::new(one + 1);
    assert!(make(&tight, 1).is_ok());
    let refused = make(&tight, 2).unwrap_err();
    let expected = NoMemory::Window {
        span_ms: 60_000,
        bytes: plan.memory_bytes(),
        needed_bytes: one + plan.memory_bytes(),
        max_bytes: one + 1,
    };
    assert_eq!((refused, tight.taken_bytes()), (expected, 0));
    let (windows, max) = (WINDOWS_MAX + 1, WINDOWS_MAX);
    let too_many = make(&memory, windows).unwrap_err();
    assert_eq!(too_many, NoMemory::TooManyWindows { windows, max });
}

#[test]
fn rings_are_copied_in_turns_so_that_none_waits_for_a_large_one() {
    let mut node = Node::start(1 << 10, 8, &[(1_000, 100), (2_000, 100)], 1);
    node.add(b"key", 1);
    node.wait(ms(100));
    // Each has 2 x 1024 cells.
    let outcomes: Vec<_> = (0..5).map(|_| node.snapshot(1_024)).collect();
    let done = |span_ms| Some(Snapshot::Done { span_ms });
    let partly = Some(Snapshot::Partly);
    assert_eq!(outcomes, [partly, partly, done(1_000), done(2_000), None]);
}

/// Who is told takes it for no earlier than it is, and ever for ever.
#[test]
fn a_history_that_is_told_becomes_no_longer() {
    let since = KnownSince::at(ms(5_000));
    for now in [5_000, 5_001, 6_024, 3_605_000] {
        let told = since.told_ms(ms(now));
        let taken = KnownSince::of_told(told, ms(now));
        assert!(taken >= since, "{now}: {told}");
        assert!(taken <= KnownSince::at(ms(5_001 + (now - 5_000) / 1_000)));
    }
    // Also where that is before all times of the one who is told.
    let taken = KnownSince::of_told(since.told_ms(ms(100_000)), ms(1));
    assert!(taken < KnownSince::at(Duration::ZERO) && taken > KnownSince::EVER);
    assert_eq!(KnownSince::EVER.told_ms(ms(1)), u64::MAX);
    assert_eq!(KnownSince::of_told(u64::MAX, ms(1)), KnownSince::EVER);
}
