//! The parts of a cluster that a node's threads share. Only the control thread and requests for a status use them.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::ClusterSockets;
use super::queues::QueueGauge;
use rmbd_cluster::Cluster;
use rmbd_cluster::seal::KeyRing;

/// Whether a node takes part in a cluster.
#[derive(Debug)]
pub(crate) enum Participation {
    /// The node takes no part in a cluster; this is the reason.
    Off(String),
    On(Arc<SharedCluster>),
}

impl Participation {
    pub(crate) fn cluster(&self) -> Option<&Arc<SharedCluster>> {
        match self {
            Self::Off(_) => None,
            Self::On(cluster) => Some(cluster),
        }
    }
}

/// The state machine of the cluster, with what other tasks than its own may know and do.
#[derive(Debug)]
pub(crate) struct SharedCluster {
    cluster: Mutex<Cluster>,
    /// A signal to the task that something else has changed the cluster.
    nudge: Notify,
    bound: SocketAddr,
    /// The keys in force.
    keys: Mutex<KeyRing>,
    is_sealed: bool,
    gauges: Vec<QueueGauge>,
}

impl SharedCluster {
    /// Shares a cluster and its sockets.
    ///
    /// # Errors
    /// Fails if the system gives no second descriptor of a socket.
    pub(crate) fn new(cluster: Cluster, sockets: &ClusterSockets) -> io::Result<Self> {
        Ok(Self {
            cluster: Mutex::new(cluster),
            nudge: Notify::new(),
            bound: sockets.bound,
            keys: Mutex::new(sockets.keys.clone()),
            is_sealed: !sockets.keys.is_public(),
            gauges: QueueGauge::all(&sockets.sockets)?,
        })
    }

    /// Locks the cluster. A panic while it was locked ends the control thread, and with it the node, so poison is
    /// ignored.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Cluster> {
        self.cluster.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether somebody panicked while the cluster was locked, so that it may be half-changed.
    pub(crate) fn is_poisoned(&self) -> bool {
        self.cluster.is_poisoned()
    }

    /// The real address on which other nodes reach this one.
    pub(crate) fn bound(&self) -> SocketAddr {
        self.bound
    }

    /// Opens with these keys from now on, and seals with the first of them. Returns those before, or `None` where they
    /// are the same.
    pub(crate) fn set_keys(&self, now: Duration, keys: KeyRing) -> Option<KeyRing> {
        let mut in_force = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        if *in_force == keys {
            return None;
        }
        self.lock().set_keys(now, keys.clone());
        // What is under way with another key is told again.
        self.nudge.notify_one();
        Some(std::mem::replace(&mut in_force, keys))
    }

    /// Pushes everything to the node with the cluster address `target`, one way.
    pub(crate) fn push_to(&self, now: Duration, target: SocketAddr) {
        self.lock().push_to(now, target);
        self.nudge.notify_one();
    }

    /// Goes on with passes over our own cells for one piece, until there are as many: see
    /// [`Cluster::publish_until`]. Other nodes are told then.
    pub(crate) fn publish_until(&self, clock: &dyn Fn() -> Duration, passes: &[u64]) -> bool {
        let mut cluster = self.lock();
        // The clock is read under the lock, as the task does.
        let is_done = cluster.publish_until(clock(), passes);
        drop(cluster);
        if is_done {
            self.nudge.notify_one();
        }
        is_done
    }

    /// Whether datagrams are sealed with a key that only members have.
    pub(super) fn is_sealed(&self) -> bool {
        self.is_sealed
    }

    /// The gauges of the queues, one for each.
    pub(super) fn gauges(&self) -> &[QueueGauge] {
        &self.gauges
    }

    /// The address that other nodes are told; `None` while it is not known.
    pub(super) fn advertised(&self) -> Option<SocketAddr> {
        let me = *self.lock().me();
        me.is_plausible().then_some(me.address)
    }

    /// Waits until something outside of the task has changed the cluster. It returns at once if that happened since
    /// the last wait.
    pub(super) async fn nudged(&self) {
        self.nudge.notified().await;
    }
}
