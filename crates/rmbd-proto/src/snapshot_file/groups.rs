//! Groups of a slice, with what they have grown by since marks.

use super::MalformedBlock;
use super::sketch::{before, earlier};
use super::slice::{read_slice, write_slice};
use crate::cluster::{Fold, GROUP_CELLS, SliceId, pack_numbered_group, take_numbered_group};
use crate::reader::Reader;
use crate::varint;

/// Most marks of a block: more than all windows of a sketch have together.
const MARKS_MAX: u64 = 4_096;

/// Groups of a slice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupsBlock<'a> {
    /// The slice.
    pub slice: SliceId,
    /// When the last group was read. All its cells had been reached by then.
    pub time_ns: i64,
    /// How many cells are one folded cell.
    pub fold: Fold,
    /// Marks, the youngest first, as times of the node's clock in nanoseconds.
    pub marks: Vec<i64>,
    rest: &'a [u8],
    group: u64,
}

/// A group of a block.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SavedGroup {
    /// All cells of the group.
    pub values: Vec<u64>,
    /// For each mark of the block, the youngest first, all folded cells: by how much they grew from this mark to the
    /// one before it in the list, and from the youngest mark to the values.
    pub increments: Vec<u64>,
}

impl<'a> GroupsBlock<'a> {
    /// Reads what stands before the groups.
    ///
    /// # Errors
    /// [`MalformedBlock`].
    pub fn read(content: &'a [u8]) -> Result<Self, MalformedBlock> {
        let mut reader = Reader::new(content);
        let slice = read_slice(&mut reader)?;
        let time_ns = i64::from_le_bytes(reader.array()?);
        let fold = Fold::of_bits(reader.byte()?).ok_or(MalformedBlock)?;
        let count = reader.varint()?;
        if count > MARKS_MAX {
            return Err(MalformedBlock);
        }
        let (mut marks, mut at) = (Vec::new(), time_ns);
        for _ in 0..count {
            at = earlier(at, reader.varint()?)?;
            marks.push(at);
        }
        Ok(Self {
            slice,
            time_ns,
            fold,
            marks,
            rest: reader.rest(),
            group: 0,
        })
    }

    /// Reads the next group of a slice of `cells` cells into `out`, whose content it replaces; `None` at the end.
    ///
    /// # Errors
    /// [`MalformedBlock`]. Nothing more can be read then.
    pub fn next_group(
        &mut self,
        cells: u32,
        out: &mut SavedGroup,
    ) -> Result<Option<u32>, MalformedBlock> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let mut rest = std::mem::take(&mut self.rest);
        let step = Reader::new(rest).varint()?;
        let group = self.group.checked_add(step).ok_or(MalformedBlock)?;
        let first = group.saturating_mul(GROUP_CELLS as u64);
        let in_group = u64::from(cells)
            .saturating_sub(first)
            .min(GROUP_CELLS as u64) as usize;
        // The step to the first group may be 0; any other one that is 0 would be the same group again.
        if in_group == 0 {
            return Err(MalformedBlock);
        }
        out.values.clear();
        out.values.resize(in_group, 0);
        take_numbered_group(0, &mut rest, &mut out.values).ok_or(MalformedBlock)?;
        let folded = self.fold.folded(in_group);
        out.increments.clear();
        out.increments.resize(self.marks.len() * folded, 0);
        let mut reader = Reader::new(rest);
        let with_increments = reader.varint()?;
        rest = reader.rest();
        let mut mark = 0;
        for _ in 0..with_increments {
            let step = Reader::new(rest).varint()?;
            mark += usize::try_from(step).map_err(|_| MalformedBlock)?;
            let of_mark = out.increments.chunks_exact_mut(folded).nth(mark);
            let of_mark = of_mark.ok_or(MalformedBlock)?;
            take_numbered_group(0, &mut rest, of_mark).ok_or(MalformedBlock)?;
        }
        // The next group is a higher one.
        self.group = group + 1;
        self.rest = rest;
        Ok(Some(group as u32))
    }
}

/// Writes the content of a block of groups.
#[derive(Debug)]
pub struct GroupsBlockWriter {
    fold: Fold,
    marks: usize,
    next_group: u64,
}

impl GroupsBlockWriter {
    /// Appends what stands before the groups; `marks` are the youngest first.
    #[must_use]
    pub fn begin(
        slice: &SliceId,
        (time_ns, fold): (i64, Fold),
        marks: &[i64],
        out: &mut Vec<u8>,
    ) -> Self {
        write_slice(slice, out);
        out.extend(time_ns.to_le_bytes());
        out.push(fold.bits());
        // Older marks than a block may have say less than the others; what had been reached by them counts as reached
        // by the oldest that is here.
        let marks = &marks[..marks.len().min(MARKS_MAX as usize)];
        varint::write(marks.len() as u64, out);
        let mut younger = time_ns;
        for &at in marks {
            varint::write(before(younger, at), out);
            younger = at.min(younger);
        }
        Self {
            fold,
            marks: marks.len(),
            next_group: 0,
        }
    }

    /// Appends a group, of a higher number than the one before; see [`SavedGroup`].
    pub fn push(&mut self, group: u32, values: &[u64], increments: &[u64], out: &mut Vec<u8>) {
        pack_numbered_group(self.next_group, group.into(), values, out);
        self.next_group = u64::from(group) + 1;
        let folded = self.fold.folded(values.len()).max(1);
        let of_marks = increments.chunks(folded).take(self.marks).enumerate();
        let grown = of_marks.filter(|(_, of_mark)| of_mark.iter().any(|&cell| cell > 0));
        varint::write(grown.clone().count() as u64, out);
        let mut before = 0;
        for (mark, of_mark) in grown {
            pack_numbered_group(before, mark as u64, of_mark, out);
            before = mark as u64;
        }
    }
}
