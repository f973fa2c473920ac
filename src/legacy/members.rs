//! Members of the cluster, as far as they matter to who pushes rows.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use super::peers::PeerTable;
use crate::cluster_io::{SharedCluster, canonical};
use rmbd_cluster::membership::MemberState;
use rmbd_proto::{Boot, Writer};

/// What of the cluster matters here, as of the latest round.
#[derive(Debug, Default)]
pub(super) struct Members {
    /// Client addresses of the nodes that are up.
    clients: BTreeSet<SocketAddr>,
    /// Cluster addresses of the nodes that are up.
    addresses: BTreeSet<SocketAddr>,
    /// Starts of nodes that are up.
    boots: BTreeSet<Boot>,
    /// Cluster addresses of those that are pushed to one way, and answer.
    one_way: BTreeSet<SocketAddr>,
    /// Writers that slices are known of.
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

    /// Whether it is where a node that is up serves clients.
    pub(super) fn is_client_address(&self, address: SocketAddr) -> bool {
        self.clients.contains(&canonical(address))
    }

    /// Whether it is where a node that is up is heard by others.
    pub(super) fn has_address(&self, address: SocketAddr) -> bool {
        self.addresses.contains(&address)
    }

    /// Whether it is a start of a node that is up.
    pub(super) fn has_boot(&self, boot: Boot) -> bool {
        self.boots.contains(&boot)
    }

    /// Whether it is pushed to one way, and answers.
    pub(super) fn is_heard(&self, target: SocketAddr) -> bool {
        self.one_way.contains(&target)
    }

    /// Whether what this address sends as rows is in slices that we hold.
    pub(super) fn counts(&self, peers: &PeerTable, address: SocketAddr) -> bool {
        let writer = peers
            .received
            .get(&address)
            .and_then(|received| received.writer);
        let is_held = writer.is_some_and(|writer| self.counted.contains(&writer));
        is_held || self.is_client_address(address)
    }
}
