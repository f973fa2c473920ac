//! Whole groups of a slice together with the ages of what they count.

use std::iter::FusedIterator;

use super::cells::{cells_of_group, read_group};
use super::{CELL_MAX, GROUP_CELLS, GroupsWriter, pack_group};
use crate::reader::{ReadError, Reader};
use crate::varint;

/// Largest number of marks of a frame.
pub const MARKS_MAX: usize = 64;

/// The neighbouring cells of a sketch that are added up where the growth between two marks is told: 1, 2, 4 and so on
/// up to [`GROUP_CELLS`], so that no folded cell reaches from one group into the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fold(u8);

impl Fold {
    /// Each cell stands for itself.
    pub const NONE: Self = Self(0);
    /// A whole group is one folded cell.
    pub const GROUP: Self = Self(GROUP_CELLS.trailing_zeros() as u8);

    /// The largest fold by which `cells` can be divided.
    #[must_use]
    pub const fn dividing(cells: usize) -> Self {
        let bits = cells.trailing_zeros() as u8;
        if bits < Self::GROUP.0 {
            Self(bits)
        } else {
            Self::GROUP
        }
    }

    /// The fold of `1 << bits` cells; `None` if that is more than a group.
    #[must_use]
    pub const fn of_bits(bits: u8) -> Option<Self> {
        if bits <= Self::GROUP.0 {
            Some(Self(bits))
        } else {
            None
        }
    }

    /// Binary logarithm of the number of cells.
    #[must_use]
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// Number of cells that are one folded cell.
    #[must_use]
    pub const fn cells(self) -> usize {
        1 << self.0
    }

    /// Number of folded cells of so many cells. The last one may have fewer cells.
    #[must_use]
    pub const fn folded(self, cells: usize) -> usize {
        cells.div_ceil(self.cells())
    }
}

/// The ages of a frame's marks in milliseconds, the youngest first. No age is below the one before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ages<'a> {
    reader: Reader<'a>,
    left: usize,
    age_ms: u64,
}

impl Ages<'_> {
    fn read(&mut self) -> Result<u64, ReadError> {
        let gap = self.reader.varint()?;
        self.age_ms = self.age_ms.checked_add(gap).ok_or(ReadError::Form)?;
        Ok(self.age_ms)
    }
}

impl Iterator for Ages<'_> {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        self.left = self.left.checked_sub(1)?;
        self.read().ok()
    }
}

impl FusedIterator for Ages<'_> {}

/// A group of a frame of aged groups.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AgedGroup {
    /// Index in the slice and value of each cell that is not 0, ascending.
    pub cells: Vec<(u32, u64)>,
    /// For each mark, the youngest first, all folded cells of the group: by how much they grew from this mark to the
    /// next younger one, and from the youngest mark to the values of this group. [`CELL_MAX`] means that or more.
    pub increments: Vec<u64>,
}

/// The groups of a frame of aged groups, ascending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AgedGroupsReader<'a> {
    fold: Fold,
    marks: usize,
    ages: Ages<'a>,
    reader: Reader<'a>,
    before: Option<u32>,
    end: u32,
}

impl<'a> AgedGroupsReader<'a> {
    /// Reads what stands before the groups. The sketch has `end` cells.
    pub(super) fn new(mut reader: Reader<'a>, end: u32) -> Result<Self, ReadError> {
        let fold = Fold::of_bits(reader.byte()?).ok_or(ReadError::Form)?;
        let marks = usize::from(reader.byte()?);
        if marks > MARKS_MAX {
            return Err(ReadError::Form);
        }
        let ages = Ages {
            reader,
            left: marks,
            age_ms: 0,
        };
        let mut read = ages;
        for _ in 0..marks {
            read.read()?;
        }
        Ok(Self {
            fold,
            marks,
            ages,
            reader: read.reader,
            before: None,
            end,
        })
    }

    /// How many cells are one folded cell of the increments.
    #[must_use]
    pub fn fold(&self) -> Fold {
        self.fold
    }

    /// Number of marks.
    #[must_use]
    pub fn marks(&self) -> usize {
        self.marks
    }

    /// How old each mark was when the frame was written. What a group had grown by then is at least so old.
    #[must_use]
    pub fn ages(&self) -> Ages<'a> {
        self.ages
    }

    /// Reads the next group into `out`, whose content it replaces, and returns the group's index. Returns `None` at
    /// the end.
    pub fn next_group(&mut self, out: &mut AgedGroup) -> Option<u32> {
        out.cells.clear();
        out.increments.clear();
        let group = self.read(out);
        if group.is_err() {
            out.cells.clear();
            out.increments.clear();
        }
        self.reader.item_or_end(group)
    }

    fn read(&mut self, out: &mut AgedGroup) -> Result<u32, ReadError> {
        let group = self.reader.index_after(self.before)?;
        let cells = cells_of_group(group, self.end).ok_or(ReadError::Form)?;
        let first = group * GROUP_CELLS as u32;
        read_group(&mut self.reader, cells, |index, value| {
            out.cells.push((first + index, value));
        })?;
        let folded = self.fold.folded(cells);
        // At most 64 marks of 128 cells, and each mark takes a byte of the frame at least.
        for _ in 0..self.marks {
            let start = out.increments.len();
            out.increments.resize(start + folded, 0);
            read_group(&mut self.reader, folded, |index, value| {
                if let Some(increment) = out.increments.get_mut(start + index as usize) {
                    *increment = value;
                }
            })?;
        }
        self.before = Some(group);
        Ok(group)
    }
}

/// Appends groups to the frame that [`FrameWriter::aged_groups`](super::FrameWriter::aged_groups) has begun.
#[derive(Debug)]
pub struct AgedGroupsWriter<'o> {
    pub(super) groups: GroupsWriter<'o>,
    pub(super) fold: Fold,
    pub(super) marks: usize,
    pub(super) packed: Vec<u8>,
}

impl AgedGroupsWriter<'_> {
    /// Appends a group. `values` are all its cells, at most [`GROUP_CELLS`]; `increments` has for each mark of the
    /// frame all folded cells, as [`AgedGroup`] says. Indexes of groups ascend. Returns false, and does nothing, if
    /// there is no room.
    pub fn push(&mut self, group: u32, values: &[u64], increments: &[u64]) -> bool {
        let folded = self.fold.folded(values.len());
        debug_assert_eq!(increments.len(), self.marks * folded, "one for each");
        self.packed.clear();
        pack_group(values, &mut self.packed);
        for increments in increments.chunks(folded.max(1)) {
            pack_increments(increments, &mut self.packed);
        }
        self.groups.push_packed(group, &self.packed)
    }
}

/// Appends ages, the youngest first, as gaps.
pub(super) fn write_ages(ages_ms: &[u64], out: &mut Vec<u8>) {
    debug_assert!(ages_ms.is_sorted(), "the youngest mark comes first");
    let mut before = 0;
    for &age_ms in ages_ms {
        varint::write(age_ms.saturating_sub(before), out);
        before = age_ms.max(before);
    }
}

/// Appends increments of folded cells in the form of a group. One that is larger than a cell may be becomes
/// [`CELL_MAX`], which a reader takes for *that or more*.
fn pack_increments(increments: &[u64], out: &mut Vec<u8>) {
    let mut values = [0; GROUP_CELLS];
    let values = &mut values[..increments.len().min(GROUP_CELLS)];
    for (value, &increment) in values.iter_mut().zip(increments) {
        *value = increment.min(CELL_MAX);
    }
    pack_group(values, out);
}

/// Appends a group behind a number, as [`take_numbered_group`] reads it. `number` is not below `before`.
pub fn pack_numbered_group(before: u64, number: u64, increments: &[u64], out: &mut Vec<u8>) {
    varint::write(number.saturating_sub(before), out);
    pack_increments(increments, out);
}

/// Takes a group and its number from the front of `rest`, and puts the cells into `out`, which must be as long as the
/// group. `before` is the number of the group before it. Returns `None` at the end, or where the bytes are no such
/// group; the content of `out` is meaningless then.
pub fn take_numbered_group(before: u64, rest: &mut &[u8], out: &mut [u64]) -> Option<u64> {
    let mut reader = Reader::new(rest);
    out.fill(0);
    let number = before.checked_add(reader.varint().ok()?)?;
    let cells = out.len();
    let put = |index: u32, value| {
        if let Some(cell) = out.get_mut(index as usize) {
            *cell = value;
        }
    };
    read_group(&mut reader, cells, put).ok()?;
    *rest = reader.rest();
    Some(number)
}
