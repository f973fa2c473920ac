//! The mark of a clean end.

use rmbd_proto::snapshot_file::{
    BLOCK_HEAD_BYTES, BLOCK_TAIL_BYTES, BlockHead, FORMAT, FileHead, Kind, MARK_MAGIC, SliceBlock,
    begin_block, end_block,
};
use rmbd_proto::{SketchNumber, Writer};

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
        let start = begin_block(Kind::Head, &mut out);
        self.head.write(&mut out);
        end_block(start, 0, &mut out);
        for (number, &(slice, version)) in (1..).zip(&self.versions) {
            let start = begin_block(Kind::Slice, &mut out);
            let block = SliceBlock {
                slice,
                version,
                weight: self.is_told.into(),
            };
            block.write(&mut out);
            end_block(start, number, &mut out);
        }
        if let Some(Writer(writer)) = self.renamed {
            let start = begin_block(Kind::Renamed, &mut out);
            out.extend(writer.to_le_bytes());
            end_block(start, 1 + self.versions.len() as u64, &mut out);
        }
        out
    }

    /// Reads the bytes of a mark's file.
    ///
    /// # Errors
    /// Fails as [`SnapshotFileError`] says.
    pub fn decode(bytes: &[u8]) -> Result<Self, SnapshotFileError> {
        let mut rest = bytes
            .strip_prefix(&MARK_MAGIC)
            .ok_or(SnapshotFileError::Magic)?;
        let (mut head, mut versions, mut number) = (None, Vec::new(), 0);
        let (mut is_told, mut renamed) = (false, None);
        while !rest.is_empty() {
            let at = (bytes.len() - rest.len()) as u64;
            let malformed = || SnapshotFileError::Malformed { at };
            let (kind, content) = take_block(&mut rest, number, at)?;
            match (kind, &head) {
                (Kind::Head, None) => {
                    let read = FileHead::read(content).map_err(|_| malformed())?;
                    if read.format > FORMAT {
                        return Err(SnapshotFileError::LaterFormat(read.format));
                    }
                    head = Some(read);
                }
                (Kind::Slice, Some(_)) => {
                    let slice = SliceBlock::read(content).map_err(|_| malformed())?;
                    versions.push((slice.slice, slice.version));
                    is_told |= slice.weight > 0;
                }
                (Kind::Renamed, Some(_)) => {
                    let (writer, _) = content.split_first_chunk().ok_or_else(malformed)?;
                    renamed = Some(Writer(u64::from_le_bytes(*writer)));
                }
                (Kind::Other(_), Some(_)) => {}
                _ => return Err(malformed()),
            }
            number += 1;
        }
        let bytes = bytes.len() as u64;
        let head = head.ok_or(SnapshotFileError::CutOff { bytes })?;
        Ok(Self {
            head,
            versions,
            is_told,
            renamed,
        })
    }
}

fn take_block<'a>(
    rest: &mut &'a [u8],
    number: u64,
    at: u64,
) -> Result<(Kind, &'a [u8]), SnapshotFileError> {
    let broken = |source| SnapshotFileError::Block { at, source };
    let cut = || SnapshotFileError::CutOff {
        bytes: at + rest.len() as u64,
    };
    let (&head, behind) = rest
        .split_first_chunk::<BLOCK_HEAD_BYTES>()
        .ok_or_else(cut)?;
    let head = BlockHead::of(head);
    let length = head.content_bytes().map_err(broken)?;
    let (content, behind) = behind.split_at_checked(length).ok_or_else(cut)?;
    let (&hash, behind) = behind
        .split_first_chunk::<BLOCK_TAIL_BYTES>()
        .ok_or_else(cut)?;
    let kind = head.check(number, content, hash).map_err(broken)?.kind;
    *rest = behind;
    Ok((kind, content))
}

/// Whether a node with these sketches, each with its fingerprint, goes on as the writer of a file: the mark belongs to
/// the file, and the file has each of the sketches. A sketch that the file lacks may have been here before, and what
/// the writer counted in it then may be with others; so the node would be a new writer.
///
/// The mark must be gone from the disk before the node serves: otherwise a later start could go on from the same file
/// once more.
#[must_use]
pub fn may_resume(
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
            slices.find(|slice| (slice.node, slice.writer) == (own.node, own.writer.0))
        });
        own_saved.is_some_and(|saved| mark.versions.contains(&(own, saved.version)))
    };
    is_of_file && sketches.into_iter().all(has)
}
