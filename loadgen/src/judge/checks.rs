//! The checks of a run.

use std::cmp::Ordering;

use super::accounts::Accounts;
use super::lists;
use super::notes;
use super::once::OnceAccounts;
use super::windows::{self, Grounds};
use crate::output::{exact, share};
use crate::plan::{Load, Mode, SEGMENTS_MAX};
use crate::record::{Check, ListFigures, Outcome, Phase, Received, Truth};

/// The findings so far.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    notes: Vec<String>,
    accounts: Accounts,
    /// Least weight that the messages which the server received have added, computed from what was sent.
    received_weight: u64,
    /// Weight of takes without an answer, which may have been added, too.
    undecided_weight: u64,
    /// Whether there were hits of all time.
    has_hits: bool,
    /// Checks of windows.
    windows: Vec<Check>,
    /// Number of servers.
    nodes: usize,
    /// Number of data threads of the server, if it tells.
    threads: Option<usize>,
    /// Accounts of phases whose adds count exactly once.
    once: Option<OnceAccounts>,
    phases: usize,
    gso: bool,
    restarted: bool,
    /// Whether the server is on this machine: then nothing but a socket may lose anything.
    local: bool,
    /// Whether at least one phase whose keys are compared lost no add.
    pub(crate) comparable: bool,
    /// The reason if the truth could not be compared.
    unchecked: Option<String>,
}

impl Findings {
    /// No findings yet, for so many servers that are on this machine or not, and the data threads of one.
    pub(crate) fn of_servers(local: bool, nodes: usize, threads: Option<usize>) -> Self {
        Self {
            local,
            nodes,
            threads,
            ..Self::default()
        }
    }

    pub(crate) fn note(&mut self, note: String) {
        self.notes.push(note);
    }

    /// Notes that the truth could not be compared.
    pub(crate) fn unchecked(&mut self, why: &str) {
        self.unchecked = Some(why.to_owned());
    }

    /// The notes.
    pub(crate) fn into_notes(self) -> Vec<String> {
        self.notes
    }

    /// Enters a phase into the accounts, and notes what is remarkable about it. The phase is `None` if it ended before
    /// its measured part.
    pub(crate) fn phase(
        &mut self,
        phase: Option<&Phase>,
        accounts: &Accounts,
        load: &Load,
        restarted: bool,
    ) {
        self.phases += 1;
        self.gso |= load.gso;
        self.restarted |= restarted;
        self.accounts.add(accounts);
        if let Some(received) = accounts.received {
            let weight = u64::from(load.weight);
            let (adding, undecided) = match load.mode.takes() {
                false => (received.adding(), 0),
                true => {
                    // What others send to this server is not among it.
                    let hits = received.hits.min(accounts.sent.hits);
                    let decided = accounts.in_window.decided();
                    (accounts.in_window.admitted, hits.saturating_sub(decided))
                }
            };
            self.received_weight += adding * weight;
            self.undecided_weight += undecided * weight;
        }
        self.has_hits |= matches!(load.mode, Mode::Hit { .. });
        if let Some(truth) = phase.and_then(|phase| phase.window_truth.as_ref()) {
            let grounds = Grounds {
                load,
                nodes: self.nodes,
                threads: self.threads,
                lossless: accounts.lost() == Some(0) && !restarted,
            };
            self.windows.extend(windows::checks(truth, grounds));
        }
        if load.exactly_once {
            let grown = accounts.received.and_then(|received| received.weight);
            let found = self.once.get_or_insert_default();
            found.add(&accounts.once, load.weight, grown);
        }
        self.notes.extend(phase.and_then(notes::late));
        self.notes
            .extend(phase.and_then(|phase| notes::lost(phase, load)));
        self.notes.extend(notes::cut(load));
    }

    /// All checks.
    pub(crate) fn checks(&self, truth: Option<&Truth>, lists: &[ListFigures]) -> Vec<Check> {
        if self.phases == 0 {
            return Vec::new();
        }
        let mut checks = vec![self.accounts(), self.understood()];
        if self.accounts.sent.adding() > 0 {
            checks.push(self.weights());
        }
        if let Some(found) = &self.once {
            checks.push(found.check(self.restarted));
        }
        match (truth, &self.unchecked) {
            (Some(truth), _) => {
                checks.push(never_below(truth, self.comparable));
                checks.push(within_bound(truth));
            }
            (None, Some(why)) => checks.push(Check {
                name: BELOW.to_owned(),
                outcome: Outcome::Unknown,
                detail: format!("Not checked: {why}."),
            }),
            (None, None) => {}
        }
        checks.extend(lists::checks(lists));
        if self.has_hits && self.accounts.sent.hits > 0 {
            checks.push(self.verdicts());
        }
        checks.extend(self.windows.iter().cloned());
        checks
    }

    /// Checks whether what was sent equals what was received and dropped.
    fn accounts(&self) -> Check {
        let (outcome, detail) = match self.accounts.received {
            _ if self.restarted => (
                Outcome::Unknown,
                "The server was started again, and its counters with it.".to_owned(),
            ),
            None => (
                Outcome::Unknown,
                "The server did not say what it received.".to_owned(),
            ),
            Some(received) => self.balance(&received),
        };
        Check {
            name: "every datagram is accounted for".to_owned(),
            outcome,
            detail,
        }
    }

    fn balance(&self, received: &Received) -> (Outcome, String) {
        let sent = self.accounts.sent.datagrams;
        let figures = format!(
            "{} sent, {} received, {} dropped by the kernel at the server's sockets",
            exact(sent),
            exact(received.datagrams),
            exact(received.dropped_by_kernel)
        );
        let Some(lost) = sent.checked_sub(received.datagrams) else {
            return (
                Outcome::Unknown,
                format!("{figures}: others send to this server too."),
            );
        };
        match lost.checked_sub(received.dropped_by_kernel) {
            Some(0) => (Outcome::Passed, format!("{figures}.")),
            // Each drop is a train.
            Some(_) if self.gso && lost <= received.dropped_by_kernel * SEGMENTS_MAX as u64 => (
                Outcome::Passed,
                format!(
                    "{figures} (in trains, because of GSO), so {} lost.",
                    exact(lost)
                ),
            ),
            Some(missing) if self.local => (
                Outcome::Failed,
                format!("{figures}: {} are missing.", exact(missing)),
            ),
            Some(missing) => (
                Outcome::Unknown,
                format!(
                    "{figures}: {} were lost between here and the server's sockets.",
                    exact(missing)
                ),
            ),
            None => (
                Outcome::Unknown,
                format!("{figures}: more than were sent, so others send to this server too."),
            ),
        }
    }

    fn understood(&self) -> Check {
        let (outcome, detail) = match self.accounts.received {
            None => (
                Outcome::Unknown,
                "The server did not say what it received.".to_owned(),
            ),
            Some(received) => {
                // This is the format's own rule: the window moves on when a request has its reply, so a request that
                // is too old is another copy. A request whose first copy was too old ends the run (`OnceLoop`).
                let late_copies = match self.once {
                    Some(_) => received.too_old,
                    None => 0,
                };
                let bad = (received.malformed + received.refused).saturating_sub(late_copies);
                let mut detail = format!(
                    "{} malformed, {} refused.",
                    exact(received.malformed),
                    exact(received.refused)
                );
                if late_copies > 0 {
                    detail.push_str(&format!(
                        " {} of the refused were late copies: their requests were settled, and the window had \
                         moved on.",
                        exact(late_copies)
                    ));
                }
                let outcome = if bad == 0 {
                    Outcome::Passed
                } else {
                    Outcome::Failed
                };
                (outcome, detail)
            }
        };
        Check {
            name: "every datagram is understood".to_owned(),
            outcome,
            detail,
        }
    }
}

impl Findings {
    /// Checks whether N grew by what was received, each message with its weight.
    fn weights(&self) -> Check {
        let grown = self.accounts.received.and_then(|received| received.weight);
        let (outcome, detail) = match self.accounts.received.zip(grown) {
            _ if self.restarted => (
                Outcome::Unknown,
                "The server was started again, and its N with it.".to_owned(),
            ),
            None => (
                Outcome::Unknown,
                "The server did not say what its N is.".to_owned(),
            ),
            Some((received, grown)) => {
                let (least, undecided) = (self.received_weight, self.undecided_weight);
                let mut figures = format!(
                    "N grew by {}, the {} adds and hits received weigh {}",
                    exact(grown),
                    exact(received.adding()),
                    exact(least)
                );
                if self.accounts.in_window.refused > 0 {
                    figures.push_str(" without refused takes");
                }
                if undecided > 0 {
                    figures.push_str(&format!(", and {} more have no answer", exact(undecided)));
                }
                match received.adding().cmp(&self.accounts.sent.adding()) {
                    _ if (least..=least + undecided).contains(&grown) => {
                        (Outcome::Passed, format!("{figures}."))
                    }
                    Ordering::Greater => (
                        Outcome::Unknown,
                        format!(
                            "{figures}: more than were sent, so others add to this server too."
                        ),
                    ),
                    _ => (
                        Outcome::Failed,
                        format!(
                            "{figures}: if nobody else adds to this server, weights are wrong there."
                        ),
                    ),
                }
            }
        };
        Check {
            name: "N grew by the weight of what was received".to_owned(),
            outcome,
            detail,
        }
    }

    /// Checks whether all hits were answered according to the truth.
    fn verdicts(&self) -> Check {
        let verdicts = &self.accounts.verdicts;
        let outcome = match verdicts.wrong() {
            _ if self.restarted => Outcome::Unknown,
            0 => Outcome::Passed,
            _ => Outcome::Failed,
        };
        let mut detail = format!(
            "of {} answered hits {} were over the limit, {} of them early (an estimate that is too high, or weight \
             from before)",
            exact(verdicts.judged()),
            exact(verdicts.over),
            exact(verdicts.refused_early),
        );
        if verdicts.wrong() > 0 {
            detail.push_str(&format!(
                "; {} were allowed above the limit, {} estimates were below the truth, {} verdicts contradict \
                 their estimate",
                exact(verdicts.allowed_above_limit),
                exact(verdicts.below_truth),
                exact(verdicts.contradictory),
            ));
        }
        Check {
            name: "no hit above its limit is allowed".to_owned(),
            outcome,
            detail: format!("{detail}."),
        }
    }
}

const BELOW: &str = "no estimate is below the truth";

fn never_below(truth: &Truth, comparable: bool) -> Check {
    let outcome = match truth.below_truth {
        0 => Outcome::Passed,
        _ if comparable => Outcome::Failed,
        // Estimates are below the truth by what was lost.
        _ => Outcome::Unknown,
    };
    let mut detail = format!(
        "{} of {} keys, {} of them the hottest, are below.",
        exact(truth.below_truth),
        exact(truth.checked_keys),
        exact(truth.checked_hot_keys)
    );
    if truth.lost_adds > 0 {
        let which = if comparable {
            "the keys of phases that lost some are left out"
        } else {
            "so an estimate below says nothing"
        };
        detail.push_str(&format!(
            " {} of {} adds were lost; {which}.",
            exact(truth.lost_adds),
            exact(truth.total_adds)
        ));
    }
    Check {
        name: BELOW.to_owned(),
        outcome,
        detail,
    }
}

fn within_bound(truth: &Truth) -> Check {
    let outcome = if truth.over_bound_share <= truth.delta {
        Outcome::Passed
    } else {
        Outcome::Failed
    };
    Check {
        name: "over-estimates are within the promise".to_owned(),
        outcome,
        detail: format!(
            "{} of the keys are above epsilon * N = {:.1} (promised: at most {}); mean {:.2}, p50 {}, p99 {}, max {}.",
            share(truth.over_bound_share),
            truth.bound,
            share(truth.delta),
            truth.over_mean,
            exact(truth.over_p50),
            exact(truth.over_p99),
            exact(truth.over_max)
        ),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::record::{Sent, Verdicts};

    /// The outcome for 100 adds of weight 10, of which `received` arrived and made N grow by `grown`.
    fn weighed(received: u64, grown: Option<u64>) -> Outcome {
        let load = Load {
            weight: 10,
            ..crate::plan::testing::load("add", "uniform:10")
        };
        let accounts = Accounts {
            sent: Sent {
                adds: 100,
                ..Sent::default()
            },
            received: Some(Received {
                adds: received,
                weight: grown,
                ..Received::none()
            }),
            verdicts: Verdicts::NONE,
            ..Accounts::default()
        };
        let mut findings = Findings::of_servers(true, 1, Some(1));
        findings.phase(None, &accounts, &load, false);
        let checks = findings.checks(None, &[]);
        let mut named = checks.iter().filter(|check| check.name.contains("N grew"));
        named.next().unwrap().outcome
    }

    #[test]
    fn weights_that_are_ignored_lost_or_added_twice_are_found() {
        assert_eq!(weighed(100, Some(1000)), Outcome::Passed);
        assert_eq!(weighed(90, Some(900)), Outcome::Passed);
        for grown in [0, 100, 990, 1001, 2000] {
            assert_eq!(weighed(100, Some(grown)), Outcome::Failed, "{grown}");
        }
        assert_eq!(weighed(101, Some(1001)), Outcome::Unknown);
        assert_eq!(weighed(100, None), Outcome::Unknown);
    }

    /// The check of whether all datagrams were understood, if some were refused, and some of these as too old.
    fn understood(exactly_once: bool, refused: u64, too_old: u64) -> Check {
        let load = Load {
            exactly_once,
            ..crate::plan::testing::load("add", "uniform:10")
        };
        let accounts = Accounts {
            sent: Sent::default(),
            received: Some(Received {
                refused,
                too_old,
                ..Received::none()
            }),
            verdicts: Verdicts::NONE,
            ..Accounts::default()
        };
        let mut findings = Findings::of_servers(true, 1, Some(1));
        findings.phase(None, &accounts, &load, false);
        findings.understood()
    }

    #[test]
    fn late_copies_are_no_fault_and_any_other_refusal_is() {
        for (exactly_once, refused, too_old, outcome) in [
            (true, 0, 0, Outcome::Passed),
            (true, 3, 3, Outcome::Passed),
            (true, 3, 2, Outcome::Failed),
            (true, 1, 0, Outcome::Failed),
            (false, 1, 1, Outcome::Failed),
        ] {
            let check = understood(exactly_once, refused, too_old);
            assert_eq!(check.outcome, outcome, "{check:?}");
            let is_said = check.detail.contains("late copies");
            assert_eq!(is_said, exactly_once && too_old > 0, "{check:?}");
        }
    }
}
