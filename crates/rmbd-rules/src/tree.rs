//! The descriptors of all domains as a tree, in which those of requests are found.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, DefaultHasher};

use crate::pattern::Pattern;
use crate::{Entry, RuleIndex, WILDCARDS_MAX};

/// Whoever chooses the words of a request puts nothing into these maps, so that their hashes need no secret.
type Map<V> = HashMap<Box<str>, V, BuildHasherDefault<DefaultHasher>>;

/// A place of the tree: a domain, or a descriptor of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place(u32);

/// All descriptors.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tree {
    domains: Map<Place>,
    nodes: Vec<Node>,
}

/// What is at a place.
#[derive(Debug, Clone, Default)]
struct Node {
    rule: Option<RuleIndex>,
    line: u32,
    below: Map<Values>,
}

/// The descriptors of one key below one place.
#[derive(Debug, Clone, Default)]
struct Values {
    /// Those with a value, by its text. A request may have the very text of a pattern.
    exact: Map<Place>,
    /// Those of them whose value has `*` in it, in the order of the file.
    patterns: Vec<(Pattern, Place)>,
    /// The one without a value.
    any: Option<Place>,
}

/// Why a descriptor cannot stand at its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// There is one like it.
    Duplicate {
        /// The line of that one.
        line: u32,
    },
    /// There are [`WILDCARDS_MAX`] values with `*`.
    TooManyWildcards,
}

impl Tree {
    /// The place of a domain.
    pub(crate) fn domain(&self, domain: &str) -> Option<Place> {
        self.domains.get(domain).copied()
    }

    /// The rule of a descriptor in a domain.
    pub(crate) fn find(&self, domain: Place, entries: &[Entry<'_>]) -> Option<RuleIndex> {
        let mut place = domain;
        for entry in entries {
            place = self.node(place).below.get(entry.key)?.find(entry.value)?;
        }
        self.node(place).rule
    }

    /// Adds a domain that is not there yet.
    pub(crate) fn add_domain(&mut self, domain: &str) -> Place {
        let place = self.push(None, 0);
        self.domains.insert(domain.into(), place);
        place
    }

    /// Adds a descriptor below a place: all that was added before it stands before it in the file.
    pub(crate) fn add(
        &mut self,
        above: Place,
        (key, value): (&str, Option<&str>),
        rule: Option<RuleIndex>,
        line: u32,
    ) -> Result<Place, Refused> {
        let place = self.push(rule, line);
        let below = &mut self.nodes[above.0 as usize].below;
        let values = below.entry(key.into()).or_default();
        match values.add(value, place)? {
            None => Ok(place),
            Some(first) => Err(Refused::Duplicate {
                line: self.node(first).line,
            }),
        }
    }

    /// A place is made by `push` only, and no node is ever taken out.
    fn node(&self, place: Place) -> &Node {
        &self.nodes[place.0 as usize]
    }

    fn push(&mut self, rule: Option<RuleIndex>, line: u32) -> Place {
        // There are at most `DESCRIPTORS_MAX` and `FILES_MAX` of them.
        let place = Place(self.nodes.len() as u32);
        self.nodes.push(Node {
            rule,
            line,
            below: Map::default(),
        });
        place
    }
}

impl Values {
    fn find(&self, value: &str) -> Option<Place> {
        if let Some(place) = self.exact.get(value) {
            return Some(*place);
        }
        let mut patterns = self.patterns.iter();
        let fitting = patterns.find(|(pattern, _)| pattern.fits(value));
        fitting.map(|(_, place)| *place).or(self.any)
    }

    /// Adds a descriptor, or says which one is like it.
    fn add(&mut self, value: Option<&str>, place: Place) -> Result<Option<Place>, Refused> {
        let Some(value) = value else {
            let first = self.any;
            self.any = first.or(Some(place));
            return Ok(first);
        };
        if let Some(first) = self.exact.get(value) {
            return Ok(Some(*first));
        }
        if let Some(pattern) = Pattern::new(value) {
            if self.patterns.len() == WILDCARDS_MAX {
                return Err(Refused::TooManyWildcards);
            }
            self.patterns.push((pattern, place));
        }
        self.exact.insert(value.into(), place);
        Ok(None)
    }
}
