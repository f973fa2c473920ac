//! What a cluster tells of itself.

use std::net::SocketAddr;
use std::time::Duration;

use super::peer::{Kind, Peer};
use super::state::{ClusterState, MemberStatus, OneWayStatus};
use super::{Cluster, Target};
use crate::cluster::membership::{Member, MemberState};
use crate::wire::cluster::SliceId;

impl Cluster {
    /// Everything at once.
    #[must_use]
    pub fn status(&self, now: Duration) -> ClusterState {
        ClusterState {
            me: *self.membership.me(),
            members: self
                .membership
                .members()
                .map(|(member, state)| self.member_status(now, member, state))
                .collect(),
            one_way: self
                .targets
                .iter()
                .map(|(&address, target)| self.target_status(now, address, target))
                .collect(),
            rounds: self.rounds,
            version: self.slices.own_version(),
            sent: self.sent,
            received: self.received,
            resends: self.resends,
            refused: self.refused.clone(),
            slices_missing: self.slices_missing(),
            not_opened: self.strangers.iter().copied().collect(),
            other_sketch: self.other_sketch(),
            pulls: self.repair.pulls(),
            converged_age: self.converged_age(now),
            is_ready: self.is_ready(),
            readiness: self.readiness.state(),
        }
    }

    /// Some may have found room since.
    fn slices_missing(&self) -> Vec<SliceId> {
        let lacks = |slice: &&SliceId| self.slices.lacks(slice);
        self.missing.iter().filter(lacks).copied().collect()
    }

    fn other_sketch(&self) -> Vec<SocketAddr> {
        let is_gone = |peer: &&Peer| peer.kind == Kind::Member { is_live: false };
        let here = self.peers.values().filter(|peer| !is_gone(peer));
        let apart = here.filter(|peer| peer.apart().next().is_some());
        apart.map(|peer| peer.address).collect()
    }

    fn converged_age(&self, now: Duration) -> Option<Duration> {
        let version = self.slices.own_version();
        let mut live = self.live_audience();
        let first = live.next()?;
        if first.push.is_done(version) && live.all(|peer| peer.push.is_done(version)) {
            return Some(Duration::ZERO);
        }
        // Not once yet: since the node came up.
        Some(now.saturating_sub(self.converged_at.unwrap_or(self.started_at)))
    }

    fn member_status(&self, now: Duration, member: &Member, state: MemberState) -> MemberStatus {
        let peer = self.peers.get(&member.boot);
        let ago = |at: Duration| now.saturating_sub(at);
        MemberStatus {
            member: *member,
            state,
            slices: self.slices.held_of(member.node),
            lag_versions: peer.map_or(0, |peer| self.lag_versions(peer)),
            lag: peer
                .and_then(|peer| peer.behind_since)
                .map_or(Duration::ZERO, |since| self.lag(now, peer, since)),
            bytes_sent: peer.map_or(0, |peer| peer.bytes_sent),
            bytes_received: peer.map_or(0, |peer| peer.bytes_received),
            heard_ago: peer.and_then(|peer| peer.heard_at).map(ago),
            refuses_ours: peer.is_some_and(|peer| peer.push.is_refused()),
            writer: peer.and_then(|peer| Some(peer.told.as_ref()?.writer)),
            apart: peer.map_or_else(Vec::new, |peer| peer.apart().collect()),
        }
    }

    fn lag_versions(&self, peer: &Peer) -> u64 {
        if peer.apart().next().is_some() {
            // It is not told of any.
            return 0;
        }
        self.slices.own_version().saturating_sub(peer.push.base)
    }

    /// Since the oldest version that it lacks was published; or, where that is not known any more,
    /// since it fell behind.
    fn lag(&self, now: Duration, peer: Option<&Peer>, since: Duration) -> Duration {
        let base = peer.map_or(0, |peer| peer.push.base);
        let missing = self.published.iter().find(|&&(version, _)| version > base);
        let published_at = missing.map_or(since, |&(_, at)| at.max(since));
        now.saturating_sub(published_at)
    }

    fn target_status(&self, now: Duration, address: SocketAddr, target: &Target) -> OneWayStatus {
        let peer = target.boot.and_then(|boot| self.peers.get(&boot));
        OneWayStatus {
            address,
            peer: peer.map(|peer| (peer.node, peer.boot)),
            heard_ago: target.boot.map(|_| now.saturating_sub(target.heard_at)),
            lag_versions: peer.map_or(0, |peer| self.lag_versions(peer)),
            apart: peer.map_or_else(Vec::new, |peer| peer.apart().collect()),
        }
    }
}
