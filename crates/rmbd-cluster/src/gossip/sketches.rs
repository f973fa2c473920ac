//! The sketches of this node, by number. A question about a slice goes to the sketch that the slice is of; of a sketch
//! that is not here everything is empty.

use std::sync::Arc;
use std::time::Duration;

use rmbd_proto::cluster::{
    DigestEntry, SIBLING_BUCKETS, SKETCHES_MAX, SiblingsEntry, SketchEntry, SliceId,
};
use rmbd_proto::{SketchNumber, Writer};
use rmbd_store::{
    CellsRef, GroupAges, KnownSince, NoMemory, Replica, SliceRefused, Slices, WindowPlan,
    fingerprint,
};

/// The reason for which there is no cluster. Nothing was made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NewClusterError {
    /// There are no sketches, or too many.
    #[error("a node has 1 to {SKETCHES_MAX} sketches, not {0}")]
    NumberOfSketches(usize),
    /// Two sketches have the same number.
    #[error("two sketches have the number {0}: give one of them another name")]
    SameNumber(SketchNumber),
    /// A sketch's own slice is of another node or writer than that of the first sketch.
    #[error(
        "the own slice of sketch {0} is of another node or writer than that of the first sketch"
    )]
    OtherWriter(SketchNumber),
}

/// The slices of replicas for [`Cluster::try_new`](super::Cluster::try_new), which tell how old they are as far as
/// each one's windows need it.
///
/// # Errors
/// Fails with [`NoMemory`] where there is none for the copy of a sketch's own slice and its hashes; then none is made.
pub fn slices_of(
    replicas: impl IntoIterator<Item = Arc<Replica>>,
    now: Duration,
) -> Result<Vec<Slices>, NoMemory> {
    let replicas = replicas.into_iter();
    replicas.map(|replica| keeping_ages(now, replica)).collect()
}

/// The slices of all sketches. There is at least one.
#[derive(Debug)]
pub(crate) struct Sketches {
    /// Ascending by number.
    all: Vec<Slices>,
    /// The position of the one that was given first.
    first: usize,
    /// The sketch whose ages were tidied last.
    tidied: usize,
    /// Our own slices have the name that an earlier start gave them.
    is_resumed: bool,
}

/// What is published of our own slice in one sketch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OurSlice {
    pub(crate) sketch: SketchNumber,
    /// Cells of the slice.
    pub(crate) cells: u32,
    /// The version of the last pass that was finished.
    pub(crate) version: u64,
    /// The slice has the name that an earlier start gave it.
    pub(crate) is_resumed: bool,
}

impl Sketches {
    /// The sketches with these slices; and what is told of each of them, in the order in which they are given.
    pub(crate) fn try_new(all: Vec<Slices>) -> Result<(Self, Vec<OurSketch>), NewClusterError> {
        check(&all)?;
        let told = all.iter().map(OurSketch::of).collect();
        Ok((Self::new(all), told))
    }

    fn new(mut all: Vec<Slices>) -> Self {
        let number_of_first = all.first().map(|first| first.own_slice().sketch);
        all.sort_by_key(|slices| slices.own_slice().sketch);
        let is_first = |slices: &Slices| Some(slices.own_slice().sketch) == number_of_first;
        let first = all.iter().position(is_first).unwrap_or(0);
        // All have one writer. So a sketch in which it goes on from nothing may be known elsewhere, too: it may have
        // been left out for a while, or have had another geometry.
        let is_resumed = all.iter().any(Slices::is_resumed);
        Self {
            all,
            first,
            tidied: 0,
            is_resumed,
        }
    }

    #[cfg(test)]
    pub(crate) fn of(all: impl IntoIterator<Item = Slices>) -> Self {
        Self::new(all.into_iter().collect())
    }

    /// The slices of the sketch that was given first.
    pub(crate) fn first(&self) -> &Slices {
        &self.all[self.first]
    }

    /// All, in the order of their numbers.
    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = &Slices> + Clone {
        self.all.iter()
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Slices> {
        self.all.iter_mut()
    }

    /// For how many milliseconds all that was counted is here, as others are told.
    pub(crate) fn known_ms(&self, now: Duration) -> u64 {
        let since = self.iter().map(Slices::known_since).max();
        since.map_or(0, |since| since.told_ms(now))
    }

    /// All that was counted since then is here, or since earlier.
    pub(crate) fn know_since(&mut self, since: KnownSince) {
        for slices in self.iter_mut() {
            slices.set_known_since(since.min(slices.known_since()));
        }
    }

    /// All numbers, ascending.
    pub(crate) fn numbers(&self) -> impl ExactSizeIterator<Item = SketchNumber> + Clone + '_ {
        self.all.iter().map(|slices| slices.own_slice().sketch)
    }

    /// All numbers in a circle, beginning behind this one.
    pub(crate) fn numbers_behind(
        &self,
        number: SketchNumber,
    ) -> impl Iterator<Item = SketchNumber> + Clone + '_ {
        let start = self
            .all
            .partition_point(|slices| slices.own_slice().sketch <= number);
        let circle = self.all[start..].iter().chain(&self.all[..start]);
        circle.map(|slices| slices.own_slice().sketch)
    }

    pub(crate) fn get(&self, number: SketchNumber) -> Option<&Slices> {
        self.position(number).map(|at| &self.all[at])
    }

    pub(crate) fn get_mut(&mut self, number: SketchNumber) -> Option<&mut Slices> {
        self.position(number).map(|at| &mut self.all[at])
    }

    /// What is published of our own slice in a sketch.
    pub(crate) fn our_slice(&self, number: SketchNumber) -> Option<OurSlice> {
        self.get(number).map(|slices| self.ours_in(slices))
    }

    /// What is published of our own slices, in the order of the sketches' numbers.
    pub(crate) fn our_slices(&self) -> impl Iterator<Item = OurSlice> + '_ {
        self.all.iter().map(|slices| self.ours_in(slices))
    }

    /// Our own slices have the name that an earlier start gave them: others may know them.
    pub(crate) fn is_resumed(&self) -> bool {
        self.is_resumed
    }

    /// What was added since this start is of this writer from now on, in all sketches.
    pub(crate) fn take_new_writer(&mut self, writer: Writer) {
        self.is_resumed = false;
        let all = self.all.iter_mut();
        all.for_each(|slices| slices.take_new_writer(writer));
    }

    /// Makes marks in all sketches in which a step is over.
    pub(crate) fn end_step(&mut self, now: Duration) {
        self.all.iter_mut().for_each(|slices| slices.end_step(now));
    }

    /// Frees memory of ages that no window needs any more, of one sketch after the other.
    pub(crate) fn tidy_ages(&mut self, groups_max: usize) {
        self.tidied = (self.tidied + 1) % self.all.len().max(1);
        if let Some(slices) = self.all.get_mut(self.tidied) {
            slices.tidy_ages(groups_max);
        }
    }

    /// Merges cells of one group of a slice, which tell how old they are.
    ///
    /// # Errors
    /// As [`Slices::merge`].
    pub(crate) fn merge_aged(
        &mut self,
        slice: &SliceId,
        group: u32,
        cells: impl Iterator<Item = (u32, u64)>,
        ages: &GroupAges<'_>,
        is_live: bool,
    ) -> Result<u64, SliceRefused> {
        self.slices_to_change(slice)?
            .merge_aged(slice, group, cells, ages, is_live)
    }

    fn slices_to_change(&mut self, slice: &SliceId) -> Result<&mut Slices, SliceRefused> {
        self.get_mut(slice.sketch).ok_or(SliceRefused::Unsupported)
    }

    fn position(&self, number: SketchNumber) -> Option<usize> {
        let key = |slices: &Slices| slices.own_slice().sketch;
        self.all.binary_search_by_key(&number, key).ok()
    }

    fn slices_of(&self, slice: &SliceId) -> Option<&Slices> {
        self.get(slice.sketch)
    }

    fn ours_in(&self, slices: &Slices) -> OurSlice {
        OurSlice {
            sketch: slices.own_slice().sketch,
            cells: slices.own_cells().len() as u32,
            version: slices.own_version(),
            is_resumed: self.is_resumed,
        }
    }
}

fn keeping_ages(now: Duration, replica: Arc<Replica>) -> Result<Slices, NoMemory> {
    let windows: Vec<WindowPlan> = replica.window_plans().copied().collect();
    let mut slices = Slices::try_new(replica)?;
    slices.keep_ages(&windows, now)?;
    Ok(slices)
}

/// The questions of [`Slices`] about one slice.
impl Sketches {
    pub(crate) fn has(&self, slice: &SliceId) -> bool {
        self.slices_of(slice)
            .is_some_and(|slices| slices.has(slice))
    }

    pub(crate) fn version(&self, slice: &SliceId) -> u64 {
        self.slices_of(slice)
            .map_or(0, |slices| slices.version(slice))
    }

    pub(crate) fn root(&self, slice: &SliceId) -> u64 {
        self.slices_of(slice).map_or(0, |slices| slices.root(slice))
    }

    pub(crate) fn changed_at(&self, slice: &SliceId) -> u64 {
        self.slices_of(slice)
            .map_or(0, |slices| slices.changed_at(slice))
    }

    pub(crate) fn cells(&self, slice: &SliceId) -> Option<CellsRef<'_>> {
        self.slices_of(slice)?.cells(slice)
    }

    pub(crate) fn is_refused(&self, slice: &SliceId) -> bool {
        self.slices_of(slice)
            .is_some_and(|slices| slices.is_refused(slice))
    }

    pub(crate) fn digest(&self, slice: &SliceId) -> DigestEntry {
        let unknown = DigestEntry {
            slice: *slice,
            version: 0,
            root: 0,
        };
        self.slices_of(slice)
            .map_or(unknown, |slices| slices.digest(slice))
    }

    pub(crate) fn siblings(&self, slice: &SliceId) -> SiblingsEntry {
        let unknown = SiblingsEntry {
            slice: *slice,
            count: 0,
            sum: 0,
        };
        self.slices_of(slice)
            .map_or(unknown, |slices| slices.siblings(slice))
    }

    pub(crate) fn sibling_buckets(&self, slice: &SliceId) -> [u64; SIBLING_BUCKETS] {
        let slices = self.slices_of(slice);
        slices.map_or([0; SIBLING_BUCKETS], |slices| slices.sibling_buckets(slice))
    }

    pub(crate) fn sibling_lines(
        &self,
        slice: &SliceId,
        buckets: u64,
        first: Writer,
    ) -> impl Iterator<Item = DigestEntry> + '_ {
        let lines = self
            .slices_of(slice)
            .map(|slices| slices.sibling_lines(slice, buckets, first));
        lines.into_iter().flatten()
    }

    pub(crate) fn section_hashes(&self, slice: &SliceId) -> &[u64] {
        self.slices_of(slice)
            .map_or(&[], |slices| slices.section_hashes(slice))
    }

    pub(crate) fn group_hashes(&self, slice: &SliceId, section: u32) -> Vec<u64> {
        let slices = self.slices_of(slice);
        slices.map_or_else(Vec::new, |slices| slices.group_hashes(slice, section))
    }
}

/// The changes of [`Slices`] to one slice.
impl Sketches {
    pub(crate) fn merge(
        &mut self,
        slice: &SliceId,
        cells: impl Iterator<Item = (u32, u64)>,
    ) -> Result<u64, SliceRefused> {
        self.slices_to_change(slice)?.merge(slice, cells)
    }

    pub(crate) fn merge_live(
        &mut self,
        slice: &SliceId,
        cells: impl Iterator<Item = (u32, u64)>,
    ) -> Result<u64, SliceRefused> {
        self.slices_to_change(slice)?.merge_live(slice, cells)
    }

    pub(crate) fn complete(&mut self, slice: &SliceId, base: u64, version: u64) -> bool {
        let slices = self.get_mut(slice.sketch);
        slices.is_some_and(|slices| slices.complete(slice, base, version))
    }

    pub(crate) fn rest(&mut self, slice: &SliceId) {
        if let Some(slices) = self.get_mut(slice.sketch) {
            slices.rest(slice);
        }
    }
}

/// One of our sketches, as others are told of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OurSketch {
    pub(crate) entry: SketchEntry,
    /// The slice that we write in it.
    pub(crate) own: SliceId,
    pub(crate) cells: u32,
}

impl OurSketch {
    fn of(slices: &Slices) -> Self {
        let (sketch, own) = (slices.replica().own(), slices.own_slice());
        Self {
            entry: SketchEntry {
                number: own.sketch,
                fingerprint: fingerprint(sketch.geometry(), sketch.family()),
            },
            own,
            cells: sketch.geometry().cells() as u32,
        }
    }
}

fn check(all: &[Slices]) -> Result<(), NewClusterError> {
    if all.is_empty() || all.len() > SKETCHES_MAX {
        return Err(NewClusterError::NumberOfSketches(all.len()));
    }
    let first = all[0].own_slice();
    let own = all.iter().map(Slices::own_slice);
    if let Some(other) = own
        .clone()
        .find(|own| (own.node, own.writer) != (first.node, first.writer))
    {
        return Err(NewClusterError::OtherWriter(other.sketch));
    }
    let mut numbers: Vec<SketchNumber> = own.map(|own| own.sketch).collect();
    numbers.sort_unstable();
    let twice = numbers.windows(2).find(|pair| pair[0] == pair[1]);
    twice.map_or(Ok(()), |pair| Err(NewClusterError::SameNumber(pair[0])))
}
