//! Nodes that tell each other what they count and how old it is, over a bad network, against the truth.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use rmbd_proto::Writer;
use rmbd_proto::cluster::{
    AgedGroup, CELL_MAX, Frame, FrameWriter, GROUP_CELLS, Listed, SliceId, frames,
};
use rmbd_sketch::{Geometry, HashFamily, Weight};
use rmbd_testkit::random::Random;

use super::*;
use crate::{Replica, ReplicaLimits, Slices, WindowPlan};

const FAMILY: HashFamily = HashFamily::Xxh3 { seed: 7 };
const WIDTH: u64 = 336;
const DEPTH: u64 = 2;
const CELLS: usize = (WIDTH * DEPTH) as usize;
const STEP_MS: u64 = 1_000;
const SPAN_MS: u64 = 8_000;

fn windows(width: u64) -> Vec<WindowPlan> {
    let geometry = Geometry::new(WIDTH, DEPTH).unwrap();
    let plan = |span_ms, step_ms, width| {
        WindowPlan::new(span_ms, Some(step_ms), Some(width), geometry, FAMILY).unwrap()
    };
    vec![
        plan(SPAN_MS, STEP_MS, width),
        plan(5 * SPAN_MS, 4 * STEP_MS, width),
    ]
}

/// A snapshot of one ring, as it is described: what all slices had, folded.
struct Snapshot {
    ended: Moment,
    cells: Vec<u64>,
}

struct Node {
    slices: Slices,
    own: SliceId,
    replica: Arc<Replica>,
    fold: usize,
    /// The clock is ahead by so much, and fast by so many millionths.
    ahead_ms: u64,
    fast_ppm: i64,
    snapshots: Vec<Snapshot>,
    began_ms: u64,
}

impl Node {
    fn new(number: u64, random: &mut Random, now_ms: u64, max_memory_bytes: u64) -> Self {
        // 6 and 7 fit neither groups nor other folds, 4 and 16 fit.
        let fold = [1, 4, 6, 7, 16, 336][random.below(6) as usize];
        let own = SliceId::of(number, Writer(number + 1));
        let limits = ReplicaLimits {
            max_peers: 0,
            max_origins: 100,
            max_memory_bytes,
        };
        let geometry = Geometry::new(WIDTH, DEPTH).unwrap();
        let replica = Arc::new(Replica::try_with(geometry, FAMILY, own, limits).unwrap());
        let mut node = Self {
            slices: Slices::try_new(Arc::clone(&replica)).unwrap(),
            own,
            replica,
            fold,
            ahead_ms: random.below(3) * random.below(1_000),
            fast_ppm: random.below(800) as i64 - 400,
            snapshots: Vec::new(),
            began_ms: now_ms,
        };
        let windows = windows(WIDTH / fold as u64);
        let now = node.clock(now_ms);
        node.slices.keep_ages(&windows, now).unwrap();
        for steps in (0..12).rev() {
            node.snapshots.push(Snapshot {
                ended: Moment::of(now).before(steps * STEP_MS),
                cells: vec![0; CELLS / fold],
            });
        }
        node
    }

    /// Every node's clock begins near 0 when the node does.
    fn clock(&self, at_ms: u64) -> Duration {
        let since_ms = at_ms as i64 - self.began_ms as i64;
        let ms = self.ahead_ms as i64 + since_ms;
        let us = ms * 1_000 + since_ms * self.fast_ppm / 1_000;
        Duration::from_micros(u64::try_from(us).unwrap_or(0))
    }

    /// The moment of something that may have been before the node began.
    fn moment(&self, at_ms: u64) -> Moment {
        if at_ms >= self.began_ms {
            return Moment::of(self.clock(at_ms));
        }
        let before_ms = (self.began_ms - at_ms) as i64;
        // Rounded to later, as the node could know it at best.
        let before_ms = before_ms + before_ms * self.fast_ppm / 1_000_000 - 1;
        Moment::of(self.clock(self.began_ms)).before(u64::try_from(before_ms).unwrap_or(0))
    }

    /// Looks at no more than so many groups, so that a pass may be under way afterwards.
    fn publish(&mut self, now_ms: u64, groups_max: u64) {
        for _ in 0..groups_max {
            if self.slices.publish(GROUP_CELLS) != crate::Published::Partly {
                break;
            }
        }
        let now = self.clock(now_ms);
        self.slices.end_step(now);
        self.slices.tidy_ages(2);
    }

    /// What all nodes have counted, as far as it is known here.
    fn total(&self) -> Vec<u64> {
        let mut total = vec![0; CELLS];
        let slices = self.slices.digests().map(|line| line.slice);
        for slice in slices.filter(|slice| *slice != self.own) {
            for (sum, cell) in total
                .iter_mut()
                .zip(self.slices.cells(&slice).unwrap().to_vec())
            {
                *sum += cell;
            }
        }
        total
    }

    fn take_snapshot(&mut self, now_ms: u64) {
        let cells = folded(&self.total(), self.fold);
        let ended = Moment::of(self.clock(now_ms));
        self.snapshots.push(Snapshot { ended, cells });
        self.snapshots.remove(0);
    }

    /// Writes a frame of some groups of a slice.
    fn tell(
        &self,
        slice: &SliceId,
        base: u64,
        at_ms: u64,
        groups: &[u32],
        random: &mut Random,
    ) -> Vec<u8> {
        let now = self.clock(at_ms);
        let mut marks = self.slices.marks_since(slice, base, now);
        // Any choice is right.
        if random.below(3) == 0 {
            marks.retain(|_| random.below(2) == 0);
        }
        let ages: Vec<u64> = marks
            .iter()
            .map(|mark| mark.at.told_age_ms(Moment::of(now)))
            .collect();
        let fold = self.slices.ages_fold().unwrap();
        let (mut out, mut values, mut increments) = (Vec::new(), Vec::new(), Vec::new());
        let cells = self.slices.cells(slice).unwrap();
        let mut writer = FrameWriter::new(&mut out, 60_000);
        let written = writer.aged_groups(slice, 1, (fold, &ages), |writer| {
            for &group in groups {
                cells.read_group(group, &mut values);
                self.slices
                    .increments(slice, group, &marks, &mut increments);
                assert!(writer.push(group, &values, &increments));
            }
        });
        assert_eq!(written, Listed::Some);
        out
    }

    /// Takes a frame, and books what is old in it to the snapshots, as it is described.
    fn take(&mut self, bytes: &[u8], now_ms: u64) {
        let Some(Ok(Frame::AgedGroups {
            slice, mut groups, ..
        })) = frames(bytes, |_| Some(CELLS as u32)).next()
        else {
            panic!("one frame of aged groups");
        };
        if slice == self.own {
            return;
        }
        let arrived = Moment::of(self.clock(now_ms));
        let marks: Vec<Moment> = groups.ages().map(|age| arrived.before(age)).collect();
        let mut group = AgedGroup::default();
        while let Some(number) = groups.next_group(&mut group) {
            let cells = self.cells_of(&slice, number);
            let ages = GroupAges {
                fold: groups.fold(),
                marks: &marks,
                increments: &group.increments,
            };
            let given = group.cells.iter().copied();
            if (self.slices)
                .merge_aged(&slice, number, given, &ages, true)
                .is_err()
            {
                continue;
            }
            let growth = self.cells_of(&slice, number).into_iter().zip(cells);
            let growth: Vec<u64> = growth.map(|(new, old)| new - old).collect();
            let first = number * GROUP_CELLS as u32;
            let snapshots = &mut self.snapshots;
            old_parts(
                &growth,
                (first, self.fold),
                &ages,
                |cell, grown, reached| {
                    assert!(reached.iter().all(|it| it.part <= grown));
                    for snapshot in snapshots.iter_mut() {
                        let old = reached.iter().find(|it| it.at <= snapshot.ended);
                        snapshot.cells[cell] += old.map_or(0, |old| old.part);
                    }
                },
            );
        }
    }

    fn cells_of(&self, slice: &SliceId, group: u32) -> Vec<u64> {
        let start = group as usize * GROUP_CELLS;
        let end = (start + GROUP_CELLS).min(CELLS);
        let cells = self
            .slices
            .cells(slice)
            .map_or_else(|| vec![0; CELLS], crate::CellsRef::to_vec);
        cells[start..end].to_vec()
    }
}

fn folded(cells: &[u64], fold: usize) -> Vec<u64> {
    cells.chunks(fold).map(|cells| cells.iter().sum()).collect()
}

/// When each unit of each cell was counted, by its writer.
#[derive(Default)]
struct Truth(BTreeMap<(SliceId, u32), Vec<u64>>);

impl Truth {
    fn add(&mut self, node: &Node, key: &[u8], weight: u64, now_ms: u64) {
        node.replica
            .add(key, Weight::new(weight as u32).unwrap())
            .unwrap();
        for &cell in node.replica.own().cells_of(key).as_slice() {
            let times = self.0.entry((node.own, cell)).or_default();
            times.extend((0..weight).map(|_| now_ms));
        }
    }

    /// How much of the first `value` units of a cell was counted until a moment by this node's clock.
    fn until(&self, node: &Node, (slice, cell): (SliceId, u32), value: u64, moment: Moment) -> u64 {
        let times = self.0.get(&(slice, cell)).map_or(&[][..], |times| times);
        let known = times.iter().take(value as usize);
        known.filter(|&&at| node.moment(at) <= moment).count() as u64
    }

    /// No mark says that more had been reached than was, and no snapshot has more than had been counted.
    fn check(&self, node: &Node, now_ms: u64) {
        let fold = node.slices.ages_fold().unwrap();
        let now = node.clock(now_ms);
        let mut of_snapshots = vec![vec![0; CELLS / node.fold]; node.snapshots.len()];
        for slice in node.slices.digests().map(|line| line.slice) {
            let marks = node.slices.marks_since(&slice, 0, now);
            let cells = node.slices.cells(&slice).unwrap().to_vec();
            for (number, values) in cells.chunks(GROUP_CELLS).enumerate() {
                let mut increments = Vec::new();
                node.slices
                    .increments(&slice, number as u32, &marks, &mut increments);
                let mut left = folded(values, fold.cells());
                for (mark, since) in marks.iter().zip(increments.chunks(left.len())) {
                    for (at, left) in left.iter_mut().enumerate() {
                        *left = left.saturating_sub(since[at]);
                        let first = number * GROUP_CELLS + at * fold.cells();
                        let end = (first + fold.cells()).min(number * GROUP_CELLS + values.len());
                        let truth = (first..end).map(|cell| {
                            self.until(node, (slice, cell as u32), cells[cell], mark.at)
                        });
                        assert!(*left <= truth.sum(), "{slice:?} {mark:?} cell {first}");
                    }
                }
            }
            if slice == node.own {
                continue;
            }
            for (snapshot, sums) in node.snapshots.iter().zip(&mut of_snapshots) {
                for (cell, &value) in cells.iter().enumerate().filter(|(_, value)| **value > 0) {
                    sums[cell / node.fold] +=
                        self.until(node, (slice, cell as u32), value, snapshot.ended);
                }
            }
        }
        for (snapshot, sums) in node.snapshots.iter().zip(&of_snapshots) {
            assert!(snapshot.cells.iter().zip(sums).all(|(has, may)| has <= may));
        }
    }
}

/// A network that loses, doubles and delays, nodes that begin, and some that are short of memory.
fn run(seed: u64) {
    let mut random = Random(seed);
    let mut truth = Truth::default();
    // By time, any number, and receiver.
    let mut under_way: BTreeMap<(u64, u64, usize), Vec<u8>> = BTreeMap::new();
    let mut nodes: Vec<Node> = Vec::new();
    let mut now_ms = 0;
    for round in 0..90 {
        now_ms += random.below(700);
        if nodes.len() < 3 || (nodes.len() < 6 && random.below(30) == 0) {
            let memory = [u64::MAX, 19_000 + random.below(8_000)][random.below(2) as usize];
            nodes.push(Node::new(
                nodes.len() as u64 + 1,
                &mut random,
                now_ms,
                memory,
            ));
        }
        // Some nodes are stopped for a while.
        let is_running = |node: usize| !(round / 13 + node).is_multiple_of(5);
        let due: Vec<_> = under_way
            .extract_if(..(now_ms, 0, 0), |_, _| true)
            .collect();
        for ((_, _, to), bytes) in due {
            if is_running(to) {
                nodes[to].take(&bytes, now_ms);
            } else {
                under_way.insert((now_ms + 500, random.next(), to), bytes);
            }
        }
        for at in (0..nodes.len()).filter(|&node| is_running(node)) {
            for _ in 0..random.below(4) {
                let key = [random.below(30) as u8];
                truth.add(&nodes[at], &key, 1 + random.below(9), now_ms);
            }
            nodes[at].publish(now_ms, random.below(9));
            if random.below(3) == 0 {
                nodes[at].take_snapshot(now_ms);
            }
            let known: Vec<SliceId> = nodes[at].slices.digests().map(|line| line.slice).collect();
            let slice = known[random.below(known.len() as u64) as usize];
            let base = random.below(1 + nodes[at].slices.own_version());
            let groups: Vec<u32> = (0..6).filter(|_| random.below(3) > 0).collect();
            let to = random.below(nodes.len() as u64) as usize;
            if groups.is_empty() || to == at {
                continue;
            }
            let bytes = nodes[at].tell(&slice, base, now_ms, &groups, &mut random);
            for _ in 0..random.below(3) {
                let delay_ms = random.below(3) * random.below(2_000);
                under_way.insert((now_ms + delay_ms, random.next(), to), bytes.clone());
            }
        }
        if round % 3 == 0 {
            nodes.iter().for_each(|node| truth.check(node, now_ms));
        }
    }
}

#[test]
fn nothing_is_said_to_be_older_than_it_is() {
    for seed in 0..8 {
        // What a failed test prints shows the seed.
        println!("seed {seed}");
        run(seed);
    }
}

/// A node that begins knows of each unit when it was counted, to within a step; also where it hears it from a third.
#[test]
fn who_begins_learns_how_old_it_all_is() {
    let mut random = Random(3);
    let (mut truth, mut now_ms) = (Truth::default(), 0);
    let mut writer = Node::new(1, &mut random, 0, u64::MAX);
    for second in 0..60 {
        now_ms = second * STEP_MS;
        truth.add(&writer, b"key", 10, now_ms);
        writer.publish(now_ms + 10, u64::MAX);
    }
    now_ms += STEP_MS;
    let mut third = Node::new(2, &mut random, now_ms, u64::MAX);
    let mut fourth = Node::new(3, &mut random, now_ms + STEP_MS, u64::MAX);
    let groups: Vec<u32> = (0..6).collect();
    let bytes = writer.tell(&writer.own, 0, now_ms, &groups, &mut Random(1));
    third.take(&bytes, now_ms);
    let bytes = third.tell(
        &writer.own,
        0,
        now_ms + 2 * STEP_MS,
        &groups,
        &mut Random(1),
    );
    fourth.take(&bytes, now_ms + 2 * STEP_MS);
    for (node, at_ms, step_ms) in [
        (&third, now_ms, 2 * STEP_MS),
        (&fourth, now_ms + 2 * STEP_MS, SPAN_MS / 4 + 3 * STEP_MS),
    ] {
        let window = Moment::of(node.clock(at_ms)).before(SPAN_MS);
        let snapshot = node
            .snapshots
            .iter()
            .rfind(|it| it.ended <= window)
            .unwrap();
        let total = folded(&node.total(), node.fold);
        let counted = total
            .iter()
            .zip(&snapshot.cells)
            .map(|(now, then)| now - then);
        let most = counted.max().unwrap();
        let at_most = 10 * (SPAN_MS + step_ms) / STEP_MS * DEPTH;
        assert!(
            (60..=at_most).contains(&most),
            "{most} at a fold of {}",
            node.fold
        );
        truth.check(node, at_ms);
    }
}

/// What is kept of growth goes when no window needs it any more, also where no later mark takes its place, so that
/// there is nothing to look through; and who begins then learns that all is old.
#[test]
fn nothing_is_kept_of_a_slice_that_stands_still() {
    let mut random = Random(4);
    let (mut truth, mut now_ms) = (Truth::default(), 0);
    let mut writer = Node::new(1, &mut random, 0, u64::MAX);
    let at_first_bytes = writer.replica.memory_bytes();
    for _ in 0..3 {
        for second in 0..20 {
            now_ms += STEP_MS;
            let key = [random.below(30) as u8];
            truth.add(&writer, &key, 10, now_ms);
            let wants = writer
                .slices
                .wants_mark(writer.clock(now_ms + STEP_MS / 10));
            assert!(second > 0 || wants, "the last mark is old");
            writer.publish(now_ms, u64::MAX);
        }
        assert!(writer.replica.memory_bytes() > at_first_bytes);
        for _ in 0..7 * SPAN_MS / STEP_MS {
            now_ms += STEP_MS;
            writer.publish(now_ms, u64::MAX);
            assert!(
                !writer.slices.wants_mark(writer.clock(now_ms)),
                "it has the version"
            );
        }
        assert_eq!(writer.replica.memory_bytes(), at_first_bytes);
        let now = writer.clock(now_ms);
        assert_eq!(writer.slices.marks_since(&writer.own, 0, now).len(), 1);
    }
    let mut other = Node::new(2, &mut random, now_ms, u64::MAX);
    let groups: Vec<u32> = (0..6).collect();
    let bytes = writer.tell(&writer.own, 0, now_ms, &groups, &mut Random(1));
    other.take(&bytes, now_ms);
    let total = folded(&other.total(), other.fold);
    let youngest = other.snapshots.last().unwrap();
    assert_eq!(total, youngest.cells, "all had been reached long ago");
    truth.check(&other, now_ms);
}

/// Where the receiver is a step behind at most, cells go alone.
#[test]
fn nothing_is_told_of_the_last_step() {
    let mut random = Random(5);
    let (mut truth, mut writer) = (Truth::default(), Node::new(1, &mut random, 0, u64::MAX));
    let mut versions = Vec::new();
    for tenth in 0..100 {
        let now_ms = tenth * 100;
        truth.add(&writer, b"key", 1, now_ms);
        writer.publish(now_ms, u64::MAX);
        versions.push(writer.slices.own_version());
        let now = writer.clock(now_ms);
        let marks = |base| writer.slices.marks_since(&writer.own, base, now).len();
        let lately = versions[versions.len().saturating_sub(10)];
        assert_eq!(marks(lately), 0, "at {now_ms}");
        assert!(
            marks(0) as u64 >= (tenth / 12).saturating_sub(1),
            "at {now_ms}: {}",
            marks(0)
        );
    }
}

/// The rule, cell by cell, with numbers that are large and folds that do not fit.
fn naive_part(
    growth: &[u64],
    first: usize,
    fold: usize,
    cell: usize,
    ages: &GroupAges<'_>,
    mark: usize,
) -> u64 {
    let n = ages.fold.folded(growth.len());
    let of = |at: &usize| (first + at) / fold == cell;
    let ours: Vec<usize> = (0..growth.len()).filter(of).collect();
    let grown: u128 = ours.iter().map(|&at| u128::from(growth[at])).sum();
    let theirs = (0..n).filter(|theirs| ours.iter().any(|at| at / ages.fold.cells() == *theirs));
    let increments = theirs.flat_map(|theirs| (0..=mark).map(move |mark| mark * n + theirs));
    let increments = increments.map(|at| match ages.increments[at] {
        CELL_MAX => u128::MAX >> 16,
        increment => increment.into(),
    });
    let left = grown.min(u64::MAX.into()).saturating_sub(increments.sum());
    u64::try_from(left).unwrap()
}

proptest! {
    #[test]
    fn old_parts_are_as_it_is_written(
        (cells, group) in (1..=GROUP_CELLS, 0..50_u32),
        bits in 0..=7_u8,
        fold in 1..300_usize,
        marks in 0..5_usize,
        seed: u64,
    ) {
        let mut random = Random(seed);
        let mut number = || match random.below(40) {
            0 => CELL_MAX,
            1 => random.next() >> random.below(64),
            _ => random.below(20),
        };
        let growth: Vec<u64> = (0..cells).map(|_| number()).collect();
        let their_fold = Fold::of_bits(bits).unwrap();
        let increments: Vec<u64> =
            (0..marks * their_fold.folded(cells)).map(|_| number().min(CELL_MAX)).collect();
        let now = Moment::of(Duration::from_secs(1));
        let moments: Vec<Moment> = (0..marks as u64).map(|age| now.before(age)).collect();
        let ages = GroupAges { fold: their_fold, marks: &moments, increments: &increments };
        let first = group as usize * GROUP_CELLS;
        let mut seen = Vec::new();
        old_parts(&growth, (first as u32, fold), &ages, |cell, _, reached| {
            for (mark, &at) in moments.iter().enumerate() {
                let part = reached.iter().find(|it| it.at == at).map_or(0, |it| it.part);
                assert_eq!(part, naive_part(&growth, first, fold, cell, &ages, mark));
            }
            seen.push(cell);
        });
        let mut wanted: Vec<usize> = (0..cells).filter(|&at| growth[at] > 0).map(|at| (first + at) / fold).collect();
        wanted.dedup();
        prop_assert_eq!(seen, wanted);
    }

    /// Whatever folds the two ends have: never more than the truth, and with the same fold and one cell all of it.
    #[test]
    fn never_too_much_is_old(
        bits in 0..=7_u8,
        fold in 1..40_usize,
        group in 0..7_u32,
        seed: u64,
    ) {
        let mut random = Random(seed);
        let cells = 1 + random.below(GROUP_CELLS as u64) as usize;
        let value: Vec<u64> = (0..cells).map(|_| random.below(20)).collect();
        let then: Vec<u64> = value.iter().map(|&value| random.below(value + 1)).collect();
        let known: Vec<u64> = (0..cells).map(|_| random.below(25)).collect();
        let their_fold = Fold::of_bits(bits).unwrap();
        let since: Vec<u64> = value.iter().zip(&then).map(|(value, then)| value - then).collect();
        let growth: Vec<u64> = value.iter().zip(&known).map(|(value, known)| value.saturating_sub(*known)).collect();
        let old: Vec<u64> = then.iter().zip(&known).map(|(then, known)| then.saturating_sub(*known)).collect();
        let moments = [Moment::of(Duration::ZERO)];
        let increments = folded(&since, their_fold.cells());
        let ages = GroupAges { fold: their_fold, marks: &moments, increments: &increments };
        let first = group as usize * GROUP_CELLS;
        old_parts(&growth, (first as u32, fold), &ages, |cell, _, reached| {
            let truth = (0..cells).filter(|at| (first + at) / fold == cell).map(|at| old[at]);
            let truth: u64 = truth.sum();
            let part = reached.first().map_or(0, |it| it.part);
            assert!(part <= truth, "{part} > {truth}");
            if fold == 1 && bits == 0 && known[cell - first] == 0 {
                assert_eq!(part, truth, "nothing is lost that need not be");
            }
        });
    }
}
