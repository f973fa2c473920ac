//! What each group of a slice has grown by between marks.

use std::collections::BTreeMap;

use rmbd_proto::cluster::{CELL_MAX, GROUP_CELLS, pack_numbered_group, take_numbered_group};

use super::{Mark, Marks};
use crate::memory::MemoryShare;

/// Bytes of an entry of the map: a number and a [`Packed`], in nodes that are three quarters full, and a share of the
/// inner nodes.
const ENTRY_BYTES: u64 = 40;
/// Bytes that the allocator rounds up to and takes for itself.
const ALLOCATION_BYTES: u64 = 16;

/// The growth of one slice. All numbers are those of one list of [`Marks`].
#[derive(Debug, Default)]
pub(crate) struct GrowthHistory {
    /// Each group that has grown since the oldest mark.
    groups: BTreeMap<u32, Packed>,
    /// All had been reached by the mark with this number, as far as is known; so marks before it say nothing.
    floor: u64,
    bytes: u64,
    /// Where [`tidy`](Self::tidy) goes on.
    tidied: u32,
}

/// The growth of one group, packed.
#[derive(Debug, Default)]
struct Packed {
    /// The highest number.
    last: u64,
    /// Number and folded cells, one after the other, ascending.
    bytes: Box<[u8]>,
}

/// The growth of one group.
#[derive(Debug)]
pub(crate) struct Growth {
    folded: usize,
    numbers: Vec<u64>,
    /// For each number, all folded cells.
    cells: Vec<u64>,
}

impl GrowthHistory {
    /// Bytes of all groups.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Adds to the growth of a group, which has `folded` folded cells: `add` is called with all that is known. Where
    /// there is no memory for it, everything is [forgotten](Self::forget).
    pub(crate) fn change(
        &mut self,
        marks: &Marks,
        memory: &MemoryShare,
        (group, folded): (u32, usize),
        add: impl FnOnce(&mut Growth),
    ) {
        let mut growth = self.read(marks, group, folded);
        add(&mut growth);
        self.write(marks, memory, group, &growth);
    }

    /// Like [`change`](Self::change), where all cells of a number are added at once. It is fast where the group has no
    /// growth of that number or a higher one.
    pub(crate) fn append(
        &mut self,
        marks: &Marks,
        memory: &MemoryShare,
        (group, number): (u32, u64),
        cells: &[u64],
    ) {
        let known = self.groups.get(&group);
        let last = known.map_or(0, |packed| packed.last);
        if last >= number || number <= self.floor {
            return self.change(marks, memory, (group, cells.len()), |growth| {
                add_all(growth.of(number), cells);
            });
        }
        let known = known.map_or(&[][..], |packed| &packed.bytes);
        let mut bytes = Vec::with_capacity(known.len() + 2 * cells.len());
        bytes.extend(known);
        pack_numbered_group(last, number, cells, &mut bytes);
        let bytes = bytes.into_boxed_slice();
        self.put(
            marks,
            memory,
            group,
            Packed {
                last: number,
                bytes,
            },
        );
    }

    /// Puts the growth of a group since each of the `chosen` marks into `out`, and replaces its content: for each mark,
    /// the youngest first, all folded cells, from this mark to the one before it in the list. The marks are some of
    /// those that [`marks_of`](Self::marks_of) tells.
    pub(crate) fn increments(
        &self,
        chosen: &[Mark],
        (group, folded): (u32, usize),
        out: &mut Vec<u64>,
    ) {
        out.clear();
        out.resize(chosen.len() * folded, 0);
        self.each(group, folded, |number, cells| {
            // The first mark that is older than this growth, of which the youngest comes first.
            let at = chosen.partition_point(|mark| mark.number >= number);
            let since = out.chunks_mut(folded.max(1)).nth(at);
            since.into_iter().for_each(|since| add_all(since, cells));
        });
    }

    /// The marks that say something of this slice, the youngest first.
    pub(crate) fn marks_of<'m>(&self, marks: &'m Marks) -> impl Iterator<Item = Mark> + 'm {
        let floor = self.floor;
        marks
            .youngest_first()
            .take_while(move |mark| mark.number >= floor)
    }

    /// Forgets all growth: everything counts as reached by the next mark. Whoever learns of the slice before that takes
    /// all of it for new.
    pub(crate) fn forget(&mut self, marks: &Marks, memory: &MemoryShare) {
        self.groups.clear();
        memory.release(self.bytes);
        self.bytes = 0;
        self.floor = marks.next_number();
    }

    /// Gives the growth with this number or a lower one to a history of other marks, in which it had been reached by no
    /// earlier moment than here; the rest stays.
    pub(crate) fn give_until(
        &mut self,
        last_number: u64,
        marks: &Marks,
        other_marks: &Marks,
        memory: &MemoryShare,
        folded: impl Fn(u32) -> usize,
    ) -> Self {
        let mut given = Self::default();
        if self.floor > 0 {
            // Where some was forgotten, nothing is known of what is given.
            given.floor = other_marks.next_number();
        }
        let groups: Vec<u32> = self.groups.keys().copied().collect();
        for group in groups {
            let folded = folded(group);
            let all = self.read(marks, group, folded);
            let (mut old, mut kept) = (Growth::empty(folded), Growth::empty(folded));
            for (&number, cells) in all.numbers.iter().zip(all.cells.chunks(folded.max(1))) {
                if number > last_number {
                    add_all(kept.of(number), cells);
                } else {
                    let reached = marks.reached_at(number);
                    let next = other_marks.next_number();
                    let number = reached.map_or(next, |at| other_marks.number_at(at));
                    add_all(old.of(number), cells);
                }
            }
            self.write(marks, memory, group, &kept);
            given.write(other_marks, memory, group, &old);
        }
        given
    }

    /// Looks at the next groups, at most so many, and frees what belongs to marks that are gone. Returns how many it
    /// has looked at; fewer than that means that the next call begins anew.
    pub(crate) fn tidy(
        &mut self,
        marks: &Marks,
        memory: &MemoryShare,
        groups_max: usize,
        folded: impl Fn(u32) -> usize,
    ) -> usize {
        let numbers = self.groups.range(self.tidied..).map(|(&number, _)| number);
        let numbers: Vec<u32> = numbers.take(groups_max).collect();
        for &group in &numbers {
            self.change(marks, memory, (group, folded(group)), |_| {});
        }
        let is_last = numbers.len() < groups_max;
        let last = numbers.last().copied().filter(|_| !is_last);
        self.tidied = last.map_or(0, |last| last.saturating_add(1));
        numbers.len()
    }

    fn each(&self, group: u32, folded: usize, mut each: impl FnMut(u64, &[u64])) {
        let mut cells = [0; GROUP_CELLS];
        let cells = &mut cells[..folded.min(GROUP_CELLS)];
        let packed = self.groups.get(&group);
        let mut rest = packed.map_or(&[][..], |packed| &packed.bytes);
        let mut before = 0;
        while let Some(number) = take_numbered_group(before, &mut rest, cells) {
            each(number, cells);
            before = number;
        }
    }

    fn read(&self, marks: &Marks, group: u32, folded: usize) -> Growth {
        let mut growth = Growth::empty(folded);
        let floor = self.floor.max(marks.oldest());
        self.each(group, folded, |number, cells| {
            let number = marks.round_up(number);
            if number > floor {
                add_all(growth.of(number), cells);
            }
        });
        growth
    }

    fn write(&mut self, marks: &Marks, memory: &MemoryShare, group: u32, growth: &Growth) {
        let packed = growth.packed(self.floor.max(marks.oldest()));
        self.put(marks, memory, group, packed);
    }

    fn put(&mut self, marks: &Marks, memory: &MemoryShare, group: u32, packed: Packed) {
        let before = self.groups.get(&group).map_or(0, Packed::memory_bytes);
        let after = packed.memory_bytes();
        if memory.reserve(after.saturating_sub(before)).is_err() {
            return self.forget(marks, memory);
        }
        memory.release(before.saturating_sub(after));
        self.bytes = self.bytes + after - before;
        if packed.bytes.is_empty() {
            self.groups.remove(&group);
        } else {
            self.groups.insert(group, packed);
        }
    }
}

impl Growth {
    fn empty(folded: usize) -> Self {
        Self {
            folded,
            numbers: Vec::new(),
            cells: Vec::new(),
        }
    }

    /// Adds to one folded cell.
    pub(crate) fn add(&mut self, number: u64, folded_cell: usize, growth: u64) {
        if growth > 0
            && let Some(cell) = self.of(number).get_mut(folded_cell)
        {
            *cell = added(*cell, growth);
        }
    }

    /// The folded cells of a number.
    pub(super) fn of(&mut self, number: u64) -> &mut [u64] {
        let at = self.numbers.partition_point(|&it| it < number);
        let start = at * self.folded;
        if self.numbers.get(at) != Some(&number) {
            self.numbers.insert(at, number);
            let zeros = std::iter::repeat_n(0, self.folded);
            self.cells.splice(start..start, zeros);
        }
        &mut self.cells[start..start + self.folded]
    }

    fn packed(&self, floor: u64) -> Packed {
        let (mut out, mut before) = (Vec::new(), 0);
        let cells = self.cells.chunks(self.folded.max(1));
        for (&number, cells) in self.numbers.iter().zip(cells) {
            if number > floor && cells.iter().any(|&cell| cell > 0) {
                pack_numbered_group(before, number, cells, &mut out);
                before = number;
            }
        }
        Packed {
            last: before,
            bytes: out.into_boxed_slice(),
        }
    }
}

/// Sums of growth end at [`CELL_MAX`], which means that or more.
pub(super) fn added(one: u64, other: u64) -> u64 {
    one.saturating_add(other).min(CELL_MAX)
}

fn add_all(sums: &mut [u64], cells: &[u64]) {
    for (sum, &cell) in sums.iter_mut().zip(cells) {
        *sum = added(*sum, cell);
    }
}

impl Packed {
    fn memory_bytes(&self) -> u64 {
        if self.bytes.is_empty() {
            return 0;
        }
        let bytes = self.bytes.len() as u64;
        ENTRY_BYTES + bytes.next_multiple_of(ALLOCATION_BYTES) + ALLOCATION_BYTES
    }
}
