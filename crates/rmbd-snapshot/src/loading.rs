//! Taking over what a file holds.

use std::collections::BTreeMap;
use std::io::Read;
use std::time::Duration;

use rmbd_proto::cluster::{Frame, GROUP_CELLS, SliceId, frames};
use rmbd_proto::snapshot_file::{
    FILE_MAGIC, GroupsBlock, Kind, SavedGroup, SketchBlock, SliceBlock,
};
use rmbd_proto::{SketchNumber, Writer};
use rmbd_store::{GroupAges, Moment, SavedMark, SavedMarks, SliceRefused, Slices};

use crate::reading::{FileBlock, FileReader};
use crate::{ClockReading, ExtraKind, SnapshotFileError, SnapshotFileSummary, ThisStart};

/// Who loads a file, and when.
#[derive(Debug, Clone, Copy)]
pub struct LoadOptions<'a> {
    /// What [`check`](crate::check) said of the file.
    pub checked: &'a SnapshotFileSummary,
    /// The node.
    pub node: u64,
    /// What the clocks show.
    pub now: ClockReading,
    /// Whether our own slices go on from what the file holds of them ([`Beginning`](crate::Beginning)).
    pub resumes: bool,
    /// An earlier start has gone on from the node's own slices as this writer
    /// ([`CleanMark::renamed`](crate::CleanMark)): they are the beginning of its slices.
    pub renamed: Option<Writer>,
    /// Who the node is if it does not go on.
    pub this_start: ThisStart,
}

/// What was taken over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// How long ago the file was begun, or less.
    pub elapsed: Duration,
    /// Whether our own slices go on from what the file held of them. If they were to, and do not, there was no memory
    /// for it: the node is its [spare](ThisStart::spare) writer, and what it had counted before is a learnt slice.
    pub is_resumed: bool,
    /// What the file held of our own slices has this writer now, where that is another one than in the file.
    pub renamed: Option<Writer>,
    /// Number of slices that are here now.
    pub slices: u64,
    /// Slices that are not here, or not all of them, for want of room. Answers say that they lack something.
    pub refused: u64,
    /// Sketches that were left out.
    pub skipped: Vec<SkippedSketch>,
}

/// A sketch of a file that was left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SkippedSketch {
    /// Its name.
    pub name: String,
    /// Why.
    pub why: Skipped,
}

/// Why a sketch was left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Skipped {
    /// The node has no sketch of this number.
    #[error("this node has no such sketch")]
    Gone,
    /// The node's sketch has another width, depth or hash.
    #[error("its width, depth or hash has changed")]
    OtherGeometry,
}

/// Takes over what a file holds, which was [checked](crate::check) before, into the slices of a node that is about to
/// start: nothing was published, merged or marked. `extra` gets what stands behind the slices, in order, and how old it
/// is.
///
/// # Errors
/// Fails as [`SnapshotFileError`] says. Another file than the one that was checked may have been taken in part.
pub fn load(
    file: &mut dyn Read,
    into: &mut [Slices],
    options: &LoadOptions<'_>,
    extra: &mut dyn FnMut(ExtraKind, &[u8], Duration),
) -> Result<Loaded, SnapshotFileError> {
    let mut reader = FileReader::begin(file, FILE_MAGIC)?;
    if reader.head.node != options.node {
        return Err(SnapshotFileError::OtherNode(reader.head.node));
    }
    let clocks = Clocks {
        saved_ns: reader.head.time_ns,
        last_ns: options.checked.last_ns,
        elapsed: options.now.since(&reader.head),
        now: options.now.time,
    };
    let own = OwnSlices {
        node: options.node,
        writer: reader.head.writer,
        resumes: options.resumes,
        renamed: options.renamed,
        this_start: options.this_start,
    };
    let mut loading = Loading::new(into, clocks, own);
    while let Some(block) = reader.next()? {
        loading.take(&block, extra)?;
    }
    loading.end();
    Ok(loading.loaded)
}

/// How times of a file become moments of our own clock.
#[derive(Debug, Clone, Copy)]
struct Clocks {
    /// What the clock of the file showed when it was begun, and (below) when its last group was read.
    saved_ns: i64,
    last_ns: i64,
    /// How long ago it was begun.
    elapsed: Duration,
    now: Duration,
}

impl Clocks {
    /// The moment at which the file's clock showed this time; not later than now.
    fn moment(&self, at_ns: i64) -> Moment {
        let now_ns = Moment::of(self.now).ns();
        let begun_ns = i128::from(now_ns) - self.elapsed.as_nanos() as i128;
        let at_ns = begun_ns + i128::from(at_ns) - i128::from(self.saved_ns);
        let least = i128::from(i64::MIN);
        Moment::at_ns(at_ns.clamp(least, i128::from(now_ns)) as i64)
    }
}

/// The node's own slices in the file, and what becomes of them.
#[derive(Debug, Clone, Copy)]
struct OwnSlices {
    node: u64,
    writer: Writer,
    /// Our own slices go on from them.
    resumes: bool,
    /// They are the beginning of those of this writer.
    renamed: Option<Writer>,
    this_start: ThisStart,
}

impl OwnSlices {
    fn are(&self, slice: &SliceId) -> bool {
        (slice.node, slice.writer) == (self.node, self.writer)
    }

    /// A slice of the file under the name that it has now.
    fn name_now(&self, slice: SliceId) -> SliceId {
        let renamed = self.renamed.filter(|_| self.are(&slice));
        SliceId {
            writer: renamed.unwrap_or(slice.writer),
            ..slice
        }
    }
}

struct Loading<'s> {
    into: BTreeMap<SketchNumber, &'s mut Slices>,
    clocks: Clocks,
    own: OwnSlices,
    /// The sketch that was named last, if it is taken.
    sketch: Option<SketchNumber>,
    /// Sketches that were begun, so that each is ended.
    begun: Vec<SketchNumber>,
    /// Whether something of the slice at hand was refused.
    is_refused: bool,
    group: SavedGroup,
    loaded: Loaded,
}

impl<'s> Loading<'s> {
    fn new(into: &'s mut [Slices], clocks: Clocks, own: OwnSlices) -> Self {
        let into = into.iter_mut();
        Self {
            into: into
                .map(|slices| (slices.own_slice().sketch, slices))
                .collect(),
            clocks,
            own,
            sketch: None,
            begun: Vec::new(),
            is_refused: false,
            group: SavedGroup::default(),
            loaded: Loaded {
                elapsed: clocks.elapsed,
                is_resumed: own.resumes,
                renamed: own.renamed,
                slices: 0,
                refused: 0,
                skipped: Vec::new(),
            },
        }
    }

    fn take(
        &mut self,
        block: &FileBlock<'_>,
        extra: &mut dyn FnMut(ExtraKind, &[u8], Duration),
    ) -> Result<(), SnapshotFileError> {
        let elapsed = self.clocks.elapsed;
        match block.kind {
            Kind::Sketch => self.take_sketch(block),
            Kind::Groups => self.take_groups(block),
            Kind::Slice => self.take_slice(block),
            Kind::Clients => {
                extra(ExtraKind::Clients, block.content, elapsed);
                Ok(())
            }
            Kind::Boots => {
                extra(ExtraKind::Boots, block.content, elapsed);
                Ok(())
            }
            Kind::Top => {
                self.take_top(block.content);
                Ok(())
            }
            Kind::Head | Kind::End | Kind::Renamed | Kind::Other(_) => Ok(()),
        }
    }

    fn take_sketch(&mut self, block: &FileBlock<'_>) -> Result<(), SnapshotFileError> {
        let saved = SketchBlock::read(block.content).map_err(|_| block.malformed())?;
        self.sketch = None;
        let Some(slices) = self.into.get_mut(&saved.number) else {
            return self.skip(saved, Skipped::Gone);
        };
        let cells = slices.own_cells().len() as u32;
        if (slices.fingerprint(), cells) != (saved.fingerprint, saved.cells) {
            return self.skip(saved, Skipped::OtherGeometry);
        }
        let mut marks = marks_of(&saved, &self.clocks);
        let (now, writer) = (self.clocks.now, self.own.writer);
        if self.own.resumes && slices.begin_restore(&marks, now, Some(writer)).is_err() {
            self.give_up();
        }
        if !self.own.resumes
            && let Some(slices) = self.into.get_mut(&saved.number)
        {
            marks.own.clear();
            slices.begin_restore(&marks, now, None).map_err(no_memory)?;
        }
        self.sketch = Some(saved.number);
        self.begun.push(saved.number);
        Ok(())
    }

    /// There is no memory to go on with our own slices. What is here of them is a learnt slice from now on, under the
    /// name that they would have had, and we are another writer.
    fn give_up(&mut self) {
        let OwnSlices { this_start, .. } = self.own;
        for slices in self.into.values_mut() {
            slices.end_restore();
            let name = slices.own_slice().writer;
            self.own.renamed = (name == this_start.drawn).then_some(name);
            slices.take_new_writer(this_start.spare);
        }
        self.own.resumes = false;
        self.loaded.is_resumed = false;
        self.loaded.renamed = self.own.renamed;
    }

    fn skip(&mut self, saved: SketchBlock, why: Skipped) -> Result<(), SnapshotFileError> {
        self.loaded.skipped.push(SkippedSketch {
            name: saved.name,
            why,
        });
        Ok(())
    }

    fn take_groups(&mut self, block: &FileBlock<'_>) -> Result<(), SnapshotFileError> {
        let slices = self.sketch.and_then(|number| self.into.get(&number));
        let Some(cells) = slices.map(|slices| slices.own_cells().len() as u32) else {
            return Ok(());
        };
        let mut groups = GroupsBlock::read(block.content).map_err(|_| block.malformed())?;
        // All that is in the block had been reached when it was written.
        let reached = [groups.time_ns]
            .into_iter()
            .chain(groups.marks.iter().copied());
        let marks: Vec<Moment> = reached.map(|at_ns| self.clocks.moment(at_ns)).collect();
        let mut increments = Vec::new();
        loop {
            let next = groups.next_group(cells, &mut self.group);
            let Some(group) = next.map_err(|_| block.malformed())? else {
                return Ok(());
            };
            let folded = groups.fold.folded(self.group.values.len());
            increments.clear();
            increments.resize(folded, 0);
            increments.extend_from_slice(&self.group.increments);
            let ages = GroupAges {
                fold: groups.fold,
                marks: &marks,
                increments: &increments,
            };
            if !self.restore(&groups.slice, group, &ages) {
                self.is_refused = true;
                if self.own.resumes && self.own.are(&groups.slice) {
                    self.give_up();
                    self.restore(&groups.slice, group, &ages);
                }
            }
        }
    }

    /// Takes over the group at hand. Returns whether there was room for it.
    fn restore(&mut self, slice: &SliceId, group: u32, ages: &GroupAges<'_>) -> bool {
        let slice = self.own.name_now(*slice);
        let slices = self.sketch.and_then(|number| self.into.get_mut(&number));
        let values = self.group.values.iter().copied();
        let cells = (group * GROUP_CELLS as u32..).zip(values);
        slices.is_none_or(|slices| slices.restore(&slice, group, cells, ages).is_ok())
    }

    fn take_slice(&mut self, block: &FileBlock<'_>) -> Result<(), SnapshotFileError> {
        let is_refused = std::mem::take(&mut self.is_refused);
        let Some(slices) = (self.sketch).and_then(|number| self.into.get_mut(&number)) else {
            return Ok(());
        };
        let saved = SliceBlock::read(block.content).map_err(|_| block.malformed())?;
        if is_refused {
            self.loaded.refused += 1;
        } else {
            slices.restore_complete(&self.own.name_now(saved.slice), saved.version);
            self.loaded.slices += 1;
        }
        Ok(())
    }

    /// Takes over a part of a list. It is not worth the file if it is not what it should be.
    fn take_top(&mut self, frame: &[u8]) {
        let Some(slices) = (self.sketch).and_then(|number| self.into.get_mut(&number)) else {
            return;
        };
        let cells = slices.own_cells().len() as u32;
        for frame in frames(frame, |_| Some(cells)) {
            if let Ok(Frame::Top { slice, list }) = frame {
                slices.restore_top(&self.own.name_now(slice), list);
            }
        }
    }

    fn end(&mut self) {
        for number in &self.begun {
            if let Some(slices) = self.into.get_mut(number) {
                slices.end_restore();
            }
        }
    }
}

fn no_memory(why: SliceRefused) -> SnapshotFileError {
    SnapshotFileError::NoMemory(why.to_string())
}

/// The marks of a sketch. By the time of the last group all that is in the file had been reached.
fn marks_of(saved: &SketchBlock, clocks: &Clocks) -> SavedMarks {
    let learnt = saved.learnt_marks.iter().copied().chain([clocks.last_ns]);
    let own = saved.own_marks.iter().map(|&(at_ns, version)| SavedMark {
        at: clocks.moment(at_ns),
        version,
    });
    SavedMarks {
        own: own.collect(),
        learnt: learnt.map(|at_ns| clocks.moment(at_ns)).collect(),
    }
}
