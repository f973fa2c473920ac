//! The metrics of the cluster.

use std::fmt;

use prometheus_client::registry::Unit;

use super::{Page, by_reason};
use crate::status::{ClusterStatus, MemberStatus, NEW_WRITER_REASONS, QueueStatus};

/// States of a member. Each has a series of its own, also if no member is in it.
const STATES: [&str; 3] = ["alive", "suspect", "down"];

impl Page<'_> {
    /// Encodes the cluster's families. Nodes are not labels: each start of each node would make another series.
    /// `/status` names them.
    pub(super) fn cluster(&mut self, cluster: &ClusterStatus, is_ready: bool) -> fmt::Result {
        self.gauge(
            "rmbd_cluster_enabled",
            "1 where the node takes part in a cluster, or would",
            None,
            u64::from(cluster.enabled),
        )?;
        self.gauge(
            "rmbd_cluster_ready",
            "1 where /readyz says ready: the data threads serve and the first full sync is done or given up",
            None,
            u64::from(is_ready),
        )?;
        self.gauges(
            "rmbd_cluster_members",
            "Other nodes, by state",
            None,
            "state",
            STATES.map(|state| (state, in_state(&cluster.members, state).count() as u64)),
        )?;
        self.gauge(
            "rmbd_cluster_one_way",
            "Nodes that are pushed to one way",
            None,
            cluster.one_way.len(),
        )?;
        self.counter("rmbd_cluster_rounds", "Rounds begun", None, cluster.rounds)?;
        self.names(cluster)?;
        self.traffic(cluster)?;
        self.state(cluster)
    }

    /// Encodes whether this node and others count under names of their own.
    fn names(&mut self, cluster: &ClusterStatus) -> fmt::Result {
        self.gauge(
            "rmbd_cluster_name_open",
            "1 while slices of an earlier start go on, and no node has told what it has of them; they are told to nobody",
            None,
            u64::from(cluster.name_open),
        )?;
        let taken = cluster.new_writer.as_ref();
        let is_taken = |reason: &str| taken.is_some_and(|taken| taken.reason == reason);
        self.gauges(
            "rmbd_cluster_new_writer",
            "1 where this start has taken a new writer, by reason: what was told under the name before may count twice \
             but where nobody could be asked",
            None,
            "reason",
            NEW_WRITER_REASONS.map(|reason| (reason, u64::from(is_taken(reason)))),
        )?;
        self.gauge(
            "rmbd_cluster_shared_nodes",
            "Node numbers that several live nodes have, since they run on copies of one data folder",
            None,
            cluster.shared_nodes.len(),
        )
    }

    fn traffic(&mut self, cluster: &ClusterStatus) -> fmt::Result {
        self.counter(
            "rmbd_cluster_datagrams_sent",
            "Datagrams sent to other nodes",
            None,
            cluster.datagrams_sent,
        )?;
        self.counter(
            "rmbd_cluster_datagrams_received",
            "Datagrams of other nodes that were taken",
            None,
            cluster.datagrams_received,
        )?;
        self.counters_of(
            "rmbd_cluster_sent",
            "Bytes sent to other nodes, by kind",
            Some(&Unit::Bytes),
            "kind",
            by_reason(&cluster.bytes_sent),
        )?;
        self.counters_of(
            "rmbd_cluster_received",
            "Bytes of other nodes that were taken, by kind",
            Some(&Unit::Bytes),
            "kind",
            by_reason(&cluster.bytes_received),
        )?;
        self.counter(
            "rmbd_cluster_resends",
            "Ranges of cells sent again because nobody acknowledged them",
            None,
            cluster.resends,
        )?;
        self.counter(
            "rmbd_cluster_urgent_full_rounds",
            "Rounds in which as many keys near a limit were told ahead of time as a round may tell",
            None,
            cluster.urgent_full_rounds,
        )?;
        self.counters(
            "rmbd_cluster_refused",
            "Datagrams at the cluster port that were refused, by reason",
            "reason",
            by_reason(&cluster.refused),
        )?;
        let queues = |of: fn(&QueueStatus) -> u64| {
            let queues = cluster.queues.iter();
            queues.map(move |queue| (queue.name.as_str(), of(queue)))
        };
        self.counters(
            "rmbd_cluster_queue_received",
            "Datagrams read at the cluster's port, by the queue that the kernel put them in",
            "queue",
            queues(|queue| queue.received),
        )?;
        self.counters(
            "rmbd_cluster_queue_refused",
            "Datagrams read at the cluster's port and refused, by queue",
            "queue",
            queues(|queue| queue.refused),
        )?;
        self.counters(
            "rmbd_cluster_dropped_by_kernel",
            "Dropped at the cluster's port because the queue was full, by queue",
            "queue",
            queues(|queue| queue.dropped_by_kernel),
        )?;
        self.counters(
            "rmbd_cluster_flood_pauses",
            "How often a flood of refused datagrams stopped the reading of a queue for some milliseconds, by queue",
            "queue",
            queues(|queue| queue.pauses),
        )
    }

    fn state(&mut self, cluster: &ClusterStatus) -> fmt::Result {
        let alive = || in_state(&cluster.members, "alive");
        self.gauge(
            "rmbd_cluster_lag_versions",
            "Versions of this node's slice that the slowest live member has not confirmed",
            None,
            alive().map(|member| member.lag_versions).max().unwrap_or(0),
        )?;
        self.gauge(
            "rmbd_cluster_lag",
            "Time since the slowest live member had all that this node had",
            Some(&Unit::Seconds),
            alive().map(|member| member.lag_s).fold(0.0, f64::max),
        )?;
        // An unknown age is no number, so the line is left out.
        if let Some(age_s) = cluster.convergence_age_s {
            self.gauge(
                "rmbd_cluster_convergence_age",
                "Time since all live members were known to have all that this node has",
                Some(&Unit::Seconds),
                age_s,
            )?;
        }
        self.gauge(
            "rmbd_cluster_other_sketch",
            "Other nodes that have another sketch, so that nothing is exchanged with them",
            None,
            (cluster.members.iter())
                .filter(|member| member.state != "down" && !member.other_sketches.is_empty())
                .count(),
        )?;
        self.gauge(
            "rmbd_cluster_slices",
            "Slices held: each start of each node has one",
            None,
            cluster.slices_held,
        )?;
        self.gauge(
            "rmbd_cluster_slices_refused",
            "Slices known to exist and not held, so that counts lack them",
            None,
            cluster.slices_refused.len(),
        )
    }
}

fn in_state<'m>(
    members: &'m [MemberStatus],
    state: &str,
) -> impl Iterator<Item = &'m MemberStatus> {
    members.iter().filter(move |member| member.state == state)
}
