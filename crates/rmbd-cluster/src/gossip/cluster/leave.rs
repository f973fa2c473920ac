//! The end of our part.

use std::time::Duration;

use super::Cluster;
use crate::gossip::lifecycle::LeaveStep;

impl Cluster {
    /// Publishes what is left, waits until all live members have it ([`LEAVE_LIMIT`](crate::LEAVE_LIMIT) at
    /// most), then says good-bye. A node that has something to tell, and has met none of those it was to join, uses
    /// this time for meeting them. [`is_flushed`](Self::is_flushed) tells when it is over.
    pub fn leave(&mut self, now: Duration) {
        if self.leaving.begin(now) {
            self.peers.hurry(now);
            let has_somebody = self.peers.has_audience() || self.leaving.joins();
            self.publishing.set_wanted(has_somebody);
            self.rounds.hurry(now);
        }
    }

    /// What [`leave`](Self::leave) began is over, and every datagram of it has gone.
    #[must_use]
    pub fn is_flushed(&self) -> bool {
        self.leaving.is_over()
    }

    pub(super) fn leave_step(&mut self, now: Duration) {
        let has_audience = self.peers.has_audience();
        let version = self.slices.own_version();
        let is_heard = || {
            if has_audience {
                self.peers.have_heard(version)
            } else {
                // Where nobody is there, somebody had it before.
                self.publishing.was_told(version)
            }
        };
        match self.leaving.step(now, has_audience, is_heard) {
            LeaveStep::SayGoodBye => self.membership.leave(now),
            LeaveStep::Contact if !has_audience => {
                for seed in self.seeds.all() {
                    self.membership.join(now, seed);
                }
            }
            LeaveStep::Contact | LeaveStep::Wait => {}
        }
    }
}
