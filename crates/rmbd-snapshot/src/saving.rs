//! Writing a file, in pieces.
//!
//! Slices grow while they are written. Each is written from its first group to its last, and is complete until the
//! version that it had before the first; what came later is there in part. So a file has everything that was counted
//! before it was begun, and nothing that never was.

use std::time::Duration;

use rmbd_proto::cluster::{Fold, FrameWriter, GROUP_CELLS, SliceId, TopVersion};
use rmbd_proto::snapshot_file::{
    FILE_MAGIC, FORMAT, FileHead, GroupsBlockWriter, Kind, SketchBlock, SliceBlock, begin_block,
    end_block, write_end,
};
use rmbd_proto::{Boot, SketchNumber, Writer};
use rmbd_store::{Mark, Moment, Slices};

use crate::ClockReading;

/// A piece that is written at once is at least so long, but for the last one of a slice.
const PIECE_BYTES: usize = 64 << 10;
/// Groups that one call looks at: a fraction of a millisecond's work while others wait for the slices.
const GROUPS_A_PIECE: usize = 256;
/// Most bytes of one block of a list: as many as a frame may have.
const TOP_FRAME_BYTES: usize = 60 << 10;
/// Bytes after which what was written goes to the disk, so that a slow one is not given all at once.
const SYNC_BYTES: u64 = 4 << 20;

/// Lends the slices of all sketches for the time of a call, always in the same order.
pub trait SlicesSource {
    /// Calls `read` once.
    fn with(&self, read: &mut dyn FnMut(&[&Slices]));
}

/// What a file is written of.
#[derive(Debug, Clone)]
pub struct SavingOptions {
    /// The number of the file, random.
    pub file: u64,
    /// This start of the node.
    pub boot: Boot,
    /// What the clocks show.
    pub now: ClockReading,
    /// The version of the program.
    pub program: String,
    /// The names of the sketches.
    pub names: Vec<(SketchNumber, String)>,
}

/// What may stand behind the slices. The bytes are somebody else's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExtraKind {
    /// Clients of exactly-once requests.
    Clients,
    /// Earlier boots of the node.
    Boots,
}

/// Blocks behind the slices, each made when it is written.
pub type Extra = Box<dyn Iterator<Item = (ExtraKind, Vec<u8>)> + Send>;

/// What is to be done with files next.
#[derive(Debug, PartialEq, Eq)]
pub enum SavingStep<'a> {
    /// Make the new file, empty, in place of one that was left.
    Create,
    /// Append all of this to it.
    Write(&'a [u8]),
    /// What was written is to be on the disk before more is (fdatasync(2)).
    SyncSome,
    /// All of it is to be on the disk (fsync(2)).
    SyncAll,
    /// The new file takes the place of the old one (rename(2)).
    Rename,
    /// That is to be on the disk (fsync(2) of the folder).
    SyncFolder,
    /// Nothing is left to do.
    Done(Saved),
}

/// A file that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Saved {
    /// Its head.
    pub head: FileHead,
    /// Its bytes.
    pub bytes: u64,
    /// Number of slices.
    pub slices: u64,
    /// Our own slices, each with the version until which the file has it.
    pub own: Vec<(SliceId, u64)>,
}

/// A file that is being written.
///
/// [`next`](Self::next) says what is to be done; it is called again when that was done. Where something cannot be done
/// the saving is over: the new file is removed, and the old one stands.
pub struct Saving {
    options: SavingOptions,
    extra: Extra,
    place: Place,
    saved: Saved,
    blocks: u64,
    unsynced: u64,
    piece: Vec<u8>,
}

/// Where a saving is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Create,
    Head,
    /// The sketch at this position of the list.
    Sketch(usize),
    /// A group of a line of a sketch.
    Slice(SlicePlace),
    Extra,
    SyncAll,
    Rename,
    SyncFolder,
    Done,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct SlicePlace {
    sketch: usize,
    line: usize,
    slice: SliceId,
    version: u64,
    group: u32,
}

impl Saving {
    /// Begins to write a file.
    #[must_use]
    pub fn new(options: SavingOptions, extra: Extra) -> Self {
        let saved = Saved {
            head: FileHead {
                format: FORMAT,
                file: options.file,
                node: 0,
                boot: options.boot,
                writer: Writer(0),
                time_ns: Moment::of(options.now.time).ns(),
                wall_ms: options.now.wall.as_millis() as u64,
                since_boot_ns: options.now.since_boot.as_nanos() as u64,
                machine_boot: options.now.machine_boot,
                program: options.program.clone(),
            },
            bytes: 0,
            slices: 0,
            own: Vec::new(),
        };
        Self {
            options,
            extra,
            place: Place::Create,
            saved,
            blocks: 0,
            unsynced: 0,
            piece: Vec::with_capacity(2 * PIECE_BYTES),
        }
    }

    /// What is to be done next. `clock` is the node's own, and is read while the slices are lent.
    pub fn next(
        &mut self,
        source: &dyn SlicesSource,
        clock: &dyn Fn() -> Duration,
    ) -> SavingStep<'_> {
        if self.unsynced >= SYNC_BYTES {
            self.unsynced = 0;
            return SavingStep::SyncSome;
        }
        loop {
            match self.place {
                Place::Create => {
                    self.restart();
                    return SavingStep::Create;
                }
                Place::Head | Place::Sketch(_) | Place::Slice(_) => {
                    self.piece.clear();
                    source.with(&mut |slices| self.write_some(slices, clock));
                    // A slice that goes on under another name makes it begin anew.
                    if self.place != Place::Create {
                        return self.write();
                    }
                }
                Place::Extra => {
                    self.piece.clear();
                    match self.extra.next() {
                        Some((kind, content)) => {
                            let kind = match kind {
                                ExtraKind::Clients => Kind::Clients,
                                ExtraKind::Boots => Kind::Boots,
                            };
                            self.block(kind, |_, out| out.extend(content));
                        }
                        None => {
                            let blocks = self.blocks;
                            self.block(Kind::End, |_, out| write_end(blocks, out));
                            self.place = Place::SyncAll;
                        }
                    }
                    return self.write();
                }
                Place::SyncAll => {
                    self.place = Place::Rename;
                    return SavingStep::SyncAll;
                }
                Place::Rename => {
                    self.place = Place::SyncFolder;
                    return SavingStep::Rename;
                }
                Place::SyncFolder => {
                    self.place = Place::Done;
                    return SavingStep::SyncFolder;
                }
                Place::Done => return SavingStep::Done(self.saved.clone()),
            }
        }
    }

    fn restart(&mut self) {
        self.place = Place::Head;
        (self.blocks, self.unsynced) = (0, 0);
        (self.saved.bytes, self.saved.slices) = (0, 0);
        self.saved.own.clear();
    }

    fn write(&mut self) -> SavingStep<'_> {
        let bytes = self.piece.len() as u64;
        self.saved.bytes += bytes;
        self.unsynced += bytes;
        SavingStep::Write(&self.piece)
    }

    fn write_some(&mut self, sketches: &[&Slices], clock: &dyn Fn() -> Duration) {
        let writer = sketches.first().map(|first| first.own_slice().writer);
        if self.place != Place::Head && writer != Some(self.saved.head.writer) {
            self.place = Place::Create;
            return;
        }
        let mut groups_left = GROUPS_A_PIECE;
        while self.piece.len() < PIECE_BYTES && groups_left > 0 {
            match self.place {
                Place::Head => self.write_head(sketches),
                Place::Sketch(at) => self.write_sketch(sketches, at, clock()),
                Place::Slice(place) => {
                    let Some(slices) = sketches.get(place.sketch) else {
                        return;
                    };
                    groups_left -= self.write_groups(slices, place, (groups_left, clock()));
                }
                _ => return,
            }
        }
    }

    fn write_head(&mut self, sketches: &[&Slices]) {
        if let Some(first) = sketches.first() {
            let own = first.own_slice();
            (self.saved.head.node, self.saved.head.writer) = (own.node, own.writer);
        }
        self.piece.extend(FILE_MAGIC);
        self.block(Kind::Head, |this, out| this.saved.head.write(out));
        self.place = Place::Sketch(0);
    }

    fn write_sketch(&mut self, sketches: &[&Slices], at: usize, now: Duration) {
        let Some(slices) = sketches.get(at) else {
            self.place = Place::Extra;
            return;
        };
        let own = slices.own_slice();
        let mut names = self.options.names.iter();
        let name = names.find(|(number, _)| *number == own.sketch);
        let (marks, time_ns) = (slices.saved_marks(), Moment::of(now).ns());
        // What is published now had been reached by now.
        let own_marks = marks.own.iter().map(|mark| (mark.at.ns(), mark.version));
        let own_marks = own_marks.chain([(time_ns, slices.own_version())]);
        let sketch = SketchBlock {
            number: own.sketch,
            fingerprint: slices.fingerprint(),
            cells: slices.own_cells().len() as u32,
            name: name.map_or_else(String::new, |(_, name)| name.clone()),
            time_ns,
            own_marks: own_marks.collect(),
            learnt_marks: marks.learnt.iter().map(|at| at.ns()).collect(),
        };
        self.block(Kind::Sketch, |_, out| sketch.write(out));
        self.begin_line(slices, at, 0);
    }

    /// Begins a line of a sketch, or the next sketch behind the last line.
    fn begin_line(&mut self, slices: &Slices, sketch: usize, line: usize) {
        let digest = slices.digests_from(line).next();
        self.place = digest.map_or(Place::Sketch(sketch + 1), |digest| {
            Place::Slice(SlicePlace {
                sketch,
                line,
                slice: digest.slice,
                version: digest.version,
                group: 0,
            })
        });
    }

    /// Writes groups of a slice, until a piece is full; behind the last group it ends the slice. Returns how many
    /// groups it has looked at.
    fn write_groups(
        &mut self,
        slices: &Slices,
        place: SlicePlace,
        (groups_max, now): (usize, Duration),
    ) -> usize {
        let mut groups = slices.groups_of(&place.slice, place.group).peekable();
        if groups.peek().is_none() {
            self.end_slice(slices, place);
            return 1;
        }
        let Some(cells) = slices.cells(&place.slice) else {
            return 1;
        };
        // What others and we ourselves have counted changes only between calls: all of it was reached before now.
        let time_ns = Moment::of(now).ns();
        let marks = slices.all_marks_of(&place.slice);
        let at: Vec<i64> = marks.iter().map(|mark: &Mark| mark.at.ns()).collect();
        let fold = slices.ages_fold().unwrap_or(Fold::NONE);
        let out = &mut self.piece;
        let start = begin_block(Kind::Groups, out);
        let mut writer = GroupsBlockWriter::begin(&place.slice, (time_ns, fold), &at, out);
        let (mut values, mut increments) = (Vec::with_capacity(GROUP_CELLS), Vec::new());
        let (mut looked, mut next) = (0, place.group);
        for group in groups {
            if looked == groups_max || out.len() >= PIECE_BYTES {
                break;
            }
            cells.read_group(group, &mut values);
            slices.increments(&place.slice, group, &marks, &mut increments);
            writer.push(group, &values, &increments, out);
            (looked, next) = (looked + 1, group + 1);
        }
        end_block(start, self.blocks, out);
        self.blocks += 1;
        self.place = Place::Slice(SlicePlace {
            group: next,
            ..place
        });
        looked
    }

    fn end_slice(&mut self, slices: &Slices, place: SlicePlace) {
        let block = SliceBlock {
            slice: place.slice,
            version: place.version,
            weight: slices.weight_of(&place.slice),
        };
        self.block(Kind::Slice, |_, out| block.write(out));
        self.saved.slices += 1;
        if place.line == 0 {
            self.saved.own.push((place.slice, place.version));
        }
        self.write_top(slices, place.slice);
        self.begin_line(slices, place.sketch, place.line + 1);
    }

    /// Writes the list of a slice, which is small.
    fn write_top(&mut self, slices: &Slices, slice: SliceId) {
        let nothing = TopVersion {
            slice,
            version: 0,
            complete: 0,
        };
        let Some((mut head, entries)) = slices.top_changes(&nothing) else {
            return;
        };
        loop {
            let mut frame = Vec::new();
            let rest = entries.iter().filter(|entry| entry.changed > head.from);
            let mut writer = FrameWriter::new(&mut frame, TOP_FRAME_BYTES);
            let Some((to, is_all)) = writer.top(&slice, &head, rest.copied()) else {
                return;
            };
            self.block(Kind::Top, |_, out| out.extend(frame));
            if is_all {
                return;
            }
            head.from = to;
        }
    }

    fn block(&mut self, kind: Kind, write: impl FnOnce(&Self, &mut Vec<u8>)) {
        let mut piece = std::mem::take(&mut self.piece);
        let start = begin_block(kind, &mut piece);
        write(self, &mut piece);
        end_block(start, self.blocks, &mut piece);
        self.piece = piece;
        self.blocks += 1;
    }
}

impl std::fmt::Debug for Saving {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Saving")
            .field("place", &self.place)
            .finish_non_exhaustive()
    }
}
