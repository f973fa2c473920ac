//! How much of the growth of a group is old, by what a parcel says.

use rmbd_proto::cluster::{CELL_MAX, Fold, GROUP_CELLS};

use super::Moment;

/// What had been reached of a growth at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reached {
    /// The moment, or a later one.
    pub at: Moment,
    /// The part of the growth that had been reached by then, or less.
    pub part: u64,
}

/// What a parcel says of the age of one group.
#[derive(Debug, Clone, Copy)]
pub struct GroupAges<'a> {
    /// How many cells are one folded cell.
    pub fold: Fold,
    /// The marks by our own clock, the youngest first.
    pub marks: &'a [Moment],
    /// For each mark, the youngest first, all folded cells of the group: by how much they grew from this mark to the
    /// next younger one, and from the youngest mark to the values of the parcel, or more. [`CELL_MAX`] is that or more.
    pub increments: &'a [u64],
}

/// Says how much of the growth of a group was reached when, for each folded cell of ours that has grown.
///
/// `growth` has what each cell of the group grew by when the parcel was merged, `first_cell` is the index of the first
/// one in the sketch, and `fold` is how many cells are one of ours. Our folded cells may reach beyond the group, and
/// need not fit those of the parcel. `each` is called with the index of our folded cell in the sketch, its growth in
/// this group, and what had been reached, the youngest mark first; later marks have more.
///
/// Let a cell have grown here from k to v, and let it have been p at the mark, in the writer's slice. Then
/// max(0, p - k) of the growth had been reached. The increments of all folded cells of the parcel in which ours has a
/// cell add up to at least the sum of v - p over our cells. So growth less increments is at most the sum of p - k: it
/// never says that more was reached than was.
pub fn old_parts(
    growth: &[u64],
    (first_cell, fold): (u32, usize),
    ages: &GroupAges<'_>,
    mut each: impl FnMut(usize, u64, &[Reached]),
) {
    let growth = &growth[..growth.len().min(GROUP_CELLS)];
    let (first_cell, fold) = (first_cell as usize, fold.max(1));
    let mut reached = Vec::with_capacity(ages.marks.len());
    let mut start = 0;
    while start < growth.len() {
        let index = (first_cell + start) / fold;
        let end = ((index + 1) * fold - first_cell).min(growth.len());
        let grown = growth[start..end]
            .iter()
            .copied()
            .fold(0, u64::saturating_add);
        if grown > 0 {
            ages.reached(grown, start..end, growth.len(), &mut reached);
            each(index, grown, &reached);
        }
        start = end;
    }
}

impl GroupAges<'_> {
    /// What had been reached of the growth of these cells of a group of `cells` cells.
    fn reached(
        &self,
        grown: u64,
        of: std::ops::Range<usize>,
        cells: usize,
        out: &mut Vec<Reached>,
    ) {
        out.clear();
        let bits = self.fold.bits();
        let folded = of.start >> bits..=(of.end - 1) >> bits;
        let marks = self.increments.chunks_exact(self.fold.folded(cells));
        let mut left = grown;
        for (&at, increments) in self.marks.iter().zip(marks) {
            for &increment in &increments[folded.clone()] {
                left = if increment >= CELL_MAX {
                    0
                } else {
                    left.saturating_sub(increment)
                };
            }
            // Older marks have less.
            if left == 0 {
                return;
            }
            out.push(Reached { at, part: left });
        }
    }
}
