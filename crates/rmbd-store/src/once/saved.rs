//! The byte format in which the table's clients are kept from a clean end to the next start, version 1.
//!
//! A table is saved as *pieces* of at most [`PIECE_BYTES_MAX`] bytes. They are numbered from 0, and the last one says
//! that it is the last. So a table that comes back in part is not taken for a whole one. All integers are
//! little-endian.
//!
//! ```text
//!   0         1       2             6              10
//! +---------+-------+-------------+--------------+------------------------
//! | version | flags | number, u32 | clients, u32 | clients, back to back
//! | 01      |       |             |              |
//! +---------+-------+-------------+--------------+------------------------
//! ```
//!
//! - Flags: 1 *last*. Others are 0.
//! - Clients stand in the order of their ages, the oldest of all in piece 0. A reader takes them in any order, but
//!   this one is fast.
//! - Nothing stands behind the last client.
//!
//! ```text
//!   0         8              16           24             32
//! +---------+--------------+------------+--------------+---------+---------+----------
//! | id, u64 | network, u64 | age ms,    | highest      | applied | decided | admitted
//! |         |              | u64        | sequence,u64 |         |         |
//! +---------+--------------+------------+--------------+---------+---------+----------
//!
//!   applied, decided, admitted:   used, u16 | full, u16 | words, u64 each
//! ```
//!
//! - The network is that which the client was in when it came: an IPv4 address's first 24 bits, or 2^48 + an IPv6
//!   address's first 48 bits.
//! - The age is the time since the client was heard of, when the table was saved.
//! - Bit s % 64 of word s / 64 % 16 stands for sequence s, of the 1 024 up to the highest: whether it was *applied*,
//!   whether a verdict about it is known (*decided*), and whether that *admitted*, which no sequence without a verdict
//!   did.
//! - A word of which any bit is 1 has its bit in *used*. Where all its bits are 1 it has one in *full* as well, and is
//!   left out. So a client that only adds, and has done so for long, takes 44 bytes.
//!
//! **How it grows**: another version has another first byte, and is refused as a whole. The clients of a table that
//! does not come back are told that their requests are uncertain, so nothing is guessed.

use super::WINDOW;
use super::places::Network;

/// Bytes of the longest piece: small beside what else a node holds in memory at its end, and large enough that pieces
/// cost nothing.
pub const PIECE_BYTES_MAX: usize = 1 << 16;

/// Words of 64 bits in a window.
pub(super) const WORDS: usize = (WINDOW / 64) as usize;

/// A bit for each sequence of a window.
pub(super) type Bits = [u64; WORDS];

const VERSION: u8 = 1;
const FLAG_LAST: u8 = 1;
/// Bytes in front of the clients.
const HEAD_BYTES: usize = 1 + 1 + 4 + 4;
/// Bytes of the longest client.
const CLIENT_BYTES_MAX: usize = 4 * 8 + 3 * (2 + 2 + WORDS * 8);
const _: () = assert!(WORDS == u16::BITS as usize);

/// A client as it is saved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SavedClient {
    pub(super) id: u64,
    pub(super) network: Network,
    pub(super) age_ms: u64,
    pub(super) highest: u64,
    pub(super) applied: Bits,
    pub(super) decided: Bits,
    pub(super) admitted: Bits,
}

/// Why bytes are no piece of a saved table. Nobody in them was taken over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PieceMalformed {
    /// It is longer than any piece.
    #[error(
        "a piece of exactly-once clients has {bytes} bytes, more than {PIECE_BYTES_MAX}; nothing of it was taken \
         over: start without these clients"
    )]
    TooLong {
        /// Its bytes.
        bytes: usize,
    },
    /// It is of another version of the format.
    #[error(
        "a piece of exactly-once clients has version {version}, and {VERSION} is known here; nothing of it was \
         taken over: start with the program that wrote it, or without these clients"
    )]
    UnknownVersion {
        /// What it says.
        version: u8,
    },
    /// It ends before all its clients do.
    #[error(
        "a piece of exactly-once clients is cut off; nothing of it was taken over: start without these clients"
    )]
    CutOff,
    /// It breaks a rule of the format.
    #[error(
        "a piece of exactly-once clients is damaged: {rule}; nothing of it was taken over: start without these \
         clients"
    )]
    Damaged {
        /// The rule.
        rule: &'static str,
    },
}

/// A piece of a saved table, whose bytes hold to all rules of the format.
///
/// ```
/// use std::sync::Arc;
/// use std::time::Duration;
/// use rmbd_store::once::{OnceTable, SavedPiece};
///
/// let table = Arc::new(OnceTable::new(1000, &[7; 32]));
/// let pieces: Vec<Vec<u8>> = table.save(Duration::ZERO).collect();
/// let piece = SavedPiece::read(&pieces[0])?;
/// assert_eq!((piece.number(), piece.clients(), piece.is_last()), (0, 0, true));
/// # Ok::<(), rmbd_store::once::PieceMalformed>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct SavedPiece<'a> {
    number: u32,
    is_last: bool,
    clients: u32,
    /// All clients, which have been read once already.
    body: &'a [u8],
}

impl<'a> SavedPiece<'a> {
    /// Reads a piece: any bytes.
    ///
    /// # Errors
    /// [`PieceMalformed`] where it is none.
    pub fn read(bytes: &'a [u8]) -> Result<Self, PieceMalformed> {
        if bytes.len() > PIECE_BYTES_MAX {
            let bytes = bytes.len();
            return Err(PieceMalformed::TooLong { bytes });
        }
        let mut rest = bytes;
        let [version] = take(&mut rest)?;
        if version != VERSION {
            return Err(PieceMalformed::UnknownVersion { version });
        }
        let [flags] = take(&mut rest)?;
        check(flags & !FLAG_LAST == 0, "there are flags that nobody knows")?;
        let piece = Self {
            number: u32::from_le_bytes(take(&mut rest)?),
            is_last: flags & FLAG_LAST != 0,
            clients: u32::from_le_bytes(take(&mut rest)?),
            body: rest,
        };
        for _ in 0..piece.clients {
            SavedClient::read(&mut rest)?;
        }
        check(rest.is_empty(), "there is something behind the last client")?;
        Ok(piece)
    }

    /// Its place among the pieces of its table; the first one has 0.
    #[must_use]
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Whether no piece comes after it.
    #[must_use]
    pub fn is_last(&self) -> bool {
        self.is_last
    }

    /// Number of clients in it.
    #[must_use]
    pub fn clients(&self) -> u32 {
        self.clients
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = SavedClient> + 'a {
        let mut rest = self.body;
        std::iter::from_fn(move || SavedClient::read(&mut rest).ok())
    }
}

/// Writes a piece.
#[derive(Debug)]
pub(super) struct PieceWriter {
    bytes: Vec<u8>,
    clients: u32,
}

impl PieceWriter {
    /// Begins the piece of this number.
    pub(super) fn new(number: u32) -> Self {
        let mut bytes = Vec::with_capacity(PIECE_BYTES_MAX);
        bytes.extend([VERSION, 0]);
        bytes.extend(number.to_le_bytes());
        // Stands here until the piece is finished.
        bytes.extend(0_u32.to_le_bytes());
        Self { bytes, clients: 0 }
    }

    /// Whether any client fits.
    pub(super) fn has_room(&self) -> bool {
        self.bytes.len() + CLIENT_BYTES_MAX <= PIECE_BYTES_MAX
    }

    /// Appends a client. There is to be room.
    pub(super) fn push(&mut self, client: &SavedClient) {
        let SavedClient {
            id,
            network,
            age_ms,
            highest,
            applied,
            decided,
            admitted,
        } = client;
        for number in [*id, network.number(), *age_ms, *highest] {
            self.bytes.extend(number.to_le_bytes());
        }
        for bits in [applied, decided, admitted] {
            write_bits(bits, &mut self.bytes);
        }
        self.clients += 1;
    }

    pub(super) fn finish(mut self, is_last: bool) -> Vec<u8> {
        if let Some([_, flags, _, _, _, _, clients @ ..]) =
            self.bytes.first_chunk_mut::<HEAD_BYTES>()
        {
            *flags = if is_last { FLAG_LAST } else { 0 };
            *clients = self.clients.to_le_bytes();
        }
        self.bytes
    }
}

impl SavedClient {
    fn read(rest: &mut &[u8]) -> Result<Self, PieceMalformed> {
        let id = read_u64(rest)?;
        let network = Network::of_number(read_u64(rest)?);
        let client = Self {
            id,
            network: network.ok_or(PieceMalformed::Damaged {
                rule: "a client's network is none",
            })?,
            age_ms: read_u64(rest)?,
            highest: read_u64(rest)?,
            applied: read_bits(rest)?,
            decided: read_bits(rest)?,
            admitted: read_bits(rest)?,
        };
        let mut verdicts = client.admitted.iter().zip(client.decided);
        let are_decided = verdicts.all(|(admitted, decided)| admitted & !decided == 0);
        check(are_decided, "a request without a verdict was admitted")?;
        Ok(client)
    }
}

fn write_bits(bits: &Bits, out: &mut Vec<u8>) {
    let (mut used, mut full) = (0_u16, 0_u16);
    for (at, &word) in bits.iter().enumerate() {
        used |= u16::from(word != 0) << at;
        full |= u16::from(word == u64::MAX) << at;
    }
    out.extend(used.to_le_bytes());
    out.extend(full.to_le_bytes());
    let words = bits.iter().filter(|&&word| is_written(word));
    words.for_each(|word| out.extend(word.to_le_bytes()));
}

fn read_bits(rest: &mut &[u8]) -> Result<Bits, PieceMalformed> {
    let used = u16::from_le_bytes(take(rest)?);
    let full = u16::from_le_bytes(take(rest)?);
    check(full & !used == 0, "a word is full and not used")?;
    let mut bits = [0; WORDS];
    for (at, word) in bits.iter_mut().enumerate() {
        if full >> at & 1 == 1 {
            *word = u64::MAX;
        } else if used >> at & 1 == 1 {
            *word = read_u64(rest)?;
            check(is_written(*word), "a word is not in its shortest form")?;
        }
    }
    Ok(bits)
}

/// Whether a word stands behind the bits that tell of all words.
const fn is_written(word: u64) -> bool {
    word != 0 && word != u64::MAX
}

fn read_u64(rest: &mut &[u8]) -> Result<u64, PieceMalformed> {
    take(rest).map(u64::from_le_bytes)
}

/// Takes so many bytes off the front.
pub(super) fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], PieceMalformed> {
    let (bytes, behind) = rest.split_first_chunk().ok_or(PieceMalformed::CutOff)?;
    *rest = behind;
    Ok(*bytes)
}

fn check(holds: bool, rule: &'static str) -> Result<(), PieceMalformed> {
    match holds {
        true => Ok(()),
        false => Err(PieceMalformed::Damaged { rule }),
    }
}
