//! The answer: a minimum over rows.

use std::sync::atomic::AtomicU32;

use super::{CellIndexes, cell};

/// An upper bound of a key's weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Estimate {
    /// The bound. Where `saturated`, what full cells count as: the truth may be larger.
    pub count: u64,
    /// The answer rests on cells that have reached their end: the truth may be larger.
    pub saturated: bool,
}

/// The estimate of one node: a row's cell is first summed over the node's slices (its boots), then
/// the least row is taken.
///
/// A row with a saturated cell in it is at least its sum, but nobody knows how much more, so it says
/// nothing while another row is whole. Only where every row has one, the least sum is answered, and
/// flagged.
///
/// `cells` are indexes in the geometry of all slices.
#[inline]
pub(crate) fn least_row<'a, S>(slices: S, cells: &CellIndexes) -> Estimate
where
    S: IntoIterator<Item = &'a [AtomicU32]> + Clone,
{
    let (mut least_whole, mut least_saturated) = (u64::MAX, u64::MAX);
    for &index in cells.as_slice() {
        let (mut sum, mut saturated) = (0, false);
        for slice in slices.clone() {
            let count = cell::value(&slice[index as usize]);
            sum += u64::from(count);
            saturated |= count == u32::MAX;
        }
        let least = if saturated {
            &mut least_saturated
        } else {
            &mut least_whole
        };
        *least = sum.min(*least);
    }
    let saturated = least_whole == u64::MAX;
    Estimate {
        count: if saturated {
            least_saturated
        } else {
            least_whole
        },
        saturated,
    }
}
