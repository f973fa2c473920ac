//! A model of `src/windows/turns.rs`, the order between the writer of snapshots and their readers: the file itself runs
//! here with loom's atomics in place of the processor's, in every order that the memory model allows.

#![allow(clippy::unwrap_used, missing_docs, dead_code)]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64 as PlainU64, Ordering::SeqCst};

use loom::sync::Arc;
use loom::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use loom::sync::atomic::{AtomicU32, AtomicU64};
use loom::thread;

/// The atomics that the file is written with.
mod atomic {
    pub(crate) use loom::sync::atomic::{AtomicU64, Ordering, fence};
}

#[path = "../src/windows/turns.rs"]
mod turns;

use turns::{Bookings, Turns};

const SLOTS: u64 = 2;
/// What others are known to have counted long ago, when the booking is done.
const OLD: u32 = 16;

/// How the threads go about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// As the file says.
    Right,
    /// The wrong ways.
    CellFirst,
    NeverLooksAgain,
    NoFenceBetween,
}

/// A sketch of one cell, with a ring of its snapshots.
struct World {
    way: Way,
    cell: AtomicU32,
    slots: [AtomicU32; SLOTS as usize],
    turns: Turns,
    bookings: Bookings,
    /// Adds that are known to be done.
    done: AtomicU64,
    /// Adds that were begun, and how many were when each snapshot ended. They are not part of the model, so they order
    /// nothing.
    begun: PlainU64,
    begun_by: [PlainU64; 8],
}

impl World {
    fn new(way: Way) -> Self {
        Self {
            way,
            cell: AtomicU32::new(0),
            slots: [AtomicU32::new(0), AtomicU32::new(0)],
            turns: Turns::new(SLOTS),
            bookings: Bookings::new(),
            done: AtomicU64::new(0),
            begun: PlainU64::new(0),
            begun_by: Default::default(),
        }
    }

    fn slot(&self, number: u64) -> &AtomicU32 {
        &self.slots[(number % SLOTS) as usize]
    }

    fn add(&self) {
        self.begun.fetch_add(1, SeqCst);
        self.cell.fetch_add(1, Relaxed);
        self.done.fetch_add(1, Release);
    }

    fn copy(&self) {
        let number = self.turns.begin();
        self.slot(number).store(self.cell.load(Relaxed), Relaxed);
        self.complete(number);
    }

    /// Where nothing is known to be added and all slots hold the same, none is written.
    fn copy_if_added(&self) {
        if self.done.load(Acquire) > 0 {
            return self.copy();
        }
        let number = self.turns.begin();
        self.complete(number);
    }

    fn complete(&self, number: u64) {
        let begun = self.begun.load(SeqCst);
        self.begun_by[number as usize].store(begun, SeqCst);
        self.turns.complete(number);
    }

    fn book(&self) {
        self.bookings.begin();
        self.cell.fetch_add(OLD, Relaxed);
        if self.way != Way::NoFenceBetween {
            self.bookings.between();
        }
        let (oldest, youngest) = self.turns.numbers();
        for number in (oldest..=youngest).rev() {
            self.slot(number).fetch_add(OLD, Relaxed);
        }
        self.bookings.end();
    }

    /// What was added since the youngest snapshot is at least what was begun after it had ended and is known to be
    /// done, and it is no old growth where the reader is not told to ask again.
    fn read_and_check(&self) {
        let known = self.done.load(Acquire);
        let bookings = self.bookings.number();
        let (_, youngest) = self.turns.numbers();
        let (old, new) = match self.way {
            Way::CellFirst => {
                let new = self.cell.load(Relaxed);
                (self.slot(youngest).load(Acquire), new)
            }
            _ => (self.slot(youngest).load(Acquire), self.cell.load(Relaxed)),
        };
        let still_has = self.turns.still_has(youngest);
        let calm = self.bookings.were_none_since(bookings);
        if self.way != Way::NeverLooksAgain && !still_has {
            return;
        }
        let count = new.wrapping_sub(old);
        let begun_before = self.begun_by[youngest as usize].load(SeqCst);
        let least = known.saturating_sub(begun_before) as u32;
        assert!(
            count >= least && count < 1 << 30,
            "{count} is below {least}"
        );
        let most = self.begun.load(SeqCst) as u32;
        let ask_again = self.way != Way::NeverLooksAgain && !calm;
        assert!(ask_again || count <= most, "{count} is above {most}");
    }
}

fn play(way: Way, writes: fn(&World)) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(move || {
        let world = Arc::new(World::new(way));
        let adding = Arc::clone(&world);
        let adder = thread::spawn(move || adding.add());
        let writing = Arc::clone(&world);
        let writer = thread::spawn(move || writes(&writing));
        world.read_and_check();
        adder.join().unwrap();
        writer.join().unwrap();
        world.read_and_check();
    });
}

const WRITES: [fn(&World); 4] = [
    |world| {
        world.copy();
        world.copy();
    },
    World::book,
    |world| {
        world.book();
        world.copy();
    },
    |world| {
        world.copy_if_added();
        world.copy_if_added();
        world.copy_if_added();
    },
];

#[test]
fn no_reader_is_too_low_or_takes_old_growth_for_new() {
    for writes in WRITES {
        play(Way::Right, writes);
    }
}

/// The model must find the orders that the file warns of, or it is worth nothing.
#[test]
fn the_model_finds_what_is_wrong() {
    for way in [Way::CellFirst, Way::NeverLooksAgain, Way::NoFenceBetween] {
        let found = WRITES.iter().any(|&writes| {
            let played = catch_unwind(AssertUnwindSafe(|| play(way, writes)));
            played.is_err()
        });
        assert!(found, "{way:?} passes");
    }
}
