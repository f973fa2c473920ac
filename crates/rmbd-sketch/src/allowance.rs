//! Weight that one thread may add.

use super::Weight;

/// Weight that may be added to a sketch, taken ahead of the adds so that threads seldom meet for it.
///
/// It belongs to the sketch that [provides](super::Sketch::provide) it. Each add at cells is
/// [charged](super::Sketch::charge) before, and when all of them are done the allowance is
/// [settled](super::Sketch::settle). Where it is dropped unsettled, what was charged is missing in N, and what was not
/// charged can be added by nobody any more.
#[must_use = "what it holds is given back by `Sketch::settle`"]
#[derive(Debug, Default)]
pub struct Allowance {
    /// Taken since it was settled last, ...
    taken: u64,
    /// ... and not charged yet.
    left: u64,
}

impl Allowance {
    /// Weight that was charged since it was settled last: it is added, or about to be, and not in N.
    #[inline]
    #[must_use]
    pub fn charged(&self) -> u64 {
        self.taken - self.left
    }

    #[inline]
    pub(super) fn missing(&self, weight: u64) -> u64 {
        weight.saturating_sub(self.left)
    }

    #[inline]
    pub(super) fn extend(&mut self, more: u64) {
        self.taken += more;
        self.left += more;
    }

    /// As much is left.
    #[inline]
    pub(super) fn charge(&mut self, weight: Weight) {
        self.left -= u64::from(weight);
    }

    /// What was charged, and what was not.
    pub(super) fn take(&mut self) -> (u64, u64) {
        let Self { taken, left } = std::mem::take(self);
        (taken - left, left)
    }
}
