//! The messages that nodes of a cluster send each other, inside the seal.
//!
//! All integers are little-endian (`u8`, `u16`, `u64`) or *varints* (unsigned LEB128, shortest form).
//!
//! ```text
//!   to boot | node | address               | frame | frame | ...      until the end
//!   u64     | u64  | 4 or 6, IP, port u16   |
//!
//!   frame:  type u8 | length u16 of the body | body
//!   slice:  sketch | node u64 | writer u64
//!   line:   length u8 of what follows | slice | version | root u64
//! ```
//!
//! *To boot* names the start of the receiver that the datagram is for, or is 0 where the sender does not know it. A
//! datagram with 0 can only be a contact: the answer to it tells the boot. All other frames in it are dropped, since
//! they may have been recorded before the receiver started. *Node* and *address* are the sender's; the sender's own
//! boot stands outside, in the seal's header. In a frame *about* itself a node tells the writer of its slices and its
//! sketches. Nothing of a sketch is sent, asked for or taken before both ends know that they have the same one.
//!
//! | type | frame | body |
//! |---|---|---|
//! | `01` | ack | channel u64; then from the newest down: packet number, and how many more below it; gap to the next range (at least 1) minus 1, and so on |
//! | `02` | cells | slice; then (gap, value) for each: the cell's index minus the one before minus 1 (the first: its index) |
//! | `03` | groups | slice, version; then for each group its index (coded as cells' are), form u8, cells |
//! | `04` | complete | slice, base, version: who has all until base now has all until version |
//! | `05` | digest | a line, repeated |
//! | `06` | digest asked | |
//! | `07` | sections asked | slice, first section |
//! | `08` | sections | slice, version, first section, then a hash u64 each |
//! | `09` | group hashes asked | slice, section |
//! | `0a` | group hashes | slice, version, section, then a hash u64 each |
//! | `0b` | pull | slice; then ranges of groups: gap (as in cells), how many more |
//! | `0c` | membership | a message of the membership protocol |
//! | `0d` | catalogue asked | first line: sketch, number |
//! | `0e` | catalogue | first line, flags u8 (1: there are more lines, and the place of the next one follows), then lines as a digest's |
//! | `0f` | contact | purpose u8: 0 to be members of one cluster, 1 to push one way |
//! | `10` | contact answered | the purpose u8 |
//! | `11` | not held | slice: there is no room for it here, and it need not be sent |
//! | `12` | about | flags u8 (1: the receiver is to tell the same of itself), writer u64, how many sketches in all, the first one here, how many here; then for each: length u8 of what follows, number, fingerprint u64 |
//! | `13` | siblings | for each node: length u8 of what follows, slice, how many, sum u64 |
//! | `14` | buckets asked | slice |
//! | `15` | buckets | slice, then 64 sums u64 |
//! | `16` | lines asked | slice, buckets u64, first writer u64 |
//! | `17` | wanted | slice: there was no room for it here, and is now |
//! | `18` | aged groups | slice, version, fold u8, how many marks u8 (at most 64), the age in ms of each, the youngest first (the first age, then differences); then for each group its index, form and cells as in groups, and for each mark form and folded cells |
//! | `1e` | sketch sums | for each sketch: length u8 of what follows, number, sum u64 |
//! | `1f` | sketch asked | sketch: its digest is asked for |
//! | `20` | pardons | for each: length of what follows, limit u64, length of the key, the key, count, giver's boot u64, ms left, ms kept, how many credits u8, the credits |
//! | `21` | pardon sums | a bit u32 for each of 32 buckets that has any, then their sums u64, the lowest first |
//! | `22` | pardons asked | a bit u32 for each bucket |
//! | `23` | top sum | sum u64 |
//! | `24` | top offered | for each list: length u8 of what follows, slice, version, complete version |
//! | `25` | top asked | as top offered |
//! | `26` | top | slice, from version, to version, weight, flags u8 (1: complete), length of the bounds, (span in ms, bound) for each; then for each entry: length of what follows, place, version, form u8, key, lists, certain |
//! | `27` | history | for how many ms the sender has all that the cluster counted, 2^64 - 1 for ever; before each page of a catalogue |
//!
//! A *group* is [`GROUP_CELLS`] cells (the last one of a sketch may have fewer), and a frame has all of them. Forms 0
//! to 63 mean that many bits a cell, packed from the lowest bit of the first byte up. Form 255 is sparse: the number
//! of cells that are not 0, then (gap, value) of each, with indexes inside the group. A value is below 2^63
//! ([`CELL_MAX`]).
//!
//! Aged groups tell how old what they count is. A *mark* is a moment at which the slice had a certain version, and has
//! the *age* of that moment. For each mark, the youngest first, a group has the *increments* of its cells from the mark
//! to the next younger one, and from the youngest mark to the values of this frame. Each increment is the sum over
//! 1, 2, 4 or up to 128 neighbouring cells (the *fold* is the binary logarithm of that), and may be larger than the
//! truth, but not smaller: 2^63 - 1 is that or more. So what is left of the values without all increments since a mark
//! had been counted when the mark was made. An age may be smaller than the truth, but not larger: whoever writes it
//! reads the clock before, whoever reads it reads the clock after, and it is rounded down, by one part in 1 024 at
//! least, in case one clock is faster than the other. A frame of groups says the same as one of aged groups without
//! marks: all may have been counted just now.
//!
//! A slice's *siblings* are the slices that other writers of its node wrote in the same sketch. A node that has been
//! started again and again has many of them, so they are compared as one. The slice itself is left out, since it has
//! a line of its own; writer 0, which no node has, leaves out none. The siblings' *sum* (mod 2^64) is over a hash of
//! each one's writer, version and root ([`sibling_hash`]), for those whose root is not 0. Where two sums differ, a
//! node asks for the sums of [`SIBLING_BUCKETS`] parts ([`sibling_bucket`]), and then for the lines of the parts that
//! differ. Lines come as a digest, in the order of writers, from the *first* on to the last and then from the lowest.
//!
//! A *pardon* forgives a key what each amount of a limit says (its *credits*) for as long as is *left*. A limit is told
//! as a number that follows from its name ([`LimitNumber`](super::LimitNumber)). Times are what is left when the frame
//! is written, rounded down, so that no clocks are compared; the receiver counts from when it has received them. Of
//! each limit and key a node keeps one pardon: the one with the highest count, and of equal counts the one with the
//! highest giver. Whoever gives one gives it a count above all that he has seen. A pardon that is over is *kept* and
//! told for a while with nothing left, so that none that it has replaced comes back. Of the same pardon (count and
//! giver) the earlier end holds, so that relays do not prolong it. Two nodes compare *sums* (mod 2^64) over
//! [`pardon_hash`] of the pardons in each of 32 *buckets* ([`pardon_bucket`]), leaving out those that are kept for less
//! than a second, and tell each other those of buckets that differ.
//!
//! A slice's *top* is the list of its largest keys, in places that stay ([`TOP_PLACES_MAX`]). Its writer raises the
//! list's *version* with each entry that changes, so that no two have the same, and a node asks for what has changed
//! since the version that it has: `from`. What does not go on from that is dropped. It tells the last version that it
//! had completely, too: what an entry was behind that it need not have got. An entry has a key in one of the forms 0
//! (there is none any more), 1 (two u64, the halves of its hash), 2 (length, bytes) and 3 (as in the complete
//! version). Each *bound* makes a list of its own: span 0 is all time, others are windows; an entry has a bit for each
//! list that it is in, the lowest one for the first bound. Every key of which more than the bound was counted in the
//! slice (in the window), of the first `weight` that were, is in that list. That holds at the last version, when
//! *complete*; what goes before tells the same bounds ahead, or none where they do not fit. What is *certain* is of
//! all time. Nodes compare a *sum* (mod 2^64) over [`top_hash`] of all lists of sketches that both have, and offer
//! each other's versions where sums differ.
//!
//! A node may have up to [`SKETCHES_MAX`] sketches. An about has up to [`SKETCHES_TOLD_MAX`] of them, in the order of
//! the node's list; who has more writes several abouts. They may come in any order, and again. A node knows the
//! sketches of another one when all parts of the list have come, and only then does it know which it lacks. A catalogue
//! goes over all sketches that both ends have, in the order of their numbers. A sketch of which nothing has changed for
//! a while is told as one *sum*, over the same hashes as siblings' sums but of all slices; where two sums differ, the
//! lines are asked for.
//!
//! # Growing
//!
//! Nodes of different releases are members of one cluster, as long as both accept the version of the seal. So an
//! earlier release skips all that a later release may add, and reads what is behind it:
//!
//! - *Frames of other types* are skipped by their length. A frame of another form gets another type: the lists of
//!   cells, groups, hashes, ranges and acks go on to the end of their frame, so that nothing can be added to these
//!   frames.
//! - *Additions at the end* of a frame that has no such list (complete, what is asked, contact, not held, about), and
//!   of a message of membership, are skipped. Unknown purposes and flags count as not set.
//! - *Additions at the end of a line*, of a pardon, of a sketch in an about, and of a member in a message of membership
//!   are skipped: each has its length. An addition to a member's entry must not tell members apart, since earlier
//!   releases pass the entry on without it.
//! - *Parts about sketches that the receiver does not have* are skipped, and counted.
//!
//! A list that breaks off or breaks the rules ends there; cells only grow, so a part of them is harmless. The head,
//! the form of a slice's name and the length of a frame are fixed for this version of the seal.

mod aged;
mod cells;
mod frame;
mod frame_writer;
mod head;
mod member;
mod pardons;
#[cfg(test)]
mod tests;
mod top;

pub use aged::{
    AgedGroup, AgedGroupsReader, AgedGroupsWriter, Ages, Fold, MARKS_MAX, pack_numbered_group,
    take_numbered_group,
};
pub use cells::{Cells, CellsWriter, GroupsReader, GroupsWriter, pack_group, unpack_group};
pub use frame::{
    AckRanges, CatalogueLine, DigestEntry, Entries, Frame, Frames, GroupRanges, Hashes,
    MalformedFrame, Purpose, SKETCHES_MAX, SKETCHES_TOLD_MAX, SiblingsEntries, SiblingsEntry,
    SketchEntries, SketchEntry, SketchSum, SketchSums, frames,
};
pub use frame_writer::{FrameWriter, Listed};
pub use head::{Head, head};
pub use member::{MemberEntry, member_entry};
pub use pardons::{
    PARDON_BUCKETS, PARDON_BYTES_MAX, PARDON_COUNT_MAX, PARDON_CREDITS_MAX, PARDON_KEY_BYTES_MAX,
    PardonEntries, PardonEntry, PardonSums, pardon_bucket, pardon_hash, pardon_place,
};
pub use top::{
    TOP_BOUNDS_MAX, TOP_LIST_BYTES_MAX, TOP_NAME_BYTES_MAX, TOP_PLACES_MAX, TOP_VERSION_MAX,
    TopBound, TopEntries, TopEntry, TopHead, TopList, TopName, TopVersion, TopVersions,
};

use super::reader::{ReadError, Reader};
use super::{SketchNumber, Writer};

/// Number of cells of a group. A group always fits a datagram, whatever its cells are.
pub const GROUP_CELLS: usize = 128;
/// The largest value of a cell, which is more than a writer adds in its life.
pub const CELL_MAX: u64 = u64::MAX >> 1;
/// Number of groups of a section. All of their hashes fit a datagram.
pub const SECTION_GROUPS: usize = 128;

/// Largest UDP payload in bytes. Every path carries it without fragmenting: the least MTU of IPv6 is 1 280 (RFC 8200,
/// section 5), less headers.
pub const DATAGRAM_BYTES_MAX: usize = 1_200;

/// Number of parts in which a slice's siblings are compared. Their sums fit a datagram with much room.
pub const SIBLING_BUCKETS: usize = 64;

/// Bytes of a frame before its body.
pub const FRAME_HEAD_BYTES: usize = 3;

/// Bytes of the longest line of a digest, with its length byte. Lines about siblings are no longer.
pub const DIGEST_LINE_BYTES_MAX: usize = 1 + SLICE_BYTES_MAX + 10 + 8;
/// Bytes of a slice's longest name.
const SLICE_BYTES_MAX: usize = 5 + 8 + 8;

/// The name of a slice: all that one writer wrote in one sketch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct SliceId {
    /// The sketch that the slice is of.
    pub sketch: SketchNumber,
    /// The number of the node: a random number that the node keeps.
    pub node: u64,
    /// The writer, which belongs to that node.
    pub writer: Writer,
}

impl SliceId {
    /// The slice of a node's writer in the sketch that every node has.
    #[must_use]
    pub const fn of(node: u64, writer: Writer) -> Self {
        Self {
            sketch: SketchNumber::DEFAULT,
            node,
            writer,
        }
    }
}

/// The contribution of a slice to the sum of its node's slices. It depends on the writer, the version and the hash of
/// the cells.
///
/// It applies the finalizer of `MurmurHash3` ([`finish`]) to each of the three, combined with the result so far.
#[must_use]
pub const fn sibling_hash(writer: Writer, version: u64, root: u64) -> u64 {
    let writer = finish(writer.0.wrapping_add(1));
    let version = finish(writer.wrapping_add(version));
    finish(version.wrapping_add(root))
}

/// The part in which a writer's slice is compared, below [`SIBLING_BUCKETS`].
#[must_use]
pub const fn sibling_bucket(writer: Writer) -> usize {
    (finish(writer.0) >> (u64::BITS - SIBLING_BUCKETS.trailing_zeros())) as usize
}

/// The contribution of a slice's list to the sum of all lists.
#[must_use]
pub const fn top_hash(slice: &SliceId, version: u64) -> u64 {
    let sketch = finish((slice.sketch.0 as u64).wrapping_add(1));
    let node = finish(sketch.wrapping_add(slice.node));
    sibling_hash(Writer(node.wrapping_add(slice.writer.0)), version, 0)
}

/// The finalizer of `MurmurHash3` (64 bits; <https://github.com/aappleby/smhasher>): a bijection that leaves 0 as it
/// is.
#[inline]
#[must_use]
pub const fn finish(mut hash: u64) -> u64 {
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xFF51_AFD7_ED55_8CCD);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xC4CE_B9FE_1A85_EC53);
    hash ^ (hash >> 33)
}

impl<'a> Reader<'a> {
    fn varint_u32(&mut self) -> Result<u32, ReadError> {
        u32::try_from(self.varint()?).map_err(|_| ReadError::Form)
    }

    fn slice(&mut self) -> Result<SliceId, ReadError> {
        Ok(SliceId {
            sketch: SketchNumber(self.varint_u32()?),
            node: self.u64()?,
            writer: Writer(self.u64()?),
        })
    }

    /// The next entry of a list whose entries have lengths, as a reader of what is inside it. The rest of an entry is
    /// skipped.
    fn entry(&mut self) -> Result<Self, ReadError> {
        self.field().map(Self::new)
    }

    /// The next number of an ascending list of indexes; `before` is the one before it.
    fn index_after(&mut self, before: Option<u32>) -> Result<u32, ReadError> {
        let gap = self.varint()?;
        let first = before.map_or(0, |before| u64::from(before) + 1);
        let index = gap.checked_add(first);
        let index = index.and_then(|index| u32::try_from(index).ok());
        index.ok_or(ReadError::Form)
    }

    /// The next item of a list. If it cannot be read, the list ends, since the bytes behind it are no item either.
    #[inline]
    fn item_or_end<T>(&mut self, item: Result<T, ReadError>) -> Option<T> {
        if item.is_err() {
            self.end();
        }
        item.ok()
    }
}

fn write_slice(slice: &SliceId, out: &mut Vec<u8>) {
    super::varint::write(slice.sketch.0.into(), out);
    out.extend(slice.node.to_le_bytes());
    out.extend(slice.writer.0.to_le_bytes());
}

/// Appends an entry with its length, which must be below 256.
fn write_entry(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.push(0);
    write(out);
    out[start] = (out.len() - start - 1) as u8;
}

/// The gap that [`Reader::index_after`] reads.
fn gap_after(before: Option<u32>, index: u32) -> u64 {
    let first = before.map_or(0, |before| u64::from(before) + 1);
    u64::from(index).saturating_sub(first)
}
