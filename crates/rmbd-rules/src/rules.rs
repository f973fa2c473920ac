//! Rules as a program sees them.

use std::ops::Index;
use std::sync::Arc;

use crate::read::{Read, read};
use crate::replacing::Replacing;
use crate::tree::Tree;
use crate::{Descriptor, Matches, RulesError, Unit};

/// A file of rules, as it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RulesFile<'t> {
    /// What errors and rules call it, such as its path.
    pub name: &'t str,
    /// Its YAML.
    pub text: &'t str,
}

/// All rules of some files. They do not change: others take their place as a whole.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    rules: Vec<Rule>,
    domains: Vec<Domain>,
    tree: Tree,
    replacing: Replacing,
}

/// How many requests a rule lets pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Amount {
    /// All of them; nothing is counted.
    Unlimited,
    /// So many in each unit of time.
    PerUnit {
        /// Number of requests; with 0 none passes.
        requests: u32,
        /// The unit of time.
        unit: Unit,
    },
}

/// A rule.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rule {
    /// Its own name, by which others replace it. Several rules may share one.
    pub name: Option<Box<str>>,
    /// What passes.
    pub amount: Amount,
    /// Whether what is over it passes nevertheless (`shadow_mode`).
    pub is_shadow: bool,
    /// Whether its statistics are wanted for each value that is asked about (`detailed_metric`).
    pub is_detailed: bool,
    /// Whether the statistics are wanted with the values of some of its keys (`value_to_metric`, on it or above it).
    pub has_values_in_metrics: bool,
    /// Names of the rules that it replaces, where both are met by one request.
    pub replaces: Vec<Box<str>>,
    /// The name of its file.
    pub file: Arc<str>,
    /// The line of its descriptor in the file, from 1.
    pub line: u32,
    pub(crate) path: Box<str>,
}

impl Rule {
    /// Its place: the domain, and key and value of each level, such as `messaging.message_type_marketing.to_number`.
    ///
    /// It is made for people. Where keys have `_` or `.` in them, two rules may have the same one.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }
}

/// Which of [`Rules`] it is: the place in the order of files and lines, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RuleIndex(u32);

impl RuleIndex {
    pub(crate) const fn new(place: usize) -> Self {
        // There are at most `DESCRIPTORS_MAX` of them.
        Self(place as u32)
    }

    /// The place as a number below [`Rules::len`].
    #[must_use]
    pub const fn place(self) -> usize {
        self.0 as usize
    }
}

/// A domain, which is all that a file has.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Domain {
    /// Its name.
    pub name: Box<str>,
    /// The name of its file.
    pub file: Arc<str>,
    /// Number of its rules.
    pub rules: usize,
}

impl Rules {
    /// Reads files, each of which has one domain. No files are no rules.
    ///
    /// # Errors
    /// The first thing that is wrong in any of them, with file, line and column. There are no rules then.
    pub fn read(files: &[RulesFile<'_>]) -> Result<Self, RulesError> {
        let Read {
            rules,
            domains,
            tree,
            replacing,
            ..
        } = read(files)?;
        Ok(Self {
            rules,
            domains,
            tree,
            replacing,
        })
    }

    /// The rules that the descriptors of a request meet. It allocates the result; and, where a rule that it meets
    /// replaces others, a list of what is replaced.
    #[must_use]
    pub fn of_request(&self, domain: &str, descriptors: &[Descriptor<'_>]) -> Matches {
        let place = self.tree.domain(domain);
        let found = descriptors.iter().map(|descriptor| match place {
            Some(place) if !descriptor.has_own_limit => self.tree.find(place, descriptor.entries),
            _ => None,
        });
        let mut rules: Vec<_> = found.collect();
        self.replacing.apply(&mut rules);
        Matches {
            rules,
            is_domain_known: place.is_some(),
        }
    }

    /// Number of rules.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    /// Whether there is no rule.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// The rule at an index. None if the index is that of other rules, which were more.
    #[must_use]
    pub fn get(&self, index: RuleIndex) -> Option<&Rule> {
        self.rules.get(index.place())
    }

    /// All rules, in the order of files and lines.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (RuleIndex, &Rule)> {
        let rules = self.rules.iter().enumerate();
        rules.map(|(place, rule)| (RuleIndex::new(place), rule))
    }

    /// All domains, in the order of files.
    pub fn domains(&self) -> impl ExactSizeIterator<Item = &Domain> {
        self.domains.iter()
    }

    /// The units of time in which something is counted, from the shortest, each once.
    pub fn units(&self) -> impl Iterator<Item = Unit> {
        Unit::ALL.into_iter().filter(|unit| self.counts_in(*unit))
    }

    fn counts_in(&self, unit: Unit) -> bool {
        let mut rules = self.rules.iter();
        rules.any(|rule| matches!(rule.amount, Amount::PerUnit { unit: its, .. } if its == unit))
    }
}

impl Index<RuleIndex> for Rules {
    type Output = Rule;

    /// The rule at an index of these rules.
    ///
    /// # Panics
    /// If the index is that of other rules, which were more. [`Rules::get`] does not panic.
    fn index(&self, index: RuleIndex) -> &Rule {
        &self.rules[index.place()]
    }
}
