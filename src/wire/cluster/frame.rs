//! Frames: reading them, and writing them.

use std::iter::FusedIterator;
use std::ops::RangeInclusive;

use super::{
    Cells, CellsWriter, GroupsReader, GroupsWriter, Reader, SliceId, gap_after, write_entry,
    write_slice,
};
use crate::wire::{SketchNumber, Writer, varint};

const ACK: u8 = 1;
const CELLS: u8 = 2;
const GROUPS: u8 = 3;
const COMPLETE: u8 = 4;
const DIGEST: u8 = 5;
const DIGEST_ASKED: u8 = 6;
const SECTIONS_ASKED: u8 = 7;
const SECTIONS: u8 = 8;
const GROUP_HASHES_ASKED: u8 = 9;
const GROUP_HASHES: u8 = 10;
const PULL: u8 = 11;
const MEMBERSHIP: u8 = 12;
const CATALOGUE_ASKED: u8 = 13;
const CATALOGUE: u8 = 14;
const CONTACT: u8 = 15;
const CONTACT_ANSWERED: u8 = 16;
const NOT_HELD: u8 = 17;
const ABOUT: u8 = 18;

/// Of an about: the receiver is asked for its own.
const ASKS: u8 = 1;
/// Sketches that an about tells of at most: they fit a datagram together.
pub const SKETCHES_TOLD_MAX: usize = 64;

/// Bytes of a frame before its body.
const HEAD_BYTES: usize = 3;

/// A frame, borrowed from its datagram. Lists are read as they are gone through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Frame<'a> {
    /// Packets of the receiver's channel that have arrived.
    Ack { channel: u64, ranges: AckRanges<'a> },
    /// Cells of a slice, as they are now.
    Cells { slice: SliceId, cells: Cells<'a> },
    /// Whole groups of a slice, as they are now, and the version that was complete when they were read.
    Groups {
        slice: SliceId,
        version: u64,
        groups: GroupsReader<'a>,
    },
    /// Who has all of the slice until version `base` now has all until `version`.
    Complete {
        slice: SliceId,
        base: u64,
        version: u64,
    },
    /// What the sender has.
    Digest { entries: Entries<'a> },
    /// The receiver is asked for its digest.
    DigestAsked,
    /// The receiver is asked for the hashes of all sections from this one on, as many as fit.
    SectionsAsked { slice: SliceId, first: u32 },
    /// Hashes of sections, and the version that was complete when they were read.
    Sections {
        slice: SliceId,
        version: u64,
        first: u32,
        hashes: Hashes<'a>,
    },
    /// The receiver is asked for the hashes of a section's groups.
    GroupHashesAsked { slice: SliceId, section: u32 },
    /// They, and the version that was complete when they were read.
    GroupHashes {
        slice: SliceId,
        version: u64,
        section: u32,
        hashes: Hashes<'a>,
    },
    /// The receiver is asked for groups.
    Pull {
        slice: SliceId,
        groups: GroupRanges<'a>,
    },
    /// A message of the membership protocol.
    Membership { message: &'a [u8] },
    /// The receiver is asked for a page of its catalogue: the lines from this one on, as many as fit.
    CatalogueAsked { first: u32 },
    /// Lines of all that the sender holds, from line `first` of `total` on. Lines keep their places.
    Catalogue {
        first: u32,
        total: u32,
        entries: Entries<'a>,
    },
    /// Whoever is at this address is asked which start it is.
    Contact { purpose: Purpose },
    /// A contact's answer; the boots stand around it.
    ContactAnswered { purpose: Purpose },
    /// The sender has no room for this slice.
    NotHeld { slice: SliceId },
    /// Who writes the sender's slices, and which sketches it has; it may want to know the same of the receiver.
    About {
        asks: bool,
        writer: Writer,
        sketches: SketchEntries<'a>,
    },
    /// Something of a slice of a sketch that is not there.
    UnknownSketch { slice: SliceId },
}

impl Frame<'_> {
    /// The slice that it is about, where it is about one.
    #[must_use]
    pub fn slice(&self) -> Option<SliceId> {
        match *self {
            Self::Cells { slice, .. }
            | Self::Groups { slice, .. }
            | Self::Complete { slice, .. }
            | Self::SectionsAsked { slice, .. }
            | Self::Sections { slice, .. }
            | Self::GroupHashesAsked { slice, .. }
            | Self::GroupHashes { slice, .. }
            | Self::Pull { slice, .. }
            | Self::NotHeld { slice }
            | Self::UnknownSketch { slice } => Some(slice),
            Self::Ack { .. }
            | Self::Digest { .. }
            | Self::DigestAsked
            | Self::Membership { .. }
            | Self::CatalogueAsked { .. }
            | Self::Catalogue { .. }
            | Self::Contact { .. }
            | Self::ContactAnswered { .. }
            | Self::About { .. } => None,
        }
    }
}

/// What somebody is contacted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To be members of one cluster.
    Membership,
    /// To push to it one way.
    OneWay,
}

impl Purpose {
    fn read(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::Membership),
            1 => Some(Self::OneWay),
            _ => None,
        }
    }

    fn byte(self) -> u8 {
        match self {
            Self::Membership => 0,
            Self::OneWay => 1,
        }
    }
}

/// A line of a digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DigestEntry {
    /// Which slice.
    pub slice: SliceId,
    /// The sender has all of it until here.
    pub version: u64,
    /// Hash of all its cells.
    pub root: u64,
}

/// A sketch that the sender of an about has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SketchEntry {
    /// Which.
    pub number: SketchNumber,
    /// Equal where its name, width, depth, hash and hash seed are.
    pub fingerprint: u64,
}

/// The frames of a payload behind its head. `cells` says how many cells a sketch has, `None` for one that is not
/// there. An `Err` is the last item.
pub fn frames<C: Fn(SketchNumber) -> Option<u32>>(rest: &[u8], cells: C) -> Frames<'_, C> {
    Frames {
        reader: Reader { rest },
        cells,
    }
}

/// Iterates over frames; made by [`frames`].
pub struct Frames<'a, C> {
    reader: Reader<'a>,
    cells: C,
}

impl<C> std::fmt::Debug for Frames<'_, C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Frames").field(&self.reader).finish()
    }
}

impl<C> Frames<'_, C> {
    /// Bytes that have not been read.
    #[must_use]
    pub fn unread(&self) -> usize {
        self.reader.rest.len()
    }
}

/// A frame that cannot be read; what came before it stands, what comes behind it is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a frame of type {kind} is malformed: it and what is behind it were dropped")]
pub struct MalformedFrame {
    /// Its type.
    pub kind: u8,
}

impl<'a, C: Fn(SketchNumber) -> Option<u32>> Iterator for Frames<'a, C> {
    type Item = Result<Frame<'a>, MalformedFrame>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let kind = self.reader.byte()?;
            let length = self.reader.u16().map(usize::from);
            let body = length.and_then(|length| self.reader.bytes(length));
            let frame = body.map(|rest| parse(kind, Reader { rest }, &self.cells));
            match frame {
                Some(Parsed::Known(frame)) => return Some(Ok(frame)),
                Some(Parsed::Unknown) => {}
                Some(Parsed::Malformed) | None => {
                    self.reader.rest = &[];
                    return Some(Err(MalformedFrame { kind }));
                }
            }
        }
    }
}

impl<C: Fn(SketchNumber) -> Option<u32>> FusedIterator for Frames<'_, C> {}

enum Parsed<'a> {
    Known(Frame<'a>),
    Unknown,
    Malformed,
}

fn parse(kind: u8, reader: Reader<'_>, cells: impl Fn(SketchNumber) -> Option<u32>) -> Parsed<'_> {
    let frame = match kind {
        CONTACT | CONTACT_ANSWERED => return contact(kind, reader),
        CELLS | GROUPS | COMPLETE | PULL | NOT_HELD => of_slice(kind, reader, cells),
        SECTIONS_ASKED | SECTIONS | GROUP_HASHES_ASKED | GROUP_HASHES => {
            of_slice(kind, reader, cells)
        }
        ACK..=ABOUT => of_no_slice(kind, reader),
        _ => return Parsed::Unknown,
    };
    frame.map_or(Parsed::Malformed, Parsed::Known)
}

/// A purpose of a later release is none that is known.
fn contact(kind: u8, mut reader: Reader<'_>) -> Parsed<'_> {
    let Some(purpose) = reader.byte() else {
        return Parsed::Malformed;
    };
    match Purpose::read(purpose) {
        Some(purpose) if kind == CONTACT => Parsed::Known(Frame::Contact { purpose }),
        Some(purpose) => Parsed::Known(Frame::ContactAnswered { purpose }),
        None => Parsed::Unknown,
    }
}

fn of_no_slice(kind: u8, mut reader: Reader<'_>) -> Option<Frame<'_>> {
    Some(match kind {
        ACK => Frame::Ack {
            channel: reader.u64()?,
            ranges: AckRanges {
                reader,
                below: None,
            },
        },
        DIGEST => Frame::Digest {
            entries: Entries { reader },
        },
        DIGEST_ASKED => Frame::DigestAsked,
        MEMBERSHIP => Frame::Membership {
            message: reader.rest,
        },
        CATALOGUE_ASKED => Frame::CatalogueAsked {
            first: reader.varint_u32()?,
        },
        CATALOGUE => Frame::Catalogue {
            first: reader.varint_u32()?,
            total: reader.varint_u32()?,
            entries: Entries { reader },
        },
        _ => Frame::About {
            asks: reader.byte()? & ASKS != 0,
            writer: Writer(reader.u64()?),
            sketches: SketchEntries {
                left: reader.varint()?,
                reader,
            },
        },
    })
}

fn of_slice(
    kind: u8,
    mut reader: Reader<'_>,
    cells: impl Fn(SketchNumber) -> Option<u32>,
) -> Option<Frame<'_>> {
    let slice = reader.slice()?;
    let Some(cells) = cells(slice.sketch) else {
        return Some(Frame::UnknownSketch { slice });
    };
    Some(match kind {
        CELLS => Frame::Cells {
            slice,
            cells: Cells::new(reader, cells),
        },
        GROUPS => Frame::Groups {
            slice,
            version: reader.varint()?,
            groups: GroupsReader::new(reader, cells),
        },
        COMPLETE => Frame::Complete {
            slice,
            base: reader.varint()?,
            version: reader.varint()?,
        },
        SECTIONS_ASKED => Frame::SectionsAsked {
            slice,
            first: reader.varint_u32()?,
        },
        SECTIONS => Frame::Sections {
            slice,
            version: reader.varint()?,
            first: reader.varint_u32()?,
            hashes: Hashes { reader },
        },
        GROUP_HASHES_ASKED => Frame::GroupHashesAsked {
            slice,
            section: reader.varint_u32()?,
        },
        GROUP_HASHES => Frame::GroupHashes {
            slice,
            version: reader.varint()?,
            section: reader.varint_u32()?,
            hashes: Hashes { reader },
        },
        NOT_HELD => Frame::NotHeld { slice },
        _ => Frame::Pull {
            slice,
            groups: GroupRanges {
                reader,
                before: None,
            },
        },
    })
}

/// Ranges of packet numbers, from the newest down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AckRanges<'a> {
    reader: Reader<'a>,
    /// The least number so far.
    below: Option<u64>,
}

impl AckRanges<'_> {
    fn read(&mut self) -> Option<RangeInclusive<u64>> {
        let number = self.reader.varint()?;
        let more = self.reader.varint()?;
        let last = match self.below {
            None => number,
            Some(below) => below.checked_sub(number)?.checked_sub(2)?,
        };
        let first = last.checked_sub(more)?;
        self.below = Some(first);
        Some(first..=last)
    }
}

impl Iterator for AckRanges<'_> {
    type Item = RangeInclusive<u64>;

    fn next(&mut self) -> Option<RangeInclusive<u64>> {
        let item = self.read();
        self.reader.end_at_none(item)
    }
}

impl FusedIterator for AckRanges<'_> {}

/// The lines of a digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entries<'a> {
    reader: Reader<'a>,
}

impl Entries<'_> {
    fn read(&mut self) -> Option<DigestEntry> {
        let mut line = self.reader.entry()?;
        Some(DigestEntry {
            slice: line.slice()?,
            version: line.varint()?,
            root: line.u64()?,
        })
    }
}

impl Iterator for Entries<'_> {
    type Item = DigestEntry;

    fn next(&mut self) -> Option<DigestEntry> {
        let item = self.read();
        self.reader.end_at_none(item)
    }
}

impl FusedIterator for Entries<'_> {}

/// The sketches of an about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SketchEntries<'a> {
    left: u64,
    reader: Reader<'a>,
}

impl SketchEntries<'_> {
    fn read(&mut self) -> Option<SketchEntry> {
        self.left = self.left.checked_sub(1)?;
        let mut entry = self.reader.entry()?;
        Some(SketchEntry {
            number: SketchNumber(entry.varint_u32()?),
            fingerprint: entry.u64()?,
        })
    }
}

impl Iterator for SketchEntries<'_> {
    type Item = SketchEntry;

    fn next(&mut self) -> Option<SketchEntry> {
        let item = self.read();
        self.reader.end_at_none(item)
    }
}

impl FusedIterator for SketchEntries<'_> {}

/// A list of hashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hashes<'a> {
    reader: Reader<'a>,
}

impl Iterator for Hashes<'_> {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        let hash = self.reader.u64();
        self.reader.end_at_none(hash)
    }
}

impl FusedIterator for Hashes<'_> {}

/// Ranges of groups, ascending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupRanges<'a> {
    reader: Reader<'a>,
    before: Option<u32>,
}

impl GroupRanges<'_> {
    fn read(&mut self) -> Option<RangeInclusive<u32>> {
        let first = self.reader.index_after(self.before)?;
        let last = first.checked_add(self.reader.varint_u32()?)?;
        self.before = Some(last);
        Some(first..=last)
    }
}

impl Iterator for GroupRanges<'_> {
    type Item = RangeInclusive<u32>;

    fn next(&mut self) -> Option<RangeInclusive<u32>> {
        let item = self.read();
        self.reader.end_at_none(item)
    }
}

impl FusedIterator for GroupRanges<'_> {}

/// Appends frames to a datagram, as long as it stays within a length.
///
/// Each call says whether there was room; where there was none, nothing has been written.
#[derive(Debug)]
pub struct FrameWriter<'o> {
    out: &'o mut Vec<u8>,
    limit: usize,
}

impl<'o> FrameWriter<'o> {
    /// Appends to `out`, whose length stays at most `limit`, itself at most 65 535.
    #[must_use]
    pub fn new(out: &'o mut Vec<u8>, limit: usize) -> Self {
        Self { out, limit }
    }

    /// Bytes that are left, frame heads included.
    #[must_use]
    pub fn room(&self) -> usize {
        self.limit.saturating_sub(self.out.len())
    }

    /// Ranges that do not fit, or no longer ascend towards 0, are left out.
    pub fn ack(
        &mut self,
        channel: u64,
        newest_first: impl IntoIterator<Item = RangeInclusive<u64>>,
    ) -> bool {
        self.frame(ACK, |out, limit| {
            out.extend(channel.to_le_bytes());
            let mut below: Option<u64> = None;
            for range in newest_first {
                let (first, last) = range.into_inner();
                let number = match below {
                    None => last,
                    Some(below) => below.saturating_sub(last).saturating_sub(2),
                };
                let bytes = varint::bytes(number) + varint::bytes(last - first);
                if out.len() + bytes > limit {
                    break;
                }
                varint::write(number, out);
                varint::write(last - first, out);
                below = Some(first);
            }
        })
    }

    /// A frame of cells, which `fill` appends; left out where it appends none.
    pub fn cells(&mut self, slice: &SliceId, fill: impl FnOnce(&mut CellsWriter<'_>)) -> bool {
        self.list(CELLS, slice, |out, limit| {
            let mut writer = CellsWriter {
                out,
                limit,
                before: None,
            };
            fill(&mut writer);
            writer.before.is_some()
        })
    }

    /// A frame of groups, which `fill` appends; left out where it appends none.
    pub fn groups(
        &mut self,
        slice: &SliceId,
        version: u64,
        fill: impl FnOnce(&mut GroupsWriter<'_>),
    ) -> bool {
        self.list(GROUPS, slice, |out, limit| {
            varint::write(version, out);
            let mut writer = GroupsWriter {
                out,
                limit,
                before: None,
            };
            fill(&mut writer);
            writer.before.is_some()
        })
    }

    #[allow(missing_docs)]
    pub fn complete(&mut self, slice: &SliceId, base: u64, version: u64) -> bool {
        self.frame(COMPLETE, |out, _| {
            write_slice(slice, out);
            varint::write(base, out);
            varint::write(version, out);
        })
    }

    /// As many of the entries as fit; says how many.
    pub fn digest(&mut self, entries: impl IntoIterator<Item = DigestEntry>) -> usize {
        let mut written = 0;
        self.frame(DIGEST, |out, limit| {
            written = write_entries(entries, out, limit);
        });
        written
    }

    /// As many of the entries as fit, which are the lines from `first` of `total` on; says how many.
    pub fn catalogue(
        &mut self,
        first: u32,
        total: u32,
        entries: impl IntoIterator<Item = DigestEntry>,
    ) -> usize {
        let mut written = 0;
        self.frame(CATALOGUE, |out, limit| {
            varint::write(first.into(), out);
            varint::write(total.into(), out);
            written = write_entries(entries, out, limit);
        });
        written
    }

    #[allow(missing_docs)]
    pub fn catalogue_asked(&mut self, first: u32) -> bool {
        self.frame(CATALOGUE_ASKED, |out, _| varint::write(first.into(), out))
    }

    /// What the sender tells of itself, and whether it asks for the same; of at most [`SKETCHES_TOLD_MAX`] sketches.
    pub fn about(&mut self, asks: bool, writer: Writer, sketches: &[SketchEntry]) -> bool {
        let sketches = &sketches[..sketches.len().min(SKETCHES_TOLD_MAX)];
        self.frame(ABOUT, |out, _| {
            out.push(if asks { ASKS } else { 0 });
            out.extend(writer.0.to_le_bytes());
            varint::write(sketches.len() as u64, out);
            for sketch in sketches {
                write_entry(out, |out| {
                    varint::write(sketch.number.0.into(), out);
                    out.extend(sketch.fingerprint.to_le_bytes());
                });
            }
        })
    }

    #[allow(missing_docs)]
    pub fn contact(&mut self, purpose: Purpose) -> bool {
        self.frame(CONTACT, |out, _| out.push(purpose.byte()))
    }

    #[allow(missing_docs)]
    pub fn contact_answered(&mut self, purpose: Purpose) -> bool {
        self.frame(CONTACT_ANSWERED, |out, _| out.push(purpose.byte()))
    }

    #[allow(missing_docs)]
    pub fn not_held(&mut self, slice: &SliceId) -> bool {
        self.frame(NOT_HELD, |out, _| write_slice(slice, out))
    }

    #[allow(missing_docs)]
    pub fn digest_asked(&mut self) -> bool {
        self.frame(DIGEST_ASKED, |_, _| {})
    }

    #[allow(missing_docs)]
    pub fn sections_asked(&mut self, slice: &SliceId, first: u32) -> bool {
        self.frame(SECTIONS_ASKED, |out, _| {
            write_slice(slice, out);
            varint::write(first.into(), out);
        })
    }

    /// `hashes` are those from `first` on; as many as fit are written.
    pub fn sections(&mut self, slice: &SliceId, version: u64, first: u32, hashes: &[u64]) -> bool {
        self.frame(SECTIONS, |out, limit| {
            write_slice(slice, out);
            varint::write(version, out);
            varint::write(first.into(), out);
            write_hashes(hashes, out, limit);
        })
    }

    #[allow(missing_docs)]
    pub fn group_hashes_asked(&mut self, slice: &SliceId, section: u32) -> bool {
        self.frame(GROUP_HASHES_ASKED, |out, _| {
            write_slice(slice, out);
            varint::write(section.into(), out);
        })
    }

    /// All hashes of a section, which fit where the datagram is empty.
    pub fn group_hashes(
        &mut self,
        slice: &SliceId,
        version: u64,
        section: u32,
        hashes: &[u64],
    ) -> bool {
        self.frame(GROUP_HASHES, |out, _| {
            write_slice(slice, out);
            varint::write(version, out);
            varint::write(section.into(), out);
            write_hashes(hashes, out, usize::MAX);
        })
    }

    /// Asks for groups, given ascending; ranges that do not fit are left out. Says how many groups
    /// were written.
    pub fn pull(&mut self, slice: &SliceId, groups: impl IntoIterator<Item = u32>) -> usize {
        let mut written = 0;
        self.frame(PULL, |out, limit| {
            write_slice(slice, out);
            let mut groups = groups.into_iter().peekable();
            let mut before = None;
            while let Some(first) = groups.next() {
                let mut last = first;
                while groups.next_if_eq(&(last + 1)).is_some() {
                    last += 1;
                }
                let gap = gap_after(before, first);
                let more = u64::from(last - first);
                if out.len() + varint::bytes(gap) + varint::bytes(more) > limit {
                    break;
                }
                varint::write(gap, out);
                varint::write(more, out);
                before = Some(last);
                written += (last - first) as usize + 1;
            }
        });
        written
    }

    #[allow(missing_docs)]
    pub fn membership(&mut self, message: &[u8]) -> bool {
        self.frame(MEMBERSHIP, |out, _| out.extend(message))
    }

    fn list(
        &mut self,
        kind: u8,
        slice: &SliceId,
        fill: impl FnOnce(&mut Vec<u8>, usize) -> bool,
    ) -> bool {
        let start = self.out.len();
        let mut has_any = false;
        let fits = self.frame(kind, |out, limit| {
            write_slice(slice, out);
            if out.len() <= limit {
                has_any = fill(out, limit);
            }
        });
        if !has_any {
            self.out.truncate(start);
        }
        fits && has_any
    }

    /// Writes a frame, or takes it back where it went over the limit.
    fn frame(&mut self, kind: u8, body: impl FnOnce(&mut Vec<u8>, usize)) -> bool {
        let start = self.out.len();
        self.out.extend([kind, 0, 0]);
        body(self.out, self.limit);
        let length = self.out.len() - start - HEAD_BYTES;
        let Ok(length) = u16::try_from(length) else {
            self.out.truncate(start);
            return false;
        };
        if self.out.len() > self.limit {
            self.out.truncate(start);
            return false;
        }
        self.out[start + 1..start + HEAD_BYTES].copy_from_slice(&length.to_le_bytes());
        true
    }
}

fn write_entries(
    entries: impl IntoIterator<Item = DigestEntry>,
    out: &mut Vec<u8>,
    limit: usize,
) -> usize {
    let mut written = 0;
    for entry in entries {
        let start = out.len();
        write_entry(out, |out| {
            write_slice(&entry.slice, out);
            varint::write(entry.version, out);
            out.extend(entry.root.to_le_bytes());
        });
        if out.len() > limit {
            out.truncate(start);
            break;
        }
        written += 1;
    }
    written
}

fn write_hashes(hashes: &[u64], out: &mut Vec<u8>, limit: usize) {
    let fit = limit.saturating_sub(out.len()) / 8;
    for hash in &hashes[..hashes.len().min(fit)] {
        out.extend(hash.to_le_bytes());
    }
}
