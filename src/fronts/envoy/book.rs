//! The rules in force, and what was asked of each.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::question::{Asked, Limited, Question};
use crate::status::EnvoyRuleStatus;
use rmbd_rules::{RuleIndex, Rules};

/// Number of rules whose numbers are told. Each is four series of metrics.
const RULES_TOLD_MAX: usize = 1_000;
/// Number of values of rules with `detailed_metric` whose numbers are told. Visitors choose them.
pub(super) const VALUES_TOLD_MAX: usize = 1_000;

/// Rules with their numbers. A book with other rules takes over what it has in common with the one before.
#[derive(Debug, Default)]
pub(super) struct Book {
    pub(super) rules: Arc<Rules>,
    /// The numbers of each rule, by its index. Rules with the same path share them.
    tallies: Vec<Arc<RuleTally>>,
    by_path: HashMap<Box<str>, Arc<RuleTally>>,
    /// The numbers of values, by the key under which each is counted. The lock is never waited for by requests, which
    /// come one at a time.
    values: Mutex<HashMap<Box<str>, RuleTally>>,
}

/// What was asked of a rule. Each number stands for itself, so access is relaxed.
#[derive(Debug, Default)]
struct RuleTally {
    hits: AtomicU64,
    over: AtomicU64,
    near: AtomicU64,
    shadow: AtomicU64,
}

impl Book {
    pub(super) fn new(rules: Arc<Rules>, before: &Self) -> Self {
        let mut by_path: HashMap<Box<str>, Arc<RuleTally>> = HashMap::new();
        let tallies = rules.iter().map(|(_, rule)| {
            let tally = by_path
                .entry(rule.path().into())
                .or_insert_with_key(|path| {
                    let before = before.by_path.get(path);
                    before.cloned().unwrap_or_default()
                });
            Arc::clone(tally)
        });
        let tallies = tallies.collect();
        let values = std::mem::take(&mut *before.values());
        Self {
            rules,
            tallies,
            by_path,
            values: Mutex::new(values),
        }
    }

    /// Counts what was asked and answered. Returns the number of values without numbers of their own.
    pub(super) fn note(&self, asked: &Asked<'_>) -> u64 {
        let left_out = asked.questions.iter().map(|question| match question {
            Question::Limited(limited) => limited.rule.map_or(0, |rule| {
                self.tally(rule, |tally| tally.note(limited));
                self.note_value(rule, limited, &asked.keys)
            }),
            Question::Unlimited { rule } => {
                self.tally(*rule, |tally| add(&tally.hits, 1));
                0
            }
            Question::Free => 0,
        });
        left_out.sum()
    }

    /// The numbers of rules, then those of values, each in order.
    pub(super) fn status(&self) -> Vec<EnvoyRuleStatus> {
        let mut named = HashSet::new();
        let rules = self.rules.iter().zip(&self.tallies);
        let rules = rules.filter(|((_, rule), _)| named.insert(rule.path()));
        let rules = rules.map(|((_, rule), tally)| tally.status(rule.path()));
        let mut told: Vec<_> = rules.take(RULES_TOLD_MAX).collect();
        let values = self.values();
        let values = values
            .iter()
            .filter(|(value, _)| !named.contains(&***value));
        let mut values: Vec<_> = values.map(|(value, tally)| tally.status(value)).collect();
        values.sort_by(|one, other| one.rule.cmp(&other.rule));
        told.append(&mut values);
        told
    }

    fn tally(&self, rule: RuleIndex, note: impl FnOnce(&RuleTally)) {
        if let Some(tally) = self.tallies.get(rule.place()) {
            note(tally);
        }
    }

    /// Counts a value where its rule wants that.
    fn note_value(&self, rule: RuleIndex, limited: &Limited<'_>, keys: &[u8]) -> u64 {
        let rule = self.rules.get(rule);
        if !rule.is_some_and(|rule| rule.is_detailed || rule.has_values_in_metrics) {
            return 0;
        }
        let key = keys.get(limited.key.clone()).unwrap_or_default();
        // Its parts are text.
        let value = String::from_utf8_lossy(key);
        let mut values = self.values();
        if let Some(tally) = values.get(&*value) {
            tally.note(limited);
            return 0;
        }
        if values.len() >= VALUES_TOLD_MAX {
            return 1;
        }
        values.entry(value.into()).or_default().note(limited);
        0
    }

    fn values(&self) -> MutexGuard<'_, HashMap<Box<str>, RuleTally>> {
        self.values.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RuleTally {
    fn note(&self, limited: &Limited<'_>) {
        let hits = limited.hits;
        add(&self.hits, hits);
        if limited.is_over() {
            add(&self.over, hits);
            add(&self.shadow, if limited.is_shadow() { hits } else { 0 });
        }
        if limited.is_near() {
            add(&self.near, hits);
        }
    }

    fn status(&self, rule: &str) -> EnvoyRuleStatus {
        EnvoyRuleStatus {
            rule: rule.to_owned(),
            hits: self.hits.load(Relaxed),
            over: self.over.load(Relaxed),
            near: self.near.load(Relaxed),
            shadow: self.shadow.load(Relaxed),
        }
    }
}

fn add(counter: &AtomicU64, hits: u64) {
    counter.fetch_add(hits, Relaxed);
}
