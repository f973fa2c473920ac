//! How often something that came was refused.

use std::collections::BTreeMap;

/// A counter for each reason.
#[derive(Debug, Default)]
pub(crate) struct Refusals(BTreeMap<&'static str, u64>);

impl Refusals {
    pub(crate) fn count(&mut self, reason: &'static str) {
        *self.0.entry(reason).or_default() += 1;
    }

    pub(crate) fn by_reason(&self) -> &BTreeMap<&'static str, u64> {
        &self.0
    }
}
