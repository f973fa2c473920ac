//! Tests of passes, versions, and the changes since a version.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use proptest::prelude::*;

use super::super::history::VERSIONS_MAX;
use super::*;
use crate::Batch;
use rmbd_sketch::Weight;

#[derive(Debug, Clone)]
enum Step {
    Add(u16, u16),
    Publish(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        20 => (any::<u16>(), 0..5_u16).prop_map(|(key, weight)| Step::Add(key % 500, weight)),
        2 => Just(Step::Publish(usize::MAX)),
        2 => (0..1000_usize).prop_map(Step::Publish),
    ];
    prop::collection::vec(step, 0..300)
}

fn live(replica: &Replica) -> Vec<u64> {
    let rows = 0..replica.own().geometry().depth();
    rows.flat_map(|row| replica.own().own_row(row)).collect()
}

/// Indexes of the cells that differ.
fn changed(old: &[u64], new: &[u64]) -> Vec<u32> {
    let pairs = old.iter().zip(new).enumerate();
    let changed = pairs.filter(|(_, (old, new))| old != new);
    changed.map(|(index, _)| index as u32).collect()
}

/// Checks the changes since each version; `states` has the cells that were published at each version.
fn check_changes(slices: &Slices, states: &[Vec<u64>]) -> Result<(), TestCaseError> {
    let now = states.last().unwrap();
    for (since, state) in states.iter().enumerate() {
        let since = since as u64;
        let cells = changed(state, now);
        let mut groups: Vec<_> = cells.iter().map(|cell| cell / GROUP_CELLS as u32).collect();
        groups.dedup();
        let of_groups: Vec<_> = slices.changed_groups(since, 0).collect();
        prop_assert_eq!(&of_groups, &groups);
        let listed: Vec<_> = slices.changed_cells(since, 0).collect();
        prop_assert!(listed.is_sorted_by(|one, next| one < next));
        match slices.changes_since(since) {
            Changes::Nothing => prop_assert_eq!(since, slices.own_version()),
            Changes::Cells => prop_assert_eq!(&listed, &cells),
            Changes::Groups => {
                let in_groups = |cell: &u32| groups.contains(&(cell / GROUP_CELLS as u32));
                let naive: Vec<_> = (0..now.len() as u32).filter(in_groups).collect();
                prop_assert_eq!(&listed, &naive);
            }
        }
        for from in [1, 255, 256, 257, 900, 2099, u32::MAX] {
            let cells: Vec<_> = slices.changed_cells(since, from).collect();
            let naive: Vec<_> = listed
                .iter()
                .copied()
                .filter(|&cell| cell >= from)
                .collect();
            prop_assert_eq!(cells, naive);
            let groups: Vec<_> = slices.changed_groups(since, from).collect();
            let naive: Vec<_> = of_groups
                .iter()
                .copied()
                .filter(|&group| group >= from)
                .collect();
            prop_assert_eq!(groups, naive);
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn what_changed_since_any_version_is_known(
        steps in steps(),
        (width, depth) in prop_oneof![Just((700, 3)), Just((1, 1)), Just((5, 3)), Just((256, 8))],
    ) {
        let (replica, mut slices) = replica(width, depth, NO_LIMITS);
        let mut states = vec![all_cells(&slices, &OWN)];
        for step in steps.iter().chain([&Step::Publish(usize::MAX), &Step::Publish(usize::MAX)]) {
            match *step {
                Step::Add(key, weight) => replica.add(&key.to_le_bytes(), weight.into()).unwrap(),
                Step::Publish(cells_max) => {
                    let published = slices.publish(cells_max);
                    let now = all_cells(&slices, &OWN);
                    prop_assert_eq!(hashes(&slices, &OWN), naive_hashes(&now));
                    let Published::Done { version, changed_cells } = published else {
                        prop_assert_eq!(slices.own_version(), states.len() as u64 - 1);
                        continue;
                    };
                    let naive = changed(states.last().unwrap(), &now);
                    prop_assert_eq!(changed_cells, naive.len() as u64);
                    if changed_cells > 0 {
                        states.push(now);
                    }
                    prop_assert_eq!(version, states.len() as u64 - 1);
                    prop_assert_eq!(version, slices.own_version());
                    check_changes(&slices, &states)?;
                }
            }
        }
        // A pass may have been under way at the end, and another one follows.
        prop_assert_eq!(all_cells(&slices, &OWN), live(&replica));
        prop_assert_eq!(slices.publish(1), Published::Idle);
    }
}

#[test]
fn after_the_last_pass_what_is_published_is_what_is_live() {
    let (replica, mut slices) = replica(3000, 4, NO_LIMITS);
    let stop = AtomicBool::new(false);
    let mut is_never_ahead = true;
    std::thread::scope(|scope| {
        for thread in 0..2_u32 {
            let (replica, stop) = (&replica, &stop);
            scope.spawn(move || {
                let mut batch = Batch::<()>::new(Arc::clone(replica));
                // Adds until enough versions were made meanwhile.
                for first in (thread..).step_by(400) {
                    for key in (first..).step_by(2).take(200) {
                        let key = (key % 10_000).to_le_bytes();
                        batch.add(&key, Weight::ONE, &mut |(), _| {}).unwrap();
                    }
                    batch.finish(&mut |(), _| {});
                    if stop.load(Relaxed) {
                        return;
                    }
                }
            });
        }
        while slices.own_version() < 20 {
            slices.publish(1000);
            // At no moment is a cell published that is above the live one.
            let published = all_cells(&slices, &OWN);
            let live = live(&replica);
            is_never_ahead &= published.iter().zip(live).all(|(old, new)| *old <= new);
        }
        stop.store(true, Relaxed);
    });
    assert!(is_never_ahead);
    while slices.publish(1000) != Published::Idle {}
    let published = all_cells(&slices, &OWN);
    assert_eq!(published, live(&replica));
    assert_eq!(hashes(&slices, &OWN), naive_hashes(&published));
}

#[test]
fn a_pass_goes_on_where_it_stopped() {
    let (replica, mut slices) = replica(1000, 1, NO_LIMITS);
    assert_eq!(slices.publish(100), Published::Idle);
    for key in 0..1000_u32 {
        replica.add(&key.to_le_bytes(), 1.into()).unwrap();
    }
    let used = live(&replica).iter().filter(|&&count| count > 0).count() as u64;
    // Eight groups, the last one short; a call takes at least one group.
    for cells_max in [1, 256, 0, 384] {
        assert_eq!(slices.publish(cells_max), Published::Partly);
        assert_eq!(slices.own_version(), 0);
        assert_eq!(slices.changes_since(0), Changes::Nothing);
    }
    let done = Published::Done {
        version: 1,
        changed_cells: used,
    };
    assert_eq!(slices.publish(1), done);
    assert_eq!(slices.publish(1), Published::Idle);
    assert_eq!(slices.changed_at(&OWN), used);
}

/// Wherever a pass stands, whoever waits for the number of passes finds all that was added when it was asked for.
#[test]
fn so_many_passes_are_enough() {
    let (replica, mut slices) = replica(1000, 3, NO_LIMITS);
    let key = |number: usize| number.to_le_bytes();
    let mut added = 0;
    for pieces in 0..30 {
        for _ in 0..pieces % 7 {
            slices.publish(GROUP_CELLS);
        }
        if pieces % 5 > 0 {
            replica.add(&key(added), Weight::new(3).unwrap()).unwrap();
            added += 1;
        }
        let (asked, until) = (live(&replica), slices.passes_until_now());
        while slices.passes() < until {
            slices.publish(GROUP_CELLS);
            // A pass never ends by itself while others add.
            let other = Weight::new(1).unwrap();
            replica.add(b"other", other).unwrap();
        }
        let published = all_cells(&slices, &OWN);
        let is_there = asked.iter().zip(&published).all(|(asked, it)| it >= asked);
        assert!(is_there, "{pieces}");
    }
}

#[test]
fn the_history_is_bounded_in_versions_and_in_entries() {
    // The history has 512 entries: 64 versions of at most 4 cells fit.
    let (replica, mut slices) = replica(1024, 4, NO_LIMITS);
    for key in 0..100_u32 {
        replica.add(&key.to_le_bytes(), 1.into()).unwrap();
        publish_all(&mut slices);
    }
    let reach = VERSIONS_MAX as u64;
    assert_eq!(slices.own_version(), 100);
    assert_eq!(slices.changes_since(100 - reach), Changes::Cells);
    assert_eq!(slices.changes_since(100 - reach - 1), Changes::Groups);
    assert_eq!(slices.changes_since(101), Changes::Nothing);
    // These are some 400 cells: older lists go.
    for key in 0..100_u32 {
        replica.add(&key.to_be_bytes(), 1.into()).unwrap();
    }
    publish_all(&mut slices);
    assert_eq!(slices.changes_since(100), Changes::Cells);
    assert_eq!(slices.changes_since(101 - reach), Changes::Groups);
    // More cells than fit at once: this version has no list, the next one has.
    for key in 1000..3000_u32 {
        replica.add(&key.to_be_bytes(), 1.into()).unwrap();
    }
    publish_all(&mut slices);
    assert_eq!(slices.changes_since(101), Changes::Groups);
    assert_eq!(slices.changes_since(102), Changes::Nothing);
    replica.add(b"key", 1.into()).unwrap();
    publish_all(&mut slices);
    assert_eq!(slices.changes_since(102), Changes::Cells);
    assert_eq!(slices.changes_since(101), Changes::Groups);
}

#[test]
fn hashes_have_as_many_parts_as_the_slice() {
    // Two sections; the second has three groups, the last of them short.
    let cells = (GROUP_CELLS * (SECTION_GROUPS + 2) + 1) as u64;
    let (replica, mut slices) = replica(cells, 1, NO_LIMITS);
    for key in 0..3000_u32 {
        replica.add(&key.to_le_bytes(), 1.into()).unwrap();
    }
    publish_all(&mut slices);
    let (all, other) = (all_cells(&slices, &OWN), SliceId::of(5, Writer(5)));
    assert_eq!(hashes(&slices, &OWN), naive_hashes(&all));
    let unknown = (
        slices.section_hashes(&other),
        slices.group_hashes(&other, 0),
    );
    assert_eq!(unknown, (&[][..], vec![]));
    // A slice that is known and empty has the same parts, all 0.
    assert!(slices.complete(&other, 0, 0));
    assert_eq!(slices.section_hashes(&other), [0; 2]);
    let groups = [0, 1, 2].map(|section| slices.group_hashes(&other, section).len());
    assert_eq!(groups, [SECTION_GROUPS, 3, 0]);
    assert_eq!(hashes(&slices, &other), naive_hashes(&vec![0; all.len()]));
    assert_eq!(all_cells(&slices, &other), vec![0; all.len()]);
    // Then the slice gets cells.
    let sent = (0..).zip(all.iter().copied());
    slices.merge(&other, sent).unwrap();
    assert_eq!(hashes(&slices, &other), hashes(&slices, &OWN));
    assert!(slices.group_hashes(&OWN, 2).is_empty());
}
