//! Readers, adders, the copier and bookings at the same time, on real threads.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Instant;

use super::*;
use crate::Batch;
use crate::ages::{Moment, Reached};

/// Snapshots are taken all the time and slots are reused under readers. What was added after a moment is never missed
/// by a window that begins before it.
#[test]
fn readers_never_miss_what_came_in_their_window() {
    for (fold, threads) in [(1, 1), (8, 2)] {
        let mut node = Node::start(1 << 8, fold, &[(100, 50)], threads);
        // Cells begin near their wrap, which a pass has seen.
        for cell in node.replica.own.own_cells() {
            cell.store(u32::MAX - 5_000, Relaxed);
        }
        node.add(b"another", 1);
        node.slices.publish(usize::MAX);
        for _ in 0..4 {
            node.wait(ms(50));
            assert_eq!(node.snapshot_all(), 1);
        }
        let start = node.now();
        let (began, is_over) = (Instant::now(), AtomicBool::new(false));
        let clock = || start + began.elapsed();
        let replica = &node.replica;
        std::thread::scope(|scope| {
            for thread in 0..2 {
                let (clock, is_over) = (&clock, &is_over);
                scope.spawn(move || ask_for_own_adds(replica, thread, clock, is_over));
            }
            while began.elapsed() < Duration::from_millis(1_200) {
                node.slices.snapshot(&clock, 64);
                node.slices.publish(64);
            }
            is_over.store(true, SeqCst);
        });
    }
}

/// Adds a key of its own, with pauses in which all slots come to hold the same, and compares every answer with the adds
/// of the last window.
fn ask_for_own_adds(
    replica: &Arc<Replica>,
    thread: u32,
    clock: &impl Fn() -> Duration,
    is_over: &AtomicBool,
) {
    let window = replica.window(100).unwrap();
    let key = thread.to_le_bytes();
    let mut batch = Batch::<()>::new(Arc::clone(replica));
    let mut adds: std::collections::VecDeque<Duration> = std::collections::VecDeque::new();
    while !is_over.load(SeqCst) {
        let came = clock();
        let is_pause = came.as_millis() % 600 < 350;
        if !is_pause && batch.add(&key, Weight::ONE, &mut |(), _| {}).is_ok() {
            adds.push_back(came);
        }
        let now = clock();
        let question = WindowQuestion {
            window,
            reading: Reading::Bound,
            now,
        };
        let mut count = 0;
        batch.count_in(&key, question, (), &mut |(), it| count = it.count);
        batch.finish(&mut |(), it| count = it.count);
        while adds.front().is_some_and(|&it| it + ms(100) < now) {
            adds.pop_front();
        }
        let truth = adds.len() as u64;
        assert!(count >= truth, "{count} is below {truth}");
    }
}

/// Old growth comes in while a reader asks for what is new: it never sees less than that, and seldom more.
#[test]
fn readers_never_take_booked_growth_for_new_or_new_growth_for_booked() {
    const NEW: u64 = 1_000;
    let mut node = Node::start(240, 1, &[(1_000, 100)], 1);
    let key = keys(&node, 1, 1)[0];
    for _ in 0..20 {
        node.wait(ms(100));
        node.snapshot_all();
    }
    node.add(&key, NEW as u32);
    let is_over = AtomicBool::new(false);
    let questions = [Reading::Bound, Reading::Smooth].map(|it| node.question(500, it));
    let replica = Arc::clone(&node.replica);
    std::thread::scope(|scope| {
        for question in questions {
            let (replica, is_over) = (&replica, &is_over);
            scope.spawn(move || {
                while !is_over.load(SeqCst) {
                    let count = replica.estimate_in(&key, &question).count;
                    assert!(count >= NEW, "{count} is below {NEW}");
                }
            });
        }
        let cells = replica.own.cells_of(&key);
        let reached = [Reached {
            at: Moment::of(Duration::ZERO),
            part: 3,
        }];
        for _ in 0..100_000 {
            let mut booking = node.slices.copier.book(&replica);
            for cell in cells.iter() {
                booking.raise(cell, 3);
                booking.reached(cell, &reached);
            }
        }
        is_over.store(true, SeqCst);
    });
    for question in questions {
        assert_eq!(replica.estimate_in(&key, &question).count, NEW);
    }
    assert_eq!(replica.estimate(&key).count, NEW + 300_000);
}
