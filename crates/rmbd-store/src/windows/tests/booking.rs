//! Old growth that is booked, against exact snapshots.

use rmbd_testkit::random::random;

use super::*;
use crate::ages::{Moment, Reached};

/// One cell of a row by the definition: its count, and its snapshots as vectors of exact numbers.
struct Naive {
    count: Vec<u64>,
    snapshots: Vec<(i64, Vec<u64>)>,
    /// The cells of the snapshot at hand, as far as it is copied.
    hand: Vec<u64>,
}

impl Naive {
    fn copy(&mut self, cells: usize, outcome: Snapshot, now: Duration) {
        let from = self.hand.len();
        let to = match outcome {
            Snapshot::Partly => from + cells,
            // Where nothing was added, all may be done at once.
            Snapshot::Done { .. } => self.count.len(),
        };
        self.hand.extend(&self.count[from..to]);
        if let Snapshot::Done { .. } = outcome {
            self.snapshots
                .push((ns(now), std::mem::take(&mut self.hand)));
        }
    }

    fn book(&mut self, cell: usize, growth: u64, reached: &[Reached]) {
        self.count[cell] += growth;
        for (ended_ns, cells) in &mut self.snapshots {
            let by_then = reached.iter().filter(|it| it.at.ns() <= *ended_ns);
            cells[cell] += by_then.map(|it| it.part).max().unwrap_or(0);
        }
        if let Some(copied) = self.hand.get_mut(cell) {
            *copied += reached.iter().map(|it| it.part).max().unwrap_or(0);
        }
    }
}

/// Parts of a growth, as a writer tells them: for some times what had been reached by then.
fn parts(growth: u64, now: Duration, random: &mut impl FnMut() -> u64) -> Vec<Reached> {
    let mut parts: Vec<_> = (0..random() % 4).map(|_| random() % (growth + 1)).collect();
    let mut times: Vec<_> = parts.iter().map(|_| random() % 1_500).collect();
    parts.sort_unstable();
    times.sort_unstable_by(|one, other| other.cmp(one));
    let pairs = times.into_iter().zip(parts);
    pairs
        .map(|(age_ms, part)| Reached {
            at: Moment::of(now.saturating_sub(ms(age_ms))),
            part,
        })
        .collect()
}

#[test]
fn parts_go_to_the_snapshots_that_ended_when_they_had_been_reached() {
    for seed in 0..60 {
        let mut state = 0xB00C + seed;
        let mut random = move || random(&mut state);
        let fold = [1, 8, 3][seed as usize % 3];
        let mut node = Node::start(16 * fold, fold, &[(1_000, 100)], 1);
        let cells = 32;
        let dated = |steps: i64| (ns(STARTED) - steps * 100_000_000, vec![0; cells]);
        let mut naive = Naive {
            count: vec![0; cells],
            snapshots: (0..12).rev().map(dated).collect(),
            hand: Vec::new(),
        };
        for _ in 0..600 {
            // Up to 30 steps in which nothing is added.
            for _ in 0..if random().is_multiple_of(24) {
                random() % 31
            } else {
                0
            } {
                node.wait(ms(100));
                let piece = 1 + random() as usize % 40;
                while let Some(outcome) = node.snapshot(piece * fold as usize) {
                    naive.copy(piece, outcome, node.now());
                }
                compare(&node, &naive, fold as usize);
            }
            node.wait(ms(random() % 20));
            let piece = 1 + random() as usize % 40;
            if random().is_multiple_of(2)
                && let Some(outcome) = node.snapshot(piece * fold as usize)
            {
                naive.copy(piece, outcome, node.now());
            }
            let cell = random() as usize % cells;
            let growth = random() % 1_000;
            let parts = parts(growth, node.now(), &mut random);
            let first = (cell as u32) * fold as u32;
            let index = node.replica.own.geometry().cell(first).unwrap();
            let copier = &mut node.slices.copier;
            let mut booking = copier.book(&node.replica);
            booking.raise(index, growth);
            booking.reached(index, &parts);
            drop(booking);
            naive.book(cell, growth, &parts);
            compare(&node, &naive, fold as usize);
        }
    }
}

fn compare(node: &Node, naive: &Naive, fold: usize) {
    let ring = &node.replica.windows.rings[0];
    let (oldest, youngest) = ring.numbers();
    let kept = naive.snapshots.iter().rev();
    for (number, (ended_ns, cells)) in (oldest..=youngest).rev().zip(kept) {
        assert_eq!(ring.ended_ns(number), *ended_ns);
        for (cell, value) in ring.slot(number).iter().zip(cells) {
            assert_eq!(u64::from(cell.load(Relaxed)), *value);
        }
    }
    for (cell, value) in naive.hand.iter().enumerate() {
        let hand = &ring.slot(youngest + 1)[cell];
        assert_eq!(u64::from(hand.load(Relaxed)), *value);
    }
    for (cell, &count) in naive.count.iter().enumerate() {
        assert_eq!(u64::from(node.replica.own.folded(cell as u32, fold)), count);
    }
}

#[test]
fn a_reader_waits_for_a_booking_and_is_never_too_low() {
    let mut node = Node::start(240, 1, &[(1_000, 100)], 1);
    let key = keys(&node, 1, 1)[0];
    node.wait(ms(2_000));
    node.snapshot_all();
    let question = node.question(500, Reading::Bound);
    let cells = node.replica.own.cells_of(&key);
    let old = Reached {
        at: Moment::of(Duration::ZERO),
        part: 90,
    };
    let mut booking = node.slices.copier.book(&node.replica);
    for cell in cells.iter() {
        booking.raise(cell, 100);
    }
    // Too high for now, since a reader cannot wait for ever.
    assert_eq!(node.replica.estimate_in(&key, &question).count, 100);
    for cell in cells.iter() {
        booking.reached(cell, &[old]);
    }
    drop(booking);
    assert_eq!(node.replica.estimate_in(&key, &question).count, 10);
}
