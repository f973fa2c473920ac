//! Lists of the largest keys of slices, as they go from node to node.

use std::iter::FusedIterator;

use super::{SliceId, write_entry, write_slice};
use crate::reader::{ReadError, Reader};
use crate::varint;

/// Bytes of the longest name in a list: as many as the client port takes.
pub const TOP_NAME_BYTES_MAX: usize = 1_024;
/// Largest number of places of a list.
pub const TOP_PLACES_MAX: usize = 1 << 13;
/// Largest number of bounds of a list: one of all time, and those of windows.
pub const TOP_BOUNDS_MAX: usize = 33;
/// The largest version of a list, which nobody reaches by changing lists.
pub const TOP_VERSION_MAX: u64 = (1 << 49) - 1;
/// The largest count that is told; more is written as this. So the longest entry fits a datagram.
const COUNT_MAX: u64 = (1 << 63) - 1;
/// Bytes of the longest entry, with its length: place, version, form, name, lists, what is certain.
const ENTRY_BYTES_MAX: usize = 2 + 2 + 7 + 1 + 2 + TOP_NAME_BYTES_MAX + 5 + 9;
/// Bytes of the longest beginning of a list without bounds: slice, versions, weight, flags, length of the bounds.
const HEAD_BYTES_MAX: usize = 21 + 2 * 7 + 9 + 1 + 2;
/// Bytes of the longest list of one entry without bounds. Alone in a datagram it fits.
pub const TOP_LIST_BYTES_MAX: usize = HEAD_BYTES_MAX + ENTRY_BYTES_MAX;

/// The bits of all lists that an entry may be in.
const LISTS: u64 = (1 << TOP_BOUNDS_MAX) - 1;

const IS_COMPLETE: u8 = 1;

const GONE: u8 = 0;
const HASH: u8 = 1;
const NAME: u8 = 2;
const AS_BEFORE: u8 = 3;

/// The version of a slice's list that a node has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TopVersion {
    /// The slice.
    pub slice: SliceId,
    /// The version; 0 is no list.
    pub version: u64,
    /// The last version of which everything is there. What comes behind it may be a part.
    pub complete: u64,
}

/// The beginning of (a part of) a slice's list.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TopHead {
    /// Entries that have changed behind this version follow.
    pub from: u64,
    /// All entries that have changed until this version follow.
    pub to: u64,
    /// Nothing has changed behind `to`, so that bounds and weight hold.
    pub is_complete: bool,
    /// The weight that was counted in the slice, at least, when the list was made.
    pub weight: u64,
    /// What the list is complete above.
    pub bounds: Vec<TopBound>,
}

/// Every key of which more than `above` was counted in the slice has a part in the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TopBound {
    /// Length of the window in which it was counted, in milliseconds; 0 is all time.
    pub span_ms: u64,
    /// The count.
    pub above: u64,
}

/// What is in a place of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TopEntry<'a> {
    /// The place, below [`TOP_PLACES_MAX`].
    pub place: u16,
    /// The version in which it has changed last. No other one of the list has changed in it.
    pub changed: u64,
    /// The key.
    pub key: TopName<'a>,
    /// A bit for the number of each bound whose list it is in.
    pub lists: u64,
    /// What certainly was counted of it in the slice.
    pub certain: u64,
}

/// The key of a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TopName<'a> {
    /// There is none any more.
    Gone,
    /// One of which the bytes are not known, or are too many.
    Hash([u64; 2]),
    /// A key of at most [`TOP_NAME_BYTES_MAX`].
    Name(&'a [u8]),
    /// The same as in the last version of which everything is there.
    AsBefore,
}

/// Iterator over versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TopVersions<'a> {
    pub(super) reader: Reader<'a>,
}

/// Iterator over the entries of a list, by the versions in which they have changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TopEntries<'a> {
    reader: Reader<'a>,
}

/// A part of a list, whose bounds and entries are parsed while they are iterated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TopList<'a> {
    from: u64,
    to: u64,
    weight: u64,
    flags: u8,
    bounds: Reader<'a>,
    entries: TopEntries<'a>,
}

impl<'a> TopList<'a> {
    pub(super) fn new(mut reader: Reader<'a>) -> Result<Self, ReadError> {
        let (from, to, weight) = (reader.varint()?, reader.varint()?, reader.varint()?);
        let flags = reader.byte()?;
        let bounds = Reader::new(reader.long_field()?);
        Ok(Self {
            from,
            to,
            weight,
            flags,
            bounds,
            entries: TopEntries { reader },
        })
    }

    /// What stands before the entries. Of more bounds than [`TOP_BOUNDS_MAX`] the first ones are taken.
    #[must_use]
    pub fn head(&self) -> TopHead {
        let mut reader = self.bounds;
        let bounds = std::iter::from_fn(|| {
            let (span_ms, above) = (reader.varint().ok()?, reader.varint().ok()?);
            Some(TopBound { span_ms, above })
        });
        TopHead {
            from: self.from,
            to: self.to,
            is_complete: self.flags & IS_COMPLETE != 0,
            weight: self.weight,
            bounds: bounds.take(TOP_BOUNDS_MAX).collect(),
        }
    }

    /// The entries.
    #[must_use]
    pub fn entries(&self) -> TopEntries<'a> {
        self.entries
    }
}

impl TopVersions<'_> {
    fn read(&mut self) -> Result<TopVersion, ReadError> {
        let mut entry = self.reader.entry()?;
        Ok(TopVersion {
            slice: entry.slice()?,
            version: entry.varint()?,
            complete: entry.varint()?,
        })
    }
}

impl Iterator for TopVersions<'_> {
    type Item = TopVersion;

    fn next(&mut self) -> Option<TopVersion> {
        let item = self.read();
        self.reader.item_or_end(item)
    }
}

impl FusedIterator for TopVersions<'_> {}

impl<'a> TopEntries<'a> {
    fn read(&mut self) -> Result<TopEntry<'a>, ReadError> {
        let mut entry = Reader::new(self.reader.long_field()?);
        let place = u16::try_from(entry.varint()?).map_err(|_| ReadError::Form)?;
        let changed = entry.varint()?;
        let key = match entry.byte()? {
            GONE => TopName::Gone,
            HASH => TopName::Hash([entry.u64()?, entry.u64()?]),
            NAME => TopName::Name(entry.long_field()?),
            AS_BEFORE => TopName::AsBefore,
            _ => return Err(ReadError::Form),
        };
        let is_too_long = matches!(key, TopName::Name(name) if name.len() > TOP_NAME_BYTES_MAX);
        if usize::from(place) >= TOP_PLACES_MAX || is_too_long {
            return Err(ReadError::Form);
        }
        let (lists, certain) = match key {
            TopName::Gone => (0, 0),
            _ => (entry.varint()?, entry.varint()?),
        };
        Ok(TopEntry {
            place,
            changed,
            key,
            lists,
            certain,
        })
    }
}

impl<'a> Iterator for TopEntries<'a> {
    type Item = TopEntry<'a>;

    fn next(&mut self) -> Option<TopEntry<'a>> {
        let item = self.read();
        self.reader.item_or_end(item)
    }
}

impl FusedIterator for TopEntries<'_> {}

/// Appends a version with its length.
pub(super) fn write_version(version: &TopVersion, out: &mut Vec<u8>) {
    write_entry(out, |out| {
        write_slice(&version.slice, out);
        varint::write(version.version, out);
        varint::write(version.complete, out);
    });
}

/// Entries that fit, in the form in which they are sent.
#[derive(Debug, Default)]
pub(super) struct Fitting {
    bytes: Vec<u8>,
    /// The version until which all have changed that are here; `None` if none is.
    pub(super) until: Option<u64>,
    pub(super) are_all: bool,
}

impl Fitting {
    /// Takes entries from the first one on, as long as they fit behind a beginning with these bounds into so many
    /// bytes.
    pub(super) fn new<'a>(
        bytes_max: usize,
        bounds: &[TopBound],
        entries: impl Iterator<Item = TopEntry<'a>>,
    ) -> Self {
        let mut fitting = Self {
            are_all: true,
            ..Self::default()
        };
        let Some(bytes_max) = bytes_max.checked_sub(HEAD_BYTES_MAX + bounds_bytes(bounds)) else {
            return Self::default();
        };
        for entry in entries {
            let start = fitting.bytes.len();
            write_entry_of_list(&entry, &mut fitting.bytes);
            if fitting.bytes.len() > bytes_max {
                fitting.bytes.truncate(start);
                fitting.are_all = false;
                break;
            }
            fitting.until = Some(entry.changed);
        }
        fitting
    }

    pub(super) fn write(&self, slice: &SliceId, head: &TopHead, out: &mut Vec<u8>) {
        write_slice(slice, out);
        varint::write(head.from.min(TOP_VERSION_MAX), out);
        varint::write(head.to.min(TOP_VERSION_MAX), out);
        varint::write(head.weight.min(COUNT_MAX), out);
        out.push(if head.is_complete { IS_COMPLETE } else { 0 });
        varint::write(bounds_bytes(&head.bounds) as u64, out);
        for bound in head.bounds.iter().take(TOP_BOUNDS_MAX) {
            varint::write(bound.span_ms, out);
            varint::write(bound.above, out);
        }
        out.extend(&self.bytes);
    }
}

fn write_entry_of_list(entry: &TopEntry<'_>, out: &mut Vec<u8>) {
    let mut body = Vec::new();
    varint::write(entry.place.into(), &mut body);
    varint::write(entry.changed.min(TOP_VERSION_MAX), &mut body);
    match entry.key {
        TopName::Gone => body.push(GONE),
        TopName::Hash(halves) => {
            body.push(HASH);
            (halves.iter()).for_each(|half| body.extend(half.to_le_bytes()));
        }
        TopName::Name(name) => {
            body.push(NAME);
            varint::write(name.len() as u64, &mut body);
            body.extend(name);
        }
        TopName::AsBefore => body.push(AS_BEFORE),
    }
    if entry.key != TopName::Gone {
        varint::write(entry.lists & LISTS, &mut body);
        varint::write(entry.certain.min(COUNT_MAX), &mut body);
    }
    varint::write(body.len() as u64, out);
    out.extend(body);
}

fn bounds_bytes(bounds: &[TopBound]) -> usize {
    let bytes = |bound: &TopBound| varint::bytes(bound.span_ms) + varint::bytes(bound.above);
    bounds.iter().take(TOP_BOUNDS_MAX).map(bytes).sum()
}
