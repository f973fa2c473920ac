//! Rows from legacy peers: merged by maximum, and kept through the peer's restarts.
//!
//! The Python program sends its own rows again and again, as they are now. Its protocol does not tell one start of
//! the program from another, so a restart shows only as cells that fall. Cells also fall when the network delivers an
//! older datagram late. Therefore one fall is held back, and only a second one of the same row, with no risen row
//! between, counts as a restart.
//!
//! ```text
//!    received     5  9  7     12      3        4        6
//!                       |              |        |
//!                    held back     held back  restart: what was there stays, a new boot is added
//!    readers see  5  9  9     12     12      12+4     12+6
//! ```
//!
//! Two cases cannot be told apart. A peer that restarts and outruns its old counts before it sends its next row looks
//! as if it had gone on: some of the new counts are missed. Two late datagrams of a row in a row look like a restart:
//! the old counts are taken twice.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use rmbd_sketch::{Geometry, MAX_DEPTH, SketchError};

use super::Replica;
use super::memory::{NoMemory, try_zeroed};
use super::origins::Origin;

/// Bytes that a legacy peer takes for each cell: the cell that readers see, and the latest one received.
const BYTES_PER_CELL: u64 = 2 * 8;

/// The outcome of merging a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowMerged {
    /// The row was taken.
    Merged,
    /// Some cell is lower than before, because of an old datagram or a restart. Nothing was changed; the next receipt
    /// of the row decides which.
    HeldBack,
    /// Some cell is lower for the second time: the peer has restarted. Its earlier counts stay, and the row was added
    /// on top of them.
    Restarted,
}

/// Why a row was not merged. Nothing was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MergeError {
    /// As many legacy peers have sent rows as are allowed.
    #[error(
        "the table of legacy peers is full at {max_peers}, the row of a new peer was dropped: raise the limit of peers, or restart to forget old ones"
    )]
    PeerTableFull {
        /// The largest number of legacy peers.
        max_peers: usize,
    },
    /// There is no memory for the new peer's cells, on the machine or within the replica's limit.
    #[error("the row of a new legacy peer was dropped: {0}")]
    Memory(#[from] NoMemory),
    /// A row with this index does not exist here.
    #[error("row {row} was dropped, this sketch has {depth} rows: give both ends the same depth")]
    NoSuchRow {
        /// The index of the row in the message.
        row: usize,
        /// Number of rows of this node.
        depth: usize,
    },
    /// The row has a different number of counters than ours.
    #[error(
        "a row of {counters} counters was dropped, rows here have {width}: give both ends the same width"
    )]
    Length {
        /// Number of counters in the message; `width + 1` stands for any larger number.
        counters: usize,
        /// Number of counters of a row here.
        width: usize,
    },
}

/// The writer of legacy peers' counts. Each [`Replica`] has one, which the control thread owns.
#[derive(Debug)]
pub struct LegacyRows {
    replica: Arc<Replica>,
    max_peers: usize,
    peers: HashMap<SocketAddr, LegacyPeer>,
    /// The row that is being merged; kept for its memory.
    received: Vec<u64>,
}

/// The part of a peer that only the writer needs.
#[derive(Debug)]
struct LegacyPeer {
    /// The peer's place in the replica's table.
    place: usize,
    /// The largest cells of the peer's present boot; 0 where no row has come. Readers' cells are these plus those of
    /// earlier boots.
    current: Box<[u64]>,
    held_back: [bool; MAX_DEPTH],
    /// Whether readers leave the peer out until it sends again.
    is_forgotten: bool,
}

impl LegacyRows {
    /// The writer for a replica. It takes rows of at most `max_peers` peers, and of no more than the replica has
    /// places for.
    #[must_use]
    pub fn new(replica: Arc<Replica>, max_peers: usize) -> Self {
        Self {
            max_peers: max_peers.min(replica.origins.max()),
            replica,
            peers: HashMap::new(),
            received: Vec::new(),
        }
    }

    /// Merges a row of `width` counters that `from` has sent. The cells that readers of the replica see only grow.
    ///
    /// # Errors
    ///
    /// Fails where the row does not fit this sketch, or where there is no room for a new peer; nothing has changed
    /// then.
    pub fn merge(
        &mut self,
        from: SocketAddr,
        row: usize,
        counters: impl Iterator<Item = u64>,
    ) -> Result<RowMerged, MergeError> {
        let geometry = self.replica.own().geometry();
        let (width, depth) = (geometry.width(), geometry.depth());
        if row >= depth {
            return Err(MergeError::NoSuchRow { row, depth });
        }
        self.receive(counters, width)?;
        let (replica, max_peers) = (&*self.replica, self.max_peers);
        let is_full = self.peers.len() >= max_peers;
        let peer = match self.peers.entry(from) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(_) if is_full => {
                replica.lacks_peers.store(true, Relaxed);
                return Err(MergeError::PeerTableFull { max_peers });
            }
            Entry::Vacant(place) => {
                let peer = LegacyPeer::try_new(replica, from);
                place.insert(peer.inspect_err(|_| replica.lacks_peers.store(true, Relaxed))?)
            }
        };
        let Some(origin) = replica.origins.get(peer.place) else {
            // This never happens: the table keeps what it has.
            return Err(MergeError::PeerTableFull { max_peers });
        };
        peer.come_back(origin);
        let cells = row * width..(row + 1) * width;
        let (outcome, weight) =
            peer.merge(row, cells.clone(), &self.received, &origin.cells[cells]);
        // There is one writer, as for the cells.
        let row_weight = &origin.row_weights[row];
        let grown = row_weight.load(Relaxed).saturating_add(weight);
        row_weight.store(grown, Relaxed);
        Ok(outcome)
    }

    /// Takes the counts of `from` out of the answers, because it turns out to be counted in another way. Returns
    /// whether there were any. The memory stays, since readers may be in the middle of it. The place is kept: if the
    /// peer sends again, it starts there from zero.
    pub fn forget(&mut self, from: SocketAddr) -> bool {
        let Some(peer) = self.peers.get_mut(&from) else {
            return false;
        };
        let origin = self.replica.origins.get(peer.place);
        let (Some(origin), false) = (origin, peer.is_forgotten) else {
            return false;
        };
        peer.is_forgotten = true;
        origin.hide();
        true
    }

    /// Copies the counters into `received`, since the merge goes through them twice.
    fn receive(
        &mut self,
        counters: impl Iterator<Item = u64>,
        width: usize,
    ) -> Result<(), MergeError> {
        self.received.clear();
        self.received
            .try_reserve_exact(width)
            .map_err(|_| SketchError::OutOfMemory {
                bytes: width as u64 * 8,
            })
            .map_err(NoMemory::from)?;
        let mut counters = counters.fuse();
        self.received.extend(counters.by_ref().take(width));
        let counters = self.received.len() + counters.take(1).count();
        if counters != width {
            return Err(MergeError::Length { counters, width });
        }
        Ok(())
    }
}

impl LegacyPeer {
    /// Takes memory for a new peer, and a place in the replica's table.
    fn try_new(replica: &Replica, address: SocketAddr) -> Result<Self, MergeError> {
        let geometry = replica.own().geometry();
        let bytes = BYTES_PER_CELL * geometry.cells() as u64;
        replica.memory.reserve(bytes).map_err(NoMemory::from)?;
        let placed = Self::place(replica, address, geometry);
        placed.inspect_err(|_| replica.memory.release(bytes))
    }

    fn place(
        replica: &Replica,
        address: SocketAddr,
        geometry: Geometry,
    ) -> Result<Self, MergeError> {
        let cells = geometry.cells();
        let current = try_zeroed(cells).map_err(NoMemory::from)?;
        let cells = try_zeroed(cells).map_err(NoMemory::from)?;
        let place = replica.origins.push(Origin::new(address, cells));
        Ok(Self {
            place: place.map_err(|_| MergeError::PeerTableFull {
                max_peers: replica.origins.max(),
            })?,
            current,
            held_back: [false; MAX_DEPTH],
            is_forgotten: false,
        })
    }

    /// Shows a forgotten peer that sends again; it starts from zero.
    fn come_back(&mut self, origin: &Origin) {
        if std::mem::take(&mut self.is_forgotten) {
            self.current.fill(0);
            self.held_back = [false; MAX_DEPTH];
            origin.show_cleared();
        }
    }

    /// Merges a row. `at` is the position of the row in `current`; `readers` is the row that readers see. Returns the
    /// outcome, and by how much the row grew.
    fn merge(
        &mut self,
        row: usize,
        at: Range<usize>,
        received: &[u64],
        readers: &[AtomicU64],
    ) -> (RowMerged, u64) {
        let current = &mut self.current[at.clone()];
        let falls = received.iter().zip(&*current).any(|(new, old)| new < old);
        let outcome = match (falls, self.held_back[row]) {
            (false, _) => RowMerged::Merged,
            (true, false) => {
                self.held_back[row] = true;
                return (RowMerged::HeldBack, 0);
            }
            (true, true) => {
                // All rows are cleared, so that no other row needs two receipts to find out.
                self.current.fill(0);
                self.held_back = [false; MAX_DEPTH];
                RowMerged::Restarted
            }
        };
        self.held_back[row] = false;
        let mut weight = 0;
        for ((new, old), cell) in received.iter().zip(&mut self.current[at]).zip(readers) {
            // Readers' cells are earlier boots plus `current`, so both grow by the same amount. There is one writer,
            // so a load and a store lose nothing.
            let grown = cell.load(Relaxed).saturating_add(new - *old);
            cell.store(grown, Relaxed);
            weight = new.saturating_sub(*old).saturating_add(weight);
            *old = *new;
        }
        (outcome, weight)
    }
}
