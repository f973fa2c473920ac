//! Log lines for the events of a cluster.

use tracing::{info, warn};

use super::name;
use super::status::{what_is_missing, what_new_writer_means, what_shared_node_means};
use crate::status::hex;
use rmbd_cluster::membership::MembershipEvent;
use rmbd_cluster::{ClusterEvent, NameTaken, NewWriter};
use rmbd_store::SliceRefused;

/// Logs what an event means for the operator of the node.
pub(super) fn log(event: &ClusterEvent) {
    match event {
        ClusterEvent::Member(event) => log_member(event),
        ClusterEvent::OtherSketch {
            from,
            sketch,
            ours,
            theirs: Some(theirs),
        } => warn!(
            %from,
            %sketch,
            theirs = hex(*theirs),
            ours = hex(*ours),
            "a node with another sketch, or another --seed: nothing is exchanged with it, width, depth, hash and \
             seed must be the same on all nodes (said once)"
        ),
        ClusterEvent::OtherSketch {
            from,
            sketch,
            theirs: None,
            ..
        } => warn!(
            %from,
            %sketch,
            "a node that does not have this sketch: nothing of it is exchanged with it, give all nodes the same \
             sketches (said once)"
        ),
        ClusterEvent::NoKeyOpens { from } => warn!(
            %from,
            "what it sends is sealed with none of our keys, and was refused: give all nodes the same \
             --cluster-key-file (said once)"
        ),
        ClusterEvent::SliceRefused { slice, reason } => {
            let cure = match reason {
                SliceRefused::TooManyOrigins { .. } => ": raise --max-origins, and restart",
                SliceRefused::Memory { .. } => ": raise --max-memory, and restart",
                _ => "",
            };
            warn!(
                "the {} is not held, counts lack it: {reason}{cure}",
                name(slice)
            );
        }
        ClusterEvent::NewWriter(new) => log_new_writer(new),
        ClusterEvent::SharedNode(shared) => warn!(
            node = hex(shared.node),
            "{} (said once)",
            what_shared_node_means(shared)
        ),
        ClusterEvent::OneWayEnded { target, is_member } => {
            let why = if *is_member {
                "it is a member now"
            } else {
                "it does not answer"
            };
            info!(%target, "not pushed to one way any more: {why}");
        }
        ClusterEvent::NotSynced { state } => warn!(
            "ready without {}",
            what_is_missing(*state).unwrap_or_default()
        ),
        ClusterEvent::Synced { after } => {
            info!(
                "everything that the cluster had is here, after {:.1} s",
                after.as_secs_f64()
            );
        }
    }
}

fn log_new_writer(new: &NewWriter) {
    let text = what_new_writer_means(new);
    match new.reason {
        // The usual end of a node that is alone.
        NameTaken::Unasked => info!("{text}"),
        _ => warn!("{text}"),
    }
}

fn log_member(event: &MembershipEvent) {
    match event {
        MembershipEvent::Up(member) => info!(member = %member.address, "a member is up"),
        MembershipEvent::Down(member) => {
            info!(member = %member.address, "a member is down; what it counted stays");
        }
        MembershipEvent::Renamed { new, .. } => {
            info!(member = %new.address, "a member was started again, or came back");
        }
        MembershipEvent::Rejoined(_) => info!("came back after others had declared this node down"),
        MembershipEvent::AddressClaimed { by } => warn!(
            "another process claims our address {}: if this is said again, two nodes have the same --advertise",
            by.address
        ),
        MembershipEvent::Suspected(_) | MembershipEvent::Trusted(_) => {}
    }
}
