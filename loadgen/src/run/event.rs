//! The events of a run, for whoever watches it.

use std::time::Duration;

use crate::flight::Totals;

/// Something that happens while a run goes on.
#[derive(Debug, Clone, Copy)]
pub enum Event<'a> {
    /// A part begins.
    Part {
        /// `adds, flood` or `adds, flood: warm-up`.
        name: &'a str,
        /// How long it is planned to be.
        planned: Duration,
    },
    /// It goes on.
    Progress {
        /// Since its start.
        elapsed: Duration,
        /// So far.
        totals: Totals,
    },
    /// Something else is done that may take a while.
    Doing(&'a str),
}
