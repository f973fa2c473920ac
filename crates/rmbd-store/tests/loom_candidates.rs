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

use slot::{Candidate, Entry, Mark, Slot};
use table::{Bound, SharedList, Table};

fn check(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(2);
    builder.check(model);
}

/// A table of one place with one list, and a cell that all weight is added to.
struct World {
    table: Table,
    cell: AtomicU64,
}

impl World {
    fn new() -> Self {
        Self {
            table: Table::new(1, [1].into_iter()),
            cell: AtomicU64::new(0),
        }
    }

    fn slot(&self) -> &Slot {
        &self.table.slots()[0]
    }

    fn list(&self) -> &SharedList {
        &self.table.lists()[0]
    }

    fn entry(&self) -> &Entry {
        &self.list().entries()[0]
    }

    /// A key comes, with an estimate that tells whose it is.
    fn put(&self, key: u64, weight: u64) {
        self.cell.fetch_add(weight, Relaxed);
        self.slot().put([key, !key]);
        self.slot().grow(weight);
        self.entry().enter(weight, Mark::default());
    }

    fn grow(&self, weight: u64) {
        self.cell.fetch_add(weight, Relaxed);
        self.slot().grow(weight);
    }

    /// The candidate gives way to another key.
    fn replace(&self, key: u64, weight: u64, raises_first: bool) {
        let estimate = self.entry().estimate();
        if raises_first {
            self.list().raise(0, of(estimate));
        }
        self.entry().set_estimate(0);
        self.put(key, weight);
        self.list().raise(0, of(estimate));
    }
}

/// A bound with so much of each.
fn of(weight: u64) -> Bound {
    Bound {
        threshold: weight,
        slack: weight,
    }
}

/// What a reader sees of a candidate is of one key, and a key that lacks has an estimate of at most the bound.
#[test]
fn a_reader_sees_each_candidate_or_its_bound() {
    play_reader(true);
}

fn play_reader(raises_first: bool) {
    check(move || {
        let world = Arc::new(World::new());
        world.put(1, 2);
        let writing = Arc::clone(&world);
        let writer = thread::spawn(move || writing.replace(2, 5, raises_first));
        let found: Vec<Candidate> = world.table.candidates(0).collect();
        let bound = world.list().bound_since(0);
        for candidate in &found {
            let [key, other] = candidate.hash;
            let weight = if key == 1 { 2 } else { 5 };
            assert_eq!(other, !key);
            assert_eq!(candidate.estimate, weight);
            assert_eq!(candidate.certain, weight);
        }
        let has_first = found.iter().any(|candidate| candidate.hash[0] == 1);
        assert!(has_first || bound.threshold >= 2, "{found:?}, {bound:?}");
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
        let certain = world.table.candidates(0).next().map_or(0, |it| it.certain);
        let added = world.cell.load(Relaxed);
        assert!(certain <= added, "{certain}, {added}");
        writer.join().unwrap();
    });
}

/// A candidate that is marked at its second and third moment: what it is said to have got since a moment is at most
/// what it got then.
#[test]
fn what_came_since_a_mark_is_never_too_much() {
    check(|| {
        let world = Arc::new(World::new());
        world.put(1, 10);
        let writing = Arc::clone(&world);
        let writer = thread::spawn(move || {
            for moment in 1..=2 {
                let certain = writing.slot().certain();
                writing.entry().mark(Mark { moment, certain });
                writing.grow(1);
            }
        });
        let Some(found) = world.table.candidates(0).next() else {
            panic!("no other key comes");
        };
        for mark in found.marks {
            let since = found.certain - mark.certain.min(found.certain);
            let most = match mark.moment {
                0 => 12,
                1 => 2,
                _ => 1,
            };
            assert!(since <= most, "{found:?}");
        }
        writer.join().unwrap();
    });
}

/// The bounds of two moments, the later of which takes the place of an earlier one.
#[test]
fn a_reader_sees_the_bound_of_each_moment_that_it_asks_for() {
    check(|| {
        let table = Arc::new(Table::new(1, [2].into_iter()));
        table.lists()[0].begin(1, of(7));
        table.lists()[0].begin(2, of(3));
        let is_cleared = Arc::new(AtomicU64::new(0));
        let (writing, clearing) = (Arc::clone(&table), Arc::clone(&is_cleared));
        let writer = thread::spawn(move || {
            writing.lists()[0].begin(3, of(1));
            writing.lists()[0].raise(3, of(9));
            clearing.store(1, Relaxed);
        });
        let cleared = is_cleared.load(Relaxed);
        let bound = table.lists()[0].bound_since(2);
        assert!(bound.threshold >= 3 && bound.slack >= 3);
        assert!(cleared == 0 || bound == of(9), "{bound:?}");
        writer.join().unwrap();
        assert_eq!(table.lists()[0].bound_since(4), Bound::default());
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
    assert!(found.is_err(), "a bound that is raised too late passes");
}
