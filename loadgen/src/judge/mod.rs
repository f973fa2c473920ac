//! Judging the server: by its accounts, by its verdicts on hits, by its estimates, by its lists of the largest keys,
//! and by windows.

mod accounts;
mod checks;
mod diary;
mod ledger;
mod lists;
mod notes;
mod once;
mod replay;
mod sliding;
mod truth;
mod windows;

pub(crate) use self::accounts::Accounts;
pub(crate) use self::checks::Findings;
pub(crate) use self::diary::{Chosen, Diary};
pub use self::diary::{Entry, NEVER_NS, Notebook, What};
pub(crate) use self::ledger::{Claim, Ledger, Verdict};
pub(crate) use self::lists::{ASKED as LISTED_KEYS, Replayed, SentKeys};
pub use self::sliding::{Circumstances, judge_windows};
pub(crate) use self::truth::{Promise, Sample, compare};
