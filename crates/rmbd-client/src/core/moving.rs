//! Going on at another address, where that cannot count anything twice.

use std::time::Duration;

use super::cookie::Cookie;
use super::recovery::Recovery;
use super::{Core, Kind};

impl<T> Core<T> {
    /// When the node last replied.
    pub(crate) fn heard_at(&self) -> Duration {
        self.heard_at
    }

    /// Since when a reply is owed by the present address; `None` where nothing is under way.
    pub(crate) fn silent_since(&self) -> Option<Duration> {
        let (_, oldest) = self.flying.first_key_value()?;
        Some(oldest.first_sent.max(self.heard_at).max(self.arrived_at))
    }

    /// Nothing is under way that must not be sent to another node.
    pub(crate) fn may_move(&self) -> bool {
        self.flying
            .values()
            .all(|flying| flying.kind != Kind::Adding)
    }

    /// The node may be gone: nothing more is added before it has said which boot it is.
    pub(crate) fn distrust(&mut self) {
        self.forget_node();
    }

    /// Goes on at another address. Questions that are under way are asked there, and have no longer than they
    /// had; adds that were never sent are sent there. Nothing happens while an add is under way: only the
    /// node that it was sent to can know whether it was applied.
    pub(crate) fn relocate(&mut self, now: Duration) {
        if !self.may_move() {
            return;
        }
        for (_, flying) in std::mem::take(&mut self.flying).into_iter().rev() {
            if flying.kind == Kind::Asking {
                let mut batch = flying.batch;
                batch.first_sent = Some(flying.first_sent);
                self.asking.sealed.push_front(batch);
            }
        }
        self.copies.clear();
        self.sent.clear();
        self.lost.clear();
        self.handshake = None;
        self.forget_node();
        self.recovery = Recovery::default();
        self.arrived_at = now;
    }

    /// With what it gave: another one, or another boot, has no use of its cookie.
    fn forget_node(&mut self) {
        self.node = None;
        self.cookie = Cookie::default();
        self.is_known = false;
    }
}
