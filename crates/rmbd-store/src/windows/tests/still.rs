//! Sketches to which nothing is added.

use super::*;
use crate::Batch;
use crate::ages::{Moment, Reached};

/// Takes a snapshot a step, as long as nothing is added.
fn stand_still(node: &mut Node, steps: usize) {
    for _ in 0..steps {
        node.wait(ms(100));
        assert_eq!(node.snapshot_all(), 1);
    }
}

/// How many slots hold this in the first cell.
fn holding(node: &Node, ring: usize, value: u32) -> usize {
    let slots = node.replica.windows.rings[ring].slots();
    slots.filter(|slot| slot[0].load(Relaxed) == value).count()
}

/// A cell that changes without N can be told from one that is read.
fn set_first_cell(node: &Node, value: u32) {
    node.replica
        .own
        .own_cells()
        .next()
        .unwrap()
        .store(value, Relaxed);
}

#[test]
fn no_cell_is_read_while_nothing_is_added() {
    let windows = [(1_000, 100), (2_000, 400)];
    let mut node = Node::start(1 << 10, 8, &windows, 1);
    set_first_cell(&node, 7);
    stand_still_in_all(&mut node, 30);
    assert_eq!(
        [0, 1].map(|ring| holding(&node, ring, 7)),
        [0, 0],
        "an empty sketch is not read"
    );
    node.add(b"key", 1);
    stand_still_in_all(&mut node, 4);
    assert_eq!([0, 1].map(|ring| holding(&node, ring, 7)), [4, 1]);
    set_first_cell(&node, 8);
    // Of twelve slots and of seven.
    stand_still_in_all(&mut node, 40);
    assert_eq!([0, 1].map(|ring| holding(&node, ring, 7)), [12, 7]);
    // A piece of one cell is enough.
    node.wait(ms(100));
    assert_eq!(node.snapshot(1), Some(Snapshot::Done { span_ms: 1_000 }));
    node.wait(ms(300));
    let key = node.replica.own.cells_of(b"another");
    node.learn(&key, 1, 0);
    node.snapshot_all();
    assert_eq!(
        [0, 1].map(|ring| holding(&node, ring, 8)),
        [1, 1],
        "cells of others grew"
    );
}

fn stand_still_in_all(node: &mut Node, steps: usize) {
    for _ in 0..steps {
        node.wait(ms(100));
        node.snapshot_all();
    }
}

/// Each step has a snapshot with a time of its own, so that windows end when they should.
#[test]
fn windows_cover_no_more_after_a_day_without_adds() {
    let mut node = Node::start(1 << 10, 8, &[(1_000, 100)], 1);
    node.add(b"key", 5);
    let day_steps = 24 * 3_600 * 10;
    stand_still(&mut node, day_steps);
    for at_ms in [0, 50, 100, 950] {
        node.wait(ms(at_ms % 100));
        let [bound, smooth] =
            [Reading::Bound, Reading::Smooth].map(|reading| node.ask(b"key", 500, reading));
        assert_eq!((bound.count, smooth.count), (0, 0));
        assert_eq!(bound.covered_ms as u64, 500 + at_ms % 100);
        node.add(b"key", 3);
        assert_eq!(node.ask(b"key", 500, Reading::Bound).count, 3);
        node.wait(ms(100 - at_ms % 100));
        stand_still(&mut node, 20);
    }
}

/// What a batch has added and not settled is in no N, and in no window too late.
#[test]
fn adds_that_are_not_settled_count_as_younger_and_are_never_missing() {
    let mut node = Node::start(1 << 10, 8, &[(1_000, 100)], 1);
    let mut batch = Batch::<()>::with_way(Arc::clone(&node.replica), crate::Way::Direct);
    let mut none = |(), _| {};
    for before in 0..14 {
        stand_still(&mut node, 20 + before);
        batch.hit(b"key", (4.into(), 9), (), &mut none).unwrap();
        let age = node.replica.estimate(b"key").count;
        for step in 1..=before {
            stand_still(&mut node, 1);
            let count = node.ask(b"key", 1_000, Reading::Bound).count;
            assert!(step > 10 || count >= 4, "{before} {step}");
            assert!(count <= age);
        }
        batch.finish(&mut none);
        stand_still(&mut node, 12);
        assert_eq!(node.ask(b"key", 1_000, Reading::Bound).count, 0);
    }
}

/// A partition that heals, or a join: the sketch had stood still here, and not elsewhere.
#[test]
fn old_growth_goes_to_its_time_after_a_pause_in_which_nothing_was_added() {
    let mut node = Node::start(240, 1, &[(1_000, 100)], 1);
    let keys = keys(&node, 1, 2);
    let cells = node.replica.own.cells_of(&keys[0]);
    for round in 0..3 {
        stand_still(&mut node, 40);
        let ago = |time_ms| Moment::of(node.now() - ms(time_ms));
        // 30 in all: 2 more than a second ago, 5 until 750 ms ago, 11 until 450 ms ago, 23 until 150 ms ago.
        let reached = [(1_500, 2), (750, 5), (450, 11), (150, 23)];
        let reached = reached.map(|(time_ms, part)| Reached {
            at: ago(time_ms),
            part,
        });
        let mut booking = node.slices.copier.book(&node.replica);
        for cell in cells.iter() {
            booking.raise(cell, 30);
            booking.reached(cell, &reached);
        }
        drop(booking);
        for steps in 0..12 {
            for span_ms in (100..=1_000).step_by(100) {
                let count = node.ask(&keys[0], span_ms, Reading::Bound).count;
                // Counted from the moment at which it came.
                let expected = match span_ms.checked_sub(steps * 100) {
                    None => 0,
                    Some(0..=100) => 7,
                    Some(200..=400) => 19,
                    Some(500..=700) => 25,
                    Some(_) => 28,
                };
                assert_eq!(count, expected, "{round} {steps} {span_ms}");
            }
            // The snapshot of now has all that had been told.
            stand_still(&mut node, 1);
        }
    }
}
