//! The history of our own slice: which cells each of the latest versions changed.

use std::collections::VecDeque;

/// Number of versions that are remembered, half a minute at two a second. A node that is further behind gets whole
/// groups. This also bounds the lists that [`Merged`] goes through for every cell.
pub(super) const VERSIONS_MAX: usize = 64;

/// Cells of a slice for each entry of all lists together, so that the history takes an eighth of the slice's memory.
const CELLS_PER_ENTRY: usize = 8;

/// An ascending list of cell indexes for each of the latest versions, without gaps.
#[derive(Debug)]
pub(super) struct History {
    lists: VecDeque<Box<[u32]>>,
    entries: usize,
    entries_max: usize,
}

impl History {
    pub(super) fn new(cells: usize) -> Self {
        Self {
            lists: VecDeque::new(),
            entries: 0,
            entries_max: cells / CELLS_PER_ENTRY,
        }
    }

    /// An empty list for the next version.
    pub(super) fn list(&self) -> ChangeList {
        ChangeList {
            cells: Some(Vec::new()),
            len_max: self.entries_max,
        }
    }

    /// Takes the next version's list, and forgets the oldest lists while there are too many. If the list was given up,
    /// all lists are forgotten.
    pub(super) fn push(&mut self, list: ChangeList) {
        let Some(cells) = list.cells else {
            self.lists.clear();
            self.entries = 0;
            return;
        };
        self.entries += cells.len();
        self.lists.push_back(cells.into_boxed_slice());
        while self.entries > self.entries_max || self.lists.len() > VERSIONS_MAX {
            let oldest = self.lists.pop_front();
            self.entries -= oldest.map_or(self.entries, |cells| cells.len());
        }
    }

    /// Number of versions that are remembered.
    pub(super) fn len(&self) -> usize {
        self.lists.len()
    }

    /// The cells that any of the latest `versions` changed, from `from_cell` on, ascending, each once.
    pub(super) fn latest(&self, versions: usize, from_cell: u32) -> Merged<'_> {
        let mut merged = Merged {
            heads: [END; VERSIONS_MAX],
            rests: [&[]; VERSIONS_MAX],
            lists: 0,
        };
        let skipped = self.lists.len().saturating_sub(versions);
        for list in self.lists.range(skipped..) {
            let start = list.partition_point(|&cell| cell < from_cell);
            merged.rests[merged.lists] = &list[start..];
            merged.advance(merged.lists);
            merged.lists += 1;
        }
        merged
    }
}

/// The cells that a version changes, as a pass finds them. The list is given up where it becomes longer than the
/// whole history may be, or where there is no memory for it.
#[derive(Debug)]
pub(super) struct ChangeList {
    cells: Option<Vec<u32>>,
    len_max: usize,
}

impl ChangeList {
    /// Appends an index; indexes come in ascending order.
    #[inline]
    pub(super) fn push(&mut self, cell: u32) {
        let Some(cells) = &mut self.cells else {
            return;
        };
        if cells.len() >= self.len_max || cells.try_reserve(1).is_err() {
            self.cells = None;
            return;
        }
        cells.push(cell);
    }
}

/// A number above all indexes, for lists that are at their end.
const END: u64 = u64::MAX;

/// The union of ascending lists, ascending. Allocates nothing.
#[derive(Debug)]
pub(super) struct Merged<'a> {
    /// The next index of each list.
    heads: [u64; VERSIONS_MAX],
    /// The rest of each list, behind its head.
    rests: [&'a [u32]; VERSIONS_MAX],
    lists: usize,
}

impl Merged<'_> {
    fn advance(&mut self, list: usize) {
        let (head, rest) = match self.rests[list] {
            [head, rest @ ..] => (u64::from(*head), rest),
            [] => (END, &[][..]),
        };
        self.heads[list] = head;
        self.rests[list] = rest;
    }
}

impl Iterator for Merged<'_> {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        let heads = self.heads[..self.lists].iter().copied();
        let least = heads.fold(END, u64::min);
        if least == END {
            return None;
        }
        for list in 0..self.lists {
            if self.heads[list] == least {
                self.advance(list);
            }
        }
        Some(least as u32)
    }
}
