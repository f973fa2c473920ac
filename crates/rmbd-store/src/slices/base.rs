//! What an earlier start of this node had counted in its own slice, where a clean end lets this start go on with it.
//!
//! Our own cells begin at 0 with each start. What was counted before stands beside them, as what others counted does,
//! and packed in here. Our slice, as others get it, is the sum of both. Should its name turn out to be somebody else's,
//! too, then this becomes a learnt slice, and our own one goes on under another name, without any cell having moved.

use rmbd_proto::Writer;
use rmbd_proto::cluster::GROUP_CELLS;

use super::learnt::Held;

/// The base of our own slice.
#[derive(Debug)]
pub(super) struct Base {
    /// The writer as which it was counted.
    writer: Writer,
    held: Held,
    version: u64,
    /// In the growth of our own slice, what has this number or a lower one is of the base.
    last_number: u64,
}

impl Base {
    pub(super) fn new(writer: Writer, held: Held, version: u64, last_number: u64) -> Self {
        Self {
            writer,
            held,
            version,
            last_number,
        }
    }

    pub(super) fn writer(&self) -> Writer {
        self.writer
    }

    /// The version that the slice had reached.
    pub(super) fn version(&self) -> u64 {
        self.version
    }

    /// Version, highest number of its growth, and cells.
    pub(super) fn into_parts(self) -> (u64, u64, Held) {
        (self.version, self.last_number, self.held)
    }

    pub(super) fn held(&self) -> &Held {
        &self.held
    }

    /// The value of a cell.
    pub(super) fn cell(&self, index: u32) -> u64 {
        self.held.cell(index)
    }

    /// Puts the cells of a group into `values`, which must be as long as the group.
    pub(super) fn read_group(&self, number: u32, values: &mut [u64]) {
        self.held.groups().read(number, values);
    }

    /// Calls `each` with every group that is not zero, and its hash.
    pub(super) fn each_group_hash(&self, mut each: impl FnMut(usize, u64)) {
        for number in self.held.groups().numbers_from(0) {
            each(number as usize, self.held.group_hash(number));
        }
    }
}

/// The base's cells of one group, read when the first one is asked for.
#[derive(Debug)]
pub(super) struct BaseGroup<'a> {
    base: Option<&'a Base>,
    values: Option<[u64; GROUP_CELLS]>,
}

impl<'a> BaseGroup<'a> {
    pub(super) fn new(base: Option<&'a Base>) -> Self {
        Self { base, values: None }
    }

    /// The value of a cell; all that are asked for are in one group.
    #[inline]
    pub(super) fn cell(&mut self, index: u32) -> u64 {
        let Some(base) = self.base else {
            return 0;
        };
        let values = self.values.get_or_insert_with(|| {
            let mut values = [0; GROUP_CELLS];
            let number = index / GROUP_CELLS as u32;
            let cells = base.held.cells_of(number);
            base.read_group(number, &mut values[..cells]);
            values
        });
        values[index as usize % GROUP_CELLS]
    }
}
