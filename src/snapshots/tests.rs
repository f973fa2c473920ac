//! Tests of the thread and of what a start finds, with real folders.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rmbd_proto::{Boot, SketchNumber, Writer};
use rmbd_sketch::{Geometry, HashFamily, Weight};
use rmbd_snapshot::{CleanMark, ExtraKind, FILE_NAME, MARK_FILE_NAME, NEW_FILE_NAME, ThisStart};
use rmbd_store::once::{BootChain, OnceTable};
use rmbd_store::{
    NamedSketch, Registry, Replica, ReplicaLimits, ReplicaOptions, SliceId, fingerprint,
};

use super::found::TakenOver;
use super::testing::{Point, Trouble, What};
use super::*;
use crate::data_dir::{DataDir, Folder};
use crate::engine::EngineOptions;
use crate::shared::{LimitsInForce, LoneSlices, Shared};
use crate::status::SnapshotOrder;
use rmbd_cluster::slices_of;
use rmbd_io::Stop;

const NODE: u64 = 0xabcd;
/// The writer that a start draws.
const DRAWN: Writer = Writer(0xD4A3);
const SPARE: Writer = Writer(98);
const FAMILY: HashFamily = HashFamily::Xxh3 { seed: 3 };
/// A time longer than anything takes. No test passes by waiting for its end.
const PATIENCE: Duration = Duration::from_secs(30);

/// A folder that is removed after the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let name = format!("rmbd-snapshots-{}-{name}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let _ = fs::remove_dir_all(&path);
        Self(path)
    }

    fn folder(&self) -> Arc<Folder> {
        let data_dir = DataDir::open(Some(&self.0), NODE).unwrap();
        Arc::clone(data_dir.folder().unwrap())
    }

    fn snapshot(&self) -> Vec<u8> {
        fs::read(self.0.join(FILE_NAME)).unwrap()
    }

    fn has(&self, name: &str) -> bool {
        fs::symlink_metadata(self.0.join(name)).is_ok()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn geometry() -> Geometry {
    Geometry::new(512, 3).unwrap()
}

/// Looks for what a node with this id would find.
fn look_as(node: u64, folder: &Arc<Folder>) -> Found {
    let sketch = (SketchNumber::DEFAULT, fingerprint(geometry(), FAMILY));
    let this_start = ThisStart {
        is_in_cluster: true,
        drawn: DRAWN,
        spare: SPARE,
    };
    look(folder, node, [sketch], this_start).unwrap()
}

/// A node without sockets: what it has counted, and what writes it.
struct Node {
    desk: Arc<SnapshotDesk>,
    shared: Arc<Shared>,
    slices: Arc<LoneSlices>,
    trouble: Arc<Trouble>,
    thread: Option<JoinHandle<()>>,
    taken: TakenOver,
}

impl Node {
    /// Starts in this folder, which it leaves unlocked at its end.
    fn start(scratch: &Scratch, fresh: Writer, disk: Option<DiskChoice>) -> Self {
        let folder = scratch.folder();
        let found = look_as(NODE, &folder);
        let writer = found.writer().unwrap_or(fresh);
        let limits = ReplicaLimits {
            max_peers: 1,
            max_origins: 100,
            max_memory_bytes: u64::MAX,
        };
        let options = ReplicaOptions::of(geometry(), FAMILY, SliceId::of(NODE, writer), limits);
        let replica = Arc::new(Replica::try_open(options).unwrap());
        let mut slices = slices_of([Arc::clone(&replica)], Duration::ZERO).unwrap();
        let taken = found.take_over(&mut slices, Duration::ZERO, true).unwrap();
        let slices = Arc::new(LoneSlices::new(slices, true));
        let named = NamedSketch::new("default".parse().unwrap(), replica);
        let options = EngineOptions {
            boot: Boot(writer.0 + 1),
            earlier: BootChain::default(),
            max_weight: Weight::MAX,
            once: Arc::new(OnceTable::new(16, &[7; 32])),
        };
        let shared = Arc::new(Shared::new(
            Registry::new(vec![named]).unwrap(),
            &options,
            Arc::new(LimitsInForce::new(&[])),
            Stop::new().unwrap(),
        ));
        let desk = Arc::new(SnapshotDesk::new(folder, 0));
        desk.note_start(&taken);
        let trouble = Arc::new(Trouble::default());
        let disk = disk.unwrap_or_else(|| DiskChoice::Troubled(Arc::clone(&trouble)));
        let thread = SnapshotThread::new(
            Arc::clone(&desk),
            Arc::clone(&shared),
            Source::Alone(Arc::clone(&slices)),
            disk,
            taken.known,
        );
        Self {
            thread: Some(std::thread::spawn(move || thread.run())),
            desk,
            shared,
            slices,
            trouble,
            taken,
        }
    }

    fn add(&self, key: &str, weight: u32) {
        let weight = Weight::new(weight).unwrap();
        self.shared.replica().add(key.as_bytes(), weight).unwrap();
    }

    fn writer(&self) -> Writer {
        self.shared.replica().own_slice().writer
    }

    /// The writers of all learnt slices.
    fn learnt(&self) -> Vec<Writer> {
        let slices = self.slices.lock();
        let learnt = slices.iter().flat_map(rmbd_store::Slices::learnt);
        learnt.map(|it| it.slice.writer).collect()
    }

    fn count(&self, key: &str) -> u64 {
        self.shared.replica().estimate(key.as_bytes()).count
    }

    /// Orders a file, and waits for it.
    fn write(&self) -> SnapshotOrder {
        self.desk.order().done.blocking_recv().unwrap()
    }

    /// Ends in order, like a node.
    fn end(&mut self, leaves_mark: bool) {
        let extra = [(ExtraKind::Clients, vec![1, 2, 3])];
        let last = LastFile {
            extra: Box::new(extra.into_iter()),
            leaves_mark,
        };
        let saved = self.desk.write_last(last, Instant::now() + PATIENCE);
        assert_eq!(saved.unwrap().has_mark, leaves_mark);
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.trouble.end();
        assert!(self.desk.end(Instant::now() + PATIENCE) || std::thread::panicking());
        let ended = self.thread.take().unwrap().join();
        assert!(ended.is_ok() || std::thread::panicking());
    }
}

#[test]
fn what_was_written_is_taken_over_by_each_way_to_the_disk() {
    for (name, disk) in [("uring", DiskChoice::Uring), ("plain", DiskChoice::Plain)] {
        let scratch = Scratch::new(name);
        let node = Node::start(&scratch, Writer(1), Some(disk.clone()));
        assert_eq!(node.taken.loaded, None);
        for number in 0..500 {
            node.add(&number.to_string(), number + 1);
        }
        let told = node.write();
        assert_eq!((told.failure.as_deref(), told.nothing_new), (None, false));
        let metadata = fs::metadata(scratch.0.join(FILE_NAME)).unwrap();
        assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
        assert_eq!(metadata.len(), told.bytes);
        assert!(!scratch.has(NEW_FILE_NAME) && !scratch.has(MARK_FILE_NAME));
        let counts: Vec<u64> = (0..500).map(|it| node.count(&it.to_string())).collect();
        drop(node);
        // After a crash the writer is another one, and nothing is lost.
        let node = Node::start(&scratch, Writer(2), Some(disk));
        assert!(node.taken.loaded.is_some() && !node.taken.is_resumed);
        assert!(node.taken.extra.is_empty());
        assert_eq!(node.writer(), Writer(2));
        for (number, count) in counts.into_iter().enumerate() {
            assert_eq!(node.count(&number.to_string()), count, "{number}");
        }
    }
}

#[test]
fn a_clean_end_goes_on_as_the_same_writer_and_is_used_once() {
    let scratch = Scratch::new("clean");
    let mut node = Node::start(&scratch, Writer(1), None);
    node.add("a", 5);
    node.end(true);
    drop(node);
    assert!(scratch.has(MARK_FILE_NAME));
    let node = Node::start(&scratch, Writer(2), None);
    let mark = fs::read(scratch.0.join(MARK_FILE_NAME)).unwrap();
    let mark = CleanMark::decode(&mark).unwrap();
    assert_eq!(mark.renamed, Some(DRAWN), "before anything is done");
    assert!(node.taken.is_resumed);
    assert_eq!(node.taken.extra, [(ExtraKind::Clients, vec![1, 2, 3])]);
    assert_eq!((node.writer(), node.count("a")), (Writer(2), 5));
    // It dies: what it has told others is of the writer that it had drawn.
    drop(node);
    let mut node = Node::start(&scratch, Writer(2), None);
    assert!(!node.taken.is_resumed && node.taken.extra.is_empty());
    assert_eq!((node.learnt(), node.count("a")), (vec![DRAWN], 5));
    node.add("a", 1);
    // It ends, but something has failed.
    node.end(false);
    drop(node);
    let node = Node::start(&scratch, Writer(3), None);
    assert!(!node.taken.is_resumed && node.taken.extra.is_empty());
    assert_eq!((node.writer(), node.count("a")), (Writer(3), 6));
}

#[test]
fn a_mark_that_belongs_to_another_file_is_not_used() {
    let scratch = Scratch::new("stale");
    let mut node = Node::start(&scratch, Writer(1), None);
    node.add("a", 5);
    node.end(true);
    drop(node);
    let (file, mark) = (scratch.snapshot(), fs::read(scratch.0.join(MARK_FILE_NAME)));
    let mut node = Node::start(&scratch, Writer(2), None);
    node.add("a", 1);
    node.end(true);
    drop(node);
    // An old mark with a new file, and an old file with a new mark.
    let new_mark = fs::read(scratch.0.join(MARK_FILE_NAME));
    fs::write(scratch.0.join(MARK_FILE_NAME), mark.unwrap()).unwrap();
    let node = Node::start(&scratch, Writer(3), None);
    assert_eq!((node.writer(), node.count("a")), (Writer(3), 6));
    drop(node);
    fs::write(scratch.0.join(FILE_NAME), file).unwrap();
    fs::write(scratch.0.join(MARK_FILE_NAME), new_mark.unwrap()).unwrap();
    let node = Node::start(&scratch, Writer(4), None);
    assert_eq!((node.writer(), node.count("a")), (Writer(4), 5));
    drop(node);
    fs::write(scratch.0.join(MARK_FILE_NAME), "no mark").unwrap();
    let node = Node::start(&scratch, Writer(5), None);
    assert_eq!((node.writer(), node.count("a")), (Writer(5), 5));
    assert!(!scratch.has(MARK_FILE_NAME));
}

#[test]
fn nothing_is_written_where_nothing_is_new() {
    let scratch = Scratch::new("idle");
    let node = Node::start(&scratch, Writer(1), None);
    node.add("a", 5);
    node.write();
    let identity = || {
        let metadata = fs::metadata(scratch.0.join(FILE_NAME)).unwrap();
        (metadata.ino(), metadata.mtime(), metadata.mtime_nsec())
    };
    let first = identity();
    assert!(node.write().nothing_new && node.write().nothing_new);
    assert_eq!(identity(), first);
    let status = node.desk.status(node.shared.now());
    assert_eq!((status.written, status.unchanged), (1, 2));
    node.add("a", 1);
    assert!(!node.write().nothing_new);
    assert_ne!(identity(), first);
    drop(node);
    // What was taken over is not written again either.
    let node = Node::start(&scratch, Writer(2), None);
    assert!(node.write().nothing_new);
    // Where somebody has removed it or put another in its place, it is.
    fs::remove_file(scratch.0.join(FILE_NAME)).unwrap();
    assert!(!node.write().nothing_new);
    fs::write(scratch.0.join("other"), "else").unwrap();
    fs::rename(scratch.0.join("other"), scratch.0.join(FILE_NAME)).unwrap();
    assert!(!node.write().nothing_new && node.write().nothing_new);
}

/// At each step, with what a disk says when it is full, broken, or not writable any more.
#[test]
fn a_failure_leaves_the_file_before_and_is_over_when_it_is_over() {
    for point in Point::ALL.into_iter().filter(|it| *it != Point::Mark) {
        for code in [libc::ENOSPC, libc::EIO, libc::EROFS] {
            let case = format!("{point:?} {code}");
            let scratch = Scratch::new("failure");
            let node = Node::start(&scratch, Writer(1), None);
            node.add("a", 5);
            node.write();
            let before = scratch.snapshot();
            node.trouble.begin(point, What::Fails(code));
            node.add("a", 1);
            for attempt in 1..4 {
                let failure = node.write().failure.unwrap();
                let system = std::io::Error::from_raw_os_error(code).to_string();
                assert!(failure.contains(&system), "{case}: {failure}");
                let status = node.desk.status(node.shared.now());
                assert_eq!((status.failures, status.failure), (attempt, Some(failure)));
                assert!(!scratch.has(NEW_FILE_NAME), "{case}");
                if point != Point::SyncFolder {
                    assert_eq!(scratch.snapshot(), before, "{case}");
                }
            }
            node.trouble.end();
            assert_eq!(node.write().failure, None, "{case}");
            assert_eq!(node.desk.status(node.shared.now()).failure, None);
            drop(node);
            assert_eq!(
                Node::start(&scratch, Writer(2), None).count("a"),
                6,
                "{case}"
            );
        }
    }
}

#[test]
fn a_disk_that_hangs_at_the_end_is_left_behind() {
    for point in Point::ALL {
        let scratch = Scratch::new("hang");
        let node = Node::start(&scratch, Writer(1), None);
        node.add("a", 5);
        node.write();
        let before = scratch.snapshot();
        node.trouble.begin(point, What::Hangs);
        node.add("a", 1);
        let last = LastFile {
            extra: Box::new(std::iter::empty()),
            leaves_mark: true,
        };
        let began = Instant::now();
        let failure = node
            .desk
            .write_last(last, began + Duration::from_millis(50))
            .unwrap_err();
        assert!(
            matches!(failure, SnapshotFileFailure::Hangs { .. }),
            "{failure}"
        );
        assert!(!node.desk.end(Instant::now() + Duration::from_millis(1)));
        assert!(began.elapsed() < PATIENCE);
        if ![Point::SyncFolder, Point::Mark].contains(&point) {
            assert_eq!(scratch.snapshot(), before, "{point:?}");
        }
        assert!(!scratch.has(MARK_FILE_NAME));
        // The folder stays locked as long as the thread may write to it.
        assert!(DataDir::open(Some(&scratch.0), NODE).is_err());
        drop(node);
        let node = Node::start(&scratch, Writer(2), None);
        assert!(node.count("a") >= 5, "{point:?}");
    }
}

/// A file that is being written when the end comes is given up, and the last one is written.
#[test]
fn the_end_does_not_wait_for_a_file_that_is_being_written() {
    let scratch = Scratch::new("midway");
    let mut node = Node::start(&scratch, Writer(1), None);
    node.trouble.begin(Point::Write, What::Hangs);
    node.add("a", 5);
    let ordered = node.desk.order();
    while !node.desk.status(node.shared.now()).writing || !scratch.has(NEW_FILE_NAME) {
        std::thread::sleep(Duration::from_millis(1));
    }
    node.add("a", 1);
    let trouble = Arc::clone(&node.trouble);
    let helper = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(20));
        trouble.end();
    });
    node.end(true);
    helper.join().unwrap();
    assert!(
        ordered
            .done
            .blocking_recv()
            .is_ok_and(|it| it.failure.is_some())
    );
    drop(node);
    assert_eq!(Node::start(&scratch, Writer(2), None).count("a"), 6);
}

#[test]
fn a_folder_that_is_not_ours_any_more_is_left_alone() {
    let scratch = Scratch::new("moved");
    let node = Node::start(&scratch, Writer(1), None);
    node.add("a", 5);
    fs::remove_dir_all(&scratch.0).unwrap();
    let failure = node.write().failure.unwrap();
    assert!(failure.contains("looking for the lock"), "{failure}");
    let _other = DataDir::open(Some(&scratch.0), 8).unwrap();
    let failure = node.write().failure.unwrap();
    assert!(failure.contains("is not the folder any more"), "{failure}");
    assert!(!scratch.has(FILE_NAME) && !scratch.has(NEW_FILE_NAME));
}

#[test]
fn what_a_panic_may_have_left_half_changed_is_not_written() {
    let scratch = Scratch::new("poisoned");
    let node = Node::start(&scratch, Writer(1), None);
    node.add("a", 5);
    node.write();
    let before = scratch.snapshot();
    let slices = Arc::clone(&node.slices);
    let panicked = std::thread::spawn(move || {
        let _locked = slices.lock();
        panic!("a test makes the lock poisoned");
    });
    assert!(panicked.join().is_err());
    node.add("a", 1);
    assert!(node.write().failure.unwrap().contains("half-changed"));
    let last = LastFile {
        extra: Box::new(std::iter::empty()),
        leaves_mark: true,
    };
    let failure = node.desk.write_last(last, Instant::now() + PATIENCE);
    assert!(matches!(failure, Err(SnapshotFileFailure::HalfChanged)));
    assert!(scratch.snapshot() == before && !scratch.has(MARK_FILE_NAME));
}

/// Every cut, and every byte flipped.
#[test]
fn a_file_that_is_not_whole_is_set_aside_and_said() {
    let scratch = Scratch::new("broken");
    let node = Node::start(&scratch, Writer(1), None);
    node.add("a", 5);
    node.write();
    drop(node);
    let whole = scratch.snapshot();
    let cut = (0..whole.len()).map(|length| whole[..length].to_vec());
    let flipped = (0..whole.len()).map(|at| {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at % 8);
        bytes
    });
    for (number, bytes) in cut.chain(flipped).enumerate() {
        fs::write(scratch.0.join(FILE_NAME), &bytes).unwrap();
        let folder = scratch.folder();
        let found = look_as(NODE, &folder);
        assert!(
            found.writer().is_none() && !scratch.has(FILE_NAME),
            "{number}"
        );
        assert!(folder.bad_files().len() <= 4);
    }
    fs::write(scratch.0.join(FILE_NAME), &whole).unwrap();
    let node = Node::start(&scratch, Writer(2), None);
    assert_eq!(node.count("a"), 5);
    let told = node.desk.status(Duration::ZERO).set_aside;
    assert_eq!(told.len(), 4, "those of earlier starts are told, too");
}

#[test]
fn a_file_of_another_node_is_set_aside() {
    let scratch = Scratch::new("other-node");
    let mut node = Node::start(&scratch, Writer(1), None);
    node.add("a", 5);
    node.end(true);
    drop(node);
    let folder = scratch.folder();
    let found = look_as(NODE + 1, &folder);
    assert!(found.writer().is_none() && !scratch.has(MARK_FILE_NAME));
    let bad = folder.bad_files();
    assert!(bad.len() == 1 && bad[0].ends_with("-other-node"), "{bad:?}");
}

#[test]
fn three_intervals_without_a_file_are_too_many() {
    let scratch = Scratch::new("overdue");
    let folder = scratch.folder();
    let desk = SnapshotDesk::new(Arc::clone(&folder), 1_000);
    let at = Duration::from_millis;
    let is_overdue = |now| {
        desk.watch(now);
        desk.status(now).overdue
    };
    assert!(!is_overdue(at(3_000)) && is_overdue(at(3_001)));
    let file = writing::WrittenFile {
        bytes: 1,
        slices: 1,
        took: at(9),
        has_mark: false,
    };
    let written = desk::Written::File {
        until: at(5_000),
        file,
    };
    desk.note(Ok(written), desk::Waiting::default());
    assert!(!is_overdue(at(8_000)) && is_overdue(at(8_001)));
    let nothing_new = desk::Written::NothingNew { until: at(9_000) };
    desk.note(Ok(nothing_new), desk::Waiting::default());
    assert!(!is_overdue(at(12_000)));
    // Where files are written only at the end, none is missing.
    let desk = SnapshotDesk::new(folder, 0);
    assert!(!desk.status(at(1 << 40)).overdue);
}
