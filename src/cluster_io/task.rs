//! The task of the control thread that runs the cluster's sockets.
//!
//! In one turn the task takes datagrams that have come, up to a limit, lets the cluster do what is due, and sends
//! what may go. Then HTTP and the rest of the thread have their turns.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;
use tracing::info;

use super::addresses::{canonical, mapped};
use super::log::log;
use super::queues::Queues;
use super::seeds::{Lack, Seeds};
use super::{ClusterError, ClusterSockets, SharedCluster, advertise};
use crate::shared::Shared;
use rmbd_cluster::membership::MembershipEvent;
use rmbd_cluster::{Cluster, ClusterEvent, LEAVE_LIMIT};

/// Largest number of datagrams sent in one turn: about a fifth of a millisecond's work.
const DATAGRAMS_A_TURN: usize = 256;
/// Cells that are copied for snapshots in one turn: a fraction of a millisecond's work.
const SNAPSHOT_CELLS_A_TURN: usize = 1 << 18;
/// Bytes of the receive buffer: longer than any datagram of ours, so that one that is too long is noticed.
const BUFFER_BYTES: usize = 2048;
/// Time between two announcements while the node is alone. When members are flooded, few datagrams of a newcomer come
/// through.
const ANNOUNCE_AGAIN: Duration = Duration::from_millis(250);
/// The longest time that a full send buffer may delay the turns; it empties in less.
const BLOCKED_WAIT: Duration = Duration::from_millis(5);
/// Time beyond the cluster's own limit for leaving, in case its clock stood still.
const LEAVE_GRACE: Duration = Duration::from_secs(1);

/// The task of the cluster.
pub(crate) struct ClusterTask {
    shared: Arc<Shared>,
    cluster: Arc<SharedCluster>,
    queues: Queues,
    is_v6: bool,
    /// Whether there is no address yet that could be told to others; then nothing is sent or heard.
    is_hidden: bool,
    seeds: Seeds,
    /// The addresses of the last announcement, and the time of the next one if the node is still alone.
    announced: (Vec<SocketAddr>, Duration),
    received: Box<[u8]>,
    datagram: Vec<u8>,
    /// The receiver of `datagram`, if it was not sent because the send buffer was full.
    unsent: Option<SocketAddr>,
}

/// The outcome of a turn.
struct TurnEnd {
    /// The latest time for the next turn.
    next: Duration,
    /// Whether the socket must take more first.
    is_blocked: bool,
    /// Whether the kernel has more that may be read.
    has_more: bool,
    is_flushed: bool,
}

impl ClusterTask {
    /// A task for `cluster`, which was made with the same `sockets`.
    ///
    /// # Errors
    /// The runtime's error about a socket.
    pub(crate) fn new(
        shared: Arc<Shared>,
        cluster: Arc<SharedCluster>,
        sockets: ClusterSockets,
        seeds: Seeds,
    ) -> io::Result<Self> {
        Ok(Self {
            is_hidden: cluster.advertised().is_none(),
            shared,
            cluster,
            is_v6: sockets.bound.is_ipv6(),
            queues: Queues::new(sockets.sockets)?,
            seeds,
            announced: (Vec::new(), Duration::ZERO),
            received: vec![0; BUFFER_BYTES].into_boxed_slice(),
            datagram: Vec::with_capacity(BUFFER_BYTES),
            unsent: None,
        })
    }

    /// Runs until it is told to end, and then says good-bye. The last counts reach all live members first, if they
    /// take them within [`LEAVE_LIMIT`].
    pub(crate) async fn run(mut self, leave: impl Future<Output = ()>) {
        let (shared, cluster) = (Arc::clone(&self.shared), Arc::clone(&self.cluster));
        let mut leave = pin!(leave);
        let mut left_at = None;
        loop {
            let turn = self.turn(&cluster);
            let now = shared.now();
            if let Some(left_at) = left_at
                && (turn.is_flushed || now > left_at + LEAVE_LIMIT + LEAVE_GRACE)
            {
                return;
            }
            if turn.has_more || (turn.next <= now && !turn.is_blocked) {
                // Other tasks on this thread have their turn.
                tokio::task::yield_now().await;
                continue;
            }
            let wait = turn.next.saturating_sub(now);
            let wait = if turn.is_blocked {
                wait.max(BLOCKED_WAIT)
            } else {
                wait
            };
            tokio::select! {
                () = &mut leave, if left_at.is_none() => {
                    left_at = Some(now);
                    cluster.lock().leave(now);
                }
                () = self.queues.readable(now), if !self.is_hidden => {}
                () = self.queues.writable(), if turn.is_blocked => {}
                () = cluster.nudged() => {}
                () = shared.control_is_called() => {}
                () = self.seeds.found() => {
                    self.follow_names(&cluster);
                }
                () = sleep(wait) => {}
            }
        }
    }

    fn turn(&mut self, shared_cluster: &SharedCluster) -> TurnEnd {
        let shared = Arc::clone(&self.shared);
        if self.seeds.is_due(shared.now()) {
            let lack = self.follow_names(shared_cluster);
            self.seeds.look_up(shared.now(), lack);
        }
        let mut cluster = shared_cluster.lock();
        let has_more = !self.is_hidden && self.receive(shared_cluster, &mut cluster);
        let now = shared.now();
        if cluster.next_wake(now) <= now {
            cluster.wake(now);
        }
        let clock = || shared.now();
        cluster.snapshot(&clock, SNAPSHOT_CELLS_A_TURN);
        let is_blocked = !self.is_hidden && self.send(&mut cluster);
        let now = shared.now();
        while let Some(event) = cluster.poll_event() {
            if is_departure(&event) {
                self.seeds.hurry(now);
            }
            log(&event);
        }
        let steered_at = self.queues.steer(now, &cluster);
        let announced_at = self.announce_if_due(now, &mut cluster);
        let next = cluster.next_wake(now);
        TurnEnd {
            next: [
                self.seeds.next(),
                announced_at,
                steered_at,
                cluster.next_snapshot(),
            ]
            .into_iter()
            .flatten()
            .fold(next, Duration::min),
            is_blocked,
            has_more,
            is_flushed: cluster.is_flushed(),
        }
    }

    /// Takes datagrams that have come. Returns whether more may be there that may be read now.
    fn receive(&mut self, shared_cluster: &SharedCluster, cluster: &mut Cluster) -> bool {
        let shared = Arc::clone(&self.shared);
        let take = |now, from, datagram: &mut [u8]| {
            let taken = cluster.datagrams_taken();
            cluster.handle(now, canonical(from), datagram);
            cluster.datagrams_taken() > taken
        };
        self.queues.receive(
            shared_cluster.gauges(),
            &mut self.received,
            || shared.now(),
            take,
        )
    }

    /// Sends what may go. Returns whether the kernel takes no more for now.
    fn send(&mut self, cluster: &mut Cluster) -> bool {
        let shared = Arc::clone(&self.shared);
        for _ in 0..DATAGRAMS_A_TURN {
            let to = match self.unsent.take() {
                Some(to) => to,
                None => match cluster.transmit(shared.now(), &mut self.datagram) {
                    Some(to) => to,
                    None => return false,
                },
            };
            let address = if self.is_v6 { mapped(to) } else { to };
            // Acks show whether an address cannot be sent to: nothing sent there is confirmed.
            if let Err(error) = self.queues.try_send_to(&self.datagram, address)
                && error.kind() == ErrorKind::WouldBlock
            {
                self.unsent = Some(to);
                return true;
            }
        }
        false
    }

    /// Follows the names: tells others our address, and joins nodes that are not met. Returns what is lacking.
    fn follow_names(&mut self, shared_cluster: &SharedCluster) -> Lack {
        let now = self.shared.now();
        let addresses = self.seeds.addresses();
        let (told, bound) = (shared_cluster.advertised(), shared_cluster.bound());
        let mut cluster = shared_cluster.lock();
        match self.address_to_tell(told, bound, &addresses) {
            Ok(Some(address)) if told != Some(address) => {
                info!(%address, "other nodes are told this address now");
                cluster.move_to(now, address);
                self.is_hidden = false;
            }
            Ok(_) => {}
            Err(error) => self.seeds.complain(&error),
        }
        let is_missing = |&address: &SocketAddr| address != bound && !cluster.is_met(address);
        let missing: Vec<_> = addresses.into_iter().filter(is_missing).collect();
        let lack = self.seeds.lack(missing.len(), cluster.is_alone());
        if !self.is_hidden {
            for &seed in &missing {
                cluster.join(now, seed);
            }
            self.announced = (missing, now + ANNOUNCE_AGAIN);
        }
        lack
    }

    /// Announces the node to all addresses of the names, again and again while it is alone. Returns the time of the
    /// next announcement.
    fn announce_if_due(&mut self, now: Duration, cluster: &mut Cluster) -> Option<Duration> {
        let (seeds, at) = &mut self.announced;
        if seeds.is_empty() || !cluster.is_alone() {
            return None;
        }
        if now >= *at {
            *at = now + ANNOUNCE_AGAIN;
            for &seed in seeds.iter() {
                cluster.join(now, seed);
            }
        }
        Some(*at)
    }

    fn address_to_tell(
        &self,
        told: Option<SocketAddr>,
        bound: SocketAddr,
        seeds: &[SocketAddr],
    ) -> Result<Option<SocketAddr>, ClusterError> {
        match self.seeds.advertised() {
            [] if self.is_hidden && !self.seeds.has_advertise() => {
                Ok(advertise::towards(seeds, bound))
            }
            [] => Ok(None),
            addresses => advertise::of_name(addresses, told, bound).map(Some),
        }
    }
}

/// Whether names may lead to other nodes after this event.
fn is_departure(event: &ClusterEvent) -> bool {
    matches!(event, ClusterEvent::Member(MembershipEvent::Down(_)))
}
