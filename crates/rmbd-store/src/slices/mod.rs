//! The control thread's side of a replica: publishing our own slice, and learning those of others.
//!
//! Every slice has a *version*, which its writer raises whenever a cell of it has changed, and *hashes*, which two
//! nodes compare to find where their copies differ. The version of a learnt slice is the highest one that is here
//! completely; cells of later versions may be here, too. Merging takes the larger value of each cell, so the order,
//! the number and the routes in which cells come do not matter.

mod aging;
mod base;
mod cells;
mod given;
mod groups;
mod hashes;
mod history;
mod learnt;
mod own;
mod refused;
mod restoring;
mod siblings;

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::iter::once;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

pub use cells::CellsRef;
pub use hashes::{GROUP_CELLS, SECTION_GROUPS, cell_hash};
pub use own::{Changes, Published};
pub use refused::{REFUSED_MAX, SliceRefused};

use crate::memory::try_zeroed;
use rmbd_proto::Writer;
/// The line about a slice that two nodes compare, as it is sent.
pub use rmbd_proto::cluster::DigestEntry as SliceDigest;
use rmbd_proto::cluster::SliceId;
use rmbd_sketch::{CellIndex, CellIndexes, Geometry};

use super::ages::{GroupAges, LearntGrowth};
use super::top::Tops;
use super::windows::{Copier, KnownSince, Snapshot};
use super::{NoMemory, OriginEstimate, OriginName, Replica};
use aging::YOUNG;
use base::Base;
use given::GivenCells;
use groups::Keep;
use learnt::{Aging, Held, Known, cells_of};
use own::Own;
use refused::RefusedSlices;
use restoring::Restoring;
use siblings::Sums;

/// A slice that was learnt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LearntSlice {
    /// The name of the slice.
    pub slice: SliceId,
    /// The version that is here completely.
    pub version: u64,
    /// Sum of all weights added to the slice, as far as it is known here.
    pub weight: u64,
    /// Bytes that the slice takes of the limit; 0 if all its cells are 0.
    pub memory_bytes: u64,
}

/// The single writer of everything that a [`Replica`] learns by slices. Each replica has one, which the control
/// thread owns.
///
/// ```
/// use std::sync::Arc;
///
/// use rmbd_store::{Replica, ReplicaLimits, SliceId, Slices};
/// use rmbd_sketch::{Geometry, HashFamily, Weight};
/// use rmbd_proto::Writer;
///
/// let limits = ReplicaLimits { max_peers: 8, max_origins: 256, max_memory_bytes: u64::MAX };
/// let family = HashFamily::Xxh3 { seed: 7 };
/// let make = |node| {
///     Replica::try_with(Geometry::new(1024, 4)?, family, SliceId::of(node, Writer(1)), limits)
///         .map(Arc::new)
///         .map_err(Box::<dyn std::error::Error>::from)
/// };
/// let (one, other) = (make(1)?, make(2)?);
/// let mut of_one = Slices::try_new(Arc::clone(&one))?;
/// let mut of_other = Slices::try_new(Arc::clone(&other))?;
///
/// one.add(b"key", Weight::new(5)?)?;
/// of_one.publish(usize::MAX);
/// let own = one.own_slice();
/// let cells = of_one.cells(&own).expect("our own");
/// let changed = of_one.changed_cells(0, 0).map(|cell| (cell, cells.get(cell)));
/// of_other.merge(&own, changed)?;
/// assert!(of_other.complete(&own, 0, of_one.own_version()));
/// assert_eq!(other.estimate(b"key").count, 5);
/// assert_eq!(of_other.root(&own), of_one.root(&own));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Slices {
    replica: Arc<Replica>,
    own: Own,
    /// The learnt slices, in the order in which they came.
    known: Vec<Known>,
    by_id: BTreeMap<SliceId, usize>,
    sums: Sums,
    refused: RefusedSlices,
    pub(crate) copier: Copier,
    /// The marks of learnt slices; `None` without windows.
    learnt_growth: Option<LearntGrowth>,
    /// Our own slice while a snapshot file is taken over, if it goes on from what is in there.
    restoring: Option<Box<Restoring>>,
    /// The lists of the largest keys; `None` where nothing is listed.
    pub(crate) tops: Option<Box<Tops>>,
    /// The slice whose ages are tidied next.
    tidied: usize,
    geometry: Geometry,
    /// The hashes of all sections of a slice without cells.
    no_sections: Box<[u64]>,
}

impl Slices {
    /// The writer for a replica. Its own slice is not published yet.
    ///
    /// # Errors
    ///
    /// Fails with [`NoMemory`] where the published copy would be above the replica's limit, or the allocator refuses.
    pub fn try_new(replica: Arc<Replica>) -> Result<Self, NoMemory> {
        let geometry = replica.own().geometry();
        let bytes = geometry.memory_bytes();
        replica.memory.reserve(bytes)?;
        let own = Own::try_new(geometry);
        let own = own.inspect_err(|_| replica.memory.release(bytes))?;
        let sections = own.hashes().sections().len();
        if let Some(urgent) = &replica.urgent {
            urgent.compare_with(Arc::clone(own.published()));
        }
        Ok(Self {
            own,
            known: Vec::new(),
            by_id: BTreeMap::new(),
            sums: Sums::new(&replica.own_slice()),
            refused: RefusedSlices::default(),
            copier: Copier::new(&replica.windows),
            learnt_growth: None,
            restoring: None,
            tops: Tops::new(&replica).map(Box::new),
            tidied: 0,
            geometry,
            no_sections: try_zeroed(sections)?,
            replica,
        })
    }

    /// Continues a pass over our own live cells, or begins one if something was added since the last one. It goes over
    /// at most `cells_max` cells, rounded up to groups. A pass that found changes makes the next version.
    pub fn publish(&mut self, cells_max: usize) -> Published {
        let (live, memory) = (self.replica.own(), &self.replica.memory);
        let published = self.own.publish(live, memory, cells_max);
        self.replica.windows.look(self.replica.slices_weight());
        if let (Published::Done { .. }, Some(urgent)) = (published, &self.replica.urgent) {
            urgent.note_pass();
        }
        published
    }

    /// Number of passes that are at their end; a call of [`publish`](Self::publish) that had nothing to do counts.
    #[must_use]
    pub fn passes(&self) -> u64 {
        self.own.passes()
    }

    /// The number of passes by which all is published that was added until now. A pass that is under way may have gone
    /// by before that.
    #[must_use]
    pub fn passes_until_now(&self) -> u64 {
        self.own.passes() + 1 + u64::from(self.own.is_passing())
    }

    /// The members that keep limits together, this one included. As long as there are 2 at least, keys of which the
    /// others must learn at once wait for [`take_urgent`](Self::take_urgent). At first nobody is told.
    pub fn set_limit_members(&self, members: u32) {
        if let Some(urgent) = &self.replica.urgent {
            urgent.set_members(members);
        }
    }

    /// Whether keys wait for [`take_urgent`](Self::take_urgent).
    #[must_use]
    pub fn has_urgent(&self) -> bool {
        self.replica.has_urgent()
    }

    /// Takes at most `keys_max` keys that others must know before a limit is passed, and tells those of their cells
    /// that hold more than is published. Returns how many keys these were. What they hold says
    /// [`live_cell`](Self::live_cell).
    pub fn take_urgent(&self, keys_max: usize, tell: impl FnMut(CellIndex)) -> usize {
        let urgent = self.replica.urgent.as_ref();
        urgent.map_or(0, |urgent| urgent.take(self.replica.own(), keys_max, tell))
    }

    /// What our own slice has in a cell so far, whether it is published or not.
    #[must_use]
    pub fn live_cell(&self, cell: CellIndex) -> u64 {
        let base = self.own.base().map_or(0, |base| base.cell(cell.get()));
        base + self.replica.own().own_total(cell)
    }

    /// Whether so much was added that a pass of [`publish`](Self::publish) should come soon, even if there is no other
    /// node.
    #[must_use]
    pub fn wants_pass(&self) -> bool {
        self.replica.own().wants_pass()
    }

    /// Goes on with the snapshot of a window that is at hand, or begins one that is due, the windows in turn. It goes
    /// over at most `cells_max` cells, rounded up to a cell of a snapshot. `None` if nothing is due. The clock is read
    /// several times; its times are those of [`WindowQuestion`](crate::WindowQuestion).
    pub fn snapshot(&mut self, clock: &dyn Fn() -> Duration, cells_max: usize) -> Option<Snapshot> {
        self.copier.snapshot(&self.replica, clock, cells_max)
    }

    /// When [`snapshot`](Self::snapshot) should be called next: a time that is past where there is something to do.
    /// `None` if the sketch has no windows.
    #[must_use]
    pub fn next_snapshot(&self) -> Option<Duration> {
        self.copier.next(&self.replica)
    }

    /// Says since when everything is here that was counted; windows that reach further back are *incomplete*. At the
    /// start it is the time at which the replica was made.
    pub fn set_known_since(&mut self, since: KnownSince) {
        self.replica.windows.set_known_since(since);
    }

    /// Since when everything is here that was counted.
    #[must_use]
    pub fn known_since(&self) -> KnownSince {
        self.replica.windows.known_since()
    }

    /// The replica that these slices are of.
    #[must_use]
    pub fn replica(&self) -> &Arc<Replica> {
        &self.replica
    }

    /// The name of our own slice.
    #[must_use]
    pub fn own_slice(&self) -> SliceId {
        self.replica.own_slice()
    }

    /// The published cells of our own slice.
    #[must_use]
    pub fn own_cells(&self) -> CellsRef<'_> {
        CellsRef::published(self.own.published(), self.replica.own(), self.own.base())
    }

    /// The version of our own slice; 0 is the empty one. During a pass it is the version before.
    #[must_use]
    pub fn own_version(&self) -> u64 {
        self.own.version()
    }

    /// The form in which changes of our own slice since version `since` are known.
    #[must_use]
    pub fn changes_since(&self, since: u64) -> Changes {
        self.own.changes_since(since)
    }

    /// Cells of our own slice that have changed since version `since`, from `from_cell` on, ascending, each once.
    /// Where changes are known by groups only, these are all cells of the changed groups.
    pub fn changed_cells(&self, since: u64, from_cell: u32) -> impl Iterator<Item = u32> + '_ {
        self.own.changed_cells(since, from_cell)
    }

    /// Groups of our own slice that have changed since version `since`, from `from_group` on, ascending. During a pass
    /// the groups that it has changed so far are among them.
    pub fn changed_groups(&self, since: u64, from_group: u32) -> impl Iterator<Item = u32> + '_ {
        self.own.changed_groups(since, from_group)
    }

    /// The cells of a slice (the published ones of our own); `None` if it is not known.
    #[must_use]
    pub fn cells(&self, slice: &SliceId) -> Option<CellsRef<'_>> {
        if *slice == self.own_slice() {
            return Some(self.own_cells());
        }
        let known = self.known(slice)?;
        Some(CellsRef::learnt(known.held.as_ref(), self.geometry.cells()))
    }

    /// Raises each cell of a slice to the value that is given with its index, where that is larger, and includes the
    /// differences in counts. Returns how many cells were raised. A slice that is not known takes its memory when
    /// cells of it are raised, after the limits were checked. The cells of one group should come together.
    ///
    /// # Errors
    ///
    /// Fails as [`SliceRefused`] says. A slice for which there is no room is remembered as refused.
    pub fn merge(
        &mut self,
        slice: &SliceId,
        cells: impl Iterator<Item = (u32, u64)>,
    ) -> Result<u64, SliceRefused> {
        self.merge_keeping(slice, cells, Keep::Packed)
    }

    /// Like [`merge`](Self::merge), for cells that their writer sends itself. More will come, so dense groups take
    /// more memory and less time, until [`rest`](Self::rest).
    ///
    /// # Errors
    ///
    /// Like [`merge`](Self::merge).
    pub fn merge_live(
        &mut self,
        slice: &SliceId,
        cells: impl Iterator<Item = (u32, u64)>,
    ) -> Result<u64, SliceRefused> {
        self.merge_keeping(slice, cells, Keep::Flat)
    }

    /// Notes that the writer of a slice is gone: the slice takes as little memory as it can.
    pub fn rest(&mut self, slice: &SliceId) {
        let known = self.by_id.get(slice).map(|&at| &mut self.known[at]);
        if let Some(held) = known.and_then(|known| known.held.as_mut()) {
            self.replica.memory.release(held.pack());
        }
    }

    /// Whether a slice is known here: our own, or a learnt one.
    #[must_use]
    pub fn has(&self, slice: &SliceId) -> bool {
        *slice == self.own_slice() || self.by_id.contains_key(slice)
    }

    /// The version of a slice that is here completely; 0 if it is not known.
    #[must_use]
    pub fn version(&self, slice: &SliceId) -> u64 {
        if *slice == self.own_slice() {
            return self.own.version();
        }
        self.known(slice).map_or(0, |known| known.version)
    }

    /// Notes that a learnt slice is complete up to `version`, given that it was complete up to `base`; returns false
    /// if it was not. A slice of which no cell was raised is known from now on, if there is a place for it, and takes
    /// no memory for cells. A slice that was refused does not become known: its cells went by.
    pub fn complete(&mut self, slice: &SliceId, base: u64, version: u64) -> bool {
        if base > self.version(slice) || self.refused.contains(slice) {
            return false;
        }
        let at = match self.place(slice) {
            Ok(at) => at,
            Err(why) => {
                self.note_refused(*slice, why);
                return false;
            }
        };
        let known = &mut self.known[at];
        (self.sums).change(known, |known| known.version = known.version.max(version));
        self.refused.forget(slice);
        self.note_lack();
        true
    }

    /// A number that grows whenever a cell of the slice has grown here; 0 if it is not known.
    #[must_use]
    pub fn changed_at(&self, slice: &SliceId) -> u64 {
        if *slice == self.own_slice() {
            return self.own.raised();
        }
        self.known(slice).map_or(0, Known::raised)
    }

    /// A line for every slice, which other nodes compare: our own slice first, then all learnt ones, in the order in
    /// which they came.
    pub fn digests(&self) -> impl Iterator<Item = SliceDigest> + '_ {
        self.digests_from(0)
    }

    /// The lines of [`digests`](Self::digests) from line `first` on.
    pub fn digests_from(&self, first: usize) -> impl Iterator<Item = SliceDigest> + '_ {
        let own = (first == 0).then(|| self.own_digest());
        let learnt = self.known.get(first.saturating_sub(1)..);
        own.into_iter()
            .chain(learnt.unwrap_or_default().iter().map(Known::digest))
    }

    /// The number of lines of [`digests`](Self::digests).
    #[must_use]
    pub fn digest_lines(&self) -> usize {
        1 + self.known.len()
    }

    /// The line of one slice, which may also be unknown here.
    #[must_use]
    pub fn digest(&self, slice: &SliceId) -> SliceDigest {
        SliceDigest {
            slice: *slice,
            version: self.version(slice),
            root: self.root(slice),
        }
    }

    /// The hash of all cells of a slice; 0 if all cells are 0, or the slice is not known.
    #[must_use]
    pub fn root(&self, slice: &SliceId) -> u64 {
        if *slice == self.own_slice() {
            return self.own.hashes().root();
        }
        self.known(slice).map_or(0, Known::root)
    }

    /// The hash of each section of a slice; empty if it is not known.
    #[must_use]
    pub fn section_hashes(&self, slice: &SliceId) -> &[u64] {
        if *slice == self.own_slice() {
            return self.own.hashes().sections();
        }
        match self.known(slice).map(|known| &known.held) {
            Some(Some(held)) => held.sections(),
            Some(None) => &self.no_sections,
            None => &[],
        }
    }

    /// The hash of each group of a section; empty if the slice is not known or has no such section.
    #[must_use]
    pub fn group_hashes(&self, slice: &SliceId, section: u32) -> Vec<u64> {
        let of_own = self.own.hashes().groups(section);
        if *slice == self.own_slice() {
            return of_own.to_vec();
        }
        match self.known(slice).map(|known| &known.held) {
            Some(Some(held)) => held.group_hashes(section),
            // A slice without cells has as many groups as our own.
            Some(None) => vec![0; of_own.len()],
            None => Vec::new(),
        }
    }

    /// Whether a slice is missing or incomplete because there is no room for it, so that nobody need send it.
    #[must_use]
    pub fn is_refused(&self, slice: &SliceId) -> bool {
        self.refused.contains(slice) || self.refused.is_full() && !self.has(slice)
    }

    /// Whether a slice is missing or incomplete because there is, or was, no room for it, so that counts lack it.
    #[must_use]
    pub fn lacks(&self, slice: &SliceId) -> bool {
        self.refused.lacks(slice) || self.is_refused(slice)
    }

    /// Looks whether memory has become free since a slice was refused for want of it. Then all such slices are
    /// [wanted](Self::wanted) and refused no longer. Returns whether there are any.
    pub fn retry_refused(&mut self) -> bool {
        let memory = self.replica.memory.all();
        (self.refused).retry(memory.taken_bytes(), memory.max_bytes())
    }

    /// Slices that were refused and have room now, until they are here. A node that sends them is to begin anew.
    pub fn wanted(&self) -> impl Iterator<Item = SliceId> + '_ {
        self.refused.wanted()
    }

    /// Slices of which it is known that counts [lack](Self::lacks) them, ascending by their names: at most
    /// [`REFUSED_MAX`] of them. Another node has told of them, or a snapshot file.
    pub fn missing(&self) -> impl Iterator<Item = SliceId> + '_ {
        self.refused.all()
    }

    /// Number of slices that are known to exist elsewhere and are missing or incomplete here; [`REFUSED_MAX`] means
    /// that many or more.
    #[must_use]
    pub fn lacking(&self) -> usize {
        self.refused.len()
    }

    /// All learnt slices, in the order in which they came.
    pub fn learnt(&self) -> impl Iterator<Item = LearntSlice> + '_ {
        self.known.iter().map(|known| LearntSlice {
            slice: known.id,
            version: known.version,
            weight: known.weight(),
            memory_bytes: known.bytes(),
        })
    }

    /// What tells whether two nodes count alike in this sketch: [`fingerprint`](crate::fingerprint).
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        let sketch = self.replica.own();
        crate::fingerprint(sketch.geometry(), sketch.family())
    }

    /// Sum of all weights added to a slice, as far as it is known here: of our own, those of all starts that wrote it.
    #[must_use]
    pub fn weight_of(&self, slice: &SliceId) -> u64 {
        if *slice == self.own_slice() {
            let base = self.own.base().map_or(0, |base| base.held().weight());
            return base.saturating_add(self.replica.own().total_weight());
        }
        self.known(slice).map_or(0, Known::weight)
    }

    /// Sum of all weights added to our own slice and to the learnt ones.
    #[must_use]
    pub fn weight(&self) -> u64 {
        self.replica.slices_weight()
    }

    /// The learnt slices with the largest weights, at most `max` of them, the largest first.
    #[must_use]
    pub fn largest(&self, max: usize) -> Vec<LearntSlice> {
        let by_weight = |learnt: &LearntSlice| (Reverse(learnt.weight), learnt.slice);
        let mut all: Vec<LearntSlice> = self.learnt().collect();
        if all.len() > max {
            all.select_nth_unstable_by_key(max, by_weight);
            all.truncate(max);
        }
        all.sort_unstable_by_key(by_weight);
        all
    }

    /// Number of slices of a node that are held, of all its writers, our own included.
    #[must_use]
    pub fn held_of(&self, node: u64) -> usize {
        let own = self.own_slice();
        let name = |writer| SliceId {
            sketch: own.sketch,
            node,
            writer: Writer(writer),
        };
        let learnt = self.by_id.range(name(0)..=name(u64::MAX));
        learnt.count() + usize::from(own.node == node)
    }

    /// The parts of a key's count: our own first, then every node of which a slice is held, then the legacy peers.
    /// Each part is an upper bound of what that origin counted. Together they are at most what [`Replica::estimate`]
    /// answers afterwards.
    #[must_use]
    pub fn estimate_by_origin(&self, key: &[u8]) -> Vec<OriginEstimate> {
        let replica = &self.replica;
        let cells = &replica.own.cells_of(key);
        let mut nodes: BTreeMap<u64, Vec<&Held>> = BTreeMap::new();
        for known in &self.known {
            let held = known.held.as_ref();
            nodes.entry(known.id.node).or_default().extend(held);
        }
        let mut earlier = nodes.remove(&self.own_slice().node).unwrap_or_default();
        // The base is a part of our own slice.
        let slices = 1 + earlier.len();
        earlier.extend(self.own.base().map(Base::held));
        let own = OriginEstimate {
            origin: OriginName::Node(self.own_slice().node),
            slices,
            count: (replica.own.own_estimate_at(cells)).saturating_add(least_of(&earlier, cells)),
            is_own: true,
        };
        nodes.retain(|_, slices| !slices.is_empty());
        let nodes = nodes.into_iter().map(|(node, slices)| OriginEstimate {
            origin: OriginName::Node(node),
            slices: slices.len(),
            count: least_of(&slices, cells),
            is_own: false,
        });
        let legacy = replica.legacy_estimates(cells);
        once(own).chain(nodes).chain(legacy).collect()
    }

    /// Like [`Replica::read_own_row`], plus what earlier starts of this node had counted, as far as it is known here.
    pub fn read_own_row(&self, row: usize, out: &mut Vec<u64>) {
        self.replica.read_own_row(row, out);
        let start = row.saturating_mul(self.geometry.width());
        let node = self.own_slice().node;
        let own = |known: &&Known| known.id.node == node;
        let earlier = self.known.iter().filter(own);
        let earlier = earlier.filter_map(|known| known.held.as_ref());
        for held in earlier.chain(self.own.base().map(Base::held)) {
            add_cells(held, self.geometry, start, out);
        }
    }

    /// What an earlier start had counted in our own slice.
    pub(crate) fn base_weight(&self) -> u64 {
        self.own.base().map_or(0, |base| base.held().weight())
    }

    /// The count of a key with these cells in our own slice: never below the truth.
    pub(crate) fn own_estimate_at(&self, cells: &CellIndexes) -> u64 {
        let base: Vec<&Held> = self.own.base().map(Base::held).into_iter().collect();
        let own = self.replica.own.own_estimate_at(cells);
        own.saturating_add(least_of(&base, cells))
    }

    fn own_digest(&self) -> SliceDigest {
        self.digest(&self.own_slice())
    }

    fn known(&self, slice: &SliceId) -> Option<&Known> {
        self.by_id.get(slice).map(|&at| &self.known[at])
    }

    fn merge_keeping(
        &mut self,
        slice: &SliceId,
        cells: impl Iterator<Item = (u32, u64)>,
        keep: Keep,
    ) -> Result<u64, SliceRefused> {
        self.merge_with(slice, cells, keep, YOUNG)
    }

    fn merge_with(
        &mut self,
        slice: &SliceId,
        cells: impl Iterator<Item = (u32, u64)>,
        keep: Keep,
        ages: GroupAges<'_>,
    ) -> Result<u64, SliceRefused> {
        let merged = self.try_merge(slice, cells, keep, ages);
        if let Err(why) = merged {
            self.note_refused(*slice, why);
        }
        merged
    }

    fn try_merge(
        &mut self,
        slice: &SliceId,
        cells: impl Iterator<Item = (u32, u64)>,
        keep: Keep,
        ages: GroupAges<'_>,
    ) -> Result<u64, SliceRefused> {
        self.check_name(slice)?;
        let mut given = GivenCells::new(cells, self.geometry);
        // A merge that raises nothing takes no memory.
        let is_held = self.known(slice).is_some_and(|known| known.held.is_some());
        let first = given.find(|cell| is_held || cell.value() > 0);
        let Some(first) = first else {
            return given.outcome(0);
        };
        let at = self.hold(slice)?;
        let cells = once(first).chain(given.by_ref());
        let learnt = self.learnt_growth.as_ref();
        let aging = learnt.map(|learnt| Aging { learnt, ages });
        let (replica, copier) = (&self.replica, &mut self.copier);
        let merge = |known: &mut Known| known.merge(replica, cells, keep, copier, aging);
        let (merged, outcome) = self.sums.change(&mut self.known[at], merge);
        outcome?;
        given.outcome(merged)
    }

    /// The place of a slice that has cells. The slice gets cells if it had none.
    fn hold(&mut self, slice: &SliceId) -> Result<usize, SliceRefused> {
        if let Some(&at) = self.by_id.get(slice)
            && self.known[at].held.is_some()
        {
            return Ok(at);
        }
        // Memory is checked first: a slice that is refused must not become known.
        self.check_place(slice)?;
        let held = Held::try_new(&self.replica)?;
        let at = self.place(slice)?;
        self.known[at].held = Some(held);
        Ok(at)
    }

    /// The place of a known slice. The slice becomes known if it was not.
    fn place(&mut self, slice: &SliceId) -> Result<usize, SliceRefused> {
        self.check_name(slice)?;
        self.check_place(slice)?;
        self.refused.found_room(slice);
        Ok(*self.by_id.entry(*slice).or_insert_with(|| {
            self.known.push(Known::new(*slice));
            self.known.len() - 1
        }))
    }

    fn note_refused(&mut self, slice: SliceId, why: SliceRefused) {
        let taken_bytes = self.replica.memory.all().taken_bytes();
        self.refused.note(slice, why, taken_bytes);
        self.note_lack();
    }

    fn note_lack(&self) {
        let lacks_slices = self.refused.len() > 0;
        self.replica.lacks_slices.store(lacks_slices, Relaxed);
    }

    fn check_name(&self, slice: &SliceId) -> Result<(), SliceRefused> {
        if *slice == self.own_slice() {
            return Err(SliceRefused::OwnSlice);
        }
        if slice.sketch != self.own_slice().sketch {
            return Err(SliceRefused::Unsupported);
        }
        Ok(())
    }

    fn check_place(&self, slice: &SliceId) -> Result<(), SliceRefused> {
        // The base of our own slice takes no place: after a restart there is room for what was here before. It needs
        // one when it becomes a learnt slice, which happens once in a start, and may be one more than the limit.
        let max = self.replica.max_origins;
        if self.known.len() >= max && !self.by_id.contains_key(slice) {
            return Err(SliceRefused::TooManyOrigins { max });
        }
        Ok(())
    }
}

/// The least row of the sum of slices; 0 for no slices.
fn least_of(slices: &[&Held], cells: &CellIndexes) -> u64 {
    let sum = |&cell: &u32| {
        let counts = slices.iter().map(|held| held.cell(cell));
        counts.fold(0, u64::saturating_add)
    };
    let rows = cells.as_slice().iter().map(sum);
    rows.min().unwrap_or_default()
}

/// Adds the cells of a slice from `start` on to `out`.
fn add_cells(held: &Held, geometry: Geometry, start: usize, out: &mut [u64]) {
    let mut values = [0; GROUP_CELLS];
    let end = start + out.len();
    let numbers = held.groups().numbers_from((start / GROUP_CELLS) as u32);
    for number in numbers.take_while(|&number| (number as usize) * GROUP_CELLS < end) {
        let cells = cells_of(number, geometry);
        let values = &mut values[..cells.len()];
        held.groups().read(number, values);
        for (cell, value) in cells.zip(values.iter()) {
            if let Some(sum) = cell.checked_sub(start).and_then(|at| out.get_mut(at)) {
                *sum = sum.saturating_add(*value);
            }
        }
    }
}

#[cfg(test)]
mod tests;
