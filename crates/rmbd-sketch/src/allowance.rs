//! An allowance is the weight that one thread may add before it asks again.

use super::Weight;

/// Weight that may be added to a sketch. A thread takes it ahead of its adds, so that threads seldom contend for it.
///
/// An allowance belongs to the sketch that [provides](super::Sketch::provide) it. Each add at cells is
/// [charged](super::Sketch::charge) first, and the allowance is [settled](super::Sketch::settle) when all of these
/// adds are done. If it is dropped unsettled, N lacks the weight that was charged, and the weight that was not
/// charged is lost: nobody can add it any more.
/// charged can be added by nobody any more.
#[must_use = "what it holds is given back by `Sketch::settle`"]
#[derive(Debug, Default)]
pub struct Allowance {
    /// Weight that was taken from the sketch since the allowance was settled last.
    taken: u64,
    /// The part of `taken` that has not been charged yet.
    left: u64,
}

impl Allowance {
    /// Weight that was charged since the allowance was settled last. It is added, or about to be, and not yet part of
    /// N.
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

    /// Charges `weight`. The caller knows that as much is left.
    #[inline]
    pub(super) fn charge(&mut self, weight: Weight) {
        self.left -= u64::from(weight);
    }

    /// Takes back a charge, at most of what was charged.
    #[inline]
    pub(super) fn refund(&mut self, weight: u64) {
        self.left = self.left.saturating_add(weight).min(self.taken);
    }

    /// Empties the allowance: returns the weight that was charged, and the weight that was not.
    pub(super) fn take(&mut self) -> (u64, u64) {
        let Self { taken, left } = std::mem::take(self);
        (taken - left, left)
    }
}
