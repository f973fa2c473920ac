//! Reading a file, block by block, and checking it as a whole.

use std::collections::BTreeSet;
use std::io::{ErrorKind, Read};

use rmbd_proto::cluster::SliceId;
use rmbd_proto::snapshot_file::{
    BLOCK_HEAD_BYTES, BLOCK_TAIL_BYTES, BlockHead, FILE_MAGIC, FORMAT, FileHead, GroupsBlock, Kind,
    SavedGroup, SketchBlock, SliceBlock, read_end,
};
use rmbd_proto::{Boot, Writer};
use serde::{Serialize, Serializer};

use crate::SnapshotFileError;

/// What a file holds, as JSON shows it. Numbers that name something are texts of 16 hexadecimal digits there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SnapshotFileSummary {
    /// The number of the file; random.
    #[serde(serialize_with = "name")]
    pub file: u64,
    /// The node that wrote it.
    #[serde(serialize_with = "name")]
    pub node: u64,
    /// The start of that node.
    pub boot: Boot,
    /// The writer of the node's own slices.
    pub writer: Writer,
    /// The version of the program.
    pub program: String,
    /// When it was begun, in milliseconds since 1970.
    pub wall_ms: u64,
    /// Bytes of the file.
    pub bytes: u64,
    /// Its sketches.
    pub sketches: Vec<SavedSketch>,
    /// Bytes about clients of exactly-once requests; 0 where the node did not come to a clean end.
    pub clients_bytes: u64,
    /// When the last group was read, by the clock that the head tells of.
    #[serde(skip)]
    pub last_ns: i64,
    /// Everything that the head says.
    #[serde(skip)]
    pub head: FileHead,
}

/// A sketch of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SavedSketch {
    /// Its name.
    pub name: String,
    /// Its number.
    pub number: u32,
    /// What tells that two sketches count alike.
    #[serde(serialize_with = "name")]
    pub fingerprint: u64,
    /// Number of its cells.
    pub cells: u32,
    /// Slices, our own first.
    pub slices: Vec<SavedSlice>,
}

/// A slice of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct SavedSlice {
    /// The node that counted it.
    #[serde(serialize_with = "name")]
    pub node: u64,
    /// The writer of that node.
    pub writer: Writer,
    /// The version until which it is complete.
    pub version: u64,
    /// What was added to it.
    pub weight: u64,
    /// Groups of 128 cells that are not zero.
    pub groups: u64,
}

/// Writes a number that names something as [`Boot`] and [`Writer`] write themselves.
fn name<S: Serializer>(number: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{number:016x}"))
}

/// Reads a whole file. None of it counts before all of it was read.
///
/// # Errors
/// Fails as [`SnapshotFileError`] says.
pub fn check(file: &mut dyn Read) -> Result<SnapshotFileSummary, SnapshotFileError> {
    let mut reader = FileReader::begin(file, FILE_MAGIC)?;
    let mut checked = Checked::new(reader.head.clone());
    while let Some(block) = reader.next()? {
        checked.take(&block)?;
    }
    Ok(SnapshotFileSummary {
        bytes: reader.bytes,
        ..checked.summary
    })
}

/// A block of a file, and where it begins.
pub(crate) struct FileBlock<'a> {
    pub(crate) at: u64,
    pub(crate) kind: Kind,
    pub(crate) content: &'a [u8],
}

impl FileBlock<'_> {
    pub(crate) fn malformed(&self) -> SnapshotFileError {
        SnapshotFileError::Malformed { at: self.at }
    }
}

/// Reads blocks. The first one is the head, the last one the end.
pub(crate) struct FileReader<'f> {
    file: &'f mut dyn Read,
    pub(crate) head: FileHead,
    bytes: u64,
    blocks: u64,
    content: Vec<u8>,
}

impl<'f> FileReader<'f> {
    /// Reads the first bytes, which must be these, and the head.
    pub(crate) fn begin(
        file: &'f mut dyn Read,
        magic: [u8; FILE_MAGIC.len()],
    ) -> Result<Self, SnapshotFileError> {
        let mut reader = Self {
            file,
            head: FileHead::default(),
            bytes: 0,
            blocks: 0,
            content: Vec::new(),
        };
        let mut first = [0; FILE_MAGIC.len()];
        reader.fill(&mut first)?;
        if first != magic {
            return Err(SnapshotFileError::Magic);
        }
        let head = reader.next()?.ok_or(SnapshotFileError::Magic)?;
        if head.kind != Kind::Head {
            return Err(head.malformed());
        }
        let read = FileHead::read(head.content).map_err(|_| head.malformed())?;
        if read.format > FORMAT {
            return Err(SnapshotFileError::LaterFormat(read.format));
        }
        reader.head = read;
        Ok(reader)
    }

    /// The next block; `None` behind the end, where the file must end, too.
    pub(crate) fn next(&mut self) -> Result<Option<FileBlock<'_>>, SnapshotFileError> {
        let (at, number) = (self.bytes, self.blocks);
        let broken = |source| SnapshotFileError::Block { at, source };
        let mut head = [0; BLOCK_HEAD_BYTES];
        self.fill(&mut head)?;
        let head = BlockHead::of(head);
        let mut content = std::mem::take(&mut self.content);
        content.resize(head.content_bytes().map_err(broken)?, 0);
        let filled = self.fill(&mut content);
        self.content = content;
        filled?;
        let mut hash = [0; BLOCK_TAIL_BYTES];
        self.fill(&mut hash)?;
        self.blocks += 1;
        let kind = {
            let block = head.check(number, &self.content, hash);
            block.map_err(broken)?.kind
        };
        if kind == Kind::End {
            if read_end(&self.content) != Ok(number) {
                return Err(SnapshotFileError::Malformed { at });
            }
            self.expect_nothing()?;
            return Ok(None);
        }
        Ok(Some(FileBlock {
            at,
            kind,
            content: &self.content,
        }))
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), SnapshotFileError> {
        let mut filled = 0;
        while filled < bytes.len() {
            match self.file.read(&mut bytes[filled..]) {
                Ok(0) => {
                    let bytes = self.bytes + filled as u64;
                    return Err(SnapshotFileError::CutOff { bytes });
                }
                Ok(more) => filled += more,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.bytes += filled as u64;
        Ok(())
    }

    fn expect_nothing(&mut self) -> Result<(), SnapshotFileError> {
        let at = self.bytes;
        match self.fill(&mut [0]) {
            Err(SnapshotFileError::CutOff { .. }) => Ok(()),
            Err(error) => Err(error),
            Ok(()) => Err(SnapshotFileError::Rest { at }),
        }
    }
}

/// What was read so far, and whether blocks stand where they may.
struct Checked {
    summary: SnapshotFileSummary,
    /// The slice whose groups come now, how many there were, and the next one that may come.
    open: Option<(SliceId, u64, u32)>,
    ended: BTreeSet<SliceId>,
    group: SavedGroup,
}

impl Checked {
    fn new(head: FileHead) -> Self {
        let summary = SnapshotFileSummary {
            file: head.file,
            node: head.node,
            boot: head.boot,
            writer: head.writer,
            program: head.program.clone(),
            wall_ms: head.wall_ms,
            bytes: 0,
            sketches: Vec::new(),
            clients_bytes: 0,
            last_ns: head.time_ns,
            head,
        };
        Self {
            summary,
            open: None,
            ended: BTreeSet::new(),
            group: SavedGroup::default(),
        }
    }

    fn take(&mut self, block: &FileBlock<'_>) -> Result<(), SnapshotFileError> {
        let is_taken = match block.kind {
            Kind::Sketch => self.take_sketch(block.content),
            Kind::Groups => self.take_groups(block.content),
            Kind::Slice => self.take_slice(block.content),
            Kind::Clients => {
                self.summary.clients_bytes += block.content.len() as u64;
                self.open.is_none()
            }
            Kind::Boots => self.open.is_none(),
            Kind::Top | Kind::Other(_) => true,
            Kind::Head | Kind::End | Kind::Renamed => false,
        };
        is_taken.then_some(()).ok_or_else(|| block.malformed())
    }

    fn take_sketch(&mut self, content: &[u8]) -> bool {
        let Ok(sketch) = SketchBlock::read(content) else {
            return false;
        };
        let mut all = self.summary.sketches.iter();
        let is_new = !all.any(|known| known.number == sketch.number.0);
        self.summary.sketches.push(SavedSketch {
            name: sketch.name,
            number: sketch.number.0,
            fingerprint: sketch.fingerprint,
            cells: sketch.cells,
            slices: Vec::new(),
        });
        is_new && self.open.is_none()
    }

    fn take_groups(&mut self, content: &[u8]) -> bool {
        let Ok(mut groups) = GroupsBlock::read(content) else {
            return false;
        };
        let slice = groups.slice;
        self.summary.last_ns = self.summary.last_ns.max(groups.time_ns);
        let (open, mut count, mut next) = self.open.unwrap_or((slice, 0, 0));
        let Some(cells) = self.cells(&slice).filter(|_| open == slice) else {
            return false;
        };
        loop {
            match groups.next_group(cells, &mut self.group) {
                Ok(Some(group)) if group >= next => (count, next) = (count + 1, group + 1),
                Ok(None) => break,
                Ok(Some(_)) | Err(_) => return false,
            }
        }
        self.open = Some((slice, count, next));
        true
    }

    fn take_slice(&mut self, content: &[u8]) -> bool {
        let Ok(read) = SliceBlock::read(content) else {
            return false;
        };
        let slice = read.slice;
        let (open, groups, _) = self.open.take().unwrap_or((slice, 0, 0));
        let is_first = self.ended.insert(slice);
        let sketch = self.sketch(&slice);
        let is_known = sketch.map(|sketch| {
            sketch.slices.push(SavedSlice {
                node: slice.node,
                writer: slice.writer,
                version: read.version,
                weight: read.weight,
                groups,
            });
        });
        is_known.is_some() && is_first && open == slice
    }

    /// Cells of a slice that has not ended.
    fn cells(&mut self, slice: &SliceId) -> Option<u32> {
        if self.ended.contains(slice) {
            return None;
        }
        self.sketch(slice).map(|sketch| sketch.cells)
    }

    /// The sketch of a slice, which is the one that was named last.
    fn sketch(&mut self, slice: &SliceId) -> Option<&mut SavedSketch> {
        let last = self.summary.sketches.last_mut();
        last.filter(|sketch| sketch.number == slice.sketch.0)
    }
}
