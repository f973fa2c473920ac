//! Cells of a slice in frames: single changed cells, or whole groups.

use std::iter::FusedIterator;

use super::{CELL_MAX, GROUP_CELLS, gap_after};
use crate::reader::{ReadError, Reader};
use crate::varint;

const SPARSE: u8 = 255;
/// Number of bits of [`CELL_MAX`].
const BITS_MAX: u8 = 63;

/// The cells of a frame as (index, value), ascending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cells<'a> {
    reader: Reader<'a>,
    before: Option<u32>,
    /// Number of cells of the sketch; an index that is not below it ends the list.
    end: u32,
}

impl<'a> Cells<'a> {
    pub(super) fn new(reader: Reader<'a>, end: u32) -> Self {
        Self {
            reader,
            before: None,
            end,
        }
    }

    #[inline]
    fn read(&mut self) -> Result<(u32, u64), ReadError> {
        let index = self.reader.index_after(self.before)?;
        let value = read_value(&mut self.reader)?;
        if index >= self.end {
            return Err(ReadError::Form);
        }
        self.before = Some(index);
        Ok((index, value))
    }
}

impl Iterator for Cells<'_> {
    type Item = (u32, u64);

    #[inline]
    fn next(&mut self) -> Option<(u32, u64)> {
        let cell = self.read();
        self.reader.item_or_end(cell)
    }
}

impl FusedIterator for Cells<'_> {}

/// The groups of a frame, ascending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupsReader<'a> {
    reader: Reader<'a>,
    before: Option<u32>,
    end: u32,
}

impl<'a> GroupsReader<'a> {
    pub(super) fn new(reader: Reader<'a>, end: u32) -> Self {
        Self {
            reader,
            before: None,
            end,
        }
    }

    /// Reads the next group. Returns its index, and puts (index in the slice, value) of those of its cells that are
    /// not 0 into `out`, whose content it replaces. Returns `None` at the end.
    pub fn next_group(&mut self, out: &mut Vec<(u32, u64)>) -> Option<u32> {
        out.clear();
        let group = self.read(out);
        if group.is_err() {
            out.clear();
        }
        self.reader.item_or_end(group)
    }

    fn read(&mut self, out: &mut Vec<(u32, u64)>) -> Result<u32, ReadError> {
        let group = self.reader.index_after(self.before)?;
        let cells = cells_of_group(group, self.end).ok_or(ReadError::Form)?;
        let first = group * GROUP_CELLS as u32;
        read_group(&mut self.reader, cells, |index, value| {
            out.push((first + index, value));
        })?;
        self.before = Some(group);
        Ok(group)
    }
}

/// Reads a group's form and cells, and hands those that are not 0 to `each`.
pub(super) fn read_group(
    reader: &mut Reader<'_>,
    cells: usize,
    mut each: impl FnMut(u32, u64),
) -> Result<(), ReadError> {
    match reader.byte()? {
        SPARSE => {
            let mut before = None;
            // Indexes ascend, so more cells than a group has would leave the group.
            for _ in 0..reader.varint()? {
                let index = reader.index_after(before)?;
                let value = read_value(reader)?;
                if index as usize >= cells || value == 0 {
                    return Err(ReadError::Form);
                }
                before = Some(index);
                each(index, value);
            }
        }
        bits @ 0..=BITS_MAX => {
            let bytes = reader.bytes((cells * usize::from(bits)).div_ceil(8))?;
            let values = unpack(bytes, bits.into(), cells).enumerate();
            let not_zero = values.filter(|&(_, value)| value > 0);
            not_zero.for_each(|(at, value)| each(at as u32, value));
        }
        _ => return Err(ReadError::Form),
    }
    Ok(())
}

#[inline]
fn read_value(reader: &mut Reader<'_>) -> Result<u64, ReadError> {
    let value = reader.varint()?;
    if value > CELL_MAX {
        return Err(ReadError::Form);
    }
    Ok(value)
}

/// Number of cells of a group in a sketch of `end` cells; `None` if there is no such group.
pub(super) fn cells_of_group(group: u32, end: u32) -> Option<usize> {
    let first = u64::from(group) * GROUP_CELLS as u64;
    let cells = u64::from(end)
        .checked_sub(first)
        .filter(|&cells| cells > 0)?;
    Some((cells as usize).min(GROUP_CELLS))
}

/// Unpacks `count` numbers of `bits` bits each, at most [`BITS_MAX`].
fn unpack(bytes: &[u8], bits: u32, count: usize) -> impl Iterator<Item = u64> {
    let mask = (1u64 << bits) - 1;
    // Up to seven held bits belong to the next number.
    let (mut bytes, mut held, mut held_bits) = (bytes.iter(), 0u128, 0);
    (0..count).map(move |_| {
        while held_bits < bits {
            held |= u128::from(bytes.next().copied().unwrap_or(0)) << held_bits;
            held_bits += 8;
        }
        let value = held as u64 & mask;
        held >>= bits;
        held_bits -= bits;
        value
    })
}

fn pack(values: &[u64], bits: u32, out: &mut Vec<u8>) {
    let (mut held, mut held_bits) = (0u128, 0);
    for &value in values {
        held |= u128::from(value) << held_bits;
        held_bits += bits;
        while held_bits >= 8 {
            out.push(held as u8);
            held >>= 8;
            held_bits -= 8;
        }
    }
    if held_bits > 0 {
        out.push(held as u8);
    }
}

/// Appends cells to the frame that [`FrameWriter::cells`](super::FrameWriter::cells) has begun.
#[derive(Debug)]
pub struct CellsWriter<'o> {
    pub(super) out: &'o mut Vec<u8>,
    pub(super) limit: usize,
    pub(super) before: Option<u32>,
}

impl CellsWriter<'_> {
    /// Appends a cell; indexes ascend. Returns false, and does nothing, if there is no room.
    #[inline]
    pub fn push(&mut self, index: u32, value: u64) -> bool {
        let gap = gap_after(self.before, index);
        let bytes = varint::bytes(gap) + varint::bytes(value);
        if self.out.len() + bytes > self.limit {
            return false;
        }
        varint::write(gap, self.out);
        varint::write(value, self.out);
        self.before = Some(index);
        true
    }
}

/// Appends groups to the frame that [`FrameWriter::groups`](super::FrameWriter::groups) has begun.
#[derive(Debug)]
pub struct GroupsWriter<'o> {
    pub(super) out: &'o mut Vec<u8>,
    pub(super) limit: usize,
    pub(super) before: Option<u32>,
}

impl GroupsWriter<'_> {
    /// Appends a group in its shorter form. `values` are all its cells, at most [`GROUP_CELLS`]; indexes of groups
    /// ascend. Returns false, and does nothing, if there is no room.
    pub fn push(&mut self, group: u32, values: &[u64]) -> bool {
        let form = Form::of(values);
        let has_room = self.begin(group, form.bytes());
        if has_room {
            form.write(self.out);
        }
        has_room
    }

    /// Like [`push`](Self::push), for a group that [`pack_group`] has packed.
    pub fn push_packed(&mut self, group: u32, packed: &[u8]) -> bool {
        let has_room = self.begin(group, packed.len());
        if has_room {
            self.out.extend(packed);
        }
        has_room
    }

    fn begin(&mut self, group: u32, bytes: usize) -> bool {
        let gap = gap_after(self.before, group);
        let has_room = self.out.len() + varint::bytes(gap) + bytes <= self.limit;
        if has_room {
            varint::write(gap, self.out);
            self.before = Some(group);
        }
        has_room
    }
}

/// Appends a group's form and cells as they stand behind its index in a frame of groups. `values` are all its cells,
/// at most [`GROUP_CELLS`], each at most [`CELL_MAX`].
pub fn pack_group(values: &[u64], out: &mut Vec<u8>) {
    Form::of(values).write(out);
}

/// Puts the cells of a group that [`pack_group`] has packed into `out`, which must be as long as the group. Returns
/// false if the bytes are no such group; the content of `out` is meaningless then.
pub fn unpack_group(packed: &[u8], out: &mut [u64]) -> bool {
    out.fill(0);
    let mut reader = Reader::new(packed);
    let cells = out.len();
    let put = |index: u32, value| {
        // The index is below the number of cells, as `read_group` has checked.
        if let Some(cell) = out.get_mut(index as usize) {
            *cell = value;
        }
    };
    read_group(&mut reader, cells, put).is_ok()
}

/// A group's content, in the shorter of its two forms.
struct Form<'a> {
    values: &'a [u64],
    bits: u32,
    dense_bytes: usize,
    sparse_bytes: usize,
}

impl<'a> Form<'a> {
    fn of(values: &'a [u64]) -> Self {
        let values = &values[..values.len().min(GROUP_CELLS)];
        let all = values.iter().fold(0, |all, value| all | value);
        debug_assert!(all <= CELL_MAX, "a value of a cell");
        let bits = u64::BITS - all.leading_zeros();
        Self {
            values,
            bits,
            dense_bytes: (values.len() * bits as usize).div_ceil(8),
            sparse_bytes: sparse_bytes(values),
        }
    }

    fn bytes(&self) -> usize {
        1 + self.dense_bytes.min(self.sparse_bytes)
    }

    fn write(&self, out: &mut Vec<u8>) {
        if self.dense_bytes <= self.sparse_bytes {
            out.push(self.bits as u8);
            pack(self.values, self.bits, out);
        } else {
            out.push(SPARSE);
            write_sparse(self.values, out);
        }
    }
}

fn not_zero(values: &[u64]) -> impl Iterator<Item = (u32, u64)> + '_ {
    let indexed = values.iter().enumerate();
    indexed
        .filter(|&(_, &value)| value > 0)
        .map(|(at, &value)| (at as u32, value))
}

fn sparse_bytes(values: &[u64]) -> usize {
    let (mut count, mut bytes, mut before) = (0, 0, None);
    for (index, value) in not_zero(values) {
        bytes += varint::bytes(gap_after(before, index)) + varint::bytes(value);
        before = Some(index);
        count += 1;
    }
    bytes + varint::bytes(count)
}

fn write_sparse(values: &[u64], out: &mut Vec<u8>) {
    varint::write(not_zero(values).count() as u64, out);
    let mut before = None;
    for (index, value) in not_zero(values) {
        varint::write(gap_after(before, index), out);
        varint::write(value, out);
        before = Some(index);
    }
}
