//! Members tell each other of pardons.

use std::sync::Arc;
use std::time::Duration;

use super::Cluster;
use crate::gossip::pardons::{Differences, PardonGossip};
use crate::gossip::peers::{Peer, QueuedFrame};
use crate::gossip::transport::Sender;
use rmbd_proto::Boot;
use rmbd_proto::cluster::{PardonEntries, PardonSums};
use rmbd_store::PardonBook;

impl Cluster {
    /// Tells members of the pardons of this book, and puts into it what they tell. To be called before any other call;
    /// without it the cluster passes on what it hears, in a book of its own. The book's times are those of the
    /// cluster's calls.
    pub fn share_pardons(&mut self, book: Arc<PardonBook>) {
        self.pardons = PardonGossip::of(book);
    }

    /// Tells all members of what was given here.
    pub(super) fn tell_given_pardons(&mut self) {
        let given = self.pardons.take_given();
        if given.is_empty() {
            return;
        }
        for peer in self.peers.iter_mut().filter(|peer| peer.is_live_member()) {
            given
                .iter()
                .for_each(|pardon| peer.pardons_mut().push(pardon));
        }
    }

    /// Lets one member after the other compare its pardons with ours, one in a round.
    pub(super) fn begin_pardon_round(&mut self, now: Duration) {
        for peer in self.peers.iter_mut() {
            peer.pardons_mut().begin_round();
        }
        let members = self.peers.live_members().count() as u64;
        let turn = self.rounds.count().checked_rem(members).unwrap_or(0);
        let member = self.peers.live_members().nth(turn as usize).map(Peer::boot);
        if let Some(boot) = member {
            self.tell_pardon_sums(now, boot);
        }
    }

    /// Lets a member compare its pardons with ours, where we have any.
    pub(super) fn tell_pardon_sums(&mut self, now: Duration, boot: Boot) {
        if let Some(peer) = self.peers.get_mut(boot)
            && peer.is_live_member()
            && let Some(sums) = self.pardons.sums(now)
        {
            peer.queue(QueuedFrame::PardonSums { sums });
        }
    }

    pub(super) fn take_pardons(
        &mut self,
        now: Duration,
        sender: Sender,
        entries: PardonEntries<'_>,
    ) {
        if self.live_member(sender).is_some() {
            for _ in 0..self.pardons.merge(now, entries) {
                self.refusals.count("pardon_not_taken");
            }
        }
    }

    pub(super) fn take_pardon_sums(&mut self, now: Duration, sender: Sender, sums: PardonSums<'_>) {
        if self.live_member(sender).is_none() {
            return;
        }
        let Differences { tell, ask } = self.pardons.compare(now, sums);
        if let Some(peer) = self.peers.get_mut(sender.boot) {
            self.pardons.tell(now, tell, peer.pardons_mut());
            if ask != 0 {
                peer.queue(QueuedFrame::PardonsAsked { buckets: ask });
            }
        }
    }

    pub(super) fn answer_pardons_asked(&mut self, now: Duration, sender: Sender, buckets: u32) {
        if self.live_member(sender).is_some()
            && let Some(peer) = self.peers.get_mut(sender.boot)
        {
            self.pardons.tell(now, buckets, peer.pardons_mut());
        }
    }

    /// Only members give pardons, and are told of them.
    fn live_member(&mut self, sender: Sender) -> Option<&mut Peer> {
        let peer = self.peers.get_mut(sender.boot);
        let member = peer.filter(|peer| peer.is_live_member());
        if member.is_none() {
            self.refusals.count("pardon_of_no_member");
        }
        member
    }
}
