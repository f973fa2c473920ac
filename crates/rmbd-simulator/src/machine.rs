//! What the simulator asks of a node.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use rmbd_cluster::ClusterLimits;
use rmbd_proto::cluster::SliceId;
use rmbd_proto::{Boot, Writer};
use rmbd_sketch::{Geometry, HashFamily};
use rmbd_store::Estimate;

impl Setup {
    /// The name of the slice that it writes.
    pub fn slice(&self) -> SliceId {
        SliceId::of(self.node, self.writer)
    }
}

/// What a node starts with.
#[derive(Debug, Clone)]
pub struct Setup {
    pub geometry: Geometry,
    pub family: HashFamily,
    pub node: u64,
    pub boot: Boot,
    pub writer: Writer,
    pub started_ms: u64,
    pub address: SocketAddr,
    pub seed: u64,
    /// Numbers of the keys in its key file, the first one seals; none: the public one.
    pub keys: Vec<u8>,
    pub fingerprint: u64,
    pub max_origins: usize,
    pub max_memory_bytes: u64,
    /// Whether it expects others.
    pub joins: bool,
    pub gossip_interval: Duration,
    pub gossip_rate_bytes_per_s: u64,
    pub limits: ClusterLimits,
}

/// The cells of one slice.
pub type Cells = Vec<u64>;
/// All that a node holds, without slices whose cells are all zero.
pub type Copies = BTreeMap<SliceId, Cells>;

/// A node without its surroundings. Times are what its own clock shows.
pub trait Machine: Sized {
    /// Whether it knows one-way peers.
    const ONE_WAY: bool;
    /// Whether it must be told of everybody, since it has no membership.
    const SEEDS_ALL: bool;
    /// Whether its datagrams have a limit.
    const LIMITS_DATAGRAMS: bool;
    /// Whether it is known how long it may take.
    const PACED: bool;
    /// Virtual time in which all must be equal once it is quiet.
    const QUIET_LIMIT: Duration;

    fn start(setup: &Setup, now: Duration) -> Self;
    /// False where so much was added that it has to be woken first.
    fn add(&mut self, key: &[u8], weight: u32) -> bool;
    fn estimate(&self, key: &[u8]) -> Estimate;
    /// What was added here, as it stands now.
    fn own_cells(&self) -> Cells;
    /// What it holds of a slice.
    fn cells(&self, slice: &SliceId) -> Option<Cells>;
    /// What it would tell others.
    fn copies(&self) -> Copies;
    /// Cheap to compare: two that are equal hold the same, as far as their own hashes say.
    fn roots(&self) -> BTreeMap<SliceId, u64>;

    fn handle(&mut self, now: Duration, from: SocketAddr, datagram: &mut [u8]);
    fn wake(&mut self, now: Duration);
    fn next_wake(&self, now: Duration) -> Duration;
    fn transmit(&mut self, now: Duration, buffer: &mut Vec<u8>) -> Option<SocketAddr>;

    fn join(&mut self, now: Duration, seed: SocketAddr);
    fn is_alone(&self) -> bool;
    /// Other members that it takes for up: their boots, and where they are.
    fn live(&self, now: Duration) -> Vec<(Boot, SocketAddr)>;
    fn push_to(&mut self, now: Duration, target: SocketAddr);
    fn leave(&mut self, now: Duration);
    fn is_flushed(&self) -> bool;
    fn is_ready(&self) -> bool;
    /// It says that it has all that the cluster had when it joined.
    fn is_complete(&self, now: Duration) -> bool;

    /// What it tells others that it has completely: slices of others, and until which version.
    fn vouched(&self) -> Vec<(SliceId, u64)>;
    /// The version of its own slice that is published, and its cells.
    fn published(&self) -> (u64, Cells);
    fn own_version(&self) -> u64;
    /// Its limits leave room for so many slices, whatever is in them, or for one more where places are few.
    fn has_room(&self, setup: &Setup, slices: usize) -> bool;
    /// It says that it has no room for all of this slice: what it has of it nobody else is owed.
    fn refuses(&self, slice: &SliceId) -> bool;
    /// It says that slices exist which it does not hold.
    fn says_incomplete(&self, now: Duration) -> bool;

    /// Does what a client asks for in a datagram; what is replied.
    fn serve(&mut self, now: Duration, datagram: &[u8]) -> Option<Vec<u8>>;
    /// Requests of clients that it had applied before.
    fn repeats(&self) -> u64;

    /// A bound that it has broken, in words.
    fn broken_bound(&self, now: Duration, setup: &Setup) -> Option<String>;
    /// What it says in its log, since it was asked last.
    fn take_log(&mut self) -> Vec<String>;
    /// What helps to see why something failed.
    fn describe(&self, now: Duration) -> String;
}

pub fn is_empty(cells: &[u64]) -> bool {
    cells.iter().all(|&cell| cell == 0)
}

pub fn raise(cells: &mut [u64], to: &[u64]) {
    for (cell, &other) in cells.iter_mut().zip(to) {
        *cell = other.max(*cell);
    }
}

/// The answer to a key by the rule itself, at the one who writes `own`: the least row of that slice, plus the least
/// row of the sums of all others.
pub fn estimate<'a>(
    copies: impl Iterator<Item = (&'a SliceId, &'a Cells)>,
    own: &SliceId,
    geometry: Geometry,
    family: HashFamily,
    key: &[u8],
) -> Estimate {
    let indexes = family.cells(key, geometry);
    let indexes = indexes.as_slice();
    let mut rows = vec![(0, 0); indexes.len()];
    for (slice, cells) in copies {
        for (row, &index) in rows.iter_mut().zip(indexes) {
            let value = cells[index as usize];
            let sum = if slice == own { &mut row.0 } else { &mut row.1 };
            *sum = value.saturating_add(*sum);
        }
    }
    let least_own = rows.iter().map(|row| row.0).min();
    let least_others = rows.iter().map(|row| row.1).min();
    Estimate {
        count: (least_own.unwrap_or_default()).saturating_add(least_others.unwrap_or_default()),
        incomplete: false,
    }
}
