//! One limit with a name: for which keys it is, how much it allows, and how often it was asked.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crossbeam_utils::CachePadded;

use super::pattern::{KeyPattern, KeySet};
use rmbd_store::SketchIndex;

/// The largest number of amounts of a limit: as many as one request may have parts.
pub const AMOUNTS_MAX: usize = 8;

/// So much in so long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Amount {
    /// The largest estimate that is within the limit.
    pub limit: u64,
    /// Milliseconds of the window; 0 is all time.
    pub window_ms: u64,
}

/// Other amounts for some keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Override {
    /// The keys.
    pub keys: KeySet,
    /// Their amounts, 1 to [`AMOUNTS_MAX`].
    pub amounts: Box<[Amount]>,
}

/// What a limit with a name says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// The name.
    pub name: Box<str>,
    /// The sketch that its hits are counted in.
    pub sketch: SketchIndex,
    /// The keys that it is for.
    pub keys: KeyPattern,
    /// How much it allows, 1 to [`AMOUNTS_MAX`] amounts. All of them are kept.
    pub amounts: Box<[Amount]>,
    /// What a hit weighs where the asker says nothing else: its weight times this.
    pub cost: u32,
    /// Whether a hit that is over the limit is not counted.
    pub takes: bool,
    /// Other amounts for some keys; the first that has a key holds for it.
    pub overrides: Box<[Override]>,
    /// Keys that are always within it, and not counted.
    pub exempt: Box<[KeySet]>,
    /// Whether a hit that is over it is admitted, and counted. The answer says that it was over.
    pub is_shadow: bool,
}

/// What a limit has for a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applies<'a> {
    /// These amounts.
    Amounts(&'a [Amount]),
    /// Nothing: the key is exempt, or none that the limit is for.
    Nothing,
}

impl Rule {
    /// What the limit has for a key.
    #[must_use]
    pub fn applies_to(&self, key: &[u8]) -> Applies<'_> {
        if !self.keys.fits(key) || self.exempt.iter().any(|keys| keys.has(key)) {
            return Applies::Nothing;
        }
        let other = self.overrides.iter().find(|other| other.keys.has(key));
        Applies::Amounts(other.map_or(&self.amounts, |other| &other.amounts))
    }
}

/// How often a limit was asked, and with what outcome. These numbers only grow, and are shared by all threads.
#[derive(Debug, Default)]
pub struct LimitCounters {
    asked: CachePadded<AtomicU64>,
    over: AtomicU64,
    near: AtomicU64,
    unsure: AtomicU64,
    shadow: AtomicU64,
}

/// A picture of [`LimitCounters`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LimitTally {
    /// Hits that it was asked about.
    pub asked: u64,
    /// Hits that were over it, and refused where it is no shadow.
    pub over: u64,
    /// Hits that were within it and above four fifths of it.
    pub near: u64,
    /// Hits of which the sketch could not tell whether they were within it.
    pub unsure: u64,
    /// Hits that were over it and admitted, as it is a shadow.
    pub shadow: u64,
}

/// The outcome of a hit, as far as it is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::engine) struct Outcome {
    pub(in crate::engine) is_over: bool,
    pub(in crate::engine) is_near: bool,
    pub(in crate::engine) is_unsure: bool,
    pub(in crate::engine) is_shadow: bool,
}

impl LimitCounters {
    pub(super) fn note(&self, outcome: Outcome) {
        // Relaxed: each number stands for itself.
        let add = |counter: &AtomicU64, is_so: bool| {
            if is_so {
                counter.fetch_add(1, Relaxed);
            }
        };
        add(&self.asked, true);
        add(&self.over, outcome.is_over);
        add(&self.near, outcome.is_near);
        add(&self.unsure, outcome.is_unsure);
        add(&self.shadow, outcome.is_over && outcome.is_shadow);
    }

    /// The numbers as they are now.
    #[must_use]
    pub fn read(&self) -> LimitTally {
        LimitTally {
            asked: self.asked.load(Relaxed),
            over: self.over.load(Relaxed),
            near: self.near.load(Relaxed),
            unsure: self.unsure.load(Relaxed),
            shadow: self.shadow.load(Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn amount(limit: u64) -> Box<[Amount]> {
        let window_ms = 60_000;
        [Amount { limit, window_ms }].into()
    }

    #[test]
    fn exemptions_go_before_overrides_and_overrides_before_the_rest() {
        let rule = Rule {
            name: "api".into(),
            sketch: SketchIndex::DEFAULT,
            keys: "*".parse::<KeyPattern>().unwrap(),
            amounts: amount(100),
            cost: 1,
            takes: true,
            overrides: [
                Override {
                    keys: KeySet::Network("10.0.0.0/8".parse().unwrap()),
                    amounts: amount(1_000),
                },
                Override {
                    keys: KeySet::Pattern("10.*".parse::<KeyPattern>().unwrap()),
                    amounts: amount(7),
                },
            ]
            .into(),
            exempt: [KeySet::Pattern("health".parse::<KeyPattern>().unwrap())].into(),
            is_shadow: false,
        };
        let limit = |key: &[u8]| match rule.applies_to(key) {
            Applies::Amounts([amount]) => Some(amount.limit),
            _ => None,
        };
        assert_eq!(limit(b"health"), None);
        assert_eq!(limit(b"192.0.2.1"), Some(100));
        assert_eq!(limit(b"10.0.0.7"), Some(1_000));
        assert_eq!(limit(b"10.but no address"), Some(7));
        let other = Rule {
            keys: "user-*".parse::<KeyPattern>().unwrap(),
            ..rule.clone()
        };
        assert_eq!(other.applies_to(b"192.0.2.1"), Applies::Nothing);
    }

    #[test]
    fn outcomes_are_counted() {
        let counters = LimitCounters::default();
        let over = Outcome {
            is_over: true,
            ..Outcome::default()
        };
        counters.note(over);
        counters.note(Outcome {
            is_shadow: true,
            ..over
        });
        counters.note(Outcome {
            is_near: true,
            is_unsure: true,
            is_shadow: true,
            ..Outcome::default()
        });
        let tally = counters.read();
        let LimitTally {
            asked,
            over,
            near,
            unsure,
            shadow,
        } = tally;
        assert_eq!([asked, over, near, unsure, shadow], [3, 2, 1, 1, 1]);
    }
}
