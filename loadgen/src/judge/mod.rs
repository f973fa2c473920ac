//! Judging the server: by its accounts, by its verdicts on hits, and by its estimates.

mod accounts;
mod checks;
mod ledger;
mod notes;
mod once;
mod truth;

pub(crate) use self::accounts::Accounts;
pub(crate) use self::checks::Findings;
pub(crate) use self::ledger::{Claim, Ledger, Verdict};
pub(crate) use self::truth::{Promise, Sample, compare};
