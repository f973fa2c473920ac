#![allow(clippy::unwrap_used)]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::iter::empty;
use std::sync::Arc;
use std::time::Duration;

use rmbd_proto::cluster::SliceId;
use rmbd_proto::snapshot_file::{
    BlockError, FORMAT, FileHead, Kind, begin_block, end_block, write_end,
};
use rmbd_proto::{Boot, SketchNumber, Writer};
use rmbd_sketch::{Geometry, HashFamily, Weight};
use rmbd_store::{
    Batch, Published, Reading, Replica, ReplicaLimits, ReplicaOptions, Slices, WindowPlan,
    WindowQuestion,
};
use serde_json::json;

use super::*;
use crate::mark::may_resume;

const SECOND: Duration = Duration::from_secs(1);
const FAMILY: HashFamily = HashFamily::Xxh3 { seed: 7 };
const NODE: u64 = 7;
const WRITER: Writer = Writer(9);
const OTHER: SliceId = SliceId::of(8, Writer(3));

pub(crate) fn head() -> FileHead {
    FileHead {
        format: FORMAT,
        node: NODE,
        ..FileHead::default()
    }
}

const THIS_START: ThisStart = ThisStart {
    is_in_cluster: true,
    drawn: Writer(70),
    spare: Writer(71),
};

/// A node with two sketches, of which the second one has a window of a minute.
struct Node {
    replicas: Vec<Arc<Replica>>,
    slices: RefCell<Vec<Slices>>,
    now: Duration,
}

impl SlicesSource for Node {
    fn with(&self, read: &mut dyn FnMut(&[&Slices])) {
        let slices = self.slices.borrow();
        read(&slices.iter().collect::<Vec<_>>());
    }
}

impl Node {
    fn start(writer: Writer, widths: [u64; 2], now: Duration) -> Self {
        Self::start_in(writer, widths, now, u64::MAX)
    }

    /// A node of which each sketch has so much memory.
    fn start_in(writer: Writer, widths: [u64; 2], now: Duration, max_memory_bytes: u64) -> Self {
        Self::try_start_in(writer, widths, now, max_memory_bytes).unwrap()
    }

    /// `None` where the sketches alone need more.
    fn try_start_in(
        writer: Writer,
        widths: [u64; 2],
        now: Duration,
        max_memory_bytes: u64,
    ) -> Option<Self> {
        let make = |(number, width): (u32, u64)| {
            let geometry = Geometry::new(width, 2).unwrap();
            let minute = WindowPlan::new(60_000, Some(5_000), None, geometry, FAMILY).unwrap();
            let limits = ReplicaLimits {
                max_peers: 0,
                max_origins: 64,
                max_memory_bytes,
            };
            let own = SliceId {
                sketch: SketchNumber(number),
                ..SliceId::of(NODE, writer)
            };
            let options = ReplicaOptions {
                windows: (number > 0).then_some(minute).into_iter().collect(),
                top: if max_memory_bytes == u64::MAX { 4 } else { 0 },
                started: now,
                ..ReplicaOptions::of(geometry, FAMILY, own, limits)
            };
            Replica::try_open(options).ok().map(Arc::new)
        };
        let replicas = (0..).zip(widths).map(make);
        let replicas = replicas.collect::<Option<Vec<Arc<Replica>>>>()?;
        let slices = replicas.iter().map(|replica| {
            let windows: Vec<WindowPlan> = replica.window_plans().copied().collect();
            let mut slices = Slices::try_new(Arc::clone(replica)).ok()?;
            slices.keep_ages(&windows, now).ok()?;
            Some(slices)
        });
        Some(Self {
            slices: RefCell::new(slices.collect::<Option<Vec<_>>>()?),
            replicas,
            now,
        })
    }

    fn add(&self, sketch: usize, key: u32, weight: u32) {
        let weight = Weight::new(weight).unwrap();
        self.replicas[sketch]
            .add(&key.to_le_bytes(), weight)
            .unwrap();
    }

    fn estimate(&self, sketch: usize, key: u32) -> u64 {
        self.replicas[sketch].estimate(&key.to_le_bytes()).count
    }

    fn in_window(&self, key: u32) -> u64 {
        let question = WindowQuestion {
            window: self.replicas[1].find_window(60_000).unwrap(),
            reading: Reading::Bound,
            now: self.now,
        };
        self.replicas[1]
            .estimate_in(&key.to_le_bytes(), &question)
            .count
    }

    fn pass(&mut self, seconds: u32) {
        self.now += SECOND * seconds;
        for slices in self.slices.get_mut() {
            while slices.publish(usize::MAX) != Published::Idle {}
            slices.end_step(self.now);
            while slices.snapshot(&|| self.now, usize::MAX).is_some() {}
        }
    }

    /// All cells of all slices.
    fn cells(&self) -> BTreeMap<SliceId, Vec<u64>> {
        let slices = self.slices.borrow();
        let lines = slices
            .iter()
            .flat_map(|slices| slices.digests().map(move |line| (slices, line.slice)));
        let cells = lines.map(|(slices, slice)| (slice, slices.cells(&slice).unwrap().to_vec()));
        cells
            .filter(|(_, cells)| cells.iter().any(|&cell| cell > 0))
            .collect()
    }

    /// Slices of which this node has not all that another one has, whose own slices are of this writer here.
    fn lacks_of(&self, other: &Self, writer: Writer) -> Vec<SliceId> {
        let (here, there) = (self.slices.borrow(), other.slices.borrow());
        let lacks = here.iter().zip(there.iter()).flat_map(|(here, there)| {
            let own = there.own_slice();
            let lines = there.digests().map(move |mut line| {
                if line.slice == own {
                    line.slice.writer = writer;
                }
                line
            });
            lines.filter(move |line| here.digest(&line.slice) != *line)
        });
        let mut lacks: Vec<SliceId> = lacks.map(|line| line.slice).collect();
        lacks.sort_unstable();
        lacks
    }

    /// Slices that it says it lacks.
    fn missing(&self) -> Vec<SliceId> {
        let slices = self.slices.borrow();
        slices.iter().flat_map(Slices::missing).collect()
    }

    fn reading(&self, age: Duration) -> ClockReading {
        ClockReading {
            time: self.now,
            wall: SECOND * 1_000 + age,
            since_boot: SECOND * 500 + age,
            machine_boot: 5,
        }
    }

    fn saving(&self) -> Saving {
        let options = SavingOptions {
            file: 0xF11E,
            boot: Boot(4),
            now: self.reading(Duration::ZERO),
            program: "0.1.0".to_owned(),
            names: vec![
                (SketchNumber(0), "default".to_owned()),
                (SketchNumber(1), "one".to_owned()),
            ],
        };
        let clients = [
            (ExtraKind::Clients, vec![1, 2, 3]),
            (ExtraKind::Boots, vec![4]),
        ];
        Saving::new(options, Box::new(clients.into_iter()))
    }

    /// Writes a whole file; `between` is called before each piece.
    fn save(&self, mut between: impl FnMut(&Self, usize)) -> (Vec<u8>, Saved) {
        let (mut saving, mut file, mut pieces) = (self.saving(), Vec::new(), 0);
        loop {
            between(self, pieces);
            match saving.next(self, &|| self.now) {
                SavingStep::Create => file.clear(),
                SavingStep::Write(bytes) => {
                    file.extend_from_slice(bytes);
                    pieces += 1;
                }
                SavingStep::Done(saved) => return (file, saved),
                _ => {}
            }
        }
    }

    fn load(
        &mut self,
        file: &[u8],
        age: Duration,
        resumes: bool,
    ) -> Result<Loaded, SnapshotFileError> {
        let checked = check(&mut &*file)?;
        let options = LoadOptions {
            checked: &checked,
            node: NODE,
            now: self.reading(age),
            resumes,
            renamed: None,
            this_start: THIS_START,
        };
        let mut extra = Vec::new();
        let mut take = |kind, bytes: &[u8], elapsed| extra.push((kind, bytes.to_vec(), elapsed));
        let loaded = load(&mut &*file, self.slices.get_mut(), &options, &mut take)?;
        assert_eq!(
            extra,
            [
                (ExtraKind::Clients, vec![1, 2, 3], age),
                (ExtraKind::Boots, vec![4], age)
            ]
        );
        Ok(loaded)
    }
}

/// A node that has counted for some minutes, and learnt from another one.
fn counted() -> Node {
    let mut node = Node::start(WRITER, [2_000, 512], SECOND * 50);
    for second in 0..200 {
        node.add(0, second, 3);
        node.add(1, second / 20, 2);
        node.pass(1);
    }
    let slices = &mut node.slices.get_mut()[0];
    slices
        .merge(&OTHER, [(5, 70_000_000_000), (3_000, 1)].into_iter())
        .unwrap();
    slices.complete(&OTHER, 0, 6);
    node
}

/// A file has the list of each slice, which goes on to be complete above what it says.
#[test]
fn the_largest_keys_come_back_with_their_names() {
    let mut old = Node::start(WRITER, [2_000, 512], SECOND * 50);
    let mut batch = Batch::<()>::new(Arc::clone(&old.replicas[0]));
    let add = |batch: &mut Batch<()>, key: String, weight| {
        let weight = Weight::new(weight).unwrap();
        batch.add(key.as_bytes(), weight, &mut |(), _| {}).unwrap();
    };
    for round in 0..6 {
        for n in 0..300_u32 {
            add(&mut batch, format!("key {}", n / 30 * (n % 3)), 2);
            add(&mut batch, format!("once {round} {n}"), 1);
        }
        batch.finish(&mut |(), _| {});
        old.pass(2);
        old.slices.get_mut()[0].update_top(old.now);
    }
    let told = |node: &Node| {
        let slices = node.slices.borrow();
        let list = slices[0].top(100);
        let keys = list.keys.iter();
        let keys = keys.map(|key| {
            (
                key.name.map(<[u8]>::to_vec),
                key.estimate.count,
                key.certain,
            )
        });
        (keys.collect::<Vec<_>>(), list.complete_above)
    };
    let before = told(&old);
    assert!(before.0.iter().filter(|(name, ..)| name.is_some()).count() > 4);
    assert!(before.1 < 100, "{}", before.1);
    let (file, _) = old.save(|_, _| ());
    for (writer, resumes) in [(WRITER, true), (Writer(12), true), (Writer(10), false)] {
        let mut node = Node::start(writer, [2_000, 512], SECOND * 7_000);
        node.load(&file, SECOND * 30, resumes).unwrap();
        assert_eq!(told(&node), before);
        // It goes on, and the next file has both.
        let mut batch = Batch::<()>::new(Arc::clone(&node.replicas[0]));
        for _ in 0..4 {
            for _ in 0..500 {
                add(&mut batch, "new".to_owned(), 3);
            }
            batch.finish(&mut |(), _| {});
            node.pass(2);
            node.slices.get_mut()[0].update_top(node.now);
        }
        let version = node.slices.borrow()[0].top_version(&SliceId::of(NODE, writer));
        let last = old.slices.borrow()[0].top_version(&SliceId::of(NODE, WRITER));
        assert!(!resumes || version.version > last.version);
        let after = told(&node);
        let new = (Some(b"new".to_vec()), 6_000, 6_000);
        assert_eq!((&after.0[0], after.1), (&new, before.1));
        assert_eq!(after.0[1..], before.0[..]);
        let (file, _) = node.save(|_, _| ());
        let mut again = Node::start(Writer(11), [2_000, 512], SECOND);
        again.load(&file, SECOND, false).unwrap();
        let (keys, above) = told(&again);
        assert_eq!((&keys[0], above), (&new, before.1));
        assert_eq!(keys.len(), after.0.len());
    }
}

#[test]
fn all_that_was_counted_comes_back_under_the_same_writer_or_another() {
    let old = counted();
    let (file, saved) = old.save(|_, _| ());
    assert_eq!((saved.bytes, saved.slices), (file.len() as u64, 3));
    let summary = check(&mut &file[..]).unwrap();
    let names: Vec<&str> = summary
        .sketches
        .iter()
        .map(|sketch| &*sketch.name)
        .collect();
    assert_eq!(names, ["default", "one"]);
    assert_eq!(summary.sketches[0].slices[0].weight, 600);
    let mark = CleanMark::decode(&CleanMark::of(&saved, true).encode()).unwrap();
    assert_eq!(mark, CleanMark::of(&saved, true));

    // Under its old name, under one of which nobody has heard, and as a learnt slice.
    for (writer, resumes) in [(WRITER, true), (Writer(12), true), (Writer(10), false)] {
        let mut node = Node::start(writer, [2_000, 512], SECOND * 7_000);
        let sketches = node
            .slices
            .borrow()
            .iter()
            .map(|slices| (slices.own_slice().sketch, slices.fingerprint()))
            .collect::<Vec<_>>();
        assert!(may_resume(&mark, &summary, sketches));
        let loaded = node.load(&file, SECOND * 30, resumes).unwrap();
        assert_eq!(
            (loaded.slices, loaded.refused, loaded.elapsed),
            (3, 0, SECOND * 30)
        );
        let renamed = |(slice, cells): (SliceId, Vec<u64>)| {
            let is_own = (slice.node, slice.writer) == (NODE, WRITER);
            let writer = if is_own && resumes {
                writer
            } else {
                slice.writer
            };
            (SliceId { writer, ..slice }, cells)
        };
        let expected: BTreeMap<_, _> = old.cells().into_iter().map(renamed).collect();
        assert_eq!(node.cells(), expected);
        let is_old_name = resumes && writer == WRITER;
        assert!(
            node.slices
                .borrow()
                .iter()
                .all(|slices| slices.is_resumed() == is_old_name)
        );
        for key in 0..200 {
            assert_eq!(node.estimate(0, key), old.estimate(0, key), "{key}");
        }
        // The last 30 s of what was counted before are in a window of a minute; two keys a step are uncertain.
        assert_eq!(node.estimate(1, 5), 40);
        assert!(
            node.in_window(9) == 40 && node.in_window(6) == 0,
            "{} {}",
            node.in_window(9),
            node.in_window(6)
        );
        node.pass(60);
        assert_eq!(node.in_window(9), 0, "60 s later");
        node.add(1, 9, 5);
        node.pass(1);
        assert_eq!((node.in_window(9), node.estimate(1, 9)), (5, 45));
        // And once more, from what was taken over.
        let (file, _) = node.save(|_, _| ());
        let mut again = Node::start(Writer(11), [2_000, 512], SECOND);
        again.load(&file, SECOND, false).unwrap();
        assert_eq!(again.cells(), node.cells());
        assert_eq!((again.in_window(9), again.in_window(5)), (5, 0));
    }
}

/// A start that goes on under a new name and dies has told others of that name: what the file has is its beginning.
#[test]
fn the_name_of_a_start_that_went_on_is_that_of_what_the_file_has() {
    let old = counted();
    let (file, saved) = old.save(|_, _| ());
    let mark = CleanMark {
        renamed: Some(Writer(12)),
        ..CleanMark::of(&saved, false)
    };
    assert_eq!(CleanMark::decode(&mark.encode()).unwrap(), mark);
    let checked = check(&mut &file[..]).unwrap();
    assert!(!may_resume(&mark, &checked, []), "once only");
    let mut node = Node::start(Writer(13), [2_000, 512], SECOND);
    let options = LoadOptions {
        checked: &checked,
        node: NODE,
        now: node.reading(SECOND),
        resumes: false,
        renamed: mark.renamed,
        this_start: THIS_START,
    };
    load(
        &mut &file[..],
        node.slices.get_mut(),
        &options,
        &mut |_, _, _| (),
    )
    .unwrap();
    let own: Vec<u64> = node
        .cells()
        .keys()
        .filter(|slice| slice.node == NODE)
        .map(|slice| slice.writer.0)
        .collect();
    assert_eq!(own, [12, 12]);
    assert_eq!(node.estimate(0, 7), old.estimate(0, 7));
}

#[test]
fn what_comes_while_a_file_is_written_is_there_in_part_and_what_was_there_is_there() {
    let mut node = Node::start(WRITER, [60_000, 512], SECOND);
    for key in 0..20_000 {
        node.add(0, key, 1);
    }
    node.pass(1);
    let before = node.cells();
    let own = node.slices.get_mut()[0].own_slice();
    let versions = RefCell::new(0);
    let (file, saved) = node.save(|node, _| {
        node.add(0, 3, 1);
        node.slices.borrow_mut()[0].publish(usize::MAX);
        *versions.borrow_mut() += 1;
    });
    let after = node.cells();
    let mut loaded = Node::start(Writer(10), [60_000, 512], SECOND * 9);
    loaded.load(&file, SECOND, false).unwrap();
    let here = &loaded.cells()[&own];
    let bounds = before[&own].iter().zip(&after[&own]);
    assert!(
        here.iter()
            .zip(bounds)
            .all(|(here, (before, after))| before <= here && here <= after)
    );
    assert!(saved.own[0].1 < node.slices.get_mut()[0].own_version());
}

#[test]
fn a_file_is_begun_anew_where_our_slice_gets_another_name() {
    let mut node = Node::start(WRITER, [60_000, 512], SECOND);
    (0..20_000).for_each(|key| node.add(0, key, 1));
    node.pass(1);
    let (file, saved) = node.save(|node, pieces| {
        if pieces == 1 {
            node.slices
                .borrow_mut()
                .iter_mut()
                .for_each(|slices| slices.take_new_writer(Writer(55)));
        }
    });
    assert_eq!(saved.head.writer, Writer(55));
    assert_eq!(check(&mut &file[..]).unwrap().writer, Writer(55));
}

/// Most readers of JSON keep no number above 2^53 as it is.
#[test]
fn numbers_that_name_something_are_texts_in_json() {
    let (file, _) = counted().save(|_, _| ());
    let summary = check(&mut &file[..]).unwrap();
    let sketch = |sketch: &SavedSketch| {
        let slice = |slice: &SavedSlice| {
            json!({
                "node": format!("{:016x}", slice.node), "writer": slice.writer.to_string(),
                "version": slice.version, "weight": slice.weight, "groups": slice.groups,
            })
        };
        json!({
            "name": sketch.name, "number": sketch.number,
            "fingerprint": format!("{:016x}", sketch.fingerprint), "cells": sketch.cells,
            "slices": sketch.slices.iter().map(slice).collect::<Vec<_>>(),
        })
    };
    let expected = json!({
        "file": "000000000000f11e", "node": "0000000000000007", "boot": "0000000000000004",
        "writer": "0000000000000009", "program": "0.1.0", "wall_ms": 1_000_000,
        "bytes": file.len(), "clients_bytes": 3,
        "sketches": summary.sketches.iter().map(sketch).collect::<Vec<_>>(),
    });
    assert_eq!(serde_json::to_value(&summary).unwrap(), expected);
}

/// Whatever is wrong with a file, nothing of it is believed.
#[test]
fn a_file_that_is_cut_or_changed_is_not_believed() {
    let mut node = Node::start(WRITER, [64, 64], SECOND);
    (0..5).for_each(|key| node.add(1, key, key + 1));
    node.pass(9);
    let (file, saved) = node.save(|_, _| ());
    assert!(file.len() < 4_000, "{}", file.len());
    for length in 0..file.len() {
        let error = check(&mut &file[..length]).unwrap_err();
        assert!(
            matches!(error, SnapshotFileError::CutOff { bytes } if bytes == length as u64),
            "{length}: {error}"
        );
        let mut changed = file.clone();
        changed[length] ^= 1 << (length % 8);
        check(&mut &changed[..]).unwrap_err();
    }
    let longer = [&file[..], b"x"].concat();
    assert!(matches!(
        check(&mut &longer[..]),
        Err(SnapshotFileError::Rest { .. })
    ));
    let zeros = vec![0; file.len()];
    assert!(matches!(
        check(&mut &zeros[..]),
        Err(SnapshotFileError::Magic)
    ));
    let mark = CleanMark::of(&saved, true).encode();
    for length in 0..mark.len() {
        let mut changed = mark.clone();
        changed[length] ^= 1 << (length % 8);
        CleanMark::decode(&changed).unwrap_err();
        CleanMark::decode(&mark[..length]).unwrap_err();
    }
}

#[test]
fn who_may_go_on_as_the_same_writer() {
    let mut node = counted();
    let (file, saved) = node.save(|_, _| ());
    let checked = check(&mut &file[..]).unwrap();
    let mark = CleanMark::of(&saved, true);
    let all: Vec<_> = checked
        .sketches
        .iter()
        .map(|sketch| (SketchNumber(sketch.number), sketch.fingerprint))
        .collect();
    assert!(may_resume(&mark, &checked, all.clone()));
    assert!(
        may_resume(&mark, &checked, all[..1].to_vec()),
        "a sketch is gone"
    );
    let new = [all.clone(), vec![(SketchNumber(5), 1)]].concat();
    assert!(!may_resume(&mark, &checked, new), "a sketch is new here");
    assert!(
        !may_resume(&mark, &checked, [(SketchNumber(0), 1)]),
        "a sketch is another one"
    );
    // A later file, and the mark of the one before.
    node.add(0, 1, 1);
    node.pass(1);
    let (later, _) = node.save(|_, _| ());
    let later = check(&mut &later[..]).unwrap();
    assert!(!may_resume(&mark, &later, all.clone()));
    let mut other = mark.clone();
    other.head.file += 1;
    assert!(!may_resume(&other, &checked, all.clone()), "another file's");
    let mut other = mark;
    other.versions[1].1 += 1;
    assert!(!may_resume(&other, &checked, all), "another version");
}

#[test]
fn of_another_node_or_another_geometry_nothing_is_taken() {
    let (file, _) = counted().save(|_, _| ());
    let mut other = Node::start(Writer(10), [2_000, 256], SECOND);
    let loaded = other.load(&file, SECOND, false).unwrap();
    let why = Skipped::OtherGeometry;
    assert_eq!(
        loaded.skipped,
        [SkippedSketch {
            name: "one".to_owned(),
            why
        }]
    );
    assert_eq!(
        (loaded.slices, other.estimate(0, 7), other.estimate(1, 7)),
        (2, 3, 0)
    );
    let mut first_only = Node::start(Writer(10), [2_000, 512], SECOND);
    first_only.slices.get_mut().truncate(1);
    let loaded = first_only.load(&file, SECOND, false).unwrap();
    assert_eq!(loaded.skipped[0].why, Skipped::Gone);

    let checked = check(&mut &file[..]).unwrap();
    let options = LoadOptions {
        checked: &checked,
        node: NODE + 1,
        now: other.reading(SECOND),
        resumes: false,
        renamed: None,
        this_start: THIS_START,
    };
    let error = load(&mut &file[..], &mut [], &options, &mut |_, _, _| ()).unwrap_err();
    assert!(
        matches!(error, SnapshotFileError::OtherNode(NODE)),
        "{error}"
    );
}

/// A slice for which there is no room is left out as a whole, and answers say that something lacks.
#[test]
fn what_has_no_room_is_left_out_and_said() {
    let mut node = counted();
    for writer in 0..80 {
        let slice = SliceId::of(8, Writer(100 + writer));
        let _ = node.slices.get_mut()[0].merge(&slice, [(9, 1)].into_iter());
    }
    let (file, saved) = node.save(|_, _| ());
    assert_eq!(saved.slices, 2 + 64);
    let mut here = Node::start(Writer(10), [2_000, 512], SECOND);
    let loaded = here.load(&file, SECOND, false).unwrap();
    // The slice that the file's writer wrote takes a place, too.
    assert_eq!((loaded.slices, loaded.refused), (65, 1));
    assert!(here.replicas[0].estimate(b"").incomplete);
    assert_eq!(here.lacks_of(&node, WRITER), here.missing());
    assert_eq!(here.missing().len(), 1);
}

/// Whatever memory there is, the node starts: as the same writer where there is enough to go on, else as another one.
#[test]
fn where_there_is_no_memory_to_go_on_the_node_is_another_writer_and_says_what_it_lacks() {
    let old = counted();
    let (file, _) = old.save(|_, _| ());
    let geometry = [2_000, 512];
    let (mut resumed, mut given_up, mut lacking) = (0, 0, 0);
    for writer in [WRITER, THIS_START.drawn] {
        let enough = resumed + 20;
        for max_memory_bytes in (20_000..).step_by(97) {
            if resumed == enough {
                break;
            }
            let start = || Node::try_start_in(writer, geometry, SECOND, max_memory_bytes);
            let Some(mut here) = start() else {
                continue;
            };
            let loaded = here.load(&file, SECOND, true).unwrap();
            let names: Vec<SliceId> = here
                .slices
                .get_mut()
                .iter()
                .map(Slices::own_slice)
                .collect();
            let goes_on = loaded.is_resumed;
            let now = if goes_on { writer } else { THIS_START.spare };
            assert!(names.iter().all(|own| own.writer == now));
            let is_any_resumed = here.slices.get_mut().iter().any(Slices::is_resumed);
            assert_eq!(is_any_resumed, goes_on && writer == WRITER);
            // What is here is under the name that it would have had.
            let before = SliceId::of(NODE, writer);
            assert!(here.slices.get_mut()[0].has(&before) || goes_on || loaded.refused > 0);
            assert_eq!(here.lacks_of(&old, writer), here.missing(), "{loaded:?}");
            for (key, right) in [(0, 3), (9, 3)] {
                let estimate = here.replicas[0].estimate(&u32::to_le_bytes(key));
                assert!(estimate.count == right || estimate.incomplete, "{loaded:?}");
                lacking += u32::from(estimate.incomplete);
            }
            (resumed, given_up) = (resumed + u32::from(goes_on), given_up + u32::from(!goes_on));
        }
    }
    println!("{resumed} go on, {given_up} do not, {lacking} answers lack something");
    assert!(given_up > 10 && lacking > 10);
}

#[test]
fn steps_come_in_the_order_in_which_nothing_can_be_lost() {
    let mut node = Node::start(WRITER, [1 << 20, 64], SECOND);
    (0..300_000).for_each(|key| node.add(0, key, 1));
    node.pass(1);
    let mut saving = node.saving();
    let (mut steps, mut bytes) = (Vec::new(), 0_u64);
    loop {
        let step = match saving.next(&node, &|| node.now) {
            SavingStep::Write(piece) => {
                assert!(piece.len() < 128 << 10, "{}", piece.len());
                bytes += piece.len() as u64;
                'w'
            }
            SavingStep::Create => 'c',
            SavingStep::SyncSome => 's',
            SavingStep::SyncAll => 'S',
            SavingStep::Rename => 'r',
            SavingStep::SyncFolder => 'f',
            SavingStep::Done(saved) => {
                assert_eq!(saved.bytes, bytes);
                break;
            }
        };
        if steps.last() != Some(&step) {
            steps.push(step);
        }
    }
    let text: String = steps.iter().collect();
    let (begin, end) = text.split_at(text.len() - 3);
    assert!(
        begin
            .strip_prefix('c')
            .unwrap()
            .trim_matches(['w', 's'])
            .is_empty(),
        "{text}"
    );
    assert!(
        end == "Srf" && begin.matches('s').count() as u64 == bytes / (4 << 20),
        "{text} {bytes}"
    );
}

/// What a later release adds to a file is left out, and all else is taken over.
#[test]
fn a_block_of_a_later_release_is_left_out_alone() {
    let old = counted();
    let (mut file, _) = old.save(|_, _| ());
    let (mut end, mut number) = (8, 0);
    loop {
        let length = file[end + 1..][..4].try_into().unwrap();
        let next = end + 13 + u32::from_le_bytes(length) as usize;
        if next == file.len() {
            break;
        }
        (end, number) = (next, number + 1);
    }
    file.truncate(end);
    let start = begin_block(Kind::Other(200), &mut file);
    file.extend(b"later");
    end_block(start, number, &mut file);
    let start = begin_block(Kind::End, &mut file);
    write_end(number + 1, &mut file);
    end_block(start, number + 1, &mut file);
    let mut node = Node::start(WRITER, [2_000, 512], SECOND);
    node.load(&file, Duration::ZERO, true).unwrap();
    assert_eq!(node.cells(), old.cells());
}

#[test]
fn hidden_extra_is_not_needed() {
    let node = Node::start(WRITER, [64, 64], SECOND);
    let options = SavingOptions {
        file: 1,
        boot: Boot(4),
        now: node.reading(Duration::ZERO),
        program: String::new(),
        names: Vec::new(),
    };
    let mut saving = Saving::new(options, Box::new(empty()));
    let mut file = Vec::new();
    while !matches!(
        match saving.next(&node, &|| node.now) {
            SavingStep::Write(piece) => {
                file.extend_from_slice(piece);
                SavingStep::SyncSome
            }
            step => step,
        },
        SavingStep::Done(_)
    ) {}
    assert_eq!(check(&mut &file[..]).unwrap().clients_bytes, 0);
    let error = check(&mut &b"rmbdsnap"[..]).unwrap_err();
    assert_eq!(error.reason(), "cut-off");
    let later = SnapshotFileError::Block {
        at: 8,
        source: BlockError::LaterKind(99),
    };
    assert_eq!(later.reason(), "later-format");
}
