//! The mark of a clean end.

use rmbd_proto::snapshot_file::{
    FileHead, Kind, MARK_MAGIC, SliceBlock, begin_block, end_block, write_end,
};
use rmbd_proto::{SketchNumber, Writer};

use crate::reading::FileReader;
use crate::{Saved, SnapshotFileError, SnapshotFileSummary};
use rmbd_proto::cluster::SliceId;

/// What a node leaves that came to a clean end: all that it ever counted as this writer is in its last file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CleanMark {
    /// What the head of that file says.
    pub head: FileHead,
    /// Our own slices, with the version that each had.
    pub versions: Vec<(SliceId, u64)>,
    /// Whether anybody may have heard of these slices. If nobody has, what goes on from them has a new name, so that
    /// nobody need be asked about the old one.
    pub is_told: bool,
    /// A start has gone on from these slices as this writer: they are the beginning of its slices, and it may be any
    /// end to which it came.
    pub renamed: Option<Writer>,
}

impl CleanMark {
    /// The mark that belongs to a file; `is_told`: somebody may have heard of our own slices.
    #[must_use]
    pub fn of(saved: &Saved, is_told: bool) -> Self {
        Self {
            head: saved.head.clone(),
            versions: saved.own.clone(),
            is_told,
            renamed: None,
        }
    }

    /// The bytes of the mark's file.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = MARK_MAGIC.to_vec();
        let mut blocks = 0;
        let mut block = |kind, write: &dyn Fn(&mut Vec<u8>)| {
            let start = begin_block(kind, &mut out);
            write(&mut out);
            end_block(start, blocks, &mut out);
            blocks += 1;
            blocks
        };
        let mut written = block(Kind::Head, &|out| self.head.write(out));
        for &(slice, version) in &self.versions {
            let slice = SliceBlock {
                slice,
                version,
                weight: self.is_told.into(),
            };
            written = block(Kind::Slice, &|out| slice.write(out));
        }
        if let Some(Writer(writer)) = self.renamed {
            written = block(Kind::Renamed, &|out| out.extend(writer.to_le_bytes()));
        }
        block(Kind::End, &|out| write_end(written, out));
        out
    }

    /// Reads the bytes of a mark's file.
    ///
    /// # Errors
    /// Fails as [`SnapshotFileError`] says.
    pub fn decode(mut bytes: &[u8]) -> Result<Self, SnapshotFileError> {
        let mut reader = FileReader::begin(&mut bytes, MARK_MAGIC)?;
        let mut mark = Self {
            head: reader.head.clone(),
            versions: Vec::new(),
            is_told: false,
            renamed: None,
        };
        while let Some(block) = reader.next()? {
            match block.kind {
                Kind::Slice => {
                    let slice = SliceBlock::read(block.content).map_err(|_| block.malformed())?;
                    mark.versions.push((slice.slice, slice.version));
                    mark.is_told |= slice.weight > 0;
                }
                Kind::Renamed => {
                    let writer = block.content.first_chunk();
                    let writer = writer.ok_or_else(|| block.malformed())?;
                    mark.renamed = Some(Writer(u64::from_le_bytes(*writer)));
                }
                Kind::Top | Kind::Other(_) => {}
                _ => return Err(block.malformed()),
            }
        }
        Ok(mark)
    }
}

/// Whether a node with these sketches, each with its fingerprint, goes on as the writer of a file: the mark belongs to
/// the file, and the file has each of the sketches. A sketch that the file lacks may have been here before, and what
/// the writer counted in it then may be with others; so the node would be a new writer.
///
/// The mark must be gone from the disk before the node serves: otherwise a later start could go on from the same file
/// once more.
#[must_use]
pub(crate) fn may_resume(
    mark: &CleanMark,
    file: &SnapshotFileSummary,
    sketches: impl IntoIterator<Item = (SketchNumber, u64)>,
) -> bool {
    let is_first = mark.renamed.is_none();
    let is_of_file = is_first && mark.head == file.head && file.head.writer != Writer(0);
    let has = |(number, fingerprint): (SketchNumber, u64)| {
        let own = SliceId {
            sketch: number,
            node: file.head.node,
            writer: file.head.writer,
        };
        let saved = (file.sketches.iter())
            .find(|saved| (saved.number, saved.fingerprint) == (number.0, fingerprint));
        let own_saved = saved.and_then(|saved| {
            let mut slices = saved.slices.iter();
            slices.find(|slice| (slice.node, slice.writer) == (own.node, own.writer))
        });
        own_saved.is_some_and(|saved| mark.versions.contains(&(own, saved.version)))
    };
    is_of_file && sketches.into_iter().all(has)
}
