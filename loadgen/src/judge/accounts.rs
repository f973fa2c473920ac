//! The sums of what was sent and of what the server says that it received.

use crate::record::{Once, Received, Sent, Verdicts};

/// The sums of some part of a run, warm-ups included.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Accounts {
    pub(crate) sent: Sent,
    /// `None` as soon as the server was silent once.
    pub(crate) received: Option<Received>,
    pub(crate) verdicts: Verdicts,
    pub(crate) once: Once,
}

impl Default for Accounts {
    /// Nothing yet, with a server that says so.
    fn default() -> Self {
        Self {
            sent: Sent::default(),
            received: Some(Received::none()),
            verdicts: Verdicts::NONE,
            once: Once::default(),
        }
    }
}

impl Accounts {
    pub(crate) fn add(&mut self, more: &Self) {
        self.sent.add(&more.sent);
        let both = self.received.zip(more.received);
        self.received = both.map(|(a, b)| a.plus(&b));
        self.verdicts.add(&more.verdicts);
        self.once.add(&more.once);
    }

    /// Adds and hits that did not arrive. Nothing is lost where the server has more: others add too, then
    /// it is not known.
    pub(crate) fn lost(&self) -> Option<u64> {
        self.sent.adding().checked_sub(self.received?.adding())
    }
}
