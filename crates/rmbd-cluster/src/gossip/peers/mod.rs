//! The other nodes, as far as data goes: who is there, what each has, and what waits to go to it.
//!
//! A [`Peer`] is one start of a node. Membership makes most of them; others push to us one way, or are pushed to.

mod about;
mod digest_line;
mod peer;
mod queue;
mod received;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::ops::Bound::{Excluded, Unbounded};
use std::ops::RangeInclusive;
use std::time::Duration;

use rand::RngExt;
use rand::rngs::ChaCha12Rng;

pub(crate) use self::about::{AboutPart, Ourselves};
pub(crate) use self::digest_line::DigestLine;
pub(crate) use self::peer::{Peer, PeerKind};
pub(crate) use self::queue::QueuedFrame;
use super::limits::ClusterLimits;
use super::sketches::{OurSlice, Sketches};
use super::transport::Sender;
use crate::membership::Member;
use rmbd_proto::cluster::SliceId;
use rmbd_proto::{Boot, SketchNumber, Writer};

/// A peer that pushes to us one way is forgotten when nothing was heard of it for this long.
const SILENT_MAX: Duration = Duration::from_secs(30);

/// All peers.
#[derive(Debug)]
pub(crate) struct Peers {
    all: BTreeMap<Boot, Peer>,
    limits: ClusterLimits,
    /// The peer that was served last; the next one's turn is after it.
    turn: Boot,
    /// Pieces that were lost, and sent again.
    resends: u64,
}

/// A change that membership saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MemberChange {
    CameUp,
    WentDown,
}

impl Peers {
    /// Nobody is known yet.
    pub(crate) fn new(limits: ClusterLimits) -> Self {
        Self {
            all: BTreeMap::new(),
            limits,
            turn: Boot(0),
            resends: 0,
        }
    }

    /// Nobody is known any more: to all of them this node is another start. What was counted in all stays.
    pub(crate) fn begin_again(&mut self) {
        let resends = self.resends;
        *self = Self {
            resends,
            ..Self::new(self.limits)
        };
    }

    pub(crate) fn get(&self, boot: Boot) -> Option<&Peer> {
        self.all.get(&boot)
    }

    pub(crate) fn get_mut(&mut self, boot: Boot) -> Option<&mut Peer> {
        self.all.get_mut(&boot)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Peer> + Clone {
        self.all.values()
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Peer> {
        self.all.values_mut()
    }

    /// Members that are up.
    pub(crate) fn live_members(&self) -> impl Iterator<Item = &Peer> + Clone {
        self.iter().filter(|peer| peer.is_live_member())
    }

    /// Whether a member that is up has this address.
    pub(crate) fn is_live_address(&self, address: SocketAddr) -> bool {
        self.live_members().any(|peer| peer.address() == address)
    }

    /// Peers that get our slice in some sketch, or may yet say that they want it.
    pub(crate) fn audience(&self) -> impl Iterator<Item = &Peer> {
        self.iter().filter(|peer| peer.is_audience())
    }

    pub(crate) fn has_audience(&self) -> bool {
        self.audience().next().is_some()
    }

    /// Whether a peer gets our slice in this sketch, or may yet say that it wants it.
    pub(crate) fn has_audience_of(&self, sketch: SketchNumber) -> bool {
        self.iter().any(|peer| peer.is_audience_of(sketch))
    }

    /// The members among those who get our slice in this sketch.
    pub(crate) fn live_audience_of(&self, sketch: SketchNumber) -> impl Iterator<Item = &Peer> {
        let live = self.live_members();
        live.filter(move |peer| peer.is_audience_of(sketch))
    }

    /// Whether all members that are to have our slice have all of it.
    pub(crate) fn have_converged(&self, ours: OurSlice) -> bool {
        let mut live = self.live_audience_of(ours.sketch);
        live.all(|peer| peer.progress().has(ours))
    }

    /// Whether everybody who is to be told has all of our slice, as far as there is room for it.
    pub(crate) fn have_heard(&self, ours: OurSlice) -> bool {
        let audience = self.iter().filter(|peer| peer.is_audience_of(ours.sketch));
        let mut audience = audience.map(Peer::progress);
        audience.all(|progress| progress.has(ours) || progress.is_refused(ours.sketch))
    }

    /// Whether a peer writes a slice itself.
    pub(crate) fn is_its_own(&self, boot: Boot, slice: &SliceId) -> bool {
        self.get(boot).is_some_and(|peer| peer.writes(slice))
    }

    /// Whether a member that is up, and was heard within `lately`, writes a slice: what is missing of it is probably on
    /// its way.
    pub(crate) fn is_pushed_by_live(
        &self,
        now: Duration,
        lately: Duration,
        slice: &SliceId,
    ) -> bool {
        let mut live = self.live_members();
        live.any(|peer| peer.writes(slice) && peer.was_heard(now, lately))
    }

    /// Whether a member that is up writes a slice.
    pub(crate) fn is_live_writer(&self, slice: &SliceId) -> bool {
        self.live_members().any(|peer| peer.writes(slice))
    }

    /// The present writer of each node that is up and has told it. Where two members have one node number, it is one of
    /// them: what the other one writes is told as what earlier starts wrote is.
    pub(crate) fn present_writers(&self) -> BTreeMap<u64, Writer> {
        let live = self.live_members();
        live.filter_map(|peer| Some((peer.node(), peer.writer()?)))
            .collect()
    }

    /// The peer that a datagram came from; one of this kind is made, where there is room, for a sender that is not
    /// known.
    pub(crate) fn of_sender(
        &mut self,
        now: Duration,
        sender: Sender,
        kind: PeerKind,
    ) -> Option<&mut Peer> {
        if !self.all.contains_key(&sender.boot) {
            let mut peer = self.make(sender, kind)?;
            peer.note_alive(now);
            self.all.insert(sender.boot, peer);
        }
        self.all.get_mut(&sender.boot)
    }

    /// Takes over what membership says of a member; returns what has changed for it. One that is not known is made
    /// where it is up and there is room.
    pub(crate) fn follow_member(&mut self, member: &Member, is_live: bool) -> Option<MemberChange> {
        if !self.all.contains_key(&member.boot) {
            let sender = Sender {
                boot: member.boot,
                node: member.node,
                address: member.address,
            };
            let peer =
                is_live.then(|| self.make(sender, PeerKind::Member { is_live: false }))??;
            self.all.insert(member.boot, peer);
        }
        self.get_mut(member.boot)?.follow(member, is_live)
    }

    /// Peers that are not among the members that membership knows are members no longer; returns which those were.
    pub(crate) fn keep_members(&mut self, known: &BTreeSet<Boot>) -> Vec<Boot> {
        let gone = |peer: &&mut Peer| peer.is_member() && !known.contains(&peer.boot());
        let gone = self.iter_mut().filter(gone);
        gone.map(|peer| {
            peer.become_source();
            peer.boot()
        })
        .collect()
    }

    pub(crate) fn remove(&mut self, boot: Boot) {
        self.all.remove(&boot);
    }

    /// Forgets peers that pushed to us one way and have been silent for long; returns which those were.
    pub(crate) fn forget_silent(&mut self, now: Duration) -> Vec<Boot> {
        let is_silent = |peer: &&Peer| {
            let heard_at = peer.heard_at().unwrap_or_default();
            peer.is_source() && now.saturating_sub(heard_at) > SILENT_MAX
        };
        let silent: Vec<Boot> = self.iter().filter(is_silent).map(Peer::boot).collect();
        for &boot in &silent {
            self.remove(boot);
        }
        silent
    }

    /// A member that is up and has a sketch of ours, at random; every other time one that was heard within
    /// `lately`, if there is any: of those who have just died many may still pass for alive.
    pub(crate) fn choose_member(
        &self,
        now: Duration,
        lately: Duration,
        random: &mut ChaCha12Rng,
    ) -> Option<Boot> {
        let live = self.live_members().filter(|peer| peer.exchanges_any());
        let heard = live.clone().filter(|peer| peer.was_heard(now, lately));
        let heard: Vec<Boot> = heard.map(Peer::boot).collect();
        let all: Vec<Boot> = live.map(Peer::boot).collect();
        let prefers_heard = random.random_bool(0.5) && !heard.is_empty();
        let choice = if prefers_heard { heard } else { all };
        (!choice.is_empty()).then(|| choice[random.random_range(0..choice.len())])
    }

    /// A version was published just now: everybody who is to have it is brought there.
    pub(crate) fn begin_published(&mut self, now: Duration, ours: OurSlice) {
        let peers = self.all.values_mut();
        for peer in peers.filter(|peer| peer.is_audience_of(ours.sketch)) {
            peer.progress_mut().begin_published(now, ours);
        }
    }

    /// Takes a peer's ack of what went out on our present channel to it, and goes on to what is published.
    pub(crate) fn take_ack(
        &mut self,
        now: Duration,
        boot: Boot,
        ranges: impl Iterator<Item = RangeInclusive<u64>>,
        sketches: &Sketches,
    ) {
        if let Some(peer) = self.all.get_mut(&boot) {
            self.resends += peer.progress_mut().take_ack(now, ranges, sketches);
        }
    }

    /// Counts pieces as lost that were not acknowledged for too long.
    pub(crate) fn expire(&mut self, now: Duration) {
        for peer in self.all.values_mut() {
            self.resends += peer.progress_mut().expire(now);
        }
    }

    /// Counts pieces as lost that should have been acknowledged by now: there is no time for patience any more.
    pub(crate) fn hurry(&mut self, now: Duration) {
        for peer in self.all.values_mut() {
            self.resends += peer.progress_mut().hurry(now);
        }
    }

    /// Pieces that were lost, and sent again.
    pub(crate) fn resends(&self) -> u64 {
        self.resends
    }

    /// Whose turn it is, in a circle, of those to whom something may go.
    pub(crate) fn take_turn(&mut self, now: Duration, may_send_data: bool) -> Option<Boot> {
        let behind = self.all.range((Excluded(self.turn), Unbounded));
        let before = self.all.range(..=self.turn);
        let (&boot, _) = behind
            .chain(before)
            .find(|(_, peer)| peer.has_frames(now) || (may_send_data && peer.has_data()))?;
        self.turn = boot;
        Some(boot)
    }

    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    /// When something is due: an ack, a loss, or what waits to go out, which for data is when the rate allows it.
    pub(crate) fn next_wake(&self, now: Duration, data_ready_at: Duration) -> Option<Duration> {
        let of_peer = |peer: &Peer| {
            let data = peer.has_data().then(|| data_ready_at.max(now));
            let frames = peer.has_frames(now).then_some(now);
            let times = [peer.next_wake(), data, frames];
            times.into_iter().flatten().min()
        };
        self.iter().filter_map(of_peer).min()
    }

    /// `None` where there is no room.
    fn make(&self, sender: Sender, kind: PeerKind) -> Option<Peer> {
        let has_room = self.all.len() < self.limits.peers;
        has_room.then(|| Peer::new(sender, kind, self.limits))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn sender(n: u16) -> Sender {
        Sender {
            boot: Boot(n.into()),
            node: n.into(),
            address: ([127, 0, 0, 1], n).into(),
        }
    }

    fn peers_of(count: u16) -> Peers {
        let limits = ClusterLimits {
            peers: 4,
            ..ClusterLimits::default()
        };
        let mut peers = Peers::new(limits);
        for n in 1..=count {
            peers.of_sender(SECOND, sender(n), PeerKind::Source);
        }
        peers
    }

    #[test]
    fn there_are_so_many_at_most_until_the_silent_are_forgotten() {
        let mut peers = peers_of(9);
        assert_eq!(peers.len(), 4);
        assert!(
            peers
                .of_sender(SECOND, sender(5), PeerKind::Source)
                .is_none()
        );
        let fourth = peers
            .of_sender(SECOND, sender(4), PeerKind::Source)
            .unwrap();
        fourth.note_alive(SECOND * 20);
        let silent = peers.forget_silent(SECOND * 40);
        assert_eq!(silent, [Boot(1), Boot(2), Boot(3)]);
        assert!(
            peers
                .of_sender(SECOND, sender(5), PeerKind::Source)
                .is_some()
        );
    }

    #[test]
    fn those_who_have_something_to_get_take_turns() {
        let mut peers = peers_of(4);
        for n in [1, 2, 4] {
            let peer = peers.get_mut(Boot(n)).unwrap();
            peer.queue(QueuedFrame::DigestAsked);
        }
        let turns = [(); 5].map(|()| peers.take_turn(SECOND, false).unwrap().0);
        assert_eq!(turns, [1, 2, 4, 1, 2]);
    }

    #[test]
    fn a_member_that_membership_forgets_is_a_source() {
        let mut peers = peers_of(1);
        let member = Member {
            node: 1,
            boot: Boot(1),
            started_ms: 1,
            renewals: 0,
            address: sender(1).address,
            client_port: 0,
        };
        let came_up = Some(MemberChange::CameUp);
        assert_eq!(peers.follow_member(&member, true), came_up);
        assert_eq!(peers.follow_member(&member, true), None);
        assert_eq!(peers.keep_members(&[Boot(1)].into()), []);
        assert_eq!(peers.keep_members(&BTreeSet::new()), [Boot(1)]);
        assert_eq!(peers.live_members().count(), 0);
        assert!(peers.get(Boot(1)).unwrap().is_source());
    }
}
