//! Reading the messages of a datagram.

use std::iter::FusedIterator;

use thiserror::Error;

use super::{
    Dialect, KEY_BYTES_MAX, MESSAGE_BYTES, PASCAL_BYTES, TYPE_ACK, TYPE_ADD, TYPE_COUNT, TYPE_PEER,
    TYPE_SYNC,
};

/// The settings of a node that the parser needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// The dialect for messages that do not tell theirs.
    pub dialect: Dialect,
    /// Columns of a row, which is the number of counters of a sync message.
    pub width: usize,
    /// Number of rows: the index of a sync message is below it.
    pub depth: usize,
}

/// One message, borrowed from its datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message<'a> {
    /// The key is to be counted once more. It has 0 to 139 bytes.
    Add {
        /// The key.
        key: &'a [u8],
    },
    /// The sender asks how often the key occurred. The key has 0 to 139 bytes.
    Count {
        /// The key.
        key: &'a [u8],
    },
    /// The sender sends a row of its own sketch.
    Sync(SyncRow<'a>),
    /// The sender orders this node to push its rows to another program.
    Peer(PeerOrder<'a>),
    /// The sender took a row of ours.
    Ack,
}

/// A row of the sender's own sketch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SyncRow<'a> {
    /// Index of the row, below the depth of the [`Layout`].
    pub row: usize,
    /// The dialect, which the length tells; an ack is the same in both.
    pub dialect: Dialect,
    cells: &'a [u8],
}

impl<'a> SyncRow<'a> {
    /// The counters by column. There are exactly as many as the [`Layout`] has columns.
    ///
    /// The native dialect has 8 bytes a counter, so a value may be above `u32::MAX`.
    pub fn counters(&self) -> impl Iterator<Item = u64> + use<'a> {
        let (native, network): (&[u8], &[u8]) = match self.dialect {
            Dialect::Native => (self.cells, &[]),
            Dialect::Network => (&[], self.cells),
        };
        let native = native.as_chunks().0.iter().copied();
        let network = network.as_chunks().0.iter().copied();
        native
            .map(u64::from_le_bytes)
            .chain(network.map(|cell| u64::from(u32::from_be_bytes(cell))))
    }
}

/// An order to push our rows to another program, as it stands in the message and not checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerOrder<'a> {
    /// The host: a name or an address of 0 to 139 bytes, perhaps not UTF-8.
    pub host: &'a [u8],
    /// The port, which may be 0 or above 65 535.
    pub port: u64,
}

/// Why a datagram, or the rest of one, is malformed. It changed nothing; the messages before it are valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Error)]
pub enum Malformed {
    /// The datagram is empty.
    #[error("empty datagram")]
    Empty,
    /// The type byte belongs to no message.
    #[error("unknown message type")]
    UnknownType,
    /// The length does not fit the type: the message is cut off or too long, or it is a sync row of another width.
    #[error("wrong length for this message type (or a sync row of another width)")]
    Length,
    /// A sync, peer or ack message stands behind an add or a count.
    #[error("a sync, peer or ack message must be alone in its datagram")]
    NotAlone,
    /// The index of a sync row is not below the depth.
    #[error("row index out of range: the sender's sketch is deeper")]
    RowOutOfRange,
}

impl Malformed {
    /// All reasons, in the order of [`Self::index`].
    pub const ALL: [Self; 5] = [
        Self::Empty,
        Self::UnknownType,
        Self::Length,
        Self::NotAlone,
        Self::RowOutOfRange,
    ];

    /// The name of the reason in `snake_case`, which never changes.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::UnknownType => "unknown_type",
            Self::Length => "length",
            Self::NotAlone => "not_alone",
            Self::RowOutOfRange => "row_out_of_range",
        }
    }

    /// Position in [`Self::ALL`], for arrays of counters.
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }
}

/// Reads the messages of a datagram, in order. There is at most one `Err`, as the last item.
///
/// ```
/// use rmbd_proto::legacy::{Dialect, Layout, Malformed, Message, encode_add, messages};
///
/// let layout = Layout { dialect: Dialect::Native, width: 100, depth: 10 };
/// let mut datagram = encode_add(b"abc").to_vec();
/// datagram.push(0x01); // a count that was cut off
/// let seen: Vec<_> = messages(&datagram, layout).collect();
/// assert_eq!(seen, [Ok(Message::Add { key: b"abc" }), Err(Malformed::Length)]);
/// ```
#[inline]
#[must_use]
pub fn messages(datagram: &[u8], layout: Layout) -> Messages<'_> {
    Messages {
        rest: datagram,
        layout,
        started: false,
    }
}

/// Iterator of [`messages`].
#[derive(Debug, Clone)]
pub struct Messages<'a> {
    /// The bytes that are not read yet.
    rest: &'a [u8],
    layout: Layout,
    /// Whether an item was returned.
    started: bool,
}

impl<'a> Iterator for Messages<'a> {
    type Item = Result<Message<'a>, Malformed>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if let Some((message, rest)) = self.rest.split_first_chunk::<MESSAGE_BYTES>() {
            let [kind, string @ ..] = message;
            let key = pascal(string);
            let message = match *kind {
                TYPE_ADD => Message::Add { key },
                TYPE_COUNT => Message::Count { key },
                _ => return self.last(),
            };
            self.rest = rest;
            self.started = true;
            return Some(Ok(message));
        }
        self.last()
    }
}

impl FusedIterator for Messages<'_> {}

impl<'a> Messages<'a> {
    /// Reads a message that ends the datagram: any but an add or a count.
    #[inline(never)]
    fn last(&mut self) -> Option<Result<Message<'a>, Malformed>> {
        let alone = !std::mem::replace(&mut self.started, true);
        let rest = std::mem::take(&mut self.rest);
        let Some((kind, body)) = rest.split_first() else {
            return alone.then_some(Err(Malformed::Empty));
        };
        Some(match *kind {
            TYPE_ADD | TYPE_COUNT => Err(Malformed::Length),
            TYPE_SYNC..=TYPE_ACK if !alone => Err(Malformed::NotAlone),
            TYPE_SYNC => sync(body, self.layout).map(Message::Sync),
            TYPE_PEER => peer(body, self.layout.dialect).map(Message::Peer),
            TYPE_ACK => Ok(Message::Ack),
            _ => Err(Malformed::UnknownType),
        })
    }
}

/// The bytes of a Pascal string.
#[inline]
pub(super) fn pascal(string: &[u8; PASCAL_BYTES]) -> &[u8] {
    let [length, bytes @ ..] = string;
    &bytes[..usize::from(*length).min(KEY_BYTES_MAX)]
}

fn sync(body: &[u8], layout: Layout) -> Result<SyncRow<'_>, Malformed> {
    // No width has the same length in both dialects: 9 + 8w = 3 + 4w has no solution.
    let dialect = [Dialect::Native, Dialect::Network]
        .into_iter()
        .find(|dialect| dialect.sync_bytes(layout.width) == 1 + body.len())
        .ok_or(Malformed::Length)?;
    let (index, _) = body.split_first_chunk().ok_or(Malformed::Length)?;
    let row = usize::from(match dialect {
        Dialect::Native => u16::from_le_bytes(*index),
        Dialect::Network => u16::from_be_bytes(*index),
    });
    if row >= layout.depth {
        return Err(Malformed::RowOutOfRange);
    }
    let cells = body
        .get(dialect.sync_header_bytes() - 1..)
        .ok_or(Malformed::Length)?;
    Ok(SyncRow {
        row,
        dialect,
        cells,
    })
}

fn peer(body: &[u8], dialect: Dialect) -> Result<PeerOrder<'_>, Malformed> {
    let (host, port) = body
        .split_first_chunk::<PASCAL_BYTES>()
        .ok_or(Malformed::Length)?;
    let port = match (port, dialect) {
        (&[a, b], Dialect::Native) => u64::from(u16::from_le_bytes([a, b])),
        (&[a, b], Dialect::Network) => u64::from(u16::from_be_bytes([a, b])),
        (&[a, b, c, d], _) => u64::from(u32::from_be_bytes([a, b, c, d])),
        // Four bytes of padding align the native `L`.
        (&[_, _, _, _, ref port @ ..], _) => {
            u64::from_le_bytes(port.try_into().map_err(|_| Malformed::Length)?)
        }
        _ => return Err(Malformed::Length),
    };
    Ok(PeerOrder {
        host: pascal(host),
        port,
    })
}
