//! The weight of one add. It is checked once, where a number comes in.

/// Largest weight of one add. Larger ones are more likely mistakes, and a few thousand of them would wrap a cell.
pub const MAX_WEIGHT: u32 = 1 << 20;

/// A weight that one add may have: at most [`MAX_WEIGHT`].
///
/// ```
/// use rmbd_sketch::{MAX_WEIGHT, Weight};
///
/// assert_eq!(Weight::new(3)?.get(), 3);
/// assert!(Weight::new(MAX_WEIGHT + 1).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Weight(u32);

/// The error for a weight that is too large for one add.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "weight {weight} is above the limit of {limit} for one add, nothing was added: split it into several adds"
)]
pub struct WeightError {
    /// The weight that was asked for.
    pub weight: u32,
    /// The largest weight that is allowed.
    pub limit: u32,
}

impl Weight {
    /// The weight 0. An add of it changes nothing.
    pub const ZERO: Self = Self(0);
    /// The weight 1, which an add has where none is given.
    pub const ONE: Self = Self(1);
    /// The largest weight, [`MAX_WEIGHT`].
    pub const MAX: Self = Self(MAX_WEIGHT);

    /// Checks a weight.
    ///
    /// # Errors
    ///
    /// Fails for a weight above [`MAX_WEIGHT`].
    #[inline]
    pub const fn new(weight: u32) -> Result<Self, WeightError> {
        if weight > MAX_WEIGHT {
            return Err(WeightError {
                weight,
                limit: MAX_WEIGHT,
            });
        }
        Ok(Self(weight))
    }

    /// The weight as a number.
    #[inline]
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }

    /// The sum of both weights, if one add may weigh as much.
    #[inline]
    #[must_use]
    pub fn checked_add(self, other: Self) -> Option<Self> {
        Self::new(self.0 + other.0).ok()
    }
}

/// Every `u16` is within the limit.
impl From<u16> for Weight {
    #[inline]
    fn from(weight: u16) -> Self {
        const { assert!(u16::MAX as u32 <= MAX_WEIGHT) };
        Self(weight.into())
    }
}

impl From<Weight> for u64 {
    #[inline]
    fn from(weight: Weight) -> Self {
        weight.0.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_up_to_its_limit_and_not_one_more() {
        let limit = MAX_WEIGHT;
        for weight in [0, 1, MAX_WEIGHT] {
            assert_eq!(Weight::new(weight).map(Weight::get), Ok(weight));
        }
        for weight in [MAX_WEIGHT + 1, u32::MAX] {
            assert_eq!(Weight::new(weight), Err(WeightError { weight, limit }));
        }
        assert_eq!(Weight::from(u16::MAX).get(), 65_535);
        assert_eq!(Weight::MAX.checked_add(Weight::ZERO), Some(Weight::MAX));
        assert_eq!(Weight::MAX.checked_add(Weight::ONE), None);
        assert_eq!(Weight::MAX.checked_add(Weight::MAX), None);
    }
}
