//! The table of legacy peers, and of the orders to push to some of them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tracing::{info, warn};

use crate::config::NodeConfig;
use crate::status::{PeerOrder, PeerStatus};
use rmbd_cluster::legacy::Pushes;
use rmbd_proto::Writer;
use rmbd_store::{LegacyRows, MergeError, NoMemory, Replica, RowMerged};

/// The table, locked. The control thread and requests for a status use it, never a data thread.
pub(crate) struct LegacyPeers {
    table: Mutex<PeerTable>,
    max_peers: usize,
}

/// The peers that are pushed to, the peers that send rows, and the orders.
pub(crate) struct PeerTable {
    pub(super) pushes: Pushes,
    pub(super) rows: LegacyRows,
    pub(super) received: BTreeMap<SocketAddr, Received>,
    pub(super) orders: OrderLog,
    /// Numbers of rows and orders that were refused, by reason.
    refused: BTreeMap<&'static str, u64>,
}

/// The rows that a legacy peer has sent us.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Received {
    pub(super) last_row: Duration,
    rows: u64,
    restarts: u64,
    /// The writer of the peer's slices, if it turned out to be a node of ours.
    pub(super) writer: Option<Writer>,
}

impl LegacyPeers {
    pub(crate) fn new(config: &NodeConfig, replica: Arc<Replica>) -> Self {
        let (depth, max_peers) = (config.geometry.depth(), config.max_peers);
        Self {
            table: Mutex::new(PeerTable {
                pushes: Pushes::new(depth, config.peer_grace_rounds, max_peers),
                rows: LegacyRows::new(replica, max_peers),
                received: BTreeMap::new(),
                orders: OrderLog::default(),
                refused: BTreeMap::new(),
            }),
            max_peers,
        }
    }

    /// Locks the table. A panic while it was locked cannot have done more than leave out a counter, so poison is
    /// ignored.
    pub(crate) fn lock(&self) -> MutexGuard<'_, PeerTable> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Largest number of peers to push to.
    pub(super) fn max_peers(&self) -> usize {
        self.max_peers
    }
}

impl PeerTable {
    pub(super) fn refuse(&mut self, reason: &'static str) {
        *self.refused.entry(reason).or_default() += 1;
    }

    pub(super) fn note_row(&mut self, from: SocketAddr, outcome: RowMerged, now: Duration) {
        let received = self.received.entry(from).or_default();
        if received.rows == 0 {
            info!(peer = %from, "first row of a legacy peer");
        }
        received.rows += 1;
        received.last_row = now;
        if outcome == RowMerged::Restarted {
            received.restarts += 1;
            info!(peer = %from, "a legacy peer restarted; what it had counted before stays");
        }
    }

    pub(super) fn note_refused_row(&mut self, from: SocketAddr, error: &MergeError) {
        let reason = match error {
            MergeError::PeerTableFull { .. } => "peer_table_full",
            MergeError::Memory(_) => "no_memory_for_peer",
            MergeError::NoSuchRow { .. } | MergeError::Length { .. } => "row_of_another_geometry",
        };
        if !self.refused.contains_key(reason) {
            let option = match error {
                MergeError::Memory(NoMemory::Limit(_)) => " (--max-memory)",
                _ => "",
            };
            warn!(peer = %from, "{error}{option} (said once; /status counts on)");
        }
        self.refuse(reason);
    }
}

// Parts of a status.
impl PeerTable {
    /// Numbers of rows, orders and replies that were refused, by reason.
    pub(crate) fn refused(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.refused.iter().map(|(&name, &count)| (name, count))
    }

    /// The latest orders and their outcomes, oldest first.
    pub(crate) fn latest_orders(&self) -> Vec<PeerOrder> {
        self.orders.latest.iter().cloned().collect()
    }

    /// All peers that are pushed to or have sent rows, by address.
    pub(crate) fn status(&self, now: Duration) -> Vec<PeerStatus> {
        let pushes: BTreeMap<_, _> = self.pushes.peers().collect();
        let addresses: BTreeSet<_> = pushes.keys().chain(self.received.keys()).copied().collect();
        let ago = |then: Duration| now.saturating_sub(then).as_secs_f64();
        addresses
            .into_iter()
            .map(|address| {
                let push = pushes.get(&address).copied().copied();
                let received = self.received.get(&address);
                PeerStatus {
                    address: address.to_string(),
                    pushing: push.is_some(),
                    last_send_s: push.and_then(|push| push.last_send).map(ago),
                    last_ack_s: push.and_then(|push| push.last_ack).map(ago),
                    last_row_s: received.map(|received| ago(received.last_row)),
                    rows_sent: push.map_or(0, |push| push.rows_sent),
                    rows_acked: push.map_or(0, |push| push.rows_acked),
                    rows_received: received.map_or(0, |received| received.rows),
                    restarts: received.map_or(0, |received| received.restarts),
                }
            })
            .collect()
    }
}

/// The latest `peer` orders.
#[derive(Debug, Default)]
pub(super) struct OrderLog {
    given: u64,
    latest: VecDeque<PeerOrder>,
}

impl OrderLog {
    const KEPT: usize = 16;

    pub(super) fn record(
        &mut self,
        from: SocketAddr,
        target: String,
        accepted: bool,
        detail: String,
    ) {
        if self.latest.len() == Self::KEPT {
            self.latest.pop_front();
        }
        self.given += 1;
        let from = from.to_string();
        self.latest.push_back(PeerOrder {
            number: self.given,
            from,
            target,
            accepted,
            detail,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_orders_are_kept_with_their_numbers() {
        let mut orders = OrderLog::default();
        for n in 0..20 {
            orders.record(
                ([127, 0, 0, 1], 1).into(),
                format!("host:{n}"),
                true,
                String::new(),
            );
        }
        let numbers: Vec<u64> = orders.latest.iter().map(|order| order.number).collect();
        assert_eq!(numbers, (5..=20).collect::<Vec<_>>());
    }
}
