//! Which rule a descriptor meets.

use crate::RuleIndex;

/// A pair of a descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Entry<'r> {
    /// What it is, such as `remote_address`.
    pub key: &'r str,
    /// Which one, such as `192.0.2.7`; may be empty.
    pub value: &'r str,
}

/// What is asked about: some pairs, from the most general to the most special.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Descriptor<'r> {
    /// Its pairs. Without any it meets no rule.
    pub entries: &'r [Entry<'r>],
    /// Whether the request brings a limit for it. It meets no rule then, so it replaces none, and none replaces it.
    pub has_own_limit: bool,
}

impl<'r> Descriptor<'r> {
    /// A descriptor with these pairs, for which the request brings no limit.
    #[must_use]
    pub const fn new(entries: &'r [Entry<'r>]) -> Self {
        Self {
            entries,
            has_own_limit: false,
        }
    }
}

/// What the descriptors of a request meet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Matches {
    pub(crate) rules: Vec<Option<RuleIndex>>,
    pub(crate) is_domain_known: bool,
}

impl Matches {
    /// The rule of each descriptor, in the order of the request. None: nothing limits it, or its rule is replaced.
    #[must_use]
    pub fn rules(&self) -> &[Option<RuleIndex>] {
        &self.rules
    }

    /// Whether there are rules of this domain. Where there are none, no descriptor has one.
    #[must_use]
    pub const fn is_domain_known(&self) -> bool {
        self.is_domain_known
    }
}
