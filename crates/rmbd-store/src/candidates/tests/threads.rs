//! Threads that add at the same time, and a control thread that reads meanwhile.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use super::*;

const KEYS: u64 = 400;
const ADDS: u64 = 60_000;

/// Adds a part of the stream, and returns what it added.
fn add_part(mut batch: Batch<()>, seed: u64) -> Truth {
    let mut truth = Truth::default();
    for (number, key) in numbers(Stream::Zipf(1.0), KEYS, seed)
        .take(ADDS as usize)
        .enumerate()
    {
        let key = key.to_le_bytes();
        add(&mut batch, &key, 1, number as u64);
        truth.add(&key, 1);
        if number % 512 == 0 {
            batch.finish(&mut no_answer);
        }
    }
    batch.finish(&mut no_answer);
    truth
}

/// Reads the list over and over. It never has a key twice, and what it says of a key is never more than was added to it
/// in the end.
fn read(node: &mut Node, all: &Truth, is_over: &AtomicBool) {
    while !is_over.load(SeqCst) {
        node.top.update();
        let list = node.top.list(usize::MAX);
        for key in &list.keys {
            assert!(key.certain <= key.estimate.count, "{key:?}");
            if let Some(name) = key.name {
                assert!(key.certain <= all.0[name], "{key:?}");
            }
        }
    }
}

#[test]
fn nothing_is_missed_however_many_threads_add() {
    // With lanes, and without: a sketch of this width has none for nine threads.
    for threads in [2, 3, 9] {
        let shape = Shape {
            threads,
            top: 16,
            ..SHAPE
        };
        let mut node = Node::new(shape);
        let batches = node.batches(threads, Way::Pipelined);
        assert_eq!(node.replica.own.lanes() > 0, threads < 9);
        let mut all = Truth::default();
        for seed in 0..threads as u64 {
            for key in numbers(Stream::Zipf(1.0), KEYS, seed).take(ADDS as usize) {
                all.add(&key.to_le_bytes(), 1);
            }
        }
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let (is_over, node, all) = (&is_over, &mut node, &all);
            let reader = scope.spawn(move || read(node, all, is_over));
            let adders: Vec<_> = (0..)
                .zip(batches)
                .map(|(seed, batch)| scope.spawn(move || add_part(batch, seed)))
                .collect();
            for adder in adders {
                adder.join().unwrap();
            }
            is_over.store(true, SeqCst);
            reader.join().unwrap();
        });
        let list = node.top.list(usize::MAX);
        all.check(&node, &list);
        assert!(list.complete_above < ADDS * threads as u64 / 16);
        assert_eq!(all.recall(&node, &list, 16), 1.0);
    }
}
