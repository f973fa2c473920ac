//! Rows from legacy peers: merged by maximum, and kept through the peer's restarts.
//!
//! The Python program sends its own rows again and again, as they are now. Its protocol has no
//! identity of a start, so that a restart shows only in that cells fall. They also fall when the
//! network delivers an older datagram late; therefore one fall is held back, and only a second one
//! of the same row, with no risen one between, counts as a restart.
//!
//! ```text
//!    received     5  9  7     12      3        4        6
//!                       |              |        |
//!                    held back     held back  restart: what was there stays, a new boot is added
//!    readers see  5  9  9     12     12      12+4     12+6
//! ```
//!
//! Outside of what can be told: a peer that restarts and outruns its old counts before it sends its
//! next row (then some of the new counts are missed), and two late datagrams of a row in a row (then
//! the old counts are taken twice).

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

/// Bytes that a legacy peer takes for each cell: what readers see, and its latest one.
const BYTES_PER_CELL: u64 = 2 * 8;

/// The outcome of merging a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowMerged {
    /// Taken.
    Merged,
    /// Some cell is lower than before: an old datagram, or a restart. Nothing was changed; the row's
    /// next receipt tells which.
    HeldBack,
    /// Lower for the second time: the peer has restarted. What it had counted before stays, and the
    /// row was taken on top of it.
    Restarted,
}

/// Why a row was not merged. Nothing was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MergeError {
    /// As many legacy peers as are allowed have sent rows already.
    #[error(
        "the table of legacy peers is full at {max_peers}, the row of a new peer was dropped: raise the limit of peers, or restart to forget old ones"
    )]
    PeerTableFull {
        /// The limit.
        max_peers: usize,
    },
    /// No memory for the new peer's slices, of the machine or within the replica's limit.
    #[error("the row of a new legacy peer was dropped: {0}")]
    Memory(#[from] NoMemory),
    /// The row does not exist here.
    #[error("row {row} was dropped, this sketch has {depth} rows: give both ends the same depth")]
    NoSuchRow {
        /// What the message says.
        row: usize,
        /// Rows of this node.
        depth: usize,
    },
    /// The row has a different number of counters than ours.
    #[error(
        "a row of {counters} counters was dropped, rows here have {width}: give both ends the same width"
    )]
    Length {
        /// What the message has; `width + 1` where it has more than that.
        counters: usize,
        /// What a row has here.
        width: usize,
    },
}

/// The writer of legacy peers' slices. There is one for each [`Replica`], and the control thread
/// owns it.
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
    /// Its place in the replica's table.
    place: usize,
    /// The largest cells of its present boot; 0 where it has sent none. Readers' cells are these plus
    /// those of earlier boots.
    current: Box<[u64]>,
    held_back: [bool; MAX_DEPTH],
    /// Readers leave it out until it sends anew.
    is_forgotten: bool,
}

impl LegacyRows {
    /// The writer for a replica, which takes rows of at most `max_peers` peers (and of no more than the
    /// replica has places for).
    #[must_use]
    pub fn new(replica: Arc<Replica>, max_peers: usize) -> Self {
        Self {
            max_peers: max_peers.min(replica.origins.max()),
            replica,
            peers: HashMap::new(),
            received: Vec::new(),
        }
    }

    /// Merges a row that `from` has sent: `width` counters. What readers of the replica see only grows.
    ///
    /// # Errors
    ///
    /// A row that does not fit this sketch, or a new peer for which there is no room; then nothing
    /// has changed.
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
            // Never: the table keeps what it has.
            return Err(MergeError::PeerTableFull { max_peers });
        };
        peer.come_back(origin);
        let cells = row * width..(row + 1) * width;
        let (outcome, weight) =
            peer.merge(row, cells.clone(), &self.received, &origin.cells[cells]);
        // One writer, as for the cells.
        let row_weight = &origin.row_weights[row];
        let grown = row_weight.load(Relaxed).saturating_add(weight);
        row_weight.store(grown, Relaxed);
        Ok(outcome)
    }

    /// Takes what `from` has sent out of the answers, for one that turns out to be counted otherwise;
    /// whether there was anything to take out. Its memory stays, since readers may be in the middle of
    /// it, and its place is kept: should it send again, it starts there from zero.
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

    /// Takes the counters into `received`, since they are gone through twice.
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
    /// Takes the memory for a new peer and a place in the replica's table.
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

    /// One that was forgotten and sends anew starts from zero.
    fn come_back(&mut self, origin: &Origin) {
        if std::mem::take(&mut self.is_forgotten) {
            self.current.fill(0);
            self.held_back = [false; MAX_DEPTH];
            origin.show_cleared();
        }
    }

    /// `at` is where the row lies in `current`; `readers` is the row that readers see. Returns by how
    /// much the row grew, too.
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
                // All rows, so that no other one needs two receipts to find out.
                self.current.fill(0);
                self.held_back = [false; MAX_DEPTH];
                RowMerged::Restarted
            }
        };
        self.held_back[row] = false;
        let mut weight = 0;
        for ((new, old), cell) in received.iter().zip(&mut self.current[at]).zip(readers) {
            // Readers' cells = earlier boots + `current`, so both grow by the same. One writer: a load and a store
            // lose nothing.
            let grown = cell.load(Relaxed).saturating_add(new - *old);
            cell.store(grown, Relaxed);
            weight = new.saturating_sub(*old).saturating_add(weight);
            *old = *new;
        }
        (outcome, weight)
    }
}
