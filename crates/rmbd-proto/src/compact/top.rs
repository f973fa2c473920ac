//! The largest keys of a sketch: the answer that lists them, read in place, and how it is written.
//!
//! A list may be longer than a reply, so that a client asks for the rest by the position of its first entry. A node
//! makes its lists anew about twice a second: where two parts have another [edition](TopHead::edition), they are of
//! different lists.

use std::iter::FusedIterator;

use super::content::ContentWriter;
use super::{KEY_BYTES_MAX, TOP, flag};
use crate::reader::{ReadError, Reader};
use crate::varint;

/// Flags of the answer.
const INCOMPLETE: u8 = 1;
const REDACTED: u8 = 2;

/// Bytes of the answer before its entries, but for the number of keys: flags, edition, age, complete above, N.
const FIXED_BYTES: usize = 1 + 8 + 4 + 8 + 8;

/// Bytes of the longest entry: its length, estimate, certain, the length of its name, and that.
const ENTRY_BYTES_MAX: usize = 2 + 10 + 10 + 2 + KEY_BYTES_MAX;

// A part of a list has one entry at least, whatever its name.
const _: () = assert!(
    super::REPLY_HEAD_BYTES + 3 + FIXED_BYTES + 10 + ENTRY_BYTES_MAX <= super::REPLY_BYTES_MAX
);

/// What a node says of a whole list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TopHead {
    /// Something that others counted is not here, or the node has not been here for the whole window: all together
    /// may have more.
    pub incomplete: bool,
    /// The asker may not see names: none is told.
    pub redacted: bool,
    /// Which list of the node's this is: equal in all parts of one list, and more in later ones. 0 if none is made yet.
    pub edition: u64,
    /// Milliseconds since the list was made.
    pub age_ms: u32,
    /// Every key of which more than this was counted is in the list; [`u64::MAX`] if nothing is known.
    pub complete_above: u64,
    /// N: all weight that was counted, or that was counted in the window.
    pub total_weight: u64,
    /// How many keys the list has.
    pub listed: u64,
}

/// One key of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TopEntry<'a> {
    /// Its count: never below the truth for what is known at the node.
    pub estimate: u64,
    /// What certainly was added to it: never above the truth.
    pub certain: u64,
    /// Its bytes, 0 to 1 024; `None` if the node does not know them, or does not tell.
    pub name: Option<&'a [u8]>,
}

/// A part of a list of the largest keys, borrowed from its reply. All entries were looked at when it was read, so that
/// [`entries`](Self::entries) cannot fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Top<'a> {
    /// What holds for the whole list.
    pub head: TopHead,
    entries: Reader<'a>,
}

impl<'a> Top<'a> {
    /// The entries from the one that was asked for on, as many as fit, those with the largest estimates first.
    #[must_use]
    pub fn entries(&self) -> TopEntries<'a> {
        TopEntries(self.entries)
    }

    /// Reads what stands behind the answer's length.
    pub(super) fn read(mut reader: Reader<'a>) -> Result<Self, ReadError> {
        let flags = reader.byte()?;
        let head = TopHead {
            incomplete: flags & INCOMPLETE != 0,
            redacted: flags & REDACTED != 0,
            edition: reader.u64()?,
            age_ms: reader.u32()?,
            complete_above: reader.u64()?,
            total_weight: reader.u64()?,
            listed: reader.varint()?,
        };
        let entries = reader;
        while !reader.rest().is_empty() {
            entry(&mut reader)?;
        }
        Ok(Self { head, entries })
    }
}

/// Iterator of [`Top::entries`].
#[derive(Debug, Clone)]
pub struct TopEntries<'a>(Reader<'a>);

impl<'a> Iterator for TopEntries<'a> {
    type Item = TopEntry<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        entry(&mut self.0).ok()
    }
}

impl FusedIterator for TopEntries<'_> {}

/// Reads an entry. Bytes behind its name are skipped: an entry may grow.
fn entry<'a>(reader: &mut Reader<'a>) -> Result<TopEntry<'a>, ReadError> {
    let mut reader = Reader::new(reader.long_field()?);
    let (estimate, certain) = (reader.varint()?, reader.varint()?);
    let name = match reader.varint()? {
        0 => None,
        // What does not fit into a `usize` is more than there is.
        more => Some(reader.bytes(usize::try_from(more - 1).unwrap_or(usize::MAX))?),
    };
    Ok(TopEntry {
        estimate,
        certain,
        name,
    })
}

/// A part of a list on its way into a reply: entries go in until there is no room for the next one.
///
/// ```
/// use rmbd_proto::compact::{TopEntry, TopHead, TopWriter};
///
/// let head = TopHead { edition: 1, listed: 2, total_weight: 9, ..TopHead::default() };
/// let apple = TopEntry { estimate: 6, certain: 6, name: Some(b"apple") };
/// let mut out = [0; 45];
/// let mut writer = TopWriter::new(&mut out, &head).expect("room for a list of none");
/// assert!(writer.push(&apple));
/// assert!(!writer.push(&apple), "there is no room for another one");
/// assert_eq!(writer.finish(), 41);
/// ```
#[derive(Debug)]
pub struct TopWriter<'b>(ContentWriter<'b>);

impl<'b> TopWriter<'b> {
    /// A part of a list at the front of `out`. `None` where there is not even room for one without entries.
    pub fn new(out: &'b mut [u8], head: &TopHead) -> Option<Self> {
        let mut content = ContentWriter::new(out);
        if FIXED_BYTES + varint::bytes(head.listed) > content.room() {
            return None;
        }
        let flags = flag(INCOMPLETE, head.incomplete) | flag(REDACTED, head.redacted);
        content.bytes(&[flags]);
        content.bytes(&head.edition.to_le_bytes());
        content.bytes(&head.age_ms.to_le_bytes());
        content.bytes(&head.complete_above.to_le_bytes());
        content.bytes(&head.total_weight.to_le_bytes());
        content.varint(head.listed);
        Some(Self(content))
    }

    /// Writes an entry, of whose name the first [`KEY_BYTES_MAX`] bytes are kept; false where there is no room for it,
    /// and nothing was written.
    pub fn push(&mut self, entry: &TopEntry<'_>) -> bool {
        let Self(content) = self;
        let name = entry
            .name
            .map(|name| &name[..name.len().min(KEY_BYTES_MAX)]);
        let name_length = name.map_or(0, |name| name.len() as u64 + 1);
        let numbers = [entry.estimate, entry.certain, name_length];
        let name = name.unwrap_or_default();
        let bytes = numbers.map(varint::bytes).iter().sum::<usize>() + name.len();
        if !content.has_room_for_field(bytes) {
            return false;
        }
        content.varint(bytes as u64);
        for number in numbers {
            content.varint(number);
        }
        content.bytes(name);
        true
    }

    /// Puts the code and the length in front; how many bytes the answer has.
    #[must_use]
    pub fn finish(self) -> usize {
        self.0.finish(TOP)
    }
}
