//! Errors of windows are those that a list of all adds finds.

use std::time::Duration;

use super::*;
use crate::WindowPlan;

const SPAN: Duration = Duration::from_secs(10);

/// A replica with windows of 10 s that fold by 1 and by more.
fn with_windows(shape: Shape, widths: &[u64]) -> Arc<Replica> {
    let geometry = Geometry::new(shape.width, shape.depth).unwrap();
    let plan = |&width: &u64| {
        WindowPlan::new(
            SPAN.as_millis() as u64,
            None,
            Some(width),
            geometry,
            shape.family,
        )
        .unwrap()
    };
    let options = ReplicaOptions {
        threads: shape.threads,
        audit: true,
        windows: widths.iter().map(plan).collect(),
        max_origins: 1,
        ..ReplicaOptions::new(geometry, shape.family)
    };
    Arc::new(Replica::try_open(options).unwrap())
}

/// The errors of all keys that were there before, in rows of a width, from all that was added since.
fn errors(replica: &Replica, width: usize, before: &Truth, added: &[(Vec<u8>, u64)]) -> Vec<u64> {
    let audit = replica.audit.as_ref().unwrap();
    let fold = replica.own.geometry().width() / width;
    let cells_of = |key: &[u8]| -> Vec<u32> {
        let cells = replica.own.cells_of(key);
        cells
            .as_slice()
            .iter()
            .map(|cell| cell / fold as u32)
            .collect()
    };
    let (mut cells, mut exact) = (HashMap::new(), Truth::default());
    for (key, weight) in added {
        exact.add(key, *weight);
        for cell in cells_of(key) {
            *cells.entry(cell).or_insert(0) += weight;
        }
    }
    let is_in = |key: &&Vec<u8>| {
        let hash = replica.own.hash(key).unwrap();
        tag_of(hash.halves()) < audit.sample.below()
    };
    let keys = before.0.iter().filter(|(_, weight)| **weight > 0);
    let keys = keys.map(|(key, _)| key).filter(is_in);
    let mut errors: Vec<u64> = keys
        .map(|key| {
            let rows = cells_of(key).into_iter();
            let rows = rows.map(|cell| cells.get(&cell).copied().unwrap_or(0));
            rows.min().unwrap() - exact.of(key)
        })
        .collect();
    errors.sort_unstable();
    errors
}

fn read_all(windows: &mut AuditWindows, now: Duration) {
    while windows.read_piece(now) {}
}

#[test]
fn errors_in_windows_are_those_of_exact_counts() {
    for (seed, depth, keys) in [(1, 1, 15_000), (2, 3, 15_000), (3, 3, 90_000)] {
        let shape = Shape {
            width: 1 << 10,
            depth,
            threads: 2,
            ..SHAPE
        };
        let widths = [1 << 10, 1 << 7];
        let replica = with_windows(shape, &widths);
        let mut windows = AuditWindows::new(Arc::clone(&replica));
        let mut batches = [(); 2].map(|()| Batch::new(Arc::clone(&replica)));
        let mut random = Random(0x0A0D_1900 + seed);
        let mut all = Truth::default();
        let mut added = Vec::new();
        for step in 0..3 {
            let before = Truth(all.0.clone());
            added.clear();
            for _ in 0..keys {
                let key = random.below(keys).to_le_bytes();
                let weight = random.below(4);
                let batch = &mut batches[random.below(2) as usize];
                add(batch, &key, weight as u32, random.next());
                all.add(&key, weight);
                added.push((key.to_vec(), weight));
            }
            for batch in &mut batches {
                batch.finish(&mut no_answer);
            }
            // Too early, and then in time.
            read_all(
                &mut windows,
                SPAN * step - Duration::from_millis(u64::from(step > 0)),
            );
            read_all(&mut windows, SPAN * step);
            let found = replica.window_audits();
            if step == 0 {
                assert_eq!(found, [None, None]);
                continue;
            }
            for (width, found) in widths.iter().zip(found) {
                let found = found.unwrap();
                let expected = errors(&replica, *width as usize, &before, &added);
                assert_eq!(found.keys, expected.len() as u64, "seed {seed}");
                assert_eq!(found.largest, *expected.last().unwrap());
                let mean = expected.iter().sum::<u64>() as f64 / expected.len() as f64;
                assert!((found.mean - mean).abs() < 1e-9 * mean, "{found:?}, {mean}");
                let weight = added.iter().map(|(_, weight)| weight).sum::<u64>();
                assert_eq!(found.total_weight, weight);
                let most = std::f64::consts::E / *width as f64 * weight as f64;
                let above = expected.iter().filter(|&&it| it as f64 > most).count();
                assert_eq!(found.above_epsilon, above as u64);
            }
        }
        assert_eq!(replica.audit().unwrap().too_low, 0);
    }
}

/// What is missed makes windows unknown, too; and who is not audited has none.
#[test]
fn nothing_is_told_of_windows_that_nobody_knows() {
    let replica = with_windows(SHAPE, &[1 << 6]);
    let mut windows = AuditWindows::new(Arc::clone(&replica));
    assert!(!windows.read_piece(Duration::ZERO), "there is no key");
    let mut batch = Batch::new(Arc::clone(&replica));
    for key in 0..1_000_u64 {
        add(&mut batch, &key.to_le_bytes(), 1, 3);
    }
    batch.finish(&mut no_answer);
    read_all(&mut windows, SPAN);
    read_all(&mut windows, SPAN * 2);
    let found = replica.window_audits();
    let found = found[0].unwrap();
    assert!(found.keys > 5 && found.largest == 0 && found.total_weight == 0);
    for key in 0..1_000_u64 {
        replica.add(&key.to_le_bytes(), Weight::ONE).unwrap();
    }
    assert_eq!(replica.window_audits(), [None]);
    let plain = Arc::new(Replica::try_new(Geometry::DEFAULT, XXH3, 0).unwrap());
    assert!(plain.window_audits().is_empty());
    assert!(!AuditWindows::new(plain).read_piece(SPAN));
}

/// Threads add all the while. No error is below 0.
#[test]
fn no_window_is_too_low_while_threads_add() {
    let shape = Shape {
        width: 1 << 12,
        depth: 4,
        threads: 2,
        ..SHAPE
    };
    let replica = with_windows(shape, &[1 << 9]);
    let batches = [(); 2].map(|()| Batch::new(Arc::clone(&replica)));
    let mut windows = AuditWindows::new(Arc::clone(&replica));
    std::thread::scope(|scope| {
        let adders = batches.map(|mut batch| {
            scope.spawn(move || {
                for number in 0..400_000_u64 {
                    add(&mut batch, &(number % 4_000).to_le_bytes(), 1, number);
                }
                batch.finish(&mut no_answer);
            })
        });
        let (mut now, mut found) = (Duration::ZERO, 0);
        while adders.iter().any(|adder| !adder.is_finished()) {
            now += SPAN;
            read_all(&mut windows, now);
            found += u64::from(replica.window_audits()[0].is_some());
        }
        assert!(found > 0);
    });
    assert_eq!(replica.audit().unwrap().too_low, 0);
}
