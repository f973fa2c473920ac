//! The tables that all threads share: our own sketch, and the sums of learnt counts.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use crossbeam_utils::CachePadded;

use super::append::AppendTable;
use super::audit::{Audit, AuditPlan};
use super::candidates::{Lists, TOP_MAX, TopPlan};
use super::likely::Sampled;
use super::memory::{Memory, MemoryShare, NoMemory};
use super::origins::Origin;
use super::seats::Seats;
use super::urgent::Urgent;
use super::windows::{WindowPlan, Windows};
use super::{Estimate, OriginEstimate, OriginName, SliceId};
use rmbd_proto::{SketchNumber, Writer};
use rmbd_sketch::{
    CellIndexes, Exhausted, Geometry, HashFamily, Sketch, SketchOptions, Weight, lanes_of,
};

/// Limits of what a replica takes from others, where it shares its memory with no other replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplicaLimits {
    /// Largest number of legacy peers.
    pub max_peers: usize,
    /// Largest number of slices learnt from other nodes and from earlier starts of this one. What an earlier start had
    /// counted in the slice with which this one goes on is none of them, and may be one more if it has to be.
    pub max_origins: usize,
    /// Largest memory of all cells, in bytes; `u64::MAX` is no limit. It is checked before any page is touched. The
    /// sum includes own cells and those of others beside them, the parts of totals above 32 bits, the snapshots of
    /// windows, the published copy ([`Slices`](super::Slices)), the content of learnt slices, and two tables for each
    /// legacy peer. Tables count as a whole, although pages that were never written cost nothing. The sum leaves out
    /// what follows from the cells: hashes and versions (3 % of our own slice), and the history of our own slice (at
    /// most an eighth of it).
    pub max_memory_bytes: u64,
}

/// What a [`Replica`] is made of.
///
/// ```
/// use rmbd_sketch::{Geometry, HashFamily};
/// use rmbd_store::{Memory, Replica, ReplicaOptions, WindowPlan};
///
/// let (geometry, family) = (Geometry::new(1024, 4)?, HashFamily::Xxh3 { seed: 7 });
/// let memory = Memory::new(1 << 20); // for both together
/// let make = || {
///     let minute = WindowPlan::new(60_000, None, None, geometry, family)?;
///     let options = ReplicaOptions {
///         memory: memory.clone(),
///         windows: vec![minute],
///         ..ReplicaOptions::new(geometry, family)
///     };
///     Replica::try_open(options).map_err(Box::<dyn std::error::Error>::from)
/// };
/// let (one, other) = (make()?, make()?);
/// assert_eq!(memory.taken_bytes(), one.memory_bytes() + other.memory_bytes());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct ReplicaOptions {
    /// Width and depth of the sketch.
    pub geometry: Geometry,
    /// The hash family that makes columns of keys.
    pub family: HashFamily,
    /// The name of the slice that the replica writes.
    pub own: SliceId,
    /// Largest number of legacy peers.
    pub max_peers: usize,
    /// Largest number of slices learnt from other nodes and from earlier boots of this one.
    pub max_origins: usize,
    /// The memory that all cells may take: see [`ReplicaLimits::max_memory_bytes`]. Replicas may share it.
    pub memory: Memory,
    /// Number of threads that add at the same time, each with a [`Batch`](super::Batch) of its own. In a small sketch
    /// each of them has cells of its own ([`lanes_of`]).
    pub threads: usize,
    /// The windows of the sketch, at most [`WINDOWS_MAX`](super::WINDOWS_MAX).
    pub windows: Vec<WindowPlan>,
    /// Keys that lists of the largest ones tell ([`TopKeys`](super::TopKeys)), at most [`TOP_MAX`]; 0 is no lists.
    pub top: usize,
    /// Whether some keys are counted exactly beside the cells ([`AuditReader`](super::AuditReader),
    /// [`AuditWindows`](super::AuditWindows)).
    pub audit: bool,
    /// The time at which the replica is made, by the clock of [`WindowQuestion`](super::WindowQuestion).
    pub started: Duration,
}

impl ReplicaOptions {
    /// A sketch of one thread, without windows, lists, audit, peers and limits.
    #[must_use]
    pub fn new(geometry: Geometry, family: HashFamily) -> Self {
        let limits = ReplicaLimits {
            max_peers: 0,
            max_origins: 0,
            max_memory_bytes: u64::MAX,
        };
        Self::of(geometry, family, SliceId::default(), limits)
    }

    /// A sketch of one thread, without windows, that writes the slice `own` and shares its memory with no other.
    #[must_use]
    pub fn of(geometry: Geometry, family: HashFamily, own: SliceId, limits: ReplicaLimits) -> Self {
        Self {
            geometry,
            family,
            own,
            max_peers: limits.max_peers,
            max_origins: limits.max_origins,
            memory: Memory::new(limits.max_memory_bytes),
            threads: 1,
            windows: Vec::new(),
            top: 0,
            audit: false,
            started: Duration::ZERO,
        }
    }
}

/// A node's own sketch and the slices of others, shared by all threads.
///
/// ```
/// use rmbd_store::Replica;
/// use rmbd_sketch::{Geometry, HashFamily, Weight};
///
/// let replica = Replica::try_new(Geometry::new(1024, 4)?, HashFamily::Xxh3 { seed: 7 }, 8)?;
/// replica.add(b"key", Weight::new(2)?)?;
/// assert_eq!(replica.estimate(b"key").count, 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Replica {
    pub(super) own: Sketch,
    own_name: OwnName,
    pub(super) max_origins: usize,
    /// N of all learnt slices. It has one writer and stands for itself, so access is relaxed.
    pub(super) learnt_weight: AtomicU64,
    /// Whether slices (and below: legacy peers) were refused for want of room. Each flag stands for itself, so access
    /// is relaxed.
    pub(super) lacks_slices: AtomicBool,
    pub(super) lacks_peers: AtomicBool,
    pub(super) origins: AppendTable<Origin>,
    pub(super) windows: Windows,
    /// `None` where nothing is listed.
    pub(super) lists: Option<Box<Lists>>,
    /// `None` where no key is counted exactly.
    pub(super) audit: Option<Box<Audit>>,
    pub(super) seats: Seats,
    pub(super) sampled: Sampled,
    /// `None` where nothing is learnt from others.
    pub(super) urgent: Option<Box<Urgent>>,
    pub(super) memory: MemoryShare,
    /// Number of batches, which is the number of threads that may add at the same time.
    pub(super) batches: CachePadded<AtomicUsize>,
}

impl Replica {
    /// An empty replica that learns no slices, with room for the rows of `max_peers` legacy peers. A peer's memory is
    /// taken when it first sends a row.
    ///
    /// # Errors
    ///
    /// Fails with [`NoMemory::Allocator`].
    pub fn try_new(
        geometry: Geometry,
        family: HashFamily,
        max_peers: usize,
    ) -> Result<Self, NoMemory> {
        let limits = ReplicaLimits {
            max_peers,
            max_origins: 0,
            max_memory_bytes: u64::MAX,
        };
        Self::try_with(geometry, family, SliceId::default(), limits)
    }

    /// An empty replica that writes the slice `own`, and learns from others within `limits`.
    ///
    /// # Errors
    ///
    /// Fails with [`NoMemory`] where its own cells are above the limit, or the allocator refuses.
    pub fn try_with(
        geometry: Geometry,
        family: HashFamily,
        own: SliceId,
        limits: ReplicaLimits,
    ) -> Result<Self, NoMemory> {
        Self::try_open(ReplicaOptions::of(geometry, family, own, limits))
    }

    /// An empty replica as `options` say. All its memory is reserved now, except for what it learns.
    ///
    /// # Errors
    ///
    /// Fails with [`NoMemory`] where its own cells or the snapshots of a window are above the limit, or the allocator
    /// refuses. Nothing is taken then.
    pub fn try_open(options: ReplicaOptions) -> Result<Self, NoMemory> {
        let ReplicaOptions {
            geometry, family, ..
        } = options;
        if options.top > TOP_MAX {
            return Err(NoMemory::TopTooLarge {
                top: options.top,
                max: TOP_MAX,
            });
        }
        let top = TopPlan {
            top: options.top,
            geometry,
            family,
            threads: options.threads,
            windows: &options.windows,
        };
        let audit = AuditPlan {
            geometry,
            family,
            threads: options.threads,
        };
        let memory = MemoryShare::new(options.memory);
        let tables = SketchOptions {
            has_others: options.max_origins > 0,
            lanes: lanes_of(geometry, options.threads),
        };
        let sketch = Sketch::try_with(geometry, family, tables)?;
        // No page has been taken before this, since nothing is written yet.
        memory.reserve(sketch.memory_bytes())?;
        Ok(Self {
            own: sketch,
            own_name: OwnName::new(options.own),
            max_origins: options.max_origins,
            learnt_weight: AtomicU64::new(0),
            lacks_slices: AtomicBool::new(false),
            lacks_peers: AtomicBool::new(false),
            origins: AppendTable::try_new(options.max_peers)?,
            lists: Lists::try_new(&top, &memory)?.map(Box::new),
            audit: match options.audit {
                true => Audit::try_new(&audit, options.windows.len(), &memory)?.map(Box::new),
                false => None,
            },
            seats: Seats::new(geometry, options.threads),
            windows: Windows::try_new(&options.windows, options.started, &memory)?,
            sampled: Sampled::default(),
            urgent: tables.has_others.then(|| Box::new(Urgent::new())),
            memory,
            batches: CachePadded::default(),
        })
    }

    /// The sketch of what was added on this node since it started.
    #[inline]
    #[must_use]
    pub fn own(&self) -> &Sketch {
        &self.own
    }

    /// The number of threads that it was [made for](ReplicaOptions::threads).
    #[must_use]
    pub fn threads(&self) -> usize {
        self.seats.threads()
    }

    /// The name of our own slice, whose cells are those of [`own`](Self::own).
    #[must_use]
    pub fn own_slice(&self) -> SliceId {
        self.own_name.get()
    }

    /// Our own slice has another writer from now on. Only the one writer of slices calls this.
    pub(super) fn set_own_writer(&self, writer: Writer) {
        self.own_name.writer.store(writer.0, Relaxed);
    }

    /// Adds `weight` to `key` on this node.
    ///
    /// # Errors
    /// [`Exhausted`] where too much was added since the last pass of [`Slices::publish`](super::Slices::publish);
    /// nothing was added.
    #[inline]
    pub fn add(&self, key: &[u8], weight: Weight) -> Result<(), Exhausted> {
        if let Some(audit) = &self.audit
            && let Some(hash) = self.own.hash(key)
        {
            audit.note_missed(hash, weight.into());
        }
        self.own.add(key, weight)?;
        self.note_unlisted(weight.into());
        Ok(())
    }

    /// Keys that lists of the largest ones tell; 0 where the sketch has no lists ([`TopPlan`]).
    #[must_use]
    pub fn top(&self) -> usize {
        self.lists.as_ref().map_or(0, |lists| lists.top())
    }

    /// Whether threads have told names of large keys that nobody has taken: see [`Slices::take_names`].
    ///
    /// [`Slices::take_names`]: crate::Slices::take_names
    #[must_use]
    pub fn has_names_told(&self) -> bool {
        self.lists
            .as_ref()
            .is_some_and(|lists| lists.are_names_told())
    }

    /// Bytes of the lists of the largest keys, which are a part of [`memory_bytes`](Self::memory_bytes).
    #[must_use]
    pub fn top_memory_bytes(&self) -> u64 {
        self.lists.as_ref().map_or(0, |lists| lists.memory_bytes())
    }

    /// Notes weight that was added by somebody who has no table of candidates.
    pub(super) fn note_unlisted(&self, weight: u64) {
        if let Some(lists) = &self.lists
            && weight > 0
        {
            lists.note_unlisted(weight);
        }
    }

    /// An upper bound of the weight that was added to `key`, here and on all nodes that slices came from.
    #[inline]
    #[must_use]
    pub fn estimate(&self, key: &[u8]) -> Estimate {
        self.estimate_at(&self.own.cells_of(key))
    }

    /// The parts of an [`estimate`](Self::estimate) where no slices are learnt: our own first, then the legacy peers.
    /// With slices, use [`Slices`](super::Slices::estimate_by_origin).
    #[must_use]
    pub fn estimate_by_origin(&self, key: &[u8]) -> Vec<OriginEstimate> {
        let cells = &self.own.cells_of(key);
        let own = OriginEstimate {
            origin: OriginName::Node(self.own_name.node),
            slices: 1,
            count: self.own.own_estimate_at(cells),
            is_own: true,
        };
        [own]
            .into_iter()
            .chain(self.legacy_estimates(cells))
            .collect()
    }

    /// Bytes of all cells of this replica, as they count against [`Memory`].
    #[must_use]
    pub fn memory_bytes(&self) -> u64 {
        self.memory.taken_bytes()
    }

    /// N of all counts that are known here: the weight that was added on this node, and the weights of learnt slices
    /// and legacy peers. The weights of a batch are included when the batch is done.
    #[must_use]
    pub fn total_weight(&self) -> u64 {
        let legacy = self.shown_origins().map(Origin::weight);
        legacy.fold(self.slices_weight(), u64::saturating_add)
    }

    /// N of our own slice and of learnt ones.
    pub(super) fn slices_weight(&self) -> u64 {
        let learnt = self.learnt_weight.load(Relaxed);
        self.own.total_weight().saturating_add(learnt)
    }

    /// Whether counts of other nodes were refused for want of room, so that counts may be too low for all together.
    #[inline]
    #[must_use]
    pub fn is_incomplete(&self) -> bool {
        self.lacks_slices.load(Relaxed) || self.lacks_peers.load(Relaxed)
    }

    /// Copies a row of this node's own cells into `out` and replaces its content. The result is empty if there is no
    /// such row. Cells grow meanwhile: each is as it was at some moment of the call.
    pub fn read_own_row(&self, row: usize, out: &mut Vec<u64>) {
        out.clear();
        out.extend(self.own.own_row(row));
    }

    /// Addresses of the legacy peers that are counted, in the order in which they came.
    pub fn legacy_peers(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        self.shown_origins().map(|origin| origin.address)
    }

    /// Counts by the rule at the head of this crate.
    // In line, since an answer that is returned through memory costs a count a tenth.
    #[inline(always)]
    pub(super) fn estimate_at(&self, cells: &CellIndexes) -> Estimate {
        let slices = self.own.estimate_at(cells);
        Estimate {
            count: self.with_legacy_peers(slices, cells),
            incomplete: self.is_incomplete(),
            ..Estimate::default()
        }
    }

    /// The key with these cells has this estimate, with what was just added to it, and this limit: where others would
    /// pass the limit if they did not know soon, it is noted for [`Slices::take_urgent`](super::Slices::take_urgent).
    #[inline(always)]
    pub(super) fn note_limit(&self, cells: &CellIndexes, estimate: u64, limit: u64) {
        if let Some(urgent) = &self.urgent
            && urgent.may_be(estimate, limit)
        {
            urgent.look(&self.own, cells, estimate, limit);
        }
    }

    /// Whether keys wait for [`Slices::take_urgent`](super::Slices::take_urgent).
    #[inline]
    #[must_use]
    pub fn has_urgent(&self) -> bool {
        let urgent = self.urgent.as_ref();
        urgent.is_some_and(|urgent| urgent.is_any_waiting())
    }

    /// What slices count for a key with these cells, and what legacy peers do.
    #[inline(always)]
    pub(super) fn with_legacy_peers(&self, slices: u64, cells: &CellIndexes) -> u64 {
        let legacy = self.shown_origins().map(|origin| origin.estimate_at(cells));
        legacy.fold(slices, u64::saturating_add)
    }

    pub(super) fn legacy_estimates(
        &self,
        cells: &CellIndexes,
    ) -> impl Iterator<Item = OriginEstimate> {
        self.shown_origins().map(|origin| OriginEstimate {
            origin: OriginName::Legacy(origin.address),
            slices: 1,
            count: origin.estimate_at(cells),
            is_own: false,
        })
    }

    /// Adds to N of learnt slices. Only the one writer of slices calls this.
    pub(super) fn add_learnt_weight(&self, weight: u64) {
        let grown = self.learnt_weight.load(Relaxed).saturating_add(weight);
        self.learnt_weight.store(grown, Relaxed);
        self.windows.look(self.slices_weight());
    }

    /// Whether there are legacy peers that are counted.
    #[inline]
    pub(super) fn has_legacy_peers(&self) -> bool {
        self.shown_origins().next().is_some()
    }

    /// Legacy peers that are not forgotten.
    #[inline]
    fn shown_origins(&self) -> impl Iterator<Item = &Origin> {
        self.origins.iter().filter(|origin| !origin.is_hidden())
    }
}

/// The name of our own slice, of which the writer may change.
#[derive(Debug)]
struct OwnName {
    sketch: SketchNumber,
    node: u64,
    /// It changes at most once, and stands for itself, so access is relaxed.
    writer: AtomicU64,
}

impl OwnName {
    fn new(slice: SliceId) -> Self {
        Self {
            sketch: slice.sketch,
            node: slice.node,
            writer: AtomicU64::new(slice.writer.0),
        }
    }

    fn get(&self) -> SliceId {
        SliceId {
            sketch: self.sketch,
            node: self.node,
            writer: Writer(self.writer.load(Relaxed)),
        }
    }
}
