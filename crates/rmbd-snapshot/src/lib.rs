//! A stand-in for the crate of snapshot files, with its signatures: slices are written as they are, without ages.

use std::io::{self, Read};
use std::time::Duration;

use rmbd_proto::cluster::SliceId;
use rmbd_proto::{Boot, SketchNumber, Writer};
use rmbd_store::{GroupAges, SavedMarks, Slices};

/// The last good file.
pub const FILE_NAME: &str = "snapshot";
/// The file that is being written.
pub const NEW_FILE_NAME: &str = "snapshot.new";
/// The mark of a clean end.
pub const MARK_FILE_NAME: &str = "clean_end";

const MAGIC: &[u8; 8] = b"rmbdsnap";
const VERSION: u16 = 1;
const WRITE_BYTES: usize = 256 << 10;
const SYNC_WRITES: usize = 16;

/// A moment by all clocks of a machine, so that ages go on over a restart.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct ClockReading {
    /// The node's own clock.
    pub clock: Duration,
    /// Time since 1970.
    pub wall: Duration,
    /// `CLOCK_BOOTTIME`.
    pub boottime: Duration,
    /// `/proc/sys/kernel/random/boot_id`.
    pub boot_id: [u8; 16],
}

/// What stands at the head of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotFileHead {
    /// A random number of this file.
    pub id: u64,
    /// The node.
    pub node: u64,
    /// The start of the node.
    pub boot: Boot,
    /// The writer of its own slices.
    pub writer: Writer,
    /// Version of the program.
    pub program: String,
    /// When it was taken.
    pub taken: ClockReading,
    /// The sketches.
    pub sketches: Vec<(SketchNumber, String)>,
}

/// What an extra block holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExtraKind {
    /// The exactly-once table.
    OnceTable,
    /// The chain of boots.
    Boots,
}

/// Gives slices for a short time.
pub trait SlicesSource {
    /// Calls `read` with all of them.
    fn with(&self, read: &mut dyn FnMut(&[&Slices]));
}

/// The extra blocks of a file.
pub type Extra = Box<dyn Iterator<Item = (ExtraKind, Vec<u8>)> + Send>;

/// Writing of one file, in pieces.
pub struct Saving {
    head: SnapshotFileHead,
    extra: Extra,
    bytes: Vec<u8>,
    written: usize,
    stage: Stage,
    unsynced: usize,
    summary: SavedSummary,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Create,
    Write,
    Rename,
    SyncFolder,
    Done,
}

impl std::fmt::Debug for Saving {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Saving").finish_non_exhaustive()
    }
}

/// What to do next.
#[derive(Debug)]
pub enum SavingStep<'a> {
    /// Make the new file.
    Create,
    /// Append all of it.
    Write(&'a [u8]),
    /// `fdatasync`.
    SyncSome,
    /// `fsync`.
    SyncAll,
    /// Over the old one.
    Rename,
    /// `fsync` of the folder.
    SyncFolder,
    /// It is durable.
    Done(SavedSummary),
}

/// What was written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SavedSummary {
    /// Bytes of the file.
    pub bytes: u64,
    /// Slices in it.
    pub slices: usize,
    /// Versions of our own slices.
    pub versions: Vec<(SliceId, u64)>,
}

impl Saving {
    /// Begins.
    pub fn new(head: SnapshotFileHead, extra: Extra) -> Self {
        Self {
            head,
            extra,
            bytes: Vec::new(),
            written: 0,
            stage: Stage::Create,
            unsynced: 0,
            summary: SavedSummary::default(),
        }
    }

    /// What to do next.
    pub fn next(
        &mut self,
        source: &dyn SlicesSource,
        _clock: &dyn Fn() -> Duration,
    ) -> SavingStep<'_> {
        match self.stage {
            Stage::Create => {
                self.encode(source);
                self.stage = Stage::Write;
                SavingStep::Create
            }
            Stage::Write if self.written == self.bytes.len() => {
                self.stage = Stage::Rename;
                SavingStep::SyncAll
            }
            Stage::Write if self.unsynced == SYNC_WRITES => {
                self.unsynced = 0;
                SavingStep::SyncSome
            }
            Stage::Write => {
                let end = (self.written + WRITE_BYTES).min(self.bytes.len());
                let piece = self.written..end;
                self.written = end;
                self.unsynced += 1;
                SavingStep::Write(&self.bytes[piece])
            }
            Stage::Rename => {
                self.stage = Stage::SyncFolder;
                SavingStep::Rename
            }
            Stage::SyncFolder => {
                self.stage = Stage::Done;
                SavingStep::SyncFolder
            }
            Stage::Done => SavingStep::Done(self.summary.clone()),
        }
    }

    fn encode(&mut self, source: &dyn SlicesSource) {
        let head = &self.head;
        let mut out = Vec::new();
        for number in [head.id, head.node, head.boot.0, head.writer.0] {
            out.extend(number.to_le_bytes());
        }
        put_text(&mut out, &head.program);
        let taken = &head.taken;
        for time in [taken.clock, taken.wall, taken.boottime] {
            out.extend((time.as_nanos() as u64).to_le_bytes());
        }
        out.extend(taken.boot_id);
        out.extend((head.sketches.len() as u64).to_le_bytes());
        for (number, name) in &head.sketches {
            out.extend(number.0.to_le_bytes());
            put_text(&mut out, name);
        }
        let summary = &mut self.summary;
        source.with(&mut |all| {
            for slices in all {
                for line in slices.digests() {
                    let id = line.slice;
                    let is_own = id == slices.own_slice();
                    if is_own {
                        summary.versions.push((id, line.version));
                    }
                    summary.slices += 1;
                    out.push(1);
                    out.extend(id.sketch.0.to_le_bytes());
                    for number in [id.node, id.writer.0, line.version] {
                        out.extend(number.to_le_bytes());
                    }
                    let Some(cells) = slices.cells(&id) else {
                        out.extend(u32::MAX.to_le_bytes());
                        continue;
                    };
                    for group in slices.groups_of(&id, 0) {
                        for index in group * 128..(group + 1) * 128 {
                            if (index as usize) < cells.len() && cells.get(index) > 0 {
                                out.extend(index.to_le_bytes());
                                out.extend(cells.get(index).to_le_bytes());
                            }
                        }
                    }
                    out.extend(u32::MAX.to_le_bytes());
                }
            }
        });
        for (kind, payload) in self.extra.by_ref() {
            out.push(match kind {
                ExtraKind::OnceTable => 2,
                ExtraKind::Boots => 3,
            });
            out.extend((payload.len() as u64).to_le_bytes());
            out.extend(payload);
        }
        out.push(0);
        let mut file = MAGIC.to_vec();
        file.extend(VERSION.to_le_bytes());
        file.extend(out);
        let sum = sum_of(&file);
        file.extend(sum.to_le_bytes());
        summary.bytes = file.len() as u64;
        self.bytes = file;
    }
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

fn sum_of(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |sum, &byte| {
        (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// The mark of a clean end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CleanMark {
    /// The file that it belongs to.
    pub snapshot_id: u64,
    /// The node.
    pub node: u64,
    /// The start that ended.
    pub boot: Boot,
    /// The writer of its own slices.
    pub writer: Writer,
    /// The last version of each.
    pub versions: Vec<(SketchNumber, u64)>,
}

impl CleanMark {
    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        for number in [self.snapshot_id, self.node, self.boot.0, self.writer.0] {
            out.extend(number.to_le_bytes());
        }
        out.extend((self.versions.len() as u64).to_le_bytes());
        for (sketch, version) in &self.versions {
            out.extend(sketch.0.to_le_bytes());
            out.extend(version.to_le_bytes());
        }
        let sum = sum_of(&out);
        out.extend(sum.to_le_bytes());
        out
    }

    /// Reads its bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, SnapshotFileError> {
        let mut reader = Reader::checked(bytes)?;
        if reader.take(8)? != MAGIC {
            return Err(SnapshotFileError::Magic);
        }
        let [snapshot_id, node, boot, writer] =
            [reader.u64()?, reader.u64()?, reader.u64()?, reader.u64()?];
        let count = reader.u64()?;
        let mut versions = Vec::new();
        for _ in 0..count {
            versions.push((SketchNumber(reader.u32()?), reader.u64()?));
        }
        Ok(Self {
            snapshot_id,
            node,
            boot: Boot(boot),
            writer: Writer(writer),
            versions,
        })
    }
}

/// What a file holds.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct SnapshotFileSummary {
    /// Its number.
    #[serde(serialize_with = "hex")]
    pub id: u64,
    /// The node, 16 hexadecimal digits.
    #[serde(serialize_with = "hex")]
    pub node: u64,
    /// The start.
    #[serde(serialize_with = "hex")]
    pub boot: u64,
    /// The writer.
    #[serde(serialize_with = "hex")]
    pub writer: u64,
    /// Version of the program.
    pub program: String,
    /// Bytes.
    pub bytes: u64,
    /// Slices.
    pub slices: usize,
}

fn hex<S: serde::Serializer>(number: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{number:016x}"))
}

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotFileError {
    /// It cannot be read.
    #[error("it cannot be read: {0}")]
    Io(#[from] io::Error),
    /// It is something else.
    #[error("it is no snapshot file")]
    Magic,
    /// A later program wrote it.
    #[error("it has version {0}, which a later program writes")]
    LaterVersion(u16),
    /// It ends too early.
    #[error("it ends at byte {at}, too early")]
    Torn {
        /// Where.
        at: u64,
    },
    /// It was changed.
    #[error("its checksum at byte {at} is wrong")]
    Checksum {
        /// Where.
        at: u64,
    },
    /// It says what cannot be.
    #[error("it means nothing at byte {at}")]
    Form {
        /// Where.
        at: u64,
    },
    /// It is of another node.
    #[error("it is of the node {node:016x}")]
    OtherNode {
        /// Which.
        node: u64,
    },
}

struct Reader<'a> {
    rest: &'a [u8],
    len: usize,
}

impl<'a> Reader<'a> {
    fn checked(bytes: &'a [u8]) -> Result<Self, SnapshotFileError> {
        let len = bytes.len();
        let Some((rest, sum)) = bytes.split_last_chunk::<8>() else {
            return Err(SnapshotFileError::Torn { at: len as u64 });
        };
        if sum_of(rest) != u64::from_le_bytes(*sum) {
            return Err(SnapshotFileError::Checksum {
                at: rest.len() as u64,
            });
        }
        Ok(Self {
            rest,
            len: rest.len(),
        })
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], SnapshotFileError> {
        let at = (self.len - self.rest.len()) as u64;
        let (taken, rest) = self
            .rest
            .split_at_checked(count)
            .ok_or(SnapshotFileError::Form { at })?;
        self.rest = rest;
        Ok(taken)
    }

    fn u32(&mut self) -> Result<u32, SnapshotFileError> {
        let mut bytes = [0; 4];
        bytes.copy_from_slice(self.take(4)?);
        Ok(u32::from_le_bytes(bytes))
    }

    fn u64(&mut self) -> Result<u64, SnapshotFileError> {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(self.take(8)?);
        Ok(u64::from_le_bytes(bytes))
    }

    fn text(&mut self) -> Result<String, SnapshotFileError> {
        let length = self.u64()?;
        let bytes = self.take(length as usize)?;
        String::from_utf8(bytes.to_vec()).map_err(|_| SnapshotFileError::Form { at: 0 })
    }
}

type SliceVisit<'v> = dyn FnMut(SliceId, u64, &mut dyn Iterator<Item = (u32, u64)>) + 'v;

fn read(
    file: &mut dyn Read,
    visit: &mut SliceVisit<'_>,
    extra: &mut dyn FnMut(ExtraKind, &[u8]),
) -> Result<(SnapshotFileHead, SnapshotFileSummary), SnapshotFileError> {
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let start = bytes.first_chunk::<10>();
    let start = start.ok_or(SnapshotFileError::Torn {
        at: bytes.len() as u64,
    })?;
    if !start.starts_with(MAGIC) {
        return Err(SnapshotFileError::Magic);
    }
    let version = u16::from_le_bytes([start[8], start[9]]);
    if version > VERSION {
        return Err(SnapshotFileError::LaterVersion(version));
    }
    let mut reader = Reader::checked(&bytes)?;
    reader.take(10)?;
    let [id, node, boot, writer] = [reader.u64()?, reader.u64()?, reader.u64()?, reader.u64()?];
    let program = reader.text()?;
    let [clock, wall, boottime] =
        [reader.u64()?, reader.u64()?, reader.u64()?].map(Duration::from_nanos);
    let mut boot_id = [0; 16];
    boot_id.copy_from_slice(reader.take(16)?);
    let mut sketches = Vec::new();
    for _ in 0..reader.u64()? {
        sketches.push((SketchNumber(reader.u32()?), reader.text()?));
    }
    let mut slices = 0;
    loop {
        match reader.take(1)? {
            [0] => break,
            [1] => {
                slices += 1;
                let slice = SliceId {
                    sketch: SketchNumber(reader.u32()?),
                    node: reader.u64()?,
                    writer: Writer(reader.u64()?),
                };
                let version = reader.u64()?;
                let mut cells = Vec::new();
                loop {
                    match reader.u32()? {
                        u32::MAX => break,
                        index => cells.push((index, reader.u64()?)),
                    }
                }
                visit(slice, version, &mut cells.into_iter());
            }
            [kind @ (2 | 3)] => {
                let length = reader.u64()?;
                let kind = match kind {
                    2 => ExtraKind::OnceTable,
                    _ => ExtraKind::Boots,
                };
                extra(kind, reader.take(length as usize)?);
            }
            _ => return Err(SnapshotFileError::Form { at: 0 }),
        }
    }
    let summary = SnapshotFileSummary {
        id,
        node,
        boot,
        writer,
        program: program.clone(),
        bytes: bytes.len() as u64,
        slices,
    };
    let head = SnapshotFileHead {
        id,
        node,
        boot: Boot(boot),
        writer: Writer(writer),
        program,
        taken: ClockReading {
            clock,
            wall,
            boottime,
            boot_id,
        },
        sketches,
    };
    Ok((head, summary))
}

/// Reads a whole file and believes none of it before its end.
pub fn check(file: &mut dyn Read) -> Result<SnapshotFileSummary, SnapshotFileError> {
    read(file, &mut |_, _, _| {}, &mut |_, _| {}).map(|(_, summary)| summary)
}

/// How a file is loaded.
#[derive(Debug, Clone)]
pub struct LoadOptions {
    /// Our node.
    pub node: u64,
    /// Now.
    pub now: ClockReading,
    /// How long the machine is up.
    pub uptime: Duration,
    /// The mark of a clean end, if it is gone durably.
    pub resume: Option<CleanMark>,
}

/// Why a sketch was left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SkipReason {
    /// It is not here any more.
    #[error("it is not here any more")]
    NotHere,
    /// Its size is another.
    #[error("its size is another")]
    Geometry,
}

/// What was loaded.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Loaded {
    /// Time since it was taken.
    pub elapsed: Duration,
    /// Sketches that were left out.
    pub skipped: Vec<(String, SkipReason)>,
    /// Slices.
    pub slices: usize,
    /// Their weight.
    pub weight: u64,
    /// Whether our own slices go on.
    pub is_resumed: bool,
}

/// Loads a file that was checked.
pub fn load(
    file: &mut dyn Read,
    into: &mut [Slices],
    options: &LoadOptions,
    extra: &mut dyn FnMut(ExtraKind, &[u8]),
) -> Result<Loaded, SnapshotFileError> {
    let now = options.now.clock;
    let is_resumed = options.resume.is_some();
    for slices in into.iter_mut() {
        let _ = slices.begin_restore(&SavedMarks::default(), now, is_resumed);
    }
    let mut count = 0;
    let young = GroupAges {
        fold: rmbd_proto::cluster::Fold::NONE,
        marks: &[],
        increments: &[],
    };
    let mut merge = |slice: SliceId, version, cells: &mut dyn Iterator<Item = (u32, u64)>| {
        let sketch = |slices: &&mut Slices| slices.own_slice().sketch == slice.sketch;
        let Some(slices) = into.iter_mut().find(sketch) else {
            return;
        };
        count += 1;
        for (index, value) in cells {
            let cell = std::iter::once((index, value));
            let _ = slices.restore(&slice, index / 128, cell, &young);
        }
        slices.restore_complete(&slice, version);
    };
    let (head, _) = read(file, &mut merge, extra)?;
    into.iter_mut().for_each(Slices::end_restore);
    if head.node != options.node {
        return Err(SnapshotFileError::OtherNode { node: head.node });
    }
    Ok(Loaded {
        elapsed: options.now.wall.saturating_sub(head.taken.wall),
        skipped: Vec::new(),
        slices: count,
        weight: into.iter().map(Slices::weight).sum(),
        is_resumed,
    })
}
