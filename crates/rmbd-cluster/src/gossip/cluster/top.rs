//! Members tell each other the lists of the largest keys.
//!
//! A node offers the list of its own slice to all members when it has changed, and whoever has an older version asks
//! for what has changed since. Besides, one member in a round gets the sum over all lists that are held here. If it has
//! another sum it offers its own lists, so that those whose writers are gone come from anybody.

use std::time::Duration;

use super::Cluster;
use crate::gossip::peers::{Peer, QueuedFrame};
use crate::gossip::state::Agreement;
use crate::gossip::transport::Sender;
use rmbd_proto::SketchNumber;
use rmbd_proto::cluster::{SliceId, TopList, TopVersions};
use rmbd_store::{Slices, ToldLists};

/// Lists that are offered to one member at once where sums differ. The next time others are.
const OFFERED_MAX: usize = 64;
/// Lists in one frame that offers some, or asks for some; they fit a datagram together.
const LISTS_A_FRAME: usize = 20;

impl Cluster {
    /// The lists of the largest keys of a sketch as they are here now.
    #[must_use]
    pub fn told_lists(&self, sketch: SketchNumber, now: Duration) -> ToldLists {
        let slices = self.sketches.get(sketch);
        slices.map_or_else(ToldLists::default, |slices| slices.told_lists(now))
    }

    /// Takes the names of large keys of a sketch that threads have met: see [`Slices::take_names`].
    pub fn take_names(&mut self, sketch: SketchNumber) {
        if let Some(slices) = self.sketches.get_mut(sketch) {
            slices.take_names();
        }
    }

    /// Makes our own lists anew where it is time, offers those that have changed, and lets one member compare all.
    pub(super) fn begin_top_round(&mut self, now: Duration) {
        for peer in self.peers.iter_mut() {
            peer.top_mut().begin_round();
        }
        let mut changed = Vec::new();
        for slices in self.sketches.iter_mut() {
            let own = slices.own_slice();
            let before = slices.top_version(&own);
            slices.update_top(now);
            if slices.top_version(&own) != before {
                changed.push(own);
            }
        }
        if !self.may_tell_names() {
            return;
        }
        for peer in self.peers.iter_mut().filter(|peer| peer.is_live_member()) {
            offer(peer, &changed);
        }
        let members = self.peers.live_members().count() as u64;
        let turn = self.rounds.count().checked_rem(members).unwrap_or(0);
        let member = self.peers.live_members().nth(turn as usize).map(Peer::boot);
        if let Some(peer) = member.and_then(|boot| self.peers.get_mut(boot)) {
            let sum = sum(peer, self.sketches.iter());
            if sum != 0 {
                peer.queue(QueuedFrame::TopSum { sum });
            }
        }
    }

    pub(super) fn take_top_sum(&mut self, sender: Sender, theirs: u64) {
        let turn = self.rounds.count() as usize;
        let Some(peer) = self.partner_in_names(sender) else {
            return;
        };
        let boot = peer.boot();
        let Some(peer) = self.peers.get(boot) else {
            return;
        };
        let ours = sum(peer, self.sketches.iter());
        if ours == theirs {
            return;
        }
        let held = self.sketches.iter().flat_map(Slices::top_versions);
        let held: Vec<SliceId> = held.map(|it| it.slice).collect();
        // Each time from another one on.
        let from = (turn * OFFERED_MAX).checked_rem(held.len()).unwrap_or(0);
        let (behind, before) = held.split_at(from.min(held.len()));
        let circle = before.iter().chain(behind).copied();
        let offered: Vec<SliceId> = circle.take(OFFERED_MAX).collect();
        if let Some(peer) = self.peers.get_mut(boot) {
            offer(peer, &offered);
            if ours == 0 {
                // Who has none tells no sum by itself.
                peer.queue(QueuedFrame::TopSum { sum: ours });
            }
        }
    }

    pub(super) fn take_top_offered(&mut self, sender: Sender, lists: TopVersions<'_>) {
        let Some(peer) = self.partner_in_names(sender) else {
            return;
        };
        let boot = peer.boot();
        let mut asked = Vec::new();
        for theirs in lists.take(OFFERED_MAX) {
            let slices = self.sketches.get(theirs.slice.sketch);
            let lacks = slices.is_some_and(|slices| slices.lacks_of_top(&theirs));
            if lacks {
                asked.push(theirs.slice);
            }
        }
        if let Some(peer) = self.peers.get_mut(boot) {
            for lists in asked.chunks(LISTS_A_FRAME) {
                let lists = lists.to_vec();
                peer.queue(QueuedFrame::TopAsked { lists });
            }
        }
    }

    pub(super) fn answer_top_asked(&mut self, sender: Sender, lists: TopVersions<'_>) {
        if let Some(peer) = self.partner_in_names(sender) {
            for theirs in lists.take(OFFERED_MAX) {
                if peer.exchanges(theirs.slice.sketch) {
                    peer.top_mut().ask(theirs);
                }
            }
        }
    }

    pub(super) fn take_top(&mut self, sender: Sender, slice: SliceId, list: TopList<'_>) {
        if self.partner_in_names(sender).is_none() {
            return;
        }
        if let Some(slices) = self.sketches.get_mut(slice.sketch) {
            // What does not go on from what is here is asked for again.
            slices.follow_top(&slice, list.head(), list.entries());
        }
    }

    /// The member with which names are exchanged; none where they are not.
    fn partner_in_names(&mut self, sender: Sender) -> Option<&mut Peer> {
        if !self.may_tell_names() {
            return None;
        }
        let peer = self.peers.get_mut(sender.boot);
        let member = peer.filter(|peer| peer.is_live_member());
        if member.is_none() {
            self.refusals.count("top_of_no_member");
        }
        member
    }

    /// Whether names of keys may go to others now. Nothing of a slice does as long as its name may be somebody else's.
    fn may_tell_names(&self) -> bool {
        self.shares_names && !self.naming.is_any_open()
    }
}

/// Offers those lists that are of sketches that both have.
fn offer(peer: &mut Peer, lists: &[SliceId]) {
    let common: Vec<SliceId> = (lists.iter().copied())
        .filter(|slice| peer.exchanges(slice.sketch))
        .collect();
    for lists in common.chunks(LISTS_A_FRAME) {
        let lists = lists.to_vec();
        peer.queue(QueuedFrame::TopOffered { lists });
    }
}

/// The sum over all lists of sketches that both have; 0 is hardly anything but none.
fn sum<'s>(peer: &Peer, sketches: impl Iterator<Item = &'s Slices>) -> u64 {
    let is_same = |slices: &&Slices| peer.agreement(slices.own_slice().sketch) == Agreement::Same;
    let sums = sketches.filter(is_same).map(Slices::top_sum);
    sums.fold(0, u64::wrapping_add)
}
