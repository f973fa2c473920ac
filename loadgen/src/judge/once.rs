//! The check of adds that count exactly once.

use crate::output::exact;
use crate::record::{Check, Once, Outcome};

/// Accounts of adds that count exactly once, and of the growth of N.
#[derive(Debug)]
pub(super) struct OnceAccounts {
    tally: Once,
    /// Weight of what was acknowledged.
    least: u64,
    /// Weight of what was acknowledged or is uncertain.
    most: u64,
    /// Growth of N; `None` as soon as the server was silent once.
    grown: Option<u64>,
}

impl Default for OnceAccounts {
    /// Accounts without any adds, with a server that tells its N.
    fn default() -> Self {
        Self {
            tally: Once::default(),
            least: 0,
            most: 0,
            grown: Some(0),
        }
    }
}

impl OnceAccounts {
    pub(super) fn add(&mut self, once: &Once, weight: u32, grown: Option<u64>) {
        let weight = u64::from(weight);
        self.tally.add(once);
        self.least += once.acknowledged * weight;
        self.most += (once.acknowledged + once.uncertain) * weight;
        self.grown = self.grown.zip(grown).map(|(a, b)| a + b);
    }

    /// Checks whether N grew by all that was acknowledged, and by nothing twice.
    pub(super) fn check(&self, restarted: bool) -> Check {
        let Once {
            acknowledged,
            uncertain,
            repeated,
            applied_before,
        } = self.tally;
        let mut detail = format!(
            "{} adds acknowledged (weight {}), {} uncertain",
            exact(acknowledged),
            exact(self.least),
            exact(uncertain)
        );
        if uncertain > 0 {
            detail.push_str(&format!(
                " (at most {} more), as no acknowledgement came in time",
                exact(self.most - self.least)
            ));
        }
        let (outcome, grown) = match self.grown {
            _ if restarted => (
                Outcome::Unknown,
                "the server was started again, and its N with it".to_owned(),
            ),
            None => (
                Outcome::Unknown,
                "the server did not say what its N is".to_owned(),
            ),
            Some(grown) => {
                let figure = format!("N grew by {}", exact(grown));
                match grown {
                    _ if grown < self.least => (
                        Outcome::Failed,
                        format!("{figure}: acknowledged adds are missing"),
                    ),
                    _ if grown > self.most => (
                        Outcome::Failed,
                        format!(
                            "{figure}: some counted twice, or somebody else adds to this server"
                        ),
                    ),
                    _ => (Outcome::Passed, figure),
                }
            }
        };
        Check {
            name: "every acknowledged add counts exactly once".to_owned(),
            outcome,
            detail: format!(
                "{detail}; {grown}. {} datagrams were sent again, {} acknowledgements were of requests applied before.",
                exact(repeated),
                exact(applied_before)
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The outcome for 100 adds of weight 10, of which `uncertain` were not acknowledged, with N grown by `grown`.
    fn once(uncertain: u64, grown: Option<u64>) -> Outcome {
        let mut found = OnceAccounts::default();
        let tally = Once {
            acknowledged: 100 - uncertain,
            uncertain,
            ..Once::default()
        };
        found.add(&tally, 10, grown);
        found.check(false).outcome
    }

    #[test]
    fn exactly_once_is_exact_where_nothing_is_uncertain_and_bounded_else() {
        assert_eq!(once(0, Some(1000)), Outcome::Passed);
        for grown in [100, 999, 1001, 1010, 2000] {
            assert_eq!(once(0, Some(grown)), Outcome::Failed, "{grown}");
        }
        for (grown, outcome) in [
            (899, Outcome::Failed),
            (900, Outcome::Passed),
            (1000, Outcome::Passed),
            (1001, Outcome::Failed),
        ] {
            assert_eq!(once(10, Some(grown)), outcome, "{grown}");
        }
        assert_eq!(once(0, None), Outcome::Unknown);
    }
}
