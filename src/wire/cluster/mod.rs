//! What nodes of a cluster send each other, inside the seal.
//!
//! All integers are little-endian (`u8`, `u16`, `u64`) or *varints* (unsigned LEB128, shortest form).
//!
//! ```text
//!   to boot | node | address               | frame | frame | ...      until the end
//!   u64     | u64  | 4 or 6, IP, port u16   |
//!
//!   frame:  type u8 | length u16 of the body | body
//!   slice:  flags u8 | sketch, if flag 1 | node u64 | boot u64 | epoch, if flag 2 | part, if flag 4
//! ```
//!
//! *To boot* is the receiver's start that is meant, 0 where the sender does not know it. Such a datagram can
//! only be a contact: its answer tells the boot, and whatever else stands in it is dropped, since it may have been
//! recorded before the receiver started. *Node* and
//! *address* are the sender's; its own boot stands outside, in the seal's header.
//!
//! | type | frame | body |
//! |---|---|---|
//! | `01` | ack | channel u64; then from the newest down: packet number, and how many more below it; gap to the next range (at least 1) minus 1, and so on |
//! | `02` | cells | slice; then (gap, value) for each: the cell's index minus the one before minus 1 (the first: its index) |
//! | `03` | groups | slice, version; then for each group its index (coded as cells' are), form u8, cells |
//! | `04` | complete | slice, base, version: who has all until base now has all until version |
//! | `05` | digest | (slice, version, root u64), repeated |
//! | `06` | digest asked | |
//! | `07` | sections asked | slice, first section |
//! | `08` | sections | slice, version, first section, then a hash u64 each |
//! | `09` | group hashes asked | slice, section |
//! | `0a` | group hashes | slice, version, section, then a hash u64 each |
//! | `0b` | pull | slice; then ranges of groups: gap (as in cells), how many more |
//! | `0c` | membership | a message of the membership protocol |
//! | `0d` | catalogue asked | first line |
//! | `0e` | catalogue | first line, how many lines there are in all, then lines as a digest's |
//! | `0f` | contact | purpose u8: 0 to be members of one cluster, 1 to push one way |
//! | `10` | contact answered | the purpose u8 |
//! | `11` | not held | slice: there is no room for it here, and it need not be sent |
//!
//! A *group* is [`GROUP_CELLS`] cells (the last one of a sketch may have fewer), and always has all of
//! them: form 0 to 32 is that many bits a cell, packed from the lowest bit of the first byte up; form
//! 255 is sparse: how many, then (gap, value) of those that are not 0, with indexes inside the group.
//!
//! # Growing
//!
//! Frames of an unknown type are skipped. What a frame has beyond what is known of it is skipped
//! where it has an end of its own (complete, asked); a list goes on to the end. A list that breaks off
//! or breaks the rules ends there: cells only grow, so that a part of them is harmless.

mod cells;
mod frame;
mod head;
#[cfg(test)]
mod tests;

pub use cells::{Cells, CellsWriter, GroupsReader, GroupsWriter, pack_group, unpack_group};
pub use frame::{
    AckRanges, DigestEntry, Entries, Frame, FrameWriter, Frames, GroupRanges, Hashes,
    MalformedFrame, Purpose, frames,
};
pub use head::{Head, head};

/// Cells of a group: one of them always fits a datagram.
pub const GROUP_CELLS: usize = 256;
/// Groups of a section: all of their hashes fit a datagram.
pub const SECTION_GROUPS: usize = 128;

/// Bytes of a UDP payload, all in all: what every path carries without fragmenting (the least MTU of
/// IPv6 is 1 280, RFC 8200 section 5, less headers).
pub const DATAGRAM_BYTES_MAX: usize = 1_200;

/// What one writer wrote: a node, in one of its starts.
///
/// Sketch, epoch and part are 0 for now. They are in every format, so that several sketches, windows of
/// time and tables of a core can come without another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct SliceId {
    /// Number of the sketch.
    pub sketch: u32,
    /// The node: a random number that it keeps.
    pub node: u64,
    /// One start of it: a random number that is fresh each time.
    pub boot: u64,
    /// A slice of time.
    pub epoch: u64,
    /// A table of its own beside others of the same start.
    pub part: u32,
}

impl SliceId {
    /// The slice of a start of a node; all else is 0.
    #[must_use]
    pub const fn of(node: u64, boot: u64) -> Self {
        Self {
            sketch: 0,
            node,
            boot,
            epoch: 0,
            part: 0,
        }
    }
}

/// What has not been read yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn byte(&mut self) -> Option<u8> {
        self.array().map(|[byte]| byte)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (bytes, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(*bytes)
    }

    fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn bytes(&mut self, length: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(bytes)
    }

    fn varint(&mut self) -> Option<u64> {
        super::varint::read(&mut self.rest).ok()
    }

    fn varint_u32(&mut self) -> Option<u32> {
        self.varint().and_then(|number| u32::try_from(number).ok())
    }

    fn slice(&mut self) -> Option<SliceId> {
        let flags = self.byte()?;
        if flags & !(HAS_SKETCH | HAS_EPOCH | HAS_PART) != 0 {
            return None;
        }
        let has = |flag| flags & flag != 0;
        let sketch = if has(HAS_SKETCH) {
            self.varint_u32()?
        } else {
            0
        };
        let (node, boot) = (self.u64()?, self.u64()?);
        let epoch = if has(HAS_EPOCH) { self.varint()? } else { 0 };
        let part = if has(HAS_PART) { self.varint_u32()? } else { 0 };
        Some(SliceId {
            sketch,
            node,
            boot,
            epoch,
            part,
        })
    }

    /// The next of an ascending list of indexes: `before` is the one before it.
    fn index_after(&mut self, before: Option<u32>) -> Option<u32> {
        let gap = self.varint()?;
        let first = before.map_or(0, |before| u64::from(before) + 1);
        gap.checked_add(first)
            .and_then(|index| u32::try_from(index).ok())
    }

    /// A list's next item: where there is none, what is behind it is no item either.
    #[inline]
    fn end_at_none<T>(&mut self, item: Option<T>) -> Option<T> {
        if item.is_none() {
            self.rest = &[];
        }
        item
    }
}

const HAS_SKETCH: u8 = 1;
const HAS_EPOCH: u8 = 2;
const HAS_PART: u8 = 4;

fn write_slice(slice: &SliceId, out: &mut Vec<u8>) {
    use super::varint::write;
    let flag = |flag, is: bool| if is { flag } else { 0 };
    let (has_sketch, has_epoch, has_part) = (slice.sketch != 0, slice.epoch != 0, slice.part != 0);
    out.push(flag(HAS_SKETCH, has_sketch) | flag(HAS_EPOCH, has_epoch) | flag(HAS_PART, has_part));
    if has_sketch {
        write(slice.sketch.into(), out);
    }
    out.extend(slice.node.to_le_bytes());
    out.extend(slice.boot.to_le_bytes());
    if has_epoch {
        write(slice.epoch, out);
    }
    if has_part {
        write(slice.part.into(), out);
    }
}

/// The gap that [`Reader::index_after`] reads.
fn gap_after(before: Option<u32>, index: u32) -> u64 {
    let first = before.map_or(0, |before| u64::from(before) + 1);
    u64::from(index).saturating_sub(first)
}
