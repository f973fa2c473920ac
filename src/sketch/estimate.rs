//! The answer: a minimum over rows.

use std::ops::Add;

/// An upper bound of a key's weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Estimate {
    /// The bound. Where `saturated`, what full cells count as: the truth may be larger.
    pub count: u64,
    /// The answer rests on cells that have reached their end: the truth may be larger.
    pub saturated: bool,
}

impl Estimate {
    /// Of a least row, in which full cells are [`u32::MAX`]: then no row is whole.
    #[inline]
    pub(crate) fn of_least(least: u32) -> Self {
        Self {
            count: u64::from(least),
            saturated: least == u32::MAX,
        }
    }
}

/// Of what different ones counted.
impl Add for Estimate {
    type Output = Self;

    #[inline]
    fn add(self, other: Self) -> Self {
        Self {
            count: self.count.saturating_add(other.count),
            saturated: self.saturated || other.saturated,
        }
    }
}

/// The estimate of one origin: a row's cell is first summed over its slices, then the least row is taken.
///
/// A row with a saturated cell in it ([`u32::MAX`]) is at least its sum, but nobody knows how much more, so it says
/// nothing while another row is whole. Only where every row has one, the least sum is answered, and flagged.
///
/// `rows` gives for each row what its cell counts in each slice.
pub(crate) fn least_sum<R>(rows: impl Iterator<Item = R>) -> Estimate
where
    R: Iterator<Item = u32>,
{
    let (mut least_whole, mut least_saturated) = (u64::MAX, u64::MAX);
    for row in rows {
        let (mut sum, mut saturated) = (0, false);
        for count in row {
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
