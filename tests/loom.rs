//! How cells of 32 bits count further (`src/sketch/beyond.rs`), in every order that the memory model allows: the file
//! itself, with loom's atomics in place of the processor's. A schedule has at most a few preemptions, which is where
//! loom bounds its search.

#![allow(clippy::unwrap_used, missing_docs, dead_code)]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64 as PlainU64, Ordering::SeqCst};

use loom::sync::Arc;
use loom::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use loom::sync::atomic::{AtomicU32, AtomicU64, fence};
use loom::thread;

/// What the file is written with.
mod atomic {
    pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence};
}

#[path = "../src/sketch/beyond.rs"]
mod beyond;

use beyond::{BUDGET, Budget, HalfTurns};

/// A sketch of one cell.
struct Cell {
    value: AtomicU32,
    half_turns: HalfTurns,
    total_weight: AtomicU64,
    budget: Budget,
    /// All that anybody has begun to add; not a part of what is modelled, so that it orders nothing.
    begun: PlainU64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    /// As the sketch reads.
    CellThenFlag,
    /// These are wrong.
    FlagThenCell,
    NeverLooks,
}

impl Cell {
    /// One to which this was added, all of it passed.
    fn at(total: u64) -> Self {
        let cell = Self {
            value: AtomicU32::new(0),
            half_turns: HalfTurns::new(Box::new([AtomicU32::new(0)])),
            total_weight: AtomicU64::new(0),
            budget: Budget::default(),
            begun: PlainU64::new(0),
        };
        let mut left = total;
        while left > 0 {
            let weight = left.min(BUDGET);
            assert!(cell.add(weight));
            cell.pass();
            left -= weight;
        }
        cell
    }

    fn add(&self, weight: u64) -> bool {
        let Some(taken) = self.budget.take(weight) else {
            return false;
        };
        if taken > weight {
            self.budget.return_unused(taken - weight);
        }
        self.begun.fetch_add(weight, SeqCst);
        // A weight of 2^31 is no weight of one add, but two halves of it would only make more orders.
        self.value.fetch_add(weight as u32, Relaxed);
        self.total_weight.fetch_add(weight, Release);
        true
    }

    fn pass(&self) {
        self.budget.begin_pass();
        let passed = self.total_weight.load(Acquire);
        self.half_turns.note(0, self.value.load(Relaxed));
        self.budget.give_back(passed);
    }

    fn read(&self, order: Order) -> u64 {
        let looks = |are_any: bool, value: u32| match are_any {
            true => self.half_turns.total(0, &self.value),
            false => value.into(),
        };
        match order {
            Order::CellThenFlag => {
                let value = self.value.load(Relaxed);
                fence(Acquire);
                looks(self.half_turns.are_any(), value)
            }
            Order::FlagThenCell => {
                let are_any = self.half_turns.are_any();
                fence(Acquire);
                looks(are_any, self.value.load(Relaxed))
            }
            Order::NeverLooks => self.value.load(Relaxed).into(),
        }
    }

    /// What is read is at least what is known to be added, and at most what anybody has begun to add.
    fn check(&self, order: Order) {
        let least = self.total_weight.load(Acquire);
        let read = self.read(order);
        let most = self.begun.load(SeqCst);
        assert!(read >= least, "{read:#x} is below {least:#x}");
        assert!(read <= most, "{read:#x} is above {most:#x}");
    }
}

/// Adders with these weights, a thread that passes, and a reader; at most so many preemptions.
fn play(start: u64, adders: &'static [&'static [u64]], preemptions: usize, order: Order) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(preemptions);
    model.check(move || {
        let cell = Arc::new(Cell::at(start));
        let mut threads = Vec::new();
        for &weights in adders {
            let cell = Arc::clone(&cell);
            threads.push(thread::spawn(move || {
                for &weight in weights {
                    cell.add(weight);
                }
            }));
        }
        let passing = Arc::clone(&cell);
        threads.push(thread::spawn(move || {
            passing.pass();
        }));
        cell.check(order);
        for thread in threads {
            thread.join().unwrap();
        }
        cell.check(Order::CellThenFlag);
        cell.pass();
        cell.check(Order::CellThenFlag);
        assert_eq!(cell.read(Order::CellThenFlag), cell.begun.load(SeqCst));
    });
}

const HALF: u64 = BUDGET / 2;
const ALMOST: u64 = BUDGET - 1;

/// From every side of every boundary at which something changes: the flag, the wrap, the second wrap.
const STARTS: [u64; 7] = [
    0,
    HALF,
    ALMOST,
    BUDGET,
    2 * BUDGET - 1,
    2 * BUDGET,
    3 * BUDGET + HALF,
];

#[test]
fn a_reader_is_never_behind_or_ahead_of_one_adder() {
    for start in STARTS {
        play(start, &[&[BUDGET, BUDGET]], 3, Order::CellThenFlag);
        play(start, &[&[ALMOST, HALF, HALF]], 3, Order::CellThenFlag);
    }
}

#[test]
fn nor_of_several() {
    for start in [ALMOST, 2 * BUDGET - 1] {
        play(start, &[&[HALF], &[HALF]], 2, Order::CellThenFlag);
    }
}

/// What the model is there for: it finds the orders that the file warns of.
#[test]
fn the_model_finds_readers_that_look_too_early_or_not_at_all() {
    for order in [Order::FlagThenCell, Order::NeverLooks] {
        let found = catch_unwind(AssertUnwindSafe(|| {
            play(ALMOST, &[&[BUDGET, BUDGET]], 3, order);
        }));
        assert!(found.is_err(), "{order:?} passes");
    }
}
