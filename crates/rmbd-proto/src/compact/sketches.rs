//! The sketches of a node: the answer that lists them, read in place, and how it is written.
//!
//! A list may be longer than a reply, so that a client asks for the rest by the position of its first entry.

use std::iter::FusedIterator;

use super::SKETCHES;
use super::content::ContentWriter;
use crate::reader::{ReadError, Reader};
use crate::{SketchNumber, varint};

/// What a node says of one of its sketches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SketchEntry<'a> {
    /// Follows from the name.
    pub number: SketchNumber,
    /// 0 to 255 bytes, perhaps not UTF-8.
    pub name: &'a [u8],
    /// Equal where width, depth, hash and its seed are.
    pub fingerprint: u64,
    /// Columns a row.
    pub width: u64,
    /// Rows.
    pub depth: u8,
    /// [`HASH_XXH3`](super::HASH_XXH3), [`HASH_FNV`](super::HASH_FNV), or what is not known here.
    pub hash: u8,
}

/// A window that a sketch keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SketchWindow {
    /// Milliseconds: the longest window that it answers.
    pub span_ms: u64,
    /// Milliseconds between two snapshots: windows are whole multiples of it.
    pub step_ms: u64,
    /// Columns a row of its snapshots.
    pub width: u64,
}

/// A part of the list of a node's sketches, borrowed from its reply. All entries were looked at when it was read, so
/// that [`entries`](Self::entries) cannot fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sketches<'a> {
    /// How many sketches the node has.
    pub total: u64,
    entries: Reader<'a>,
}

impl<'a> Sketches<'a> {
    /// The entries from the one that was asked for on, as many as fit, each with its windows.
    #[must_use]
    pub fn entries(&self) -> SketchEntries<'a> {
        SketchEntries(self.entries)
    }

    /// Reads what stands behind the answer's length.
    pub(super) fn read(mut reader: Reader<'a>) -> Result<Self, ReadError> {
        let total = reader.varint()?;
        let entries = reader;
        while !reader.rest().is_empty() {
            let (_, windows) = entry(&mut reader)?;
            let SketchWindows { left, mut reader } = windows;
            for _ in 0..left {
                SketchWindow::read(&mut reader)?;
            }
        }
        Ok(Self { total, entries })
    }
}

/// Iterator of [`Sketches::entries`].
#[derive(Debug, Clone)]
pub struct SketchEntries<'a>(Reader<'a>);

impl<'a> Iterator for SketchEntries<'a> {
    type Item = (SketchEntry<'a>, SketchWindows<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        entry(&mut self.0).ok()
    }
}

impl FusedIterator for SketchEntries<'_> {}

/// Iterator of a sketch's windows.
#[derive(Debug, Clone)]
pub struct SketchWindows<'a> {
    left: u64,
    /// So many whole windows, and what a later version may have put behind them.
    reader: Reader<'a>,
}

impl Iterator for SketchWindows<'_> {
    type Item = SketchWindow;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        SketchWindow::read(&mut self.reader).ok()
    }
}

impl FusedIterator for SketchWindows<'_> {}

/// Reads an entry, but for its windows. Bytes behind those are skipped: an entry may grow.
fn entry<'a>(reader: &mut Reader<'a>) -> Result<(SketchEntry<'a>, SketchWindows<'a>), ReadError> {
    let mut reader = Reader::new(reader.long_field()?);
    let number = SketchNumber(reader.u32()?);
    let name = reader.field()?;
    let (fingerprint, width) = (reader.u64()?, reader.varint()?);
    let [depth, hash] = reader.array()?;
    let left = reader.varint()?;
    let entry = SketchEntry {
        number,
        name,
        fingerprint,
        width,
        depth,
        hash,
    };
    Ok((entry, SketchWindows { left, reader }))
}

impl SketchWindow {
    fn read(reader: &mut Reader<'_>) -> Result<Self, ReadError> {
        Ok(Self {
            span_ms: reader.varint()?,
            step_ms: reader.varint()?,
            width: reader.varint()?,
        })
    }

    const fn numbers(&self) -> [u64; 3] {
        [self.span_ms, self.step_ms, self.width]
    }
}

/// A list of sketches on its way into a reply: entries go in until there is no room for the next one.
///
/// ```
/// use rmbd_proto::SketchName;
/// use rmbd_proto::compact::{HASH_XXH3, SketchEntry, SketchWindow, SketchesWriter};
///
/// let name: SketchName = "logins".parse()?;
/// let entry = SketchEntry {
///     number: name.number(),
///     name: name.as_str().as_bytes(),
///     fingerprint: 7,
///     width: 1 << 20,
///     depth: 4,
///     hash: HASH_XXH3,
/// };
/// let minute = SketchWindow { span_ms: 60_000, step_ms: 1_000, width: 1 << 16 };
/// let mut out = [0; 50];
/// let mut writer = SketchesWriter::new(&mut out, 2).expect("room for a list of none");
/// assert!(writer.push(&entry, [minute].into_iter()));
/// assert!(!writer.push(&entry, [minute].into_iter()), "there is no room for another one");
/// assert_eq!(writer.finish(), 37);
/// # Ok::<(), rmbd_proto::SketchNameError>(())
/// ```
#[derive(Debug)]
pub struct SketchesWriter<'b>(ContentWriter<'b>);

impl<'b> SketchesWriter<'b> {
    /// A list of a node with `total` sketches, at the front of `out`. `None` where there is not even room for a list
    /// without entries.
    pub fn new(out: &'b mut [u8], total: u64) -> Option<Self> {
        let mut content = ContentWriter::new(out);
        if varint::bytes(total) > content.room() {
            return None;
        }
        content.varint(total);
        Some(Self(content))
    }

    /// Writes an entry, of whose name the first 255 bytes are kept; false where there is no room for it, and nothing
    /// was written.
    pub fn push(
        &mut self,
        entry: &SketchEntry<'_>,
        windows: impl Iterator<Item = SketchWindow> + Clone,
    ) -> bool {
        let Self(content) = self;
        let name = &entry.name[..entry.name.len().min(u8::MAX.into())];
        let count = windows.clone().count() as u64;
        let numbers = windows.flat_map(|window| window.numbers());
        let varints = [entry.width, count].into_iter().chain(numbers.clone());
        let bytes = 4 + 1 + name.len() + 8 + 2 + varints.map(varint::bytes).sum::<usize>();
        if !content.has_room_for_field(bytes) {
            return false;
        }
        content.varint(bytes as u64);
        content.bytes(&entry.number.0.to_le_bytes());
        content.bytes(&[name.len() as u8]);
        content.bytes(name);
        content.bytes(&entry.fingerprint.to_le_bytes());
        content.varint(entry.width);
        content.bytes(&[entry.depth, entry.hash]);
        content.varint(count);
        numbers.for_each(|number| content.varint(number));
        true
    }

    /// Puts the code and the length in front; how many bytes the answer has.
    pub fn finish(self) -> usize {
        self.0.finish(SKETCHES)
    }
}
