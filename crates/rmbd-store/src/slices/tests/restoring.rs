//! A new start takes over what the one before had.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::ages::{Moment, SavedMark, SavedMarks};
use crate::{ReplicaOptions, WindowPlan, WindowQuestion};
use rmbd_proto::cluster::Fold;
use rmbd_sketch::Weight;

const SECOND: Duration = Duration::from_secs(1);
const WIDTH: u64 = 512;
const OTHER: SliceId = SliceId::of(2, Writer(5));
const NEW: Writer = Writer(77);

/// A start of the node with a window of a minute, at a time of its own clock.
fn start(own: SliceId, now: Duration) -> (Arc<Replica>, Slices) {
    let geometry = Geometry::new(WIDTH, 2).unwrap();
    let window = WindowPlan::new(60_000, Some(5_000), Some(WIDTH / 2), geometry, FAMILY).unwrap();
    let options = ReplicaOptions {
        windows: vec![window],
        started: now,
        max_origins: 32,
        ..ReplicaOptions::of(geometry, FAMILY, own, NO_LIMITS)
    };
    let replica = Arc::new(Replica::try_open(options).unwrap());
    let mut slices = Slices::try_new(Arc::clone(&replica)).unwrap();
    slices.keep_ages(&[window], now).unwrap();
    (replica, slices)
}

fn add(replica: &Replica, key: u32, weight: u32) {
    let weight = Weight::new(weight).unwrap();
    replica.add(&key.to_le_bytes(), weight).unwrap();
}

/// The end of a step.
fn step(slices: &mut Slices, now: Duration) {
    publish_all(slices);
    slices.end_step(now);
    while slices.snapshot(&|| now, usize::MAX).is_some() {}
}

/// Takes over all that `from` holds. `from`'s clock shows `saved` and `to`'s shows `now` at the same moment.
fn take_over(to: &mut Slices, now: Duration, from: &Slices, saved: Duration) {
    let moved = |at: Moment| Moment::of(now).before(at.age_ms(Moment::of(saved)));
    let marks = from.saved_marks();
    let marks = SavedMarks {
        own: (marks.own.iter())
            .map(|mark| SavedMark {
                at: moved(mark.at),
                version: mark.version,
            })
            .collect(),
        learnt: marks.learnt.iter().copied().map(moved).collect(),
    };
    let mut marks = marks;
    marks.own.push(SavedMark {
        at: moved(Moment::of(saved)),
        version: from.own_version(),
    });
    marks.learnt.push(moved(Moment::of(saved)));
    let resumes = to.own_slice() == from.own_slice();
    to.begin_restore(&marks, now, resumes.then_some(from.own_slice().writer))
        .unwrap();
    let (mut values, mut increments) = (Vec::new(), Vec::new());
    for line in from.digests() {
        let told = from.all_marks_of(&line.slice);
        // All that was saved had been reached by then.
        let at = once(Moment::of(saved)).chain(told.iter().map(|mark| mark.at));
        let at: Vec<Moment> = at.map(moved).collect();
        for group in from.groups_of(&line.slice, 0) {
            let cells = from.cells(&line.slice).unwrap();
            cells.read_group(group, &mut values);
            from.increments(&line.slice, group, &told, &mut increments);
            let folded = from.ages_fold().unwrap().folded(values.len());
            increments.splice(..0, std::iter::repeat_n(0, folded));
            let ages = GroupAges {
                fold: from.ages_fold().unwrap_or(Fold::NONE),
                marks: &at,
                increments: &increments,
            };
            let first = group * GROUP_CELLS as u32;
            let cells = (first..).zip(values.iter().copied());
            to.restore(&line.slice, group, cells, &ages).unwrap();
        }
        to.restore_complete(&line.slice, line.version);
    }
    to.end_restore();
}

fn naive_sum(one: &[u64], other: &[u64]) -> Vec<u64> {
    one.iter()
        .zip(other)
        .map(|(one, other)| one + other)
        .collect()
}

proptest! {
    /// Whatever was counted before, the slice that goes on is that and what is added, in all that others get of it;
    /// and under a new name it is only what was added.
    #[test]
    fn a_slice_goes_on_and_takes_another_name(
        before in prop::collection::vec((0..200_u32, 1..9_u32), 0..60),
        later in prop::collection::vec((0..200_u32, 1..9_u32), 0..60),
        more in prop::collection::vec((0..200_u32, 1..9_u32), 1..9),
    ) {
        let (old_replica, mut old) = start(OWN, SECOND);
        for (number, &(key, weight)) in before.iter().enumerate() {
            add(&old_replica, key, weight);
            step(&mut old, SECOND * (2 + number as u32));
        }
        old.merge(&OTHER, [(3, 7), (900, 1)].into_iter()).unwrap();
        old.complete(&OTHER, 0, 4);
        let saved = SECOND * 70;
        step(&mut old, saved);
        let was = all_cells(&old, &OWN);

        let now = SECOND * 1_000;
        let (replica, mut slices) = start(OWN, now);
        take_over(&mut slices, now, &old, saved);
        prop_assert!(slices.is_resumed());
        prop_assert_eq!(slices.digests().collect::<Vec<_>>(), old.digests().collect::<Vec<_>>());
        prop_assert_eq!(hashes(&slices, &OWN), hashes(&old, &OWN));
        prop_assert_eq!(replica.total_weight(), old_replica.total_weight());
        let changed: Vec<u32> = old.changed_groups(0, 0).collect();
        prop_assert_eq!(slices.changed_groups(0, 0).collect::<Vec<_>>(), changed);

        let mut added = vec![0; was.len()];
        for &(key, weight) in &later {
            add(&replica, key, weight);
            for cell in replica.own().cells_of(&key.to_le_bytes()).iter() {
                added[cell.get() as usize] += u64::from(weight);
                prop_assert_eq!(slices.live_cell(cell), was[cell.get() as usize] + added[cell.get() as usize]);
            }
        }
        publish_all(&mut slices);
        let sum = naive_sum(&was, &added);
        prop_assert_eq!(all_cells(&slices, &OWN), sum.clone());
        prop_assert_eq!(hashes(&slices, &OWN), naive_hashes(&sum));
        let is_new = !later.is_empty();
        prop_assert_eq!(slices.own_version(), old.own_version() + u64::from(is_new));
        let estimates: Vec<u64> = (0..200_u32).map(|key| replica.estimate(&key.to_le_bytes()).count).collect();
        let of_origins = slices.estimate_by_origin(&7_u32.to_le_bytes());
        prop_assert_eq!((of_origins[0].slices, of_origins.len()), (1, 2));

        slices.take_new_writer(NEW);
        let own = SliceId::of(1, NEW);
        prop_assert_eq!((slices.own_slice(), replica.own_slice()), (own, own));
        prop_assert!(!slices.is_resumed());
        prop_assert_eq!(all_cells(&slices, &OWN), was.clone());
        prop_assert_eq!(slices.root(&OWN), old.root(&OWN));
        prop_assert_eq!(slices.version(&OWN), old.own_version());
        prop_assert_eq!(all_cells(&slices, &own), added.clone());
        prop_assert_eq!(hashes(&slices, &own), naive_hashes(&added));
        let now_estimated = (0..200_u32).map(|key| replica.estimate(&key.to_le_bytes()).count);
        prop_assert_eq!(now_estimated.collect::<Vec<_>>(), estimates);
        for &(key, weight) in &more {
            add(&replica, key, weight);
            for cell in replica.own().cells_of(&key.to_le_bytes()).iter() {
                added[cell.get() as usize] += u64::from(weight);
            }
        }
        publish_all(&mut slices);
        prop_assert_eq!(all_cells(&slices, &own), added.clone());
        prop_assert_eq!(hashes(&slices, &own), naive_hashes(&added));
        // Somebody who has nothing gets all of it.
        let told = slices.changed_groups(0, 0).map(|group| group as usize);
        let wanted = added.chunks(GROUP_CELLS).enumerate();
        let wanted = wanted.filter(|(_, group)| group.iter().any(|&cell| cell > 0));
        prop_assert_eq!(told.collect::<Vec<_>>(), wanted.map(|(at, _)| at).collect::<Vec<_>>());
    }
}

/// What a window of 30 s holds of a key.
fn in_window(replica: &Replica, key: u32, now: Duration) -> u64 {
    let question = WindowQuestion {
        window: replica.find_window(30_000).unwrap(),
        reading: crate::Reading::Bound,
        now,
    };
    replica.estimate_in(&key.to_le_bytes(), &question).count
}

/// Old growth stays old through many starts that are close to each other, under the same name and under others.
#[test]
fn ages_go_on_over_many_starts() {
    for is_clean in [true, false] {
        let mut now = SECOND * 100;
        let (mut replica, mut slices) = start(OWN, now);
        add(&replica, 1, 5);
        for number in 1..=12 {
            for _ in 0..4 {
                now += SECOND;
                add(&replica, 1_000 + number, 1);
                step(&mut slices, now);
            }
            // Each start's clock shows another time.
            let (saved, own) = (now, SliceId::of(1, Writer(100 + u64::from(number))));
            now += SECOND * 77;
            let own = if is_clean { OWN } else { own };
            let (next_replica, mut next) = start(own, now);
            take_over(&mut next, now, &slices, saved);
            (replica, slices) = (next_replica, next);
            let age_s = 4 * number;
            assert_eq!(replica.estimate(&1_u32.to_le_bytes()).count, 5);
            let count = in_window(&replica, 1, now);
            assert!(age_s > 30 || count == 5, "{count} at {age_s} s: too low");
            assert!(
                age_s <= 45 || count == 0,
                "{count} at {age_s} s: {is_clean}"
            );
            // What others are told of its age, too, once a mark is older than it.
            let own_or_learnt = slices.digests().find(|line| {
                let cells = slices.cells(&line.slice).unwrap();
                replica
                    .own()
                    .cells_of(&1_u32.to_le_bytes())
                    .iter()
                    .all(|cell| cells.get(cell.get()) >= 5)
            });
            let slice = own_or_learnt.unwrap().slice;
            let told = slices.marks_since(&slice, 0, now);
            let cell = replica.own().cells_of(&1_u32.to_le_bytes()).as_slice()[0];
            let (group, mut increments) = (cell / GROUP_CELLS as u32, Vec::new());
            slices.increments(&slice, group, &told, &mut increments);
            let folded = slices.ages_fold().unwrap().folded(GROUP_CELLS);
            let at = (cell as usize % GROUP_CELLS) >> slices.ages_fold().unwrap().bits();
            let young = told.iter().zip(increments.chunks(folded));
            let young = young.take_while(|(mark, _)| mark.at.age_ms(Moment::of(now)) < 45_000);
            let since: u64 = young.map(|(_, of_mark)| of_mark[at]).sum();
            let is_old = age_s > 45 + 16;
            assert!(
                !is_old || since == 0,
                "{since} of 5 are told to be young at {age_s} s"
            );
        }
    }
}
