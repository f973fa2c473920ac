//! A model of `src/beyond.rs`, which counts beyond 32 bits: the file itself runs here with loom's atomics in place of
//! the processor's, in every order that the memory model allows. A schedule has at most a few preemptions, which is
//! where loom bounds its search.

#![allow(clippy::unwrap_used, missing_docs, dead_code)]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64 as PlainU64, Ordering::SeqCst};

use loom::sync::Arc;
use loom::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use loom::sync::atomic::{AtomicU32, AtomicU64, fence};
use loom::thread;

/// The atomics that the file is written with.
mod atomic {
    pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence};
}

#[path = "../src/beyond.rs"]
mod beyond;

use beyond::{BUDGET, HalfTurns, WeightBudget};

/// A sketch of one cell.
struct Cell {
    /// The value that all adders share, and behind it one for each adder that has a lane.
    values: Vec<AtomicU32>,
    half_turns: HalfTurns,
    total_weight: AtomicU64,
    budget: WeightBudget,
    /// All that any adder has begun to add. It is not part of the model, so it orders nothing.
    begun: PlainU64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    /// The orders in which the sketch reads.
    CellThenFlag,
    CellThenItsBit,
    /// The wrong orders.
    FlagThenCell,
    NeverLooks,
}

impl Cell {
    /// A cell with this total, all of it passed, and with `lanes` lanes.
    fn at(total: u64, lanes: usize) -> Self {
        let cell = Self {
            values: (0..=lanes).map(|_| AtomicU32::new(0)).collect(),
            half_turns: HalfTurns::new(Box::new([AtomicU32::new(0)])),
            total_weight: AtomicU64::new(0),
            budget: WeightBudget::default(),
            begun: PlainU64::new(0),
        };
        let mut left = total;
        while left > 0 {
            let weight = left.min(BUDGET);
            assert!(cell.add(0, weight));
            cell.pass();
            left -= weight;
        }
        cell
    }

    /// Adds to one of the values. Only the shared value needs a locked addition.
    fn add(&self, lane: usize, weight: u64) -> bool {
        let Some(taken) = self.budget.take(weight) else {
            return false;
        };
        if taken > weight {
            self.budget.return_unused(taken - weight);
        }
        self.begun.fetch_add(weight, SeqCst);
        // No single add has a weight of 2^31, but two halves of it would only make more orders.
        let value = &self.values[lane];
        match lane {
            0 => drop(value.fetch_add(weight as u32, Relaxed)),
            _ => value.store(value.load(Relaxed).wrapping_add(weight as u32), Relaxed),
        }
        self.total_weight.fetch_add(weight, Release);
        true
    }

    fn pass(&self) {
        self.budget.begin_pass();
        let passed = self.total_weight.load(Acquire);
        self.half_turns.note(0, self.value());
        self.budget.give_back(passed);
    }

    /// The sum of all values, each read separately.
    fn value(&self) -> u32 {
        let values = self.values.iter().map(|value| value.load(Relaxed));
        values.fold(0, u32::wrapping_add)
    }

    fn read(&self, order: Order) -> u64 {
        let looks = |are_any: bool, value: u32| match are_any {
            true => self.half_turns.total(0, || self.value()),
            false => value.into(),
        };
        match order {
            Order::CellThenFlag => {
                let value = self.value();
                fence(Acquire);
                looks(self.half_turns.are_any(), value)
            }
            Order::CellThenItsBit => {
                let value = self.value();
                fence(Acquire);
                looks(self.half_turns.may_be_any_of(0), value)
            }
            Order::FlagThenCell => {
                let are_any = self.half_turns.are_any();
                fence(Acquire);
                looks(are_any, self.value())
            }
            Order::NeverLooks => self.value().into(),
        }
    }

    /// The total that is read is at least what is known to be added, and at most what anybody has begun to add.
    fn check(&self, order: Order) {
        let least = self.total_weight.load(Acquire);
        let read = self.read(order);
        let most = self.begun.load(SeqCst);
        assert!(read >= least, "{read:#x} is below {least:#x}");
        assert!(read <= most, "{read:#x} is above {most:#x}");
    }
}

/// Whether each adder has a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lanes {
    None,
    One,
}

/// Runs adders with these weights that share the cell, a thread that passes, and a reader, with at most `preemptions`
/// preemptions.
fn play(start: u64, adders: &'static [&'static [u64]], preemptions: usize, order: Order) {
    play_with(Lanes::None, start, adders, preemptions, order);
}

fn play_with(
    lanes: Lanes,
    start: u64,
    adders: &'static [&'static [u64]],
    preemptions: usize,
    order: Order,
) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(preemptions);
    model.check(move || {
        let have_lanes = lanes == Lanes::One;
        let cell = Arc::new(Cell::at(start, if have_lanes { adders.len() } else { 0 }));
        let mut threads = Vec::new();
        for (adder, &weights) in adders.iter().enumerate() {
            let cell = Arc::clone(&cell);
            let lane = if have_lanes { 1 + adder } else { 0 };
            threads.push(thread::spawn(move || {
                for &weight in weights {
                    cell.add(lane, weight);
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

/// Totals on every side of every boundary at which something changes: the flag, the wrap, the second wrap.
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

/// A cell whose bit is not set needs no half turns, whatever other cells do.
#[test]
fn nor_one_that_looks_at_the_bit_of_its_cell() {
    for start in [0, ALMOST, 2 * BUDGET - 1] {
        play(start, &[&[BUDGET, BUDGET]], 2, Order::CellThenItsBit);
    }
}

#[test]
fn nor_of_several_that_have_lanes() {
    for start in [0, ALMOST, 2 * BUDGET - 1] {
        play_with(Lanes::One, start, &[&[HALF, HALF]], 3, Order::CellThenFlag);
    }
    for start in [ALMOST, 2 * BUDGET - 1] {
        let adders: &[&[u64]] = &[&[HALF], &[HALF]];
        play_with(Lanes::One, start, adders, 2, Order::CellThenFlag);
    }
}

/// The model must find the orders that the file warns of, or it is worth nothing.
#[test]
fn the_model_finds_readers_that_look_too_early_or_not_at_all() {
    for order in [Order::FlagThenCell, Order::NeverLooks] {
        let found = catch_unwind(AssertUnwindSafe(|| {
            play(ALMOST, &[&[BUDGET, BUDGET]], 3, order);
        }));
        assert!(found.is_err(), "{order:?} passes");
        let found = catch_unwind(AssertUnwindSafe(|| {
            play_with(Lanes::One, ALMOST, &[&[BUDGET, BUDGET]], 3, order);
        }));
        assert!(found.is_err(), "{order:?} passes with lanes");
    }
}
