//! Writing frames of our own slice.

use std::time::Duration;

use rmbd_proto::cluster::{FrameWriter, GROUP_CELLS, Listed, SliceId};
use rmbd_store::{CellsRef, Changes, Slices};

use crate::gossip::ages::AgedGroupsOf;

/// Groups that one frame looks at; a bound for the work of a call where little fits.
const GROUPS_A_FRAME_MAX: usize = 1_024;

/// Our own slice, and the datagram that something of it is written to.
#[derive(Debug)]
pub(crate) struct OwnSliceWriter<'s, 'w> {
    now: Duration,
    slices: &'s Slices,
    id: SliceId,
    cells: CellsRef<'s>,
    writer: &'s mut FrameWriter<'w>,
}

/// Changes since version `base` in cells `from..to`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    pub(super) base: u64,
    pub(super) from: u32,
    pub(super) to: u32,
}

/// How far a frame has come in a span.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reached {
    /// All changes before this cell are written.
    pub(super) end: u32,
    /// There was something to write.
    pub(super) has_any: bool,
}

impl<'s, 'w> OwnSliceWriter<'s, 'w> {
    /// `now` was read before this call.
    pub(crate) fn new(now: Duration, slices: &'s Slices, writer: &'s mut FrameWriter<'w>) -> Self {
        Self {
            now,
            slices,
            id: slices.own_slice(),
            cells: slices.own_cells(),
            writer,
        }
    }

    /// Writes that all until `version` has arrived where all until `base` had; false where there is no room.
    pub(super) fn write_complete(&mut self, base: u64, version: u64) -> bool {
        self.writer.complete(&self.id, base, version)
    }

    /// Writes what changed in a span, as much as fits. `None` where not even the first change does.
    pub(super) fn write_span(&mut self, span: Span) -> Option<Reached> {
        let aged = AgedGroupsOf::since(self.slices, &self.id, span.base, self.now);
        let (listed, end) = match (self.slices.changes_since(span.base), aged) {
            (Changes::Nothing, _) => (Listed::Nothing, span.to),
            (_, Some(aged)) => self.write_aged_groups(span, aged),
            (Changes::Cells, None) => self.write_cells(span),
            (Changes::Groups, None) => self.write_groups(span),
        };
        if listed == Listed::NoRoom {
            // Nobody has looked what has changed.
            return None;
        }
        // A frame that begins with a group which lies partly before the span makes progress, too.
        let end = end.max(span.from);
        let has_any = listed == Listed::Some;
        (has_any || end == span.to).then_some(Reached { end, has_any })
    }

    fn write_cells(&mut self, span: Span) -> (Listed, u32) {
        let mut end = span.to;
        let listed = self.writer.cells(&self.id, |writer| {
            let changed = self.slices.changed_cells(span.base, span.from);
            for index in changed.take_while(|&index| index < span.to) {
                if !writer.push(index, self.cells.get(index)) {
                    end = index;
                    break;
                }
            }
        });
        (listed, end)
    }

    fn write_aged_groups(&mut self, span: Span, mut aged: AgedGroupsOf<'_>) -> (Listed, u32) {
        let group_cells = GROUP_CELLS as u32;
        let changed = (self.slices).changed_groups(span.base, span.from / group_cells);
        let in_span = changed.take_while(|&group| group * group_cells < span.to);
        let written = aged.write(self.writer, in_span);
        let end = written.rest_from.map(|group| group * group_cells);
        (written.listed, end.unwrap_or(span.to))
    }

    fn write_groups(&mut self, span: Span) -> (Listed, u32) {
        let group_cells = GROUP_CELLS as u32;
        let mut end = span.to;
        let mut values = Vec::with_capacity(GROUP_CELLS);
        let version = self.slices.own_version();
        let listed = self.writer.groups(&self.id, version, |writer| {
            let first = span.from / group_cells;
            let changed = self.slices.changed_groups(span.base, first);
            let in_span = changed.take_while(|&group| group * group_cells < span.to);
            for (number, group) in in_span.enumerate() {
                self.cells.read_group(group, &mut values);
                let is_full = number == GROUPS_A_FRAME_MAX;
                if is_full || !writer.push(group, &values) {
                    end = group * group_cells;
                    break;
                }
            }
        });
        (listed, end)
    }
}
