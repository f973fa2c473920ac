//! Windows against exact lists of adds, and against exact snapshots.

use rmbd_sketch::PASS_WEIGHT_MAX;
use rmbd_testkit::random::random;

use super::*;
use crate::Estimate;

/// Exact snapshots of some keys, which never go.
struct Model {
    /// For each snapshot the time when its copying ended, and the count of each key.
    snapshots: Vec<(i64, Vec<u64>)>,
    counts: Vec<u64>,
    /// The counts that the snapshot at hand has so far.
    hand: Vec<Option<u64>>,
    copied: usize,
}

impl Model {
    fn new(keys: usize, plan: &WindowPlan) -> Self {
        let step_ns = ns_of_ms(plan.step_ms());
        let dated = |steps: i64| (ns(STARTED) - steps * step_ns, vec![0; keys]);
        Self {
            snapshots: (0..plan.snapshots() as i64).rev().map(dated).collect(),
            counts: vec![0; keys],
            hand: vec![None; keys],
            copied: 0,
        }
    }

    fn piece(&mut self, cells: &[u32], piece: usize, outcome: Snapshot, now: Duration) {
        self.copied = match outcome {
            Snapshot::Partly => self.copied + piece,
            // Where nothing was added, all may be done at once.
            Snapshot::Done { .. } => usize::MAX,
        };
        for ((hand, &cell), &count) in self.hand.iter_mut().zip(cells).zip(&self.counts) {
            if hand.is_none() && (cell as usize) < self.copied {
                *hand = Some(count);
            }
        }
        if let Snapshot::Done { .. } = outcome {
            let counts = self.hand.iter_mut().map(|hand| hand.take().unwrap());
            self.snapshots.push((ns(now), counts.collect()));
            self.copied = 0;
        }
    }

    /// The count of a key and what it covers by the definitions of both readings, without wrapping.
    fn answer(&self, key: usize, question: &WindowQuestion) -> (u64, u32) {
        let from_ns = ns(question.now) - ns_of_ms(question.window.span_ms());
        let place = self.snapshots.iter().rposition(|it| it.0 <= from_ns);
        let place = place.unwrap();
        let older = &self.snapshots[place];
        let bound = self.counts[key] - older.1[key];
        let covered_ns = (ns(question.now) - older.0) as u64;
        let count = match (question.reading, self.snapshots.get(place + 1)) {
            (Reading::Smooth, Some(younger)) => {
                let young = self.counts[key] - younger.1[key];
                let weight = u128::from(bound - young) * (younger.0 - from_ns) as u128;
                young + weight.div_ceil((younger.0 - older.0) as u128) as u64
            }
            _ => bound,
        };
        (count, covered_ns.div_ceil(1_000_000) as u32)
    }
}

/// Adds at random times, snapshots in pieces of random sizes, pauses, up to 30 steps in which nothing is added, and
/// every question in between.
fn play(seed: u64, fold: u64, threads: usize) {
    let mut state = seed;
    let mut random = move || random(&mut state);
    const STEP_MS: u64 = 100;
    let (width, steps) = (240 * fold, 1 + random() % 12);
    let span_ms = steps * STEP_MS;
    let mut node = Node::start(width, fold, &[(span_ms, STEP_MS)], threads);
    let keys = keys(&node, fold as u32, 6);
    let plan = *node.replica.window_plans().next().unwrap();
    let geometry = node.replica.own.geometry();
    let cells: Vec<_> = keys
        .iter()
        .map(|key| node.replica.own.cells_of(key))
        .collect();
    // Both rows of a key count the same; the snapshot has the key when it has the later row. Until then rows differ,
    // so that times do not move while a snapshot is at hand and the rows of a key are apart.
    let last_rows: Vec<_> = (cells.iter().map(|it| it.as_slice()[1] / fold as u32)).collect();
    let first_rows: Vec<_> = (cells.iter().map(|it| it.as_slice()[0] / fold as u32)).collect();
    let mut models = [&first_rows, &last_rows].map(|_| Model::new(keys.len(), &plan));
    let large = [1, 1 << 20, 1 << 31, (1 << 32) - 5, 1 << 33][random() as usize % 5];
    let mut batch = crate::Batch::<()>::new(Arc::clone(&node.replica));
    let take_piece = |node: &mut Node, models: &mut [Model; 2], piece: usize| {
        let outcome = node.snapshot(piece)?;
        let folded = (piece / fold as usize).max(1);
        for (model, rows) in models.iter_mut().zip([&first_rows, &last_rows]) {
            model.piece(rows, folded, outcome, node.now());
        }
        Some(outcome)
    };
    let mut still_steps = 0;
    for _ in 0..2_000 {
        if still_steps > 0 {
            still_steps -= 1;
            node.wait(ms(STEP_MS));
            let piece = 1 + random() as usize % (2 * geometry.cells());
            while take_piece(&mut node, &mut models, piece).is_some() {}
            let (key, span_ms) = (
                random() as usize % keys.len(),
                STEP_MS * (1 + random() % steps),
            );
            check(&node, &models, &keys[key], key, span_ms, seed);
            continue;
        }
        match random() % 16 {
            0..6 => node.wait(ms(random() % 30)),
            6 => node.wait(Duration::from_nanos(random() % 1_000_000)),
            7 if random().is_multiple_of(20) => node.wait(ms(random() % 3_000)),
            7 if random().is_multiple_of(6) => still_steps = random() % 31,
            8..12 => {
                let key = random() as usize % keys.len();
                let weight = random() % large.min(1 << 20) + 1;
                let weight = Weight::new(weight as u32).unwrap();
                batch
                    .hit(&keys[key], (weight, 9), (), &mut |(), _| {})
                    .unwrap();
                batch.finish(&mut |(), _| {});
                models
                    .iter_mut()
                    .for_each(|it| it.counts[key] += u64::from(weight));
            }
            12 => {
                let (key, growth) = (random() as usize % keys.len(), random() % large);
                // N of others may have told of this before.
                let is_known = growth < 1 << 20 && random().is_multiple_of(2);
                node.learn(&cells[key], growth, if is_known { 0 } else { growth });
                models.iter_mut().for_each(|it| it.counts[key] += growth);
            }
            _ => {
                let piece = 1 + random() as usize % geometry.cells();
                take_piece(&mut node, &mut models, piece);
            }
        }
        if node.replica.own.wants_pass() {
            while node.slices.publish(usize::MAX) != crate::Published::Idle {}
        }
        let key = random() as usize % keys.len();
        let span_ms = STEP_MS * (1 + random() % steps);
        check(&node, &models, &keys[key], key, span_ms, seed);
    }
    drop(batch);
    assert!(node.replica.own.total_weight() < PASS_WEIGHT_MAX << 10);
}

fn check(node: &Node, models: &[Model; 2], name: &[u8], key: usize, span_ms: u64, seed: u64) {
    for reading in [Reading::Bound, Reading::Smooth] {
        let question = node.question(span_ms, reading);
        let Estimate {
            count,
            covered_ms,
            overflowed,
            ..
        } = node.replica.estimate_in(name, &question);
        let expected = models.each_ref().map(|model| model.answer(key, &question));
        let least = expected[0].0.min(expected[1].0);
        assert_eq!(covered_ms, expected[0].1, "seed {seed:#x}");
        let is_large = models.iter().any(|model| {
            let bound = WindowQuestion {
                reading: Reading::Bound,
                ..question
            };
            model.answer(key, &bound).0 >> 32 > 0
        });
        if is_large {
            assert!(overflowed, "seed {seed:#x}");
        } else {
            // Where rows differ, what the least rows are taken of makes smooth a little smaller than the least
            // smooth row, and never smaller than the truth.
            assert!(count <= least, "seed {seed:#x}: {count} > {least}");
            let rows_are_equal = models[0].snapshots == models[1].snapshots;
            if reading == Reading::Bound || rows_are_equal {
                assert_eq!(count, least, "seed {seed:#x} {question:?}");
            }
        }
    }
}

#[test]
fn answers_are_those_of_exact_snapshots() {
    for seed in 0..60 {
        for (fold, threads) in [(1, 1), (8, 1), (3, 1), (8, 2), (1, 2)] {
            play(0x1000 + seed, fold, threads);
        }
    }
}

/// Adds with their exact times: the last W is never missed, and what is older than W and two steps never counts.
#[test]
fn bound_answers_hold_the_last_window_and_at_most_two_steps_more() {
    for seed in 1..40 {
        let mut state = seed;
        let mut random = move || random(&mut state);
        let windows = [(1_200, 100), (6_000, 500), (600, 200)];
        let mut node = Node::start(1 << 12, 8, &windows, 1);
        let mut adds = Vec::new();
        let mut still = 0_u64;
        for _ in 0..3_000 {
            node.wait(Duration::from_micros(random() % 8_000));
            // Now and then nothing is added for up to 30 of the shortest steps.
            still = match random() % 400 {
                0 => random() % 750,
                _ => still.saturating_sub(1),
            };
            if still == 0 && random().is_multiple_of(2) {
                node.add(b"key", 1);
                adds.push(node.now());
            }
            // Snapshots in pieces, with time between them: 4 pieces of a table.
            let _ = node.snapshot(2_048);
            for (span_ms, step_ms) in windows {
                let count = node.ask(b"key", span_ms, Reading::Bound).count;
                let since = |from: Duration| adds.iter().filter(|&&it| it > from).count() as u64;
                let from = node.now().saturating_sub(ms(span_ms));
                assert!(count >= since(from), "seed {seed}, {span_ms}");
                let early = from.saturating_sub(ms(2 * step_ms));
                assert!(count <= since(early), "seed {seed}, {span_ms}");
                let smooth = node.ask(b"key", span_ms, Reading::Smooth).count;
                assert!(smooth <= count);
            }
        }
    }
}

#[test]
fn growth_that_32_bits_do_not_hold_is_told() {
    let mut node = Node::start(240, 1, &[(1_000, 100)], 1);
    let key = keys(&node, 1, 1)[0];
    let add = |node: &mut Node, growth: u64| {
        node.learn(&node.replica.own.cells_of(&key), growth, growth);
        node.wait(ms(100));
        node.snapshot_all();
    };
    // Up to 2^31 may come before anybody looks, so that 2^31 is where it may be too much.
    for (growth, overflowed) in [(1 << 30, false), ((1 << 30) - 1, false), (1, true)] {
        add(&mut node, growth);
        let answer = node.ask(&key, 1_000, Reading::Bound);
        assert_eq!(answer.overflowed, overflowed, "{growth}");
    }
    for _ in 0..8 {
        add(&mut node, 0);
    }
    let answer = node.ask(&key, 1_000, Reading::Bound);
    assert_eq!((answer.count, answer.overflowed), (1 << 30, false));
    // All in one step: a difference of 32 bits shows nothing of it.
    add(&mut node, 1 << 32);
    assert!(node.ask(&key, 1_000, Reading::Bound).overflowed);
}
