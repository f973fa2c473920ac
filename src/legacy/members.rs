//! Members of the cluster, as far as they matter for pushing rows.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use super::peers::PeerTable;
use crate::cluster_io::{SharedCluster, canonical};
use rmbd_cluster::membership::MemberState;
use rmbd_proto::{Boot, Writer};

/// The part of the cluster's state that matters here, as of the latest round.
#[derive(Debug, Default)]
pub(super) struct Members {
    /// Client addresses of live nodes.
    clients: BTreeSet<SocketAddr>,
    /// Cluster addresses of live nodes.
    addresses: BTreeSet<SocketAddr>,
    /// Boots of live nodes.
    boots: BTreeSet<Boot>,
    /// Cluster addresses of nodes that are pushed to one way, and answer.
    one_way: BTreeSet<SocketAddr>,
    /// Writers whose slices are known.
    counted: BTreeSet<Writer>,
}

impl Members {
    pub(super) fn of(cluster: &SharedCluster, now: Duration) -> Self {
        let cluster = cluster.lock();
        let state = cluster.status(now);
        let up = state.members.iter();
        let up = up.filter(|member| member.state != MemberState::Down);
        let mut members = Self::default();
        for up in up {
            let address = up.member.address;
            let client = SocketAddr::new(address.ip(), up.member.client_port);
            members.clients.insert(client);
            members.addresses.insert(address);
            members.boots.insert(up.member.boot);
        }
        let heard = state
            .one_way
            .iter()
            .filter(|target| target.heard_ago.is_some());
        members.one_way = heard.map(|target| target.address).collect();
        let counted = cluster.slices().digests().map(|digest| digest.slice.writer);
        members.counted = counted.collect();
        members
    }

    /// Whether a live node serves clients at this address.
    pub(super) fn is_client_address(&self, address: SocketAddr) -> bool {
        self.clients.contains(&canonical(address))
    }

    /// Whether a live node has this cluster address.
    pub(super) fn has_address(&self, address: SocketAddr) -> bool {
        self.addresses.contains(&address)
    }

    /// Whether this is the boot of a live node.
    pub(super) fn has_boot(&self, boot: Boot) -> bool {
        self.boots.contains(&boot)
    }

    /// Whether this node is pushed to one way, and answers.
    pub(super) fn is_heard(&self, target: SocketAddr) -> bool {
        self.one_way.contains(&target)
    }

    /// Whether the rows that this address sends are counted in slices that we hold.
    pub(super) fn counts(&self, peers: &PeerTable, address: SocketAddr) -> bool {
        let writer = peers
            .received
            .get(&address)
            .and_then(|received| received.writer);
        let is_held = writer.is_some_and(|writer| self.counted.contains(&writer));
        is_held || self.is_client_address(address)
    }
}
