//! Read access to a slice's cells.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use super::base::Base;
use super::learnt::Held;
use rmbd_proto::cluster::{GROUP_CELLS, pack_group};
use rmbd_sketch::Sketch;

/// The cells of a slice: those of our own slice as they were published, those of a learnt one as they are now.
#[derive(Debug, Clone, Copy)]
pub struct CellsRef<'a> {
    source: Source<'a>,
    len: usize,
}

#[derive(Debug, Clone, Copy)]
enum Source<'a> {
    Published {
        cells: &'a [AtomicU32],
        /// The sketch, which has noted the part of each total above 32 bits.
        sketch: &'a Sketch,
        /// What an earlier start of this node had counted.
        base: Option<&'a Base>,
    },
    Learnt(&'a Held),
    /// All cells are 0.
    Empty,
}

impl<'a> CellsRef<'a> {
    pub(super) fn published(
        cells: &'a [AtomicU32],
        sketch: &'a Sketch,
        base: Option<&'a Base>,
    ) -> Self {
        Self {
            source: Source::Published {
                cells,
                sketch,
                base,
            },
            len: cells.len(),
        }
    }

    /// The cells of a learnt slice of `len` cells; `None` means that all are 0.
    pub(super) fn learnt(held: Option<&'a Held>, len: usize) -> Self {
        Self {
            source: held.map_or(Source::Empty, Source::Learnt),
            len,
        }
    }

    /// The value of a cell; 0 if there is no such cell.
    #[must_use]
    pub fn get(self, index: u32) -> u64 {
        match self.source {
            Source::Published {
                cells,
                sketch,
                base,
            } => {
                let cell = sketch.geometry().cell(index);
                cell.map_or(0, |cell| {
                    let added = sketch.noted_total(cell, cells[index as usize].load(Relaxed));
                    base.map_or(0, |base| base.cell(index)) + added
                })
            }
            Source::Learnt(held) => held.cell(index),
            Source::Empty => 0,
        }
    }

    /// Puts all cells of a group into `values` and replaces its content. There are [`GROUP_CELLS`] of them, fewer in
    /// the last group, and none if there is no such group.
    pub fn read_group(self, number: u32, values: &mut Vec<u64>) {
        let start = (number as usize).saturating_mul(GROUP_CELLS).min(self.len);
        let end = (start + GROUP_CELLS).min(self.len);
        values.clear();
        values.resize(end - start, 0);
        match self.source {
            Source::Published {
                cells,
                sketch,
                base,
            } => {
                if let Some(base) = base {
                    base.read_group(number, values);
                }
                let published = sketch.geometry().cells_between(start, end);
                let published = published.zip(&cells[start..end]);
                for (value, (cell, published)) in values.iter_mut().zip(published) {
                    *value += sketch.noted_total(cell, published.load(Relaxed));
                }
            }
            Source::Learnt(held) => held.groups().read(number, values),
            Source::Empty => {}
        }
    }

    /// Puts a group, packed as it is sent, into `packed` and replaces its content. Returns false if there is no such
    /// group.
    pub fn pack_group(self, number: u32, packed: &mut Vec<u8>) -> bool {
        packed.clear();
        let is_packed = match self.source {
            Source::Learnt(held) => held.groups().read_packed(number, packed),
            Source::Published { .. } | Source::Empty => false,
        };
        if is_packed {
            return true;
        }
        let mut values = Vec::with_capacity(GROUP_CELLS);
        self.read_group(number, &mut values);
        pack_group(&values, packed);
        !values.is_empty()
    }

    /// All cells, in order.
    #[must_use]
    pub fn to_vec(self) -> Vec<u64> {
        let (mut all, mut group) = (Vec::with_capacity(self.len), Vec::new());
        for number in 0..self.len.div_ceil(GROUP_CELLS) as u32 {
            self.read_group(number, &mut group);
            all.extend_from_slice(&group);
        }
        all
    }

    /// Number of cells.
    #[must_use]
    pub fn len(self) -> usize {
        self.len
    }

    /// Always false: a sketch has cells. A slice in which nothing was counted has cells that are 0.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }
}
