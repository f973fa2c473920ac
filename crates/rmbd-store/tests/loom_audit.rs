//! Models of the order between threads that count keys exactly and who compares that with cells
//! (`src/audit/sample.rs`, `src/audit/table.rs`). The two files run here themselves, with loom's atomics in place of
//! the processor's, in every order that the memory model allows.

#![allow(clippy::unwrap_used, missing_docs, dead_code)]

use std::panic::{AssertUnwindSafe, catch_unwind};

use loom::sync::Arc;
use loom::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use loom::sync::atomic::{AtomicU64, fence};
use loom::thread;

/// The atomics that the files are written with.
mod atomic {
    pub(crate) use loom::sync::atomic::{AtomicU64, Ordering, fence};
    use rmbd_sketch::SketchError;

    pub(crate) fn try_zeroed(len: usize) -> Result<Box<[AtomicU64]>, SketchError> {
        Ok((0..len).map(|_| AtomicU64::new(0)).collect())
    }
}

#[path = "../src/audit/sample.rs"]
mod sample;
#[path = "../src/audit/table.rs"]
mod table;

use sample::{Sample, tag_of};
use table::Table;

fn check(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(2);
    builder.check(model);
}

/// Checks what one thread writes while another one reads. Each of them begins once: where a thread reads a number
/// before it writes it, the model sees that the write may come earlier, and not that the read may.
fn check_both(make: fn() -> Arc<World>, write: fn(&World), read: fn(&World), behind: fn(&World)) {
    for [here, there] in [[write, read], [read, write]] {
        check(move || {
            let world = make();
            let other = Arc::clone(&world);
            let thread = thread::spawn(move || there(&other));
            here(&world);
            thread.join().unwrap();
            behind(&world);
        });
    }
}

/// The sample, the table of one thread, and a cell of one key, which is in the first sample and not in the second.
struct World {
    sample: Sample,
    table: Table,
    cell: AtomicU64,
    key: [u64; 2],
    /// Another key, which is in both samples. Its search begins at the place of the first one.
    staying: [u64; 2],
}

/// What a reader knows of the key.
#[derive(Debug)]
struct Read {
    done: u64,
    cell: u64,
    begun: u64,
}

impl World {
    fn new() -> Arc<Self> {
        let sample = Sample::new();
        let below = sample.below();
        let mut keys = (0..).map(|low| [low, 0]);
        let home = |key: [u64; 2]| tag_of(key) >> 32 & 3;
        let leaves = |&key: &[u64; 2]| (below / 2..below).contains(&tag_of(key));
        let key = keys.find(leaves).unwrap();
        let stays = |&other: &[u64; 2]| tag_of(other) < below / 2 && home(other) == home(key);
        let staying = keys.find(stays).unwrap();
        Arc::new(Self {
            sample,
            table: Table::try_new(4).unwrap(),
            cell: AtomicU64::new(0),
            key,
            staying,
        })
    }

    /// Adds to the key as a thread does that knows the sample by this bound.
    fn add(&self, below: u64, weight: u64) {
        let place = match tag_of(self.key) < below {
            true => self.table.begin(self.key, weight),
            false => None,
        };
        self.cell.fetch_add(weight, Relaxed);
        if let Some(place) = place {
            self.table.end(place, weight);
        }
    }

    /// Takes over the sample as it is now.
    fn take_over(&self, is_fenced: bool) -> u64 {
        let below = self.sample.below();
        if is_fenced {
            fence(Release);
        }
        self.table.keep(below);
        below
    }

    /// Reads the key, if it can be told of.
    fn read(&self) -> Option<Read> {
        let done = self.table.done(self.key)?;
        let cell = self.cell.load(Relaxed);
        fence(Acquire);
        let begun = self.table.begun(self.key)?;
        fence(Acquire);
        let is_in = tag_of(self.key) < self.sample.below();
        is_in.then_some(Read { done, cell, begun })
    }

    fn check(&self) {
        if let Some(read) = self.read() {
            assert!(read.done <= read.cell, "{read:?}");
            assert!(read.cell <= read.begun, "{read:?}");
        }
    }
}

/// What is done is in the cells, and what is in the cells is begun.
#[test]
fn a_reader_has_the_count_between_two_bounds() {
    check_both(
        World::new,
        |world| {
            let below = world.sample.below();
            world.add(below, 2);
            world.add(below, 3);
        },
        World::check,
        |world| {
            let read = world.read().unwrap();
            assert_eq!((read.done, read.cell, read.begun), (5, 5, 5));
        },
    );
}

/// A thread counts the key, drops it, and adds to it again.
#[test]
fn a_reader_tells_of_no_key_that_was_dropped() {
    check_both(
        || {
            let world = World::new();
            world.add(world.sample.below(), 2);
            world
        },
        |world| {
            world.sample.halve(world.sample.below());
            let below = world.take_over(true);
            world.add(below, 3);
        },
        World::check,
        |world| assert!(world.read().is_none()),
    );
}

/// A key gives way to another one, which moves into its place.
#[test]
fn a_reader_finds_a_key_that_moves_as_it_is() {
    check_both(
        || {
            let world = World::new();
            world.add(world.sample.below(), 5);
            let place = world.table.begin(world.staying, 2).unwrap();
            world.table.end(place, 2);
            world
        },
        |world| world.table.keep(world.sample.below() / 2),
        |world| {
            let table = &world.table;
            for count in [table.done(world.staying), table.begun(world.staying)] {
                assert!(count.is_none_or(|count| count == 2), "{count:?}");
            }
        },
        |world| {
            assert_eq!(world.table.done(world.staying), Some(2));
            assert_eq!(world.table.done(world.key), Some(0));
        },
    );
}

/// Another thread halves the sample, and this one has never counted the key.
fn play_left_out(is_fenced: bool) {
    check(move || {
        let world = World::new();
        let (halving, writing) = (Arc::clone(&world), Arc::clone(&world));
        let halver = thread::spawn(move || {
            let below = halving.sample.below();
            halving.sample.halve(below);
        });
        let writer = thread::spawn(move || {
            let below = writing.take_over(is_fenced);
            writing.add(below, 3);
        });
        world.check();
        writer.join().unwrap();
        halver.join().unwrap();
    });
}

#[test]
fn a_reader_tells_of_no_key_that_a_thread_left_out() {
    play_left_out(true);
}

/// The model must find the order that the fence forbids, or it is worth nothing.
#[test]
fn the_model_finds_what_is_wrong() {
    let found = catch_unwind(AssertUnwindSafe(|| play_left_out(false)));
    assert!(found.is_err(), "a sample without a fence passes");
}
