//! The end of our part.

use std::time::Duration;

use super::Cluster;
use crate::gossip::lifecycle::LeaveStep;
use crate::gossip::sketches::OurSlice;

impl Cluster {
    /// Publishes what is left, waits until all live members have it ([`LEAVE_LIMIT`](crate::LEAVE_LIMIT) at most),
    /// then says good-bye. A node that has something to tell, and has met none of those it was to join, uses this time
    /// for meeting them. [`is_flushed`](Self::is_flushed) tells when it is over.
    pub fn leave(&mut self, now: Duration) {
        if self.leaving.begin(now, self.sketches.numbers()) {
            self.peers.hurry(now);
            let sketches = self.sketches.numbers();
            sketches.for_each(|sketch| self.publishing.want(sketch));
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
        let (peers, publishing) = (&self.peers, &self.publishing);
        let is_heard_of = |ours: OurSlice| {
            if has_audience {
                peers.have_heard(ours)
            } else {
                // Where nobody is there, somebody had it before.
                publishing.was_told(ours.sketch, ours.version)
            }
        };
        let is_heard = || self.sketches.our_slices().all(is_heard_of);
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
