//! Blocks: kind, length, content, hash.

use xxhash_rust::xxh3::Xxh3;

/// Bytes of a block before its content.
pub const BLOCK_HEAD_BYTES: usize = 5;
/// Bytes of a block behind its content.
pub const BLOCK_TAIL_BYTES: usize = 8;
/// The longest content. One group with all its marks fits; a file that claims more would only take memory.
pub const BLOCK_BYTES_MAX: usize = 4 << 20;

/// What a block holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// What the file is.
    Head,
    /// A sketch and its marks.
    Sketch,
    /// Groups of a slice.
    Groups,
    /// A slice is complete.
    Slice,
    /// Clients of exactly-once requests.
    Clients,
    /// Earlier boots.
    Boots,
    /// The file ends.
    End,
    /// A slice has another writer since.
    Renamed,
    /// The largest keys of a slice.
    Top,
    /// Something that may be left out.
    Other(u8),
}

/// The lowest kind that may be left out by whoever does not know it.
const OTHER_MIN: u8 = 128;

impl Kind {
    const fn byte(self) -> u8 {
        match self {
            Self::Head => 1,
            Self::Sketch => 2,
            Self::Groups => 3,
            Self::Slice => 4,
            Self::Clients => 5,
            Self::Boots => 6,
            Self::End => 7,
            Self::Renamed => 8,
            Self::Top => OTHER_MIN,
            Self::Other(byte) => byte,
        }
    }

    /// The kind of this byte; `None` where it belongs to a later format.
    const fn of(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Head,
            2 => Self::Sketch,
            3 => Self::Groups,
            4 => Self::Slice,
            5 => Self::Clients,
            6 => Self::Boots,
            7 => Self::End,
            8 => Self::Renamed,
            OTHER_MIN => Self::Top,
            129.. => Self::Other(byte),
            _ => return None,
        })
    }
}

/// What stands before the content of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockHead([u8; BLOCK_HEAD_BYTES]);

/// A block whose hash is right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block<'a> {
    /// What it holds.
    pub kind: Kind,
    /// Its content.
    pub content: &'a [u8],
}

/// Why a block is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    /// It claims to be longer than any block.
    #[error("a block claims {0} bytes, more than any has")]
    TooLong(usize),
    /// Its hash is that of another content.
    #[error("the hash of a block is wrong")]
    Hash,
    /// It is of a kind that a later release writes.
    #[error("a block is of kind {0}, which a later release writes")]
    LaterKind(u8),
}

impl BlockHead {
    /// The head of these bytes.
    #[must_use]
    pub const fn of(bytes: [u8; BLOCK_HEAD_BYTES]) -> Self {
        Self(bytes)
    }

    /// Bytes of the content.
    ///
    /// # Errors
    /// [`BlockError::TooLong`].
    pub const fn content_bytes(self) -> Result<usize, BlockError> {
        let [_, a, b, c, d] = self.0;
        let bytes = u32::from_le_bytes([a, b, c, d]) as usize;
        if bytes > BLOCK_BYTES_MAX {
            return Err(BlockError::TooLong(bytes));
        }
        Ok(bytes)
    }

    /// The block with this number in its file, of which this content and hash were read.
    ///
    /// # Errors
    /// [`BlockError::Hash`], then [`BlockError::LaterKind`].
    pub fn check(
        self,
        number: u64,
        content: &[u8],
        hash: [u8; BLOCK_TAIL_BYTES],
    ) -> Result<Block<'_>, BlockError> {
        if hash != hash_of(number, self.0, content) {
            return Err(BlockError::Hash);
        }
        let kind = Kind::of(self.0[0]).ok_or(BlockError::LaterKind(self.0[0]))?;
        Ok(Block { kind, content })
    }
}

/// Begins a block at the end of `out`; its content is appended, and [`end_block`] gets what this returns.
#[must_use]
pub fn begin_block(kind: Kind, out: &mut Vec<u8>) -> usize {
    let start = out.len();
    out.extend([kind.byte(), 0, 0, 0, 0]);
    start
}

/// Ends the block that began at `start`, the one with this number in its file.
pub fn end_block(start: usize, number: u64, out: &mut Vec<u8>) {
    let Some((head, content)) = out
        .get_mut(start..)
        .and_then(|block| block.split_first_chunk_mut::<BLOCK_HEAD_BYTES>())
    else {
        return;
    };
    debug_assert!(content.len() <= BLOCK_BYTES_MAX, "no block is so long");
    let length = (content.len() as u32).to_le_bytes();
    head[1..].copy_from_slice(&length);
    let hash = hash_of(number, *head, content);
    out.extend(hash);
}

fn hash_of(number: u64, head: [u8; BLOCK_HEAD_BYTES], content: &[u8]) -> [u8; BLOCK_TAIL_BYTES] {
    let mut hash = Xxh3::with_seed(number);
    hash.update(&head);
    hash.update(content);
    hash.digest().to_le_bytes()
}
