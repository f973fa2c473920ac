//! A replication that is too simple to be wrong: in each round every node sends all that it holds to all nodes that
//! it was told of. With the right way to merge, the checks must pass; with a wrong one they must fail. So this tests
//! the checks.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use rmbd_proto::cluster::SliceId;
use rmbd_proto::{Boot, SketchNumber, Writer};
use rmbd_store::Estimate;

use super::machine::{Cells, Copies, Machine, Setup, estimate, is_empty};

/// The way in which a received cell changes ours.
pub trait Merge {
    fn merge(ours: u64, theirs: u64) -> u64;
    /// Whether a slice is taken at all.
    fn takes(_: &SliceId, _: &Setup) -> bool {
        true
    }
}

pub struct Max;
pub struct Sum;
pub struct Last;
pub struct ForgetsTheDead;

impl Merge for Max {
    fn merge(ours: u64, theirs: u64) -> u64 {
        ours.max(theirs)
    }
}

impl Merge for Sum {
    fn merge(ours: u64, theirs: u64) -> u64 {
        ours.saturating_add(theirs)
    }
}

impl Merge for Last {
    fn merge(_: u64, theirs: u64) -> u64 {
        theirs
    }
}

/// A merge that does not take back what the node wrote before a restart.
impl Merge for ForgetsTheDead {
    fn merge(ours: u64, theirs: u64) -> u64 {
        ours.max(theirs)
    }
    fn takes(slice: &SliceId, setup: &Setup) -> bool {
        slice.node != setup.node
    }
}

pub struct Naive<M> {
    setup: Setup,
    own: Cells,
    learnt: BTreeMap<SliceId, Cells>,
    others: BTreeSet<SocketAddr>,
    next_round: Duration,
    outbox: Vec<(SocketAddr, Vec<u8>)>,
    rule: std::marker::PhantomData<M>,
}

impl<M: Merge> Naive<M> {
    fn own_slice(&self) -> SliceId {
        self.setup.slice()
    }

    /// A checksum in place of a seal: a datagram with another sum does not pass.
    fn sum(&self, bytes: &[u8]) -> u64 {
        let keys = self.setup.keys.iter().map(|&key| u64::from(key)).max();
        let secret = self.setup.first().fingerprint() ^ keys.unwrap_or_default();
        bytes.iter().fold(secret, |sum, &byte| {
            (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        })
    }

    fn encode(&self, slice: &SliceId, cells: &[u64]) -> Vec<u8> {
        let mut bytes = vec![0; 8];
        bytes.extend(slice.node.to_le_bytes());
        bytes.extend(slice.writer.0.to_le_bytes());
        bytes.extend(cells.iter().flat_map(|cell| cell.to_le_bytes()));
        let sum = self.sum(&bytes[8..]);
        bytes[..8].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    fn decode(&self, bytes: &[u8]) -> Option<(SliceId, Cells)> {
        let (sum, content) = bytes.split_first_chunk()?;
        if u64::from_le_bytes(*sum) != self.sum(content) {
            return None;
        }
        let (node, content) = content.split_first_chunk()?;
        let (writer, content) = content.split_first_chunk()?;
        let writer = Writer(u64::from_le_bytes(*writer));
        let slice = SliceId::of(u64::from_le_bytes(*node), writer);
        let cells: Cells = content
            .as_chunks()
            .0
            .iter()
            .map(|&cell| u64::from_le_bytes(cell))
            .collect();
        (cells.len() == self.setup.first().geometry.cells()).then_some((slice, cells))
    }
}

impl<M: Merge> Machine for Naive<M> {
    const ONE_WAY: bool = false;
    const SEEDS_ALL: bool = true;
    const LIMITS_DATAGRAMS: bool = false;
    const PACED: bool = false;
    const QUIET_LIMIT: Duration = Duration::from_secs(20);

    fn start(setup: &Setup, now: Duration) -> Self {
        Self {
            setup: setup.clone(),
            own: vec![0; setup.first().geometry.cells()],
            learnt: BTreeMap::new(),
            others: BTreeSet::new(),
            next_round: now,
            outbox: Vec::new(),
            rule: std::marker::PhantomData,
        }
    }

    fn add(&mut self, _: SketchNumber, key: &[u8], weight: u32) -> bool {
        let spec = self.setup.first();
        let cells = spec.family.cells(key, spec.geometry);
        for &cell in cells.as_slice() {
            self.own[cell as usize] += u64::from(weight);
        }
        true
    }

    fn estimate(&self, _: SketchNumber, key: &[u8]) -> Estimate {
        estimate(
            self.copies().iter(),
            &self.own_slice(),
            self.setup.first().geometry,
            self.setup.first().family,
            key,
        )
    }

    fn own_cells(&self, _: SketchNumber) -> Cells {
        self.own.clone()
    }

    fn cells(&self, slice: &SliceId) -> Option<Cells> {
        self.learnt.get(slice).cloned()
    }

    fn copies(&self) -> Copies {
        let mut copies = self.learnt.clone();
        copies.insert(self.own_slice(), self.own.clone());
        copies.retain(|_, cells| !is_empty(cells));
        copies
    }

    fn roots(&self) -> BTreeMap<SliceId, u64> {
        let root = |cells: &Cells| {
            cells.iter().fold(0, |sum: u64, &cell| {
                sum.wrapping_mul(0x0100_0000_01b3).wrapping_add(cell)
            })
        };
        let copies = self.copies();
        copies
            .iter()
            .map(|(slice, cells)| (*slice, root(cells)))
            .collect()
    }

    fn handle(&mut self, _: Duration, from: SocketAddr, datagram: &mut [u8]) {
        let Some((slice, cells)) = self.decode(datagram) else {
            return;
        };
        self.others.insert(from);
        if slice == self.own_slice() || !M::takes(&slice, &self.setup) {
            return;
        }
        let length = cells.len();
        let ours = self.learnt.entry(slice).or_insert_with(|| vec![0; length]);
        for (cell, theirs) in ours.iter_mut().zip(cells) {
            *cell = M::merge(*cell, theirs);
        }
    }

    fn wake(&mut self, now: Duration) {
        if now < self.next_round {
            return;
        }
        self.next_round = now + self.setup.gossip_interval;
        let mut copies = self.copies();
        copies.insert(self.own_slice(), self.own.clone());
        for (slice, cells) in &copies {
            let bytes = self.encode(slice, cells);
            let to_all = self.others.iter().map(|&to| (to, bytes.clone()));
            self.outbox.extend(to_all);
        }
    }

    fn next_wake(&self, _: Duration) -> Duration {
        self.next_round
    }

    fn transmit(&mut self, _: Duration, buffer: &mut Vec<u8>) -> Option<SocketAddr> {
        let (to, bytes) = self.outbox.pop()?;
        buffer.clear();
        buffer.extend(bytes);
        Some(to)
    }

    fn join(&mut self, _: Duration, seed: SocketAddr) {
        self.others.insert(seed);
    }

    fn is_alone(&self) -> bool {
        self.others.is_empty()
    }

    fn live(&self, _: Duration) -> Vec<(Boot, SocketAddr)> {
        self.others.iter().map(|&other| (Boot(0), other)).collect()
    }

    fn push_to(&mut self, _: Duration, target: SocketAddr) {
        self.others.insert(target);
    }

    fn leave(&mut self, now: Duration) {
        self.next_round = now;
    }

    fn is_flushed(&self) -> bool {
        false
    }

    fn is_ready(&self) -> bool {
        true
    }

    fn is_complete(&self, _: Duration) -> bool {
        false
    }

    fn vouched(&self) -> Vec<(SliceId, u64)> {
        Vec::new()
    }

    fn published(&self, _: SketchNumber) -> (u64, Cells) {
        (0, Vec::new())
    }

    fn own_version(&self, _: SketchNumber) -> u64 {
        0
    }

    fn has_room(&self, _: &Setup, _: SketchNumber, _: usize) -> bool {
        true
    }

    fn refuses(&self, _: &SliceId) -> bool {
        false
    }

    fn missing(&self, _: Duration) -> Vec<SliceId> {
        Vec::new()
    }

    fn serve(&mut self, _: Duration, _: &[u8]) -> Option<Vec<u8>> {
        None
    }

    fn repeats(&self) -> u64 {
        0
    }

    fn broken_bound(&self, _: Duration, _: &Setup) -> Option<String> {
        None
    }

    fn take_log(&mut self) -> Vec<String> {
        Vec::new()
    }

    fn describe(&self, _: Duration) -> String {
        format!("{} slices, knows {:?}", self.learnt.len(), self.others)
    }
}
