//! The interface between the simulator and a node.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use rmbd_cluster::{ClusterLimits, NameTaken};
use rmbd_proto::cluster::SliceId;
use rmbd_proto::{Boot, SketchNumber, Writer};
use rmbd_sketch::{Geometry, HashFamily, KeyHash};
use rmbd_snapshot::ClockReading;
use rmbd_store::{Estimate, Reading, WindowPlan};

use super::disk::Disk;

impl Setup {
    /// The name of the slice that the node writes in the default sketch.
    pub fn slice(&self) -> SliceId {
        self.slice_of(SketchNumber::DEFAULT)
    }

    /// The name of the slice that the node writes in a sketch.
    pub fn slice_of(&self, sketch: SketchNumber) -> SliceId {
        SliceId {
            sketch,
            node: self.node,
            writer: self.writer,
        }
    }

    /// The names of all slices that the node writes.
    pub fn slices(&self) -> impl Iterator<Item = SliceId> + '_ {
        let numbers = self.sketches.iter().map(|spec| spec.number);
        numbers.map(|number| self.slice_of(number))
    }

    /// The default sketch.
    pub fn first(&self) -> &SketchSpec {
        &self.sketches[0]
    }

    /// The sketch of a number, if the node has one.
    pub fn spec(&self, number: SketchNumber) -> Option<&SketchSpec> {
        self.sketches.iter().find(|spec| spec.number == number)
    }

    /// The most memory of a sketch: as many times its cells as the default sketch may have of its own.
    pub fn max_memory_bytes_of(&self, spec: &SketchSpec) -> u64 {
        if self.max_memory_bytes == u64::MAX {
            return u64::MAX;
        }
        let tables = self
            .max_memory_bytes
            .div_ceil(self.first().geometry.memory_bytes());
        match spec.number {
            SketchNumber::DEFAULT => self.max_memory_bytes,
            _ => tables * spec.geometry.memory_bytes(),
        }
    }
}

/// The largest keys of a sketch, as a node tells them.
#[derive(Debug, Clone)]
pub struct Top {
    /// The hash of each key, with its name where that is known, and what is certain of it.
    pub keys: BTreeMap<KeyHash, (Option<Vec<u8>>, u64)>,
    /// Every key with more is among them.
    pub complete_above: u64,
}

/// A sketch of a node. Two are equal if their counts can be exchanged; windows are each node's own concern.
#[derive(Debug, Clone, Copy, Eq)]
pub struct SketchSpec {
    pub number: SketchNumber,
    pub geometry: Geometry,
    pub family: HashFamily,
    pub windows: Windows,
}

/// The windows of a sketch.
pub type Windows = [Option<WindowSpec>; 2];

/// A window of a sketch, whatever the sketch's geometry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowSpec {
    pub span_ms: u64,
    pub step_ms: u64,
    /// Number of cells that are one cell of a snapshot; it is 1 where rows are no multiple of it.
    pub fold: u64,
}

impl PartialEq for SketchSpec {
    fn eq(&self, other: &Self) -> bool {
        let of = |spec: &Self| (spec.number, spec.geometry, spec.family);
        of(self) == of(other)
    }
}

impl SketchSpec {
    /// The plans of its windows.
    pub fn plans(&self) -> impl Iterator<Item = WindowPlan> + '_ {
        let width = self.geometry.width() as u64;
        self.windows.iter().flatten().map(move |window| {
            let fold = if width.is_multiple_of(window.fold) {
                window.fold
            } else {
                1
            };
            let (span_ms, step_ms) = (window.span_ms, Some(window.step_ms));
            let (geometry, family) = (self.geometry, self.family);
            WindowPlan::new(span_ms, step_ms, Some(width / fold), geometry, family).unwrap()
        })
    }

    pub fn fingerprint(&self) -> u64 {
        rmbd_store::fingerprint(self.geometry, self.family)
    }
}

/// The settings that a node starts with.
#[derive(Debug, Clone)]
pub struct Setup {
    /// The sketches of the node, of which the first is the default one.
    pub sketches: Vec<SketchSpec>,
    pub node: u64,
    pub boot: Boot,
    pub writer: Writer,
    pub started_ms: u64,
    pub address: SocketAddr,
    pub seed: u64,
    /// Numbers of the keys in the node's key file; the first one seals. Without any, the node has the public key.
    pub keys: Vec<u8>,
    pub max_origins: usize,
    pub max_memory_bytes: u64,
    /// Whether the node expects others.
    pub joins: bool,
    pub gossip_interval: Duration,
    pub gossip_rate_bytes_per_s: u64,
    pub limits: ClusterLimits,
}

/// What a process has found on its disk.
#[derive(Debug, Clone, Copy, Default)]
pub struct Found {
    /// The number of the file that it has taken over.
    pub file: Option<u64>,
    /// The writer that has written it.
    pub writer_before: Writer,
    /// Whether the process goes on with that writer's slices, under their name or under its own.
    pub is_resumed: bool,
    /// An earlier process has gone on with them as this writer, and they are here under its name.
    pub renamed: Option<Writer>,
    /// There was a file that cannot be used.
    pub is_set_aside: bool,
}

/// What the next step of a file was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SaveProgress {
    /// One of many.
    Going,
    /// The file of this number has everything from here on that is published now.
    Begins(u64),
    /// That file is whole, and certain to be there.
    Saved(u64),
}

/// A file that a process is to write.
#[derive(Debug, Clone, Copy)]
pub struct Keep<'a> {
    pub setup: &'a Setup,
    pub file: u64,
    pub now: ClockReading,
    pub is_last: bool,
}

/// The cells of one slice.
pub type Cells = Vec<u64>;
/// All slices that a node holds, without those whose cells are all zero.
pub type Copies = BTreeMap<SliceId, Cells>;

/// A node without its surroundings. Times are those of the node's own clock.
pub trait Machine: Sized {
    /// Whether the machine supports one-way pushes.
    const ONE_WAY: bool;
    /// Whether each node must be told of all others, since the machine has no membership.
    const SEEDS_ALL: bool;
    /// Whether the machine's datagrams have a largest size.
    const LIMITS_DATAGRAMS: bool;
    /// Whether the time until nodes are equal is known.
    const PACED: bool;
    /// Virtual time in which all nodes must be equal once it is quiet.
    const QUIET_LIMIT: Duration;

    fn start(setup: &Setup, now: Duration) -> Self;
    /// Starts with what is on a disk, when the clocks show this. A machine that keeps nothing finds nothing.
    fn start_on(setup: &Setup, _disk: &mut Disk, now: ClockReading) -> (Self, Found) {
        (Self::start(setup, now.time), Found::default())
    }
    /// Does the next step of a snapshot file, which has this number if the step begins it. The last file of a process
    /// ends with a mark. Returns `None` where the machine keeps nothing.
    fn save(&mut self, _to: Keep<'_>, _disk: &mut Disk) -> Option<SaveProgress> {
        None
    }
    /// Gives up the file at hand.
    fn give_up_saving(&mut self, _disk: &mut Disk) {}
    /// The boot and the writer that the process has by now, if it may have taken others than those of its setup.
    fn name(&self) -> Option<(Boot, Writer)> {
        None
    }
    /// Why the process has taken another writer than that with which it has begun.
    fn reason_of_name(&self, _now: Duration) -> Option<NameTaken> {
        None
    }
    /// Adds a weight. Returns false if so much was added that the machine has to be woken first.
    fn add(&mut self, sketch: SketchNumber, key: &[u8], weight: u32) -> bool;
    fn estimate(&self, sketch: SketchNumber, key: &[u8]) -> Estimate;
    /// The cells of what was added on this node to a sketch, as they are now.
    fn own_cells(&self, sketch: SketchNumber) -> Cells;
    /// The cells that the node holds of a slice.
    fn cells(&self, slice: &SliceId) -> Option<Cells>;
    /// The slices that the node would send to others, of all sketches.
    fn copies(&self) -> Copies;
    /// Hashes of all slices. Two nodes with equal hashes hold the same cells, as far as their own hashes tell.
    fn roots(&self) -> BTreeMap<SliceId, u64>;

    fn handle(&mut self, now: Duration, from: SocketAddr, datagram: &mut [u8]);
    fn wake(&mut self, now: Duration);
    fn next_wake(&self, now: Duration) -> Duration;
    fn transmit(&mut self, now: Duration, buffer: &mut Vec<u8>) -> Option<SocketAddr>;

    fn join(&mut self, now: Duration, seed: SocketAddr);
    fn is_alone(&self) -> bool;
    /// Boots and addresses of the members that the node takes for live.
    fn live(&self, now: Duration) -> Vec<(Boot, SocketAddr)>;
    fn push_to(&mut self, now: Duration, target: SocketAddr);
    /// Takes other keys while it runs. A machine without keys has nothing to take.
    fn set_keys(&mut self, _now: Duration, _keys: &[u8]) {}
    fn leave(&mut self, now: Duration);
    fn is_flushed(&self) -> bool;
    fn is_ready(&self) -> bool;
    /// Whether the node claims to have all that the cluster had when it joined.
    fn is_complete(&self, now: Duration) -> bool;

    /// Slices of others that the node claims to have completely, with the version.
    fn vouched(&self) -> Vec<(SliceId, u64)>;
    /// The published version of the node's own slice in a sketch, and its cells.
    fn published(&self, sketch: SketchNumber) -> (u64, Cells);
    fn own_version(&self, sketch: SketchNumber) -> u64;
    /// Whether the node's limits leave room for `slices` slices whatever is in them, or for one more where places are
    /// few.
    fn has_room(&self, setup: &Setup, sketch: SketchNumber, slices: usize) -> bool;
    /// Whether the node reports that it has no room for all of this slice. Its part of the slice is owed to nobody
    /// then.
    fn refuses(&self, slice: &SliceId) -> bool;
    /// The slices of which the node reports that they exist, and that it does not hold all of them.
    fn missing(&self, now: Duration) -> Vec<SliceId>;
    /// Whether there are such slices of a sketch.
    fn says_incomplete(&self, now: Duration, sketch: SketchNumber) -> bool {
        let missing = self.missing(now);
        missing.iter().any(|slice| slice.sketch == sketch)
    }

    /// Does what a client asks for in a datagram, and returns the reply.
    fn serve(&mut self, now: Duration, datagram: &[u8]) -> Option<Vec<u8>>;
    /// Number of clients' requests that had been applied before.
    fn repeats(&self) -> u64;

    /// Goes on with a snapshot that is at hand or due, over so many cells.
    fn snapshot(&mut self, _: &dyn Fn() -> Duration, _: usize) {}
    /// When a snapshot is due.
    fn next_snapshot(&self) -> Option<Duration> {
        None
    }
    /// Adds 1 to a key in the default sketch if its estimate in the first window, or of all time where there is none,
    /// stays within the limit. Returns whether it did.
    fn take(&mut self, _now: Duration, _key: &[u8], _limit: u64, _reading: Reading) -> bool {
        false
    }
    /// An upper bound of what was counted in the last `span_ms`, if the node has such a window.
    fn bound_in(
        &self,
        _now: Duration,
        _sketch: SketchNumber,
        _span_ms: u64,
        _key: &[u8],
    ) -> Option<Estimate> {
        None
    }
    /// The largest keys of a sketch in all slices that the node holds, if it lists them.
    fn top(&self, _sketch: SketchNumber) -> Option<Top> {
        None
    }
    /// What the node holds of some cells of a slice.
    fn some_cells(&self, slice: &SliceId, cells: &[u32]) -> Vec<u64> {
        let all = self.cells(slice).unwrap_or_default();
        let of = |&cell: &u32| all.get(cell as usize).copied().unwrap_or_default();
        cells.iter().map(of).collect()
    }

    /// Describes a bound that the node has broken, if there is one.
    fn broken_bound(&self, now: Duration, setup: &Setup) -> Option<String>;
    /// Returns the lines of the node's log since the last call.
    fn take_log(&mut self) -> Vec<String>;
    /// Describes the state of the node, for a failed run.
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

/// The answer to a key by the rule, at the writer of `own`: the least row of that slice, plus the least row of the
/// sums of all others.
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
        ..Estimate::default()
    }
}
