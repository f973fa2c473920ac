//! The ledger of hits: what must be true of the answer to a hit, whatever else is on its way.
//!
//! For each key it keeps two numbers: how many hits have left, and of how many the answer has come. A hit that leaves
//! when `a` hits of its key have been answered is at least the `a + 1`st. So its estimate is at least that many times
//! the weight of a hit, and if that is above the limit, the hit must be refused. When its answer comes and `s` have
//! left, it is at most the `s`th. If it was refused although the weight of `s` hits is within the limit, it was
//! refused too early, as an approximate counter may do.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use crate::record::Verdicts;

/// Number of keys in the ledger: those with the smallest numbers, which are a Zipf stream's hottest. Each costs 8
/// bytes.
const KEYS_MAX: u64 = 1 << 22;
/// The number that stands for a key outside of the ledger.
const UNKNOWN: u32 = u32::MAX;

/// The ledger, which all threads of a phase share, warm-up included.
#[derive(Debug)]
pub(crate) struct Ledger {
    limit: u64,
    /// The weight of each hit.
    weight: u64,
    keys: Box<[Known]>,
}

/// The numbers of one key. They are relaxed: each stands for itself. They are ordered by the datagrams: one is read
/// before a datagram leaves, and the other is written after its answer has come.
#[derive(Debug, Default)]
struct Known {
    sent: AtomicU32,
    answered: AtomicU32,
}

/// The condition that goes with a hit on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Claim {
    key: u32,
    /// The hit is at least this one of its key's hits.
    least: u32,
}

impl Claim {
    /// The condition of messages that are no hits.
    pub(crate) const NONE: Self = Self {
        key: UNKNOWN,
        least: 0,
    };

    /// The condition of a message whose key is in a diary under this name: it is judged after the phase.
    pub(crate) fn of_diary(key: u32) -> Self {
        Self { key, least: 0 }
    }

    /// The name of the key in a diary.
    pub(crate) fn in_diary(self) -> Option<u32> {
        (self.key != UNKNOWN).then_some(self.key)
    }

    pub(crate) fn to_bits(self) -> u64 {
        u64::from(self.key) << 32 | u64::from(self.least)
    }

    pub(crate) fn from_bits(bits: u64) -> Self {
        Self {
            key: (bits >> 32) as u32,
            least: bits as u32,
        }
    }
}

/// The answer of a server to a hit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Verdict {
    pub(crate) estimate: u64,
    pub(crate) within: bool,
}

impl Ledger {
    /// A ledger for hits of one limit and one weight, of `distinct` keys. All memory is touched now.
    pub(crate) fn new(limit: u64, weight: u32, distinct: u64) -> Self {
        Self {
            limit,
            weight: weight.into(),
            keys: (0..distinct.min(KEYS_MAX))
                .map(|_| Known::default())
                .collect(),
        }
    }

    /// Notes that a hit of key `number` is about to leave.
    #[inline]
    pub(crate) fn leaves(&self, number: u64) -> Claim {
        let Some(known) = self.keys.get(number as usize) else {
            return Claim {
                key: UNKNOWN,
                least: 1,
            };
        };
        known.sent.fetch_add(1, Relaxed);
        Claim {
            // The number is below `KEYS_MAX`.
            key: number as u32,
            least: known.answered.load(Relaxed) + 1,
        }
    }

    /// Judges the answer to a hit.
    #[inline]
    pub(crate) fn judge(&self, claim: Claim, verdict: Verdict, verdicts: &mut Verdicts) {
        let Verdict { estimate, within } = verdict;
        let least = u64::from(claim.least) * self.weight;
        verdicts.within += u64::from(within);
        verdicts.over += u64::from(!within);
        verdicts.allowed_above_limit += u64::from(within && least > self.limit);
        verdicts.below_truth += u64::from(estimate < least);
        let follows = estimate <= self.limit;
        verdicts.contradictory += u64::from(within != follows);
        if let Some(known) = self.keys.get(claim.key as usize) {
            known.answered.fetch_add(1, Relaxed);
            let most = u64::from(known.sent.load(Relaxed)) * self.weight;
            verdicts.refused_early += u64::from(!within && most <= self.limit);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(ledger: &Ledger, claim: Claim, estimate: u64, within: bool) -> Verdicts {
        let mut verdicts = Verdicts::default();
        let verdict = Verdict { estimate, within };
        ledger.judge(claim, verdict, &mut verdicts);
        verdicts
    }

    const WITHIN: Verdicts = Verdicts {
        within: 1,
        ..Verdicts::NONE
    };
    const OVER: Verdicts = Verdicts {
        over: 1,
        ..Verdicts::NONE
    };

    #[test]
    fn hits_one_after_the_other_are_judged_exactly() {
        let ledger = Ledger::new(2, 1, 10);
        for (estimate, expected) in [(1, WITHIN), (2, WITHIN), (3, OVER), (4, OVER)] {
            let claim = ledger.leaves(3);
            assert_eq!(
                judged(&ledger, claim, estimate, expected.within == 1),
                expected
            );
        }
        // The third hit was allowed, with an estimate that is too low.
        let ledger = Ledger::new(2, 1, 10);
        for _ in 0..2 {
            let claim = ledger.leaves(3);
            judged(&ledger, claim, 2, true);
        }
        let claim = ledger.leaves(3);
        let allowed = Verdicts {
            allowed_above_limit: 1,
            below_truth: 1,
            ..WITHIN
        };
        assert_eq!(judged(&ledger, claim, 2, true), allowed);
    }

    #[test]
    fn hits_on_their_way_at_once_may_be_any_of_them() {
        let ledger = Ledger::new(1, 1, 10);
        let claims = [ledger.leaves(0), ledger.leaves(0)];
        assert_eq!(judged(&ledger, claims[1], 1, true), WITHIN);
        assert_eq!(judged(&ledger, claims[0], 2, false), OVER);
        assert_eq!(ledger.leaves(0), Claim { key: 0, least: 3 });
    }

    #[test]
    fn weights_count_as_often_as_hits_do() {
        let ledger = Ledger::new(20, 10, 10);
        for (estimate, expected) in [(10, WITHIN), (20, WITHIN), (30, OVER)] {
            let claim = ledger.leaves(3);
            assert_eq!(
                judged(&ledger, claim, estimate, expected.within == 1),
                expected
            );
        }
        // The answers are as if each hit had the weight 1: too low, from the first on.
        let ledger = Ledger::new(20, 10, 10);
        let wrong = [(1, 0), (2, 0), (3, 1)];
        for (estimate, allowed_above_limit) in wrong {
            let claim = ledger.leaves(3);
            let below = Verdicts {
                below_truth: 1,
                allowed_above_limit,
                ..WITHIN
            };
            assert_eq!(judged(&ledger, claim, estimate, true), below);
        }
        // The second answer may be the first hit's: 20 is within the limit, and was refused early.
        let ledger = Ledger::new(20, 10, 10);
        let claim = ledger.leaves(3);
        let early = Verdicts {
            refused_early: 1,
            ..OVER
        };
        assert_eq!(judged(&ledger, claim, 21, false), early);
    }

    #[test]
    fn an_over_estimate_refuses_early_and_a_verdict_follows_from_its_estimate() {
        let ledger = Ledger::new(5, 1, 10);
        let claim = ledger.leaves(7);
        let early = Verdicts {
            refused_early: 1,
            ..OVER
        };
        assert_eq!(judged(&ledger, claim, 6, false), early);
        let claim = ledger.leaves(8);
        let contradictory = Verdicts {
            contradictory: 1,
            refused_early: 1,
            ..OVER
        };
        assert_eq!(judged(&ledger, claim, 5, false), contradictory);
        let claim = ledger.leaves(9);
        let contradictory = Verdicts {
            contradictory: 1,
            ..WITHIN
        };
        assert_eq!(judged(&ledger, claim, 6, true), contradictory);
    }

    #[test]
    fn of_other_keys_only_their_own_weight_is_known() {
        let ledger = Ledger::new(1, 1, u64::MAX);
        let far = ledger.leaves(KEYS_MAX);
        assert_eq!(Claim::from_bits(far.to_bits()), far);
        assert_eq!(judged(&ledger, far, 9, false), OVER);
        let below = Verdicts {
            below_truth: 1,
            ..WITHIN
        };
        assert_eq!(judged(&ledger, ledger.leaves(KEYS_MAX), 0, true), below);
    }
}
