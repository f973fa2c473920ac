//! The frames of a datagram, and reading them.

use std::iter::FusedIterator;
use std::ops::RangeInclusive;

use super::{
    AgedGroupsReader, Cells, GroupsReader, PardonEntries, PardonSums, SliceId, TopList, TopVersions,
};
use crate::reader::{ReadError, Reader};
use crate::{SketchNumber, Writer};

pub(super) const ACK: u8 = 1;
pub(super) const CELLS: u8 = 2;
pub(super) const GROUPS: u8 = 3;
pub(super) const COMPLETE: u8 = 4;
pub(super) const DIGEST: u8 = 5;
pub(super) const DIGEST_ASKED: u8 = 6;
pub(super) const SECTIONS_ASKED: u8 = 7;
pub(super) const SECTIONS: u8 = 8;
pub(super) const GROUP_HASHES_ASKED: u8 = 9;
pub(super) const GROUP_HASHES: u8 = 10;
pub(super) const PULL: u8 = 11;
pub(super) const MEMBERSHIP: u8 = 12;
pub(super) const CATALOGUE_ASKED: u8 = 13;
pub(super) const CATALOGUE: u8 = 14;
pub(super) const CONTACT: u8 = 15;
pub(super) const CONTACT_ANSWERED: u8 = 16;
pub(super) const NOT_HELD: u8 = 17;
pub(super) const ABOUT: u8 = 18;
pub(super) const SIBLINGS: u8 = 19;
pub(super) const BUCKETS_ASKED: u8 = 20;
pub(super) const BUCKETS: u8 = 21;
pub(super) const LINES_ASKED: u8 = 22;
pub(super) const WANTED: u8 = 23;
pub(super) const AGED_GROUPS: u8 = 24;
pub(super) const SKETCH_SUMS: u8 = 30;
pub(super) const SKETCH_ASKED: u8 = 31;
pub(super) const PARDONS: u8 = 32;
pub(super) const PARDON_SUMS: u8 = 33;
pub(super) const PARDONS_ASKED: u8 = 34;
pub(super) const TOP_SUM: u8 = 35;
pub(super) const TOP_OFFERED: u8 = 36;
pub(super) const TOP_ASKED: u8 = 37;
pub(super) const TOP: u8 = 38;
pub(super) const HISTORY: u8 = 39;

/// The flag of an about that asks the receiver for its own.
pub(super) const ASKS: u8 = 1;
/// The flag of a catalogue's page behind which there are more lines.
pub(super) const HAS_NEXT: u8 = 1;
/// Largest number of sketches of a node. Each has passes, digests and rounds of its own, and costs a data thread some
/// 100 KiB beside its cells.
pub const SKETCHES_MAX: usize = 256;
/// Largest number of sketches in one about, which fit a datagram together.
pub const SKETCHES_TOLD_MAX: usize = 64;

/// A frame, borrowed from its datagram. Lists are parsed while they are iterated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Frame<'a> {
    /// These packets of the receiver's channel have arrived.
    Ack { channel: u64, ranges: AckRanges<'a> },
    /// These are cells of a slice, as they are now.
    Cells { slice: SliceId, cells: Cells<'a> },
    /// These are whole groups of a slice, as they are now, and the version that was complete when they were read.
    Groups {
        slice: SliceId,
        version: u64,
        groups: GroupsReader<'a>,
    },
    /// A node that has all of the slice up to version `base` now has all of it up to `version`.
    Complete {
        slice: SliceId,
        base: u64,
        version: u64,
    },
    /// This has a line for each slice that the sender has.
    Digest { entries: Entries<'a> },
    /// The receiver is asked for its digest.
    DigestAsked,
    /// The receiver is asked for the hashes of all sections from this one on, as many as fit.
    SectionsAsked { slice: SliceId, first: u32 },
    /// These are hashes of sections, and the version that was complete when they were read.
    Sections {
        slice: SliceId,
        version: u64,
        first: u32,
        hashes: Hashes<'a>,
    },
    /// The receiver is asked for the hashes of a section's groups.
    GroupHashesAsked { slice: SliceId, section: u32 },
    /// These are the hashes of a section's groups, and the version that was complete when they were read.
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
    /// This is a message of the membership protocol.
    Membership { message: &'a [u8] },
    /// The receiver is asked for a page of its catalogue: the lines from this one on, as many as fit.
    CatalogueAsked { first: CatalogueLine },
    /// These are lines of the slices that the sender holds, from line `first` on, and the line from which on there are
    /// more. Lines keep their places.
    Catalogue {
        first: CatalogueLine,
        next: Option<CatalogueLine>,
        entries: Entries<'a>,
    },
    /// The process at this address is asked which start of a node it is.
    Contact { purpose: Purpose },
    /// This answers a contact. The boots stand around the frame.
    ContactAnswered { purpose: Purpose },
    /// The sender has no room for this slice.
    NotHeld { slice: SliceId },
    /// The sender had no room for this slice, and has some now.
    Wanted { slice: SliceId },
    /// These are lines about the slices that the sender has of each node, but for one slice.
    Siblings { entries: SiblingsEntries<'a> },
    /// The receiver is asked for the buckets of a slice's siblings.
    BucketsAsked { slice: SliceId },
    /// These are the [`SIBLING_BUCKETS`](super::SIBLING_BUCKETS) sums of the buckets of a slice's siblings.
    Buckets { slice: SliceId, sums: Hashes<'a> },
    /// The receiver is asked for the lines of a slice's siblings in some buckets (a bit for each), from one writer on
    /// to the last, and then from the lowest.
    LinesAsked {
        slice: SliceId,
        buckets: u64,
        first: Writer,
    },
    /// This tells the writer of the sender's slices, and of the `total` sketches that the sender has those from number
    /// `first` of its list on. It may ask the receiver for the same.
    About {
        asks: bool,
        writer: Writer,
        total: u32,
        first: u32,
        sketches: SketchEntries<'a>,
    },
    /// These are sums over all that the sender has of a sketch, for each of some sketches.
    SketchSums { sums: SketchSums<'a> },
    /// The receiver is asked for its digest of one sketch.
    SketchAsked { sketch: SketchNumber },
    /// These are whole groups of a slice, as they are now, with the ages of what they count, and the version that was
    /// complete when they were read.
    AgedGroups {
        slice: SliceId,
        version: u64,
        groups: AgedGroupsReader<'a>,
    },
    /// These are pardons, as they are now.
    Pardons { entries: PardonEntries<'a> },
    /// These are sums over the pardons that the sender has, for each bucket that has any.
    PardonSums { sums: PardonSums<'a> },
    /// The receiver is asked for its pardons of some buckets (a bit for each).
    PardonsAsked { buckets: u32 },
    /// This is the sum over the lists of largest keys that the sender has.
    TopSum { sum: u64 },
    /// These are versions of lists that the sender has.
    TopOffered { lists: TopVersions<'a> },
    /// The receiver is asked for what has changed of lists since these versions.
    TopAsked { lists: TopVersions<'a> },
    /// This is a part of a slice's list of largest keys.
    Top { slice: SliceId, list: TopList<'a> },
    /// The sender has all that was counted in the cluster in the last so many milliseconds, `u64::MAX` if ever.
    History { known_ms: u64 },
    /// This is any frame about a slice of a sketch that the receiver does not have.
    UnknownSketch { slice: SliceId },
}

impl Frame<'_> {
    /// The slice that the frame is about; `None` for frames that are about no slice.
    #[must_use]
    pub fn slice(&self) -> Option<SliceId> {
        match *self {
            Self::Cells { slice, .. }
            | Self::Groups { slice, .. }
            | Self::AgedGroups { slice, .. }
            | Self::Complete { slice, .. }
            | Self::SectionsAsked { slice, .. }
            | Self::Sections { slice, .. }
            | Self::GroupHashesAsked { slice, .. }
            | Self::GroupHashes { slice, .. }
            | Self::Pull { slice, .. }
            | Self::NotHeld { slice }
            | Self::Wanted { slice }
            | Self::BucketsAsked { slice }
            | Self::Buckets { slice, .. }
            | Self::LinesAsked { slice, .. }
            | Self::Top { slice, .. }
            | Self::UnknownSketch { slice } => Some(slice),
            Self::Ack { .. }
            | Self::Digest { .. }
            | Self::DigestAsked
            | Self::Siblings { .. }
            | Self::Membership { .. }
            | Self::CatalogueAsked { .. }
            | Self::Catalogue { .. }
            | Self::Contact { .. }
            | Self::ContactAnswered { .. }
            | Self::About { .. }
            | Self::SketchSums { .. }
            | Self::SketchAsked { .. }
            | Self::Pardons { .. }
            | Self::PardonSums { .. }
            | Self::PardonsAsked { .. }
            | Self::TopSum { .. }
            | Self::TopOffered { .. }
            | Self::TopAsked { .. }
            | Self::History { .. } => None,
        }
    }
}

/// The reason for which a node contacts another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// The two become members of one cluster.
    Membership,
    /// The sender pushes to the other, one way.
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

    pub(super) fn byte(self) -> u8 {
        match self {
            Self::Membership => 0,
            Self::OneWay => 1,
        }
    }
}

/// A line of a digest: the state of one slice at the sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DigestEntry {
    /// The name of the slice.
    pub slice: SliceId,
    /// The sender has all of the slice up to this version.
    pub version: u64,
    /// Hash of all cells of the slice.
    pub root: u64,
}

/// A line about all slices of a node in a sketch, but for one. Two nodes have equal copies of these slices, in
/// versions as in cells, if count and sum are equal (and, but for one pair in 2^64, only then).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SiblingsEntry {
    /// The slice that is left out. A name with writer 0 leaves out none.
    pub slice: SliceId,
    /// Number of slices that are not empty.
    pub count: u64,
    /// Sum of a hash of each slice's writer, version and root.
    pub sum: u64,
}

/// All that the sender has of a sketch, as one number. Two nodes have equal copies of all slices, in versions as in
/// cells, if it is equal (and, but for one pair in 2^64, only then).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SketchSum {
    /// The number of the sketch.
    pub sketch: SketchNumber,
    /// Sum of a hash of each slice's writer, version and root.
    pub sum: u64,
}

/// The place of a line in a catalogue: sketches ascend by number, and each has its own lines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct CatalogueLine {
    /// The number of the sketch.
    pub sketch: SketchNumber,
    /// Number of the line among those of the sketch.
    pub line: u32,
}

/// A sketch that the sender of an about has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SketchEntry {
    /// The number of the sketch.
    pub number: SketchNumber,
    /// Fingerprint of the sketch: equal if width, depth, hash and hash seed are.
    pub fingerprint: u64,
}

/// Reads the frames of a payload behind its head. `cells` returns how many cells a sketch has, or `None` for an
/// unknown sketch. An `Err` is the last item.
pub fn frames<C: Fn(SketchNumber) -> Option<u32>>(rest: &[u8], cells: C) -> Frames<'_, C> {
    Frames {
        reader: Reader::new(rest),
        cells,
    }
}

/// Iterator of [`frames`].
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
    /// Number of bytes that have not been read.
    #[must_use]
    pub fn unread(&self) -> usize {
        self.reader.rest().len()
    }
}

/// The error for a frame that cannot be read. The frames before it are valid; the bytes behind it are dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a frame of type {kind} is malformed: it and what is behind it were dropped")]
pub struct MalformedFrame {
    /// The type of the frame.
    pub kind: u8,
}

impl<'a, C: Fn(SketchNumber) -> Option<u32>> Iterator for Frames<'a, C> {
    type Item = Result<Frame<'a>, MalformedFrame>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let kind = self.reader.byte().ok()?;
            let length = self.reader.u16().map(usize::from);
            let body = length.and_then(|length| self.reader.bytes(length));
            let frame = body.map(|rest| parse(kind, Reader::new(rest), &self.cells));
            match frame {
                Ok(Parsed::Known(frame)) => return Some(Ok(frame)),
                Ok(Parsed::Unknown) => {}
                Ok(Parsed::Malformed) | Err(_) => {
                    self.reader.end();
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
        BUCKETS_ASKED..=AGED_GROUPS | TOP => of_slice(kind, reader, cells),
        ACK..=SIBLINGS | SKETCH_SUMS..=TOP_ASKED | HISTORY => of_no_slice(kind, reader),
        _ => return Parsed::Unknown,
    };
    frame.map_or(Parsed::Malformed, Parsed::Known)
}

/// Reads a contact or its answer. A purpose of a later release is an unknown one.
fn contact(kind: u8, mut reader: Reader<'_>) -> Parsed<'_> {
    let Ok(purpose) = reader.byte() else {
        return Parsed::Malformed;
    };
    match Purpose::read(purpose) {
        Some(purpose) if kind == CONTACT => Parsed::Known(Frame::Contact { purpose }),
        Some(purpose) => Parsed::Known(Frame::ContactAnswered { purpose }),
        None => Parsed::Unknown,
    }
}

fn of_no_slice(kind: u8, mut reader: Reader<'_>) -> Result<Frame<'_>, ReadError> {
    Ok(match kind {
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
        SIBLINGS => Frame::Siblings {
            entries: SiblingsEntries { reader },
        },
        MEMBERSHIP => Frame::Membership {
            message: reader.rest(),
        },
        CATALOGUE_ASKED => Frame::CatalogueAsked {
            first: catalogue_line(&mut reader)?,
        },
        CATALOGUE => Frame::Catalogue {
            first: catalogue_line(&mut reader)?,
            next: match reader.byte()? & HAS_NEXT {
                0 => None,
                _ => Some(catalogue_line(&mut reader)?),
            },
            entries: Entries { reader },
        },
        SKETCH_SUMS => Frame::SketchSums {
            sums: SketchSums { reader },
        },
        SKETCH_ASKED => Frame::SketchAsked {
            sketch: SketchNumber(reader.varint_u32()?),
        },
        PARDONS => Frame::Pardons {
            entries: PardonEntries { reader },
        },
        PARDON_SUMS => Frame::PardonSums {
            sums: PardonSums::new(reader)?,
        },
        PARDONS_ASKED => Frame::PardonsAsked {
            buckets: reader.u32()?,
        },
        TOP_SUM => Frame::TopSum { sum: reader.u64()? },
        TOP_OFFERED => Frame::TopOffered {
            lists: TopVersions { reader },
        },
        TOP_ASKED => Frame::TopAsked {
            lists: TopVersions { reader },
        },
        HISTORY => Frame::History {
            known_ms: reader.varint()?,
        },
        _ => Frame::About {
            asks: reader.byte()? & ASKS != 0,
            writer: Writer(reader.u64()?),
            total: reader.varint_u32()?,
            first: reader.varint_u32()?,
            sketches: SketchEntries {
                left: reader.varint()?,
                reader,
            },
        },
    })
}

fn catalogue_line(reader: &mut Reader<'_>) -> Result<CatalogueLine, ReadError> {
    Ok(CatalogueLine {
        sketch: SketchNumber(reader.varint_u32()?),
        line: reader.varint_u32()?,
    })
}

fn of_slice(
    kind: u8,
    mut reader: Reader<'_>,
    cells: impl Fn(SketchNumber) -> Option<u32>,
) -> Result<Frame<'_>, ReadError> {
    let slice = reader.slice()?;
    let Some(cells) = cells(slice.sketch) else {
        return Ok(Frame::UnknownSketch { slice });
    };
    Ok(match kind {
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
        AGED_GROUPS => Frame::AgedGroups {
            slice,
            version: reader.varint()?,
            groups: AgedGroupsReader::new(reader, cells)?,
        },
        NOT_HELD => Frame::NotHeld { slice },
        WANTED => Frame::Wanted { slice },
        BUCKETS_ASKED => Frame::BucketsAsked { slice },
        BUCKETS => Frame::Buckets {
            slice,
            sums: Hashes { reader },
        },
        LINES_ASKED => Frame::LinesAsked {
            slice,
            buckets: reader.u64()?,
            first: Writer(reader.u64()?),
        },
        TOP => Frame::Top {
            slice,
            list: TopList::new(reader)?,
        },
        _ => Frame::Pull {
            slice,
            groups: GroupRanges {
                reader,
                before: None,
            },
        },
    })
}

/// Iterator over ranges of packet numbers, from the newest down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AckRanges<'a> {
    reader: Reader<'a>,
    /// The lowest number of the last range.
    below: Option<u64>,
}

impl AckRanges<'_> {
    fn read(&mut self) -> Result<RangeInclusive<u64>, ReadError> {
        let number = self.reader.varint()?;
        let more = self.reader.varint()?;
        let last = match self.below {
            None => number,
            Some(below) => minus(minus(below, number)?, 2)?,
        };
        let first = minus(last, more)?;
        self.below = Some(first);
        Ok(first..=last)
    }
}

impl Iterator for AckRanges<'_> {
    type Item = RangeInclusive<u64>;

    fn next(&mut self) -> Option<RangeInclusive<u64>> {
        let item = self.read();
        self.reader.item_or_end(item)
    }
}

impl FusedIterator for AckRanges<'_> {}

/// Iterator over the lines of a digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entries<'a> {
    reader: Reader<'a>,
}

impl Entries<'_> {
    fn read(&mut self) -> Result<DigestEntry, ReadError> {
        let mut line = self.reader.entry()?;
        Ok(DigestEntry {
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
        self.reader.item_or_end(item)
    }
}

impl FusedIterator for Entries<'_> {}

/// Iterator over lines about nodes' other slices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SiblingsEntries<'a> {
    reader: Reader<'a>,
}

impl SiblingsEntries<'_> {
    fn read(&mut self) -> Result<SiblingsEntry, ReadError> {
        let mut line = self.reader.entry()?;
        Ok(SiblingsEntry {
            slice: line.slice()?,
            count: line.varint()?,
            sum: line.u64()?,
        })
    }
}

impl Iterator for SiblingsEntries<'_> {
    type Item = SiblingsEntry;

    fn next(&mut self) -> Option<SiblingsEntry> {
        let item = self.read();
        self.reader.item_or_end(item)
    }
}

impl FusedIterator for SiblingsEntries<'_> {}

/// Iterator over the sketches of an about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SketchEntries<'a> {
    left: u64,
    reader: Reader<'a>,
}

impl SketchEntries<'_> {
    fn read(&mut self) -> Result<SketchEntry, ReadError> {
        self.left = minus(self.left, 1)?;
        let mut entry = self.reader.entry()?;
        Ok(SketchEntry {
            number: SketchNumber(entry.varint_u32()?),
            fingerprint: entry.u64()?,
        })
    }
}

impl Iterator for SketchEntries<'_> {
    type Item = SketchEntry;

    fn next(&mut self) -> Option<SketchEntry> {
        let item = self.read();
        self.reader.item_or_end(item)
    }
}

impl FusedIterator for SketchEntries<'_> {}

/// Iterator over sums of sketches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SketchSums<'a> {
    reader: Reader<'a>,
}

impl SketchSums<'_> {
    fn read(&mut self) -> Result<SketchSum, ReadError> {
        let mut entry = self.reader.entry()?;
        Ok(SketchSum {
            sketch: SketchNumber(entry.varint_u32()?),
            sum: entry.u64()?,
        })
    }
}

impl Iterator for SketchSums<'_> {
    type Item = SketchSum;

    fn next(&mut self) -> Option<SketchSum> {
        let item = self.read();
        self.reader.item_or_end(item)
    }
}

impl FusedIterator for SketchSums<'_> {}

/// Iterator over a list of hashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hashes<'a> {
    reader: Reader<'a>,
}

impl Iterator for Hashes<'_> {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        let hash = self.reader.u64();
        self.reader.item_or_end(hash)
    }
}

impl FusedIterator for Hashes<'_> {}

/// Iterator over ranges of groups, ascending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupRanges<'a> {
    reader: Reader<'a>,
    before: Option<u32>,
}

impl GroupRanges<'_> {
    fn read(&mut self) -> Result<RangeInclusive<u32>, ReadError> {
        let first = self.reader.index_after(self.before)?;
        let more = self.reader.varint_u32()?;
        let last = first.checked_add(more).ok_or(ReadError::Form)?;
        self.before = Some(last);
        Ok(first..=last)
    }
}

impl Iterator for GroupRanges<'_> {
    type Item = RangeInclusive<u32>;

    fn next(&mut self) -> Option<RangeInclusive<u32>> {
        let item = self.read();
        self.reader.item_or_end(item)
    }
}

impl FusedIterator for GroupRanges<'_> {}

fn minus(number: u64, less: u64) -> Result<u64, ReadError> {
    number.checked_sub(less).ok_or(ReadError::Form)
}
