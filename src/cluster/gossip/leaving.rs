//! The end: what was counted last reaches the others, then good-bye is said.

use std::time::Duration;

use super::{Cluster, LEAVE_LIMIT};

/// How often seeds are tried by a node that ends and has met nobody yet.
const CONTACT_PERIOD: Duration = Duration::from_millis(250);

#[derive(Debug)]
pub(super) struct Leaving {
    pub(super) deadline: Duration,
    /// The last pass over the live cells has been made.
    pub(super) has_published: bool,
    has_left: bool,
    contact_at: Duration,
}

impl Cluster {
    /// Publishes what is left, waits until all live members have it ([`LEAVE_LIMIT`] at most), then
    /// says good-bye. A node that has something to tell, and has met none of those it was to join, uses this
    /// time for meeting them. [`is_flushed`](Self::is_flushed) tells when it is over.
    pub fn leave(&mut self, now: Duration) {
        if self.leaving.is_none() {
            self.leaving = Some(Leaving {
                deadline: now + LEAVE_LIMIT,
                has_published: false,
                has_left: false,
                contact_at: now,
            });
            for peer in self.peers.values_mut() {
                let outcome = peer.flight.hurry(now);
                self.resends += peer.settle(outcome);
            }
            self.is_publishing = self.has_audience() || self.joins;
            // At once, not with the next round.
            self.next_round = now;
        }
    }

    /// What [`leave`](Self::leave) began is over, and every datagram of it has gone.
    #[must_use]
    pub fn is_flushed(&self) -> bool {
        self.leaving
            .as_ref()
            .is_some_and(|leaving| leaving.has_left)
    }

    /// When the end goes on by itself.
    pub(super) fn leave_wake(&self) -> Option<Duration> {
        let leaving = self.leaving.as_ref().filter(|leaving| !leaving.has_left)?;
        let is_alone = !self.has_audience();
        let contact = is_alone.then_some(leaving.contact_at);
        Some(contact.map_or(leaving.deadline, |at| at.min(leaving.deadline)))
    }

    pub(super) fn leave_step(&mut self, now: Duration) {
        let Some(mut leaving) = self.leaving.take() else {
            return;
        };
        if !leaving.has_left {
            let has_nobody = !self.joins && !self.has_audience();
            let is_heard = leaving.has_published && self.is_heard();
            if has_nobody || is_heard || now >= leaving.deadline {
                leaving.has_left = true;
                self.membership.leave(now);
            } else if now >= leaving.contact_at {
                leaving.contact_at = now + CONTACT_PERIOD;
                self.contact_seeds(now);
            }
        }
        self.leaving = Some(leaving);
    }

    /// Everybody who is to be told has everything that is published, as far as there is room for it; where
    /// nobody is there, somebody had it before.
    fn is_heard(&self) -> bool {
        let version = self.slices.own_version();
        if !self.has_audience() {
            return self.told_max >= version;
        }
        let mut audience = self.peers.values().filter(|peer| peer.is_audience());
        audience.all(|peer| peer.push.is_done(version) || peer.push.is_refused())
    }

    /// Tries all seeds, where nobody is up.
    fn contact_seeds(&mut self, now: Duration) {
        if self.has_audience() {
            return;
        }
        for seed in self.seeds.all() {
            self.membership.join(now, seed);
        }
    }
}
