//! A look at a slice's cells.

use super::learnt::Held;
use rmbd_proto::cluster::{GROUP_CELLS, pack_group};
use rmbd_sketch::Sketch;

/// The cells of a slice: of our own as they were published, of a learnt one as they are now.
#[derive(Debug, Clone, Copy)]
pub struct CellsRef<'a> {
    source: Source<'a>,
    len: usize,
}

#[derive(Debug, Clone, Copy)]
enum Source<'a> {
    Published {
        cells: &'a [u32],
        /// Which has noted what is beyond them.
        sketch: &'a Sketch,
    },
    Learnt(&'a Held),
    /// All are 0.
    Empty,
}

impl<'a> CellsRef<'a> {
    pub(super) fn published(cells: &'a [u32], sketch: &'a Sketch) -> Self {
        Self {
            source: Source::Published { cells, sketch },
            len: cells.len(),
        }
    }

    /// Of a slice of so many cells; `None`: all are 0.
    pub(super) fn learnt(held: Option<&'a Held>, len: usize) -> Self {
        Self {
            source: held.map_or(Source::Empty, Source::Learnt),
            len,
        }
    }

    /// What a cell counts; 0 where there is no such cell.
    #[must_use]
    pub fn get(self, index: u32) -> u64 {
        match self.source {
            Source::Published { cells, sketch } => {
                let cell = sketch.geometry().cell(index);
                cell.map_or(0, |cell| sketch.noted_total(cell, cells[index as usize]))
            }
            Source::Learnt(held) => held.cell(index),
            Source::Empty => 0,
        }
    }

    /// Puts all cells of a group into `values`, whose content it replaces: [`GROUP_CELLS`], but for the last group;
    /// none where there is no such group.
    pub fn read_group(self, number: u32, values: &mut Vec<u64>) {
        let start = (number as usize).saturating_mul(GROUP_CELLS).min(self.len);
        let end = (start + GROUP_CELLS).min(self.len);
        values.clear();
        values.resize(end - start, 0);
        match self.source {
            Source::Published { cells, sketch } => {
                let published = sketch.geometry().cells_between(start, end);
                let published = published.zip(&cells[start..end]);
                for (value, (cell, &published)) in values.iter_mut().zip(published) {
                    *value = sketch.noted_total(cell, published);
                }
            }
            Source::Learnt(held) => held.groups().read(number, values),
            Source::Empty => {}
        }
    }

    /// Puts a group, packed as it is sent, into `packed`, whose content it replaces; false where there is no such
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

    /// All of them.
    #[must_use]
    pub fn to_vec(self) -> Vec<u64> {
        let (mut all, mut group) = (Vec::with_capacity(self.len), Vec::new());
        for number in 0..self.len.div_ceil(GROUP_CELLS) as u32 {
            self.read_group(number, &mut group);
            all.extend_from_slice(&group);
        }
        all
    }

    /// How many cells there are.
    #[must_use]
    pub fn len(self) -> usize {
        self.len
    }

    /// Never: a sketch has cells. What counts nothing has cells that are 0.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }
}
