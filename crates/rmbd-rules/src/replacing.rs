//! Rules that are dropped since others of the same request replace them.

use std::collections::HashMap;

use crate::RuleIndex;

/// A name of rules, as a number.
type NameId = u32;

/// Which rules replace which, for all rules.
#[derive(Debug, Clone, Default)]
pub(crate) struct Replacing {
    names: HashMap<Box<str>, NameId>,
    /// One for each rule.
    links: Vec<Link>,
}

#[derive(Debug, Clone)]
struct Link {
    name: Option<NameId>,
    replaces: Box<[NameId]>,
}

impl Replacing {
    /// Adds the next rule.
    pub(crate) fn push(&mut self, name: Option<&str>, replaces: &[Box<str>]) {
        let link = Link {
            name: name.map(|name| self.id(name)),
            replaces: replaces.iter().map(|name| self.id(name)).collect(),
        };
        self.links.push(link);
    }

    /// Drops each rule whose name another one of the request replaces. What is dropped replaces others nevertheless.
    pub(crate) fn apply(&self, rules: &mut [Option<RuleIndex>]) {
        let links = rules.iter().flatten().map(|rule| self.link(*rule));
        // Most rules replace nothing; then this allocates nothing.
        let mut replaced: Vec<_> = links
            .flat_map(|link| link.replaces.iter().copied())
            .collect();
        if replaced.is_empty() {
            return;
        }
        replaced.sort_unstable();
        for rule in rules {
            let name = rule.and_then(|rule| self.link(rule).name);
            if name.is_some_and(|name| replaced.binary_search(&name).is_ok()) {
                *rule = None;
            }
        }
    }

    fn link(&self, rule: RuleIndex) -> &Link {
        &self.links[rule.place()]
    }

    fn id(&mut self, name: &str) -> NameId {
        // Each name comes from a file, whose size is bounded.
        let next = self.names.len() as NameId;
        *self.names.entry(name.into()).or_insert(next)
    }
}
