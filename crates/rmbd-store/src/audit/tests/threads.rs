//! Threads that add at the same time, and a control thread that looks meanwhile.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use super::*;

const ADDS: u64 = 150_000;

/// The keys of a thread: half of the adds are of few keys, which all threads add.
fn keys(seed: u64) -> impl Iterator<Item = [u8; 8]> {
    let mut random = Random(seed);
    (0..ADDS).map(move |_| {
        let keys = if random.below(2) == 0 { 128 } else { 1 << 40 };
        random.below(keys).to_le_bytes()
    })
}

fn add_part(mut batch: Batch<()>, seed: u64) {
    for (number, key) in keys(seed).enumerate() {
        add(&mut batch, &key, 1, number as u64);
        if number % 512 == 0 {
            batch.finish(&mut no_answer);
        }
    }
    batch.finish(&mut no_answer);
}

/// Looks over and over. No estimate is ever too low, and no error is ever more than all that was added.
fn watch(replica: &Replica, is_over: &AtomicBool) -> u64 {
    let (mut reader, mut looks) = (AuditReader::new(), 0);
    while !is_over.load(SeqCst) {
        let Some(mut look) = reader.begin(replica) else {
            continue;
        };
        while look.read_piece() {}
        let state = replica.audit().unwrap();
        assert_eq!((state.too_low, state.missed_weight), (0, 0));
        let figures = state.figures.unwrap();
        assert!(figures.quantile <= figures.largest && figures.largest <= ADDS * 9);
        looks += 1;
    }
    looks
}

#[test]
fn counts_are_exact_however_many_threads_add() {
    // With lanes, and without: a sketch of this width has none for nine threads.
    for threads in [2, 3, 9] {
        let replica = replica(Shape {
            width: 1 << 12,
            depth: 4,
            threads,
            ..SHAPE
        });
        let batches: Vec<_> = (0..threads)
            .map(|_| Batch::new(Arc::clone(&replica)))
            .collect();
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let (is_over, replica) = (&is_over, &replica);
            let watcher = scope.spawn(move || watch(replica, is_over));
            let adders: Vec<_> = (0..)
                .zip(batches)
                .map(|(seed, batch)| scope.spawn(move || add_part(batch, seed)))
                .collect();
            for adder in adders {
                adder.join().unwrap();
            }
            is_over.store(true, SeqCst);
            assert!(watcher.join().unwrap() > 0);
        });
        let mut truth = Truth::default();
        for seed in 0..threads as u64 {
            keys(seed).for_each(|key| truth.add(&key, 1));
        }
        let figures = look(&replica).unwrap();
        truth.check(&replica, &figures);
        // It was halved, and the more keys there are, the more often.
        assert!(figures.share <= 1.0 / 128.0, "{figures:?}");
        assert!(figures.keys <= 768 * threads as u64 && figures.keys > 300);
        let verdicts = replica.audit().unwrap().verdicts;
        assert!(verdicts.wrong <= verdicts.refused && verdicts.refused < verdicts.judged);
    }
}
