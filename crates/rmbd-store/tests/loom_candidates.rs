//! Models of the order between a thread that notes candidates and who reads them (`src/candidates/slot.rs`,
//! `src/candidates/table.rs`), and of threads that add to one key at the same time (`rmbd_sketch`, `added.rs`). The two
//! files of the candidates run here themselves, with loom's atomics in place of the processor's, in every order that
//! the memory model allows.

#![allow(clippy::unwrap_used, missing_docs, dead_code)]

use std::panic::{AssertUnwindSafe, catch_unwind};

use loom::sync::Arc;
use loom::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};
use loom::sync::atomic::{AtomicU64, fence};
use loom::thread;

/// The atomics that the files are written with.
mod atomic {
    pub(crate) use loom::sync::atomic::{AtomicU64, Ordering, fence};

    /// Each try is like the first one.
    pub(crate) const SLOT_TRIES: usize = 1;
}

#[path = "../src/candidates/slot.rs"]
mod slot;
#[path = "../src/candidates/table.rs"]
mod table;

use slot::{Candidate, Slot};
use table::Table;

fn check(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(2);
    builder.check(model);
}

/// A candidate whose numbers tell whose they are.
fn candidate(key: u64, estimate: u64, certain: u64) -> Candidate {
    Candidate {
        hash: [key, !key],
        estimate,
        certain,
        ..Candidate::default()
    }
}

/// A table of one place, and a cell that all weight is added to.
struct World {
    table: Table,
    cell: AtomicU64,
}

impl World {
    fn new() -> Self {
        Self {
            table: Table::new(1, 1),
            cell: AtomicU64::new(0),
        }
    }

    fn put(&self, key: u64, weight: u64) {
        self.cell.fetch_add(weight, Relaxed);
        self.table.slots()[0].put(&candidate(key, weight, weight));
    }

    fn grow(&self, weight: u64) {
        self.cell.fetch_add(weight, Relaxed);
        let slot = &self.table.slots()[0];
        slot.grow(slot.estimate() + weight, weight);
    }

    /// The candidate gives way to another key.
    fn replace(&self, key: u64, weight: u64, raises_first: bool) {
        let slot = &self.table.slots()[0];
        let estimate = slot.estimate();
        if raises_first {
            self.table.raise(0, estimate);
        }
        slot.set_estimate(0);
        self.put(key, weight);
        self.table.raise(0, estimate);
    }
}

/// What a reader sees of a candidate is of one key, and a key that lacks has an estimate of at most the threshold.
#[test]
fn a_reader_sees_each_candidate_or_its_threshold() {
    play_reader(true);
}

fn play_reader(raises_first: bool) {
    check(move || {
        let world = Arc::new(World::new());
        world.put(1, 2);
        let writing = Arc::clone(&world);
        let writer = thread::spawn(move || writing.replace(2, 5, raises_first));
        let found: Vec<Candidate> = world.table.candidates().collect();
        let threshold = world.table.threshold_since(0);
        for candidate in &found {
            let [key, other] = candidate.hash;
            let of_key = match key {
                1 => 2..=2,
                2 => 5..=5,
                _ => 0..=0,
            };
            assert_eq!(other, !key);
            assert!(of_key.contains(&candidate.estimate) && of_key.contains(&candidate.certain));
        }
        let has_first = found.iter().any(|candidate| candidate.hash[0] == 1);
        assert!(has_first || threshold >= 2, "{found:?}, {threshold}");
        writer.join().unwrap();
    });
}

/// What is certain is in the cells that are read behind it.
#[test]
fn what_is_certain_was_added() {
    check(|| {
        let world = Arc::new(World::new());
        let writing = Arc::clone(&world);
        let writer = thread::spawn(move || {
            writing.put(1, 2);
            writing.grow(1);
        });
        let certain = world.table.slots()[0].read().map_or(0, |it| it.certain);
        let added = world.cell.load(Relaxed);
        assert!(certain <= added, "{certain}, {added}");
        writer.join().unwrap();
    });
}

/// A candidate that is marked at its second and third moment: what it is said to have got since a moment is at most what
/// it got then.
#[test]
fn what_came_since_a_mark_is_never_too_much() {
    check(|| {
        let slot = Arc::new(Slot::new());
        slot.put(&candidate(1, 10, 10));
        let writing = Arc::clone(&slot);
        let writer = thread::spawn(move || {
            for moment in 1..=2 {
                writing.mark(moment);
                writing.grow(10, 1);
            }
        });
        let Some(found) = slot.read() else {
            panic!("no other key comes");
        };
        for mark in found.marks {
            let since = found.certain - mark.certain.min(found.certain);
            let most = match mark.begun {
                0 => 12,
                1 => 2,
                _ => 1,
            };
            assert!(since <= most, "{found:?}");
        }
        writer.join().unwrap();
    });
}

/// The thresholds of two moments, the later of which takes the place of an earlier one.
#[test]
fn a_reader_sees_the_threshold_of_each_moment_that_it_asks_for() {
    check(|| {
        let table = Arc::new(Table::new(1, 2));
        table.begin(1, 7);
        table.begin(2, 3);
        let is_cleared = Arc::new(AtomicU64::new(0));
        let (writing, clearing) = (Arc::clone(&table), Arc::clone(&is_cleared));
        let writer = thread::spawn(move || {
            writing.begin(3, 1);
            writing.raise(3, 9);
            clearing.store(1, Relaxed);
        });
        let cleared = is_cleared.load(Relaxed);
        let threshold = table.threshold_since(2);
        assert!(threshold >= 3);
        assert!(cleared == 0 || threshold == 9, "{threshold}");
        writer.join().unwrap();
        assert_eq!(table.threshold_since(4), 0);
    });
}

/// How a thread adds to the rows of a key and finds its count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// As the sketch does.
    Right,
    /// The wrong ways.
    LeastOfReturned,
    Relaxed,
}

/// Adds 1 to both rows, and finds the count if the last row is above the threshold.
fn add(rows: &[AtomicU64; 2], way: Way, threshold: u64) -> u64 {
    let [first, last] = rows;
    let of_first = first.fetch_add(1, Relaxed) + 1;
    let order = if way == Way::Relaxed { Relaxed } else { AcqRel };
    let of_last = last.fetch_add(1, order) + 1;
    match way {
        Way::LeastOfReturned => of_first.min(of_last),
        _ if of_last <= threshold => 0,
        _ => {
            let least = first.load(Relaxed).min(last.load(Relaxed));
            fence(Acquire);
            least
        }
    }
}

/// Three threads add to one key. One of them finds all of it.
fn play(way: Way) {
    check(move || {
        let rows = Arc::new([AtomicU64::new(0), AtomicU64::new(0)]);
        let adding = || {
            let rows = Arc::clone(&rows);
            thread::spawn(move || add(&rows, way, 2))
        };
        let threads = [adding(), adding()];
        let mut found = vec![add(&rows, way, 2)];
        found.extend(threads.map(|thread| thread.join().unwrap()));
        assert_eq!(found.iter().max(), Some(&3), "{found:?}");
    });
}

#[test]
fn the_thread_that_comes_last_in_the_last_row_has_seen_all_adds() {
    play(Way::Right);
}

/// The model must find the orders that the file warns of, or it is worth nothing.
#[test]
fn the_model_finds_what_is_wrong() {
    for way in [Way::LeastOfReturned, Way::Relaxed] {
        let found = catch_unwind(AssertUnwindSafe(|| play(way)));
        assert!(found.is_err(), "{way:?} passes");
    }
    let found = catch_unwind(AssertUnwindSafe(|| play_reader(false)));
    assert!(found.is_err(), "a threshold that is raised too late passes");
}
