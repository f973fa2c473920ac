//! Telling how the cluster is.

use std::net::SocketAddr;
use std::time::Duration;

use super::Cluster;
use crate::gossip::peers::{Peer, PeerKind};
use crate::gossip::sketches::OurSlice;
use crate::gossip::state::{Agreement, ClusterState, MemberView, OneWayView};
use crate::membership::{Member, MemberState};
use rmbd_proto::Boot;
use rmbd_proto::cluster::SliceId;
use rmbd_store::Slices;

/// Slices that are missing and named, of all sketches together: they are for people, and some thousands stand for a
/// limit that is far too low.
const SLICES_MISSING_MAX: usize = 256;
/// So many of each sketch are named, whatever others lack.
const MISSING_OF_A_SKETCH_MIN: usize = 16;

impl Cluster {
    /// Everything at once.
    #[must_use]
    pub fn status(&self, now: Duration) -> ClusterState {
        let members = self.membership.members();
        let one_way = self.one_way.all();
        ClusterState {
            me: *self.membership.me(),
            members: members
                .map(|(member, state)| self.member_view(now, member, state))
                .collect(),
            one_way: one_way
                .map(|(address, boot)| self.one_way_view(now, address, boot))
                .collect(),
            rounds: self.rounds.count(),
            version: self.sketches.iter().map(Slices::own_version).sum(),
            sent: self.outbox.sent(),
            received: self.inbox.received(),
            resends: self.peers.resends(),
            urgent_full_rounds: self.urgent.full_rounds(),
            refused: self.refusals.by_reason().clone(),
            slices_missing: self.slices_missing(),
            not_opened: self.events.strangers().collect(),
            other_sketch: self.other_sketch(),
            pulls: self.repair.pulls(),
            converged_age: self.converged_age(now),
            is_ready: self.is_ready(),
            readiness: self.readiness.state(),
            is_name_open: self.naming.is_any_open(),
            new_writer: self.naming.new_writer(),
            shared_nodes: self.shared_nodes(),
        }
    }

    /// The slices themselves know it: of what a snapshot file had and what is refused already, nothing ever comes here.
    fn slices_missing(&self) -> Vec<SliceId> {
        let mut missing = Vec::new();
        for slices in self.sketches.iter() {
            let room = SLICES_MISSING_MAX.saturating_sub(missing.len());
            let room = room.max(MISSING_OF_A_SKETCH_MIN);
            missing.extend(slices.missing().take(room));
        }
        missing
    }

    fn other_sketch(&self) -> Vec<SocketAddr> {
        let is_gone = |peer: &&Peer| peer.kind() == PeerKind::Member { is_live: false };
        let here = self.peers.iter().filter(|peer| !is_gone(peer));
        let apart = here.filter(|peer| peer.is_apart());
        apart.map(Peer::address).collect()
    }

    fn converged_age(&self, now: Duration) -> Option<Duration> {
        let ours = self.sketches.our_slices();
        let ages = ours.filter_map(|ours| self.converged_age_of(now, ours));
        ages.max()
    }

    fn converged_age_of(&self, now: Duration, ours: OurSlice) -> Option<Duration> {
        self.peers.live_audience_of(ours.sketch).next()?;
        Some(if self.peers.have_converged(ours) {
            Duration::ZERO
        } else {
            self.publishing.converged_age(now, ours.sketch)
        })
    }

    fn member_view(&self, now: Duration, member: &Member, state: MemberState) -> MemberView {
        let peer = self.peers.get(member.boot);
        let ago = |at: Duration| now.saturating_sub(at);
        let held = self
            .sketches
            .iter()
            .map(|slices| slices.held_of(member.node));
        MemberView {
            member: *member,
            state,
            slices: held.sum(),
            lag_versions: peer.map_or(0, |peer| self.lag_versions(peer)),
            lag: peer.map_or(Duration::ZERO, |peer| self.lag(now, peer)),
            bytes_sent: peer.map_or(0, Peer::bytes_sent),
            bytes_received: peer.map_or(0, Peer::bytes_received),
            heard_ago: peer.and_then(Peer::heard_at).map(ago),
            refuses_ours: peer.is_some_and(|peer| peer.progress().is_any_refused()),
            writer: peer.and_then(Peer::writer),
            apart: peer.map_or_else(Vec::new, |peer| peer.apart().collect()),
        }
    }

    fn lag_versions(&self, peer: &Peer) -> u64 {
        // Of others it is not told of any.
        let told = self.sketches.our_slices();
        let told = told.filter(|ours| !is_apart(peer.agreement(ours.sketch)));
        told.map(|ours| {
            ours.version
                .saturating_sub(peer.progress().base(ours.sketch))
        })
        .sum()
    }

    fn lag(&self, now: Duration, peer: &Peer) -> Duration {
        let progress = peer.progress();
        let lags = progress.behind().map(|(sketch, since)| {
            let base = progress.base(sketch);
            self.publishing.lag(now, sketch, base, since)
        });
        lags.max().unwrap_or_default()
    }

    fn one_way_view(&self, now: Duration, address: SocketAddr, boot: Option<Boot>) -> OneWayView {
        let peer = boot.and_then(|boot| self.peers.get(boot));
        let heard_at = self.one_way.heard_at(address);
        OneWayView {
            address,
            peer: peer.map(|peer| (peer.node(), peer.boot())),
            heard_ago: heard_at.map(|at| now.saturating_sub(at)),
            lag_versions: peer.map_or(0, |peer| self.lag_versions(peer)),
            apart: peer.map_or_else(Vec::new, |peer| peer.apart().collect()),
        }
    }
}

fn is_apart(agreement: Agreement) -> bool {
    matches!(agreement, Agreement::Other { .. } | Agreement::Lacks)
}
