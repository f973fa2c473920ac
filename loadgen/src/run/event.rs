//! Events of a run, for displays.

use std::time::Duration;

use crate::flight::Totals;

/// Something that happens while a run goes on.
#[derive(Debug, Clone, Copy)]
pub enum Event<'a> {
    /// A part begins.
    Part {
        /// Name of the part: `adds, flood` or `adds, flood: warm-up`.
        name: &'a str,
        /// The planned length of the part.
        planned: Duration,
    },
    /// The part goes on.
    Progress {
        /// Time since the part's start.
        elapsed: Duration,
        /// The totals so far.
        totals: Totals,
    },
    /// Something else that may take a while begins.
    Doing(&'a str),
}
