//! A node's place in its cluster, as its threads share it. Only the control thread and whoever asks for a status touch
//! it.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::ClusterSockets;
use super::queues::QueueGauge;
use rmbd_cluster::Cluster;

/// Whether a node takes part in a cluster.
#[derive(Debug)]
pub(crate) enum Participation {
    /// Why it does not.
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

/// The state machine, and what others than its task may know and do.
#[derive(Debug)]
pub(crate) struct SharedCluster {
    cluster: Mutex<Cluster>,
    /// Something was changed from outside of the task.
    nudge: Notify,
    bound: SocketAddr,
    is_sealed: bool,
    gauges: Vec<QueueGauge>,
}

impl SharedCluster {
    /// # Errors
    /// The system gives no second descriptor of a socket.
    pub(crate) fn new(cluster: Cluster, sockets: &ClusterSockets) -> io::Result<Self> {
        Ok(Self {
            cluster: Mutex::new(cluster),
            nudge: Notify::new(),
            bound: sockets.bound,
            is_sealed: !sockets.keys.is_public(),
            gauges: QueueGauge::all(&sockets.sockets)?,
        })
    }

    /// A panic while it was held ends the control thread and with it the node, so poison is ignored.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Cluster> {
        self.cluster.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The real address where other nodes are heard.
    pub(crate) fn bound(&self) -> SocketAddr {
        self.bound
    }

    /// Pushes everything to the node whose cluster address is `target`, one way.
    pub(crate) fn push_to(&self, now: Duration, target: SocketAddr) {
        self.lock().push_to(now, target);
        self.nudge.notify_one();
    }

    /// Whether datagrams are sealed with a key that only members have.
    pub(super) fn is_sealed(&self) -> bool {
        self.is_sealed
    }

    /// One for each queue of the port.
    pub(super) fn gauges(&self) -> &[QueueGauge] {
        &self.gauges
    }

    /// What others are told; `None` while that is not known yet.
    pub(super) fn advertised(&self) -> Option<SocketAddr> {
        let me = *self.lock().me();
        me.is_plausible().then_some(me.address)
    }

    /// Waits until something was changed from outside of the task, or was since the last wait.
    pub(super) async fn nudged(&self) {
        self.nudge.notified().await;
    }
}
