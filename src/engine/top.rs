//! The lists of the largest keys, for whoever asks for them.

use std::time::Duration;

use super::Refusal;
use rmbd_store::{Replica, ToldKey, ToldList, ToldLists};

/// One list of a sketch, as it was told last.
#[derive(Debug, Clone, Copy)]
pub struct TopAnswer<'l> {
    /// When the list was made, by the node's clock; `None` if none is made yet.
    pub made: Option<Duration>,
    /// The list; empty, and complete above nothing that there can be, if none is made yet.
    pub list: &'l ToldList,
    /// Keys that the list has at most.
    most: usize,
}

/// What is told before there is a list.
static NOTHING: ToldList = ToldList {
    span_ms: None,
    keys: Vec::new(),
    total_weight: 0,
    complete_above: u64::MAX,
    is_incomplete: false,
};

impl<'l> TopAnswer<'l> {
    /// The list of all time (0), or that of a whole window of the sketch of this replica, in milliseconds.
    ///
    /// # Errors
    /// [`Refusal::NoTopList`], [`Refusal::UnknownWindow`].
    pub fn find(lists: &'l ToldLists, replica: &Replica, window_ms: u64) -> Result<Self, Refusal> {
        let most = replica.top();
        if most == 0 {
            return Err(Refusal::NoTopList);
        }
        let span_ms = (window_ms > 0).then_some(window_ms);
        let mut spans = replica.window_plans().map(|plan| Some(plan.span_ms()));
        if span_ms.is_some() && !spans.any(|kept| kept == span_ms) {
            return Err(Refusal::UnknownWindow);
        }
        let found = lists.list(span_ms);
        Ok(Self {
            made: found.map(|_| lists.made),
            list: found.unwrap_or(&NOTHING),
            most,
        })
    }

    /// The first of its keys, those with the largest estimates.
    #[must_use]
    pub fn first(&self, most: usize) -> &'l [ToldKey] {
        let list = self.list;
        &list.keys[..most.min(list.keys.len())]
    }

    /// Every key of which more than this was counted (in the window) is among the first so many of the list, as far as
    /// what was counted has arrived here. [`u64::MAX`] if nothing is known.
    ///
    /// A key that is not among those has an estimate of at most that of the last of them, if it is a candidate, and
    /// was counted at most `complete_above` times, if it is none.
    #[must_use]
    pub fn complete_above(&self, shown: usize) -> u64 {
        let keys = self.first(shown);
        let may_lack_candidates = keys.len() < self.list.keys.len() || keys.len() >= self.most;
        match keys.last() {
            _ if !may_lack_candidates => self.list.complete_above,
            Some(last) => self.list.complete_above.max(last.estimate),
            None => u64::MAX,
        }
    }

    /// What names its making: it grows from one to the next, and is 0 if none is made yet.
    #[must_use]
    pub fn edition(&self) -> u64 {
        let made_us = self.made.map_or(0, |made| made.as_micros());
        u64::try_from(made_us).unwrap_or(u64::MAX)
    }

    /// How old it is now.
    #[must_use]
    pub fn age(&self, now: Duration) -> Duration {
        self.made
            .map_or(Duration::ZERO, |made| now.saturating_sub(made))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use rmbd_sketch::{Geometry, HashFamily, KeyHash};
    use rmbd_store::{ReplicaOptions, WindowPlan};

    const FAMILY: HashFamily = HashFamily::Xxh3 { seed: 7 };

    fn replica(top: usize, family: HashFamily) -> Replica {
        let geometry = Geometry::new(64, 5).unwrap();
        let window = WindowPlan::new(60_000, None, None, geometry, family).unwrap();
        let options = ReplicaOptions {
            top,
            windows: vec![window],
            ..ReplicaOptions::new(geometry, family)
        };
        Replica::try_open(options).unwrap()
    }

    fn list(span_ms: Option<u64>, estimates: &[u64], complete_above: u64) -> ToldList {
        let key = |&estimate: &u64| ToldKey {
            hash: KeyHash::of_halves([estimate; 2]),
            name: None,
            estimate,
            certain: 0,
            by_node: Vec::new(),
        };
        ToldList {
            span_ms,
            keys: estimates.iter().map(key).collect(),
            total_weight: 0,
            complete_above,
            is_incomplete: false,
        }
    }

    #[test]
    fn a_list_is_found_or_not_made_yet_or_cannot_be() {
        let replica = replica(3, FAMILY);
        let lists = ToldLists {
            made: Duration::from_millis(7),
            lists: vec![list(None, &[5], 1), list(Some(60_000), &[4], 2)],
        };
        let all = TopAnswer::find(&lists, &replica, 0).unwrap();
        assert_eq!((all.edition(), all.list), (7_000, &lists.lists[0]));
        assert_eq!(all.age(Duration::from_millis(9)), Duration::from_millis(2));
        assert_eq!(all.age(Duration::ZERO), Duration::ZERO);
        let minute = TopAnswer::find(&lists, &replica, 60_000).unwrap();
        assert_eq!(minute.list, &lists.lists[1]);
        for window_ms in [1, 30_000, 60_001, u64::MAX] {
            let refused = TopAnswer::find(&lists, &replica, window_ms).unwrap_err();
            assert_eq!(refused, Refusal::UnknownWindow);
        }
        let none = ToldLists::default();
        for window_ms in [0, 60_000] {
            let early = TopAnswer::find(&none, &replica, window_ms).unwrap();
            assert_eq!((early.edition(), early.complete_above(10)), (0, u64::MAX));
            assert!(early.first(10).is_empty());
        }
        for replica in [self::replica(0, FAMILY), self::replica(3, HashFamily::Fnv)] {
            let refused = TopAnswer::find(&lists, &replica, 0).unwrap_err();
            assert_eq!(refused, Refusal::NoTopList);
        }
    }

    #[test]
    fn who_sees_less_knows_less() {
        let replica = replica(3, FAMILY);
        for (estimates, above, shown, expected) in [
            // All candidates are here.
            (&[9, 5][..], 4, 10, 4),
            (&[9, 5], 4, 2, 4),
            (&[], 4, 10, 4),
            (&[9, 5], u64::MAX, 10, u64::MAX),
            // Some were cut off.
            (&[9, 5], 4, 1, 9),
            (&[9, 5], 4, 0, u64::MAX),
            // The list is as long as it may be, so there may be others.
            (&[9, 5, 5], 4, 10, 5),
            (&[9, 5, 5], 7, 10, 7),
            (&[9, 5, 5], 7, 2, 7),
            (&[9, 5, 5], 4, 1, 9),
        ] {
            let lists = ToldLists {
                made: Duration::ZERO,
                lists: vec![list(None, estimates, above)],
            };
            let told = TopAnswer::find(&lists, &replica, 0).unwrap();
            assert_eq!(
                told.complete_above(shown),
                expected,
                "{estimates:?} {shown}"
            );
        }
    }
}
