//! The sums of what was sent, and of what the server reports as received.

use crate::record::{InWindow, Once, Received, Sent, Verdicts};

/// The sums of some part of a run, warm-ups included.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Accounts {
    pub(crate) sent: Sent,
    /// What was received; `None` as soon as the server was silent once.
    pub(crate) received: Option<Received>,
    pub(crate) verdicts: Verdicts,
    pub(crate) once: Once,
    pub(crate) in_window: InWindow,
}

impl Default for Accounts {
    /// Empty accounts, with a server that reports its numbers.
    fn default() -> Self {
        Self {
            sent: Sent::default(),
            received: Some(Received::none()),
            verdicts: Verdicts::NONE,
            once: Once::default(),
            in_window: InWindow::default(),
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
        self.in_window.add(&more.in_window);
    }

    /// Number of adds and hits that did not arrive. If the server has more than was sent, other clients add, too, and
    /// the number is unknown.
    pub(crate) fn lost(&self) -> Option<u64> {
        self.sent.adding().checked_sub(self.received?.adding())
    }
}
