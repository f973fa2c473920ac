//! The cluster's part of a status.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use super::queues::QueueGauge;
use super::{Participation, SharedCluster, name};
use crate::status::{
    ClusterStatus, MemberStatus, NewWriterStatus, OneWayStatus, OtherSketch, QueueStatus,
    Readiness, SLICES_LISTED_MAX, SharedNodeStatus, SliceStatus, hex,
};
use rmbd_cluster::membership::MemberState;
use rmbd_cluster::{
    Agreement, Cluster, ClusterState, NameTaken, NewWriter, READY_LIMIT, ReadyState, SharedNode,
    Traffic,
};
use rmbd_proto::cluster::SliceId;
use rmbd_proto::{Boot, SketchNumber};
use rmbd_store::{Registry, Replica, Slices};

impl Participation {
    /// The cluster's part of `/status`, and what `/readyz` waits for.
    pub(crate) fn status(
        &self,
        boot: Boot,
        registry: &Registry,
        now: Duration,
    ) -> (ClusterStatus, Readiness) {
        let replicas = || registry.sketches().iter().map(|sketch| &*sketch.replica);
        let own = registry.sketches()[0].replica.own_slice();
        let alone = ClusterStatus {
            node: hex(own.node),
            boot: boot.to_string(),
            writer: own.writer.to_string(),
            ..ClusterStatus::default()
        };
        match self {
            Self::Off(reason) => {
                let off = ClusterStatus {
                    off_because: Some(reason.clone()),
                    slices: replicas().map(|replica| own_slice(replica, None)).collect(),
                    slices_held: replicas().count() as u64,
                    slices_of_this_node: replicas().count() as u64,
                    slices_weight: replicas().map(|it| it.own().total_weight()).sum(),
                    ..alone
                };
                (off, Readiness::default())
            }
            Self::On(cluster) => cluster.status(registry, now, alone),
        }
    }
}

impl SharedCluster {
    fn status(
        &self,
        registry: &Registry,
        now: Duration,
        known: ClusterStatus,
    ) -> (ClusterStatus, Readiness) {
        let (state, known) = {
            let cluster = self.lock();
            let known = with_slices(known, registry, &cluster);
            (cluster.status(now), known)
        };
        let readiness = readiness(&state);
        let queues: Vec<QueueStatus> = self.gauges().iter().map(QueueGauge::status).collect();
        let status = ClusterStatus {
            enabled: true,
            boot: state.me.boot.to_string(),
            name_open: state.is_name_open,
            new_writer: state.new_writer.as_ref().map(new_writer),
            shared_nodes: state.shared_nodes.iter().map(shared_node).collect(),
            address: Some(self.bound().to_string()),
            advertised: state
                .me
                .is_plausible()
                .then(|| state.me.address.to_string()),
            sealed: self.is_sealed(),
            members: state.members.iter().map(member).collect(),
            one_way: state.one_way.iter().map(one_way).collect(),
            slices_refused: state.slices_missing.iter().map(name).collect(),
            rounds: state.rounds,
            datagrams_sent: state.sent.datagrams,
            datagrams_received: state.received.datagrams,
            bytes_sent: by_kind(&state.sent),
            bytes_received: by_kind(&state.received),
            resends: state.resends,
            urgent_full_rounds: state.urgent_full_rounds,
            refused: by_name(&state.refused),
            dropped_by_kernel: queues.iter().map(|queue| queue.dropped_by_kernel).sum(),
            flood_pauses: queues.iter().map(|queue| queue.pauses).sum(),
            queues,
            convergence_age_s: state.converged_age.map(|age| age.as_secs_f64()),
            ..known
        };
        (status, readiness)
    }
}

/// Largest number of addresses that are named; the rest is given as a number.
const STRANGERS_NAMED: usize = 4;

fn readiness(state: &ClusterState) -> Readiness {
    let mut readiness = Readiness::default();
    let missing = if state.is_ready {
        &mut readiness.lacks
    } else {
        &mut readiness.waits_for
    };
    if let Some(what) = what_is_missing(state.readiness) {
        missing.push(format!("{what} ({})", time_for_it(state.is_ready)));
        missing.extend(strangers(
            &state.not_opened,
            "sealed with none of our keys: give all nodes the same --cluster-key-file",
        ));
    }
    readiness.lacks.extend(strangers(
        &state.other_sketch,
        "of another sketch: give all nodes the same width, depth, hash and seed",
    ));
    for slice in &state.slices_missing {
        readiness.lacks.push(format!(
            "the {}: raise --max-origins or --max-memory",
            name(slice)
        ));
    }
    readiness
}

/// The part of what the cluster had when this node joined it that is not here yet, in words.
pub(super) fn what_is_missing(readiness: ReadyState) -> Option<String> {
    match readiness {
        ReadyState::Complete => None,
        ReadyState::Alone => {
            Some("the cluster: no member that --join names has answered".to_owned())
        }
        ReadyState::Syncing {
            members_asked,
            members_heard,
            slices_missing,
        } => Some(format!(
            "all that the cluster had: {members_heard} of {members_asked} members have told what they hold, and \
             {slices_missing} slices of it are not here"
        )),
    }
}

/// How long a node waits for that.
fn time_for_it(is_ready: bool) -> String {
    let limit_s = READY_LIMIT.as_secs();
    if is_ready {
        format!("the {limit_s} s are over in which it should have come")
    } else {
        format!("at most {limit_s} s from the start")
    }
}

fn strangers(addresses: &[SocketAddr], what: &str) -> Option<String> {
    let named: Vec<String> = addresses
        .iter()
        .take(STRANGERS_NAMED)
        .map(SocketAddr::to_string)
        .collect();
    let more = match addresses.len().saturating_sub(STRANGERS_NAMED) {
        0 => String::new(),
        more => format!(" and {more} others"),
    };
    (!named.is_empty()).then(|| format!("what {}{more} sends, which is {what}", named.join(", ")))
}

fn new_writer(new: &NewWriter) -> NewWriterStatus {
    NewWriterStatus {
        reason: match new.reason {
            NameTaken::SameWriter => "same_writer",
            NameTaken::LaterVersion { .. } => "later_version",
            NameTaken::OtherCells { .. } => "other_cells",
            NameTaken::Unanswered => "unanswered",
            NameTaken::Unasked => "unasked",
        }
        .to_owned(),
        detail: what_new_writer_means(new),
        may_count_twice: may_count_twice(new.reason),
        by: new.by.map(|by| by.to_string()),
        before: new.before.to_string(),
    }
}

/// Whether something may have gone out under a name that was not ours alone.
fn may_count_twice(reason: NameTaken) -> bool {
    match reason {
        NameTaken::SameWriter | NameTaken::LaterVersion { .. } | NameTaken::OtherCells { .. } => {
            true
        }
        NameTaken::Unanswered | NameTaken::Unasked => false,
    }
}

/// Why a new writer was taken, and what follows from it, in words.
pub(super) fn what_new_writer_means(new: &NewWriter) -> String {
    let by = new.by.map_or_else(String::new, |by| format!(" ({by})"));
    match new.reason {
        NameTaken::SameWriter => format!(
            "another node runs on a copy of our --data-dir{by}: both count apart from now on; nothing is hidden, and \
             what they had told others before may count twice"
        ),
        NameTaken::LaterVersion { sketch, .. } | NameTaken::OtherCells { sketch, .. } => format!(
            "others have more of what we counted before than we{by}, in sketch {sketch}: --data-dir is a copy or a \
             backup; we count apart from now on, nothing is hidden, and what had been told under the earlier name may \
             count twice"
        ),
        NameTaken::Unanswered => {
            "nobody has told what it has of what we counted before: we count apart from now on, which loses nothing"
                .to_owned()
        }
        NameTaken::Unasked => {
            "nobody was there to tell what it has of what we counted before: what was added since is kept apart, which \
             loses nothing"
                .to_owned()
        }
    }
}

fn shared_node(shared: &SharedNode) -> SharedNodeStatus {
    SharedNodeStatus {
        node: hex(shared.node),
        addresses: shared.addresses.iter().map(ToString::to_string).collect(),
        detail: what_shared_node_means(shared),
    }
}

/// What it means that several members have one number, in words.
pub(super) fn what_shared_node_means(shared: &SharedNode) -> String {
    let addresses: Vec<String> = shared.addresses.iter().map(ToString::to_string).collect();
    format!(
        "{} are one node by its number: do they run on copies of one --data-dir? All that they count is counted, and \
         what was told before it was noticed may count twice; end one of them and remove its --data-dir",
        addresses.join(" and ")
    )
}

fn member(member: &rmbd_cluster::MemberView) -> MemberStatus {
    MemberStatus {
        node: hex(member.member.node),
        boot: member.member.boot.to_string(),
        address: member.member.address.to_string(),
        client_port: member.member.client_port,
        state: match member.state {
            MemberState::Alive => "alive",
            MemberState::Suspect => "suspect",
            MemberState::Down => "down",
        }
        .to_owned(),
        slices: member.slices as u64,
        lag_versions: member.lag_versions,
        lag_s: member.lag.as_secs_f64(),
        heard_s: member.heard_ago.map(|ago| ago.as_secs_f64()),
        bytes_sent: member.bytes_sent,
        bytes_received: member.bytes_received,
        refuses_ours: member.refuses_ours,
        writer: member.writer.map(|writer| writer.to_string()),
        other_sketches: other_sketches(&member.apart),
    }
}

fn one_way(target: &rmbd_cluster::OneWayView) -> OneWayStatus {
    OneWayStatus {
        address: target.address.to_string(),
        node: target.peer.map(|(node, _)| hex(node)),
        boot: target.peer.map(|(_, boot)| boot.to_string()),
        heard_s: target.heard_ago.map(|ago| ago.as_secs_f64()),
        lag_versions: target.lag_versions,
        other_sketches: other_sketches(&target.apart),
    }
}

fn other_sketches(apart: &[(SketchNumber, Agreement)]) -> Vec<OtherSketch> {
    let other = |&(sketch, agreement): &(SketchNumber, Agreement)| OtherSketch {
        sketch: sketch.0,
        fingerprint: match agreement {
            Agreement::Other { theirs } => Some(hex(theirs)),
            _ => None,
        },
    };
    apart.iter().map(other).collect()
}

/// The slices of all sketches: our own ones in the order of the sketches, then the largest learnt ones.
fn with_slices(known: ClusterStatus, registry: &Registry, cluster: &Cluster) -> ClusterStatus {
    let mut learnt: Vec<SliceStatus> = cluster.all_slices().flat_map(largest).collect();
    learnt.sort_by_key(|slice| Reverse(slice.weight));
    learnt.truncate(SLICES_LISTED_MAX);
    let replicas = registry.sketches().iter().map(|sketch| &sketch.replica);
    let own = replicas.map(|replica| {
        let slices = cluster.slices_of(replica.own_slice().sketch);
        own_slice(replica, slices)
    });
    let SliceId { node, writer, .. } = registry.sketches()[0].replica.own_slice();
    let all = || cluster.all_slices();
    ClusterStatus {
        writer: writer.to_string(),
        slices: own.chain(learnt).collect(),
        slices_held: all().map(|slices| slices.digest_lines() as u64).sum(),
        slices_of_this_node: all().map(|slices| slices.held_of(node) as u64).sum(),
        slices_weight: all().map(Slices::weight).fold(0, u64::saturating_add),
        ..known
    }
}

/// The largest learnt slices of a sketch.
fn largest(slices: &Slices) -> impl Iterator<Item = SliceStatus> {
    let learnt = slices.largest(SLICES_LISTED_MAX).into_iter();
    learnt.map(|learnt| SliceStatus {
        sketch: learnt.slice.sketch.0,
        node: hex(learnt.slice.node),
        writer: learnt.slice.writer.to_string(),
        own: false,
        version: learnt.version,
        root: Some(hex(slices.root(&learnt.slice))),
        weight: learnt.weight,
        memory_bytes: learnt.memory_bytes,
    })
}

fn own_slice(replica: &Replica, slices: Option<&Slices>) -> SliceStatus {
    let slice = replica.own_slice();
    SliceStatus {
        sketch: slice.sketch.0,
        node: hex(slice.node),
        writer: slice.writer.to_string(),
        own: true,
        version: slices.map_or(0, Slices::own_version),
        root: slices.map(|slices| hex(slices.root(&slice))),
        // With what an earlier start had counted, where the slice goes on from there.
        weight: slices.map_or_else(
            || replica.own().total_weight(),
            |slices| slices.weight_of(&slice),
        ),
        memory_bytes: replica.own().geometry().memory_bytes(),
    }
}

fn by_kind(traffic: &Traffic) -> BTreeMap<String, u64> {
    let kinds = traffic.by_kind().into_iter();
    kinds
        .map(|(kind, bytes)| (kind.to_owned(), bytes))
        .collect()
}

fn by_name(counts: &BTreeMap<&'static str, u64>) -> BTreeMap<String, u64> {
    let counts = counts.iter();
    counts
        .map(|(&name, &count)| (name.to_owned(), count))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::NEW_WRITER_REASONS;
    use rmbd_proto::Writer;

    #[test]
    fn each_reason_for_a_new_writer_has_a_name_and_says_what_it_means_for_counts() {
        let (sketch, version) = (SketchNumber(7), 9);
        let reasons = [
            NameTaken::SameWriter,
            NameTaken::LaterVersion { sketch, version },
            NameTaken::OtherCells { sketch, version },
            NameTaken::Unanswered,
            NameTaken::Unasked,
        ];
        let status = |reason| {
            new_writer(&NewWriter {
                reason,
                by: None,
                before: Writer(1),
                writer: Writer(2),
            })
        };
        let all = reasons.map(status);
        assert!(all.iter().map(|it| &*it.reason).eq(NEW_WRITER_REASONS));
        for told in &all {
            let says = |words| told.detail.contains(words);
            let may_count_twice = says("nothing is hidden") && says("may count twice");
            assert_eq!(told.may_count_twice, may_count_twice, "{told:?}");
            assert_eq!(says("loses nothing"), !may_count_twice, "{told:?}");
        }
    }
}
