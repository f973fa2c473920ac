//! The format of a snapshot file: what a node keeps from one start to the next.
//!
//! ```text
//!   file    "rmbdsnap", then blocks, of which the first is a head and the last an end
//!   block   kind: 1 byte; length of the content: 4 bytes; content; hash: 8 bytes
//! ```
//!
//! Numbers of fixed length are little-endian, *v* is a varint (LEB128, shortest form), *field* is a varint and as many
//! bytes. The hash is XXH3 (64 bits) of kind, length and content, with the block's number in the file as its seed, so
//! that a block which is torn, changed, lost, doubled or moved is noticed. All times are nanoseconds of the clock that
//! the node measured with, signed; the head says what other clocks showed at one of them.
//!
//! | kind | content |
//! |---|---|
//! | 1 head | format: 2; number of the file: 8; node: 8; boot: 8; writer: 8; time: 8; wall clock, ms since 1970: 8; time since the machine's boot, ns: 8; the machine's boot id: 16; program's version: field |
//! | 2 sketch | number: 4; fingerprint: 8; cells: 4; name: field; time: 8; marks of our own slice: v, each as how long before the time of the block: v, and version: v; marks of learnt slices: v, each as how long before: v; the oldest come first |
//! | 3 groups | sketch: 4; node: 8; writer: 8; time: 8; fold: 1; marks: v, each as how much older than the one before it (the first: than the time of the block): v; then groups, ascending: how much higher than the one before: v, cells (as frames between nodes have a group), number of marks that have increments: v, each as how much higher than the mark before: v, and folded cells |
//! | 4 slice | sketch: 4; node: 8; writer: 8; version: v; weight: v. All groups of the slice stand before it, and the slice is complete until this version |
//! | 5 clients | clients of exactly-once requests, as the table of them has it |
//! | 6 boots | earlier boots whose clients are in blocks 5 |
//! | 7 end | number of blocks before it: v |
//! | 8 renamed | writer: 8 |
//! | 128 top | a part of the list of the largest keys of the slice before it: a frame as between nodes (`cluster`, top), which goes on from the part before |
//!
//! *How it grows.* What a reader does not know behind the known content of a block it leaves out. A kind from 128 on
//! may be left out by whoever does not know it; a kind below that, which a reader does not know, is of a later format,
//! and so is a higher number in the head: nothing of such a file is taken. What had a meaning keeps it. A release reads
//! what the release before it wrote, and writes what that one can read.
//!
//! The *mark of a clean end* is a file of its own: "rmbdmark", then blocks as above. First comes the head of the
//! snapshot file that it belongs to, then a block of kind 4 for each sketch, with the version that our own slice had,
//! and as its weight 1 where anybody may have heard of it, else 0; the last one is an end. Where the next start goes
//! on from slices of which nobody has heard, it gives them another writer, and writes the mark anew with that in a
//! block of kind 8: from then on it says that what the file has of our own slices is the beginning of those of that
//! writer.

mod block;
mod groups;
mod head;
mod sketch;
mod slice;

pub use block::{
    BLOCK_BYTES_MAX, BLOCK_HEAD_BYTES, BLOCK_TAIL_BYTES, Block, BlockError, BlockHead, Kind,
    begin_block, end_block,
};
pub use groups::{GroupsBlock, GroupsBlockWriter, SavedGroup};
pub use head::{FORMAT, FileHead};
pub use sketch::SketchBlock;
pub use slice::{SliceBlock, read_end, write_end};

/// The first bytes of a snapshot file.
pub const FILE_MAGIC: [u8; 8] = *b"rmbdsnap";
/// The first bytes of the mark of a clean end.
pub const MARK_MAGIC: [u8; 8] = *b"rmbdmark";

/// The content of a block is not what its kind says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the content of a block is malformed")]
pub struct MalformedBlock;

impl From<crate::reader::ReadError> for MalformedBlock {
    fn from(_: crate::reader::ReadError) -> Self {
        Self
    }
}

#[cfg(test)]
mod tests;
