//! Lists of windows, against a ledger of all adds.

use super::*;

const SPAN_MS: u64 = 1_000;
const STEP_MS: u64 = 100;
const OF_WINDOW: Shape = Shape {
    window: (SPAN_MS, STEP_MS),
    ..SHAPE
};

/// Adds with their times.
#[derive(Debug, Default)]
struct Ledger(Vec<(Duration, Vec<u8>, u64)>);

impl Ledger {
    /// What was added to each key in the last `span_ms`.
    fn since(&self, node: &Node, span_ms: u64) -> Truth {
        let from = node.clock.get() - Duration::from_millis(span_ms);
        let mut truth = Truth::default();
        for (time, key, weight) in &self.0 {
            if *time > from {
                truth.add(key, *weight);
            }
        }
        truth
    }
}

/// A node with threads that add, and all that they added.
struct World {
    node: Node,
    batches: Vec<Batch<()>>,
    ledger: Ledger,
    random: Random,
}

impl World {
    fn new(shape: Shape, way: Way) -> Self {
        let node = Node::new(shape);
        Self {
            batches: node.batches(shape.threads, way),
            node,
            ledger: Ledger::default(),
            random: Random(11),
        }
    }

    fn add(&mut self, batch: usize, key: &[u8], weight: u32) {
        add(&mut self.batches[batch], key, weight, self.random.next());
        let now = self.node.clock.get();
        self.ledger.0.push((now, key.to_vec(), weight.into()));
    }

    /// Adds so many keys of a stream, by all batches.
    fn add_all(&mut self, keys: impl Iterator<Item = u64>, adds: usize) {
        for key in keys.take(adds) {
            let batch = self.random.below(self.batches.len() as u64) as usize;
            self.add(batch, &key.to_le_bytes(), 1);
        }
        self.finish();
    }

    fn finish(&mut self) {
        let finish = |batch: &mut Batch<()>| batch.finish(&mut no_answer);
        self.batches.iter_mut().for_each(finish);
        self.node.top.update();
    }

    /// Lets time go by, and takes the snapshots that become due.
    fn wait_ms(&mut self, ms: u64) {
        self.node.wait_ms(ms);
        self.node.snapshot_all();
    }

    fn check(&self, span_ms: u64) -> TopList<'_> {
        let question = self.node.question(span_ms, Reading::Bound);
        let list = self.node.top.list_in(&question, usize::MAX);
        self.ledger
            .since(&self.node, span_ms)
            .check(&self.node, &list);
        list
    }
}

#[test]
fn every_key_above_the_threshold_is_listed_and_the_bounds_hold() {
    for width in [16, 1 << 10] {
        for stream in [
            Stream::Zipf(1.1),
            Stream::Uniform,
            Stream::InTurn,
            Stream::Once,
        ] {
            for (threads, way) in [(1, Way::Direct), (1, Way::Pipelined), (3, Way::Direct)] {
                for window in [(1_000, 100), (1_000, 1_000), (300, 150)] {
                    let shape = Shape {
                        width,
                        threads,
                        window,
                        ..SHAPE
                    };
                    let mut world = World::new(shape, way);
                    for round in 0..60 {
                        let adds = world.random.below(200) as usize;
                        let keys = numbers(stream, 100, round);
                        world.add_all(keys.map(|key| key + round / 20 * 50), adds);
                        world.check(window.0);
                        world.check(window.1);
                        let ms = world.random.below(120);
                        world.wait_ms(ms);
                        world.check(window.0);
                    }
                }
            }
        }
    }
}

/// Ten seconds after other keys are hot, in a window of one second, only those are listed.
#[test]
fn a_list_follows_the_hot_keys() {
    let shape = Shape {
        width: 1 << 14,
        top: 50,
        ..OF_WINDOW
    };
    for threads in [1, 2] {
        let shape = Shape { threads, ..shape };
        let mut world = World::new(shape, Way::Pipelined);
        for epoch in 0..3 {
            let mut keys = numbers(Stream::Zipf(1.0), 5_000, epoch).map(|key| key + epoch * 10_000);
            for step in 0..30 {
                // Several finishes in a step.
                for _ in 0..8 {
                    world.add_all(&mut keys, 500);
                }
                world.wait_ms(STEP_MS);
                if step > 12 {
                    let list = world.check(SPAN_MS);
                    let truth = world.ledger.since(&world.node, SPAN_MS);
                    assert!(truth.recall(&world.node, &list, 50) >= 0.98, "{step}");
                    // This is less than what one of 64 keys may have, of two steps more.
                    assert!(
                        list.complete_above < 12 * 4_000 / 64,
                        "{}",
                        list.complete_above
                    );
                }
            }
        }
    }
}

/// When nothing is added any more, the list becomes empty and knows it, whether the thread comes by or not.
#[test]
fn everything_is_forgotten_in_the_end() {
    for comes_by in [false, true] {
        let mut world = World::new(
            Shape {
                top: 1,
                ..OF_WINDOW
            },
            Way::Direct,
        );
        world.add_all(numbers(Stream::Zipf(0.5), 1_000, 1), 20_000);
        assert!(world.check(SPAN_MS).complete_above > 20);
        for _ in 0..15 {
            world.wait_ms(STEP_MS);
            if comes_by {
                world.finish();
            }
        }
        let list = world.check(SPAN_MS);
        assert_eq!((list.keys.len(), list.complete_above), (0, 0));
        // Everything may become a candidate again.
        world.add_all(0..1, 1);
        let list = world.check(SPAN_MS);
        assert_eq!((list.keys.len(), list.complete_above), (1, 0));
        assert_eq!(list.keys[0].certain, 1);
    }
}

/// What is certain in a window is most of what came in its second half, however long the key has been hot.
#[test]
fn what_is_certain_goes_with_the_window() {
    let mut world = World::new(OF_WINDOW, Way::Direct);
    for step in 0..40 {
        world.add(0, b"key", 10);
        world.finish();
        let list = world.check(SPAN_MS);
        let certain = list.keys[0].certain;
        assert!(
            certain <= 100 && certain >= 10 * (step + 1).min(3),
            "{step}: {certain}"
        );
        world.wait_ms(STEP_MS);
    }
}

/// A thread that stands still for many windows in the middle of a batch misses nothing when it goes on.
#[test]
fn a_thread_that_sleeps_compares_with_nothing_that_was_written_again() {
    let mut world = World::new(OF_WINDOW, Way::Pipelined);
    for sleep in [5, 11, 12, 13, 23, 24, 40] {
        world.add_all(numbers(Stream::Zipf(1.0), 100, sleep), 3_000);
        // This batch is not finished.
        for key in 0..200_u64 {
            world.add(0, &key.to_le_bytes(), 1);
        }
        for _ in 0..sleep {
            world.wait_ms(STEP_MS);
        }
        // What waits in the batch is added now.
        let now = world.node.clock.get();
        let late = world.ledger.0.len() - 200;
        world.ledger.0[late..]
            .iter_mut()
            .for_each(|add| add.0 = now);
        world.finish();
        let list = world.check(SPAN_MS);
        assert!(list.keys.len() >= 12, "{sleep}: {}", list.keys.len());
    }
}

/// Cells that have wrapped, and counts of others, do no harm.
#[test]
fn cells_that_wrap() {
    for threads in [1, 2] {
        let shape = Shape {
            width: 1 << 10,
            depth: 2,
            threads,
            ..OF_WINDOW
        };
        let mut world = World::new(shape, Way::Direct);
        for step in 0..60_u64 {
            // The key's total passes 2^32 every few steps.
            for _ in 0..700 {
                world.add(0, b"heavy", 1 << 20);
            }
            world.finish();
            world.add_all(numbers(Stream::Zipf(1.0), 50, step), 100);
            let cells = world.node.replica.own.cells_of(b"elsewhere");
            for cell in cells.iter() {
                let (slices, replica) = (&mut world.node.slices, &world.node.replica);
                slices.copier.raise(replica, cell, 1 << 27);
            }
            world.node.slices.publish(usize::MAX);
            // In a window of three steps the key has less than 2^32.
            let list = world.check(3 * STEP_MS);
            assert!(list.keys[0].estimate.count >= 700 << 20);
            world.wait_ms(STEP_MS);
        }
    }
}

/// Candidates that come and go at the threshold are bounded in each step.
#[test]
fn few_candidates_change_in_a_step() {
    for stream in [Stream::Uniform, Stream::InTurn, Stream::Zipf(0.8)] {
        let mut world = World::new(
            Shape {
                top: 32,
                ..OF_WINDOW
            },
            Way::Pipelined,
        );
        let mut keys = numbers(stream, 100_000, 1);
        let lists = |world: &World| world.node.replica.lists.as_ref().unwrap().entered();
        let mut before = 0;
        for step in 0..40 {
            for _ in 0..4 {
                world.add_all(&mut keys, 2_500);
            }
            let entered = lists(&world);
            if step > 12 {
                let (now, most) = (entered - before, 2_000);
                assert!(now < most, "{stream:?}, {step}: {now}");
            }
            before = entered;
            world.wait_ms(STEP_MS);
        }
    }
}

/// The ring is written all the time while threads add and another reads, on real threads and by a real clock. Whatever
/// came in the last second is listed, if it is above the threshold.
#[test]
fn nothing_is_missed_while_snapshots_are_taken() {
    use std::time::Instant;
    for (width, threads) in [(1 << 8, 2), (1 << 10, 9)] {
        let shape = Shape {
            width,
            threads,
            top: 8,
            window: (100, 50),
            ..SHAPE
        };
        let mut node = Node::new(shape);
        let batches = node.batches(2, Way::Pipelined);
        let began = Instant::now();
        let clock = || STARTED + began.elapsed();
        let over = Duration::from_millis(900);
        std::thread::scope(|scope| {
            let adders: Vec<_> = (0..)
                .zip(batches)
                .map(|(seed, batch)| {
                    scope.spawn(move || add_until(batch, seed, &clock, STARTED + over))
                })
                .collect();
            while began.elapsed() < over {
                node.slices.snapshot(&clock, 64);
                node.slices.publish(64);
                node.top.update();
                let question = WindowQuestion {
                    window: node.replica.window(100).unwrap(),
                    reading: Reading::Bound,
                    now: clock(),
                };
                for key in node.top.list_in(&question, usize::MAX).keys {
                    assert!(key.certain <= key.estimate.count, "{key:?}");
                }
            }
            let mut ledger = Ledger::default();
            for adder in adders {
                ledger.0.extend(adder.join().unwrap());
            }
            node.clock.set(clock());
            let question = node.question(100, Reading::Bound);
            let list = node.top.list_in(&question, usize::MAX);
            ledger.since(&node, 100).check_found(&node, &list);
        });
    }
}

impl Truth {
    /// The list has every key that it should have. What is certain may have come a little before it is in the ledger.
    fn check_found(&self, node: &Node, list: &TopList<'_>) {
        for (key, &count) in &self.0 {
            let hash = node.hash(key);
            let is_listed = list.keys.iter().any(|entry| entry.hash == hash);
            assert!(
                is_listed || count <= list.complete_above,
                "{key:?}: {count}"
            );
        }
    }
}

type Adds = Vec<(Duration, Vec<u8>, u64)>;

/// Adds until this time, with the times before each add.
fn add_until(
    mut batch: Batch<()>,
    seed: u64,
    clock: &(impl Fn() -> Duration + Sync),
    until: Duration,
) -> Adds {
    let (mut adds, mut keys) = (Vec::new(), numbers(Stream::Zipf(1.0), 200, seed));
    loop {
        let now = clock();
        if now >= until {
            batch.finish(&mut no_answer);
            return adds;
        }
        for key in keys.by_ref().take(64) {
            let key = key.to_le_bytes();
            if batch.add(&key, Weight::ONE, &mut no_answer).is_ok() {
                adds.push((now, key.to_vec(), 1));
            }
        }
        batch.finish(&mut no_answer);
    }
}
