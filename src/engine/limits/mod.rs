//! Limits with names, which may change while sessions use them.

mod decide;
mod pattern;
mod rule;

use std::convert::Infallible;
use std::sync::Arc;

pub use self::decide::LimitsAnswer;
pub(in crate::engine) use self::decide::{Part, decide};
pub use self::pattern::{KeyPattern, KeySet, KeySetError, PATTERN_BYTES_MAX, PatternError};
pub use self::rule::{AMOUNTS_MAX, Amount, Applies, LimitCounters, LimitTally, Override, Rule};
use rmbd_store::{DeniedBook, DeniedKeys, Editions, LimitNumber, Seen};

/// A limit with a name, and how often it was asked.
#[derive(Debug)]
pub struct NamedLimit {
    /// What it says.
    pub rule: Rule,
    /// What other nodes call it.
    pub(super) number: LimitNumber,
    counters: Arc<LimitCounters>,
    /// The keys that it denies.
    pub(super) denied: Arc<DeniedKeys>,
}

impl NamedLimit {
    /// How often it was asked, and with what outcome.
    #[must_use]
    pub fn tally(&self) -> LimitTally {
        self.counters.read()
    }

    /// Counts an answer with this largest estimate, and says in it whether a shadow admitted.
    pub(super) fn note(&self, told: &mut LimitsAnswer, limit: u64) {
        told.is_shadow = self.rule.is_shadow && told.is_over;
        self.counters.note(told.outcome(limit));
    }
}

/// All limits with names, in the order of their names.
#[derive(Debug, Default)]
pub struct NamedLimits(Box<[NamedLimit]>);

impl NamedLimits {
    /// The limit of this name.
    #[must_use]
    pub fn find(&self, name: &[u8]) -> Option<&NamedLimit> {
        self.at(self.place(name)?)
    }

    /// The place of the limit of this name.
    pub(super) fn place(&self, name: &[u8]) -> Option<u32> {
        let by_name = |limit: &NamedLimit| limit.rule.name.as_bytes().cmp(name);
        let place = self.0.binary_search_by(by_name).ok()?;
        u32::try_from(place).ok()
    }

    /// The limit at a place.
    pub(super) fn at(&self, place: u32) -> Option<&NamedLimit> {
        self.0.get(place as usize)
    }

    /// All of them.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &NamedLimit> {
        self.0.iter()
    }
}

/// The place from which sessions get the limits.
#[derive(Debug, Default)]
pub(super) struct LimitBook(Editions<NamedLimits>);

/// A session's view of a [`LimitBook`].
#[derive(Debug, Default)]
pub(super) struct LimitView(Seen<NamedLimits>);

impl LimitBook {
    /// The limits as they are now.
    pub(super) fn limits(&self) -> Arc<NamedLimits> {
        self.0.get()
    }

    /// Puts other limits into the place of those before. Counters of limits that keep their name go on, and denied keys
    /// where it means the same to be denied.
    pub(super) fn replace(&self, rules: Vec<Rule>, book: &DeniedBook) {
        let Ok(()) = self.0.change(|limits| {
            let mut all: Vec<NamedLimit> = rules
                .into_iter()
                .map(|rule| {
                    let before = limits.find(rule.name.as_bytes());
                    let counters = before.map(|before| Arc::clone(&before.counters));
                    let counters = counters.unwrap_or_default();
                    let before = before.filter(|it| it.rule.is_shadow == rule.is_shadow);
                    let denied = before.map(|before| Arc::clone(&before.denied));
                    NamedLimit {
                        number: LimitNumber::of_name(rule.name.as_bytes()),
                        rule,
                        counters,
                        denied: denied.unwrap_or_else(|| Arc::new(book.limit())),
                    }
                })
                .collect();
            all.sort_by(|a, b| a.rule.name.cmp(&b.rule.name));
            Ok::<_, Infallible>(Arc::new(NamedLimits(all.into())))
        });
    }
}

impl LimitView {
    /// The limits as they were at some moment of this call, or a little before.
    pub(super) fn current(&mut self, book: &LimitBook) -> &Arc<NamedLimits> {
        self.0.current(&book.0)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use rmbd_store::SketchIndex;

    fn rule(name: &str, limit: u64) -> Rule {
        let window_ms = 0;
        Rule {
            name: name.into(),
            sketch: SketchIndex::DEFAULT,
            keys: "*".parse().unwrap(),
            amounts: [Amount { limit, window_ms }].into(),
            cost: 1,
            takes: true,
            overrides: Box::default(),
            exempt: Box::default(),
            is_shadow: false,
        }
    }

    #[test]
    fn views_follow_the_book_and_counters_go_on() {
        let (book, mut view) = (LimitBook::default(), LimitView::default());
        let denied = DeniedBook::new(1, 7);
        assert!(view.current(&book).find(b"api").is_none());
        book.replace(vec![rule("login", 5), rule("api", 100)], &denied);
        let limits = Arc::clone(view.current(&book));
        let names: Vec<_> = limits.iter().map(|limit| &*limit.rule.name).collect();
        assert_eq!(names, ["api", "login"]);
        let api = limits.find(b"api").unwrap();
        api.note(
            &mut LimitsAnswer {
                is_over: false,
                ..LimitsAnswer::NO_LIMIT
            },
            100,
        );
        book.replace(vec![rule("api", 7)], &denied);
        // Who holds the limits of before goes on with them.
        assert_eq!(api.rule.amounts[0].limit, 100);
        let after = view.current(&book).find(b"api").unwrap();
        assert_eq!((after.rule.amounts[0].limit, after.tally().asked), (7, 1));
        assert!(view.current(&book).find(b"login").is_none());
    }
}
