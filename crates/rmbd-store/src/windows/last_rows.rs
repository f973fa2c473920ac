//! What threads had added to the last row when a window began.
//!
//! A window is a difference to a snapshot, and reading it costs a thread that adds more than it may take for each add.
//! But whoever adds knows what its cell of the last row holds ([`Sketch::add_and_read`]), and needs one number more to
//! know what came to this cell since the window began: what it held then. So every now and then a snapshot also copies
//! the last row as it is, not folded, and without what others counted.
//!
//! There are two tables. As long as one is written, adds are compared with the other, which was written a turn before.
//! A turn has one snapshot less than the ring has slots. So when a table is begun, the other one belongs to the oldest
//! snapshot that is still in its slot, and reaches as far back as the window does; at the end of the turn it reaches
//! back two windows. A difference to it is never too low for the window.
//!
//! Each lane has a part of its own in a table, so that its thread reads nothing that other threads write.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use rmbd_sketch::{Geometry, Sketch, SketchError};

use super::copier::put;
use crate::memory::try_zeroed;

/// The last row of a lane or of the cells that all threads share, as it was when a snapshot was taken. Pages that stay
/// zero cost nothing, which a slice in an `Arc` of its own could not promise.
pub(crate) type LastRow = Arc<Box<[AtomicU32]>>;

/// Both tables of a ring.
#[derive(Debug)]
pub(super) struct LastRows {
    /// The parts of each table: one for each lane, or one for the cells that all threads share.
    tables: [Box<[LastRow]>; 2],
    /// Snapshots of a turn.
    turn: u64,
}

/// Whose last rows are kept.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LastRowsPlan {
    pub(crate) geometry: Geometry,
    /// Lanes of the sketch.
    pub(crate) lanes: usize,
}

impl LastRowsPlan {
    /// Bytes of both tables.
    pub(crate) fn memory_bytes(&self) -> u64 {
        let row_bytes = (self.geometry.width() * size_of::<AtomicU32>()) as u64;
        2 * row_bytes.saturating_mul(self.parts() as u64)
    }

    fn parts(&self) -> usize {
        self.lanes.max(1)
    }
}

impl LastRows {
    /// Rows in which nothing is, for a ring of so many slots.
    pub(super) fn try_new(plan: LastRowsPlan, slots: u64) -> Result<Self, SketchError> {
        let part = |_| try_zeroed(plan.geometry.width()).map(Arc::new);
        let table = || (0..plan.parts()).map(part).collect::<Result<_, _>>();
        Ok(Self {
            tables: [table()?, table()?],
            turn: slots - 1,
        })
    }

    /// The row of a lane (or the only one) that adds are compared with as long as so many snapshots are begun.
    pub(super) fn before(&self, begun: u64, part: usize) -> Option<LastRow> {
        let turn = (begun - 1) / self.turn;
        let table = self.table_of(turn - 1);
        table.get(part).map(Arc::clone)
    }

    /// The memory of all parts of both tables.
    pub(super) fn memory(&self) -> impl Iterator<Item = &[AtomicU32]> {
        self.tables.iter().flatten().map(|row| &***row)
    }

    /// Whether a snapshot copies last rows too.
    pub(super) fn are_copied_with(&self, number: u64) -> bool {
        number.is_multiple_of(self.turn)
    }

    /// Copies those of these cells that are in the last row. Only the one writer of snapshots calls this.
    pub(super) fn copy(&self, number: u64, sketch: &Sketch, cells: Range<usize>) {
        let geometry = sketch.geometry();
        let first = geometry.cells() - geometry.width();
        let cells = cells.start.max(first)..cells.end;
        for (part, row) in self.table_of(number / self.turn).iter().enumerate() {
            let lane = (sketch.lanes() > 0).then_some(part);
            for cell in geometry.cells_between(cells.start, cells.end) {
                let column = cell.get() as usize - first;
                put(&row[column], sketch.own_part(lane, cell));
            }
        }
    }

    fn table_of(&self, turn: u64) -> &[LastRow] {
        &self.tables[(turn % 2) as usize]
    }
}
