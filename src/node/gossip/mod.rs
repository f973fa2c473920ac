//! The cluster's socket: datagrams in, datagrams out, time. What they mean is
//! [`cluster`](crate::cluster)'s.
//!
//! One task of the control thread. A turn of it takes what has come, up to a bound, lets the cluster do
//! what is due, and sends what may go; then HTTP and the rest of the thread have theirs.

mod advertise;
mod flood;
mod identity;
mod queues;
mod seeds;
mod start;
mod state;
mod steering;

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, UdpSocket as StdUdpSocket};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::sleep;
use tracing::{info, warn};

pub(super) use self::identity::Identity;
pub use self::identity::IdentityError;
use self::queues::{Gauge, Queues};
use self::seeds::Lack;
pub(super) use self::seeds::Seeds;
pub use self::start::ClusterError;
pub(super) use self::start::{Cluster as Start, Link, start};
pub(super) use self::state::hex;
use super::control::addresses::{canonical, mapped};
use super::crew::Leave;
use super::shared::Shared;
use crate::cluster::membership::MembershipEvent;
use crate::cluster::{Cluster, ClusterEvent, LEAVE_LIMIT};
use crate::replica::SliceRefused;
use crate::wire::cluster::SliceId;

/// Datagrams sent in one turn: about a fifth of a millisecond's work.
const DATAGRAMS_A_TURN: usize = 256;
/// Longer than any datagram of ours, so that one that is too long is seen to be.
const BUFFER_BYTES: usize = 2048;
/// Time from one announcement to the next, while alone: where members are flooded, few of a newcomer's come through.
const ANNOUNCE_AGAIN: Duration = Duration::from_millis(250);
/// How long a full send buffer may keep the turns waiting: it empties in less.
const BLOCKED_WAIT: Duration = Duration::from_millis(5);
/// Beyond the cluster's own limit for leaving, in case its clock stood still.
const LEAVE_GRACE: Duration = Duration::from_secs(1);

/// A node's place in its cluster, as its threads share it. Only the control thread and whoever asks for
/// a status touch it.
#[derive(Debug)]
pub(super) enum Presence {
    /// Why there is none.
    Off(String),
    On(Box<Side>),
}

#[derive(Debug)]
pub(super) struct Side {
    cluster: Mutex<Cluster>,
    /// Something was changed from outside of the task.
    nudge: Notify,
    pub(super) bound: SocketAddr,
    pub(super) is_sealed: bool,
    queues: Vec<Gauge>,
}

impl Side {
    pub(super) fn new(cluster: Cluster, link: &Link) -> io::Result<Self> {
        Ok(Self {
            cluster: Mutex::new(cluster),
            nudge: Notify::new(),
            bound: link.bound,
            is_sealed: !link.keys.is_public(),
            queues: Gauge::all(&link.sockets)?,
        })
    }

    /// A panic while it was held ends the control thread and with it the node, so poison is ignored.
    pub(super) fn cluster(&self) -> MutexGuard<'_, Cluster> {
        self.cluster.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What others are told; `None` while that is not known yet.
    fn advertised(&self) -> Option<SocketAddr> {
        let me = *self.cluster().me();
        me.is_plausible().then_some(me.address)
    }

    /// Pushes everything to the node whose cluster address is `target`, one way.
    pub(super) fn push_to(&self, now: Duration, target: SocketAddr) {
        self.cluster().push_to(now, target);
        self.nudge.notify_one();
    }
}

impl Presence {
    pub(super) fn side(&self) -> Option<&Side> {
        match self {
            Self::Off(_) => None,
            Self::On(side) => Some(side),
        }
    }
}

/// The task.
pub(super) struct Gossip {
    shared: Arc<Shared>,
    queues: Queues,
    is_v6: bool,
    /// No address can be told to others yet: nothing is sent or heard.
    is_hidden: bool,
    seeds: Seeds,
    /// Where this node announced itself last, and when it does so again if it is alone still.
    announced: (Vec<SocketAddr>, Duration),
    received: Box<[u8]>,
    datagram: Vec<u8>,
    /// What is in `datagram` has not gone yet, because the send buffer was full.
    unsent: Option<SocketAddr>,
}

/// What a turn leaves.
struct Turn {
    /// When the next one is due, at the latest.
    next: Duration,
    /// Not before the socket takes more.
    is_blocked: bool,
    /// The kernel has more, and it may be read.
    has_more: bool,
    is_flushed: bool,
}

impl Gossip {
    /// `sockets` are those that `shared` has a [`Side`] of.
    pub(super) fn new(
        shared: Arc<Shared>,
        sockets: Vec<StdUdpSocket>,
        seeds: Seeds,
    ) -> io::Result<Self> {
        let bound = match sockets.first() {
            Some(socket) => socket.local_addr()?,
            None => return Err(io::Error::other("the cluster has no socket")),
        };
        let side = shared.presence().side();
        Ok(Self {
            is_hidden: side.is_some_and(|side| side.advertised().is_none()),
            shared,
            queues: Queues::new(sockets)?,
            is_v6: bound.is_ipv6(),
            seeds,
            announced: (Vec::new(), Duration::ZERO),
            received: vec![0; BUFFER_BYTES].into_boxed_slice(),
            datagram: Vec::with_capacity(BUFFER_BYTES),
            unsent: None,
        })
    }

    /// Runs until it is told to end, then says good-bye: what was counted last reaches
    /// all live members first, if they take it within [`LEAVE_LIMIT`].
    pub(super) async fn run(mut self, mut leave: Leave) {
        let shared = Arc::clone(&self.shared);
        let Some(side) = shared.presence().side() else {
            return;
        };
        let mut left_at = None;
        loop {
            let turn = self.turn(side);
            let now = shared.now();
            if let Some(left_at) = left_at
                && (turn.is_flushed || now > left_at + LEAVE_LIMIT + LEAVE_GRACE)
            {
                return;
            }
            if turn.has_more || (turn.next <= now && !turn.is_blocked) {
                // Others on this thread have their turn.
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
                () = leave.asked(), if left_at.is_none() => {
                    left_at = Some(now);
                    side.cluster().leave(now);
                }
                () = self.queues.readable(now), if !self.is_hidden => {}
                () = self.queues.writable(), if turn.is_blocked => {}
                () = side.nudge.notified() => {}
                () = shared.pass_is_due() => {}
                () = self.seeds.found() => {
                    self.follow_names(side);
                }
                () = sleep(wait) => {}
            }
        }
    }

    fn turn(&mut self, side: &Side) -> Turn {
        let shared = Arc::clone(&self.shared);
        if self.seeds.is_due(shared.now()) {
            let lack = self.follow_names(side);
            self.seeds.look_up(shared.now(), lack);
        }
        let mut cluster = side.cluster();
        let has_more = !self.is_hidden && self.receive(side, &mut cluster);
        let now = shared.now();
        if cluster.next_wake(now) <= now {
            cluster.wake(now);
        }
        let is_blocked = !self.is_hidden && self.send(&mut cluster);
        let now = shared.now();
        while let Some(event) = cluster.poll_event() {
            if is_departure(&event) {
                self.seeds.hurry(now);
            }
            log(&event, shared.fingerprint());
        }
        let steered_at = self.queues.steer(now, &cluster);
        let announced_at = self.announce_if_due(now, &mut cluster);
        let next = cluster.next_wake(now);
        Turn {
            next: [self.seeds.next(), announced_at, steered_at]
                .into_iter()
                .flatten()
                .fold(next, Duration::min),
            is_blocked,
            has_more,
            is_flushed: cluster.is_flushed(),
        }
    }

    /// Takes what has come; whether there may be more that may be read now.
    fn receive(&mut self, side: &Side, cluster: &mut Cluster) -> bool {
        let shared = Arc::clone(&self.shared);
        let take = |now, from, datagram: &mut [u8]| {
            let taken = cluster.datagrams_taken();
            cluster.handle(now, canonical(from), datagram);
            cluster.datagrams_taken() > taken
        };
        self.queues
            .receive(&side.queues, &mut self.received, || shared.now(), take)
    }

    /// Sends what may go; whether the kernel takes no more for now.
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
            // An address that cannot be sent to is the acks' concern: nothing of it is confirmed.
            if let Err(error) = self.queues.try_send_to(&self.datagram, address)
                && error.kind() == ErrorKind::WouldBlock
            {
                self.unsent = Some(to);
                return true;
            }
        }
        false
    }

    /// Does by what the names lead to: tells others our address, and joins whoever is not met. What is lacking.
    fn follow_names(&mut self, side: &Side) -> Lack {
        let now = self.shared.now();
        let addresses = self.seeds.addresses();
        let told = side.advertised();
        let mut cluster = side.cluster();
        match self.address_to_tell(told, side.bound, &addresses) {
            Ok(Some(address)) if told != Some(address) => {
                info!(%address, "other nodes are told this address now");
                cluster.move_to(now, address);
                self.is_hidden = false;
            }
            Ok(_) => {}
            Err(error) => self.seeds.complain(&error),
        }
        let is_missing = |&address: &SocketAddr| address != side.bound && !cluster.is_met(address);
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

    /// While alone: to all whom the names gave, again and again; says when next.
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

/// After which names may lead to somebody else.
fn is_departure(event: &ClusterEvent) -> bool {
    matches!(event, ClusterEvent::Member(MembershipEvent::Down(_)))
}

fn log(event: &ClusterEvent, fingerprint: u64) {
    match event {
        ClusterEvent::Member(event) => log_member(event),
        ClusterEvent::OtherSketch {
            from,
            sketch,
            theirs: Some(theirs),
        } => warn!(
            %from,
            %sketch,
            theirs = hex(*theirs),
            ours = hex(fingerprint),
            "a node with another sketch, or another --seed: nothing is exchanged with it, width, depth, hash and \
             seed must be the same on all nodes (said once)"
        ),
        ClusterEvent::OtherSketch {
            from,
            sketch,
            theirs: None,
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
            state::what_is_missing(*state).unwrap_or_default()
        ),
        ClusterEvent::Synced { after } => {
            info!(
                "everything that the cluster had is here, after {:.1} s",
                after.as_secs_f64()
            );
        }
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

/// A slice for people.
pub(super) fn name(slice: &SliceId) -> String {
    let SliceId {
        sketch,
        node,
        writer,
    } = slice;
    format!("slice of sketch {sketch}, node {node:016x}, writer {writer}")
}
